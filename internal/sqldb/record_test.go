package sqldb

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecord_TakesRowsApart(t *testing.T) {
	t.Parallel()
	every := func(int) bool { return true }
	for text, want := range map[string][]any{
		"a\x1fb":                 {"a", "b"},
		"\x1e\x1f\x1e":           {nil, nil},
		"\x1f":                   {"", ""},
		`a,"b\` + "\x1f\x1e\x1e": {`a,"b\`, "\x1e\x1e"},
	} {
		r, _ := Postgres.Record([]string{"x", "y"}, every)
		require.NoError(t, r.split([]byte(text)), text)
		for i, cell := range r.cells {
			if want[i] == nil {
				require.Nil(t, cell, text)
			} else {
				require.Equal(t, want[i], string(cell), text)
				require.NotNil(t, cell)
			}
		}
	}
	for _, text := range []string{"", "a", "a\x1fb\x1fc", "\x1f\x1f"} {
		r, _ := Postgres.Record([]string{"x", "y"}, every)
		require.Error(t, r.split([]byte(text)), text)
	}
}
