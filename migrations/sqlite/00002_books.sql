-- The books. Keys of balances, executions and usage are led by the tenant, so that the tables can be distributed by it.

-- +goose Up

-- A balance: what is spent and held in the current window of one unit and scope. The row of (total, all agents, all
-- models) is the tenant's anchor: whatever changes the tenant's balances or executions locks it first. It has the balances of
-- the day and the month beside it, so that a call writes one row: there are no rows of (day or month, all agents, all models).
CREATE TABLE llm_balances (
    tenant             TEXT        NOT NULL,
    window_unit        TEXT        NOT NULL,
    agent              TEXT        NOT NULL DEFAULT '',
    model              TEXT        NOT NULL DEFAULT '',
    window_start       TIMESTAMP   NOT NULL DEFAULT '1970-01-01 00:00:00.000000+00:00',
    window_end         TIMESTAMP            DEFAULT '1970-01-01 00:00:00.000000+00:00',   -- NULL: never; start = end: not used yet
    day_start          TIMESTAMP   NOT NULL DEFAULT '1970-01-01 00:00:00.000000+00:00',   -- of an anchor: its day
    day_end            TIMESTAMP   NOT NULL DEFAULT '1970-01-01 00:00:00.000000+00:00',
    month_start        TIMESTAMP   NOT NULL DEFAULT '1970-01-01 00:00:00.000000+00:00',   -- of an anchor: its month
    month_end          TIMESTAMP   NOT NULL DEFAULT '1970-01-01 00:00:00.000000+00:00',
    spent_cost         INTEGER     NOT NULL DEFAULT 0,
    spent_charge       INTEGER     NOT NULL DEFAULT 0,
    spent_tokens       INTEGER     NOT NULL DEFAULT 0,
    spent_calls        INTEGER     NOT NULL DEFAULT 0,
    held_cost          INTEGER     NOT NULL DEFAULT 0,
    held_charge        INTEGER     NOT NULL DEFAULT 0,
    held_tokens        INTEGER     NOT NULL DEFAULT 0,
    held_calls         INTEGER     NOT NULL DEFAULT 0,
    day_spent_cost     INTEGER     NOT NULL DEFAULT 0,
    day_spent_charge   INTEGER     NOT NULL DEFAULT 0,
    day_spent_tokens   INTEGER     NOT NULL DEFAULT 0,
    day_spent_calls    INTEGER     NOT NULL DEFAULT 0,
    day_held_cost      INTEGER     NOT NULL DEFAULT 0,
    day_held_charge    INTEGER     NOT NULL DEFAULT 0,
    day_held_tokens    INTEGER     NOT NULL DEFAULT 0,
    day_held_calls     INTEGER     NOT NULL DEFAULT 0,
    month_spent_cost   INTEGER     NOT NULL DEFAULT 0,
    month_spent_charge INTEGER     NOT NULL DEFAULT 0,
    month_spent_tokens INTEGER     NOT NULL DEFAULT 0,
    month_spent_calls  INTEGER     NOT NULL DEFAULT 0,
    month_held_cost    INTEGER     NOT NULL DEFAULT 0,
    month_held_charge  INTEGER     NOT NULL DEFAULT 0,
    month_held_tokens  INTEGER     NOT NULL DEFAULT 0,
    month_held_calls   INTEGER     NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, window_unit, agent, model)
);

