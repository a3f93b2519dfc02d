// Package dashboard has the dashboard of the module otel read by Grafana's own model of dashboards, and its queries answered by
// Prometheus' own engine. It is a module of its own: nobody else needs as much.
package dashboard
