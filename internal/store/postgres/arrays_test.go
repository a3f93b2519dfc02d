package postgres

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestArrays_ArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	at := time.Date(2026, 11, 24, 10, 30, 0, 123456000, time.UTC)
	for _, c := range []struct {
		kind   string
		values any
		text   string
	}{
		{"bigint", []int64{0, -1, math.MinInt64, math.MaxInt64}, "{0,-1,-9223372036854775808,9223372036854775807}"},
		{"bigint", []int64{}, "{}"},
		{"bigint", []*int64{nil, new(int64)}, "{NULL,0}"},
		{"boolean", []bool{true, false}, "{t,f}"},
		{"text", []string{"", "NULL", `a "quoted", {braced} \ one`, "ü"}, `{"","NULL","a \"quoted\", {braced} \\ one",ü}`},
		{"text", []string{}, "{}"},
		{"uuid", [][16]byte{{}, {15: 1}}, "{00000000-0000-0000-0000-000000000000,00000000-0000-0000-0000-000000000001}"},
		{"uuid", [][16]byte{}, "{}"},
		{"timestamptz", []time.Time{at, time.Unix(0, 0)}, `{"2026-11-24 10:30:00.123456+00","1970-01-01 00:00:00+00"}`},
		{"timestamptz", []*time.Time{nil, &at, nil}, `{NULL,"2026-11-24 10:30:00.123456+00",NULL}`},
	} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			config, err := pgx.ParseConfig(dsn)
			require.NoError(t, err)
			config.DefaultQueryExecMode = mode
			config.RuntimeParams["timezone"] = "UTC"
			conn, err := pgx.ConnectConfig(t.Context(), config)
			require.NoError(t, err)
			r := request{untyped: untyped(conn)}
			var got string
			r.Queue("SELECT ($1::"+c.kind+"[])::text", c.values).QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
			require.NoError(t, conn.SendBatch(t.Context(), &r.Batch).Close(), "%s %v in mode %v", c.kind, c.values, mode)
			require.Equal(t, c.text, got, "%s %v in mode %v", c.kind, c.values, mode)
			require.NoError(t, conn.Close(t.Context()))
		}
	}
}

func TestArrays_AreEncodedWithoutMemoryForEachElement(t *testing.T) { //nolint:paralleltest // allocations are counted process-wide
	m := pgtype.NewMap()
	buffer := make([]byte, 0, 1<<16)
	for _, c := range []struct {
		oid    uint32
		values func(n int) any
	}{
		{pgtype.UUIDArrayOID, func(n int) any { return make([][16]byte, n) }},
		{pgtype.TextArrayOID, func(n int) any { return slices.Repeat([]string{"an empty one needs no memory anyway"}, n) }},
		{pgtype.Int8ArrayOID, func(n int) any { return make([]int64, n) }},
		{pgtype.TimestamptzArrayOID, func(n int) any { return make([]time.Time, n) }},
		{pgtype.TimestamptzArrayOID, func(n int) any {
			values := make([]*time.Time, n)
			for i := range values {
				values[i] = new(time.Time)
			}
			return values
		}},
	} {
		allocated := func(n int) float64 {
			values := c.values(n)
			return testing.AllocsPerRun(10, func() {
				arg, format := argument(values), m.FormatCodeForOID(c.oid)
				if _, ok := arg.(string); ok {
					format = pgtype.TextFormatCode
				}
				_, err := m.Encode(c.oid, format, arg, buffer)
				require.NoError(t, err)
			})
		}
		require.Equal(t, allocated(1), allocated(500), "oid %d", c.oid)
	}
}
