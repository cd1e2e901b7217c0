package damage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/restore"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/wal/fetch"
)

// step is something that is done with a repository. Its answer says what was read,
// in a form to be compared: the same on a sound repository each time.
type step struct {
	name  string
	speed speed
	do    func(ctx context.Context, objects *seal.Objects, dir string) (string, error)
}

// speed is how much a step reads.
type speed int

const (
	quick  speed = iota // one object, or little more
	slow                // many
	slower              // a restore, which writes as well
)

// steps are all that anybody does with the repository.
func steps(r *repository) []step {
	cluster := r.places[0].Cluster
	all := []step{{"list", slow, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
		return list(ctx, objects, cluster)
	}}, {"proofs", quick, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
		proofs, unreadable, err := catalog.ReadProofs(ctx, objects, cluster, 20)
		return text(proofs), errors.Join(append(unreadable, err)...)
	}}}
	for _, p := range r.places {
		all = append(all,
			step{"mark in " + string(p.Incarnation), quick, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
				return mark(ctx, objects, p)
			}},
			step{"origin " + string(p.Incarnation), quick, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
				o, err := place(ctx, objects, p)
				return text(o), err
			}},
			step{"recover " + string(p.Incarnation), slow, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
				return recovery(ctx, objects, p, r.targets)
			}})
	}
	for _, h := range r.heads {
		all = append(all,
			step{"head " + h.ID, quick, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
				h, err := catalog.ReadHead(ctx, objects, h.Place(), h.ID)
				return text(h), err
			}},
			step{"table " + h.ID, quick, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
				return table(ctx, objects, h)
			}},
			step{"verify " + h.ID, quick, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
				return "", verify(ctx, objects, h)
			}},
			step{"read " + h.ID, slow, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
				return backup(ctx, objects, h.Place(), h.ID)
			}},
			step{"restore " + h.ID, slower, func(ctx context.Context, objects *seal.Objects, dir string) (string, error) {
				return restored(ctx, objects, h.Place(), h.ID, dir)
			}})
	}
	for _, f := range r.wal {
		all = append(all, step{"fetch " + f.name, quick, func(ctx context.Context, objects *seal.Objects, dir string) (string, error) {
			return fetched(ctx, objects, f, dir)
		}})
		if !f.segment {
			continue
		}
		all = append(all, step{"index of " + f.name, quick, func(ctx context.Context, objects *seal.Objects, _ string) (string, error) {
			footer, err := catalog.ReadWALFooter(ctx, objects, f.origin.Place().WALName(f.line, f.name))
			return text(footer) + text(footer.Index), err
		}})
	}
	return all
}

// opened is a way to get at the repository's objects.
type opened func() (*open.Repository, error)

func opening(ctx context.Context, st store.Store, secret *keys.Secret) opened {
	return func() (*open.Repository, error) { return open.Open(ctx, st, secret) }
}

// run opens the repository and does a step; a panic becomes an error.
func (s step) run(ctx context.Context, open opened, dir string) (answer string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("PANIC: %v", p)
		}
	}()
	r, err := open()
	if err != nil {
		return "", err
	}
	answer, err = s.do(ctx, r.Objects, dir)
	return fmt.Sprintf("%+v\n%s", r.About, answer), err
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

// list lists all backups of the cluster.
func list(ctx context.Context, objects *seal.Objects, cluster string) (string, error) {
	origins, err := catalog.Places(ctx, objects, cluster)
	if err != nil {
		return "", err
	}
	out := text(origins)
	for _, o := range origins {
		heads, err := catalog.Backups(ctx, objects, o.Place())
		if err != nil {
			return "", err
		}
		out += text(heads)
	}
	return out, nil
}

// mark reads the mark of a backup under way.
func mark(ctx context.Context, objects *seal.Objects, p catalog.Place) (string, error) {
	for o, err := range objects.Store().List(ctx, p.RunningName(""), store.ListOptions{}) {
		if err != nil {
			return "", err
		}
		b, err := objects.Get(ctx, o.Key, seal.Running)
		return string(b), err
	}
	return "", nil
}

// place finds a place as commands do.
func place(ctx context.Context, objects *seal.Objects, p catalog.Place) (catalog.Origin, error) {
	origins, unreadable, err := catalog.ReadPlaces(ctx, objects, p.Cluster)
	for _, o := range origins {
		if o.Place() == p {
			return o, nil
		}
	}
	if err = errors.Join(append(unreadable, err)...); err != nil {
		return catalog.Origin{}, err
	}
	return catalog.Origin{}, catalog.ErrNoPlace
}

// recovery asks what can be recovered, and how to get to all kinds of target.
func recovery(ctx context.Context, objects *seal.Objects, p catalog.Place, targets []catalog.Target) (string, error) {
	o, err := place(ctx, objects, p)
	if err != nil {
		return "", err
	}
	life, err := catalog.ReadLife(ctx, objects, o)
	if err = errors.Join(append(life.Unreadable, err)...); err != nil {
		return "", err
	}
	w, err := life.Window(ctx, objects)
	if err != nil {
		return "", err
	}
	for i := range life.Archive.Lines {
		life.Archive.Lines[i].Newest = time.Time{} // of the store, and not of what is in it
	}
	out := text(life) + text(w)
	for _, target := range targets {
		c, err := life.Resolve(ctx, objects, target)
		if err != nil {
			return "", err
		}
		spaces, err := c.NewTablespaces(ctx, objects, target)
		if err != nil {
			return "", err
		}
		out += text([]any{c.Backup.ID, c.StopLSN, c.LastCommit, c.ByLSN, c.Path, spaces})
	}
	return out, nil
}

