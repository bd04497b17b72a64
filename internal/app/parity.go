package app

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/belay-cd/belay/internal/delivery"
)

// lookWithin is how long a database has to answer what parity asks.
const lookWithin = 3 * time.Second

// databases asks what parity compares. Only PostgreSQL is asked.
type databases struct{}

// Look reads the version and the estimated rows, in a transaction that can write nothing.
func (databases) Look(ctx context.Context, url string) (delivery.Database, error) {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return delivery.Database{}, errors.New("only PostgreSQL is asked: its URL begins with postgres://")
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	found, err := lookInto(ctx, url)
	if err != nil {
		return found, errors.New(withoutURL(err))
	}
	return found, nil
}

func lookInto(ctx context.Context, url string) (found delivery.Database, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return found, errUnreadable
	}
	config.ConnectTimeout = lookWithin
	config.RuntimeParams["default_transaction_read_only"] = "on"
	config.RuntimeParams["application_name"] = "belay parity"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return found, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&found.Version)
	if err != nil {
		return found, err
	}
	// What the planner believes, or what was counted since where a table was never analysed.
	err = conn.QueryRow(ctx, `SELECT coalesce(sum(greatest(c.reltuples::bigint, s.n_live_tup, 0)), 0)::bigint
		FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid`).Scan(&found.Rows)
	return found, err
}

var errUnreadable = errors.New("its URL cannot be read")

// withoutURL tells why a database did not answer. The messages of the driver name the user and the host, which are part of a
// secret: none of them is passed on.
func withoutURL(err error) string {
	var refused *pgconn.PgError
	var dns *net.DNSError
	var number syscall.Errno
	switch {
	case errors.Is(err, errUnreadable):
		return err.Error()
	case errors.As(err, &refused):
		return "it refused with SQLSTATE " + refused.Code
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + lookWithin.String()
	case errors.As(err, &dns):
		return "its host is not known"
	case errors.As(err, &number):
		return number.Error()
	default:
		return "it could not be asked"
	}
}
