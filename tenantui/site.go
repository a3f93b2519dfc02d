package tenantui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

//go:embed assets templates
var files embed.FS

// site is what dashboard and portal have in common.
type site struct {
	ledger    *tenant.Ledger
	db        *gorm.DB
	log       *slog.Logger
	prefix    string
	origin    *http.CrossOriginProtection
	templates *template.Template
	version   string // of the assets, so that a browser never keeps old ones
	authorize func(*http.Request) (Viewer, error)
	pages     map[string]func(*request) error // by method and path

	portal *portal // nil for the dashboard

	// grants says which acts a viewer may do with which tenants, beyond what his roles say; nil: with all that he sees.
	grants func(q *request, act string, id tenant.ID) bool
}

func newSite(caller string, ledger *tenant.Ledger, prefix string, origins []string, log *slog.Logger) (*site, error) {
	if ledger == nil {
		return nil, fmt.Errorf("%w: %s: the ledger is nil", tenant.ErrInvalidOption, caller)
	}
	prefix = strings.TrimRight(prefix, "/")
	if prefix != "" && prefix[0] != '/' {
		return nil, fmt.Errorf("%w: %s: Prefix: %q does not begin with a slash", tenant.ErrInvalidOption, caller, prefix)
	}
	if log == nil {
		log = slog.Default()
	}
	s := &site{ledger: ledger, db: ledger.DB(), log: log, prefix: prefix, origin: http.NewCrossOriginProtection()}
	for _, o := range origins {
		if err := s.origin.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("%w: %s: TrustedOrigins: %w", tenant.ErrInvalidOption, caller, err)
		}
	}
	var err error
	if s.templates, err = template.New("").Funcs(functions).ParseFS(files, "templates/*.html"); err != nil {
		return nil, fmt.Errorf("%s: %w", caller, err)
	}
	if s.version, err = assetsVersion(); err != nil {
		return nil, fmt.Errorf("%s: %w", caller, err)
	}
	return s, nil
}

func assetsVersion() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(name)
		_, _ = sum.Write(b)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil))[:12], err
}

// protect sets the headers of every answer, and refuses forms from elsewhere. Ancestors are who may show a page in a frame.
func (s *site) protect(next http.Handler, ancestors string) http.Handler {
	policy := "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors " + ancestors
	s.origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "The form was sent from another site, and nothing was changed.", http.StatusForbidden)
	}))
	next = s.origin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if ancestors == "'none'" {
			h.Set("X-Frame-Options", "DENY")
		}
		rest, ok := cut(r.URL.Path, s.prefix)
		if !ok {
			http.NotFound(w, r)
			return
		}
		if rest == "" { // addresses are relative to the folder
			// Not http.Redirect: it would make an absolute path of it, and the prefix may be taken off.
			asked, _, _ := strings.Cut(r.RequestURI, "?")
			h.Set("Location", (&url.URL{Path: "./" + path.Base(asked) + "/"}).String())
			w.WriteHeader(http.StatusPermanentRedirect)
			return
		}
		below := r.Clone(r.Context())
		below.URL.Path, below.URL.RawPath = "/"+strings.TrimLeft(rest, "/"), ""
		next.ServeHTTP(w, below)
	})
}

// refuse answers whoever may see nothing.
func (s *site) refuse(w http.ResponseWriter) {
	http.Error(w, "You may not see this page.", http.StatusForbidden)
}

// ServeHTTP lets in whom Authorize knows.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, err := s.authorize(r)
	if err != nil {
		s.log.WarnContext(r.Context(), "tenantui: a request was not authorized", "path", r.URL.Path, "error", err)
	}
	if err != nil || !v.sees() {
		s.refuse(w)
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/assets/"); ok {
		serveAsset(w, r, name)
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	q := &request{site: s, Request: r, w: w, viewer: v, now: time.Now()}
	page := s.pages[method+" "+r.URL.Path]
	if page == nil {
		page = func(*request) error { return errNotFound }
	}
	q.fail(page(q))
}

func serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	b, err := files.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}
