-- Values that were set, encrypted. A wiped value is NULL. App '' is the whole server, environment '' a channel.
CREATE TABLE secrets (
    app         TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    recipients  TEXT   NOT NULL, -- names the set of keys that open it
    sealed      BLOB,
    document    TEXT   NOT NULL,
    PRIMARY KEY (app, environment, name, version)
);

-- Wishes to replace a value in what runs.
CREATE TABLE secret_rotations (
    id       TEXT    PRIMARY KEY,
    app      TEXT    NOT NULL,
    open     INTEGER NOT NULL,
    document TEXT    NOT NULL
);
CREATE INDEX secret_rotations_open ON secret_rotations (app) WHERE open = 1;

-- When a version of another provider was seen first: seconds since 1970, 0 when nobody noted it.
ALTER TABLE secret_versions ADD COLUMN seen BIGINT NOT NULL DEFAULT 0;
