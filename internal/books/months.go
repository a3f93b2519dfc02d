package books

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// Executions by month, on PostgreSQL: partitions by ranges of ids, which tell the time of the process that made them. What was
// there before is one partition, and what no month was made for is in the last one, which has no end: a default partition
// would keep every other one from being detached beside calls.
const (
	executionsTable = "llm_executions"
	pastPartition   = "llm_executions_past"
	lastPartition   = "llm_executions_later"

	// monthsAhead is how many months are made ahead, and clocks how far those of processes may be from the database's.
	monthsAhead = 2
	clocks      = 48 * time.Hour

	// mostLookedAt is how large a partition may be, in bytes, that is looked through while everybody waits.
	mostLookedAt = 8 << 20

	// mostMoved is how many rows that no month was made for in time are moved into theirs.
	mostMoved = 10_000
)

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func partitionOf(month time.Time) string { return executionsTable + month.Format("_2006_01") }

// from is the least id of a month, or of any time.
func from(t time.Time) string {
	id := idAt(t)
	id[6], id[8] = 0, 0
	return "'" + id.String() + "'"
}

// Partitioned reports whether executions are kept by month.
func (b Books) Partitioned(ctx context.Context) (is bool, err error) {
	if !b.LocksRows {
		return false, nil
	}
	err = b.query(ctx)(`SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('`+executionsTable+`')`, nil,
		func(row sqldb.Row) error { return row.Scan(&is) })
	return is, err
}

// Partition has executions kept by month from the end of the present one on. It runs in a transaction of its caller, and keeps
// everybody from the table until that ends.
func (b Books) Partition(ctx context.Context) error {
	now, err := b.Now(ctx)
	if err != nil {
		return err
	}
	if _, err := b.Conn.ExecContext(ctx, `LOCK TABLE `+executionsTable+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return err
	}
	if is, err := b.Partitioned(ctx); err != nil || is {
		return err
	}
	var indexes []string
	if err := sqldb.List(ctx, b.Conn, &indexes, `SELECT pg_get_indexdef(indexrelid) FROM pg_index
		WHERE indrelid = to_regclass('`+executionsTable+`') AND NOT indisprimary ORDER BY indexrelid`); err != nil {
		return err
	}
	first := monthOf(now.Add(clocks)).AddDate(0, 1, 0)
	statements := []string{
		`ALTER TABLE ` + executionsTable + ` RENAME TO ` + pastPartition,
		`DO $$ DECLARE i record; BEGIN
			FOR i IN SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = to_regclass('` + pastPartition + `') LOOP
				EXECUTE format('ALTER INDEX %I RENAME TO %I', i.relname, replace(i.relname, '` + executionsTable + `', '` + pastPartition + `'));
			END LOOP; END $$`,
		`CREATE TABLE ` + executionsTable + ` (LIKE ` + pastPartition + ` INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (tenant, id)) PARTITION BY RANGE (id)`,
		// Whoever may use the table may use it as before.
		`DO $$ DECLARE g record; BEGIN
			FOR g IN SELECT a.privilege_type AS privilege, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS whom
				FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.oid = to_regclass('` + pastPartition + `') LOOP
				EXECUTE format('GRANT %s ON ` + executionsTable + ` TO %s', g.privilege, g.whom);
			END LOOP; END $$`,
	}
	for _, definition := range indexes {
		// As it was written, but for the schema that the server adds to the table's name.
		head, rest, _ := strings.Cut(definition, " ON ")
		_, columns, _ := strings.Cut(rest, " USING ")
		statements = append(statements, head+" ON "+executionsTable+" USING "+columns)
	}
	statements = append(statements,
		`ALTER TABLE `+executionsTable+` ATTACH PARTITION `+pastPartition+` FOR VALUES FROM (MINVALUE) TO (`+from(first)+`)`)
	next := first
	for range monthsAhead {
		statements = append(statements, createMonth(next))
		next = next.AddDate(0, 1, 0)
	}
	statements = append(statements, `CREATE TABLE `+lastPartition+` PARTITION OF `+executionsTable+` FOR VALUES FROM (`+from(next)+`) TO (MAXVALUE)`)
	for _, statement := range statements {
		if _, err := b.Conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.60s…: %w", statement, err)
		}
	}
	return b.securedAs(ctx, pastPartition)
}

func createMonth(month time.Time) string {
	return `CREATE TABLE ` + partitionOf(month) + ` PARTITION OF ` + executionsTable + ` FOR VALUES FROM (` + from(month) + `) TO (` + from(month.AddDate(0, 1, 0)) + `)`
}

// partitions are the names of those that there are.
func (b Books) partitions(ctx context.Context) (all []string, err error) {
	err = sqldb.List(ctx, b.Conn, &all, `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = to_regclass('`+executionsTable+`')`)
	slices.Sort(all)
	return all, err
}

// months are the months that have a partition, in their order.
func (b Books) months(ctx context.Context) (months []time.Time, err error) {
	all, err := b.partitions(ctx)
	for _, name := range all {
		if month, failed := time.Parse(executionsTable+"_2006_01", name); failed == nil {
			months = append(months, month)
		}
	}
	return months, err
}

