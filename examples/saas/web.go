package main

import (
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenantui"
)

//go:embed templates static
var files embed.FS

const (
	sessionCookie = "saas_session"
	adminCookie   = "saas_admin"
)

// service is the web service.
type service struct {
	db       *gorm.DB
	ledger   *tenant.Ledger
	agent    *tenant.Agent
	adminKey string
	log      *slog.Logger
	pages    *template.Template
}

// handler has all routes. What a customer asks for runs under tenanthttp.Middleware, so that each call is his.
func (s *service) handler() (http.Handler, error) {
	var err error
	if s.pages, err = template.ParseFS(files, "templates/*.html"); err != nil {
		return nil, err
	}
	admin, err := tenantui.New(s.ledger, tenantui.Options{Authorize: s.admin, Log: s.log})
	if err != nil {
		return nil, err
	}
	portal, err := tenantui.NewPortal(s.ledger, tenantui.PortalOptions{
		Session: s.customer, Name: "Parrot: usage", Theme: map[string]string{"--tu-accent": "#0b7a52"}, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	ofCustomer := tenanthttp.Middleware(func(r *http.Request) (tenant.Tenant, error) { return s.signedIn(r) })

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("POST /signup", s.postSignUp)
	mux.HandleFunc("POST /signin", s.postSignIn)
	mux.HandleFunc("POST /signout", s.postSignOut)
	mux.HandleFunc("POST /plan", s.postPlan)
	mux.Handle("POST /api/chat", ofCustomer(http.HandlerFunc(s.chat)))
	mux.Handle("POST /api/chat/stream", ofCustomer(http.HandlerFunc(s.stream)))
	mux.Handle("/usage/", http.StripPrefix("/usage", portal))
	mux.HandleFunc("GET /admin/signin", s.adminHome)
	mux.HandleFunc("POST /admin/signin", s.postAdminSignIn)
	mux.Handle("/admin/", s.signedInAdmin(http.StripPrefix("/admin", admin)))
	mux.Handle("GET /static/", http.FileServerFS(files))
	mux.HandleFunc("GET /healthz", s.health)
	return http.NewCrossOriginProtection().Handler(mux), nil
}

// chat answers a question with the whole reply.
func (s *service) chat(w http.ResponseWriter, r *http.Request) {
	question, ok := questionOf(w, r)
	if !ok {
		return
	}
	reply, err := s.agent.Call(r.Context(), question)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answerOf(reply))
}

// stream answers a question with server-sent events: the pieces of the text, and at the end what it has cost. The status goes
// out with the first piece, so that a refusal has a status of its own.
func (s *service) stream(w http.ResponseWriter, r *http.Request) {
	question, ok := questionOf(w, r)
	if !ok {
		return
	}
	begun := false
	send := func(event string, body any) {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
		}
		data, _ := json.Marshal(body) // of strings and numbers
		_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data)
		_ = http.NewResponseController(w).Flush()
	}
	for chunk, err := range s.agent.Stream(r.Context(), question) {
		switch {
		case err != nil && !begun:
			s.refuse(w, r, err)
		case err != nil:
			s.log.WarnContext(r.Context(), "saas: a stream was cut", "error", err)
			send("failed", map[string]string{"message": "The model could not go on."})
		case chunk.Reply != nil:
			send("done", answerOf(chunk.Reply))
		default:
			send("text", map[string]string{"text": chunk.Text})
		}
	}
}

