package swifteats

import (
	"context"
	_ "embed" // for the two files below
	"fmt"
)

//go:embed schema.sql
var schemaSQL string

//go:embed data.sql
var dataSQL string

// FingerprintQuery gives one row for each table and materialized view: its name
// (text), how many rows it has (bigint) and a digest of them (text) that does not
// depend on the order they lie in. Two databases hold the same data when they
// give the same rows. It runs on a standby too.
const FingerprintQuery = "select relation, row_count, digest from public.fingerprint() order by relation"

// Execer runs SQL in one session of a database. Arguments are strings, whatever
// the type of the parameter; a text without arguments may hold several
// statements.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) error
}

// Create makes the schema in an empty database.
func Create(ctx context.Context, db Execer) error {
	if err := db.Exec(ctx, schemaSQL); err != nil {
		return fmt.Errorf("creating the SwiftEats schema: %w", err)
	}
	return nil
}

// Fill gives a database with an empty schema the given number of past orders,
// and restaurants, couriers and customers to match. A hundred thousand orders
// take a few seconds and about 90 MB. Everything becomes visible in one commit.
func Fill(ctx context.Context, db Execer, orders int, seed int64) error {
	if orders < 1 {
		return fmt.Errorf("filling SwiftEats: %d orders asked for, want at least 1", orders)
	}
	settings := fmt.Sprintf("set swifteats.orders = '%d'; set swifteats.seed = '%d';\n", orders, seed)
	if err := db.Exec(ctx, settings+dataSQL); err != nil {
		return fmt.Errorf("filling SwiftEats with %d orders: %w", orders, err)
	}
	return nil
}
