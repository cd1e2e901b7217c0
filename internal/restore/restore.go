package restore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// Result is what a restore did.
type Result struct {
	Restored uint64 // what a full restore writes, bytes
	Fetched  uint64 // from the store, as stored, bytes
	Written  uint64 // to the directory, holes not counted, bytes
	Files    uint64
	// Of a delta restore: what was read in the directory to be compared, what of that
	// was right, bytes, and how many names the backup does not have.
	Compared uint64
	Kept     uint64
	Removed  uint64
}

// hiddenControl is pg_control's name until everything is durable.
const hiddenControl = "global/pg_control.restoring"

// run is one restore on its way.
type run struct {
	Options
	head       catalog.Head
	created    []catalog.NewTablespace // by recovery
	owner      owner
	note       note
	old        note // of a restore that was cut off
	unfinished bool
	present    *datadir.Control // of the cluster that a delta restore replaces
	agreed     bool             // that it goes
	links      []string         // where the tablespaces of a directory are that is restored over
	packs      *pack.Reader
	footers    *pack.Footers
	groupBits  os.FileMode // of the data directory, if the cluster allows its group to read
	alsoSync   []string    // directories that are kept and may lie on other file systems
	res        Result
}

// Run restores a data directory. When it returns without error, the directory is
// durable, and starting PostgreSQL on it recovers to the target.
//
// It fails with *Refusal, before a byte is written, if the directory is no place for
// it; with repo.ErrDamaged, naming the object, if the repository does not give what
// was stored.
func Run(ctx context.Context, o Options) (Result, error) {
	r, err := begin(ctx, o)
	if err != nil {
		return Result{}, err
	}
	if err := r.agree(); err != nil {
		return Result{}, err
	}
	// Before anything is changed: with damaged lists, what is there stays what it is.
	infos, err := catalog.ReadPacks(ctx, o.Objects, r.head)
	if err != nil {
		return Result{}, err
	}
	r.packs = pack.NewReader(o.Objects, r.head.Place().PackName, catalog.PackInfos(infos))
	r.footers = pack.NewFooters(r.packs, hashesHeld)
	var parts *catalog.FileParts
	if r.Delta {
		if parts, err = r.index(ctx, nil); err != nil {
			return Result{}, err
		}
	}
	release, err := r.prepare()
	if err != nil {
		return Result{}, err
	}
	defer release()
	r.Events.Phase("restore")
	if err := r.files(ctx, parts); err != nil {
		return Result{}, err
	}
	if err := r.settle(); err != nil {
		return Result{}, fmt.Errorf("writing recovery settings to %s: %w", r.To, err)
	}
	r.Events.Phase("sync")
	if err := r.complete(); err != nil {
		return Result{}, err
	}
	return r.res, nil
}

// agree checks the directory, and has it confirmed if a cluster is in it.
func (r *run) agree() error {
	if err := r.check(); err != nil || r.present == nil {
		return err
	}
	r.agreed = true
	return r.Confirm(*r.present)
}

// begin checks the options, and reads what recovery will do.
func begin(ctx context.Context, o Options) (*run, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	head, err := catalog.Reread(ctx, o.Objects, o.Choice.Backup)
	if err != nil {
		return nil, fmt.Errorf("reading the chosen backup once more, from the repository itself: %w", err)
	}
	r := &run{Options: o, head: head}
	if r.created, err = o.Choice.NewTablespaces(ctx, o.Objects, o.Target); err != nil {
		return nil, fmt.Errorf("reading which tablespaces the WAL creates: %w", err)
	}
	return r, r.checkMap()
}

// complete makes everything durable, and then the directory a database.
func (r *run) complete() error {
	for _, dir := range slices.Concat([]string{r.To}, r.note.Tablespaces, r.alsoSync) {
		if err := syncFileSystem(dir); err != nil {
			return fmt.Errorf("making %s durable: %w", dir, err)
		}
	}
	control := filepath.Join(r.To, datadir.ControlPath)
	if err := os.Rename(filepath.Join(r.To, hiddenControl), control); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(control)); err != nil {
		return err
	}
	return r.note.remove(r.To)
}
