-- The books. Keys of balances, executions and usage are led by the tenant, so that the tables can be distributed by it.

-- +goose Up

-- A balance: what is spent and held in the current window of one unit and scope. The row of (total, all agents, all
-- models) is the tenant's anchor: whatever changes the tenant's balances or executions locks it first. It has the balances of
-- the day and the month beside it, so that a call writes one row: there are no rows of (day or month, all agents, all models).
-- A row is a new version each time that it is written, and whoever looks it up walks those that an open snapshot still
-- needs. So the rows of a tenant move on to another key, all at once, when the anchor was written so many times: the highest
-- generation is the one that is there.
CREATE TABLE llm_balances (
    tenant             uuid        NOT NULL,
    generation         bigint      NOT NULL DEFAULT 0,
    window_unit        text        NOT NULL,
    agent              text        NOT NULL DEFAULT '',
    model              text        NOT NULL DEFAULT '',
    written            bigint      NOT NULL DEFAULT 0,         -- of an anchor: how often
    others             bigint      NOT NULL DEFAULT 0,         -- of an anchor: how many other rows the tenant has
    window_start       timestamptz NOT NULL DEFAULT 'epoch',
    window_end         timestamptz          DEFAULT 'epoch',   -- NULL: never; start = end: not used yet
    day_start          timestamptz NOT NULL DEFAULT 'epoch',   -- of an anchor: its day
    day_end            timestamptz NOT NULL DEFAULT 'epoch',
    month_start        timestamptz NOT NULL DEFAULT 'epoch',   -- of an anchor: its month
    month_end          timestamptz NOT NULL DEFAULT 'epoch',
    spent_cost         bigint      NOT NULL DEFAULT 0,
    spent_charge       bigint      NOT NULL DEFAULT 0,
    spent_tokens       bigint      NOT NULL DEFAULT 0,
    spent_calls        bigint      NOT NULL DEFAULT 0,
    held_cost          bigint      NOT NULL DEFAULT 0,
    held_charge        bigint      NOT NULL DEFAULT 0,
    held_tokens        bigint      NOT NULL DEFAULT 0,
    held_calls         bigint      NOT NULL DEFAULT 0,
    day_spent_cost     bigint      NOT NULL DEFAULT 0,
    day_spent_charge   bigint      NOT NULL DEFAULT 0,
    day_spent_tokens   bigint      NOT NULL DEFAULT 0,
    day_spent_calls    bigint      NOT NULL DEFAULT 0,
    day_held_cost      bigint      NOT NULL DEFAULT 0,
    day_held_charge    bigint      NOT NULL DEFAULT 0,
    day_held_tokens    bigint      NOT NULL DEFAULT 0,
    day_held_calls     bigint      NOT NULL DEFAULT 0,
    month_spent_cost   bigint      NOT NULL DEFAULT 0,
    month_spent_charge bigint      NOT NULL DEFAULT 0,
    month_spent_tokens bigint      NOT NULL DEFAULT 0,
    month_spent_calls  bigint      NOT NULL DEFAULT 0,
    month_held_cost    bigint      NOT NULL DEFAULT 0,
    month_held_charge  bigint      NOT NULL DEFAULT 0,
    month_held_tokens  bigint      NOT NULL DEFAULT 0,
    month_held_calls   bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, generation, window_unit, agent, model)
) WITH (fillfactor = 50);
-- With statistics of it, a planner takes the few rows of a tenant for so few that it may as well collect and sort all of their
-- versions as go to the end of the index.
-- Citus takes no such statement.
-- +goose StatementBegin
DO $$ BEGIN
    ALTER TABLE llm_balances ALTER COLUMN tenant SET STATISTICS 0;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
-- +goose StatementEnd

