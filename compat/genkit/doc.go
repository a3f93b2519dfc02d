// Package genkit is what package compat is, for genkit: it needs an older github.com/invopop/jsonschema than
// anthropic-sdk-go, and so a module of its own.
package genkit
