package sqlite

import "github.com/llmtenant/tenant/internal/book"

// Queries are what a batch reads with, and what it finds the executions with that it ends.
var Queries = []string{chains, locked, tenants, balances, executions, idempotent, processes, ending(1), ending(atOnce)}

func ending(executions int) string {
	rows := make([]book.Update, executions)
	for i := range rows {
		rows[i].Execution = &book.Execution{}
	}
	text, _ := updateExecution.all.appendSQL(nil, nil, rows)
	return string(text)
}
