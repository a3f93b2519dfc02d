package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant"
)

// renames are the ways in which a record gets another key and name. Each is given the record as it is, and what it is to
// be called.
func renames() map[string]func(ctx context.Context, db *gorm.DB, p Project, to string) error {
	type patch struct{ Slug, Name string }
	return map[string]func(ctx context.Context, db *gorm.DB, p Project, to string) error{
		"Save": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			p.Slug, p.Name = to, "Name "+to
			return db.Save(&p).Error
		},
		"Save of a slice": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			p.Slug, p.Name = to, "Name "+to
			return db.Save(&[]Project{p}).Error
		},
		"Updates with a struct": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&p).Updates(Project{Slug: to, Name: "Name " + to}).Error
		},
		"Updates with a struct that has its id": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&Project{}).Where("id = ?", p.ID).Updates(Project{ID: p.ID, Slug: to, Name: "Name " + to}).Error
		},
		"Updates with another struct": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&p).Updates(patch{to, "Name " + to}).Error
		},
		"Updates with a map of columns": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&p).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"Updates with a map of fields": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(Project{}).Where(&Project{ID: p.ID}).Updates(map[string]any{"Slug": to, "Name": "Name " + to}).Error
		},
		"Update and UpdateColumn": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return errors.Join(db.Model(&p).Update("slug", to).Error, db.Model(&p).UpdateColumn("name", "Name "+to).Error)
		},
		"Select": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&p).Select("Slug", "Name").Updates(Project{Slug: to, Name: "Name " + to, Notes: "no"}).Error
		},
		"an expression": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&p).Updates(map[string]any{"slug": gorm.Expr("? || ''", to), "name": gorm.Expr("'Name ' || ?", to)}).Error
		},
		"a subquery": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			ids := db.Model(&Project{}).Select("id").Where("slug = ?", p.Slug)
			return db.Model(&Project{}).Where("id IN (?)", ids).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"a condition on the old key": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&Project{}).Where("slug = ? OR slug = ?", p.Slug, "nobody").Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"a model with a slice": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&[]*Project{{ID: p.ID}}).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"Scopes": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Model(&Project{}).Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("id = ?", p.ID) }).
				Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"the table alone": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			table := db.NamingStrategy.TableName("Project")
			return db.Table(table).Where("id = ?", p.ID).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"the table with an alias": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			table := db.NamingStrategy.TableName("Project")
			return db.Table(table+" AS p").Where("p.id = ?", p.ID).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"SkipHooks": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Session(&gorm.Session{SkipHooks: true}).Model(&p).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
		},
		"Returning": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			var back []Project
			err := db.Model(&back).Clauses(clause.Returning{}).Where("id = ?", p.ID).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
			if err == nil && (len(back) != 1 || back[0].Slug != to) {
				return fmt.Errorf("returned %+v", back)
			}
			return err
		},
		"the generic API": func(ctx context.Context, db *gorm.DB, p Project, to string) error {
			n, err := gorm.G[Project](db).Where("id = ?", p.ID).Updates(ctx, Project{Slug: to, Name: "Name " + to})
			if err == nil && n != 1 {
				return fmt.Errorf("%d rows", n)
			}
			return err
		},
		"the generic API, one column": func(ctx context.Context, db *gorm.DB, p Project, to string) error {
			if _, err := gorm.G[Project](db).Where("id = ?", p.ID).Update(ctx, "name", "Name "+to); err != nil {
				return err
			}
			_, err := gorm.G[Project](db).Where("id = ?", p.ID).Update(ctx, "slug", to)
			return err
		},
		"an upsert by primary key": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"slug", "name"})}).
				Create(&Project{ID: p.ID, Slug: to, Name: "Name " + to}).Error
		},
		"an upsert by key that changes the key": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "slug"}}, DoUpdates: clause.Assignments(map[string]any{"slug": to, "name": "Name " + to})}).
				Create(&Project{Slug: p.Slug}).Error
		},
		"the host's transaction": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Transaction(func(tx *gorm.DB) error {
				return tx.Transaction(func(inner *gorm.DB) error {
					return inner.Model(&p).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
				})
			})
		},
		"after a savepoint was rolled back": func(_ context.Context, db *gorm.DB, p Project, to string) error {
			return db.Transaction(func(tx *gorm.DB) error {
				tx.SavePoint("mine")
				if err := tx.Model(&p).Update("slug", "elsewhere").Error; err != nil {
					return err
				}
				tx.RollbackTo("mine")
				return tx.Model(&p).Updates(map[string]any{"slug": to, "name": "Name " + to}).Error
			})
		},
	}
}

