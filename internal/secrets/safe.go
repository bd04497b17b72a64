package secrets

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Stored is one version of a secret as it is kept: encrypted.
type Stored struct {
	domain.SecretPlace
	Version    int
	Sealed     []byte
	Recipients string
}

// Shelf keeps encrypted values. Every write is durable when it returns.
type Shelf interface {
	// Add stores a new version under the place's next number, for which seal encrypts the value, together with the rotation
	// where there is one. What was current before retires.
	Add(ctx context.Context, v domain.SecretVersion, recipients string, r *domain.Rotation,
		seal func(domain.SecretVersion) ([]byte, error)) (domain.SecretVersion, error)
	// Of lists the values of one place that are not wiped, oldest first.
	Of(ctx context.Context, p domain.SecretPlace) ([]Stored, error)
	// Stale lists the values that are encrypted for other recipients.
	Stale(ctx context.Context, recipients string) ([]Stored, error)
	// Replace stores the same value, encrypted anew.
	Replace(ctx context.Context, s Stored) error
}

// Safe is Belay's own store of secrets.
type Safe struct {
	Keys  *Keyring
	Shelf Shelf
}

// Set stores a value as the next version of its place, with the rotation that it begins. A value that is the current one
// already is not stored again: the current version comes back, and unchanged is true.
func (s *Safe) Set(ctx context.Context, v domain.SecretVersion, value domain.Secret, r *domain.Rotation) (stored domain.SecretVersion, unchanged bool, err error) {
	if err := v.Valid(); err != nil {
		return v, false, err
	}
	if err := usable(value.Reveal()); err != nil {
		return v, false, domain.Errorf(domain.Invalid, "secret %s not stored: %w", v.SecretPlace, err)
	}
	now, version, err := s.Current(ctx, v.SecretPlace)
	switch {
	case err == nil && subtle.ConstantTimeCompare([]byte(now.Reveal()), []byte(value.Reveal())) == 1:
		v.Version, v.State = version, domain.CurrentSecret
		return v, true, nil
	case err != nil && domain.CodeOf(err) == domain.NotFound: // the first one
	case err != nil && domain.CodeOf(err) != domain.Failed && domain.CodeOf(err) != domain.Refused:
		return v, false, err
	}
	if v.Set.IsZero() {
		v.Set = time.Now().UTC()
	}
	stored, err = s.Shelf.Add(ctx, v, s.Keys.Recipients(), r, func(v domain.SecretVersion) ([]byte, error) {
		return s.Keys.Encrypt(v.SecretPlace, v.Version, value)
	})
	return stored, false, err
}

// Current returns the newest value of a place and its number; NotFound when it was never set.
func (s *Safe) Current(ctx context.Context, p domain.SecretPlace) (domain.Secret, int, error) {
	list, err := s.Shelf.Of(ctx, p)
	if err != nil {
		return domain.Secret{}, 0, err
	}
	if len(list) == 0 {
		return domain.Secret{}, 0, domain.Errorf(domain.NotFound, "secret %s is not set", p).WithHint("%s", p.SetCommand())
	}
	newest := list[len(list)-1]
	value, err := s.Keys.Decrypt(p, newest.Version, newest.Sealed)
	return value, newest.Version, err
}

// Channel returns the address of a notification channel: the app's own where there is one, else the server's.
func (s *Safe) Channel(ctx context.Context, app, channel string) (domain.Secret, error) {
	if app != "" {
		value, _, err := s.Current(ctx, domain.ChannelPlace(app, channel))
		if err == nil || domain.CodeOf(err) != domain.NotFound {
			return value, err
		}
	}
	value, _, err := s.Current(ctx, domain.ChannelPlace("", channel))
	return value, err
}

// All returns every value of some places that is still kept, current or not: what no text may show.
func (s *Safe) All(ctx context.Context, places []domain.SecretPlace) ([]domain.Secret, error) {
	var values []domain.Secret
	for _, p := range places {
		list, err := s.Shelf.Of(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, one := range list {
			value, err := s.Keys.Decrypt(p, one.Version, one.Sealed)
			if err != nil {
				continue // what does not open cannot be shown either
			}
			values = append(values, value)
		}
	}
	return values, nil
}

// Reseal encrypts for the present recipients what was encrypted for others, and returns how many values that were. A value
// that does not open stays as it is, and is named in the error.
func (s *Safe) Reseal(ctx context.Context) (int, error) {
	stale, err := s.Shelf.Stale(ctx, s.Keys.Recipients())
	if err != nil {
		return 0, err
	}
	done := 0
	var failed []string
	for _, one := range stale {
		value, err := s.Keys.Decrypt(one.SecretPlace, one.Version, one.Sealed)
		if err != nil {
			failed = append(failed, one.SecretPlace.String())
			continue
		}
		if one.Sealed, err = s.Keys.Encrypt(one.SecretPlace, one.Version, value); err != nil {
			return done, err
		}
		one.Recipients = s.Keys.Recipients()
		if err := s.Shelf.Replace(ctx, one); err != nil {
			return done, err
		}
		done++
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return done, fmt.Errorf("secrets that do not open: %v", slices.Compact(failed))
	}
	return done, nil
}
