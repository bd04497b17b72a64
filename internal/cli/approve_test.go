package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// On a terminal an approval shows what it is about, and nothing but yes is one.
func TestApproveAsksOnATerminal(t *testing.T) {
	const interrupt = "ctrl-c"
	for _, c := range []struct {
		key  string
		code int
		said string
		want bool
	}{
		{"y\n", 0, "approved: shop-api #142 4f2c81a goes on", true},
		{"\n", 2, "nothing was approved", false},
		{"no\n", 2, "nothing was approved", false},
		{"\x04", 2, "nothing was approved", false},
		{interrupt, 130, "nothing was approved", false},
	} {
		f := start(t, "asks")
		s := onTerminal(t, f, nil, "--app", "shop-api", "approve")
		s.until(t, "approve? [y/N] ")
		for _, want := range []string{
			"shop-api #142 4f2c81a by ana: sha256:8c1d…e07 to production", "waits     1 of 2 approvals", "gates     loosened by this commit: nothing",
			"changes   14 commits, 1 migration (0024_rank.sql), 0 variables, 1 secret version (PSP_API_KEY", "search: rank by sales", "checklist 1 of 2, but: channel oncall: none",
			"staging   6 of 6 checks · rollback rehearsed: 38 ms", "rollback  rehearsed: 38 ms · 0 of 512 requests failed",
		} {
			if said := ansi.Strip(s.text()); !strings.Contains(said, want) {
				t.Errorf("it does not say %q:\n%s", want, said)
			}
		}
		var err error
		if c.key == interrupt { // the test's terminal is nobody's controlling one: no key becomes a signal
			err = s.cmd.Process.Signal(os.Interrupt)
		} else {
			_, err = s.keyboard.WriteString(c.key)
		}
		if err != nil {
			t.Fatal(err)
		}
		if code := s.code(); code != c.code || !strings.Contains(s.text(), c.said) {
			t.Errorf("%q: exit code %d\n%s", c.key, code, ansi.Strip(s.text()))
		}
		f.mu.Lock()
		if asked := strings.Contains(strings.Join(f.said, "\n"), "approve 142"); asked != c.want {
			t.Errorf("%q: the server was asked: %t", c.key, asked)
		}
		f.mu.Unlock()
	}
}
