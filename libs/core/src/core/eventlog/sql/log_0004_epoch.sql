-- Which server the log was last known to be whole on. Another one is a promoted standby or a restored backup: nothing is
-- appended there before somebody has found out whether events were lost.
ALTER TABLE :"schema".head ADD COLUMN server text NOT NULL DEFAULT '';

-- The cluster (made by initdb, kept by physical copies) and its timeline (a new one after each promotion and each
-- recovery to a point in time). Empty on a standby. The control file tells the timeline of the last checkpoint only.
CREATE FUNCTION :"schema".this_server() RETURNS text
LANGUAGE sql VOLATILE
AS $$
    SELECT CASE WHEN pg_is_in_recovery() THEN '' ELSE
        (SELECT system_identifier FROM pg_control_system())::text || '/' ||
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer::text
    END
$$;

UPDATE :"schema".head SET server = :"schema".this_server();

CREATE FUNCTION :"schema".is_verified() RETURNS boolean
LANGUAGE sql VOLATILE
AS $$
    SELECT h.server = :"schema".this_server() FROM :"schema".head h
$$;

-- Nothing was lost on the way to this server. False when the epoch is not the expected one any more.
CREATE FUNCTION :"schema".confirm_server(expected bigint) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE :"schema".head SET server = :"schema".this_server() WHERE epoch = expected;
    RETURN FOUND;
END
$$;

-- Begins the epoch `raised` with its first event. No row when the epoch is not the expected one any more: somebody else
-- has raised it. What was appended in between stays, and belongs to the epoch before.
CREATE FUNCTION :"schema".raise_epoch(
    expected bigint, raised bigint, id uuid, aggregate_type text, aggregate_id uuid, type text, data bytea, actor text
) RETURNS TABLE (head_position bigint, head_epoch bigint, head_recorded_at timestamptz)
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
BEGIN
    SELECT h.position + 1, raised, greatest(clock_timestamp(), h.recorded_at)
      INTO head_position, head_epoch, head_recorded_at
      FROM :"schema".head h WHERE h.epoch = expected AND raised > expected FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO :"schema".events
        (position, epoch, event_id, aggregate_type, aggregate_id, version, type, schema_version, data,
         recorded_at, actor, request_id, causation_id, correlation_id, traceparent)
    VALUES (head_position, raised, id, aggregate_type, aggregate_id, 1, type, 1, data,
            head_recorded_at, actor, '', '', '', '');
    UPDATE :"schema".head
       SET position = head_position, epoch = raised, recorded_at = head_recorded_at,
           server = :"schema".this_server();
    PERFORM pg_notify(:'schema' || '.events', head_position::text);
    RETURN NEXT;
END
$$;