-- An execution: one LLM call, one row from the hold to the end.
CREATE TABLE llm_executions (
    tenant                uuid        NOT NULL,           -- llm_tenants.id; all zeros: a call without a tenant
    id                    uuid        NOT NULL,           -- UUIDv7
    tenant_id             text        NOT NULL,           -- the tenant's key as it was at the call
    parents               uuid[]      NOT NULL DEFAULT '{}',  -- the tenants above at its admission, the nearest first
    status                text        NOT NULL,           -- running, succeeded, failed, cancelled, abandoned; adjusted: no call, but a correction
    agent                 text        NOT NULL DEFAULT '',
    provider              text        NOT NULL DEFAULT '',
    model                 text        NOT NULL DEFAULT '',   -- as asked for
    billed_model          text        NOT NULL DEFAULT '',   -- as the provider reported it
    request_id            text        NOT NULL DEFAULT '',   -- the provider's
    idempotency_key       text,
    tags                  jsonb,
    actor                 text        NOT NULL DEFAULT '',
    process               uuid        NOT NULL,
    admitted_at           timestamptz NOT NULL,           -- decides the windows that the call belongs to
    deadline_at           timestamptz NOT NULL,           -- a running call is abandoned after it
    finished_at           timestamptz,
    settled_at            timestamptz,                    -- when its true usage was booked
    held_cost             bigint      NOT NULL DEFAULT 0, -- what was held at admission; stays for the record
    held_charge           bigint       NOT NULL DEFAULT 0,
    held_tokens           bigint      NOT NULL DEFAULT 0,
    cost                  bigint       NOT NULL DEFAULT 0, -- what the provider bills for it
    charge                bigint       NOT NULL DEFAULT 0, -- what the tenant pays for it
    tokens                bigint      NOT NULL DEFAULT 0,
    calls                 bigint      NOT NULL DEFAULT 0, -- 1 once it counts as a call made
    price                 text        NOT NULL DEFAULT '',    -- by what: the row of the price book; hold: its usage had no price; named: the caller has named the charge; '': none of these
    service_tier          text        NOT NULL DEFAULT '',    -- as the provider reported it
    reported_cost         bigint,                         -- as the provider stated it
    overrun_cost          bigint       NOT NULL DEFAULT 0, -- how far it went beyond the hold
    overrun_charge        bigint       NOT NULL DEFAULT 0,
    overrun_tokens        bigint      NOT NULL DEFAULT 0,
    estimated             boolean     NOT NULL DEFAULT false,   -- cost and charge are a bound or an estimate
    unpriced              boolean     NOT NULL DEFAULT false,   -- no price was known: cost and charge are not the truth
    error_code            text        NOT NULL DEFAULT '',
    reason                text        NOT NULL DEFAULT '',    -- of an adjustment
    corrects              uuid,                           -- of an adjustment: the call whose cost it corrects
    input_tokens          bigint      NOT NULL DEFAULT 0, -- the classes are disjoint
    cache_read_tokens     bigint      NOT NULL DEFAULT 0,
    cache_read_audio_tokens bigint    NOT NULL DEFAULT 0,
    cache_write_5m_tokens bigint      NOT NULL DEFAULT 0,
    cache_write_1h_tokens bigint      NOT NULL DEFAULT 0,
    output_tokens         bigint      NOT NULL DEFAULT 0,
    reasoning_tokens      bigint      NOT NULL DEFAULT 0,
    input_audio_tokens    bigint      NOT NULL DEFAULT 0,
    output_audio_tokens   bigint      NOT NULL DEFAULT 0,
    input_image_tokens    bigint      NOT NULL DEFAULT 0,
    output_image_tokens   bigint      NOT NULL DEFAULT 0,
    web_searches          bigint      NOT NULL DEFAULT 0,
    units                 jsonb,                          -- of what else is charged by the piece or by its length: how many, by name; NULL: none
    latency_us            bigint,                        -- how long the call took, in microseconds; NULL: nobody knows
    PRIMARY KEY (tenant, id)
);
-- Partial, so that nothing but the primary key offers itself for finding one execution by its id, whatever the planner
-- knows of the table.
CREATE INDEX llm_executions_admitted ON llm_executions (tenant, admitted_at) WHERE status <> 'running';
-- For what all tenants have done in some time, which is beside each other in the table.
CREATE INDEX llm_executions_time ON llm_executions USING brin (admitted_at) WITH (pages_per_range = 32, autosummarize = on);
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
    tenant    uuid        NOT NULL,
    key       text        NOT NULL,
    execution uuid        NOT NULL,
    status    text        NOT NULL,
    cost      bigint      NOT NULL DEFAULT 0,
    charge    bigint      NOT NULL DEFAULT 0,
    taken_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
);

