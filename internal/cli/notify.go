package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belay-cd/belay/internal/domain"
)

func notifyCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "notify", Short: "Show who is told about deliveries, and try whether they hear it",
		Long: `notify shows the channels that belay.yaml names under notify, and sends test messages. The URL of a channel is a secret
of the server: belay secret set notify/CHANNEL.

Exit codes
  0 done · 1 the receiver did not take the message · 2 wrong usage, no such app, no URL is set · 3 server not reached`,
		Args: func(*cobra.Command, []string) error {
			return usage("notify: list, or test CHANNEL").WithHint("belay notify --help")
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args has refused
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "Show the channels of the app, and how their last messages went", Args: atMost(0),
			Long: `list shows each channel: what it is told about, whether a URL is set, how the last messages went, and how many wait.

Exit codes
  0 printed · 2 no such app · 3 server not reached`,
			RunE: func(cmd *cobra.Command, _ []string) error { return s.listChannels(cmd.Context()) },
		},
		&cobra.Command{
			Use: "test CHANNEL", Short: "Send a test message now, and print what the receiver answered", Args: name,
			Long: `test sends one message to the channel at once, whatever belay.yaml says about it, and prints the receiver's answer.

Exit codes
  0 the receiver took it · 1 it did not: the line says why · 2 no such app, no URL is set · 3 server not reached`,
			RunE: func(cmd *cobra.Command, args []string) error { return s.testChannel(cmd.Context(), args[0]) },
		},
	)
	return cmd
}

func (s *session) testChannel(ctx context.Context, channel string) error {
	app, c, err := s.connectApp()
	if err != nil {
		return err
	}
	defer c.Close()
	t, err := c.TestChannel(ctx, app, channel)
	if err != nil {
		return err
	}
	if s.json {
		err = s.document(t)
	} else if t.OK {
		err = s.say(fmt.Sprintf("%s took it in %.1f s: %s\n", clean(t.Channel), t.Took, clean(t.Answer)))
	}
	if err == nil && !t.OK {
		if s.json {
			return exit(exitFailed)
		}
		return domain.Errorf(domain.Failed, "channel %s (%s) did not take it: %s", t.Channel, t.Kind, clean(t.Answer))
	}
	return err
}

func (s *session) listChannels(ctx context.Context) error {
	app, c, err := s.connectApp()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.Channels(ctx, app)
	if err != nil {
		return err
	}
	if s.json {
		return s.document(list)
	}
	if len(list) == 0 {
		s.note("nobody is told about %s: notify: { team: [started, done], oncall: [failed, rolled_back, held, waiting] }", app)
		return nil
	}
	var b strings.Builder
	wide := 0
	for _, ch := range list {
		wide = max(wide, size(ch.Channel))
	}
	for _, ch := range list {
		fmt.Fprintf(&b, "%s  %s\n", pad(clean(ch.Channel), wide), channelLine(ch, s.now()))
	}
	return s.say(b.String())
}

// channelLine is what is known of a channel, in one line.
func channelLine(ch domain.ChannelStatus, now time.Time) string {
	words := make([]string, len(ch.Events))
	for i, e := range ch.Events {
		words[i] = string(e)
	}
	about := strings.Join(words, ", ")
	if about == "" {
		about = "not in belay.yaml"
	}
	parts := []string{about}
	switch {
	case !ch.Set:
		parts = append(parts, "no URL: belay secret set notify/"+ch.Channel)
	case ch.Kind == "webhook" && !ch.Signed:
		parts = append(parts, "webhook, not signed")
	default:
		parts = append(parts, ch.Kind)
	}
	switch failing := ch.Failed != nil && (ch.OK == nil || ch.Failed.After(*ch.OK)); {
	case failing:
		parts = append(parts, "failed "+age(now.Sub(*ch.Failed))+" ago: "+ch.Why)
	case ch.OK != nil && ch.Changed:
		parts = append(parts, "another URL since it was last reached")
	case ch.OK != nil:
		parts = append(parts, "reached "+age(now.Sub(*ch.OK))+" ago")
	case ch.Set:
		parts = append(parts, "never tried")
	}
	if ch.Pending > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting to be sent", ch.Pending))
	}
	return clean(strings.Join(parts, " · "))
}