// NextMonth makes the partition of the next month that is to be made ahead of the present. It reports false where none is. It
// runs in a short transaction of its caller, with a lock on the table.
func (b Books) NextMonth(ctx context.Context) (made bool, err error) {
	now, err := b.Now(ctx)
	if err != nil {
		return false, err
	}
	months, err := b.months(ctx)
	if err != nil || len(months) == 0 {
		return false, err
	}
	next := months[len(months)-1].AddDate(0, 1, 0)
	if next.After(monthOf(now.Add(clocks)).AddDate(0, monthsAhead, 0)) {
		return false, nil
	}
	if _, err := b.Conn.ExecContext(ctx, `LOCK TABLE `+executionsTable+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return false, err
	}
	if again, err := b.months(ctx); err != nil || len(again) != len(months) {
		return false, err // somebody else was first
	}
	after := from(next.AddDate(0, 1, 0))
	var late int
	if err := b.query(ctx)(`SELECT count(*) FROM (SELECT 1 FROM `+lastPartition+` LIMIT `+fmt.Sprint(mostMoved+1)+`) x`, nil,
		func(row sqldb.Row) error { return row.Scan(&late) }); err != nil || late > mostMoved {
		return false, err
	}
	statements := []string{`ALTER TABLE ` + executionsTable + ` DETACH PARTITION ` + lastPartition, createMonth(next)}
	if late > 0 {
		statements = append(statements,
			`INSERT INTO `+executionsTable+` SELECT * FROM `+lastPartition+` WHERE id < `+after,
			`DELETE FROM `+lastPartition+` WHERE id < `+after)
	}
	statements = append(statements, `ALTER TABLE `+executionsTable+` ATTACH PARTITION `+lastPartition+` FOR VALUES FROM (`+after+`) TO (MAXVALUE)`)
	for _, statement := range statements {
		if _, err := b.Conn.ExecContext(ctx, statement); err != nil {
			return false, fmt.Errorf("%.60s…: %w", statement, err)
		}
	}
	return true, nil
}

// Emptied are the partitions whose executions were all made before a time, by any process's clock, and are all gone, as far as the
// role may drop them.
func (b Books) Emptied(ctx context.Context, before time.Time) (names []string, err error) {
	all, err := b.partitions(ctx)
	if err != nil {
		return nil, err
	}
	months, err := b.months(ctx)
	if err != nil || len(months) == 0 {
		return nil, err
	}
	for _, partition := range all {
		end := months[0]
		if partition != pastPartition {
			month, failed := time.Parse(executionsTable+"_2006_01", partition)
			if failed != nil {
				continue
			}
			end = month.AddDate(0, 1, 0)
		}
		if end.Add(clocks).After(before) || partition == partitionOf(months[len(months)-1]) {
			continue
		}
		if may, err := b.owns(ctx, partition); err != nil || !may {
			return nil, err
		}
		full, err := b.holds(ctx, partition)
		if err != nil {
			return nil, err
		}
		if !full {
			names = append(names, partition)
		}
	}
	return names, nil
}

// Shrink gives back the pages of a partition that nothing is left of, so that to look at it once more, while everybody waits, takes no time.
// An open snapshot keeps it from that. It runs in no transaction.
func (b Books) Shrink(ctx context.Context, partition string) error {
	_, err := b.Conn.ExecContext(ctx, `VACUUM (SKIP_LOCKED) `+partition)
	return err
}

// DropMonth drops a partition that is empty and small. It reports whether it has. It runs in a short transaction of its caller, which
// does not wait for locks for long: calls wait behind it.
func (b Books) DropMonth(ctx context.Context, partition string) (dropped bool, err error) {
	if _, err := b.Conn.ExecContext(ctx, `LOCK TABLE ONLY `+executionsTable+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return false, err
	}
	if _, err := b.Conn.ExecContext(ctx, `LOCK TABLE ONLY `+partition+` IN ACCESS EXCLUSIVE MODE`); err != nil {
		return false, err
	}
	var large bool
	if err := b.query(ctx)(fmt.Sprintf(`SELECT pg_relation_size('%s') > %d`, partition, mostLookedAt), nil,
		func(row sqldb.Row) error { return row.Scan(&large) }); err != nil || large {
		return false, err
	}
	if full, err := b.holds(ctx, partition); err != nil || full {
		return false, err
	}
	for _, statement := range []string{`ALTER TABLE ` + executionsTable + ` DETACH PARTITION ` + partition, `DROP TABLE ` + partition} {
		if _, err := b.Conn.ExecContext(ctx, statement); err != nil {
			return false, err
		}
	}
	return true, nil
}

// owns reports whether the role may change a table.
func (b Books) owns(ctx context.Context, table string) (may bool, err error) {
	err = b.query(ctx)(`SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('`+table+`')`, nil,
		func(row sqldb.Row) error { return row.Scan(&may) })
	return may, err
}

// holds reports whether there is a row in a partition.
func (b Books) holds(ctx context.Context, partition string) (is bool, err error) {
	err = b.query(ctx)(`SELECT EXISTS (SELECT 1 FROM `+partition+`)`, nil, func(row sqldb.Row) error { return row.Scan(&is) })
	return is, err
}
