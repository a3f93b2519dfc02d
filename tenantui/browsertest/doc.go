// Package browsertest opens the pages of tenantui in a real browser. Its tests need Chromium, and npm for axe-core:
//
//	apt-get install -y --no-install-recommends chromium npm
//
// TENANT_TEST_BROWSER names another browser of its kind. The screenshots of docs/dashboard.md are made anew with
//
//	go test -run TestScreens ./... -shots ../../docs
package browsertest
