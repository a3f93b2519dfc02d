-- Tables of the ledger. Money is whole nano-dollars (1e-9 US dollars) everywhere; times are instants.
-- Ids are UUIDs in their text form. Times are text of one fixed form in UTC, 2006-01-02 15:04:05.000000+00:00, so that
-- they sort as text and compare with what drivers bind for a time in UTC.

-- +goose Up

-- A tenant: who it is and how its budget is set. id never changes; tenant_id is its current key.
CREATE TABLE llm_tenants (
    id           TEXT        NOT NULL PRIMARY KEY,
    tenant_id    TEXT        UNIQUE,                      -- NULL: the tenant has given up its key
    name         TEXT        NOT NULL DEFAULT '',
    owner_type   TEXT,                                    -- the host's table; NULL: no record behind it
    owner_id     TEXT,                                    -- the record's primary key
    parent       TEXT,                                    -- the tenant above it, whose budget counts its calls too; NULL: the root, if there is one
    enforcement  TEXT        NOT NULL DEFAULT '',         -- hard, soft, none; '': inherited, else soft
    counts       TEXT        NOT NULL DEFAULT '',         -- what limits of cost count: charge, cost; '': the ledger's, else charge
    inherit      BOOLEAN     NOT NULL DEFAULT 1,       -- takes limits that it does not set from the ledger's defaults
    time_zone    TEXT        NOT NULL DEFAULT '',         -- IANA name; '': the ledger's
    week_start   TEXT        NOT NULL DEFAULT '',         -- of the ledger's defaults: the day on which weeks begin, sunday; '': monday
    limits       TEXT        NOT NULL DEFAULT '[]',       -- its limits and top-ups, as JSON: an object with the columns of llm_limits for each, without those that are empty
    suspended_at TIMESTAMP,
    deleted_at   TIMESTAMP,
    created_at   TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now')),
    updated_at   TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now')),
    UNIQUE (owner_type, owner_id)
);
CREATE INDEX llm_tenants_parent ON llm_tenants (parent) WHERE parent IS NOT NULL;

-- Who stood below a tenant once, and does not any more: the balances of that have counted its calls. Rows are only added, so
-- that nobody who moves a tenant has a row of another one locked.
CREATE TABLE llm_former (
    parent TEXT NOT NULL,
    tenant TEXT NOT NULL,
    PRIMARY KEY (parent, tenant)
);

-- The limits of tenants, one a row, for questions; they stand in the rows of the tenants. A limit: one metric of one window and
-- scope. Absent is no limit; zero allows nothing. A row with a top-up adds to the limit of its scope and metric while it lasts.
CREATE VIEW llm_limits AS
    SELECT t.id AS tenant,
        json_extract(l.value, '$.window_unit') AS window_unit,      -- hour, day, week, month, total
        coalesce(json_extract(l.value, '$.agent'), '') AS agent,    -- '': all agents
        coalesce(json_extract(l.value, '$.model'), '') AS model,    -- '': all models
        json_extract(l.value, '$.metric') AS metric,                -- cost (nano-dollars), tokens, calls
        coalesce(json_extract(l.value, '$.topup'), '') AS topup,    -- '': the limit itself; else the key of the top-up
        json_extract(l.value, '$.amount') AS amount,
        json_extract(l.value, '$.ends_at') AS ends_at               -- of a top-up
    FROM llm_tenants t CROSS JOIN json_each(t.limits) l;

-- A change of a budget.
CREATE TABLE llm_audit (
    tenant     TEXT NOT NULL,
    id         TEXT NOT NULL,                           -- UUIDv7
    tenant_id  TEXT NOT NULL,                           -- the tenant's key at that moment
    changed_at TIMESTAMP NOT NULL,
    actor      TEXT NOT NULL DEFAULT '',
    action     TEXT NOT NULL,
    reason     TEXT NOT NULL DEFAULT '',
    was        TEXT,
    became     TEXT,
    PRIMARY KEY (tenant, id)
);

-- +goose Down
DROP TABLE llm_audit;
DROP VIEW llm_limits;
DROP TABLE llm_former;
DROP TABLE llm_tenants;
