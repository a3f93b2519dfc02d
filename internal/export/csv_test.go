package export_test

import (
	"bytes"
	"encoding/csv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/export"
)

func TestCSV_BeginsWhatASpreadsheetWouldRunWithAnApostrophe(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "plain": "plain", "a=b": "a=b", "a -b": "a -b", "'x": "'x", "1;2": "1;2", "tea; milk": "tea; milk",
		"=SUM(A1)": "'=SUM(A1)", "+49 30": "'+49 30", "-x": "'-x", "@x": "'@x", "\u3000=1": "'\u3000=1", "\ufeff=1": "'\ufeff=1", "\uff1d1": "'\uff1d1", "\tx": "'\tx",
		"tea;=1+1":          "tea;'=1+1",
		"tea;=1;@b;c;+d;":   "tea;'=1;'@b;c;'+d;",
		"=1;=2":             "'=1;'=2",
		"; =1":              ";' =1",
		`a;"=1+1";b`:        `a;'"=1+1";b`,
		`{"k":"v;=1+1;"}`:   `{"k":"v;'=1+1;"}`,
		`{"k":";","l":"="}`: `{"k":";","l":"="}`,
	} {
		require.Equal(t, want, string(export.Harmless([]byte(text))), "%q", text)
	}
}

// Programs that take more than a comma for the end of a cell heed quotes.
func TestCSV_QuotesWhatEndsACellElsewhere(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"tea;milk": `"tea;milk"`, "tea\tmilk": "\"tea\tmilk\"", "tea;=1": `"tea;'=1"`, "tea": "tea"} {
		line := write(t, export.CSV{}, []byte(text), nil, nil, nil, nil, nil, nil)
		require.Equal(t, want+",,,,,,\n", line)
		for _, ends := range []rune{';', '\t'} {
			r := csv.NewReader(bytes.NewBufferString(line))
			r.Comma = ends
			r.LazyQuotes = true
			row, err := r.Read()
			require.NoError(t, err)
			require.Len(t, row, 1, "%q", line)
		}
	}
}
