package cli

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// checkWithin bounds what a check asks the server, which need not be there.
const checkWithin = 3 * time.Second

// unset warns of secrets that the server's store does not have yet. Where no server answers it says so.
func (s *session) unset(ctx context.Context, f *config.File) []config.Finding {
	if f == nil || len(config.StoredNames(f)) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	set := map[domain.SecretPlace]bool{}
	c, err := s.connect()
	if err == nil {
		defer c.Close()
		for _, name := range config.StoredNames(f) {
			versions, asked := c.SecretHistory(ctx, string(f.App), name)
			if asked != nil && domain.CodeOf(asked) != domain.NotFound {
				err = asked
				break
			}
			for _, v := range versions {
				set[v.SecretPlace] = true
			}
		}
	}
	if err != nil {
		s.note("not asked: whether the secrets of the store are set (no server answers)")
		return nil
	}
	return config.NotSet(f, func(p domain.SecretPlace) bool { return set[p] })
}
