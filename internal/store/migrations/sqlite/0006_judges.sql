-- What the judge of an open rollout knew when the tick at position was stored. What came after it is in the ticks.
CREATE TABLE judges (
    rollout  TEXT   PRIMARY KEY,
    position BIGINT NOT NULL,
    document BLOB   NOT NULL
);
