package tenant_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// writeZone writes zone data in which a zone has the clocks of a rule, as POSIX writes it.
func writeZone(t *testing.T, dir, name, rule string) {
	t.Helper()
	var data bytes.Buffer
	block := func() {
		data.WriteString("TZif2" + strings.Repeat("\x00", 15))
		for _, n := range []uint32{0, 0, 0, 0, 1, 4} { // one type of time, named by four bytes
			require.NoError(t, binary.Write(&data, binary.BigEndian, n))
		}
		require.NoError(t, binary.Write(&data, binary.BigEndian, int32(0)))
		data.WriteString("\x00\x00LMT\x00")
	}
	block()
	block()
	data.WriteString("\n" + rule + "\n")
	file := filepath.Join(dir, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, data.Bytes(), 0o600))
}

// zoneListener says which zones another process sees otherwise.
type zoneListener struct{}

func (zoneListener) Observe(_ context.Context, e tenant.Event) {
	if d, ok := e.(*tenant.TimeZoneDiffersEvent); ok {
		say("differs %s %d %t", d.TimeZone, d.Year, d.ProcessID != d.OtherProcessID)
	}
}

// callInZone is a helper process that makes calls of a tenant in a time zone, and says what it is asked.
func callInZone(t *testing.T, db *gorm.DB, _ []string) {
	var log bytes.Buffer
	ledger, err := tenant.Open(db, tenant.WithLease(time.Second), tenant.WithObserver(zoneListener{}), tenant.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, err)
	for command := range commands() {
		switch command {
		case "call":
			require.NoError(t, call(t, ledger, acme, "0.25"))
			say("called")
		case "status":
			status, err := tenant.BudgetStatus(t.Context(), db, acme)
			require.NoError(t, err)
			say("%s, resets %s", status.Limits[0].Spent, status.Limits[0].ResetsAt.UTC().Format(time.RFC3339))
		case "processes":
			processes, err := tenant.Processes(t.Context(), db)
			require.NoError(t, err)
			for _, p := range processes {
				say("%t %t %v", p.Own, p.Alive, p.OtherTimeZones)
			}
		case "close":
			require.NoError(t, ledger.Close(t.Context()))
			say("logged %d", strings.Count(log.String(), "has other days in a time zone"))
		}
	}
}

func TestZones_ThatTwoProcessesSeeOtherwiseAreToldOnceByNameInBoth(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
		b.TimeZone, b.Limits.DailyCost = "America/Edmonton", tenant.USD("10")
		return nil
	}))
	require.NoError(t, ledger.Close(t.Context()))
	older, newer := t.TempDir(), t.TempDir()
	writeZone(t, older, "America/Edmonton", "MST7MDT,M3.2.0,M11.1.0")
	writeZone(t, newer, "America/Edmonton", "<-05>5") // never the same as with the older
	one := start(t, "zones", dsn, "ZONEINFO="+older)
	other := start(t, "zones", dsn, "ZONEINFO="+newer)
	told := map[*peer][]string{}
	hear := func(p *peer) string { // what it says of zones comes when it comes
		for {
			line := p.hear(t)
			if !strings.HasPrefix(line, "differs ") {
				return line
			}
			told[p] = append(told[p], line)
		}
	}
	ask := func(p *peer, command, want string) string {
		p.tell(t, command)
		got := hear(p)
		if want != "" {
			require.Equal(t, want, got)
		}
		return got
	}
	ask(one, "call", "called")
	opened := ask(one, "status", "")
	require.Contains(t, opened, "0.25, resets ")
	_, hour, _ := strings.Cut(opened, "T")
	require.Contains(t, []string{"07:00:00Z", "06:00:00Z"}, hour, "its own midnight, in winter or in summer")
	require.Equal(t, opened, ask(other, "status", ""), "the stored end holds for whoever sees another one")
	ask(other, "call", "called")
	require.Equal(t, strings.Replace(opened, "0.25", "0.5", 1), ask(one, "status", ""), "and both count in one window")

	differs := "differs America/Edmonton " + time.Now().UTC().Format("2006") + " true"
	tells := func(p *peer) {
		for len(told[p]) == 0 {
			told[p] = append(told[p], p.hear(t))
		}
		require.Equal(t, []string{differs}, told[p])
	}
	for _, p := range []*peer{one, other} {
		tells(p)
		p.tell(t, "processes")
		require.ElementsMatch(t, []string{"true true []", "false true [America/Edmonton]"}, []string{hear(p), hear(p)})
	}
	third := start(t, "zones", dsn, "ZONEINFO="+newer) // agrees with the newer
	ask(third, "call", "called")
	tells(third)
	third.tell(t, "processes")
	require.ElementsMatch(t, []string{"false true []", "true true []", "false true [America/Edmonton]"}, []string{hear(third), hear(third), hear(third)})
	for _, p := range []*peer{third, other, one} {
		ask(p, "close", "logged 1")
		require.NoError(t, p.in.Close())
		require.Empty(t, p.hearAll(), "nothing more was said")
	}
}

