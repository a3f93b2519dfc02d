package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenantui"
)

type serveCommand struct {
	Port      uint16 `default:"0" help:"The port on 127.0.0.1. Defaults to one that is free."`
	AllowActs bool   `help:"Let whoever has the address change tenants: limits, top-ups, credits, debits, suspensions, names."`
	pricesFlags
}

// Help is the help of the command.
func (serveCommand) Help() string {
	return `The dashboard is served on 127.0.0.1 alone, until Ctrl-C. Its address has a secret, without which nobody else on this machine sees anything: do not pass it on.`
}

// served is what serve prints as JSON, before it serves.
type served struct{ URL string }

func (c *serveCommand) Run(ctx context.Context, a *app) error {
	book, err := c.book(nil)
	if err != nil {
		return err
	}
	l, end, err := a.open(ctx, tenant.WithPrices(book))
	if err != nil {
		return err
	}
	defer end()
	viewer := tenantui.Viewer{Actor: a.actor(), All: true}
	if c.AllowActs {
		viewer.Roles = []tenantui.Role{tenantui.Configure, tenantui.Adjust, tenantui.Operate}
	}
	log := slog.New(slog.NewTextHandler(a.problems, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ui, err := tenantui.New(l.Ledger, tenantui.Options{Authorize: func(*http.Request) (tenantui.Viewer, error) { return viewer, nil }, Log: log})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", c.Port))
	if err != nil {
		return err
	}
	secret := rand.Text()
	host := listener.Addr().String()
	server := &http.Server{Handler: guarded(ui, host, secret), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	address := "http://" + host + "/?secret=" + secret
	if a.JSON {
		a.out.json(served{address})
	} else {
		a.out.say("%s", address)
		a.note("Whoever has this address sees the books. Ctrl-C ends it.")
	}
	if a.out.err != nil {
		_ = listener.Close()
		return a.out.err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err = server.Shutdown(within); err != nil {
		return err
	}
	if err = <-ended; errors.Is(err, http.ErrServerClosed) {
		return nil // it is how it ends
	}
	return err
}

// cookie is what a browser shows after it had the secret. Those of other ports of the machine would come along under one name.
func cookie(host string) string {
	_, port, _ := net.SplitHostPort(host)
	return "tenant-" + port
}

// guarded shows nothing to whoever does not have the secret, nor under another host's name.
func guarded(next http.Handler, host, secret string) http.Handler {
	is := func(s string) bool { return subtle.ConstantTimeCompare([]byte(s), []byte(secret)) == 1 }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, port, _ := net.SplitHostPort(host)
		if r.Host != host && r.Host != "localhost:"+port {
			http.Error(w, "this is "+host, http.StatusMisdirectedRequest)
			return
		}
		if query := r.URL.Query(); r.Method == http.MethodGet && is(query.Get("secret")) {
			http.SetCookie(w, &http.Cookie{Name: cookie(host), Value: secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
			w.Header().Set("Referrer-Policy", "no-referrer")
			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, "/", http.StatusSeeOther) // so that the secret is in no history of pages
			return
		}
		if c, err := r.Cookie(cookie(host)); err != nil || !is(c.Value) {
			http.Error(w, "open the address that `tenant serve` has printed", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
