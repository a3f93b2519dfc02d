package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant"
)

// deletes are the ways in which records are deleted: softly, unless db is Unscoped.
func deletes() map[string]func(ctx context.Context, db *gorm.DB, p Project) error {
	return map[string]func(ctx context.Context, db *gorm.DB, p Project) error{
		"a struct": func(_ context.Context, db *gorm.DB, p Project) error { return db.Delete(&p).Error },
		"an id":    func(_ context.Context, db *gorm.DB, p Project) error { return db.Delete(&Project{}, p.ID).Error },
		"Where": func(_ context.Context, db *gorm.DB, p Project) error {
			return db.Where("slug = ?", p.Slug).Delete(&Project{}).Error
		},
		"Where with Or": func(_ context.Context, db *gorm.DB, p Project) error {
			return db.Where("slug = ?", p.Slug).Or("slug = ?", "nobody").Delete(&Project{}).Error
		},
		"a slice": func(_ context.Context, db *gorm.DB, p Project) error { return db.Delete(&[]Project{p}).Error },
		"a model and an empty value": func(_ context.Context, db *gorm.DB, p Project) error {
			return db.Model(&p).Delete(&Project{}).Error
		},
		"without hooks": func(_ context.Context, db *gorm.DB, p Project) error {
			return db.Session(&gorm.Session{SkipHooks: true}).Delete(&p).Error
		},
		"Returning": func(_ context.Context, db *gorm.DB, p Project) error {
			return db.Clauses(clause.Returning{}).Where("id = ?", p.ID).Delete(&[]Project{}).Error
		},
		"the host's transaction": func(_ context.Context, db *gorm.DB, p Project) error {
			return db.Transaction(func(tx *gorm.DB) error {
				if db.DisableNestedTransaction {
					return tx.Delete(&p).Error
				}
				err := tx.Transaction(func(inner *gorm.DB) error {
					if err := inner.Delete(&p).Error; err != nil {
						return err
					}
					return errRollback
				})
				if !errors.Is(err, errRollback) {
					return err
				}
				return tx.Delete(&Project{}, p.ID).Error
			})
		},
		"the generic API": func(ctx context.Context, db *gorm.DB, p Project) error {
			g := gorm.G[Project](db)
			if db.Statement.Unscoped {
				n, err := g.Scopes(func(s *gorm.Statement) { s.Unscoped = true }).Where("id = ?", p.ID).Delete(ctx)
				if err == nil && n != 1 {
					err = fmt.Errorf("%d rows", n)
				}
				return err
			}
			_, err := g.Where("id = ?", p.ID).Delete(ctx)
			return err
		},
	}
}

var errRollback = errors.New("to be rolled back")

func TestDelete_OfASoftKindSuspendsTheBudgetAndRestoresIt(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar, tenant.WithEnforcement(tenant.Hard)))
		table := db.NamingStrategy.TableName("Project")
		for way, remove := range deletes() {
			p := Project{Slug: way, Name: "Name"}
			require.NoError(t, db.Create(&p).Error, way)
			before := rowOf(t, db, table, p.ID)
			spendCent(t, ledger, ledger.Tenant(p))
			running, err := ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
			require.NoError(t, err, way)

			require.NoError(t, remove(t.Context(), db, p), way)
			suspended := before
			suspended.Deleted = true
			require.Equal(t, suspended, rowOf(t, db, table, p.ID), way)
			for _, who := range []tenant.Tenant{ledger.Tenant(p), tenant.ID(way)} {
				_, err = ledger.Reserve(t.Context(), who, cent)
				require.ErrorIs(t, err, tenant.ErrTenantSuspended, way)
			}
			_, err = ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.02")})
			require.NoError(t, err, "%s: what is running still settles", way)

			require.NoError(t, db.Unscoped().Model(&Project{}).Where("id = ?", p.ID).Update("deleted_at", nil).Error, way)
			require.Equal(t, before, rowOf(t, db, table, p.ID), way)
			spendCent(t, ledger, ledger.Tenant(p))
			require.Equal(t, balance{SpentCost: 4e7, SpentCalls: 3}, balanceOf(t, db, way, "day"), way)
		}
		requireConservation(t, db)
	})
}

