package cookbook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// shutdown ends a service: first what makes calls, then the ledger, then the database.
func shutdown(server *http.Server, ledger *tenant.Ledger, db *gorm.DB, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	served := server.Shutdown(ctx) // requests that run may end; streams too, if they do in time
	if served != nil {
		_ = server.Close() // their contexts end, and their calls are booked as far as they went
	}

	closed := ledger.Close(ctx)
	var unsettled *tenant.UnsettledError
	if errors.As(closed, &unsettled) {
		for _, u := range unsettled.Unsettled { // their holds are charged; Record can book what is Unbooked
			log.Error("a call is not on the books", "tenant", u.TenantID, "execution", u.ExecutionID, "usage", u.Usage)
		}
	}

	pool, err := db.DB()
	if err == nil {
		err = pool.Close()
	}
	return errors.Join(served, closed, err)
}
