package chaos

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	repoopen "github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	storeopen "github.com/salvor-dr/salvor/internal/store/open"
)

// repository is one of the site's, read past the command line: objects are cheap to
// look at this way, every round.
type repository struct {
	name    string
	root    string
	objects *seal.Objects
	place   catalog.Place
	backups map[string]backup // that were reported done, or found and proven
}

// backup is one as the command line shows it.
type backup struct {
	ID         string    `json:"id"`
	Repository string    `json:"repository"`
	StartLSN   string    `json:"start_lsn"`
	StopLSN    string    `json:"stop_lsn"`
	StoppedAt  time.Time `json:"stopped_at"`
}

func (b backup) start(t testing.TB) pg.LSN {
	t.Helper()
	lsn, err := pg.ParseLSN(b.StartLSN)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

func openRepositories(t testing.TB, path string) []*repository {
	t.Helper()
	c, err := config.Load(path, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	var all []*repository
	for _, rc := range c.Repositories {
		r, err := openRepository(t.Context(), c.Cluster, rc)
		if err != nil {
			t.Fatalf("opening %s: %v", rc.URL, err)
		}
		all = append(all, r)
	}
	return all
}

func openRepository(ctx context.Context, cluster string, rc config.Repository) (*repository, error) {
	text, err := rc.Key.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	secret, err := keys.ParseSecret([]byte(text))
	if err != nil {
		return nil, err
	}
	st, err := storeopen.Open(ctx, rc.URL, storeopen.Options{})
	if err != nil {
		return nil, err
	}
	opened, err := repoopen.Open(ctx, st, &secret)
	if err != nil {
		return nil, err
	}
	places, err := catalog.Places(ctx, opened.Objects, cluster)
	if err != nil {
		return nil, err
	}
	if len(places) != 1 {
		return nil, fmt.Errorf("it has %d places for %s", len(places), cluster)
	}
	return &repository{name: rc.Name, root: strings.TrimPrefix(rc.URL, "file://"), objects: opened.Objects, place: places[0].Place(), backups: map[string]backup{}}, nil
}

// ids are the known backups, oldest first.
func (r *repository) ids() []string {
	var ids []string
	for id := range r.backups {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// whole says whether all that the listed backups need is there, and gives the
// objects that they name.
func (r *repository) whole(ctx context.Context) (named map[string]bool, err error) {
	heads, err := catalog.Backups(ctx, r.objects, r.place)
	if err != nil {
		return nil, err
	}
	named = map[string]bool{}
	for _, h := range heads {
		for _, part := range append(catalog.PartNames(r.place, h.ID), catalog.HeadName(r.place, h.ID)) {
			if _, err := r.objects.Store().Stat(ctx, part); err != nil {
				return nil, fmt.Errorf("backup %s: %w", h.ID, err)
			}
			named[part] = true
		}
		packs, err := catalog.ReadPacks(ctx, r.objects, h)
		if err != nil {
			return nil, fmt.Errorf("backup %s: %w", h.ID, err)
		}
		for _, p := range packs {
			o, err := r.objects.Store().Stat(ctx, r.place.PackName(p.ID))
			if err != nil {
				return nil, fmt.Errorf("backup %s: %w", h.ID, err)
			}
			if o.Size != int64(p.Size) {
				return nil, fmt.Errorf("backup %s: pack %s has %d bytes, want %d", h.ID, p.ID, o.Size, p.Size)
			}
			named[o.Key] = true
		}
	}
	return named, nil
}

// segment gives the digest of an archived segment.
func (r *repository) segment(ctx context.Context, name string) ([]byte, error) {
	tli, err := pg.ParseSegment(name, segmentMB<<20)
	if err != nil {
		return nil, err
	}
	w, err := catalog.OpenWAL(ctx, r.objects, r.place.WALName(tli.Timeline, name))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	h := sha256.New()
	if _, err := io.Copy(h, w); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// files lists the files below a folder of the repository, by their paths.
func (r *repository) files(folder string) ([]string, error) {
	var all []string
	err := filepath.WalkDir(filepath.Join(r.root, folder), func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // it went while we looked
		}
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(d.Name(), ".") { // marks are no objects
			all = append(all, path)
		}
		return err
	})
	return all, err
}

// below is a folder of the cluster's place.
func (r *repository) below(folder string) string { return filepath.Join(r.place.Prefix(), folder) }
