// Package tenantui is the ledger's dashboard, and the page that a host shows its own customers: two [http.Handler] to mount
// under any prefix of any router.
//
//	ui, err := tenantui.New(ledger, tenantui.Options{
//		Authorize: func(r *http.Request) (tenantui.Viewer, error) {
//			user, ok := session(r) // the host's own
//			if !ok || !user.Staff {
//				return tenantui.Viewer{}, nil // sees nothing
//			}
//			return tenantui.Viewer{Actor: user.Email, All: true, Roles: []tenantui.Role{tenantui.Configure}}, nil
//		},
//	})
//	mux.Handle("/llm/", http.StripPrefix("/llm", ui))
//
// Pages are rendered on the server with html/template and SVG, need no JavaScript, and load nothing from elsewhere. Each is a
// thin face of questions and acts of package tenant, which a program can ask and do itself. Every table is a CSV under the same
// address with the parameter csv.
//
// Nothing is shown, and nothing can be done, but what Authorize returns: a tenant's id in an address or a form is looked up
// below the viewer's own tenants each time, and one that is not there answers like one that does not exist. Every change needs a
// reason, is shown before it is made, and is kept with the viewer's name: in the audit log, or, for a credit or a debit, as an
// execution.
package tenantui
