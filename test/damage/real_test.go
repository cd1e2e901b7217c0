package damage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/test/salvortest"
)

// environment that repeats a run, and makes it longer.
const (
	seedVar   = "SALVOR_TEST_SEED"
	roundsVar = "SALVOR_TEST_DAMAGES"
)

// number reads an environment variable.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// The repository of a real cluster, written by the binary, damaged at random.
func TestRealRepository(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: the small repository stands for it")
	}
	seed, rounds := number(t, seedVar, uint64(time.Now().UnixNano())), int(number(t, roundsVar, 100))
	t.Logf("%s=%d", seedVar, seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := examine(t, load(t, backedUp(t)))
	b := s.bench(t)
	all := slices.Sorted(maps.Keys(s.objects))
	kinds := map[string][]string{}
	for _, key := range all {
		kind := kindOf(key)
		kinds[kind] = append(kinds[kind], key)
	}
	for n := range rounds {
		of := kinds[slices.Sorted(maps.Keys(kinds))[rng.IntN(len(kinds))]]
		i := randomDamage(rng, s, of[rng.IntN(len(of))])
		i.what = fmt.Sprintf("damage %d: %s", n, i.what)
		b.inject(i)
		if t.Failed() {
			t.Fatalf("repeat it with %s=%d %s=%d", seedVar, seed, roundsVar, n+1)
		}
	}
	t.Logf("%d objects, %d damages, %d steps", len(all), rounds, b.count)
}

// kindOf groups objects, so that the few of a kind are damaged as often as the many.
func kindOf(key string) string {
	parts := strings.Split(key, "/")
	if len(parts) < 4 {
		return parts[0]
	}
	if parts[3] == "backups" {
		return parts[5]
	}
	return parts[3]
}

// randomDamage draws what happens to an object.
func randomDamage(rng *rand.Rand, s *subject, key string) injection {
	whole := s.objects[key]
	i := injection{upTo: quick}
	switch n := rng.IntN(20); {
	case n == 0:
		i.upTo = slower
	case n < 5:
		i.upTo = slow
	}
	bad := bytes.Clone(whole)
	at := rng.IntN(len(whole))
	switch rng.IntN(5) {
	case 0, 1:
		bad[at] ^= 1 << rng.IntN(8)
		i.what = fmt.Sprintf("a bit of byte %d of %s", at, key)
	case 2: // a sector that was lost
		at &^= 511
		n := min(512, len(bad)-at)
		clear(bad[at : at+n])
		if bytes.Equal(bad, whole) {
			bad[at] ^= 0xFF
		}
		i.what = fmt.Sprintf("%d bytes from %d of %s zeroed", n, at, key)
	case 3:
		bad = bad[:at]
		i.what = fmt.Sprintf("%s cut to %d", key, at)
	case 4:
		bad = append(bad, byte(rng.IntN(256)))
		i.what = key + " with a byte more"
	}
	i.objects = map[string][]byte{key: bad}
	return i
}

// made is a repository on disk.
type made struct {
	dir string
	key []byte
}

// backedUp makes a repository with two backups of a cluster and its WAL.
func backedUp(t *testing.T) made {
	t.Helper()
	program, remove, err := salvortest.Program()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	c := pgtest.New(t, pgtest.Options{Settings: map[string]string{"archive_mode": "on"}})
	dir := c.TempDir(t)
	config, repository := filepath.Join(dir, "salvor.yaml"), filepath.Join(dir, "repo")
	salvor := func(args ...string) []byte {
		t.Helper()
		cmd := c.Command(program, append([]string{"-c", config}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("salvor %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
		}
		return out
	}
	var done struct {
		ArchiveCommand string `json:"archive_command"`
	}
	out := salvor("init", fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", c.SocketDir, c.Port()), "--repo", "file://"+repository, "-o", "json")
	if err := json.Unmarshal(bytes.SplitN(out, []byte("\n"), 2)[0], &done); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.Set("archive_command", done.ArchiveCommand)
	for range 2 {
		c.Exec("CREATE TABLE IF NOT EXISTS noise (a uuid, b text)")
		c.Exec("INSERT INTO noise SELECT gen_random_uuid(), repeat('x', 50) FROM generate_series(1, 20000)")
		salvor("backup", "-o", "json")
	}
	c.Exec("INSERT INTO noise VALUES (gen_random_uuid(), 'last')")
	file := pgtest.QueryValue[string](c, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	c.SwitchWAL()
	c.WaitArchived(file)
	key, err := os.ReadFile(filepath.Join(dir, "salvor.key"))
	if err != nil {
		t.Fatal(err)
	}
	return made{repository, key}
}

// load reads a repository on disk into memory, and says what is in it.
func load(t *testing.T, m made) *repository {
	t.Helper()
	r := &repository{t: t, store: newStore(nil)}
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		key, relErr := filepath.Rel(m.dir, path)
		if err = errors.Join(err, relErr); err == nil && store.ValidateKey(filepath.ToSlash(key)) == nil {
			r.put(filepath.ToSlash(key), data)
		}
		return err
	})
	r.must(err)
	secret := must[keys.Secret](t)(keys.ParseSecret(m.key))
	r.secret = &secret
	r.objects = must[*open.Repository](t)(open.Open(t.Context(), r.store, r.secret)).Objects
	for o, err := range r.store.List(t.Context(), "clusters/", store.ListOptions{Delimited: true}) {
		r.must(err)
		for _, origin := range must[[]catalog.Origin](t)(catalog.Places(t.Context(), r.objects, strings.Split(o.Key, "/")[1])) {
			r.add(origin)
		}
	}
	if len(r.heads) != 2 || len(r.wal) < 3 {
		t.Fatalf("%d backups, %d WAL files", len(r.heads), len(r.wal))
	}
	return r
}

// add takes note of what is in a place.
func (r *repository) add(o catalog.Origin) {
	r.t.Helper()
	ctx, p := r.t.Context(), o.Place()
	r.places = append(r.places, p)
	r.heads = append(r.heads, must[[]catalog.Head](r.t)(catalog.Backups(ctx, r.objects, p))...)
	r.targets = append(r.targets, catalog.Target{}, catalog.Target{Kind: catalog.ToImmediate})
	for _, h := range r.heads {
		r.targets = append(r.targets, catalog.Target{BackupID: h.ID, Kind: catalog.ToLSN, LSN: h.StopLSN})
	}
	for obj, err := range r.store.List(ctx, p.Prefix()+"wal/", store.ListOptions{}) {
		r.must(err)
		name := filepath.Base(obj.Key)
		f, err := pg.ParseWALFile(name, o.Sizes.WALSegment)
		r.must(err)
		r.wal = append(r.wal, walFile{o, f.Timeline, name, f.Kind == pg.WALSegment, nil})
	}
}
