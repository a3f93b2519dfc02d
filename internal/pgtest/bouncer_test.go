package pgtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPgBouncer_ThatIsMissingFailsWithTheLineToType(t *testing.T) {
	t.Parallel()
	_, err := findBouncer(nothingOnPath)
	require.ErrorContains(t, err, "\n\t"+bouncerLine)
}
