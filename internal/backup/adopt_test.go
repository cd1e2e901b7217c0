package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/expire"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// again prepares another backup of the same directory into the same place.
func (r *run) again(t *testing.T) *run {
	t.Helper()
	next := newRun(t, r.DataDir, r.Codec)
	next.Objects, next.place = r.Objects, r.place
	next.head.Incarnation = r.head.Incarnation
	return next
}

// What a backup stored that was cut off is named by the next, and not stored again,
// where nothing has changed meanwhile.
func TestAdopt(t *testing.T) {
	t.Parallel()
	dir := stopped(t)
	write(t, filepath.Join(dir, "base/1/90001"), pages(0, 640))
	changing := pages(0, 256)
	mark(changing, 1)
	write(t, filepath.Join(dir, "base/1/90002"), changing)

	first := newRun(t, dir, chunk.S2)
	if err := first.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.store(t, func() {})
	first.leave(t.Context(), nil, errKilled)
	if left := leftovers(t, first); len(left) == 0 {
		t.Fatal("a backup that failed left nothing to adopt")
	}

	mark(changing[:128*8192], 2)
	write(t, filepath.Join(dir, "base/1/90002"), changing)
	second := first.again(t)
	if err := second.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.store(t, func() {})
	if err := second.complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.unmark(t.Context())
	h := second.head
	if h.PagesStored < 64 || h.PagesStored > 128 || h.Stored > h.Adopted {
		t.Errorf("of %d pages, 1 MB of which had changed, %d were stored: %d bytes, and %d were adopted", h.PagesRead, h.PagesStored, h.Stored, h.Adopted)
	}

	o := expire.Options{Objects: second.Objects, Place: second.place, Clock: clock.System()}
	var err error
	if o.Locks, err = lock.New(second.Objects.Store(), clock.System()); err != nil {
		t.Fatal(err)
	}
	if _, err := expire.SweepKilled(t.Context(), o, 0); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, second); len(left) > 0 {
		t.Errorf("a sweep left %q", left)
	}
	same(t, tree(t, dir), tree(t, second.restored(t)))

	third := second.again(t)
	if err := third.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if third.pool != nil {
		t.Error("packs that a backup names are offered for adoption")
	}
}

// mark changes each of some pages, the first of a file.
func mark(pages []byte, with byte) {
	for i := 0; i < len(pages); i += 8192 {
		p := pages[i : i+8192]
		p[200], p[8], p[9] = with, 0, 0
		sum := page.Checksum(p, uint32(i/8192))
		p[8], p[9] = byte(sum), byte(sum>>8)
	}
}

func leftovers(t *testing.T, r *run) []string {
	t.Helper()
	left, err := catalog.Leftovers(t.Context(), r.Objects, r.place)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(left))
}

// A pack that was adopted and is gone when the backup would be complete makes it fail.
func TestAdoptedIsGone(t *testing.T) {
	t.Parallel()
	w := newWaters(t, 7)
	r := w.run()
	if err := r.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.use(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if len(r.pool.Used()) == 0 {
		t.Fatal("nothing was adopted")
	}
	name := r.place.PackName(r.pool.Used()[0].ID)
	if err := w.st.Delete(t.Context(), name, ""); err != nil {
		t.Fatal(err)
	}
	err := r.complete(t.Context())
	if err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("completing without pack %s: %v", name, err)
	}
	if exists, err := catalog.HeadExists(t.Context(), r.Objects, r.place, r.id); err != nil || exists {
		t.Errorf("it has a head: %v, %v", exists, err)
	}
}

// actor marks a context with who acts in it.
type actor struct{}

// waters are a repository in which a backup and removals run at the same time, one
// operation on the store after the other, in an order drawn from a seed.
type waters struct {
	t     *testing.T
	rng   *rand.Rand
	st    *mem.Store
	place catalog.Place
	ids   []string // complete backups
	cut   []pack.Info
	plain map[int][]byte // content of the packs of the backup that was cut off

	mu   sync.Mutex
	gate map[string]chan struct{} // one for each actor; nil: nobody waits for a turn
	dies map[string]int           // operations until an actor is killed
}

var errKilled = errors.New("killed")

func newWaters(t *testing.T, seed uint64) *waters {
	t.Helper()
	w := &waters{t: t, rng: rand.New(rand.NewPCG(seed, 0)), plain: map[int][]byte{}, dies: map[string]int{}}
	w.st = mem.New(mem.Options{Now: clock.System().Now, Hook: w.hook})
	w.place = catalog.Place{Cluster: "main", SystemID: 7, Incarnation: "0123456789abcdef"}
	for n := range 2 {
		r := w.run()
		if n > 0 { // it names the pack of the first, too
			first, err := catalog.ReadHead(t.Context(), r.Objects, w.place, w.ids[0])
			if err != nil {
				t.Fatal(err)
			}
			if r.prior, err = r.openPrior(t.Context(), first); err != nil {
				t.Fatal(err)
			}
		}
		w.pack(r, w.noise())
		if err := errors.Join(w.lists(t.Context(), r), r.complete(t.Context())); err != nil {
			t.Fatal(err)
		}
		w.ids = append(w.ids, r.id)
	}
	r := w.run()
	if err := r.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		w.plain[i] = w.noise()
		w.cut = append(w.cut, w.pack(r, w.plain[i])...)
	}
	return w
}

