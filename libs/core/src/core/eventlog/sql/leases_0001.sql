-- Roles with one holder. A row stays when its lease is released, so that the fencing number never repeats.
CREATE TABLE :"schema".leases (
    name       text        COLLATE "C" PRIMARY KEY,
    holder     text        NOT NULL,
    fencing    bigint      NOT NULL,
    expires_at timestamptz NOT NULL,  -- Postgres's clock, the only one that is compared
    -- Makes `fencing` a key column, so that FOR KEY SHARE stops a takeover but not a renewal.
    UNIQUE (name, fencing)
) WITH (fillfactor = 50);

-- Whether a lease is still held with this fencing number. If so nobody takes it over before the transaction ends.
-- Expiry alone does not matter: what counts is that no other holder can have written since.
CREATE FUNCTION :"schema".holds_lease(name text, holder text, fencing bigint) RETURNS boolean
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM FROM :"schema".leases l
      WHERE l.name = name AND l.holder = holder AND l.fencing = fencing
        FOR KEY SHARE;
    RETURN FOUND;
END
$$;
