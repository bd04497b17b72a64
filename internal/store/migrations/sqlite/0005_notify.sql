-- Messages to channels. What is pending is sent; the rest says what became of it.
CREATE TABLE notices (
    id       TEXT    PRIMARY KEY,
    app      TEXT    NOT NULL,
    channel  TEXT    NOT NULL,
    delivery BIGINT  NOT NULL,
    kind     TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    seq      BIGINT  NOT NULL,
    created  BIGINT  NOT NULL, -- milliseconds since 1970
    sent     BIGINT  NOT NULL, -- milliseconds since 1970, 0: not
    document TEXT    NOT NULL
);
CREATE INDEX notices_pending ON notices (seq) WHERE state = 'pending';
CREATE INDEX notices_by_group ON notices (app, channel, delivery, kind);
CREATE INDEX notices_by_age ON notices (created);

-- Up to which event the messages are stored.
CREATE TABLE notice_cursor (
    id  INTEGER PRIMARY KEY,
    seq BIGINT NOT NULL
);

-- How the last messages of a channel went.
CREATE TABLE channel_records (
    app      TEXT NOT NULL,
    channel  TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (app, channel)
);