-- An execution: one LLM call, one row from the hold to the end.
CREATE TABLE llm_executions (
    tenant                TEXT        NOT NULL,           -- llm_tenants.id; all zeros: a call without a tenant
    id                    TEXT        NOT NULL,           -- UUIDv7
    tenant_id             TEXT        NOT NULL,           -- the tenant's key as it was at the call
    parents               TEXT        NOT NULL DEFAULT '{}',  -- the tenants above at its admission, the nearest first
    status                TEXT        NOT NULL,           -- running, succeeded, failed, cancelled, abandoned; adjusted: no call, but a correction
    agent                 TEXT        NOT NULL DEFAULT '',
    provider              TEXT        NOT NULL DEFAULT '',
    model                 TEXT        NOT NULL DEFAULT '',   -- as asked for
    billed_model          TEXT        NOT NULL DEFAULT '',   -- as the provider reported it
    request_id            TEXT        NOT NULL DEFAULT '',   -- the provider's
    idempotency_key       TEXT,
    tags                  TEXT,
    actor                 TEXT        NOT NULL DEFAULT '',
    process               TEXT        NOT NULL,
    admitted_at           TIMESTAMP NOT NULL,           -- decides the windows that the call belongs to
    deadline_at           TIMESTAMP NOT NULL,           -- a running call is abandoned after it
    finished_at           TIMESTAMP,
    settled_at            TIMESTAMP,                    -- when its true usage was booked
    held_cost             INTEGER      NOT NULL DEFAULT 0, -- what was held at admission; stays for the record
    held_charge           INTEGER      NOT NULL DEFAULT 0,
    held_tokens           INTEGER      NOT NULL DEFAULT 0,
    cost                  INTEGER      NOT NULL DEFAULT 0, -- what the provider bills for it
    charge                INTEGER      NOT NULL DEFAULT 0, -- what the tenant pays for it
    tokens                INTEGER      NOT NULL DEFAULT 0,
    calls                 INTEGER      NOT NULL DEFAULT 0, -- 1 once it counts as a call made
    price                 TEXT        NOT NULL DEFAULT '',    -- by what: the row of the price book; hold: its usage had no price; named: the caller has named the charge; '': none of these
    service_tier          TEXT        NOT NULL DEFAULT '',    -- as the provider reported it
    reported_cost         INTEGER,                         -- as the provider stated it
    overrun_cost          INTEGER      NOT NULL DEFAULT 0, -- how far it went beyond the hold
    overrun_charge        INTEGER      NOT NULL DEFAULT 0,
    overrun_tokens        INTEGER      NOT NULL DEFAULT 0,
    estimated             BOOLEAN     NOT NULL DEFAULT 0,   -- cost and charge are a bound or an estimate
    unpriced              BOOLEAN     NOT NULL DEFAULT 0,   -- no price was known: cost and charge are not the truth
    error_code            TEXT        NOT NULL DEFAULT '',
    reason                TEXT        NOT NULL DEFAULT '',    -- of an adjustment
    corrects              TEXT,                           -- of an adjustment: the call whose cost it corrects
    input_tokens          INTEGER      NOT NULL DEFAULT 0, -- the classes are disjoint
    cache_read_tokens     INTEGER      NOT NULL DEFAULT 0,
    cache_read_audio_tokens INTEGER    NOT NULL DEFAULT 0,
    cache_write_5m_tokens INTEGER      NOT NULL DEFAULT 0,
    cache_write_1h_tokens INTEGER      NOT NULL DEFAULT 0,
    output_tokens         INTEGER      NOT NULL DEFAULT 0,
    reasoning_tokens      INTEGER      NOT NULL DEFAULT 0,
    input_audio_tokens    INTEGER      NOT NULL DEFAULT 0,
    output_audio_tokens   INTEGER      NOT NULL DEFAULT 0,
    input_image_tokens    INTEGER      NOT NULL DEFAULT 0,
    output_image_tokens   INTEGER      NOT NULL DEFAULT 0,
    web_searches          INTEGER      NOT NULL DEFAULT 0,
    units                 TEXT,                           -- of what else is charged by the piece or by its length: how many, by name; NULL: none
    latency_us            INTEGER,                       -- how long the call took, in microseconds; NULL: nobody knows
    PRIMARY KEY (tenant, id)
);
-- Partial, so that nothing but the primary key offers itself for finding one execution by its id, whatever the planner
-- knows of the table.
CREATE INDEX llm_executions_admitted ON llm_executions (tenant, admitted_at) WHERE status <> 'running';
-- For what all tenants have done in some time.
CREATE INDEX llm_executions_time ON llm_executions (admitted_at);
-- For what a tenant's descendants have done, in a time that the roll-up does not give.
CREATE INDEX llm_executions_below ON llm_executions (admitted_at)
    WHERE parents <> '{}' AND status <> 'running' AND status <> 'cancelled';
