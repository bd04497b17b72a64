-- What became of each tick of a scheduled job. The primary key is what makes a tick run once.
CREATE TABLE job_runs (
    app         TEXT    NOT NULL,
    environment TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    tick        BIGINT  NOT NULL, -- seconds since 1970
    open        INTEGER NOT NULL,
    document    TEXT    NOT NULL,
    PRIMARY KEY (app, environment, role, tick)
);
CREATE INDEX job_runs_open ON job_runs (tick) WHERE open = 1;

-- Up to which moment the ticks of a job are accounted for, and by which schedule.
CREATE TABLE job_marks (
    app         TEXT   NOT NULL,
    environment TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    schedule    TEXT   NOT NULL,
    at          BIGINT NOT NULL, -- seconds since 1970
    PRIMARY KEY (app, environment, role)
);
