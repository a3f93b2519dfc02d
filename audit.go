package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
)

// AuditEntry is a change of a budget: a GORM model to read with, see [AuditLog]. The ledger alone writes its table.
type AuditEntry struct {
	ID        string    `gorm:"column:id;primaryKey"` // a UUIDv7: ids sort by the time of the change
	TenantID  string    `gorm:"column:tenant_id"`     // the tenant's id as it was then
	ChangedAt time.Time `json:",omitzero" gorm:"column:changed_at"`
	Actor     string    `gorm:"column:actor"`  // see ContextWithActor
	Action    string    `gorm:"column:action"` // what was called, such as "ConfigureBudget", or what became of the record, such as "restore"
	Reason    string    `gorm:"column:reason"` // see ContextWithReason

	// Was and Became are the settings before and after, as JSON; empty where there were none.
	Was    json.RawMessage `json:",omitzero" gorm:"column:was;serializer:json"`
	Became json.RawMessage `json:",omitzero" gorm:"column:became;serializer:json"`
}

// TableName implements gorm's Tabler: a naming strategy of the host does not change it.
func (AuditEntry) TableName() string { return "llm_audit" }

// AuditLog returns a handle on the changes of a tenant's budget, to chain conditions on, like [Executions]:
//
//	var changes []tenant.AuditEntry
//	err := tenant.AuditLog(ctx, db, org).Order("id DESC").Limit(20).Find(&changes).Error
func AuditLog(ctx context.Context, db *gorm.DB, t Tenant) *gorm.DB {
	return rowsOfTenant(ctx, db, t, &AuditEntry{}, "llm_audit", query{})
}

// auditSettings is a budget as the audit log has it.
type auditSettings struct {
	Name        string   `json:"name"`
	Parent      string   `json:"parent,omitempty"`
	Enforcement string   `json:"enforcement,omitempty"`
	Inherit     bool     `json:"inherit"`
	TimeZone    string   `json:"time_zone,omitempty"`
	Suspended   bool     `json:"suspended"`
	Limits      []string `json:"limits"`
}

func (b *Budget) entry(limits []book.Limit) auditSettings {
	s := auditSettings{
		Name: b.Name, Parent: b.ParentID, Enforcement: string(b.Enforcement), Inherit: b.Inherit, TimeZone: b.TimeZone,
		Suspended: b.Suspended, Limits: []string{},
	}
	limits = slices.Clone(limits)
	slices.SortFunc(limits, func(a, b book.Limit) int { return compareLimits(&a, &b) })
	for _, l := range limits {
		s.Limits = append(s.Limits, limitText(l))
	}
	return s
}

// limitText is a limit in words, such as: daily cost $5.00 of agent "support".
func limitText(l book.Limit) string {
	s := LimitStatus{Metric: Metric(l.Metric), Window: Window(l.Window.String()), Agent: l.Agent, Model: l.Model}
	return fmt.Sprintf("%s %s%s", s.label(), s.Metric.format(s.Metric.decimal(l.Max)), s.of())
}
