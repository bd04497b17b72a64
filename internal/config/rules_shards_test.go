package config

import (
	"strings"
	"testing"
)

func TestShardsThatAreRight(t *testing.T) {
	for _, level := range []string{
		"run: go test ./..., shards: 4",
		"run: go test -json ./..., shards: 4",
		"run: python3 -m pytest tests --junitxml=r.xml, report: r.xml, shards: 4",
		"run: uv run pytest, shards: 2",
		"run: npx jest --shard=$BELAY_SHARD/$BELAY_SHARDS, shards: 4",
		"run: npx jest $BELAY_SHARD_TESTS, report: 'j-$BELAY_SHARD.xml', shards: 4",
		"run: xargs ./gradlew test < $BELAY_SHARD_FILE, report: 'build/**/*.xml', shards: 4",
		"run: npm test, shards: 1",
	} {
		src := strings.Replace(small, "run: go test ./...", level, 1)
		f, findings := Parse(FileName, []byte(src), Options{})
		if f == nil || Failed(findings, false) {
			t.Errorf("%s:\n%s", level, render(t, findings))
		}
	}
}
