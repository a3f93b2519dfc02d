// Package compat shows that SDKs of providers work over the transport of package tenanthttp. It has tests alone: each SDK
// talks to a server on loopback that speaks its provider's format, and all that happens is checked against a ledger on
// Postgres. docs/sdks.md is what the tests have seen; TENANT_UPDATE_DOCS=1 go test . writes it.
//
// It is a module of its own, so that nobody else needs the SDKs that it needs, and outside of go.work: go there with
// GOWORK=off. SDKs that do not agree with the others on a version are in modules below it. An SDK is added by a file that
// describes it as a [harness.SDK], and by its name in the list in sdks_test.go; a provider's format by a [harness.Wire].
//
// What drives a real gateway, installed from npm, is behind a build tag, and needs Node: go test -tags realservers -run Portkey .
package compat
