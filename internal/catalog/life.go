package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Life is all that a repository knows of one place, and of those that it continues:
// a takeover goes on in a place of its own, and until it has a backup there, its WAL
// follows on the backups of the life before.
type Life struct {
	Origin  Origin
	Archive Archive
	Backups []Head // oldest first
	// Unreadable says of each backup left out of Backups why it cannot be read: one
	// damaged head must not keep the others from being restored.
	Unreadable []error
}

// maxParents bounds the chain of takeovers that is followed.
const maxParents = 64

// ReadLife reads it.
func ReadLife(ctx context.Context, objects *seal.Objects, o Origin) (Life, error) {
	life, err := readOwn(ctx, objects, o)
	for n, next := 0, o; err == nil && next.Parent != ""; n++ {
		if n == maxParents {
			return Life{}, fmt.Errorf("%s continues more than %d lives", o.Place(), maxParents)
		}
		parent := next.Place()
		parent.Incarnation = next.Parent
		if next, err = ReadOrigin(ctx, objects, parent); errors.Is(err, ErrNoPlace) {
			err = repo.Damaged(parent.originName(), "it is missing")
		}
		if err != nil {
			return Life{}, fmt.Errorf("reading the life that %s continues: %w", o.Place(), err)
		}
		var before Life
		if before, err = readOwn(ctx, objects, next); err == nil {
			life.continues(before)
		}
	}
	return life, err
}

func readOwn(ctx context.Context, objects *seal.Objects, o Origin) (Life, error) {
	heads, unreadable, err := ReadHeads(ctx, objects, o.Place())
	if err != nil {
		return Life{}, err
	}
	a, err := ReadArchive(ctx, objects, o)
	return Life{o, a, heads, unreadable}, err
}

// continues adds the life before.
func (l *Life) continues(before Life) {
	l.Archive = l.Archive.Continuing(before.Archive)
	l.Backups = append(slices.Clone(before.Backups), l.Backups...)
	slices.SortStableFunc(l.Backups, func(a, b Head) int { return a.StoppedAt.Compare(b.StoppedAt) })
	l.Unreadable = append(l.Unreadable, before.Unreadable...)
}

// continuedLines gives the timelines of a life with those that lead to it. The life
// before may have gone on by itself, with timelines of the same numbers: of those
// only the ancestors of ours count. What a takeover archives of the timeline it left
// is its cut-off last segment, which the life before has whole or not at all.
func continuedLines(own, before Archive) []Line {
	lines := slices.DeleteFunc(slices.Clone(own.Lines), func(l Line) bool {
		_, both := before.Find(l.Timeline)
		return both && len(l.Segments) == 0 && l.Unreadable == nil && (l.History == nil || l.Timeline == 1)
	})
	var ancestry *Line
	if n := len(lines); n > 0 {
		ancestry = &lines[n-1]
	}
	for _, l := range before.Lines {
		_, ours := Archive{Lines: lines}.Find(l.Timeline)
		is := ancestry == nil
		if !is && ancestry.History != nil {
			_, is = ancestry.History.ForkAfter(l.Timeline)
		}
		if is && !ours {
			lines = append(lines, l)
		}
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return int(int64(a.Timeline) - int64(b.Timeline)) })
	return lines
}
