-- Tables of the ledger. Money is whole nano-dollars (1e-9 US dollars) everywhere; times are instants.
-- No foreign keys to llm_tenants: a lane's writes must never wait for a row that a host's transaction holds.
-- Keys of balances, executions and usage are led by the tenant, so that the tables can be distributed by it.

-- +goose Up

-- A tenant: who it is and how its budget is set. id never changes; tenant_id is its current key.
CREATE TABLE llm_tenants (
    id           uuid        NOT NULL PRIMARY KEY,
    tenant_id    text        UNIQUE,                      -- NULL: the tenant has given up its key
    name         text        NOT NULL DEFAULT '',
    owner_type   text,                                    -- the host's table; NULL: no record behind it
    owner_id     text,                                    -- the record's primary key
    parent       uuid,                                    -- the tenant above it, whose budget counts its calls too; NULL: the root, if there is one
    enforcement  text        NOT NULL DEFAULT '',         -- hard, soft, none; '': inherited, else soft
    counts       text        NOT NULL DEFAULT '',         -- what limits of cost count: charge, cost; '': the ledger's, else charge
    inherit      boolean     NOT NULL DEFAULT true,       -- takes limits that it does not set from the ledger's defaults
    time_zone    text        NOT NULL DEFAULT '',         -- IANA name; '': the ledger's
    week_start   text        NOT NULL DEFAULT '',         -- of the ledger's defaults: the day on which weeks begin, sunday; '': monday
    place        text        NOT NULL DEFAULT '',         -- the schema that has its books; '': the tables beside this one
    limits       jsonb       NOT NULL DEFAULT '[]',       -- its limits and top-ups: an object with the columns of llm_limits for each, without those that are empty
    suspended_at timestamptz,
    deleted_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner_type, owner_id)
);
CREATE INDEX llm_tenants_parent ON llm_tenants (parent) WHERE parent IS NOT NULL;

-- Who stood below a tenant once, and does not any more: the balances of that have counted its calls. Rows are only added, so
-- that nobody who moves a tenant has a row of another one locked.
CREATE TABLE llm_former (
    parent uuid NOT NULL,
    tenant uuid NOT NULL,
    PRIMARY KEY (parent, tenant)
);

-- Makes tenants that differ by who they are, with their anchors, and says how many; NULL: somebody has one of the keys or records already,
-- and none is made. Few are in the way of new records, so that this looks for them by being refused: ON CONFLICT would look up each unique
-- value before it writes it, and write each row twice.
-- +goose StatementBegin
CREATE FUNCTION llm_make_tenants(limits jsonb, owner_type text, enforcement text, counts text, inherit boolean, time_zone text,
    ids uuid[], keys text[], names text[], owner_ids text[], parents uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    WITH made AS (
            INSERT INTO llm_tenants (limits, owner_type, enforcement, counts, inherit, time_zone, id, tenant_id, name, owner_id, parent)
            SELECT $1, $2, $3, $4, $5, $6, t.* FROM unnest($7, $8, $9, $10, $11) t RETURNING id),
        balances AS (
            INSERT INTO llm_balances (tenant, window_unit, window_end) SELECT id, 'total', NULL FROM made)
        SELECT count(*) INTO n FROM made;
    RETURN n;
EXCEPTION WHEN unique_violation THEN
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- The limits of tenants, one a row, for questions; they stand in the rows of the tenants. A limit: one metric of one window and
-- scope. Absent is no limit; zero allows nothing. A row with a top-up adds to the limit of its scope and metric while it lasts.
CREATE VIEW llm_limits AS
    SELECT t.id AS tenant,
        l.window_unit,                                  -- hour, day, week, month, total
        coalesce(l.agent, '') AS agent,                 -- '': all agents
        coalesce(l.model, '') AS model,                 -- '': all models
        l.metric,                                       -- cost (nano-dollars), tokens, calls
        coalesce(l.topup, '') AS topup,                 -- '': the limit itself; else the key of the top-up
        l.amount,
        l.ends_at                                       -- of a top-up
    FROM llm_tenants t CROSS JOIN LATERAL jsonb_to_recordset(t.limits)
        AS l (window_unit text, agent text, model text, metric text, topup text, amount bigint, ends_at timestamptz);

-- A change of a budget.
CREATE TABLE llm_audit (
    tenant     uuid NOT NULL,
    id         uuid NOT NULL,                           -- UUIDv7
    tenant_id  text NOT NULL,                           -- the tenant's key at that moment
    changed_at timestamptz NOT NULL,
    actor      text NOT NULL DEFAULT '',
    action     text NOT NULL,
    reason     text NOT NULL DEFAULT '',
    was        jsonb,
    became     jsonb,
    PRIMARY KEY (tenant, id)
);

-- The schemas that have books of tenants, beside the tables of this one.
CREATE TABLE llm_places (
    name  text   NOT NULL PRIMARY KEY,
    moves bigint NOT NULL DEFAULT 0                     -- counts, with those of the other places, how often tenants were moved
);

-- The tenants whose books are beside this table, where others are in other places, with the settings that all inherit.
CREATE VIEW llm_home_tenants AS
    SELECT t.* FROM llm_tenants t WHERE t.place = '' OR t.id = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

-- +goose Down
DROP VIEW llm_home_tenants;
DROP TABLE llm_places;
DROP TABLE llm_audit;
DROP VIEW llm_limits;
DROP FUNCTION llm_make_tenants;
DROP TABLE llm_former;
DROP TABLE llm_tenants;