-- What executions that were pruned add up to, by quarters of an hour: every time zone begins its days with one. Together with the
-- executions it gives what those alone gave before.
CREATE TABLE llm_pruned (
    tenant                uuid        NOT NULL,
    id                    uuid        NOT NULL,           -- of the row
    admitted_at           timestamptz NOT NULL,           -- the quarter of an hour
    parents               uuid[]      NOT NULL DEFAULT '{}',
    status                text        NOT NULL,
    agent                 text        NOT NULL DEFAULT '',
    provider              text        NOT NULL DEFAULT '',
    model                 text        NOT NULL DEFAULT '',
    billed_model          text        NOT NULL DEFAULT '',
    service_tier          text        NOT NULL DEFAULT '',
    estimated             boolean     NOT NULL DEFAULT false,
    unpriced              boolean     NOT NULL DEFAULT false,
    finished_at           timestamptz,                    -- of adjustments: the quarter of an hour in which they were booked
    cost                  bigint      NOT NULL DEFAULT 0,
    charge                bigint      NOT NULL DEFAULT 0,
    tokens                bigint      NOT NULL DEFAULT 0,
    calls                 bigint      NOT NULL DEFAULT 0,
    input_tokens          bigint      NOT NULL DEFAULT 0,
    cache_read_tokens     bigint      NOT NULL DEFAULT 0,
    cache_read_audio_tokens bigint      NOT NULL DEFAULT 0,
    cache_write_5m_tokens bigint      NOT NULL DEFAULT 0,
    cache_write_1h_tokens bigint      NOT NULL DEFAULT 0,
    output_tokens         bigint      NOT NULL DEFAULT 0,
    reasoning_tokens      bigint      NOT NULL DEFAULT 0,
    input_audio_tokens    bigint      NOT NULL DEFAULT 0,
    output_audio_tokens   bigint      NOT NULL DEFAULT 0,
    input_image_tokens    bigint      NOT NULL DEFAULT 0,
    output_image_tokens   bigint      NOT NULL DEFAULT 0,
    web_searches          bigint      NOT NULL DEFAULT 0,
    timed                 bigint      NOT NULL DEFAULT 0, -- calls of which it is known how long they took
    latency_us            bigint      NOT NULL DEFAULT 0, -- their times together
    latencies             numeric     NOT NULL DEFAULT 0,    -- how many of them took how long: twelve digits for each bucket
    units                 jsonb,                          -- one, on a row of its own
    tags                  jsonb,                          -- of those that are rolled up: the values; NULL: none was
    PRIMARY KEY (tenant, id)
);
CREATE INDEX llm_pruned_admitted ON llm_pruned (tenant, admitted_at);
CREATE INDEX llm_pruned_time ON llm_pruned (admitted_at);

-- The roll-up: what the calls admitted in one hour used, by agent, model, provider and service tier. A tenant's own calls and
-- those of all tenants below it are rows apart.
CREATE TABLE llm_usage (
    tenant                uuid        NOT NULL,
    hour                  timestamptz NOT NULL,
    agent                 text        NOT NULL DEFAULT '',
    model                 text        NOT NULL DEFAULT '',   -- as asked for
    billed_model          text        NOT NULL DEFAULT '',
    provider              text        NOT NULL DEFAULT '',
    service_tier          text        NOT NULL DEFAULT '',
    below                 boolean     NOT NULL DEFAULT false,
    generation            bigint      NOT NULL DEFAULT 0, -- of the tenant's balances when it was written last
    calls                 bigint      NOT NULL DEFAULT 0,
    errors                bigint      NOT NULL DEFAULT 0,
    refusals              bigint      NOT NULL DEFAULT 0, -- written within a minute
    cost                  bigint      NOT NULL DEFAULT 0,
    charge                bigint       NOT NULL DEFAULT 0,
    tokens                bigint      NOT NULL DEFAULT 0,
    input_tokens          bigint      NOT NULL DEFAULT 0,
    cache_read_tokens     bigint      NOT NULL DEFAULT 0,
    cache_read_audio_tokens bigint    NOT NULL DEFAULT 0,
    cache_write_5m_tokens bigint      NOT NULL DEFAULT 0,
    cache_write_1h_tokens bigint      NOT NULL DEFAULT 0,
    output_tokens         bigint      NOT NULL DEFAULT 0,
    reasoning_tokens      bigint      NOT NULL DEFAULT 0,
    input_audio_tokens    bigint      NOT NULL DEFAULT 0,
    output_audio_tokens   bigint      NOT NULL DEFAULT 0,
    input_image_tokens    bigint      NOT NULL DEFAULT 0,
    output_image_tokens   bigint      NOT NULL DEFAULT 0,
    web_searches          bigint      NOT NULL DEFAULT 0,
    estimated             bigint      NOT NULL DEFAULT 0, -- calls whose cost and charge are a bound or an estimate
    unpriced              bigint      NOT NULL DEFAULT 0, -- calls without a price
    timed                 bigint      NOT NULL DEFAULT 0, -- calls of which it is known how long they took
    latency_us            bigint      NOT NULL DEFAULT 0, -- their times together
    latencies             numeric     NOT NULL DEFAULT 0,    -- how many of them took how long: twelve digits for each bucket
    PRIMARY KEY (tenant, hour, agent, model, billed_model, provider, service_tier, below, generation)
) WITH (fillfactor = 50);

