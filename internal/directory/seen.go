package directory

import (
	"encoding/json"
	"strings"
)

// Seen is the tenant of a record as a statement has seen it on its way. It need not be so any more.
type Seen struct{ tenant *found }

// SeenSQL is the beginning of an expression, which the owner's id and "), ”)" are to follow, for the tenant of a record of a
// table, on PostgreSQL. Its aliases are not those that a host may have given the table.
func SeenSQL(ownerType string) string {
	return `coalesce((SELECT CAST(json_build_array(CAST(llmtenant_t.id AS text), coalesce(llmtenant_t.tenant_id, ''), llmtenant_t.name, coalesce(CAST(llmtenant_t.parent AS text), ''),
		coalesce(llmtenant_p.owner_type, ''), coalesce(llmtenant_p.owner_id, ''), coalesce(llmtenant_p.tenant_id, ''), CASE WHEN llmtenant_t.deleted_at IS NULL THEN '' ELSE 'deleted' END) AS text)
		FROM llm_tenants llmtenant_t LEFT JOIN llm_tenants llmtenant_p ON llmtenant_p.id = llmtenant_t.parent
		WHERE llmtenant_t.owner_type = '` + strings.ReplaceAll(ownerType, "'", "''") + `' AND llmtenant_t.owner_id = `
}

// ParseSeen reads what the expression of SeenSQL has given; nil for none, because there may be one by now: whoever makes it has
// only locked the record, so that the statement has waited for that without a trace.
func ParseSeen(s string) *Seen {
	if !strings.HasPrefix(s, "[") {
		return nil
	}
	var f [8]string
	if json.Unmarshal([]byte(s), &f) != nil {
		return nil
	}
	return &Seen{&found{
		id: f[0], key: f[1], name: f[2], parent: f[3], parentIs: Parent{OwnerType: f[4], OwnerID: f[5], Key: f[6]}, deleted: f[7] != "",
	}}
}

// seen returns the tenants of some profiles as statements have seen them; not where one has not, or where more than a key, a
// name or a place is to change.
func seen(profiles []Profile) (map[owner]*found, bool) {
	tenants := map[owner]*found{}
	for _, p := range profiles {
		if p.Seen == nil || p.Fresh || p.Deleted {
			return nil, false
		}
		t := p.Seen.tenant
		if t.deleted {
			return nil, false
		}
		t.ownerType, t.ownerID = p.OwnerType, p.OwnerID
		tenants[owner{p.OwnerType, p.OwnerID}] = t
	}
	return tenants, true
}
