package scaffold

import (
	"os"
	"path/filepath"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// right checks the text of a belay.yaml as `belay check` does and returns its first error, with the number of all.
func right(target string, text []byte) error {
	dir := os.DirFS(filepath.Dir(target))
	file, findings := config.Parse(config.FileName, text, config.Options{Dir: dir})
	if file != nil {
		findings = append(findings, config.Check(file, dir)...)
	}
	var first *config.Finding
	n := 0
	for i := range findings {
		if findings[i].Severity == config.Error {
			if first == nil {
				first = &findings[i]
			}
			n++
		}
	}
	if first == nil {
		return nil
	}
	return domain.Errorf(domain.Invalid, "%s, the first at %d:%d: %s", plural(n, "error"), first.Line, first.Column, first.Message)
}
