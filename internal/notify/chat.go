package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/belay-cd/belay/internal/domain"
)

// titled are the services that show a title of their own, by the name of that field.
var titled = []string{"smtp", "ntfy", "gotify", "pushover", "pushbullet", "bark", "join"}

// services lists the schemes of the receivers that are no webhooks.
func services() []string {
	list := (&router.ServiceRouter{}).ListServices()
	list = slices.DeleteFunc(list, func(name string) bool { return name == "logger" }) // it tells nobody
	slices.Sort(list)
	return list
}

// chat sends one readable sentence and a link. The library takes no context: an attempt that does not come back in time is
// left alone, and the channel gets no second one beside it.
type chat struct {
	mu   sync.Mutex
	open map[string]bool // by app and channel
}

func (c *chat) send(ctx context.Context, u *url.URL, secret domain.Secret, n domain.Notice) (string, error) {
	key := n.App + "/" + n.Channel
	c.mu.Lock()
	if c.open[key] {
		c.mu.Unlock()
		return "", errors.New("the attempt before has not come back yet")
	}
	if c.open == nil {
		c.open = map[string]bool{}
	}
	c.open[key] = true
	c.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		err := say(u, secret, n)
		c.mu.Lock()
		delete(c.open, key)
		c.mu.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return "", err
		}
		return scheme(u) + " took it", nil
	case <-ctx.Done():
		return "", fmt.Errorf("no answer within %s", timeout)
	}
}

// say hands the message to the service. A defect in the library must not end the server.
func say(u *url.URL, secret domain.Secret, n domain.Notice) (err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("%s: a defect in its library: %v", scheme(u), why)
		}
	}()
	s, err := service(u, secret)
	if err != nil {
		return err
	}
	title, text := words(n)
	params := types.Params{}
	if slices.Contains(titled, scheme(u)) {
		params.SetTitle(title)
	} else {
		text = title + " " + text
	}
	if n.URL != "" {
		text += " " + n.URL
	}
	return s.Send(text, &params)
}

// service sets the library up for one URL.
func service(u *url.URL, secret domain.Secret) (types.Service, error) {
	s, err := (&router.ServiceRouter{}).Locate(strings.TrimSpace(secret.Reveal()))
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "the URL of the channel is not one of %s: %s", scheme(u), masked(err.Error(), secret)).
			WithHint("docs/notifications.md shows the form of each kind")
	}
	s.SetLogger(log.New(io.Discard, "", 0)) // its log may hold the URL
	return s, nil
}

// words are what people read: what it is about, and what happened.
func words(n domain.Notice) (title, text string) {
	title = n.App
	if n.Delivery != 0 {
		title = fmt.Sprintf("%s #%d", n.App, n.Delivery)
	}
	return title, n.Sentence
}
