package config

import (
	"path"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// shardVariable is what the variables of a part begin with: BELAY_SHARD, BELAY_SHARDS, BELAY_SHARD_TESTS, BELAY_SHARD_FILE.
const shardVariable = "BELAY_SHARD"

// rulesShards refuses parts that would each run everything, and parts that would write one report.
func (f *File) rulesShards(at string, l *Level) {
	if l.Shards < 2 || f.bad[at+".shards"] || !f.readable(at+".run") {
		return
	}
	takes := strings.Contains(l.Run.Text, shardVariable)
	if !takes && !l.Run.divisible() {
		f.fail("shards-command", at+".shards", "use $BELAY_SHARD_TESTS, or $BELAY_SHARD of $BELAY_SHARDS; a plain go test or pytest needs neither",
			"%d parts, and the command does not say which one it runs", l.Shards)
	}
	if takes && f.readable(at+".report") && !strings.ContainsAny(string(l.Report), "$*?[") {
		ext := path.Ext(string(l.Report))
		f.fail("shards-report", at+".report", strings.TrimSuffix(string(l.Report), ext)+"-$BELAY_SHARD"+ext+", in the command too",
			"%d parts would write one report", l.Shards)
	}
}

// divisible reports a command that Belay divides by itself: a plain go test, or a plain pytest.
func (c Command) divisible() bool {
	if c.file == nil || len(c.file.Stmts) != 1 {
		return false
	}
	st := c.file.Stmts[0]
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || st.Negated || st.Background || len(st.Redirs) > 0 || len(call.Assigns) > 0 {
		return false
	}
	for i, word := range literals(call) {
		word = path.Base(word)
		if i == 1 && word == "test" && path.Base(literals(call)[0]) == "go" || i < 4 && (word == "pytest" || word == "py.test") {
			return true
		}
	}
	return false
}
