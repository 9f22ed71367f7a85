-- Brings constraint rows to what the events imply. A row that was changed since it was found wrong keeps that
-- change: used is corrected by the difference, a limit or an owner only where it is still the one that was found.
CREATE FUNCTION :"schema".repair_constraints(
    unique_scopes text[], unique_keys text[], found_owners text[], right_owners text[],
    counter_scopes text[], counter_keys text[], used_deltas bigint[], found_limits bigint[], right_limits bigint[]
) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM :"schema".head FOR UPDATE;  -- appends read these rows before they write them

    DELETE FROM :"schema".unique_keys u
     USING unnest(unique_scopes, unique_keys, found_owners) AS d(scope, key, found)
     WHERE u.scope = d.scope AND u.key = d.key AND u.owner = d.found;
    INSERT INTO :"schema".unique_keys (scope, key, owner)
    SELECT d.scope, d.key, d.owner
      FROM unnest(unique_scopes, unique_keys, right_owners) AS d(scope, key, owner)
     WHERE d.owner IS NOT NULL
        ON CONFLICT DO NOTHING;

    INSERT INTO :"schema".counters (scope, key, used, "limit")
    SELECT d.scope, d.key, 0, d."limit"
      FROM unnest(counter_scopes, counter_keys, found_limits) AS d(scope, key, "limit")
        ON CONFLICT DO NOTHING;
    UPDATE :"schema".counters c
       SET used = c.used + d.delta,
           "limit" = CASE WHEN c."limit" IS NOT DISTINCT FROM d.found THEN d."limit" ELSE c."limit" END
      FROM unnest(counter_scopes, counter_keys, used_deltas, found_limits, right_limits)
           AS d(scope, key, delta, found, "limit")
     WHERE c.scope = d.scope AND c.key = d.key;
END
$$;
