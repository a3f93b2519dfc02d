package decide_test

import (
	"testing"
	_ "time/tzdata" // for machines without zone data

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