-- The units of the roll-up, one row for each that calls of the hour have used.
CREATE TABLE llm_usage_units (
    tenant       uuid        NOT NULL,
    hour         timestamptz NOT NULL,
    agent        text        NOT NULL DEFAULT '',
    model        text        NOT NULL DEFAULT '',
    billed_model text        NOT NULL DEFAULT '',
    provider     text        NOT NULL DEFAULT '',
    service_tier text        NOT NULL DEFAULT '',
    below        boolean     NOT NULL DEFAULT false,
    unit         text        NOT NULL,                      -- as in input_audio_ms
    generation   bigint      NOT NULL DEFAULT 0,
    amount       bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, hour, agent, model, billed_model, provider, service_tier, below, unit, generation)
) WITH (fillfactor = 50);
CREATE INDEX llm_usage_hour ON llm_usage (hour);

-- Days and months, folded from the hours of the roll-up when they are over: of each tenant; of everybody, who is the tenant
-- 00000000-0000-0000-0000-000000000002; and of everybody by tenant alone, the tenant 00000000-0000-0000-0000-000000000003.
CREATE TABLE llm_usage_windows (
    tenant       uuid        NOT NULL,
    time_zone    text        NOT NULL,
    window_unit  text        NOT NULL,                      -- day, month
    tag          text        NOT NULL DEFAULT '',           -- by whose values the lines are; '': by the dimensions of the roll-up
    window_start timestamptz   NOT NULL,
    sums         bytea       NOT NULL,                      -- all lines of the window, packed
    PRIMARY KEY (tenant, time_zone, window_unit, tag, window_start)
);
CREATE INDEX llm_usage_windows_start ON llm_usage_windows (window_unit, tag, window_start);

-- From when to when they are folded; offsets are those of the time zone then. The row of total is locked by whoever folds, and
-- its version changes whenever somebody has.
CREATE TABLE llm_usage_folds (
    tenant      uuid        NOT NULL,
    time_zone   text        NOT NULL,
    window_unit text        NOT NULL,
    tag         text        NOT NULL DEFAULT '',
    starts_at   timestamptz NOT NULL DEFAULT 'epoch',
    ends_at     timestamptz NOT NULL DEFAULT 'epoch',
    offsets     text        NOT NULL DEFAULT '',
    version     bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, time_zone, window_unit, tag)
);
INSERT INTO llm_usage_folds (tenant, time_zone, window_unit) VALUES ('00000000-0000-0000-0000-000000000002', '', 'total');

-- The values of tags that are told apart, of each a bounded number.
CREATE TABLE llm_usage_values (
    tag   text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (tag, value)
);

-- Hours of the roll-up that were changed when they were some hours old. Whoever changes such an hour adds a row in the same
-- transaction, and nobody else's row stands for it.
CREATE TABLE llm_usage_late (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant uuid        NOT NULL,
    hour   timestamptz NOT NULL
);
CREATE INDEX llm_usage_late_tenant ON llm_usage_late (tenant);

-- A process that has the ledger open. When its heartbeat is older than its lease, others end its running executions.
CREATE TABLE llm_processes (
    id         uuid        NOT NULL PRIMARY KEY,
    started_at timestamptz NOT NULL,
    beat_at    timestamptz NOT NULL,
    lease_ms   bigint      NOT NULL,
    zones      text        NOT NULL DEFAULT ''     -- JSON: the offsets of each time zone that it uses, by year
);

-- A threshold of a limit that was crossed in a window: once, whoever crosses it.
CREATE TABLE llm_thresholds (
    tenant       uuid NOT NULL,
    window_unit  text NOT NULL,
    agent        text NOT NULL,
    model        text NOT NULL,
    metric       text NOT NULL,
    amount       bigint NOT NULL,                          -- the limit at that moment
    window_start timestamptz NOT NULL,
    percent      bigint NOT NULL,
    crossed_at   timestamptz NOT NULL,
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
