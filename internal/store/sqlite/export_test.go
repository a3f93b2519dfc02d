package sqlite

// Queries are what a batch reads with.
var Queries = []string{locked, tenants, limits, balances, executions, idempotent, processes}
