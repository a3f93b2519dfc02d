package cookbook

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v5"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

var errNobody = errors.New("nobody is signed in")

// signedIn says whose request it is. A real one goes by the session, never by what a client may choose.
func signedIn(r *http.Request) (tenant.Tenant, error) {
	if who := r.Header.Get("X-Account"); who != "" {
		return tenant.ID(who), nil
	}
	return nil, errNobody
}

func plain(mux *http.ServeMux) http.Handler {
	return tenanthttp.Middleware(signedIn)(mux)
}

func ginTenant(c *gin.Context) {
	t, err := signedIn(c.Request)
	if err != nil {
		c.AbortWithStatus(http.StatusForbidden)
		return
	}
	c.Request = c.Request.WithContext(tenanthttp.ContextWithCall(tenant.ContextWithTenant(c.Request.Context(), t)))
	c.Next()
}

func ginErrors(c *gin.Context) {
	c.Next()
	if last := c.Errors.Last(); last != nil && !c.Writer.Written() && !tenanthttp.WriteRefusal(c.Writer, last.Err) {
		c.AbortWithStatus(http.StatusInternalServerError)
	}
}

func echoTenant(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		t, err := signedIn(c.Request())
		if err != nil {
			return echo.NewHTTPError(http.StatusForbidden, http.StatusText(http.StatusForbidden))
		}
		c.SetRequest(c.Request().WithContext(tenanthttp.ContextWithCall(tenant.ContextWithTenant(c.Request().Context(), t))))
		if err = next(c); err != nil && tenanthttp.WriteRefusal(c.Response(), err) {
			return nil
		}
		return err
	}
}