func TestProcesses_AreThoseThatHaveTheLedgerOpen(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		processes, err := tenant.Processes(t.Context(), db)
		require.NoError(t, err)
		require.Empty(t, processes, "it has made no call yet")
		require.NoError(t, call(t, ledger, acme, "1"))
		require.NoError(t, db.Exec(`INSERT INTO llm_processes (id, started_at, beat_at, lease_ms, zones) VALUES (?, ?, ?, 1000, ?)`,
			"01a00000-0000-7000-8000-000000000001", time.Now().UTC().Add(-time.Hour), time.Now().UTC().Add(-time.Hour), `{"UTC":""}`).Error)
		processes, err = tenant.Processes(t.Context(), db)
		require.NoError(t, err)
		require.Len(t, processes, 2)
		killed, own := processes[0], processes[1]
		require.Equal(t, []any{"01a00000-0000-7000-8000-000000000001", false, false, time.Second}, []any{killed.ID, killed.Own, killed.Alive, killed.Lease})
		require.Equal(t, []string{"UTC"}, killed.OtherTimeZones, "it does not know the zone")
		require.Equal(t, []any{true, true, 30 * time.Second}, []any{own.Own, own.Alive, own.Lease})
		require.Empty(t, own.OtherTimeZones)
		require.WithinDuration(t, time.Now(), own.BeatAt, time.Minute)
		require.False(t, own.BeatAt.Before(own.StartedAt))
	})
}

func TestZones_DifferFromTheFirstYearInWhichTheirOffsetsDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule       string
		own, other map[string]string
		want       map[string]int
	}{
		{"the same", map[string]string{"A/B": "2026 aa bb cc"}, map[string]string{"A/B": "2026 aa bb cc"}, map[string]int{}},
		{"another year", map[string]string{"A/B": "2026 aa bb cc"}, map[string]string{"A/B": "2026 aa bd ce"}, map[string]int{"A/B": 2027}},
		{"started in another year", map[string]string{"A/B": "2026 aa bb cc"}, map[string]string{"A/B": "2027 bb cc dd"}, map[string]int{}},
		{"started in another year, and another one", map[string]string{"A/B": "2026 aa bb cc"}, map[string]string{"A/B": "2027 bb cd dd"}, map[string]int{"A/B": 2028}},
		{"a zone that only one uses", map[string]string{"A/B": "2026 aa"}, map[string]string{"A/C": "2026 bb"}, map[string]int{}},
		{"a zone that the other does not know", map[string]string{"A/B": "2026 aa"}, map[string]string{"A/B": ""}, map[string]int{"A/B": 0}},
		{"a zone that this one does not know", map[string]string{"A/B": ""}, map[string]string{"A/B": "2026 aa"}, map[string]int{"A/B": 0}},
		{"a zone that neither knows", map[string]string{"A/B": ""}, map[string]string{"A/B": ""}, map[string]int{}},
		{"a version that stores none", map[string]string{"A/B": "2026 aa"}, nil, map[string]int{}},
		{"a version that stores something else", map[string]string{"A/B": "2026 aa"}, map[string]string{"A/B": "v2 xx"}, map[string]int{}},
		{"two zones", map[string]string{"A/B": "2026 aa bb", "A/C": "2026 aa bb"}, map[string]string{"A/B": "2026 ab bb", "A/C": "2026 aa bc"}, map[string]int{"A/B": 2026, "A/C": 2027}},
	} {
		require.Equal(t, c.want, tenant.ZoneDifferences(c.own, c.other), c.rule)
	}
}
