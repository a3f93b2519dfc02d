package tenant_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant"
)

// Hidden is a soft delete of a host's own making: a flag.
type Hidden bool

func (Hidden) QueryClauses(f *schema.Field) []clause.Interface {
	return []clause.Interface{hide{field: f}}
}

func (Hidden) DeleteClauses(f *schema.Field) []clause.Interface {
	return []clause.Interface{hide{field: f, deletes: true}}
}

type hide struct {
	field   *schema.Field
	deletes bool
}

func (hide) Name() string               { return "" }
func (hide) Build(clause.Builder)       {}
func (hide) MergeClause(*clause.Clause) {}
func (h hide) ModifyStatement(s *gorm.Statement) {
	if s.Unscoped || s.SQL.Len() > 0 {
		return
	}
	column := clause.Column{Table: clause.CurrentTable, Name: h.field.DBName}
	s.AddClause(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: column, Value: false}}})
	if !h.deletes {
		return
	}
	s.AddClause(clause.Set{{Column: clause.Column{Name: h.field.DBName}, Value: true}})
	if id, zero := s.Schema.PrioritizedPrimaryField.ValueOf(s.Context, s.ReflectValue); !zero {
		s.AddClause(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.PrimaryColumn, Value: id}}})
	}
	s.AddClauseIfNotExists(clause.Update{})
	s.Build("UPDATE", "SET", "WHERE")
}

// Hideable is deleted by its flag.
type Hideable struct {
	ID     uint
	Slug   string `tenant:"key"`
	Hidden Hidden
}

func TestDelete_GoesByWhateverTheModelsSoftDeleteIs(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Hideable{}))
		require.NoError(t, ledger.Register(&Hideable{}, dollar))
		h := Hideable{Slug: "acme"}
		require.NoError(t, db.Create(&h).Error)
		before := rowOf(t, db, "hideables", h.ID)
		require.NoError(t, db.Delete(&h).Error)
		require.ErrorIs(t, db.First(&Hideable{}, h.ID).Error, gorm.ErrRecordNotFound)
		require.True(t, rowOf(t, db, "hideables", h.ID).Deleted)
		require.NoError(t, db.Unscoped().Model(&h).Update("hidden", false).Error)
		require.Equal(t, before, rowOf(t, db, "hideables", h.ID))
		require.NoError(t, db.Model(&h).Update("hidden", true).Error, "an update is a soft delete too")
		require.True(t, rowOf(t, db, "hideables", h.ID).Deleted)
	})
}