func TestDelete_OfAHardKindRemovesTheBudgetAndKeepsTheExecutionsDetached(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar, tenant.WithEnforcement(tenant.Hard)))
		table := db.NamingStrategy.TableName("Project")
		for way, remove := range deletes() {
			for _, soft := range []bool{false, true} {
				p := Project{Slug: way, Name: "Name"}
				require.NoError(t, db.Create(&p).Error, way)
				before := rowOf(t, db, table, p.ID)
				require.Equal(t, 1, before.Limits)
				spendCent(t, ledger, ledger.Tenant(p))
				running, err := ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
				require.NoError(t, err, way)
				if soft {
					require.NoError(t, db.Delete(&Project{}, p.ID).Error)
				}

				require.NoError(t, remove(t.Context(), db.Unscoped().Session(&gorm.Session{}), p), way)
				removed := before
				removed.OwnerType, removed.OwnerID, removed.Deleted, removed.Limits = nil, nil, true, 0
				require.Equal(t, removed, rowByID(t, db, before.ID), way)
				_, err = ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
				require.ErrorIs(t, err, tenant.ErrInvalidTenant, way)
				require.ErrorContains(t, err, "no record", way)
				_, err = ledger.Reserve(t.Context(), tenant.ID(way), cent)
				require.ErrorIs(t, err, tenant.ErrTenantSuspended, "%s: the key alone makes no budget without limits", way)
				_, err = ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.02")})
				require.NoError(t, err, "%s: what is running still settles", way)

				// A new record takes the key, and inherits nothing.
				heir := Project{Slug: way}
				require.NoError(t, db.Create(&heir).Error, way)
				fresh := rowOf(t, db, table, heir.ID)
				require.Equal(t, [2]any{way, 1}, [2]any{fresh.key(), fresh.Limits})
				cost, err := tenant.Cost(t.Context(), db, ledger.Tenant(heir), tenant.AllTime)
				require.NoError(t, err)
				require.True(t, cost.IsZero(), way)
				var executions []tenant.Execution
				require.NoError(t, tenant.Executions(t.Context(), db, ledger.Tenant(heir)).Find(&executions).Error)
				require.Empty(t, executions)
				require.NoError(t, db.Raw(`SELECT * FROM llm_executions WHERE tenant = ?`, before.ID).Scan(&executions).Error)
				require.Len(t, executions, 2, "they stay where they were made")
				require.Empty(t, rowByID(t, db, before.ID).key())
				require.NoError(t, db.Unscoped().Delete(&heir).Error)
			}
		}
		requireConservation(t, db)
	})
}

func TestDelete_ThatFailsOrIsRolledBackOrDryLeavesTheBudget(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		before := rowOf(t, db, "organizations", org.ID)
		require.ErrorIs(t, db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Delete(org).Error; err != nil {
				return err
			}
			return errRollback
		}), errRollback)
		require.ErrorIs(t, db.Delete(&Organization{}).Error, gorm.ErrMissingWhereClause)
		require.NoError(t, db.Session(&gorm.Session{DryRun: true}).Delete(org).Error)
		require.NoError(t, db.Where("slug = ?", "nobody").Delete(&Organization{}).Error)
		require.Equal(t, before, rowOf(t, db, "organizations", org.ID))
		require.NoError(t, db.Where("slug = ?", "acme").Delete(&Organization{}).Error)
		require.True(t, rowByID(t, db, before.ID).Deleted)
	})
}

