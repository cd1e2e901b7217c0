package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
)

// checkMap refuses new locations for tablespaces that a restore does not place: such
// as the backup does not have, and such as recovery creates.
func (r *run) checkMap() error {
	known := map[pg.OID]bool{}
	for _, t := range r.head.Tablespaces {
		known[t.OID] = true
	}
	for _, t := range r.created {
		known[t.OID] = true
		if dir, mapped := r.Tablespaces[t.OID]; mapped && filepath.Clean(dir) != filepath.Clean(t.Location) {
			return refuse(r.waysAround(t), "tablespace %d cannot be put in %s: the WAL creates it at %s, after backup %s began, and PostgreSQL then makes it where it was, in %s",
				t.OID, dir, t.LSN, r.head.ID, t.Location)
		}
	}
	for oid := range r.Tablespaces {
		if !known[oid] {
			return fmt.Errorf("backup %s has no tablespace %d, nor does the WAL after it create one", r.head.ID, oid)
		}
	}
	return nil
}

// checkCreated refuses to let recovery create a tablespace where anything is.
// PostgreSQL does not look: it links to the directory, replays what was written to
// it, which may be what a running server has open there, and old releases remove it
// first (create_tablespace_directories, tablespace.c).
func (r *run) checkCreated() error {
	for _, t := range r.created {
		dir := filepath.Clean(t.Location)
		if r.ours(dir) {
			continue // the restore that was cut off wrote there
		}
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			return refuse(r.waysAround(t), "recovery would write to %s, which is not empty: it holds %s. The WAL creates tablespace %d there, at %s, after backup %s began",
				dir, entries[0].Name(), t.OID, t.LSN, r.head.ID)
		}
	}
	return nil
}

// creates says whether recovery creates a tablespace in the directory.
func (r *run) creates(dir string) bool {
	for _, t := range r.created {
		if filepath.Clean(t.Location) == filepath.Clean(dir) {
			return true
		}
	}
	return false
}

// waysAround says what can be done about a tablespace that recovery creates.
func (r *run) waysAround(t catalog.NewTablespace) string {
	ways := "make a newer backup, of which --tablespace-map can put it elsewhere; or restore on another host; or move away what is in " + t.Location
	if !r.Standby && t.LSN >= r.head.StopLSN {
		// A time would not do: before the commit of whoever created it recovery has
		// created it already.
		ways = fmt.Sprintf("recover to before that: --lsn %s --exclusive; or %s", t.LSN, ways)
	}
	return ways
}

// makeCreated makes the directories that recovery needs: without them it fails.
// Nothing is written to them here, so a restore that is done again finds them empty,
// and none is cleared.
func (r *run) makeCreated() error {
	for _, t := range r.created {
		if err := r.makeDir(filepath.Clean(t.Location)); err != nil {
			return fmt.Errorf("making the directory of tablespace %d, which the WAL creates: %w", t.OID, err)
		}
		r.Events.Warn(fmt.Sprintf("recovery creates tablespace %d in %s, where it was", t.OID, t.Location))
	}
	return nil
}
