package catalog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// A damaged mark counts, by its name alone; a name of nobody we know does not; and a
// mark of a later release is no damage.
func TestMarks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	whole := Running{ID: "20261124T070000Z-aaaaaa", StartedAt: minute(1), Host: "a", PID: 7, Parent: "20261124T060000Z-000000", Adopts: []repo.ID{{1}}}
	broken := Running{ID: "20261124T070100Z-bbbbbb", StartedAt: minute(2), Host: "b", PID: 8, Parent: whole.ID}
	for _, r := range []Running{whole, broken} {
		w.must(WriteRunning(ctx, w.objects, testPlace, r))
	}
	w.put(testPlace.RunningName("letter"), []byte("dear repository"))
	flip(w, testPlace.RunningName(broken.ID))
	running, err := ReadRunning(ctx, w.objects, testPlace)
	if d := cmp.Diff([]Running{whole, {ID: broken.ID}}, running); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}

	var stones []Tombstone
	for _, id := range []string{"a", "b"} {
		s, err := WriteTombstone(ctx, w.objects, testPlace, []string{testPlace.PackName(repo.ID{id[0]})})
		w.must(err)
		stones = append(stones, s)
	}
	w.put(testPlace.TombstonesPrefix()+"letter", []byte("dear repository"))
	flip(w, testPlace.tombstoneName(stones[1].ID))
	stones[1].Objects = nil
	got, err := ReadTombstones(ctx, w.objects, testPlace)
	if len(got) == 2 && got[0].ID != stones[0].ID {
		got[0], got[1] = got[1], got[0]
	}
	if d := cmp.Diff(stones, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}

	// Authentic, and yet no JSON of a mark: all of it is damaged, not only what follows.
	w.must(w.objects.Put(ctx, testPlace.RunningName("20261124T070200Z-cccccc"), seal.Running, []byte(`{"parent_id":"x","pid":"seven"}`)))
	running, err = ReadRunning(ctx, w.objects, testPlace)
	if err != nil || len(running) != 3 || running[2].Parent != "" {
		t.Errorf("%+v, %v", running, err)
	}

	b := w.raw(testPlace.RunningName(whole.ID))
	b[8]++ // the version in the header, and then its checksum
	binary.LittleEndian.PutUint32(b[108:], crc32.Checksum(b[:108], crc32.MakeTable(crc32.Castagnoli)))
	w.put(testPlace.RunningName(whole.ID), b)
	if _, err := ReadRunning(ctx, w.objects, testPlace); !errors.Is(err, repo.ErrUnknownFormat) {
		t.Errorf("a mark of another format: %v", err)
	}
}

// flip damages an object.
func flip(w *world, name string) {
	w.t.Helper()
	b := w.raw(name)
	b[len(b)-20] ^= 1
	w.put(name, b)
}
