package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/build"
	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/secrets"
)

// secretCommands runs the commands that print secrets. A commit names them, so they are repository code: each app's run as a
// system user of their own, behind the same walls as a build, with no variable of the daemon but those that an administrator
// handed over for this app.
type secretCommands struct {
	box      *sandbox.Sandbox
	accounts sandbox.Accounts
	data     string
}

// secretPurpose names the system user of these commands.
const secretPurpose = "secrets"

func (c *secretCommands) run(ctx context.Context, app string, env domain.Environment, text string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, config.SecretCommandTimeout, &command.TimeoutError{After: config.SecretCommandTimeout})
	defer cancel()
	spec, err := c.spec(ctx, app, env, text)
	if err != nil {
		return "", err
	}
	cmd, err := c.box.Command(ctx, spec)
	if err != nil {
		return "", err
	}
	out := &capped{most: secrets.MaxValue + 1}
	if err := wait(ctx, cmd, out, nil); err != nil {
		// What it said on stderr may hold half of the value: nobody sees it.
		return "", fmt.Errorf("its command failed: %w (what it prints as an error is not kept: try it on the server)", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(out.text.String(), "\n"), "\r"), nil
}

func (c *secretCommands) spec(ctx context.Context, app string, env domain.Environment, text string) (sandbox.Spec, error) {
	account, err := c.accounts.Of(ctx, app, secretPurpose)
	if err != nil {
		return sandbox.Spec{}, err
	}
	home := secretHome(c.data, app)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return sandbox.Spec{}, err
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(home, account.UID, account.GID); err != nil {
			return sandbox.Spec{}, err
		}
	}
	path := os.Getenv("PATH")
	hide, binds := sandbox.Walls(c.data, os.Getenv("HOME"), path)
	all := map[string]string{"PATH": path, "HOME": home, "LANG": "C.UTF-8", "TMPDIR": "/tmp"}
	if account.Name != "" {
		all["USER"], all["LOGNAME"] = account.Name, account.Name
	}
	maps.Copy(all, handed(app))
	all["BELAY_ENV"], all["BELAY_APP"] = string(env), app
	spec := sandbox.Spec{
		Dir: home, UID: account.UID, GID: account.GID, Hide: hide, Bind: append(binds, sandbox.Bind{From: home, To: home}),
		PrivateTmp: true, OwnPIDs: true, OOMScoreAdj: sandbox.WorkshopOOM, Memory: sandbox.WorkshopMemory(),
		Rlimits: []sandbox.Rlimit{{Resource: unix.RLIMIT_CORE}},
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		spec.Env = append(spec.Env, name+"="+all[name])
	}
	spec.Argv, err = command.Argv(text, spec.Env)
	return spec, err
}

// capped keeps the beginning of what is written to it, and ends a writer that goes on.
type capped struct {
	text bytes.Buffer // not embedded: its ReadFrom knows no bound
	most int
}

var errTooMuch = errors.New("it prints more than a secret can have")

// Write keeps p while there is room.
func (c *capped) Write(p []byte) (int, error) {
	if c.text.Len()+len(p) > c.most {
		return 0, errTooMuch
	}
	return c.text.Write(p)
}

// confide gives build.run its secrets, and lets nothing be packed that holds one of the app.
func (b *builder) confide(ctx context.Context, j delivery.Job, r *build.Request) error {
	env, own, err := b.secrets.build(ctx, j.Delivery.App, j.File)
	if err != nil {
		return err
	}
	r.Secret = env
	find := secrets.NewMasker(append(secrets.Telling(b.secrets.known(j.Delivery.App)), own...)...)
	r.Finder = func() build.Finder { return find.Finder() }
	mask := b.secrets.masks.of(j.Delivery.App)
	r.Mask = func(w io.Writer) io.WriteCloser { return mask.Writer(w) }
	return nil
}
