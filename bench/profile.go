package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"gorm.io/driver/postgres"
)

// profile writes profiles of the ledger's calls alone, not of what is prepared for them: cpu.pprof and allocs.pprof.
func (b *bench) profile(ctx context.Context, w workload, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	url, err := b.database(ctx)
	if err != nil {
		return err
	}
	return w.with(ctx, postgres.Open(url), byLedger, func(do call) error {
		return errors.Join(
			written(filepath.Join(folder, "cpu.pprof"), func(f *os.File) error {
				if err := pprof.StartCPUProfile(f); err != nil {
					return err
				}
				defer pprof.StopCPUProfile()
				_, err := busy(ctx, b.duration, w.tenants, w.callers, do)
				return err
			}),
			// Apart, because it takes time itself to look at so many allocations.
			written(filepath.Join(folder, "allocs.pprof"), func(f *os.File) error {
				runtime.MemProfileRate = 4096
				if _, err := busy(ctx, b.duration, w.tenants, w.callers, do); err != nil {
					return err
				}
				runtime.GC() // the profile is as of the last collection
				return pprof.Lookup("allocs").WriteTo(f, 0)
			}),
		)
	})
}

func written(name string, write func(*os.File) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
