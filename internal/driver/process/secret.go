package process

import (
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/supervise"
)

// writeRecord writes what should run, with its secret variables sealed.
func (d *Driver) writeRecord(path string, r record) error {
	if v := d.cfg.Vault; v != nil {
		r.Instance.Workload = v.SealWorkload(r.Instance.App, r.Instance.Environment, r.Instance.Workload)
	}
	return supervise.WriteJSON(path, r)
}

// readRecord reads what writeRecord wrote.
func (d *Driver) readRecord(path string, r *record) error {
	if err := supervise.ReadJSON(path, r); err != nil || d.cfg.Vault == nil || !r.Wanted {
		return err
	}
	w, err := d.cfg.Vault.OpenWorkload(r.Instance.App, r.Instance.Environment, r.Instance.Workload)
	if err != nil {
		return err
	}
	r.Instance.Workload = w
	return nil
}

// apart splits the environment of a command into what may lie on the disk and what is secret.
func apart(env []string, w domain.Workload) (open, secret []string) {
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		if slices.Contains(w.Secrets, name) && w.Env[name] == value {
			secret = append(secret, pair)
		} else {
			open = append(open, pair)
		}
	}
	return open, secret
}

// secretsOf lists the secret variables of a workload. Belay's own stand above all others and are never among them.
func secretsOf(w domain.Workload) []string {
	var secret []string
	for _, name := range w.Secrets {
		if value, ok := w.Env[name]; ok {
			secret = append(secret, name+"="+value)
		}
	}
	return secret
}
