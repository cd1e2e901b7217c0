package verify

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Source is another repository, which may have what one lacks.
type Source struct {
	Name    string
	Objects *seal.Objects
}

// Repaired is an object that was repaired.
type Repaired struct {
	Object string `json:"object"`
	From   string `json:"from"` // the name of a repository
}

// Repair mends what a report on a place says is missing or damaged, as far as another
// repository has the very same: WAL. Segments, histories and backup history files go to
// all repositories, under the same names. Packs, and what else belongs to a backup, are in
// one repository only.
//
// A copy is read to its end, and its records are parsed, before anything is changed; then
// it takes the place of what is damaged in one step, so that whenever this is cut off,
// nothing is lost that was sound. What can be read after all is left alone, whatever
// another repository has. Who repairs verifies again.
//
// It fails with an error of the repository that is to be repaired; of sources it warns.
func Repair(ctx context.Context, o Options, r Report, sources []Source) ([]Repaired, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	m := mending{Options: o}
	var err error
	if m.sizes, err = sizesOf(ctx, o, r); err != nil {
		return nil, err
	}
	var done []Repaired
	tried := map[string]bool{}
	for _, p := range append(allProblems(r), r.Problems...) {
		if tried[p.Object] || !strings.HasPrefix(p.Object, "clusters/"+o.Place.Cluster+"/") || !strings.Contains(p.Object, "/wal/") {
			continue
		}
		tried[p.Object] = true
		from, err := m.mend(ctx, p.Object, sources)
		if err != nil {
			return done, err
		}
		if from != "" {
			done = append(done, Repaired{p.Object, from})
		}
	}
	return done, nil
}

func allProblems(r Report) (all []catalog.Problem) {
	for _, b := range r.Backups {
		all = append(all, b.Problems...)
	}
	return all
}

// sizesOf gives the sizes of the cluster's files.
func sizesOf(ctx context.Context, o Options, r Report) (pg.Sizes, error) {
	for _, b := range r.Backups {
		if b.Head != nil {
			return b.Head.Sizes, nil
		}
	}
	origin, err := catalog.ReadOrigin(ctx, o.Objects, o.Place)
	return origin.Sizes, err
}

// mending repairs objects of one repository.
type mending struct {
	Options
	sizes pg.Sizes
}

// mend repairs an object, and gives the name of the source; "" if it could not be, or
// need not be.
func (m *mending) mend(ctx context.Context, name string, sources []Source) (string, error) {
	file, err := pg.ParseWALFile(path.Base(name), m.sizes.WALSegment)
	if err != nil {
		return "", nil //nolint:nilerr // no file of WAL: nothing that another repository has, too
	}
	over, sound, err := m.present(ctx, name, file)
	if err != nil || sound {
		return "", err
	}
	for _, s := range sources {
		err := m.check(ctx, s.Objects, name, file)
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			m.Events.Warn(fmt.Sprintf("%s is not repaired from %s: %v", name, s.Name, err))
			continue
		}
		err = m.copy(ctx, s.Objects, name, file, over)
		if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrChanged) {
			m.Events.Warn(name + " is not repaired: somebody else has written it meanwhile; verify again")
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("repairing %s from %s: %w", name, s.Name, err)
		}
		if err := m.check(ctx, m.Objects, name, file); err != nil && !errors.Is(err, store.ErrNotFound) { // it may have expired
			return "", fmt.Errorf("reading %s again, which was repaired from %s: %w", name, s.Name, err)
		}
		return s.Name, nil
	}
	return "", nil
}

// present looks at the object that is to be repaired: its version, "" if there is none,
// and whether it can be read.
func (m *mending) present(ctx context.Context, name string, file pg.WALFile) (over store.Version, sound bool, err error) {
	o, err := m.Objects.Store().Stat(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	err = m.readable(ctx, m.Objects, name, file)
	switch {
	case err == nil:
		return o.Version, true, nil
	case unreadable(err):
		return o.Version, false, nil
	}
	return "", false, err
}

// readable reads an object to its end.
func (m *mending) readable(ctx context.Context, objects *seal.Objects, name string, file pg.WALFile) error {
	_, err := m.scan(ctx, objects, name, file)
	return err
}

// scan reads a segment, and what is in it; of what is none only that it can be read.
func (m *mending) scan(ctx context.Context, objects *seal.Objects, name string, file pg.WALFile) (scanned, error) {
	if file.Kind != pg.WALSegment && file.Kind != pg.WALPartial {
		data, err := objects.Get(ctx, name, seal.WALSmall)
		if err == nil && file.Kind == pg.WALHistory {
			if _, herr := pg.ParseHistory(file.Timeline, data); herr != nil {
				err = repo.Damaged(name, "%v", herr)
			}
		}
		return scanned{}, err
	}
	wal, err := catalog.OpenWAL(ctx, objects, name)
	if err != nil {
		return scanned{}, err
	}
	defer wal.Close()
	var r scanned
	index, n, err := r.from(wal, file.Segment.Start(m.sizes.WALSegment))
	if err == nil && n != int64(m.sizes.WALSegment) {
		err = repo.Damaged(name, "it has %d bytes of WAL, a segment %d", n, m.sizes.WALSegment)
	}
	if err == nil && index.Header.Magic != 0 {
		if herr := index.Header.Check(file.Segment, m.Place.SystemID); herr != nil {
			err = repo.Damaged(name, "%v", herr)
		}
	}
	return r, err
}

// check says why an object of a source is no copy to repair with; nil if it is one.
func (m *mending) check(ctx context.Context, objects *seal.Objects, name string, file pg.WALFile) error {
	r, err := m.scan(ctx, objects, name, file)
	if err == nil && file.Kind == pg.WALSegment && r.ending != walrec.EndsFull && r.ending != walrec.EndsBySwitch {
		err = repo.Damaged(name, "its WAL ends at %s", r.to)
	}
	return err
}

func (m *mending) copy(ctx context.Context, from *seal.Objects, name string, file pg.WALFile, over store.Version) error {
	if file.Kind == pg.WALSegment || file.Kind == pg.WALPartial {
		return catalog.CopyWAL(ctx, from, m.Objects, name, over)
	}
	return catalog.CopyWALSmall(ctx, from, m.Objects, name, over)
}
