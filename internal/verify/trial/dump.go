package trial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// dump has pg_dump read every database, to nothing: it goes through the catalogues,
// and, unless told not to, every row that is not in an extension's or foreign table.
func (r *run) dump(ctx context.Context, databases []string) error {
	const name = "pg_dump"
	r.Events.Phase(name)
	began := r.Clock.Now()
	if _, err := os.Stat(filepath.Join(r.BinDir, name)); errors.Is(err, fs.ErrNotExist) {
		r.skip(name, began, "pg_dump is not in "+r.BinDir)
		return nil
	}
	bad := 0
	for _, database := range databases {
		said, err := r.dumpOne(ctx, name, database)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			continue
		case !errors.As(err, new(*exec.ExitError)):
			return fmt.Errorf("running pg_dump: %w", err)
		}
		bad++
		r.problem(catalog.Problem{Kind: NotReadable, Detail: fmt.Sprintf("pg_dump of database %s failed: %s", database, oneLine(said, 1000))})
	}
	what := "catalogues and rows"
	if r.Dump == DumpSchema {
		what = "catalogues"
	}
	detail := fmt.Sprintf("%s of %d databases", what, len(databases))
	if bad > 0 {
		detail += fmt.Sprintf(", of which %d cannot be read", bad)
	}
	r.check(name, began, bad == 0, detail)
	return nil
}

func (r *run) dumpOne(ctx context.Context, program, database string) (said string, err error) {
	args := []string{"--no-password"}
	if r.Dump == DumpSchema {
		args = append(args, "--schema-only")
	}
	cmd, err := server.Command(ctx, r.BinDir, r.scratch.data(), program, args...)
	if err != nil {
		return "", err
	}
	// By the environment, in which a database's name is never taken for a connection
	// string.
	cmd.Env = append(cmd.Env, "PGHOST="+r.scratch.dir, fmt.Sprintf("PGPORT=%d", port), "PGUSER="+r.super, "PGDATABASE="+database,
		"PGSSLMODE=disable", "PGGSSENCMODE=disable", "PGOPTIONS=-c session_replication_role=replica")
	complaints := &excerpt{most: 64 << 10}
	cmd.Stderr = complaints
	err = server.Run(cmd)
	return complaints.String(), err
}
