package sqlite

// Queries are what a batch reads with, and what it finds the executions with that it ends.
var Queries = []string{chains, locked, tenants, limits, balances, executions, idempotent, processes, updateExecution.sql(1), updateExecution.full}