CREATE INDEX llm_executions_running ON llm_executions (process) WHERE status = 'running';

-- Overruns are few, and are counted of all tenants together.
CREATE INDEX llm_executions_overrun ON llm_executions (admitted_at)
    WHERE overrun_cost > 0 OR overrun_charge > 0 OR overrun_tokens > 0;
-- Adjustments are few, and are told from the calls of their hours.
CREATE INDEX llm_executions_adjusted ON llm_executions (admitted_at) WHERE status = 'adjusted';
-- For what was corrected of a call.
CREATE INDEX llm_executions_corrects ON llm_executions (tenant, corrects) WHERE corrects IS NOT NULL;

-- Idempotency keys that are taken: by which execution, and how that had ended when it was entered or was pruned. A key stays
-- taken when its execution is gone.
CREATE TABLE llm_idempotency (
    tenant    TEXT        NOT NULL,
    key       TEXT        NOT NULL,
    execution TEXT        NOT NULL,
    status    TEXT        NOT NULL,
    cost      INTEGER     NOT NULL DEFAULT 0,
    charge    INTEGER     NOT NULL DEFAULT 0,
    taken_at  TIMESTAMP   NOT NULL,
    PRIMARY KEY (tenant, key)
);

-- What executions that were pruned add up to, by quarters of an hour: every time zone begins its days with one. Together with the
-- executions it gives what those alone gave before.
CREATE TABLE llm_pruned (
    tenant                TEXT        NOT NULL,
    id                    TEXT        NOT NULL,           -- of the row
    admitted_at           TIMESTAMP   NOT NULL,           -- the quarter of an hour
    parents               TEXT        NOT NULL DEFAULT '{}',
    status                TEXT        NOT NULL,
    agent                 TEXT        NOT NULL DEFAULT '',
    provider              TEXT        NOT NULL DEFAULT '',
    model                 TEXT        NOT NULL DEFAULT '',
    billed_model          TEXT        NOT NULL DEFAULT '',
    service_tier          TEXT        NOT NULL DEFAULT '',
    estimated             BOOLEAN     NOT NULL DEFAULT FALSE,
    unpriced              BOOLEAN     NOT NULL DEFAULT FALSE,
    finished_at           TIMESTAMP,                    -- of adjustments: the quarter of an hour in which they were booked
    cost                  INTEGER     NOT NULL DEFAULT 0,
    charge                INTEGER     NOT NULL DEFAULT 0,
    tokens                INTEGER     NOT NULL DEFAULT 0,
    calls                 INTEGER     NOT NULL DEFAULT 0,
    input_tokens          INTEGER     NOT NULL DEFAULT 0,
    cache_read_tokens     INTEGER     NOT NULL DEFAULT 0,
    cache_read_audio_tokens INTEGER     NOT NULL DEFAULT 0,
    cache_write_5m_tokens INTEGER     NOT NULL DEFAULT 0,
    cache_write_1h_tokens INTEGER     NOT NULL DEFAULT 0,
    output_tokens         INTEGER     NOT NULL DEFAULT 0,
    reasoning_tokens      INTEGER     NOT NULL DEFAULT 0,
    input_audio_tokens    INTEGER     NOT NULL DEFAULT 0,
    output_audio_tokens   INTEGER     NOT NULL DEFAULT 0,
    input_image_tokens    INTEGER     NOT NULL DEFAULT 0,
    output_image_tokens   INTEGER     NOT NULL DEFAULT 0,
    web_searches          INTEGER     NOT NULL DEFAULT 0,
    timed                 INTEGER     NOT NULL DEFAULT 0, -- calls of which it is known how long they took
    latency_us            INTEGER     NOT NULL DEFAULT 0, -- their times together
    latencies             TEXT        NOT NULL DEFAULT '{}', -- how many of them took how long: a count for each bucket
    units                 TEXT,                          -- one, on a row of its own
    tags                  TEXT,                          -- of those that are rolled up: the values; NULL: none was
    PRIMARY KEY (tenant, id)
);
CREATE INDEX llm_pruned_admitted ON llm_pruned (tenant, admitted_at);
CREATE INDEX llm_pruned_time ON llm_pruned (admitted_at);

