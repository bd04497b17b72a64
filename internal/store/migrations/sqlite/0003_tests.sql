-- Runs of the levels of tests: what they depended on, and how they ended.
CREATE TABLE test_runs (
    position BIGINT  NOT NULL PRIMARY KEY,
    app      TEXT    NOT NULL,
    level    TEXT    NOT NULL,
    inputs   TEXT    NOT NULL,
    usable   INTEGER NOT NULL, -- green, and all that it depends on is in inputs
    at       BIGINT  NOT NULL, -- seconds since 1970
    document BLOB    NOT NULL  -- JSON, gzipped
);
CREATE INDEX test_runs_by_inputs ON test_runs (app, level, inputs, position);
CREATE INDEX test_runs_by_level ON test_runs (app, level, position);