// backup reads all files of a backup, as a restore does, but keeps only their hashes.
func backup(ctx context.Context, objects *seal.Objects, p catalog.Place, id string) (string, error) {
	h, err := catalog.ReadHead(ctx, objects, p, id)
	if err != nil {
		return "", err
	}
	infos, err := catalog.ReadPacks(ctx, objects, h)
	if err != nil {
		return "", err
	}
	packs := pack.NewReader(objects, p.PackName, catalog.PackInfos(infos))
	var out strings.Builder
	var scratch pack.Scratch
	err = catalog.ReadFiles(ctx, objects, h, func(f catalog.File) error {
		data, err := file(ctx, packs, f, &scratch)
		out.WriteString(line(f.Path, data))
		return err
	})
	return out.String(), err
}

func line(path string, data []byte) string { return fmt.Sprintf("%q %x\n", path, blake3.Sum256(data)) }

// file gives a file's content.
func file(ctx context.Context, packs *pack.Reader, f catalog.File, s *pack.Scratch) ([]byte, error) {
	if f.Size == 0 {
		return nil, nil
	}
	encoded := f.Map
	for _, ref := range f.MapRefs {
		err := packs.Read(ctx, []repo.Ref{ref}, s, func(_ int, plain []byte) error {
			encoded = append(encoded, plain...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	m, err := chunk.ParseMap(encoded)
	if err != nil {
		return nil, err
	}
	data := make([]byte, f.Size)
	for _, r := range m.Runs {
		if r.Zero {
			continue
		}
		err := packs.Read(ctx, []repo.Ref{r.Ref}, s, func(_ int, plain []byte) error {
			copy(data[r.First*uint64(m.Block):], plain[uint64(r.Slot)*uint64(m.Block):])
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var d chunk.Digest
	if d.AddData(0, data, int(f.Block)); d != f.Digest {
		return nil, fmt.Errorf("%q has digest %s, not %s", f.Path, d, f.Digest)
	}
	return data, nil
}

// table reads the file table and the list of packs of a backup.
func table(ctx context.Context, objects *seal.Objects, h catalog.Head) (string, error) {
	infos, err := catalog.ReadPacks(ctx, objects, h)
	if err != nil {
		return "", err
	}
	out := text(infos)
	err = catalog.ReadFiles(ctx, objects, h, func(f catalog.File) error {
		out += text(f)
		return nil
	})
	return out, err
}

// verify reads the packs that a backup names, to their last byte.
func verify(ctx context.Context, objects *seal.Objects, h catalog.Head) error {
	infos, err := catalog.ReadPacks(ctx, objects, h)
	if err != nil {
		return err
	}
	packs := pack.NewReader(objects, h.Place().PackName, catalog.PackInfos(infos))
	for _, i := range infos {
		if err := packs.Verify(ctx, i.ID, nil); err != nil {
			return err
		}
	}
	return nil
}

// fetched fetches a WAL file. After an error nothing must be at its destination.
func fetched(ctx context.Context, objects *seal.Objects, f walFile, dir string) (string, error) {
	dest := filepath.Join(dir, "fetched")
	defer os.Remove(dest)
	name := strings.TrimSuffix(f.name, ".partial") // nobody asks for a partial one by that name
	err := fetch.Fetch(ctx, name, dest, []fetch.Source{{Name: "main", Objects: objects, Origin: f.origin}})
	data, there := os.ReadFile(dest)
	if err != nil && there == nil {
		return "", fmt.Errorf("WRONG: it failed, and there is a file: %w", err)
	}
	return line(f.name, data), err
}

// restored restores a backup, and gives what is in the directory but for the settings,
// which tell of the archive. After an error it must be no database.
func restored(ctx context.Context, objects *seal.Objects, p catalog.Place, id, dir string) (string, error) {
	o, err := place(ctx, objects, p)
	if err != nil {
		return "", err
	}
	life, err := catalog.ReadLife(ctx, objects, o)
	if err != nil {
		return "", err
	}
	target := catalog.Target{BackupID: id, Timeline: catalog.Current, Kind: catalog.ToImmediate}
	choice, err := life.Resolve(ctx, objects, target)
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "data")
	defer os.RemoveAll(to)
	_, err = restore.Run(ctx, restore.Options{Choice: choice, Target: target, Objects: objects, To: to, Action: restore.Promote,
		Incarnation: "0011223344556677", RestoreCommand: "fetch %f %p", Workers: 2, Clock: clock.System()})
	control, there := os.ReadFile(filepath.Join(to, "global", "pg_control"))
	if err != nil {
		if there == nil {
			err = fmt.Errorf("WRONG: it failed, and there is a pg_control: %w", err)
		}
		return "", err
	}
	var out strings.Builder
	err = filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "postgresql.auto.conf" {
			return err
		}
		data, err := os.ReadFile(path)
		out.WriteString(line(strings.TrimPrefix(path, to), data))
		return err
	})
	return out.String() + line("pg_control", control), err
}

// The sound repository gives what was stored.
func TestSound(t *testing.T) {
	for name, secrets := range secretsOf(t) {
		r := build(t, newStore(nil), secrets, nil)
		for _, h := range r.heads {
			got, err := backup(t.Context(), r.objects, h.Place(), h.ID)
			if err != nil {
				t.Fatal(err)
			}
			for path, data := range r.files[h.ID] {
				if !strings.Contains(got, line(path, data)) {
					t.Errorf("%s, %s: %q has other content", name, h.ID, path)
				}
			}
		}
		for _, f := range r.wal {
			if got, err := fetched(t.Context(), r.objects, f, t.TempDir()); err != nil || f.line == 1 && got != line(f.name, f.data) {
				t.Errorf("%s, %s: %v", name, f.name, err)
			}
		}
	}
}
