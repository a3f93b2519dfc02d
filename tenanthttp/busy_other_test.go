//go:build !unix

package tenanthttp

import "time"

var began = time.Now()

// busy is the time that has passed, where the processor's is not at hand.
func busy() time.Duration { return time.Since(began) }
