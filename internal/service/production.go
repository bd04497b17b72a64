package service

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/belay-cd/belay/internal/supervise"
)

// How long production's answer holds, how long no answer holds, and how long it may take.
const (
	answerHolds   = 24 * time.Hour
	noAnswerHolds = 10 * time.Minute
	askWithin     = 2 * time.Second
)

// answer is what a database said of its version.
type answer struct {
	Major int       `json:"major"` // 0: it did not answer
	At    time.Time `json:"at"`
}

// Production returns the major version of the PostgreSQL that an app uses in production, 0 when it is not known. Urls are
// the addresses that may be its database; of is called only when the last answer is too old.
func (m *Manager) Production(ctx context.Context, app string, of func(context.Context) []string) int {
	path := filepath.Join(Folder(m.cfg.Data, app), "production.json")
	var last answer
	if err := supervise.ReadJSON(path, &last); err == nil {
		holds := noAnswerHolds
		if last.Major > 0 {
			holds = answerHolds
		}
		if age := time.Since(last.At); age >= 0 && age < holds {
			return last.Major
		}
	}
	now := answer{At: time.Now().UTC()}
	for _, url := range of(ctx) {
		if now.Major = askMajor(ctx, url); now.Major > 0 {
			break
		}
	}
	if ctx.Err() != nil {
		return now.Major
	}
	err := os.MkdirAll(filepath.Dir(path), 0o711)
	if err == nil {
		err = supervise.WriteJSON(path, now)
	}
	if err != nil {
		m.cfg.Log.Warn("keep the version of production's database", "app", app, "error", err)
	}
	return now.Major
}

// askMajor asks one database.
func askMajor(ctx context.Context, url string) int {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is open on it
	var number string
	if err := conn.QueryRow(ctx, "show server_version_num", pgx.QueryExecModeSimpleProtocol).Scan(&number); err != nil {
		return 0
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n / 10_000
}