func questionOf(w http.ResponseWriter, r *http.Request) (string, bool) {
	var body struct {
		Question string `json:"question"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&body)
	if err != nil || body.Question == "" {
		writeError(w, http.StatusBadRequest, "bad_request", `The body is to be {"question": "…"}.`)
		return "", false
	}
	return body.Question, true
}

// answer is what programs and the page get of a reply.
type answer struct {
	Text      string          `json:"text"`
	Charge    decimal.Decimal `json:"charge"` // US dollars
	Execution string          `json:"execution"`
}

func answerOf(r *tenant.Reply) answer { return answer{r.Text, r.Charge, r.ExecutionID} }

// refuse answers with an error of a call.
func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if !tenanthttp.WriteRefusal(w, err) {
		writeError(w, http.StatusInternalServerError, "internal", "Something went wrong.")
	}
	if r.Context().Err() == nil {
		s.log.WarnContext(r.Context(), "saas: a call was not answered", "error", err)
	}
}

// admin says who sees the dashboard.
func (s *service) admin(r *http.Request) (tenantui.Viewer, error) {
	for _, cookie := range r.CookiesNamed(adminCookie) {
		if s.isAdmin(cookie.Value) {
			return operator, nil
		}
	}
	return tenantui.Viewer{}, nil // who sees nothing
}

var operator = tenantui.Viewer{Actor: "admin", All: true, Roles: []tenantui.Role{tenantui.Configure, tenantui.Adjust, tenantui.Operate}}

// signedInAdmin sends whoever is not signed in to where he can.
func (s *service) signedInAdmin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v, _ := s.admin(r); !v.All && r.Method == http.MethodGet {
			http.Redirect(w, r, "/admin/signin", http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *service) isAdmin(key string) bool {
	return subtle.ConstantTimeCompare([]byte(key), []byte(s.adminKey)) == 1
}

// customer says whose usage is shown.
func (s *service) customer(r *http.Request) (tenantui.Customer, error) {
	org, err := s.signedIn(r)
	if err != nil {
		return tenantui.Customer{}, err
	}
	return tenantui.Customer{Tenant: org, Actor: org.Slug}, nil
}

// home is the page of whoever is signed in, and else the one to sign up.
func (s *service) home(w http.ResponseWriter, r *http.Request) {
	org, err := s.signedIn(r)
	if errors.Is(err, errSignedOut) {
		s.page(w, r, http.StatusOK, "welcome.html", map[string]any{"Plan": plans[0]})
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.showChat(w, r, org, "")
}

func (s *service) showChat(w http.ResponseWriter, r *http.Request, org *Organization, key string) {
	today, err := tenant.ChargeToday(r.Context(), s.db, org)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.page(w, r, http.StatusOK, "chat.html", map[string]any{"Org": org, "Plans": plans, "Key": key, "Today": today})
}

func (s *service) postSignUp(w http.ResponseWriter, r *http.Request) {
	key, err := s.signUp(r.Context(), r.PostFormValue("name"))
	switch {
	case errors.Is(err, errTaken), errors.Is(err, errName):
		s.page(w, r, http.StatusUnprocessableEntity, "welcome.html", map[string]any{"Plan": plans[0], "Error": err.Error()})
		return
	case err != nil:
		s.fail(w, r, err)
		return
	}
	setCookie(w, sessionCookie, "/", key)
	org, err := s.organizationOf(r.Context(), key)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if wantsJSON(r) {
		writeJSON(w, http.StatusCreated, map[string]string{"organization": org.Slug, "key": key})
		return
	}
	s.showChat(w, r, org, key)
}

func (s *service) postSignIn(w http.ResponseWriter, r *http.Request) {
	key := r.PostFormValue("key")
	if _, err := s.organizationOf(r.Context(), key); errors.Is(err, errSignedOut) {
		s.page(w, r, http.StatusForbidden, "welcome.html", map[string]any{"Plan": plans[0], "Error": "that key is nobody's"})
		return
	} else if err != nil {
		s.fail(w, r, err)
		return
	}
	setCookie(w, sessionCookie, "/", key)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (*service) postSignOut(w http.ResponseWriter, r *http.Request) {
	setCookie(w, sessionCookie, "/", "")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *service) postPlan(w http.ResponseWriter, r *http.Request) {
	org, err := s.signedIn(r)
	if errors.Is(err, errSignedOut) {
		writeError(w, http.StatusForbidden, "signed_out", "Nobody is signed in.")
		return
	}
	if err == nil {
		if _, ok := planOf(r.PostFormValue("plan")); !ok {
			writeError(w, http.StatusBadRequest, "bad_request", "There is no such plan.")
			return
		}
		err = s.changePlan(r.Context(), org, r.PostFormValue("plan"))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *service) adminHome(w http.ResponseWriter, r *http.Request) {
	s.page(w, r, http.StatusOK, "admin.html", nil)
}

func (s *service) postAdminSignIn(w http.ResponseWriter, r *http.Request) {
	key := r.PostFormValue("key")
	if !s.isAdmin(key) {
		s.page(w, r, http.StatusForbidden, "admin.html", map[string]any{"Error": "that is not the key"})
		return
	}
	setCookie(w, adminCookie, "/admin/", key)
	http.Redirect(w, r, "/admin/", http.StatusSeeOther)
}

// health says whether the service can do its work: a load balancer asks.
func (s *service) health(w http.ResponseWriter, r *http.Request) {
	pending := s.ledger.Pending()
	if _, err := tenant.Running(r.Context(), s.db); err != nil {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "the books cannot be read", "pending": pending.Bookings})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "pending": pending.Bookings})
}

func (s *service) page(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := s.pages.ExecuteTemplate(w, name, data); err != nil {
		s.log.WarnContext(r.Context(), "saas: a page was not written", "page", name, "error", err)
	}
}

func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.log.ErrorContext(r.Context(), "saas: a request failed", "path", r.URL.Path, "error", err)
	http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
}

func setCookie(w http.ResponseWriter, name, path, value string) {
	c := &http.Cookie{Name: name, Value: value, Path: path, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int((30 * 24 * time.Hour).Seconds())}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func wantsJSON(r *http.Request) bool { return r.Header.Get("Accept") == "application/json" }

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// writeError answers in the form of tenanthttp.WriteRefusal.
func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}
