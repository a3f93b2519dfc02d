-- A place of the books: a schema, @place, beside the tables that say who is who, which its tenants are read from by a view. The
-- settings that tenants inherit are those of all places.

-- +goose Up

CREATE VIEW @place.llm_tenants AS
    SELECT t.* FROM llm_tenants t WHERE t.place = '@place' OR t.id = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

-- +goose Down
DROP VIEW @place.llm_tenants;