-- The roll-up: what the calls admitted in one hour used, by agent, model, provider and service tier. A tenant's own calls and
-- those of all tenants below it are rows apart.
CREATE TABLE llm_usage (
    tenant                TEXT        NOT NULL,
    hour                  TIMESTAMP NOT NULL,
    agent                 TEXT        NOT NULL DEFAULT '',
    model                 TEXT        NOT NULL DEFAULT '',   -- as asked for
    billed_model          TEXT        NOT NULL DEFAULT '',
    provider              TEXT        NOT NULL DEFAULT '',
    service_tier          TEXT        NOT NULL DEFAULT '',
    below                 BOOLEAN     NOT NULL DEFAULT 0,
    calls                 INTEGER      NOT NULL DEFAULT 0,
    errors                INTEGER      NOT NULL DEFAULT 0,
    refusals              INTEGER      NOT NULL DEFAULT 0, -- written within a minute
    cost                  INTEGER      NOT NULL DEFAULT 0,
    charge                INTEGER      NOT NULL DEFAULT 0,
    tokens                INTEGER      NOT NULL DEFAULT 0,
    input_tokens          INTEGER      NOT NULL DEFAULT 0,
    cache_read_tokens     INTEGER      NOT NULL DEFAULT 0,
    cache_read_audio_tokens INTEGER    NOT NULL DEFAULT 0,
    cache_write_5m_tokens INTEGER      NOT NULL DEFAULT 0,
    cache_write_1h_tokens INTEGER      NOT NULL DEFAULT 0,
    output_tokens         INTEGER      NOT NULL DEFAULT 0,
    reasoning_tokens      INTEGER      NOT NULL DEFAULT 0,
    input_audio_tokens    INTEGER      NOT NULL DEFAULT 0,
    output_audio_tokens   INTEGER      NOT NULL DEFAULT 0,
    input_image_tokens    INTEGER      NOT NULL DEFAULT 0,
    output_image_tokens   INTEGER      NOT NULL DEFAULT 0,
    web_searches          INTEGER      NOT NULL DEFAULT 0,
    estimated             INTEGER     NOT NULL DEFAULT 0, -- calls whose cost and charge are a bound or an estimate
    unpriced              INTEGER     NOT NULL DEFAULT 0, -- calls without a price
    timed                 INTEGER     NOT NULL DEFAULT 0, -- calls of which it is known how long they took
    latency_us            INTEGER     NOT NULL DEFAULT 0, -- their times together
    latencies             TEXT        NOT NULL DEFAULT '{}', -- how many of them took how long: a count for each bucket
    PRIMARY KEY (tenant, hour, agent, model, billed_model, provider, service_tier, below)
);

-- The units of the roll-up, one row for each that calls of the hour have used.
CREATE TABLE llm_usage_units (
    tenant       TEXT        NOT NULL,
    hour         TIMESTAMP   NOT NULL,
    agent        TEXT        NOT NULL DEFAULT '',
    model        TEXT        NOT NULL DEFAULT '',
    billed_model TEXT        NOT NULL DEFAULT '',
    provider     TEXT        NOT NULL DEFAULT '',
    service_tier TEXT        NOT NULL DEFAULT '',
    below        BOOLEAN     NOT NULL DEFAULT 0,
    unit         TEXT        NOT NULL,                      -- as in input_audio_ms
    amount       INTEGER     NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, hour, agent, model, billed_model, provider, service_tier, below, unit)
);
CREATE INDEX llm_usage_hour ON llm_usage (hour);