func TestUpdate_OfAKeyKeepsBudgetSpentAmountsAndHistory(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar, tenant.WithEnforcement(tenant.Hard)))
		table := db.NamingStrategy.TableName("Project")
		i := 0
		for way, rename := range renames() {
			i++
			from, to := fmt.Sprintf("from-%d", i), fmt.Sprintf("to-%d", i)
			p := Project{Slug: from, Name: "Name " + from}
			require.NoError(t, db.Create(&p).Error, way)
			before := rowOf(t, db, table, p.ID)
			require.Equal(t, [2]string{from, "Name " + from}, [2]string{before.key(), before.Name}, way)
			stale := p
			spendCent(t, ledger, ledger.Tenant(p))
			running, err := ledger.Reserve(t.Context(), ledger.Tenant(p), tenant.Estimate{Cost: tenant.USD("0.50")})
			require.NoError(t, err, way)

			require.NoError(t, rename(t.Context(), db, p, to), way)

			after := rowOf(t, db, table, p.ID)
			want := before
			want.TenantID, want.Name = &to, "Name "+to
			require.Equal(t, want, after, "%s: one row changed, in two columns", way)
			require.NoError(t, db.First(&p, p.ID).Error, way)
			require.Equal(t, to, p.Slug, way)

			// The running call of the old key and the next call of the new one meet on the same balances.
			_, err = ledger.Reserve(t.Context(), ledger.Tenant(p), tenant.Estimate{Cost: tenant.USD("0.60")}, tenant.WithWait(0))
			require.ErrorIs(t, err, tenant.ErrBudgetExceeded, way)
			_, err = ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.02")})
			require.NoError(t, err, way)
			spendCent(t, ledger, ledger.Tenant(stale)) // which somebody still has in memory
			require.Equal(t, balance{SpentCost: 4e7, SpentCalls: 3}, balanceOf(t, db, to, "day"), way)
			var executions []tenant.Execution
			require.NoError(t, tenant.Executions(t.Context(), db, ledger.Tenant(p)).Order("id").Find(&executions).Error)
			require.Len(t, executions, 3, way)
			require.Equal(t, [3]string{from, from, to}, [3]string{executions[0].TenantID, executions[1].TenantID, executions[2].TenantID}, way)

			// The old key is free, and whoever takes it inherits nothing.
			heir := Project{Slug: from}
			require.NoError(t, db.Create(&heir).Error, way)
			cost, err := tenant.CostToday(t.Context(), db, ledger.Tenant(heir))
			require.NoError(t, err)
			require.True(t, cost.IsZero(), way)
			require.NotEqual(t, after.ID, rowOf(t, db, table, heir.ID).ID, way)
		}
		var tenants int
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_tenants`).Scan(&tenants).Error)
		require.Equal(t, 2*i, tenants)
		requireConservation(t, db)
	})
}

func TestUpdate_ThatFailsOrIsRolledBackOrDryLeavesTheTenantAsItWas(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		table := db.NamingStrategy.TableName("Project")
		a, b := Project{Slug: "a", Name: "A"}, Project{Slug: "b", Name: "B"}
		require.NoError(t, db.Create(&a).Error)
		require.NoError(t, db.Create(&b).Error)
		before := rowOf(t, db, table, a.ID)
		for way, update := range map[string]func() error{
			"rolled back": func() error {
				return db.Transaction(func(tx *gorm.DB) error {
					if err := tx.Model(&Project{ID: a.ID}).Update("slug", "x").Error; err != nil {
						return err
					}
					return errors.New("no")
				})
			},
			"the host's own constraint": func() error { return db.Model(&Project{ID: a.ID}).Update("slug", "b").Error },
			"an impossible key":         func() error { return db.Model(&Project{ID: a.ID}).Update("slug", "").Error },
			"no condition": func() error {
				if db.AllowGlobalUpdate {
					return errors.New("it would be allowed")
				}
				return db.Model(&Project{}).Update("slug", "x").Error
			},
			"an unknown column": func() error {
				return db.Model(&Project{ID: a.ID}).Updates(map[string]any{"slug": "x", "colour": "red"}).Error
			},
		} {
			require.Error(t, update(), way)
			require.Equal(t, before, rowOf(t, db, table, a.ID), way)
			var now Project
			require.NoError(t, db.First(&now, a.ID).Error)
			require.Equal(t, "a", now.Slug, way)
		}
		dry := db.Session(&gorm.Session{DryRun: true}).Model(&Project{ID: a.ID}).Update("slug", "x")
		require.NoError(t, dry.Error)
		require.NotContains(t, dry.Statement.SQL.String(), "llm_")
		require.Contains(t, db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Model(&Project{ID: a.ID}).Update("slug", "x") }), "UPDATE")
		require.Equal(t, before, rowOf(t, db, table, a.ID))

		// In the host's transaction the change is undone, and the transaction goes on.
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Model(&Project{ID: a.ID}).Update("slug", "bad\x01").Error; !errors.Is(err, tenant.ErrInvalidTenant) {
				return fmt.Errorf("not refused: %w", err)
			}
			return tx.Model(&Project{ID: b.ID}).Update("slug", "good").Error
		}))
		require.Equal(t, before, rowOf(t, db, table, a.ID))
		require.Equal(t, "good", rowOf(t, db, table, b.ID).key())
		var slugs []string
		require.NoError(t, db.Model(&Project{}).Order("id").Pluck("slug", &slugs).Error)
		require.Equal(t, []string{"a", "good"}, slugs)
	})
}

func TestUpdate_OfOtherColumnsOnlyAsksTheLedgerNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		p := Project{Slug: "a"}
		require.NoError(t, db.Create(&p).Error)
		require.NoError(t, db.Exec(`ALTER TABLE llm_tenants RENAME TO away`).Error)
		require.NoError(t, db.Model(&p).Updates(Project{Notes: "n"}).Error)
		require.NoError(t, db.Model(&Project{}).Where("id > 0").Update("notes", gorm.Expr("slug")).Error)
		require.ErrorIs(t, db.Model(&p).Update("name", "n").Error, tenant.ErrNotMigrated)
		require.NoError(t, db.Exec(`ALTER TABLE away RENAME TO llm_tenants`).Error)
		require.NoError(t, db.Model(&p).Update("name", "n").Error)
		require.Equal(t, "n", rowOf(t, db, "projects", p.ID).Name)
	})
}

func TestUpdate_OfVeryManyKeysAtOnceFollowsInOneStatement(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		const n = 2500 // several chunks of each kind
		many := make([]Project, n)
		for i := range many {
			many[i].Slug = fmt.Sprintf("p%04d", i)
		}
		require.NoError(t, db.CreateInBatches(&many, 700).Error)
		// Each key becomes that of the next: none of them is free before the last one has moved.
		require.NoError(t, db.Exec(`DROP INDEX idx_projects_slug`).Error)
		before := rowOf(t, db, "projects", many[0].ID)
		require.NoError(t, db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Project{}).
			Update("slug", gorm.Expr("'p' || substr(CAST(10000 + (CAST(substr(slug, 2) AS integer) + 1) % ? AS text), 2)", n)).Error)
		require.Equal(t, before.ID, rowOf(t, db, "projects", many[0].ID).ID)
		var wrong int
		require.NoError(t, db.Raw(`SELECT count(*) FROM projects p LEFT JOIN llm_tenants t ON t.owner_type = 'projects' AND t.owner_id = CAST(p.id AS text)
			AND t.tenant_id = p.slug AND t.name = p.slug WHERE t.id IS NULL`).Scan(&wrong).Error)
		require.Zero(t, wrong)
		require.Equal(t, "p0001", rowOf(t, db, "projects", many[0].ID).key())
		require.Equal(t, "p0000", rowOf(t, db, "projects", many[n-1].ID).key())
	})
}

func TestUpdate_SwapsTheKeysOfTwoRecordsInOneStatement(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Assignment{}))
		require.NoError(t, db.Exec(`DROP INDEX idx_assignments_slug`).Error)
		require.NoError(t, ledger.Register(&Assignment{}, tenant.WithKey("Slug"), dollar))
		a, b := Assignment{Slug: "a"}, Assignment{Slug: "b"}
		require.NoError(t, db.Create(&a).Error)
		require.NoError(t, db.Create(&b).Error)
		spendCent(t, ledger, tenant.ID("a"))
		was := [2]string{rowOf(t, db, "assignments", a.ID).ID, rowOf(t, db, "assignments", b.ID).ID}
		require.NoError(t, db.Model(&Assignment{}).Where("id IN ?", []uint{a.ID, b.ID}).
			Update("slug", gorm.Expr("CASE slug WHEN 'a' THEN 'b' ELSE 'a' END")).Error)
		is := [2]tenantRow{rowOf(t, db, "assignments", a.ID), rowOf(t, db, "assignments", b.ID)}
		require.Equal(t, was[0], is[0].ID)
		require.Equal(t, was[1], is[1].ID)
		require.Equal(t, [2]string{"b", "a"}, [2]string{is[0].key(), is[1].key()})
		require.EqualValues(t, 1, balanceOf(t, db, "b", "day").SpentCalls)

		// Two records are never given one key.
		err := db.Model(&Assignment{}).Where("id IN ?", []uint{a.ID, b.ID}).Update("slug", "same").Error
		require.ErrorIs(t, err, tenant.ErrIdentityConflict)
		require.ErrorContains(t, err, fmt.Sprintf("belongs to assignments %d", a.ID))
		require.Equal(t, is[0], rowOf(t, db, "assignments", a.ID))
		require.Equal(t, is[1], rowOf(t, db, "assignments", b.ID))
	})
}

func TestUpdate_OfAPrimaryKeyIsAnErrorAndDeletesNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}, &byTwo{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		require.NoError(t, ledger.Register(&byTwo{}, dollar))
		a, b, two := Project{Slug: "a"}, Project{Slug: "b"}, byTwo{"eu", 1}
		for _, record := range []any{&a, &b, &two} {
			require.NoError(t, db.Create(record).Error)
		}
		before := [2]tenantRow{rowOf(t, db, "projects", a.ID), rowOf(t, db, "by_two_columns", `["eu","1"]`)}
		for way, update := range map[string]func() *gorm.DB{
			"a value":               func() *gorm.DB { return db.Model(&Project{ID: a.ID}).Update("id", 99) },
			"that of another":       func() *gorm.DB { return db.Model(&Project{ID: a.ID}).Updates(Project{ID: 99, Notes: "x"}) },
			"an expression":         func() *gorm.DB { return db.Model(&Project{}).Where("slug = 'a'").Update("id", gorm.Expr("id + 100")) },
			"of several":            func() *gorm.DB { return db.Model(&Project{}).Where("slug <> ''").Update("id", gorm.Expr("id + 100")) },
			"a swap":                func() *gorm.DB { return db.Model(&Project{}).Where("id IN (1, 2)").Update("id", gorm.Expr("3 - id")) },
			"one column of several": func() *gorm.DB { return db.Model(&byTwo{}).Where("number = 1").Update("region", "us") },
		} {
			err := update().Error
			require.ErrorIs(t, err, tenant.ErrInvalidTenant, way)
			require.ErrorContains(t, err, "primary key", way)
		}
		require.Equal(t, before[0], rowOf(t, db, "projects", a.ID))
		require.Equal(t, before[1], rowOf(t, db, "by_two_columns", `["eu","1"]`))
		var slugs []string
		require.NoError(t, db.Model(&Project{}).Where("id IN ?", []uint{a.ID, b.ID}).Order("id").Pluck("slug", &slugs).Error)
		require.Equal(t, []string{"a", "b"}, slugs)
	})
}

func TestUpdate_FollowsTheRecordsThatItHasWrittenWhoeverElseWritesMeanwhile(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		p := Project{Slug: "a"}
		require.NoError(t, db.Create(&p).Error)
		// The last thing before the update.
		require.NoError(t, db.Callback().Update().After("llmtenant:before_update").Before("gorm:update").Register("test:insert", func(tx *gorm.DB) {
			require.NoError(t, tx.Session(&gorm.Session{NewDB: true}).Create(&Project{Slug: "b"}).Error)
		}))
		done := db.Model(&Project{}).Where("id > 0").Update("name", "x")
		require.NoError(t, done.Error)
		require.EqualValues(t, 2, done.RowsAffected)
		require.NoError(t, db.Callback().Update().Remove("test:insert"))
		for _, p := range []Project{{ID: p.ID, Slug: "a"}, {ID: p.ID + 1, Slug: "b"}} {
			require.Equal(t, [2]string{p.Slug, "x"}, [2]string{rowOf(t, db, "projects", p.ID).key(), rowOf(t, db, "projects", p.ID).Name})
		}
	})
}

func TestUpdate_OfAKeyThatIsTakenNamesBothAndChangesNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		org := newOrganization(t, db, ledger, "org", dollar)
		require.NoError(t, ledger.Register(&Project{}, dollar))
		p := Project{Slug: "project"}
		require.NoError(t, db.Create(&p).Error)
		spendCent(t, ledger, tenant.ID("known by its id"))

		err := db.Model(&p).Update("slug", "org").Error
		require.ErrorIs(t, err, tenant.ErrIdentityConflict)
		require.ErrorContains(t, err, fmt.Sprintf(`"org" of projects %d belongs to organizations %d`, p.ID, org.ID))
		require.ErrorContains(t, err, "WithNamespace")
		err = db.Model(&p).Update("slug", "known by its id").Error
		require.ErrorIs(t, err, tenant.ErrIdentityConflict)
		require.ErrorContains(t, err, "never merged")
		require.Equal(t, "project", rowOf(t, db, "projects", p.ID).key())
		require.NoError(t, db.First(&p, p.ID).Error)
		require.Equal(t, "project", p.Slug)
	})
}

func TestUpdate_OfARecordWithoutATenantMakesNone(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}))
		p := Project{Slug: "a"}
		require.NoError(t, db.Create(&p).Error)
		require.NoError(t, db.Model(&p).Update("slug", "").Error, "what makes no calls needs no key")
		require.NoError(t, db.Model(&p).Update("slug", "b").Error)
		require.Empty(t, rowOf(t, db, "projects", p.ID).ID)
		spendCent(t, ledger, ledger.Tenant(p))
		require.Equal(t, "b", rowOf(t, db, "projects", p.ID).key())
		require.NoError(t, db.Model(&p).Update("slug", "c").Error)
		require.Equal(t, "c", rowOf(t, db, "projects", p.ID).key(), "from its first call on, its budget follows")
		require.NoError(t, db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Project{ID: p.ID, Slug: "d"}).Error)
		require.Equal(t, "d", rowOf(t, db, "projects", p.ID).key())
	})
}

func TestName_FollowsTheRecord(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}, &Labelled{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		require.NoError(t, ledger.Register(&Labelled{}, tenant.WithNamespace("label"), dollar))
		p, l := Project{Slug: "a", Name: "A"}, Labelled{Title: "A"}
		require.NoError(t, db.Create(&p).Error)
		require.NoError(t, db.Create(&l).Error)
		require.NoError(t, db.Model(&p).Update("name", strings.Repeat("é", 200)).Error)
		require.Equal(t, strings.Repeat("é", 127), rowOf(t, db, "projects", p.ID).Name, "as much of it as fits")
		require.NoError(t, db.Model(&p).Select("name").Updates(Project{}).Error)
		require.Equal(t, "a", rowOf(t, db, "projects", p.ID).Name, "without one, it is the tenant id")
		require.NoError(t, db.Model(&l).Update("title", "B").Error)
		require.Equal(t, "Label B", rowOf(t, db, "labelleds", l.ID).Name, "a Stringer may read any column")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(p), func(b *tenant.Budget) error {
			b.Name = "by hand"
			return nil
		}))
		require.NoError(t, db.Model(&p).Update("name", "C").Error)
		require.Equal(t, "C", rowOf(t, db, "projects", p.ID).Name)
	})
}
