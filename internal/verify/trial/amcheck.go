package trial

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

// relation is a heap or a B-tree to look at.
type relation struct {
	oid   uint32
	index bool
	name  string // quoted, with its schema
	file  string // in the data directory
}

// findings are what amcheck said of all relations.
type findings struct {
	mu             sync.Mutex
	heaps, indexes int
	bad            []catalog.Problem
	left           []string // could not be looked at, and why
	old            bool     // this release cannot look at heaps
}

// amcheck looks at every heap and B-tree of the databases. What is shared by all is
// looked at in the first.
func (r *run) amcheck(ctx context.Context, databases []string) error {
	const name = "amcheck"
	r.Events.Phase(name)
	began := r.Clock.Now()
	f := &findings{}
	for i, database := range databases {
		if err := r.amcheckIn(ctx, database, i == 0, f); err != nil {
			return fmt.Errorf("looking at database %s: %w", database, err)
		}
	}
	slices.SortStableFunc(f.bad, func(a, b catalog.Problem) int { return cmp.Compare(a.Detail, b.Detail) })
	r.res.Problems = append(r.res.Problems, f.bad...)
	detail := fmt.Sprintf("%d tables and %d indexes in %d databases", f.heaps, f.indexes, len(databases))
	if f.old {
		detail = fmt.Sprintf("%d indexes in %d databases; this release has no check of tables", f.indexes, len(databases))
	}
	switch {
	case len(f.bad) > 0:
		r.check(name, began, false, fmt.Sprintf("%s, and %d faults in them", detail, len(f.bad)))
	case len(f.left) > 0:
		r.skip(name, began, fmt.Sprintf("%s, but not %s", detail, strings.Join(f.left[:min(3, len(f.left))], ", ")))
	default:
		r.check(name, began, true, detail)
	}
	return nil
}

func (r *run) amcheckIn(ctx context.Context, database string, shared bool, f *findings) error {
	c, err := r.amcheckConn(ctx, database)
	if err != nil {
		return err
	}
	defer c.Close()
	schema, heaps, err := extension(ctx, c)
	if err != nil {
		return err
	}
	if schema == "" {
		f.left = append(f.left, fmt.Sprintf("database %s: the extension amcheck is not installed on this host (on Debian it comes with the server, elsewhere with postgresql-contrib)", database))
		return nil
	}
	f.old = f.old || !heaps
	relations, err := relationsOf(ctx, c, shared, heaps)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	next := make(chan relation)
	g.Go(func() error {
		defer close(next)
		for _, rel := range relations {
			select {
			case next <- rel:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	for i := range max(1, min(r.Workers, len(relations), connections/2)) {
		g.Go(func() error {
			c := c
			if i > 0 {
				var err error
				if c, err = r.amcheckConn(gctx, database); err != nil {
					return err
				}
				defer c.Close()
			}
			for rel := range next {
				if err := f.look(gctx, c, schema, database, rel); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// amcheckConn opens a session in which no trigger of the cluster fires.
func (r *run) amcheckConn(ctx context.Context, database string) (*conn.Conn, error) {
	c, err := r.connect(ctx, "", database)
	if err != nil {
		return nil, err
	}
	if err := c.Exec(ctx, "SET session_replication_role = replica"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// extension makes amcheck ready in a database of the copy, and gives the schema that it
// is in, "" if this host does not have it, and whether it knows heaps (from 14 on).
func extension(ctx context.Context, c *conn.Conn) (schema string, heaps bool, err error) {
	var has bool
	if err := c.Row(ctx, "SELECT count(*) > 0 FROM pg_available_extensions WHERE name = 'amcheck'", nil, &has); err != nil || !has {
		return "", false, err
	}
	// The cluster may have it, in an older version.
	if err := c.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA pg_catalog; ALTER EXTENSION amcheck UPDATE"); err != nil {
		return "", false, err
	}
	if err := c.Row(ctx, "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'", nil, &schema); err != nil {
		return "", false, err
	}
	return schema, c.Version().Major() >= 14, nil
}

// relationsOf lists what amcheck can look at, the largest first. Temporary relations are
// what dead sessions left; an index that is not valid, because it was never finished,
// holds nothing that anybody relies on.
func relationsOf(ctx context.Context, c *conn.Conn, shared, heaps bool) ([]relation, error) {
	const sql = `SELECT c.oid, c.relkind = 'i', quote_ident(n.nspname) || '.' || quote_ident(c.relname), coalesce(pg_relation_filepath(c.oid), '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam LEFT JOIN pg_index i ON i.indexrelid = c.oid
		WHERE c.relpersistence <> 't' AND ($1 OR NOT c.relisshared)
			AND (c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready OR $2 AND c.relkind IN ('r', 'm', 't') AND a.amname = 'heap')
		ORDER BY c.relpages DESC, c.oid`
	var list []relation
	err := c.Rows(ctx, sql, []any{shared, heaps}, func(scan func(...any) error) error {
		var rel relation
		err := scan(&rel.oid, &rel.index, &rel.name, &rel.file)
		list = append(list, rel)
		return err
	})
	return list, err
}

// faultsShown is how many faults of one table are told: more say nothing new.
const faultsShown = 5

// look looks at one relation.
func (f *findings) look(ctx context.Context, c *conn.Conn, schema, database string, rel relation) error {
	kind, what := TableDamaged, "table"
	var err error
	var faults []string
	if rel.index {
		kind, what = IndexDamaged, "index"
		err = c.Exec(ctx, fmt.Sprintf("SELECT %s.bt_index_parent_check($1::oid::regclass, true)", schema), rel.oid)
	} else {
		faults, err = faultsOf(ctx, c, schema, rel.oid)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if rel.index {
		f.indexes++
	} else {
		f.heaps++
	}
	switch {
	case err == nil:
	case ctx.Err() != nil || conn.Unavailable(err):
		return err
	case damageState(conn.SQLState(err)):
		faults = append(faults, err.Error())
	default:
		// As where a function of an index needs a library that this host lacks.
		f.left = append(f.left, fmt.Sprintf("%s %s in database %s: %s", what, rel.name, database, oneLine(err.Error(), 300)))
	}
	for _, fault := range faults {
		f.bad = append(f.bad, catalog.Problem{Kind: kind, File: rel.file, Detail: fmt.Sprintf("%s %s in database %s: %s", what, rel.name, database, oneLine(fault, 500))})
	}
	return nil
}

// damageState says whether an error code of the server's tells of what is stored: class
// XX is data_corrupted, index_corrupted and internal errors, 58030 an error of reading.
func damageState(code string) bool { return strings.HasPrefix(code, "XX") || code == "58030" }

// faultsOf asks amcheck for what is wrong with a heap, and with the values that it
// stores out of line.
func faultsOf(ctx context.Context, c *conn.Conn, schema string, oid uint32) ([]string, error) {
	var faults []string
	sql := fmt.Sprintf("SELECT blkno, offnum, msg FROM %s.verify_heapam($1::oid::regclass, check_toast := true) LIMIT %d", schema, faultsShown)
	err := c.Rows(ctx, sql, []any{oid}, func(scan func(...any) error) error {
		var block *int64
		var line *int32
		var message *string
		if err := scan(&block, &line, &message); err != nil {
			return err
		}
		text := ""
		if block != nil {
			text = fmt.Sprintf("block %d: ", *block)
		}
		if block != nil && line != nil {
			text = fmt.Sprintf("block %d, line %d: ", *block, *line)
		}
		if message != nil {
			text += *message
		}
		faults = append(faults, text)
		return nil
	})
	return faults, err
}
