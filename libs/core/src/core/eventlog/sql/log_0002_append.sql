-- Appending. `append_batch` is called once per batch, as one statement outside any transaction block.
--
-- Whoever has locked the head is the only one to append, so what it reads stays true until it commits. Hence:
-- read the state that the batch touches, play the appends through it one by one in their order, and write what
-- fits. An append that does not fit leaves no trace, and nothing that was written has to be rolled back.

-- An append: its context, and the numbers (from 1) of the last of its steps and events within the batch.
CREATE TYPE :"schema".new_append AS (
    actor text, request_id text, causation_id text, correlation_id text, traceparent text,
    last_step integer, last_event integer
);

-- An event: the number of its append, its place in that (from 0), and what is stored.
CREATE TYPE :"schema".new_event AS (
    append integer, place integer,
    id uuid, aggregate_type text, aggregate_id uuid, version bigint, type text, schema_version integer, data bytea
);

-- A step of an append, on one of the batch's aggregates, unique keys or counters, by its number (from 1):
--     'v'  aggregate `target` goes on with version from_number, up to to_number
--     'c'  `owner` claims unique key `target`           'r'  `owner` releases it
--     'a'  from_number is added to counter `target`     'l'  its limit becomes from_number
CREATE TYPE :"schema".step AS (
    kind "char", target integer, from_number bigint, to_number bigint, owner text
);

CREATE TYPE :"schema".scoped_key AS (scope text, key text);

-- What became of an append that was not simply appended. It was appended before, at repeated_at; or it was
-- refused, for the kind of `violation` ('u': a counter below zero), at its step number `culprit` (from 0),
-- where that version, or that use under that limit, or that owner was found.
CREATE TYPE :"schema".exception AS (
    append integer, repeated_at timestamptz,
    violation "char", culprit integer, found_number bigint, found_limit bigint, found_owner text
);

-- patient: nobody waits to hear of any of it, and who is notified is told so.
-- first_positions: where the events of each append begin; NULL if it was refused.
CREATE PROCEDURE :"schema".append_batch(
    appends :"schema".new_append[], events :"schema".new_event[], steps :"schema".step[],
    aggregates uuid[], unique_keys :"schema".scoped_key[], counters :"schema".scoped_key[], patient boolean,
    OUT appended_at timestamptz, OUT first_positions bigint[], OUT exceptions :"schema".exception[]
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    log_epoch bigint;
    last_position bigint;
    next_position bigint;
    current_versions bigint[];
    owners_before text[];
    owners text[];
    used_before bigint[];
    used bigint[];
    limits_before bigint[];
    limits bigint[];
    -- What each step replaced, to take back an append that fails at a later step.
    replaced_numbers bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(steps)]);
    replaced_owners text[] := array_fill(NULL::text, ARRAY[cardinality(steps)]);
    append :"schema".new_append;
    step :"schema".step;
    exception :"schema".exception;
    first_step integer := 1;
    first_event integer := 1;
    number bigint;
    bound bigint;
    holder text;
    any_released boolean := false;
    violation "char";
    repeated_position bigint;
    repeated_at timestamptz;
