package suite

import "context"

// Services gives the tests of a level the servers that they need: PostgreSQL with a fresh, migrated database, Redis.
type Services interface {
	// Versions names what Provide would use, without starting anything: the version of each service ("postgres 15.18"),
	// the content of the migrations and the settings ("postgres template 5f0c…"). It is a part of the key under which a
	// level's result is remembered. An error is red for the level: what it needs is not here, and the hint says where to
	// get it. A level without services needs nothing.
	Versions(ctx context.Context, level Level) ([]string, error)
	// Provide starts what is missing and gives one part of a level (0 is the first) a database and servers of its own.
	// Env (KEY=value) is for the level's command and for the roles that are started beside it; versions are for people:
	// "postgres 15.18". Release takes everything away again. It is called exactly once when err is nil, with a context
	// that outlives a cancelled delivery; it is never nil then. When err is not nil nothing is left.
	Provide(ctx context.Context, level Level, part int) (env, versions []string, release func(context.Context) error, err error)
}
