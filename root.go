package tenant

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
)

// Root is the tenant that stands above all others: its budget counts every call of the ledger, with or without a tenant.
// It is there once it has a budget, by [WithRootBudget] or by [ConfigureBudget], and until then each question about it is an
// [ErrNoBudget]; it counts the calls that are admitted from then on. Its id is taken: no other tenant can have it.
const Root ID = "llm_root"

// WithRootBudget sets the budget that counts every call of the ledger. It is kept in the database, for all processes:
// the process that starts last decides it, and one that does not give this option leaves it as it is. All calls share
// its balances, and so one transaction at a time. Defaults to no such budget.
func WithRootBudget(limits Limits, e Enforcement) OpenOption {
	return func(o *openOptions) error {
		if _, err := limits.rows(); err != nil {
			return fmt.Errorf("%w: WithRootBudget: %w", ErrInvalidOption, err)
		}
		if err := e.valid(); err != nil {
			return fmt.Errorf("%w: WithRootBudget: %w", ErrInvalidOption, err)
		}
		o.root = &rootBudget{limits, e}
		return nil
	}
}

type rootBudget struct {
	limits      Limits
	enforcement Enforcement
}

// saveRoot writes the root's budget that Open was given.
func (l *Ledger) saveRoot(ctx context.Context, tx *gorm.DB) error {
	root := l.options.root
	if root == nil {
		return nil
	}
	limits, err := root.limits.rows()
	if err != nil {
		return err
	}
	if err := l.makeRoot(ctx, tx); err != nil {
		return err
	}
	return l.directory().SaveSettings(ctx, tx.Statement.ConnPool, book.Root, limits, true, book.Enforcement(root.enforcement))
}

// makeRoot sees to it that there is a root.
func (l *Ledger) makeRoot(ctx context.Context, tx *gorm.DB) error {
	return l.directory().MakeRoot(ctx, tx.Statement.ConnPool, string(Root))
}
