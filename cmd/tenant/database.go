package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/glebarez/sqlite"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
)

// app is what a command has.
type app struct {
	*cli
	parser   *kong.Kong
	in       *os.File
	out      *output
	problems *output
}

// urlVariable is the environment variable with the database's URL.
const urlVariable = "TENANT_DATABASE_URL"

const urlForms = "postgres://user@host/database or sqlite:FILE"

// address is the database's URL, and how a message calls it where it came from.
func (a *app) address() (address, from string, err error) {
	switch {
	case a.Database != "" && a.DatabaseFile != "":
		return "", "", wrong("--database and --database-file are both given; give one")
	case a.Database != "":
		return a.Database, "--database", nil
	case a.DatabaseFile != "":
		content, err := os.ReadFile(a.DatabaseFile)
		if err != nil {
			return "", "", wrong("--database-file: %v", err)
		}
		if address = strings.TrimSpace(string(content)); address == "" {
			return "", "", wrong("--database-file: %s is empty; it is to have a URL, %s", a.DatabaseFile, urlForms)
		}
		return address, "--database-file", nil
	}
	if address = os.Getenv(urlVariable); address == "" {
		return "", "", wrong("no database is given: set %s, or give --database-file FILE or --database URL, with a URL like %s", urlVariable, urlForms)
	}
	return address, "$" + urlVariable, nil
}