func TestDelete_OfManyAtOnceAndByAssociation(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Client{}, &Assignment{}))
		require.NoError(t, ledger.Register(&Assignment{}, tenant.WithKey("Slug"), dollar))
		const n = 1100
		client := Client{}
		for i := range n {
			client.Projects = append(client.Projects, Assignment{Slug: fmt.Sprint("p", i)})
		}
		require.NoError(t, db.Create(&client).Error)
		other := Client{Projects: []Assignment{{Slug: "other"}}}
		require.NoError(t, db.Create(&other).Error)
		alive := func() (n int) {
			require.NoError(t, db.Raw(`SELECT count(*) FROM llm_tenants WHERE deleted_at IS NULL AND owner_type = 'assignments'`).Scan(&n).Error)
			return n
		}
		require.Equal(t, n+1, alive())
		require.NoError(t, db.Select("Projects").Delete(&client).Error)
		require.Equal(t, 1, alive())
		require.NoError(t, db.Session(&gorm.Session{AllowGlobalUpdate: true}).Delete(&Assignment{}).Error)
		require.Zero(t, alive())
		var limits int
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_limits`).Scan(&limits).Error)
		require.Zero(t, limits)
	})
}

func TestRestore_SaysWhoHasTheKeyNow(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, db.Exec(`DROP INDEX idx_projects_slug`).Error)
		require.NoError(t, ledger.Register(&Project{}, dollar))
		p := Project{Slug: "acme"}
		require.NoError(t, db.Create(&p).Error)
		before := rowOf(t, db, "projects", p.ID)
		spendCent(t, ledger, ledger.Tenant(p))
		require.NoError(t, db.Delete(&p).Error)
		heir := Project{Slug: "acme"}
		require.NoError(t, db.Create(&heir).Error, "the key was given up")
		require.Empty(t, rowByID(t, db, before.ID).key())
		_, err := ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
		require.ErrorIs(t, err, tenant.ErrTenantSuspended, "a call of the deleted record is not the heir's")
		require.ErrorContains(t, err, fmt.Sprintf("projects %d is deleted", p.ID))

		restore := func(columns map[string]any) error {
			columns["deleted_at"] = nil
			return db.Unscoped().Model(&Project{ID: p.ID}).Updates(columns).Error
		}
		err = restore(map[string]any{})
		require.ErrorIs(t, err, tenant.ErrIdentityConflict)
		require.ErrorContains(t, err, fmt.Sprintf(`"acme" of projects %d belongs to projects %d`, p.ID, heir.ID))
		require.ErrorIs(t, db.First(&Project{}, p.ID).Error, gorm.ErrRecordNotFound, "it stays deleted")
		require.NoError(t, restore(map[string]any{"slug": "acme-2"}))
		after := rowByID(t, db, before.ID)
		require.Equal(t, [2]any{"acme-2", false}, [2]any{after.key(), after.Deleted})
		require.EqualValues(t, 1, balanceOf(t, db, "acme-2", "day").SpentCalls)
		require.Zero(t, balanceOf(t, db, "acme", "day").SpentCalls)
	})
}

func TestRestore_KeepsWhatTheHostHasSuspended(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		p := Project{Slug: "acme"}
		require.NoError(t, db.Create(&p).Error)
		suspend := func(b *tenant.Budget) error { b.Suspended = true; return nil }
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(p), suspend))
		require.NoError(t, db.Delete(&p).Error)
		for name, err := range map[string]error{
			"ConfigureBudget": tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(p), suspend),
			"BudgetFor":       func() error { _, err := tenant.BudgetFor(t.Context(), db, ledger.Tenant(p)); return err }(),
		} {
			require.ErrorIs(t, err, tenant.ErrNoBudget, name)
			require.ErrorContains(t, err, "deleted", name)
		}
		require.ErrorIs(t, tenant.CheckBudget(t.Context(), db, ledger.Tenant(p)), tenant.ErrTenantSuspended)
		require.NoError(t, db.Unscoped().Model(&p).Update("deleted_at", nil).Error)
		_, err := ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
		require.ErrorIs(t, err, tenant.ErrTenantSuspended)
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(p), func(b *tenant.Budget) error { b.Suspended = false; return nil }))
		spendCent(t, ledger, ledger.Tenant(p))
	})
}

func TestDelete_OfARecordWithoutATenantLeavesItWithout(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}))
		p := Project{Slug: "acme"}
		require.NoError(t, db.Create(&p).Error)
		require.NoError(t, db.Delete(&p).Error)
		_, err := ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
		require.ErrorIs(t, err, tenant.ErrTenantSuspended)
		err = tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(p), func(*tenant.Budget) error { return nil })
		require.ErrorIs(t, err, tenant.ErrNoBudget)
		require.Empty(t, rowOf(t, db, "projects", p.ID).ID)
		require.NoError(t, db.Unscoped().Model(&p).Update("deleted_at", nil).Error)
		spendCent(t, ledger, ledger.Tenant(p))
		require.Equal(t, "acme", rowOf(t, db, "projects", p.ID).key())
	})
}

func TestWithOnDelete_DecidesWhatASoftDeleteDoes(t *testing.T) {
	t.Parallel()
	for policy, want := range map[tenant.DeletePolicy]struct {
		calls, restored error
		limits          int
	}{
		tenant.SuspendBudget: {calls: tenant.ErrTenantSuspended, limits: 1},
		tenant.KeepBudget:    {limits: 1},
		tenant.RemoveBudget:  {calls: tenant.ErrTenantSuspended},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
				require.NoError(t, db.AutoMigrate(&Project{}))
				require.NoError(t, ledger.Register(&Project{}, dollar, tenant.WithOnDelete(policy)))
				p := Project{Slug: "acme"}
				require.NoError(t, db.Create(&p).Error)
				before := rowOf(t, db, "projects", p.ID)
				spendCent(t, ledger, ledger.Tenant(p))
				require.NoError(t, db.Delete(&p).Error)
				deleted := rowByID(t, db, before.ID)
				require.Equal(t, want.calls != nil, deleted.Deleted)
				require.Equal(t, policy == tenant.RemoveBudget, deleted.OwnerID == nil)
				require.Equal(t, want.limits, deleted.Limits)
				hold, err := ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
				require.ErrorIs(t, err, want.calls)
				if err == nil {
					_, err = ledger.Release(t.Context(), hold)
					require.NoError(t, err)
				}

				require.NoError(t, db.Unscoped().Model(&p).Update("deleted_at", nil).Error)
				spendCent(t, ledger, ledger.Tenant(p))
				spent := balanceOf(t, db, "acme", "day").SpentCalls
				require.Equal(t, 1, rowOf(t, db, "projects", p.ID).Limits)
				if policy == tenant.RemoveBudget {
					require.EqualValues(t, 1, spent, "it starts anew")
				} else {
					require.EqualValues(t, 2, spent)
				}
			})
		})
	}
}

func TestPrimaryKey_ThatIsUsedAgainInheritsNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		spendCent(t, ledger, org)
		first := rowOf(t, db, "organizations", org.ID)
		require.NoError(t, db.Delete(org).Error)
		again := &Organization{ID: org.ID, Slug: "acme"}
		require.NoError(t, db.Create(again).Error)
		require.NotEqual(t, first.ID, rowOf(t, db, "organizations", org.ID).ID)
		require.Zero(t, balanceOf(t, db, "acme", "day").SpentCalls)

		// The same where the ledger saw nothing of the delete.
		spendCent(t, ledger, again)
		second := rowOf(t, db, "organizations", org.ID)
		require.NoError(t, db.Exec(`DELETE FROM organizations`).Error)
		require.NoError(t, db.Create(&Organization{ID: org.ID, Slug: "acme"}).Error)
		third := rowOf(t, db, "organizations", org.ID)
		require.NotEqual(t, second.ID, third.ID)
		require.Equal(t, "acme", third.key())
		require.Equal(t, 1, third.Limits)
		require.Zero(t, balanceOf(t, db, "acme", "day").SpentCalls)
		gone := rowByID(t, db, second.ID)
		require.Equal(t, tenantRow{ID: second.ID, Name: second.Name, Deleted: true, Balances: 1}, gone)
		requireConservation(t, db)
	})
}

func TestUnseenChanges_AreMendedWhereTheyStandInTheWay(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}, &byTwo{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		require.NoError(t, ledger.Register(&byTwo{}, dollar))
		create := func(slug string) (Project, string) {
			p := Project{Slug: slug}
			require.NoError(t, db.Create(&p).Error)
			spendCent(t, ledger, ledger.Tenant(p))
			return p, rowOf(t, db, "projects", p.ID).ID
		}
		deleted, deletedID := create("deleted")
		renamed, renamedID := create("renamed")
		hidden, hiddenID := create("hidden")
		require.NoError(t, db.Exec(`DELETE FROM projects WHERE id = ?`, deleted.ID).Error)
		require.NoError(t, db.Exec(`UPDATE projects SET slug = 'renamed by hand' WHERE id = ?`, renamed.ID).Error)
		require.NoError(t, db.Exec(`UPDATE projects SET deleted_at = CURRENT_TIMESTAMP, slug = 'hidden by hand' WHERE id = ?`, hidden.ID).Error)

		// By a new record, by one that is renamed, by a first call.
		heir, _ := create("deleted")
		require.Equal(t, "deleted", rowOf(t, db, "projects", heir.ID).key())
		require.NoError(t, db.Model(&heir).Update("slug", "renamed").Error)
		require.Equal(t, "renamed", rowOf(t, db, "projects", heir.ID).key())
		require.NoError(t, db.Exec(`INSERT INTO projects (slug) VALUES ('hidden')`).Error)
		var third Project
		require.NoError(t, db.Where("slug = 'hidden'").First(&third).Error)
		spendCent(t, ledger, ledger.Tenant(third))

		require.Equal(t, [2]any{true, (*string)(nil)}, [2]any{rowByID(t, db, deletedID).Deleted, rowByID(t, db, deletedID).OwnerID})
		require.Equal(t, "renamed by hand", rowByID(t, db, renamedID).key())
		require.Equal(t, [2]any{true, ""}, [2]any{rowByID(t, db, hiddenID).Deleted, rowByID(t, db, hiddenID).key()})
		for _, slug := range []string{"renamed", "renamed by hand", "hidden"} {
			require.EqualValues(t, 1, balanceOf(t, db, slug, "day").SpentCalls, slug)
		}

		// A composite primary key is found again too.
		two := byTwo{"eu", 1}
		require.NoError(t, db.Create(&two).Error)
		require.NoError(t, db.Exec(`DELETE FROM by_two_columns`).Error)
		p := Project{Slug: "eu/1"}
		require.NoError(t, db.Create(&p).Error)
		require.Equal(t, "eu/1", rowOf(t, db, "projects", p.ID).key())
		requireConservation(t, db)
	})
}

func TestRepair_RemovesTheBalancesThatADeletedTenantHadForItsLimits(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		kept := &Organization{Slug: "kept"}
		require.NoError(t, db.Create(kept).Error)
		running, err := ledger.Reserve(t.Context(), org, cent)
		require.NoError(t, err)
		id, other := rowOf(t, db, "organizations", org.ID).ID, rowOf(t, db, "organizations", kept.ID).ID
		for _, id := range []string{id, other} {
			require.NoError(t, db.Exec(`INSERT INTO llm_balances (tenant, window_unit, agent) VALUES (?, 'hour', ''), (?, 'day', 'support')`, id, id).Error)
		}
		repair := func() {
			_, err := ledger.Repair(t.Context())
			require.NoError(t, err)
		}
		require.NoError(t, db.Delete(org).Error)
		repair()
		require.Equal(t, 3, rowByID(t, db, id).Balances, "something is held")
		_, err = ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		repair()
		require.Equal(t, [2]int{1, 3}, [2]int{rowByID(t, db, id).Balances, rowByID(t, db, other).Balances})
		requireConservation(t, db)
	})
}

func TestQuestions_OfARecordThatTakesADeletedKeySeeNothingOfTheDeletedTenant(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&byText{}, &Project{}))
		require.NoError(t, ledger.Register(&byText{}))
		require.NoError(t, ledger.Register(&Project{}))
		first := byText{ID: "acme"}
		require.NoError(t, db.Create(&first).Error)
		spendCent(t, ledger, ledger.Tenant(first))
		require.NoError(t, db.Delete(&first).Error)
		heir := Project{Slug: "acme", Name: "Heir"}
		require.NoError(t, db.Create(&heir).Error)
		for who, want := range map[tenant.Tenant]string{ledger.Tenant(heir): "0", tenant.ID("acme"): "0.01"} {
			cost, err := tenant.CostToday(t.Context(), db, who)
			require.NoError(t, err)
			require.Equal(t, want, cost.String())
			var n int64
			require.NoError(t, tenant.Executions(t.Context(), db, who).Count(&n).Error)
			require.Equal(t, want != "0", n == 1)
		}
		budget, err := tenant.BudgetFor(t.Context(), db, ledger.Tenant(heir))
		require.NoError(t, err, "it is not the one that was deleted")
		require.Equal(t, [2]string{"acme", "Heir"}, [2]string{budget.TenantID, budget.Name})
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(heir), func(b *tenant.Budget) error {
			b.Limits.DailyCalls = tenant.Count(1)
			return nil
		}))
		require.Equal(t, 1, rowOf(t, db, "projects", heir.ID).Limits)
		cost, err := tenant.CostToday(t.Context(), db, tenant.ID("acme"))
		require.NoError(t, err)
		require.True(t, cost.IsZero(), "the id is the heir's now")
	})
}

// A tenant that is deleted for good keeps its row and its balances, so that whatever its calls have cost can be booked: also
// after the hold was charged, the key was taken again and the books were mended.
func TestDelete_OfAHardKindLosesNoLateSettle(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.5")})
		require.NoError(t, err)
		require.NoError(t, db.Delete(org).Error)
		require.NoError(t, db.Create(&Organization{Slug: "acme"}).Error)
		var status string
		require.Eventually(t, func() bool {
			require.NoError(t, db.Raw(`SELECT status FROM llm_executions WHERE id = ?`, hold.ExecutionID).Scan(&status).Error)
			return status == "abandoned"
		}, time.Minute, 10*time.Millisecond, "its deadline has passed")
		_, err = ledger.Repair(t.Context())
		require.NoError(t, err)
		s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.2")})
		require.NoError(t, err)
		require.Equal(t, tenant.Corrected, s.Outcome)
		require.EqualValues(t, 2e8, executionRows(t, db)[0].Cost)
		require.Zero(t, balanceOf(t, db, "acme", "total"), "the new record has not spent it")
		requireConservation(t, db)
	}, tenant.WithLease(400*time.Millisecond), tenant.WithMaxCallTime(100*time.Millisecond))
}
