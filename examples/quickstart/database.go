package main

import (
	"context"
	"fmt"

	"gorm.io/gorm"
)

// createTables makes the host's own table. A real program has migrations for it.
func createTables(ctx context.Context, db *gorm.DB) error {
	return db.WithContext(ctx).Exec(`CREATE TABLE IF NOT EXISTS quickstart_organizations (
		id   bigint PRIMARY KEY,
		slug text   NOT NULL UNIQUE,
		name text   NOT NULL
	)`).Error
}

// findOrCreate returns the organization with that slug. If it is created, its budget is created with it.
func findOrCreate(ctx context.Context, db *gorm.DB, org Organization) (*Organization, error) {
	if err := db.WithContext(ctx).Where("slug = ?", org.Slug).FirstOrCreate(&org).Error; err != nil {
		return nil, fmt.Errorf("create the organization %s: %w", org.Slug, err)
	}
	return &org, nil
}
