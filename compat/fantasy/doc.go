// Package fantasy is what package compat is, for fantasy: it needs an older openai-go than the newest, and so a module of
// its own.
package fantasy
