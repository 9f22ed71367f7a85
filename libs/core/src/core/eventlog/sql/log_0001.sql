-- The tables of one event log. `:"schema"` is the schema, quoted as psql would quote it.

-- One row: where the log ends. Every append locks it first, so appends are ordered by their commits.
CREATE TABLE :"schema".head (
    singleton   boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    position    bigint      NOT NULL CHECK (position >= 0),
    epoch       bigint      NOT NULL CHECK (epoch >= 1),
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 10);  -- room for HOT updates: the row is rewritten by every batch

INSERT INTO :"schema".head (position, epoch, recorded_at) VALUES (0, 1, clock_timestamp());

CREATE TABLE :"schema".events (
    position       bigint      PRIMARY KEY,
    epoch          bigint      NOT NULL,
    event_id       uuid        NOT NULL,
    aggregate_type text        COLLATE "C" NOT NULL,
    aggregate_id   uuid        NOT NULL,
    version        bigint      NOT NULL CHECK (version >= 1),
    type           text        COLLATE "C" NOT NULL,
    schema_version integer     NOT NULL CHECK (schema_version >= 1),
    data           bytea       NOT NULL,
    recorded_at    timestamptz NOT NULL,  -- never decreases with position
    actor          text        NOT NULL,
    request_id     text        NOT NULL,
    causation_id   text        NOT NULL,
    correlation_id text        COLLATE "C" NOT NULL,
    traceparent    text        NOT NULL,
    -- Optimistic concurrency. It also finds an append that is sent again: no index on event_id is needed.
    UNIQUE (aggregate_id, version)
);
CREATE INDEX events_by_aggregate_type ON :"schema".events (aggregate_type, position);
CREATE INDEX events_by_correlation ON :"schema".events (correlation_id, position) WHERE correlation_id <> '';

-- The set invariants. All rows derive from events; core.eventlog.rebuild recomputes them.
CREATE TABLE :"schema".unique_keys (
    scope text COLLATE "C" NOT NULL,
    key   text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE TABLE :"schema".counters (
    scope   text   COLLATE "C" NOT NULL,
    key     text   COLLATE "C" NOT NULL,
    used    bigint NOT NULL CHECK (used >= 0),
    "limit" bigint,  -- NULL: unlimited; may lie below used, then only increments are refused
    PRIMARY KEY (scope, key)
) WITH (fillfactor = 50);

-- The keys that core.sealing encrypts sensitive fields with, each wrapped by the master key.
CREATE TABLE :"schema".sealing_keys (
    aggregate_id uuid        PRIMARY KEY,
    wrapped      bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The last position recorded at or before a moment. Times never decrease with the position and positions have no
-- gaps, so halving finds it without an index on the time.
CREATE FUNCTION :"schema".position_at(moment timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    low bigint := 0;
    high bigint := (SELECT position FROM :"schema".head);
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (SELECT recorded_at FROM :"schema".events WHERE position = middle) <= moment THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$$;
