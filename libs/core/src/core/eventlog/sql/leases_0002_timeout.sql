-- As before, and whoever keeps a takeover out does so for ten seconds at most. idle_in_transaction_session_timeout and
-- statement_timeout don't see to that: they pass over a client that went silent between the parse and the bind of a
-- statement, for which Postgres waits as if it were at work. Before version 17 there is no such setting.
CREATE OR REPLACE FUNCTION :"schema".holds_lease(name text, holder text, fencing bigint) RETURNS boolean
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
BEGIN
    IF current_setting('transaction_timeout', true) IS NOT NULL THEN
        PERFORM set_config('transaction_timeout', '10s', true);
    END IF;
    PERFORM FROM :"schema".leases l
      WHERE l.name = name AND l.holder = holder AND l.fencing = fencing
        FOR KEY SHARE;
    RETURN FOUND;
END
$$;
