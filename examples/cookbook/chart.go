package cookbook

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

type bar struct {
	Day    string            `json:"day"`
	Cost   string            `json:"cost"` // US dollars: a float would not be exact
	Models map[string]string `json:"models"`
}

func dailyCosts(ctx context.Context, db *gorm.DB, o *Organization, last time.Time, days int) ([]bar, error) {
	bars := make([]bar, 0, days)
	for i := days - 1; i >= 0; i-- {
		day := last.AddDate(0, 0, -i)
		s, err := tenant.UsageSummary(ctx, db, o, tenant.Date(day.Date()))
		if err != nil {
			return nil, err
		}
		b := bar{Day: day.Format(time.DateOnly), Cost: s.Cost.String(), Models: map[string]string{}}
		for _, m := range s.ByModel {
			b.Models[m.Model] = m.Cost.String()
		}
		bars = append(bars, b)
	}
	return bars, nil
}
