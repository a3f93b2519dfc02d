package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/export"
)

var columns = []export.Column{
	{Name: "text"}, {Name: "integer", Kind: export.Integer}, {Name: "money", Kind: export.Money}, {Name: "time", Kind: export.Time},
	{Name: "bool", Kind: export.Bool}, {Name: "json", Kind: export.JSON}, {Name: "second", Kind: export.Second},
}

// write writes one row, and returns the text.
func write(t require.TestingT, f export.Format, cells ...[]byte) string {
	var out bytes.Buffer
	e, err := f.Encoder(&out, columns, true)
	require.NoError(t, err)
	require.NoError(t, e.Row(cells))
	require.NoError(t, e.Close())
	return out.String()
}

// Whatever a row has, a reader of the format finds it again, and a spreadsheet finds no formula.
func TestFormats_AreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[\t\r\n =+\-@",;a＝\x{200b}]{0,5}`)).Draw(t, "text")
		whole, nano := rapid.Int64().Draw(t, "whole"), rapid.Int64().Draw(t, "nano")
		micros := rapid.Int64Range(-62135596800000000, 253370764799999999).Draw(t, "micros")
		yes := rapid.Bool().Draw(t, "yes")
		document, err := json.Marshal(map[string]string{"tag": text})
		require.NoError(t, err)
		cells := [][]byte{[]byte(text), strconv.AppendInt(nil, whole, 10), strconv.AppendInt(nil, nano, 10), strconv.AppendInt(nil, micros, 10), []byte(map[bool]string{true: "t", false: "f"}[yes]), document, strconv.AppendInt(nil, micros, 10)}
		second := time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05Z")
		dollars := decimal.New(nano, -9).StringFixed(9)
		when := time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")

		rows, err := csv.NewReader(bytes.NewBufferString(write(t, export.CSV{}, cells...))).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 1)
		row := rows[0]
		got := bytes.TrimLeft([]byte(row[0]), " \t\r\n\u200b\u00a0")
		require.False(t, len(got) > 0 && bytes.ContainsAny(got[:1], "=+-@"), "%q", row[0])
		safe := func(s string) string { return normal(string(export.Harmless([]byte(s)))) }
		require.Equal(t, safe(text), row[0])
		require.Equal(t, []string{strconv.FormatInt(whole, 10), dollars, when, strconv.FormatBool(yes), safe(string(document)), second}, row[1:])

		var object struct {
			Text    string
			Integer int64
			Money   string
			Time    string
			Bool    bool
			JSON    json.RawMessage
			Second  string
		}
		require.NoError(t, json.Unmarshal([]byte(write(t, export.NDJSON{}, cells...)), &object))
		want, err := json.Marshal(text)
		require.NoError(t, err)
		var same string
		require.NoError(t, json.Unmarshal(want, &same))
		require.Equal(t, same, object.Text)
		require.Equal(t, whole, object.Integer)
		require.Equal(t, dollars, object.Money)
		require.Equal(t, when, object.Time)
		require.Equal(t, yes, object.Bool)
		require.Equal(t, second, object.Second)
		require.JSONEq(t, string(document), string(object.JSON))
	})
}

// normal is a text as a reader of CSV hands it out.
func normal(s string) string {
	return string(bytes.ReplaceAll([]byte(s), []byte("\r\n"), []byte("\n")))
}

func TestFormats_OfNothing(t *testing.T) {
	t.Parallel()
	none := make([][]byte, len(columns))
	require.Equal(t, ",,,,,,\n", write(t, export.CSV{}, none...))
	require.Equal(t, `{"text":null,"integer":null,"money":null,"time":null,"bool":null,"json":null,"second":null}`+"\n", write(t, export.NDJSON{}, none...))
	var out bytes.Buffer
	e, err := export.CSV{}.Encoder(&out, columns, false)
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.Equal(t, "text,integer,money,time,bool,json,second\n", out.String())
}