-- Days and months, folded from the hours of the roll-up when they are over: of each tenant; of everybody, who is the tenant
-- 00000000-0000-0000-0000-000000000002; and of everybody by tenant alone, the tenant 00000000-0000-0000-0000-000000000003.
CREATE TABLE llm_usage_windows (
    tenant       TEXT        NOT NULL,
    time_zone    TEXT        NOT NULL,
    window_unit  TEXT        NOT NULL,                      -- day, month
    tag          TEXT        NOT NULL DEFAULT '',           -- by whose values the lines are; '': by the dimensions of the roll-up
    window_start TIMESTAMP   NOT NULL,
    sums         BLOB       NOT NULL,                      -- all lines of the window, packed
    PRIMARY KEY (tenant, time_zone, window_unit, tag, window_start)
) WITHOUT ROWID; -- so that the windows of a tenant are beside each other
CREATE INDEX llm_usage_windows_start ON llm_usage_windows (window_unit, tag, window_start);

-- From when to when they are folded; offsets are those of the time zone then. The row of total is locked by whoever folds, and
-- its version changes whenever somebody has.
CREATE TABLE llm_usage_folds (
    tenant      TEXT        NOT NULL,
    time_zone   TEXT        NOT NULL,
    window_unit TEXT        NOT NULL,
    tag         TEXT        NOT NULL DEFAULT '',
    starts_at   TIMESTAMP NOT NULL DEFAULT '1970-01-01 00:00:00.000000+00:00',
    ends_at     TIMESTAMP NOT NULL DEFAULT '1970-01-01 00:00:00.000000+00:00',
    offsets     TEXT        NOT NULL DEFAULT '',
    version     INTEGER      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, time_zone, window_unit, tag)
);
INSERT INTO llm_usage_folds (tenant, time_zone, window_unit) VALUES ('00000000-0000-0000-0000-000000000002', '', 'total');

-- The values of tags that are told apart, of each a bounded number.
CREATE TABLE llm_usage_values (
    tag   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (tag, value)
);

-- Hours of the roll-up that were changed when they were some hours old. Whoever changes such an hour adds a row in the same
-- transaction, and nobody else's row stands for it.
CREATE TABLE llm_usage_late (
    id     INTEGER PRIMARY KEY,
    tenant TEXT        NOT NULL,
    hour   TIMESTAMP NOT NULL
);
CREATE INDEX llm_usage_late_tenant ON llm_usage_late (tenant);

-- A process that has the ledger open. When its heartbeat is older than its lease, others end its running executions.
CREATE TABLE llm_processes (
    id         TEXT        NOT NULL PRIMARY KEY,
    started_at TIMESTAMP NOT NULL,
    beat_at    TIMESTAMP NOT NULL,
    lease_ms   INTEGER      NOT NULL,
    zones      TEXT        NOT NULL DEFAULT ''     -- JSON: the offsets of each time zone that it uses, by year
);

-- A threshold of a limit that was crossed in a window: once, whoever crosses it.
CREATE TABLE llm_thresholds (
    tenant       TEXT NOT NULL,
    window_unit  TEXT NOT NULL,
    agent        TEXT NOT NULL,
    model        TEXT NOT NULL,
    metric       TEXT NOT NULL,
    amount       INTEGER NOT NULL,                          -- the limit at that moment
    window_start TIMESTAMP NOT NULL,
    percent      INTEGER NOT NULL,
    crossed_at   TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant, window_unit, agent, model, metric, amount, window_start, percent)
);

-- Calls without a tenant are booked on the tenant of zeros.
INSERT INTO llm_balances (tenant, window_unit, window_end) VALUES
    ('00000000-0000-0000-0000-000000000000', 'total', NULL);

-- +goose Down
DROP TABLE llm_thresholds;
DROP TABLE llm_processes;
DROP TABLE llm_usage_late;
DROP TABLE llm_usage_values;
DROP TABLE llm_usage_folds;
DROP TABLE llm_usage_windows;
DROP TABLE llm_usage_units;
DROP TABLE llm_usage;
DROP TABLE llm_pruned;
DROP TABLE llm_idempotency;
DROP TABLE llm_executions;
DROP TABLE llm_balances;