BEGIN
    SELECT h.epoch, h.position, greatest(clock_timestamp(), h.recorded_at)
      INTO STRICT log_epoch, last_position, appended_at
      FROM :"schema".head h FOR UPDATE;
    next_position := last_position + 1;

    -- What the batch touches, as it is now.
    SELECT ARRAY(SELECT coalesce((SELECT e.version FROM :"schema".events e WHERE e.aggregate_id = a.id
                                   ORDER BY e.version DESC LIMIT 1), 0)
                   FROM unnest(aggregates) AS a(id)),
           ARRAY(SELECT (SELECT u.owner FROM :"schema".unique_keys u WHERE u.scope = k.scope AND u.key = k.key)
                   FROM unnest(unique_keys) AS k),
           ARRAY(SELECT coalesce((SELECT c.used FROM :"schema".counters c
                                   WHERE c.scope = k.scope AND c.key = k.key), 0)
                   FROM unnest(counters) AS k),
           ARRAY(SELECT (SELECT c."limit" FROM :"schema".counters c WHERE c.scope = k.scope AND c.key = k.key)
                   FROM unnest(counters) AS k)
      INTO current_versions, owners_before, used_before, limits_before;
    owners := owners_before;
    used := used_before;
    limits := limits_before;

    -- One append after the other.
    first_positions := array_fill(NULL::bigint, ARRAY[cardinality(appends)]);
    FOR this IN 1 .. cardinality(appends) LOOP
        append := appends[this];
        violation := NULL;
        FOR n IN first_step .. append.last_step LOOP
            step := steps[n];
            CASE step.kind
            WHEN 'v' THEN
                number := current_versions[step.target];
                IF number = step.from_number - 1 THEN
                    replaced_numbers[n] := number;
                    current_versions[step.target] := step.to_number;
                ELSE
                    violation := 'v';
                END IF;
            WHEN 'c' THEN
                holder := owners[step.target];
                IF holder IS NULL THEN
                    owners[step.target] := step.owner;
                ELSIF holder = step.owner THEN
                    replaced_owners[n] := holder;
                ELSE
                    violation := 'c';
                END IF;
            WHEN 'r' THEN
                holder := owners[step.target];
                replaced_owners[n] := holder;
                IF holder = step.owner THEN
                    owners[step.target] := NULL;
                    any_released := true;
                END IF;
            WHEN 'a' THEN
                number := used[step.target];
                bound := limits[step.target];
                IF step.from_number > 0 AND number + step.from_number > bound THEN
                    violation := 'a';
                ELSIF number + step.from_number < 0 THEN
                    violation := 'u';
                ELSE
                    replaced_numbers[n] := number;
                    used[step.target] := number + step.from_number;
                END IF;
            WHEN 'l' THEN
                replaced_numbers[n] := limits[step.target];
                limits[step.target] := step.from_number;
            END CASE;
            CONTINUE WHEN violation IS NULL;

            IF violation = 'v' AND number >= step.from_number THEN
                -- Sent again because its answer got lost? Then its events are there, with the same ids.
                SELECT CASE WHEN count(e.position) = count(*) THEN min(e.position) END, min(e.recorded_at)
                  INTO repeated_position, repeated_at
                  FROM unnest(events[first_event : append.last_event]) AS s
                  LEFT JOIN :"schema".events e
                    ON e.aggregate_id = s.aggregate_id AND e.version = s.version AND e.event_id = s.id;
                first_positions[this] := repeated_position;
            END IF;
            IF first_positions[this] IS NOT NULL THEN
                exception := ROW(this, repeated_at, NULL, NULL, NULL, NULL, NULL);
            ELSE
                exception := ROW(this, NULL, violation, n - first_step, number, bound, holder);
            END IF;
            exceptions := exceptions || exception;

            -- Take back what this append has done so far, last step first.
            FOR done IN REVERSE n - 1 .. first_step LOOP
                step := steps[done];
                CASE step.kind
                WHEN 'v' THEN current_versions[step.target] := replaced_numbers[done];
                WHEN 'c', 'r' THEN owners[step.target] := replaced_owners[done];
                WHEN 'a' THEN used[step.target] := replaced_numbers[done];
                WHEN 'l' THEN limits[step.target] := replaced_numbers[done];
                END CASE;
            END LOOP;
            EXIT;
        END LOOP;
        IF violation IS NULL THEN
            first_positions[this] := next_position;
            next_position := next_position + append.last_event - first_event + 1;
        END IF;
        first_step := append.last_step + 1;
        first_event := append.last_event + 1;
    END LOOP;

    -- What fits.
    IF next_position = last_position + 1 THEN
        COMMIT;
        RETURN;
    END IF;

    INSERT INTO :"schema".events
        (position, epoch, event_id, aggregate_type, aggregate_id, version, type, schema_version, data,
         recorded_at, actor, request_id, causation_id, correlation_id, traceparent)
    SELECT a.first + e.place, log_epoch, e.id, e.aggregate_type, e.aggregate_id, e.version, e.type,
           e.schema_version, e.data, appended_at, a.actor, a.request_id, a.causation_id, a.correlation_id,
           a.traceparent
      FROM unnest(events) AS e
      JOIN ROWS FROM (unnest(appends), unnest(first_positions)) WITH ORDINALITY
           AS a(actor, request_id, causation_id, correlation_id, traceparent, last_step, last_event, first, n)
        ON a.n = e.append
     WHERE a.first > last_position;

    IF any_released THEN
        DELETE FROM :"schema".unique_keys u
         USING ROWS FROM (unnest(unique_keys), unnest(owners_before), unnest(owners))
               AS k(scope, key, before, after)
         WHERE u.scope = k.scope AND u.key = k.key AND k.after IS DISTINCT FROM k.before;
    END IF;
    IF owners IS DISTINCT FROM owners_before THEN
        INSERT INTO :"schema".unique_keys (scope, key, owner)
        SELECT k.scope, k.key, k.after
          FROM ROWS FROM (unnest(unique_keys), unnest(owners_before), unnest(owners))
               AS k(scope, key, before, after)
         WHERE k.after IS DISTINCT FROM k.before AND k.after IS NOT NULL;
    END IF;
    IF used IS DISTINCT FROM used_before OR limits IS DISTINCT FROM limits_before THEN
        INSERT INTO :"schema".counters AS c (scope, key, used, "limit")
        SELECT k.scope, k.key, k.used, k."limit"
          FROM ROWS FROM (unnest(counters), unnest(used_before), unnest(used), unnest(limits_before), unnest(limits))
               AS k(scope, key, before, used, limit_before, "limit")
         WHERE k.used <> k.before OR k."limit" IS DISTINCT FROM k.limit_before
            ON CONFLICT (scope, key) DO UPDATE SET used = excluded.used, "limit" = excluded."limit";
    END IF;

    UPDATE :"schema".head SET position = next_position - 1, recorded_at = appended_at;
    PERFORM pg_notify(:'schema' || '.events', next_position - 1 || CASE WHEN patient THEN ' patient' ELSE '' END);
    COMMIT;  -- here, so that the lock never waits for the client, not even for the end of its request
END
$$;
