package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// telemetry measures what metrics and spans cost the hot tenant. They are made by a module of their own, and so is the program
// that measures them: this one brings no OpenTelemetry.
func (b *bench) telemetry(ctx context.Context) ([]Figure, error) {
	folder, err := module("otel")
	if err != nil {
		return nil, err
	}
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	measure := exec.CommandContext(ctx, "go", "run", "./bench", "-db", url, "-duration", b.duration.String(), "-callers", strconv.Itoa(hot.callers))
	measure.Dir, measure.Stderr, measure.Env = folder, os.Stderr, append(os.Environ(), "GOWORK=off")
	out, err := measure.Output()
	if err != nil {
		return nil, fmt.Errorf("go run ./bench in %s: %w", folder, err)
	}
	var r struct{ Plain, Traced, Sampled float64 }
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, err
	}
	title, against := fmt.Sprintf(", %s, %d callers", hot.title, hot.callers), "the same without telemetry, by turns"
	return []Figure{
		{Key: "telemetry_calls_per_second", Name: "calls with metrics and spans" + title, Unit: "calls/s", Value: r.Traced, Baseline: r.Plain, Against: against},
		{Key: "telemetry_sampled_calls_per_second", Name: "calls with metrics and each tenth span" + title, Unit: "calls/s", Value: r.Sampled, Baseline: r.Plain, Against: against},
	}, nil
}

// module returns the folder of another module of this checkout.
func module(name string) (string, error) {
	for folder := "."; ; folder = filepath.Join(folder, "..") {
		at := filepath.Join(folder, name)
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at, nil
		}
		if _, err := os.Stat(filepath.Join(folder, "go.work")); err == nil {
			return "", errors.New("there is no module " + name + " in this checkout")
		}
		if whole, err := filepath.Abs(folder); err != nil || filepath.Dir(whole) == whole {
			return "", errors.New("run it in a checkout of the repository, which has the module " + name)
		}
	}
}
