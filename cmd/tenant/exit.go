package main

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/llmtenant/tenant"
)

// The exit codes.
const (
	failed      = 1   // it could not be done
	usage       = 2   // what was typed cannot be meant
	differs     = 3   // verify, prices check: there are differences
	unknown     = 4   // there is no such tenant
	interrupted = 130 // it was ended by Ctrl-C or SIGTERM, and can be gone on with
	gone        = 141 // whoever read the output has gone
)

func exitCode(err error) int {
	var wrong *errUsage
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.EPIPE):
		return gone
	case errors.Is(err, errDiffers):
		return differs
	case errors.As(err, &wrong):
		return usage
	case errors.Is(err, context.Canceled):
		return interrupted
	case errors.Is(err, tenant.ErrUnknownTenant), errors.Is(err, tenant.ErrNoBudget):
		return unknown
	case errors.Is(err, tenant.ErrInvalidOption), errors.Is(err, tenant.ErrInvalidTenant):
		return usage
	}
	return failed
}

// explain is an error for whoever typed the command: in one line, with what to type where that is known.
func explain(err error) string {
	var (
		nobody *tenant.UnknownTenantError
		order  *tenant.LimitOrderError
		text   string
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &nobody):
		text = quoted("there is no tenant %q", nobody.TenantID)
		if nobody.Nearest != "" {
			text += quoted("; did you mean %q?", nobody.Nearest)
		}
		return text
	case errors.Is(err, tenant.ErrNotMigrated):
		return "the ledger's tables are not in the database, or not all of them; to make them, type `tenant migrate`"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	text = strings.ReplaceAll(strings.TrimPrefix(oneLine(err.Error()), "tenant: "), ": tenant: ", ": ")
	if errors.As(err, &order) {
		text = strings.ReplaceAll(text, "set AllowLargerShort if", "give --allow-larger if")
	}
	return strings.TrimPrefix(text, "invalid option: ")
}
