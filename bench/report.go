package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Figure is one thing that was measured, and the baseline beside it.
type Figure struct {
	Key      string  `json:"-"`
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Value    float64 `json:"value"`
	Baseline float64 `json:"baseline"`
	Against  string  `json:"against"`
	Ratio    float64 `json:"ratio"` // value / baseline
}

// Figures are in the order in which they were measured. In JSON they are one object, by their keys.
type Figures []Figure

// MarshalJSON implements json.Marshaler.
func (fs Figures) MarshalJSON() ([]byte, error) {
	byKey := make(map[string]Figure, len(fs))
	for _, f := range fs {
		byKey[f.Key] = f
	}
	return json.Marshal(byKey)
}

// Report is the whole run.
type Report struct {
	Go       string        `json:"go"`
	CPUs     int           `json:"cpus"`
	Server   string        `json:"server"`
	Duration time.Duration `json:"duration_ns"` // of each measurement
	Figures  Figures       `json:"figures"`
}

func (r *Report) print(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "%s, %d CPUs, %s, %v each\n\n", r.Go, r.CPUs, r.Server, r.Duration); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, f := range r.Figures {
		if _, err := fmt.Fprintf(w, "%s\t%s\t%s\tof %s\t%s\t\n", f.Name, number(f.Value, f.Unit), ratio(f.Ratio), number(f.Baseline, f.Unit), f.Against); err != nil {
			return err
		}
	}
	return w.Flush()
}

func number(v float64, unit string) string {
	if v < 100 {
		return fmt.Sprintf("%.2f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

func ratio(r float64) string {
	if r > 0 && r < 0.1 {
		return fmt.Sprintf("1/%.0f", 1/r)
	}
	return fmt.Sprintf("%.2f x", r)
}
