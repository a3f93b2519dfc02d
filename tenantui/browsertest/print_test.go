package browsertest

import (
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/stretchr/testify/require"
)

// On paper, text is dark also where somebody has chosen the dark theme, tables are not cut off, and what can only be clicked is left out.
func TestPrint_IsDarkOnWhiteAndWhole(t *testing.T) {
	t.Parallel()
	s := open(t, true)
	b := newTab(t)
	b.view(1280, 900, true)
	for _, page := range []string{"llm/tenant?id=acme", "account/invoice"} {
		b.see(s.url + "/" + page)
		script[string](b, "document.querySelector('.tu').dataset.theme = 'dark'")
		ink := "getComputedStyle(document.querySelector('td')).color.match(/\\d+/g).slice(0, 3).reduce((sum, c) => sum + Number(c), 0)"
		require.Greater(t, script[int64](b, ink), int64(500), "%s: it is light on the screen", page)
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
		require.Less(t, script[int64](b, ink), int64(250), page)
		require.Equal(t, "visible", script[string](b, "getComputedStyle(document.querySelector('.scroll')).overflowX"), page)
		require.Zero(t, script[int64](b, "[...document.querySelectorAll('.side, form, button, .tools')].filter(e => e.checkVisibility()).length"), page)
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: ""})
	}
}
