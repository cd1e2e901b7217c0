package conn

import (
	"context"
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Tablespace is a tablespace with a directory of its own.
type Tablespace struct {
	OID      pg.OID
	Name     string
	Location string // on the server's machine
}

// Tablespaces lists all but pg_default and pg_global, by OID.
func (c *Conn) Tablespaces(ctx context.Context) ([]Tablespace, error) {
	const sql = "SELECT oid, spcname::text, pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> '' ORDER BY oid"
	return list(ctx, c, "listing tablespaces", sql, func(scan func(...any) error) (t Tablespace, err error) {
		return t, scan((*uint32)(&t.OID), &t.Name, &t.Location)
	})
}

// ReplicationSlot is a slot, physical or logical.
type ReplicationSlot struct {
	Name     string
	Kind     string // physical or logical
	Plugin   string // of a logical slot
	Database string // of a logical slot
	Active   bool
	// Temporary slots go with their session.
	Temporary bool
	// RestartLSN is the oldest WAL that the slot keeps; zero if it keeps none.
	RestartLSN pg.LSN
}

// ReplicationSlots lists all slots, by name. A backup does not hold them.
func (c *Conn) ReplicationSlots(ctx context.Context) ([]ReplicationSlot, error) {
	const sql = `SELECT slot_name::text, slot_type, coalesce(plugin::text, ''), coalesce(database::text, ''), active, temporary,
  coalesce(restart_lsn, '0/0')::text FROM pg_replication_slots ORDER BY slot_name`
	return list(ctx, c, "listing replication slots", sql, func(scan func(...any) error) (s ReplicationSlot, err error) {
		var lsn string
		if err = scan(&s.Name, &s.Kind, &s.Plugin, &s.Database, &s.Active, &s.Temporary, &lsn); err == nil {
			s.RestartLSN, err = pg.ParseLSN(lsn)
		}
		return s, err
	})
}

// Database is one database of the cluster.
type Database struct {
	OID              pg.OID
	Name             string
	IsTemplate       bool
	AllowConnections bool
	// XMin is the transaction that wrote its row of pg_database: that made or altered
	// it. One that was dropped and made anew under its OID has another.
	XMin uint32
}

// Databases lists all databases, templates included, by OID.
func (c *Conn) Databases(ctx context.Context) ([]Database, error) {
	const sql = "SELECT oid, datname::text, datistemplate, datallowconn, xmin::text::bigint FROM pg_database ORDER BY oid"
	return list(ctx, c, "listing databases", sql, func(scan func(...any) error) (d Database, err error) {
		var xmin int64
		err = scan((*uint32)(&d.OID), &d.Name, &d.IsTemplate, &d.AllowConnections, &xmin)
		d.XMin = uint32(xmin)
		return d, err
	})
}

// DatabaseSize is the size of all databases together, in bytes, without WAL.
// It needs pg_monitor, or CONNECT on every database.
func (c *Conn) DatabaseSize(ctx context.Context) (int64, error) {
	var n int64
	// A database that is dropped meanwhile has no size.
	err := c.Row(ctx, "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database", nil, &n)
	if err != nil {
		return 0, fmt.Errorf("measuring the databases on %s: %w", c.cfg.Address(), err)
	}
	return n, nil
}

// Collations say which libraries order text on this server. A restore on a
// machine where they have another version may find its indexes out of order.
type Collations struct {
	Databases []DatabaseCollation // by name
	Providers []CollationProvider // the versions in use in the database of the session
}

// DatabaseCollation is the default collation of a database.
type DatabaseCollation struct {
	Database string
	Provider string // libc, icu or builtin
	Collate  string // LC_COLLATE
	CType    string // LC_CTYPE
	Locale   string // of icu and builtin
	// Recorded is the version when the database was made or refreshed, Actual
	// the one of the machine now. Both are empty where the provider has none,
	// and before version 15.
	Recorded, Actual string
}

// CollationProvider is a library and a version that some collation has with it.
type CollationProvider struct {
	Provider string // libc, icu or builtin
	Version  string
}

// providerNames are the letters of datlocprovider and collprovider (pg_collation.h).
const providerSQL = "CASE %s WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE %[1]s::text END"

// Collations asks for the libraries that order text.
func (c *Conn) Collations(ctx context.Context) (Collations, error) {
	var locale string
	provider := fmt.Sprintf(providerSQL, "datlocprovider")
	versions := "coalesce(datcollversion, ''), coalesce(pg_database_collation_actual_version(oid), '')"
	switch major := c.version.Major(); {
	case major >= 17:
		locale = "datlocale"
	case major >= 15:
		locale = "daticulocale"
	default:
		locale, provider, versions = "NULL", "'libc'", "'', ''"
	}
	sql := fmt.Sprintf("SELECT datname::text, %s, datcollate::text, datctype::text, coalesce(%s::text, ''), %s FROM pg_database ORDER BY datname",
		provider, locale, versions)
	var out Collations
	var err error
	out.Databases, err = list(ctx, c, "reading collations", sql, func(scan func(...any) error) (d DatabaseCollation, err error) {
		return d, scan(&d.Database, &d.Provider, &d.Collate, &d.CType, &d.Locale, &d.Recorded, &d.Actual)
	})
	if err != nil {
		return Collations{}, err
	}
	sql = fmt.Sprintf(`SELECT DISTINCT %s, v FROM pg_collation, pg_collation_actual_version(oid) v
WHERE v <> '' AND collprovider <> 'd' ORDER BY 1, 2`, fmt.Sprintf(providerSQL, "collprovider"))
	out.Providers, err = list(ctx, c, "reading collations", sql, func(scan func(...any) error) (p CollationProvider, err error) {
		return p, scan(&p.Provider, &p.Version)
	})
	return out, err
}

// RequiredSettings are those that a standby, and a server in archive recovery,
// must have at least as high as the server that wrote the WAL (CheckRequiredParameterValues,
// xlogrecovery.c), and the libraries without which it may not start.
type RequiredSettings struct {
	MaxConnections          int
	MaxWorkerProcesses      int
	MaxWALSenders           int
	MaxPreparedTransactions int
	MaxLocksPerTransaction  int
	// SharedPreloadLibraries is the setting as it is; empty also if the role may
	// not see it, which needs pg_read_all_settings.
	SharedPreloadLibraries string
}

// RequiredSettings reads them.
func (c *Conn) RequiredSettings(ctx context.Context) (RequiredSettings, error) {
	var r RequiredSettings
	err := c.Row(ctx, `SELECT current_setting('max_connections')::int, current_setting('max_worker_processes')::int,
  current_setting('max_wal_senders')::int, current_setting('max_prepared_transactions')::int,
  current_setting('max_locks_per_transaction')::int,
  coalesce((SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), '')`, nil,
		&r.MaxConnections, &r.MaxWorkerProcesses, &r.MaxWALSenders, &r.MaxPreparedTransactions,
		&r.MaxLocksPerTransaction, &r.SharedPreloadLibraries)
	if err != nil {
		return r, fmt.Errorf("reading settings on %s: %w", c.cfg.Address(), err)
	}
	return r, nil
}

// list runs a query and makes a value of each row.
func list[T any](ctx context.Context, c *Conn, doing, sql string, read func(scan func(...any) error) (T, error)) ([]T, error) {
	var out []T
	err := c.Rows(ctx, sql, nil, func(scan func(...any) error) error {
		v, err := read(scan)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", doing, c.cfg.Address(), err)
	}
	return out, nil
}