// connect opens the database. Its errors never repeat the URL, which may have a password.
func (a *app) connect(creates bool) (*gorm.DB, string, error) {
	address, from, err := a.address()
	if err != nil {
		return nil, "", err
	}
	scheme, rest, ok := strings.Cut(address, ":")
	dialector, name := gorm.Dialector(nil), ""
	switch {
	case ok && (scheme == "postgres" || scheme == "postgresql") && strings.HasPrefix(rest, "//"):
		dialector, name, err = postgresAt(address, from)
	case ok && scheme == "sqlite":
		dialector, name, err = sqliteAt(rest, from, creates)
	case ok && isScheme(scheme) && strings.HasPrefix(rest, "//"):
		err = wrong("%s: the ledger runs on PostgreSQL and SQLite, and not on %s://; give %s", from, scheme, urlForms)
	default:
		err = wrong("%s: it is no URL; give %s", from, urlForms)
	}
	if err != nil {
		return nil, "", err
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	return db, name, nil
}

func isScheme(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

func postgresAt(address, from string) (gorm.Dialector, string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, "", wrong("%s: it is no URL that can be read; a password's special characters are written %%40 and so on", from)
	}
	query := u.Query()
	_, has := u.User.Password()
	if from == "--database" && (has || query.Has("password") || query.Has("sslpassword")) {
		return nil, "", wrong("--database has a password, which every user of this machine sees in the list of processes; "+
			"put the URL into $%s or a --database-file, or the password alone into PGPASSFILE (~/.pgpass) or PGPASSWORD", urlVariable)
	}
	if !query.Has("connect_timeout") {
		query.Set("connect_timeout", "10") // seconds
	}
	if !query.Has("application_name") {
		query.Set("application_name", "tenant")
	}
	u.RawQuery = query.Encode()
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, "", wrong("%s: PostgreSQL cannot be reached with this URL: %v", from, causeOf(err))
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(8)
	name := (&url.URL{Scheme: "postgres", User: url.User(config.User), Host: fmt.Sprintf("%s:%d", config.Host, config.Port), Path: config.Database}).String()
	return postgres.New(postgres.Config{Conn: pool}), name, nil
}

// causeOf is what pgx found wrong with a URL, without the URL.
func causeOf(err error) string {
	cause := errors.Unwrap(err)
	if inner := (*url.Error)(nil); cause == nil || errors.As(err, &inner) {
		return "a part of it is invalid"
	}
	return oneLine(cause.Error())
}

func sqliteAt(rest, from string, creates bool) (gorm.Dialector, string, error) {
	file := strings.TrimPrefix(rest, "//")
	switch {
	case file == "":
		return nil, "", wrong("%s: the URL names no file; give sqlite:FILE", from)
	case strings.Contains(file, "?") || file == ":memory:":
		return nil, "", wrong("%s: the ledger needs a file, by its name alone: sqlite:FILE", from)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, "", err
	}
	flags := os.O_RDWR
	if creates {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(file, flags, 0o600) //nolint:gosec // whoever types the command says which
	switch {
	case errors.Is(err, os.ErrNotExist) && !creates:
		return nil, "", fmt.Errorf("there is no file %s; `tenant migrate` makes it", file)
	case err != nil:
		return nil, "", err
	}
	if err := f.Close(); err != nil {
		return nil, "", err
	}
	return sqlite.Open(file + "?_pragma=busy_timeout(10000)"), "sqlite:" + file, nil
}

// ledger is an open ledger with what it is open on.
type ledger struct {
	*tenant.Ledger
	db   *gorm.DB
	name string // of the database, without a password
	zone *time.Location

	places []string // beside the home
}

// open opens the ledger. Unknown tenants are refused, unless an option says otherwise.
func (a *app) open(ctx context.Context, options ...tenant.OpenOption) (*ledger, func(), error) {
	return a.openOn(ctx, false, append([]tenant.OpenOption{tenant.WithKnownTenantsOnly()}, options...))
}

// openAt opens the ledger and looks at one tenant.
func (a *app) openAt(ctx context.Context, id tenant.ID) (*ledger, *shown, func(), error) {
	l, end, err := a.open(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := look(ctx, l.db, id)
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	return l, s, end, nil
}

func (a *app) openOn(ctx context.Context, migrates bool, options []tenant.OpenOption) (*ledger, func(), error) {
	db, name, err := a.connect(migrates)
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, err
	}
	l := &ledger{db: db, name: name}
	fail := func(err error) (*ledger, func(), error) {
		_ = pool.Close() // nothing was written
		return nil, nil, err
	}
	if err := pool.PingContext(ctx); err != nil {
		return fail(fmt.Errorf("%s cannot be used: %w", name, err))
	}
	days, err := a.days()
	if err != nil {
		return fail(err)
	}
	log := slog.New(slog.NewTextHandler(a.problems, &slog.HandlerOptions{Level: slog.LevelWarn}))
	places, err := tenant.Places(ctx, db)
	switch {
	case errors.Is(err, tenant.ErrNotMigrated): // which is told once it is known what is to be done
	case err != nil:
		return fail(fmt.Errorf("%s cannot be used: %w", name, err))
	case len(places) > 0:
		l.places = places
		options = append(options, tenant.WithPlaces(places...))
	}
	open := func() (err error) {
		all := append([]tenant.OpenOption{
			tenant.WithLogger(log), tenant.WithObserver(silent{}), tenant.WithDefaultsUnsaved(),
			tenant.WithDefaultTimeZone(days.TimeZone), tenant.WithWeekStart(days.WeekStart),
		}, options...)
		l.Ledger, err = tenant.Open(db, all...)
		return err
	}
	if err := open(); err != nil {
		return fail(err)
	}
	if !migrates {
		saved, err := l.SavedDays(ctx)
		switch {
		case errors.Is(err, tenant.ErrNotMigrated):
			saved = days // whatever needs the tables says that they are not there
		case err != nil:
			return fail(err)
		}
		if chosen := a.settled(saved); chosen != days {
			if err := l.Close(ctx); err != nil {
				return fail(err)
			}
			days = chosen
			if err := open(); err != nil {
				return fail(err)
			}
		}
	}
	if l.zone, err = time.LoadLocation(days.TimeZone); err != nil {
		return fail(err)
	}
	end := func() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := l.Close(within); err != nil {
			a.problems.say("tenant: %s", oneLine(err.Error()))
		}
		_ = pool.Close() // what was committed is
	}
	if !migrates {
		if err := l.suits(ctx); err != nil {
			end()
			return nil, nil, err
		}
	}
	return l, end, nil
}

// days are those that the flags say, otherwise UTC and Monday.
func (a *app) days() (days tenant.SavedDays, err error) {
	days = tenant.SavedDays{TimeZone: "UTC", WeekStart: time.Monday}
	if a.TimeZone != "" {
		days.TimeZone = a.TimeZone
	}
	if _, err := time.LoadLocation(days.TimeZone); err != nil || days.TimeZone == "Local" {
		return days, wrong("--time-zone: %q is no IANA name such as Europe/Berlin", a.TimeZone)
	}
	if a.WeekStart == "sunday" {
		days.WeekStart = time.Sunday
	}
	return days, nil
}

// settled is what is saved, but for what the flags say. Where they say something else, that is told.
func (a *app) settled(saved tenant.SavedDays) tenant.SavedDays {
	days, _ := a.days()
	differ := func(flag, given, its string) {
		if given != its {
			a.problems.say("tenant: --%s is %s, and the programs of this ledger have %s: days, weeks and months are not theirs", flag, given, its)
		}
	}
	if a.TimeZone == "" {
		days.TimeZone = saved.TimeZone
	}
	if a.WeekStart == "" {
		days.WeekStart = saved.WeekStart
	}
	differ("time-zone", days.TimeZone, saved.TimeZone)
	differ("week-start", strings.ToLower(days.WeekStart.String()), strings.ToLower(saved.WeekStart.String()))
	return days
}

// suits returns an error where the tables are of another version of the library.
func (l *ledger) suits(ctx context.Context) error {
	schema, err := l.MigrationStatus(ctx)
	switch {
	case err != nil:
		return err
	case schema.Applied > schema.Latest:
		return fmt.Errorf("the database has the ledger's tables in version %d, and this command knows %d: it is too old, install a newer one",
			schema.Applied, schema.Latest)
	case len(schema.Behind()) > 0:
		return fmt.Errorf("the tables of the place %s are older than version %d, which this command needs; to bring them up to date, type `tenant migrate`",
			strings.Join(schema.Behind(), ", "), schema.Latest)
	case schema.Applied > 0 && schema.Applied < schema.Latest:
		return fmt.Errorf("the database has the ledger's tables in version %d, and this command needs %d; to bring them up to date, type `tenant migrate`",
			schema.Applied, schema.Latest)
	}
	return nil
}

// silent is an observer that hears nothing: what a command does, it prints.
type silent struct{}

// Observe implements tenant.Observer.
func (silent) Observe(context.Context, tenant.Event) {}

// acting is ctx with who acts, and why.
func (a *app) acting(ctx context.Context, reason string) context.Context {
	ctx = tenant.ContextWithActor(ctx, a.actor())
	if reason != "" {
		ctx = tenant.ContextWithReason(ctx, reason)
	}
	return ctx
}

func (a *app) actor() string {
	if a.Actor != "" {
		return a.Actor
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}
