-- Documents are JSON; beside them stand only the columns that are queried.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE apps (
    app        TEXT PRIMARY KEY,
    repository TEXT NOT NULL
);

CREATE TABLE deliveries (
    app             TEXT   NOT NULL,
    number          BIGINT NOT NULL,
    id              TEXT   NOT NULL UNIQUE,
    position        BIGINT NOT NULL,
    final           INTEGER NOT NULL,
    idempotency_key TEXT,
    document        TEXT   NOT NULL,
    PRIMARY KEY (app, number)
);
CREATE UNIQUE INDEX deliveries_by_key ON deliveries (app, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX deliveries_active ON deliveries (position) WHERE final = 0;

CREATE TABLE releases (
    id          TEXT PRIMARY KEY,
    app         TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    document    TEXT   NOT NULL
);
CREATE INDEX releases_by_app ON releases (app, environment, position);

CREATE TABLE slots (
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    document    TEXT NOT NULL,
    PRIMARY KEY (app, environment)
);

CREATE TABLE rollouts (
    id          TEXT PRIMARY KEY,
    app         TEXT    NOT NULL,
    environment TEXT    NOT NULL,
    delivery    BIGINT  NOT NULL,
    position    BIGINT  NOT NULL,
    open        INTEGER NOT NULL,
    document    TEXT    NOT NULL
);
-- One rollout at a time replaces a release in an environment.
CREATE UNIQUE INDEX rollouts_one_open ON rollouts (app, environment) WHERE open = 1;
CREATE INDEX rollouts_by_app ON rollouts (app, environment, position);
CREATE INDEX rollouts_by_delivery ON rollouts (app, delivery, position);

CREATE TABLE journal (
    run      TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    position BIGINT NOT NULL,
    record   BLOB   NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE TABLE events (
    seq      BIGINT NOT NULL PRIMARY KEY,
    app      TEXT   NOT NULL,
    delivery BIGINT NOT NULL,
    type     TEXT   NOT NULL,
    document TEXT   NOT NULL
);
CREATE INDEX events_by_delivery ON events (app, delivery, seq);

CREATE TABLE facts (
    position BIGINT NOT NULL PRIMARY KEY,
    app      TEXT   NOT NULL,
    delivery BIGINT NOT NULL,
    document TEXT   NOT NULL
);
CREATE INDEX facts_by_app ON facts (app, delivery, position);

CREATE TABLE holds (
    app      TEXT PRIMARY KEY,
    document TEXT NOT NULL
);

CREATE TABLE freezes (
    app      TEXT PRIMARY KEY, -- '' is the whole server
    document TEXT NOT NULL
);

-- Each observed second of the proxy, also one in which nothing was asked.
CREATE TABLE ticks (
    position INTEGER PRIMARY KEY,
    boot     TEXT   NOT NULL,
    n        BIGINT NOT NULL,
    at       BIGINT NOT NULL, -- milliseconds since 1970
    UNIQUE (boot, n)
);
CREATE INDEX ticks_by_time ON ticks (at);

-- What one role served in it. Reading one app touches its own rows only.
CREATE TABLE tick_series (
    app         TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    role        TEXT   NOT NULL,
    rollout     TEXT   NOT NULL,
    document    TEXT   NOT NULL,
    PRIMARY KEY (app, environment, position, role, rollout)
) WITHOUT ROWID;
CREATE INDEX tick_series_by_position ON tick_series (position);
CREATE INDEX tick_series_by_rollout ON tick_series (rollout, position) WHERE rollout <> '';

-- Rollouts whose ticks are kept for ever.
CREATE TABLE decisive_rollouts (
    rollout TEXT PRIMARY KEY
);

CREATE TABLE artifacts (
    app      TEXT   NOT NULL,
    digest   TEXT   NOT NULL,
    inputs   TEXT   NOT NULL,
    position BIGINT NOT NULL,
    document TEXT   NOT NULL,
    PRIMARY KEY (app, digest)
);
CREATE INDEX artifacts_by_digest ON artifacts (digest, position);
CREATE INDEX artifacts_by_inputs ON artifacts (app, inputs, position);

CREATE TABLE evidence (
    digest   TEXT   NOT NULL,
    app      TEXT   NOT NULL,
    delivery BIGINT NOT NULL,
    position BIGINT NOT NULL,
    envelope BLOB   NOT NULL,
    PRIMARY KEY (digest, app, delivery)
);

CREATE TABLE secret_versions (
    app         TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    fingerprint TEXT   NOT NULL,
    PRIMARY KEY (app, environment, name, version)
);
