-- Appending. `append_batch` is called once per batch, as one statement outside any transaction block.
--
-- Whoever has locked the head is the only one to append, so what it reads stays true until it commits. Hence:
-- read the state that the batch touches, play the appends through it one by one in their order, and write what
-- fits. An append that does not fit leaves no trace, and nothing that was written has to be rolled back.
--
-- The batch comes as arrays. An append is a run of `steps`, each of one kind on one target:
--     'v'  aggregate `target` goes on with version from_number, up to to_number
--     'c'  `owner` claims unique key `target`           'r'  `owner` releases it
--     'a'  from_number is added to counter `target`     'l'  its limit becomes from_number
-- Targets are indexes (from 1) into the aggregates, unique keys and counters of the batch, each listed once.
-- last_steps and last_events: the index of each append's last step and last event.

CREATE PROCEDURE :"schema".append_batch(
    actors text[], request_ids text[], causation_ids text[], correlation_ids text[], traceparents text[],
    last_steps integer[], last_events integer[],
    event_appends integer[], event_places integer[], event_ids uuid[], aggregate_types text[],
    event_aggregates uuid[], versions bigint[], types text[], schema_versions integer[], payloads bytea[],
    step_kinds "char"[], step_targets integer[], from_numbers bigint[], to_numbers bigint[], step_owners text[],
    aggregates uuid[], unique_scopes text[], unique_keys text[], counter_scopes text[], counter_keys text[],
    OUT appended_at timestamptz, OUT first_positions bigint[], OUT repeats timestamptz[],
    OUT violations "char"[], OUT culprits integer[], OUT found_numbers bigint[], OUT found_limits bigint[],
    OUT found_owners text[]
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    append_count constant integer := cardinality(actors);
    none constant bigint[] := array_fill(NULL::bigint, ARRAY[append_count]);
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
    replaced_numbers bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(step_kinds)]);
    replaced_owners text[] := array_fill(NULL::text, ARRAY[cardinality(step_kinds)]);
    first_step integer := 1;
    first_event integer := 1;
    target integer;
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
                   FROM unnest(unique_scopes, unique_keys) AS k(scope, key)),
           ARRAY(SELECT coalesce((SELECT c.used FROM :"schema".counters c
                                   WHERE c.scope = k.scope AND c.key = k.key), 0)
                   FROM unnest(counter_scopes, counter_keys) AS k(scope, key)),
           ARRAY(SELECT (SELECT c."limit" FROM :"schema".counters c WHERE c.scope = k.scope AND c.key = k.key)
                   FROM unnest(counter_scopes, counter_keys) AS k(scope, key))
      INTO current_versions, owners_before, used_before, limits_before;
    owners := owners_before;
    used := used_before;
    limits := limits_before;

    -- One append after the other.
    first_positions := none;
    FOR this IN 1 .. append_count LOOP
        violation := NULL;
        FOR step IN first_step .. last_steps[this] LOOP
            target := step_targets[step];
            CASE step_kinds[step]
            WHEN 'v' THEN
                number := current_versions[target];
                IF number = from_numbers[step] - 1 THEN
                    replaced_numbers[step] := number;
                    current_versions[target] := to_numbers[step];
                ELSE
                    violation := 'v';
                END IF;
            WHEN 'c' THEN
                holder := owners[target];
                IF holder IS NULL THEN
                    replaced_owners[step] := NULL;
                    owners[target] := step_owners[step];
                ELSIF holder = step_owners[step] THEN
                    replaced_owners[step] := holder;
                ELSE
                    violation := 'c';
                END IF;
            WHEN 'r' THEN
                holder := owners[target];
                replaced_owners[step] := holder;
                IF holder = step_owners[step] THEN
                    owners[target] := NULL;
                    any_released := true;
                END IF;
            WHEN 'a' THEN
                number := used[target];
                bound := limits[target];
                IF from_numbers[step] > 0 AND number + from_numbers[step] > bound THEN
                    violation := 'a';
                ELSIF number + from_numbers[step] < 0 THEN
                    violation := 'u';
                ELSE
                    replaced_numbers[step] := number;
                    used[target] := number + from_numbers[step];
                END IF;
            WHEN 'l' THEN
                replaced_numbers[step] := limits[target];
                limits[target] := from_numbers[step];
            END CASE;

            IF violation IS NOT NULL THEN
                -- Take back what this append has done so far, last step first.
                FOR done IN REVERSE step - 1 .. first_step LOOP
                    target := step_targets[done];
                    CASE step_kinds[done]
                    WHEN 'v' THEN current_versions[target] := replaced_numbers[done];
                    WHEN 'c', 'r' THEN owners[target] := replaced_owners[done];
                    WHEN 'a' THEN used[target] := replaced_numbers[done];
                    WHEN 'l' THEN limits[target] := replaced_numbers[done];
                    END CASE;
                END LOOP;
                IF violations IS NULL THEN
                    violations := array_fill(NULL::"char", ARRAY[append_count]);
                    culprits := array_fill(NULL::integer, ARRAY[append_count]);
                    found_numbers := none;
                    found_limits := none;
                    found_owners := array_fill(NULL::text, ARRAY[append_count]);
                    repeats := array_fill(NULL::timestamptz, ARRAY[append_count]);
                END IF;
                IF violation = 'v' AND number >= from_numbers[step] THEN
                    -- Sent again because its answer got lost? Then its events are there, with the same ids.
                    SELECT CASE WHEN count(e.position) = count(*) THEN min(e.position) END, min(e.recorded_at)
                      INTO repeated_position, repeated_at
                      FROM unnest(event_ids[first_event : last_events[this]],
                                  event_aggregates[first_event : last_events[this]],
                                  versions[first_event : last_events[this]]) AS n(id, aggregate, version)
                      LEFT JOIN :"schema".events e
                        ON e.aggregate_id = n.aggregate AND e.version = n.version AND e.event_id = n.id;
                    first_positions[this] := repeated_position;
                    repeats[this] := repeated_at;
                END IF;
                IF first_positions[this] IS NULL THEN
                    violations[this] := violation;
                    culprits[this] := step - first_step;
                    found_numbers[this] := number;
                    found_limits[this] := CASE violation WHEN 'a' THEN bound END;
                    found_owners[this] := CASE violation WHEN 'c' THEN holder END;
                END IF;
                EXIT;
            END IF;
        END LOOP;
        IF violation IS NULL THEN
            first_positions[this] := next_position;
            next_position := next_position + last_events[this] - first_event + 1;
        END IF;
        first_step := last_steps[this] + 1;
        first_event := last_events[this] + 1;
    END LOOP;

    IF next_position = last_position + 1 THEN
        COMMIT;
        RETURN;
    END IF;

    INSERT INTO :"schema".events
        (position, epoch, event_id, aggregate_type, aggregate_id, version, type, schema_version, data,
         recorded_at, actor, request_id, causation_id, correlation_id, traceparent)
    SELECT a.first_position + e.place, log_epoch, e.id, e.aggregate_type, e.aggregate, e.version, e.type,
           e.schema_version, e.payload, appended_at, a.actor, a.request_id, a.causation_id, a.correlation_id,
           a.traceparent
      FROM unnest(event_appends, event_places, event_ids, aggregate_types, event_aggregates, versions, types,
                  schema_versions, payloads)
           AS e(append, place, id, aggregate_type, aggregate, version, type, schema_version, payload)
      JOIN unnest(first_positions, actors, request_ids, causation_ids, correlation_ids, traceparents)
           WITH ORDINALITY
           AS a(first_position, actor, request_id, causation_id, correlation_id, traceparent, n)
        ON a.n = e.append
     WHERE a.first_position > last_position;

    IF any_released THEN
        DELETE FROM :"schema".unique_keys u
         USING unnest(unique_scopes, unique_keys, owners_before, owners) AS k(scope, key, before, after)
         WHERE u.scope = k.scope AND u.key = k.key AND k.after IS DISTINCT FROM k.before;
    END IF;
    IF owners IS DISTINCT FROM owners_before THEN
        INSERT INTO :"schema".unique_keys (scope, key, owner)
        SELECT k.scope, k.key, k.after
          FROM unnest(unique_scopes, unique_keys, owners_before, owners) AS k(scope, key, before, after)
         WHERE k.after IS DISTINCT FROM k.before AND k.after IS NOT NULL;
    END IF;
    IF used IS DISTINCT FROM used_before OR limits IS DISTINCT FROM limits_before THEN
        INSERT INTO :"schema".counters AS c (scope, key, used, "limit")
        SELECT k.scope, k.key, k.used, k."limit"
          FROM unnest(counter_scopes, counter_keys, used_before, used, limits_before, limits)
               AS k(scope, key, before, used, limit_before, "limit")
         WHERE k.used <> k.before OR k."limit" IS DISTINCT FROM k.limit_before
            ON CONFLICT (scope, key) DO UPDATE SET used = excluded.used, "limit" = excluded."limit";
    END IF;

    UPDATE :"schema".head SET position = next_position - 1, recorded_at = appended_at;
    PERFORM pg_notify(:'schema' || '.events', (next_position - 1)::text);
    COMMIT;
END
$$;
