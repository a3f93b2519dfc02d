package tenantui

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// actionName is what the audit log calls an action, in words.
func actionName(action string) string {
	switch action {
	case "ConfigureBudget":
		return "Settings"
	case "TopUp":
		return "Top-up"
	case "":
		return ""
	}
	return strings.ToUpper(action[:1]) + action[1:]
}

// changes says in words what a change of the audit log has changed.
func changes(was, became json.RawMessage) string {
	before, after := document(was), document(became)
	keys := slices.Sorted(maps.Keys(after))
	for _, k := range slices.Sorted(maps.Keys(before)) {
		if _, both := after[k]; !both {
			keys = append(keys, k)
		}
	}
	var all []string
	for _, k := range keys {
		name := strings.ReplaceAll(k, "_", " ")
		old, isList := before[k].([]any)
		new, isListNow := after[k].([]any)
		switch {
		case isList || isListNow:
			if change := listChange(old, new); change != "" {
				all = append(all, name+": "+change)
			}
		case len(before) == 0:
			if v := value(after[k]); v != "none" && v != "no" {
				all = append(all, name+" "+v)
			}
		case value(before[k]) != value(after[k]):
			all = append(all, name+": "+value(before[k])+" → "+value(after[k]))
		}
	}
	return strings.Join(all, "; ")
}

func document(raw json.RawMessage) map[string]any {
	var d map[string]any
	if len(raw) == 0 || json.Unmarshal(raw, &d) != nil {
		return nil
	}
	return d
}

// listChange says what went and what came.
func listChange(was, became []any) string {
	var parts []string
	for _, v := range was {
		if !slices.ContainsFunc(became, func(o any) bool { return value(o) == value(v) }) {
			parts = append(parts, "− "+value(v))
		}
	}
	for _, v := range became {
		if !slices.ContainsFunc(was, func(o any) bool { return value(o) == value(v) }) {
			parts = append(parts, "+ "+value(v))
		}
	}
	return strings.Join(parts, ", ")
}

func value(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		if v == "" {
			return "none"
		}
		return v
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprint(v)
}

// uuidText refuses what is no id of an execution or of a change.
func uuidText(s string) error {
	if _, err := uuid.Parse(s); err != nil || len(s) != 36 {
		return bad("%.40q is no id", s)
	}
	return nil
}
