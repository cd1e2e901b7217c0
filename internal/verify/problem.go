package verify

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

// The kinds of problems (catalog.Problem.Kind).
const (
	Missing    = "missing"     // an object that is needed is not there
	WrongSize  = "wrong_size"  // it is shorter or longer than it was
	Damaged    = "damaged"     // its bytes, or what they mean, are not what was stored
	Unreadable = "unreadable"  // the storage cannot read it, or this key or release cannot
	BadPage    = "page"        // a page does not check, and the backup did not know it
	WALHole    = "wal_hole"    // a segment or history is not there, and later WAL is
	WALDamaged = "wal_damaged" // a segment is damaged, or the records in it do not go on
)

// perFile is how many files of a damaged pack are named for a backup, one by one.
const perFile = 100

// unreadable says whether an error is about what was read, and not about the way to it.
// That includes a disk that cannot read this place.
func unreadable(err error) bool {
	return repo.Unreadable(err) || errors.Is(err, store.ErrNotFound) || errors.Is(err, syscall.EIO)
}

// problem describes an error for which unreadable is true, of an object of that name
// unless the error names one. Whether the object is missing, the store is asked.
func (v *verification) problem(ctx context.Context, object string, err error) (catalog.Problem, error) {
	p := catalog.Problem{Kind: Damaged, Object: object, Detail: err.Error()}
	var d *repo.Damage
	if errors.As(err, &d) {
		p.Object, p.Detail = d.Object, d.Detail
	}
	there, serr := v.Objects.Exists(ctx, p.Object)
	switch {
	case serr != nil && !unreadable(serr):
		return p, serr
	case serr == nil && !there:
		p.Kind, p.Detail = Missing, "it is missing"
	case d == nil:
		p.Kind = Unreadable
	}
	return p, nil
}

// maxPacks is how many damaged packs are named although the list is full, about 300 bytes
// each in a proof, which holds 64 MiB.
const maxPacks = 100_000

// problems collects them, each once, and holds no more than a proof can.
type problems struct {
	list  []catalog.Problem
	seen  map[catalog.Problem]bool
	packs map[string]bool // that the list names
	more  int             // that are not in the list
}

// add adds one, unless there is one of its kind, object and file; of pages each counts.
// However full the list is, each damaged pack is in it once: catalog.DamagedPacks, and so
// the next incremental backup, goes by that.
func (p *problems) add(one catalog.Problem) {
	key := one
	if one.Kind != BadPage {
		key.Detail = ""
	}
	switch {
	case p.seen[key]:
		return
	case len(p.list) >= catalog.MaxProblems:
		if !strings.Contains(one.Object, "/packs/") || p.packs[one.Object] || len(p.packs) >= maxPacks {
			p.more++
			return
		}
		one.File, one.Detail = "", "it is not as it was stored; more is wrong than is told one by one"
	case p.seen == nil:
		p.seen, p.packs = map[catalog.Problem]bool{}, map[string]bool{}
	}
	if p.seen[key] = true; strings.Contains(one.Object, "/packs/") {
		p.packs[one.Object] = true
	}
	p.list = append(p.list, one)
}
