package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/config"
)

// The documents quote the product's numbers; this is what they must say.
func TestDocumentsQuoteTheDefaults(t *testing.T) {
	minutes := func(d time.Duration) int { return int(d / time.Minute) }
	for name, sentences := range map[string][]string{
		"README.md": {
			fmt.Sprintf("errors above %.0f %% for %d minutes", 100*config.DefaultGuardErrorRate, minutes(config.DefaultGuardErrorFor)),
			map[bool]string{true: "two instances"}[config.DefaultInstances == 2],
			map[bool]string{true: "p95 above twice the stable release's"}[config.DefaultGuardLatency == 2],
			map[bool]string{true: "an hour of Monitor"}[config.DefaultMonitor == time.Hour],
		},
		"docs/rollback.md": {
			fmt.Sprintf("%d failures in a row", config.DefaultFailedProbes),
			fmt.Sprintf("above %.0f %% for %d minutes", 100*config.DefaultGuardErrorRate, minutes(config.DefaultGuardErrorFor)),
			fmt.Sprintf("stable's for %.0f s, from %d requests on", config.GuardLatencyFor.Seconds(), config.GuardLatencyRequests),
			map[bool]string{true: "two 5xx in a row"}[config.CriticalFailures == 2],
			map[bool]string{true: "until Monitor ends (1 hour)"}[config.DefaultMonitor == time.Hour],
		},
		"docs/first-app.md": {fmt.Sprintf("not healthy within %s", config.DefaultStartWithin)},
	} {
		data, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(string(data)), " ")
		for _, sentence := range sentences {
			if sentence == "" || !strings.Contains(text, sentence) {
				t.Errorf("%s does not say %q: a default has changed, or the document has", name, sentence)
			}
		}
	}
}