func (w *waters) hook(ctx context.Context, _ *mem.Call) error {
	name, ok := ctx.Value(actor{}).(string)
	if !ok {
		return nil
	}
	w.mu.Lock()
	gate := w.gate[name]
	w.mu.Unlock()
	if gate != nil {
		<-gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, mortal := w.dies[name]; mortal {
		if n <= 0 {
			return errKilled
		}
		w.dies[name] = n - 1
	}
	return nil
}

// noise is one chunk of two pages.
func (w *waters) noise() []byte {
	b := make([]byte, 2*8192)
	for i := range b {
		b[i] = byte(w.rng.Uint32())
	}
	return b
}

func (w *waters) run() *run {
	o := Options{Cluster: "main", Objects: seal.New(w.st, nil), Codec: chunk.None, Clock: clock.System()}
	o.Events = Events{Warn: func(string) {}}
	r := &run{Options: o, place: w.place, id: catalog.NewBackupID(time.Now())}
	r.source.control.Sizes = pg.Sizes{Block: 8192, WALBlock: 8192, SegmentBlocks: 131072, WALSegment: 16 << 20}
	r.head = catalog.Head{ID: r.id, Kind: catalog.Full, Cluster: w.place.Cluster, SystemID: w.place.SystemID, Incarnation: w.place.Incarnation, Timeline: 1, Sizes: r.source.control.Sizes}
	return r
}

// pack stores one chunk in a pack of its own.
func (w *waters) pack(r *run, plain []byte) []pack.Info {
	w.t.Helper()
	if err := w.add(w.t.Context(), r, plain); err != nil {
		w.t.Fatal(err)
	}
	return r.packs.infos()[len(r.packs.infos())-1:]
}

func (w *waters) add(ctx context.Context, r *run, plain []byte) error {
	out, err := pack.NewWriter(r.Objects, r.place.PackName, r.Codec, pack.DefaultSize)
	if err != nil {
		return err
	}
	r.packs.add(out)
	_, err = out.Add(ctx, plain, 8192, hashes(plain))
	return errors.Join(err, out.Close())
}

func hashes(plain []byte) []uint64 {
	var h []uint64
	for b := range slices.Chunk(plain, 8192) {
		h = append(h, chunk.BlockHash(b))
	}
	return h
}

func (w *waters) lists(ctx context.Context, r *run) error {
	return r.lists(ctx, &copied{listing: &listing{}, census: allLive(r)})
}

// allLive is a census by which the backup names every pack that it knows.
func allLive(r *run) *census {
	c := newCensus(r.prior)
	for _, i := range r.known() {
		c.live[i.ID] = int64(i.Plain)
	}
	return c
}

// use adopts what there is and stores a pack.
func (w *waters) use(ctx context.Context, r *run) error {
	for _, plain := range w.plain {
		if r.pool != nil {
			r.pool.Find(ctx, hashes(plain), len(plain))
		}
	}
	if err := w.add(ctx, r, make([]byte, 8192)); err != nil {
		return err
	}
	return w.lists(ctx, r)
}

// backup makes one, incremental if it can be, as Run does. Without the lock it is as a
// process whose lock was taken from it.
func (w *waters) backup(ctx context.Context, locked bool) (*run, error) {
	r := w.run()
	if locked {
		locks, err := lock.New(w.st, clock.System())
		if err != nil {
			return r, err
		}
		lease, held, err := locks.Acquire(ctx, w.place.BackupLock(), nil)
		if err != nil {
			return r, err
		}
		defer lease.Release(context.WithoutCancel(ctx))
		ctx = held
	}
	var err error
	if r.parent, err = r.choose(ctx); err != nil {
		return r, err
	}
	err = r.adopt(ctx)
	if err == nil && r.parent != nil {
		r.prior, err = r.openPrior(ctx, *r.parent)
	}
	if err == nil {
		err = w.use(ctx, r)
	}
	if err == nil {
		err = r.complete(ctx)
	}
	if err != nil {
		r.leave(ctx, nil, err)
		return r, err
	}
	r.unmark(ctx)
	return r, nil
}

func (w *waters) removal(ctx context.Context, id string) error {
	locks, err := lock.New(w.st, clock.System())
	if err != nil {
		return err
	}
	o := expire.Options{Objects: seal.New(w.st, nil), Locks: locks, Place: w.place, Clock: clock.System()}
	if id != "" {
		_, err = expire.Delete(ctx, o, id)
		return err
	}
	_, err = expire.Sweep(ctx, o, 0)
	return err
}

// both runs two actors, one operation of the one or the other at a time.
func (w *waters) both(acts map[string]func(context.Context)) {
	gate, done := map[string]chan struct{}{}, map[string]chan struct{}{}
	for name := range acts {
		gate[name], done[name] = make(chan struct{}), make(chan struct{})
	}
	w.turns(gate)
	defer w.turns(nil)
	for name, act := range acts {
		go func() {
			defer close(done[name])
			act(context.WithValue(context.Background(), actor{}, name))
		}()
	}
	names := slices.Sorted(maps.Keys(acts))
	for len(names) > 0 {
		i := w.rng.IntN(len(names))
		for n := 1 + w.rng.IntN(4); n > 0; n-- {
			select {
			case gate[names[i]] <- struct{}{}:
				continue
			case <-done[names[i]]:
				names = slices.Delete(names, i, i+1)
			}
			break
		}
	}
}

// turns makes actors wait for their turns, or not any more.
func (w *waters) turns(gate map[string]chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = gate
}

// whole fails unless every backup that has a head has all that it leads to.
func (w *waters) whole(what string) {
	w.t.Helper()
	ctx := context.Background()
	objects := seal.New(w.st, nil)
	heads, err := catalog.Backups(ctx, objects, w.place)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range heads {
		infos, err := catalog.ReadPacks(ctx, objects, h)
		if err != nil {
			w.t.Fatalf("%s, backup %s: %v", what, h.ID, err)
		}
		reader := pack.NewReader(objects, w.place.PackName, catalog.PackInfos(infos))
		for _, i := range infos {
			if err := reader.Verify(ctx, i.ID, nil); err != nil {
				w.t.Fatalf("%s, backup %s: %v", what, h.ID, err)
			}
		}
		if err := catalog.ReadFiles(ctx, objects, h, func(catalog.File) error { return nil }); err != nil {
			w.t.Fatalf("%s, backup %s: %v", what, h.ID, err)
		}
	}
}

// In whatever order the operations of a backup and of a removal fall, and whichever
// of them is killed: what is reported complete is whole, and so is what is listed;
// and the next sweep leaves nothing behind.
func TestRemovalBeside(t *testing.T) {
	t.Parallel()
	rounds, adopted, refused, inUse := 600, 0, 0, 0
	if testing.Short() {
		rounds = 200
	}
	start := rand.Uint64()
	for n := range rounds {
		seed := start + uint64(n)
		w := newWaters(t, seed)
		what := []string{"", w.ids[0], w.ids[1], w.ids[1]}[w.rng.IntN(4)]
		locked := what != "" && w.rng.IntN(3) > 0
		if w.rng.IntN(4) == 0 {
			w.dies["removal"] = w.rng.IntN(60)
		}
		if locked && w.rng.IntN(4) == 0 { // else it was taken for dead already, and dies once only
			w.dies["backup"] = w.rng.IntN(60)
		}
		var made *run
		var failed, removed error
		w.both(map[string]func(context.Context){
			"backup":  func(ctx context.Context) { made, failed = w.backup(ctx, locked) },
			"removal": func(ctx context.Context) { removed = w.removal(ctx, what) },
		})
		w.dies = map[string]int{}
		describe := fmt.Sprintf("seed %d: after a removal of %q (%v) and a backup (%v)", seed, what, removed, failed)
		if failed == nil {
			if exists, err := catalog.HeadExists(t.Context(), made.Objects, w.place, made.id); err != nil || !exists {
				t.Fatalf("%s a backup that was reported complete has no head: %v", describe, err)
			}
			if made.pool != nil {
				adopted += len(made.pool.Used())
			}
		} else if !errors.Is(failed, errKilled) {
			refused++
		}
		if locked && failed != nil && !errors.Is(failed, errKilled) && !errors.As(failed, new(*Refusal)) {
			t.Fatalf("%s: a backup with its lock failed", describe)
		}
		if errors.As(removed, new(*expire.InUse)) {
			inUse++
		}
		w.whole(describe)
		w.unlock()
		if err := w.removal(t.Context(), ""); err != nil {
			t.Fatalf("%s: sweeping: %v", describe, err)
		}
		w.whole(describe)
		w.clean(describe)
	}
	t.Logf("%d rounds from seed %d: %d packs adopted, %d backups gave way, %d removals", rounds, start, adopted, refused, inUse)
	if adopted == 0 {
		t.Error("nothing was ever adopted")
	}
}

// unlock removes the locks of those that were killed: the process of the test lives.
func (w *waters) unlock() {
	w.t.Helper()
	for o, err := range w.st.List(w.t.Context(), "locks/", store.ListOptions{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.st.Delete(w.t.Context(), o.Key, ""); err != nil {
			w.t.Fatal(err)
		}
	}
}

// clean fails if there is anything that no head leads to.
func (w *waters) clean(what string) {
	w.t.Helper()
	left, err := catalog.Leftovers(w.t.Context(), seal.New(w.st, nil), w.place)
	if err != nil {
		w.t.Fatal(err)
	}
	for o, err := range w.st.List(w.t.Context(), w.place.Prefix(), store.ListOptions{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		for _, prefix := range []string{w.place.RunningName(""), w.place.TombstonesPrefix()} {
			if strings.HasPrefix(o.Key, prefix) {
				left[o.Key] = o
			}
		}
	}
	if len(left) > 0 {
		w.t.Fatalf("%s and a sweep there is still %q", what, slices.Sorted(maps.Keys(left)))
	}
}
