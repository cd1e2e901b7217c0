package verify

import (
	"context"
	"errors"
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

// problems collects them, each once, and holds no more than a proof can.
type problems struct {
	list []catalog.Problem
	seen map[catalog.Problem]bool
	more int // that are not in the list
}

// add adds one, unless there is one of its kind, object and file; of pages each counts.
func (p *problems) add(one catalog.Problem) {
	key := one
	if one.Kind != BadPage {
		key.Detail = ""
	}
	switch {
	case p.seen[key]:
		return
	case len(p.list) == catalog.MaxProblems:
		p.more++
		return
	case p.seen == nil:
		p.seen = map[catalog.Problem]bool{}
	}
	p.seen[key] = true
	p.list = append(p.list, one)
}
