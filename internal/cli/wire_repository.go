package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	repoopen "github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/cache"
)

// repository is one that the configuration names, opened.
type repository struct {
	name    string
	store   store.Store
	objects *seal.Objects
}

func (r *repository) close() { r.store.Close() }

// openRepository opens a repository that exists.
func (s *session) openRepository(ctx context.Context, c config.Repository) (*repository, error) {
	secret, err := secretOf(ctx, c)
	if err != nil {
		return nil, err
	}
	st, err := s.openStore(ctx, c, false)
	if errors.Is(err, store.ErrNotFound) {
		// An empty repository made on the disk below a mount point would be the next
		// trouble, so init is not the first thing to think of.
		return nil, &failed{exitRepository, "no_repository", "is its storage mounted? Only for a new repository: `salvor init` creates what is missing",
			fmt.Errorf("repository %s: nothing is there: %w", c.Name, err)}
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", c.Name, err)
	}
	r, err := repoopen.Open(ctx, st, secret)
	if err != nil {
		st.Close()
		return nil, fmt.Errorf("repository %s: %w", c.Name, err)
	}
	if dir := s.cacheDirectory(); dir != "" {
		st = cache.New(st, cache.Options{Dir: dir, Name: r.RepositoryID.String(), Group: catalog.KeptUnder, Clock: s.clock,
			Failed: func(err error) { s.log.Debug("going on without the cache", "repository", c.Name, "error", err) }})
		r.Objects = r.Objects.Through(st)
	}
	return &repository{c.Name, st, r.Objects}, nil
}

// cacheDirectory is where heads are kept on this host, "" for nowhere: a user without
// a home has no place for it.
func (s *session) cacheDirectory() string {
	switch {
	case s.noCache:
		return ""
	case s.cacheDir != "":
		return s.cacheDir
	}
	for _, from := range []struct{ name, below string }{{"XDG_CACHE_HOME", "salvor"}, {"HOME", ".cache/salvor"}} {
		if dir, _ := s.env(from.name); filepath.IsAbs(dir) {
			return filepath.Join(dir, from.below)
		}
	}
	return ""
}

// secretOf gives the configured key, nil where there is no encryption.
func secretOf(ctx context.Context, c config.Repository) (*keys.Secret, error) {
	if c.Encryption == config.EncryptionNone {
		return nil, nil
	}
	text, err := c.Key.Resolve(ctx)
	if err != nil {
		return nil, &failed{exitUsage, "key_unreadable", "", fmt.Errorf("the key of repository %s: %w", c.Name, err)}
	}
	secret, err := keys.ParseSecret([]byte(text))
	if err != nil {
		return nil, &failed{exitUsage, "key_invalid", "", fmt.Errorf("the key of repository %s (%s): %w", c.Name, c.Key, err)}
	}
	return &secret, nil
}

// repositoriesOf gives the repository that --repo names, or else all.
func repositoriesOf(c *config.Config, name string) ([]config.Repository, error) {
	if name == "" {
		return c.Repositories, nil
	}
	r, err := c.Repository(name)
	if err != nil {
		return nil, usageError("", "--repo: %w", err)
	}
	return []config.Repository{r}, nil
}

// openNamed opens the repository that --repo names, or else the first.
func (s *session) openNamed(ctx context.Context, c *config.Config, name string) (*repository, error) {
	list, err := repositoriesOf(c, name)
	if err != nil {
		return nil, err
	}
	return s.openRepository(ctx, list[0])
}

// openAll opens every repository; one that does not open fails it all.
func (s *session) openAll(ctx context.Context, c *config.Config) (all []*repository, close func(), err error) {
	close = func() {
		for _, r := range all {
			r.close()
		}
	}
	for _, rc := range c.Repositories {
		r, err := s.openRepository(ctx, rc)
		if err != nil {
			close()
			return nil, nil, err
		}
		all = append(all, r)
	}
	return all, close, nil
}

func (s *session) locks(r *repository) (*lock.Locks, error) { return lock.New(r.store, s.clock) }

// places gives the places of the cluster in a repository: the one that the data
// directory on this host belongs to first, or else the newest, then the others,
// newest first. It fails with catalog.ErrNoPlace if there is none.
//
// A place that cannot be read is left out with a warning, unless it may be the one
// that comes first and the caller needs that.
func (s *session) places(ctx context.Context, c *config.Config, r *repository, needsFirst bool) ([]catalog.Origin, error) {
	all, unreadable, err := catalog.ReadPlaces(ctx, r.objects, c.Cluster)
	if err != nil {
		return nil, err
	}
	if len(all)+len(unreadable) == 0 {
		return nil, fmt.Errorf("cluster %s in repository %s: %w", c.Cluster, r.name, catalog.ErrNoPlace)
	}
	slices.Reverse(all)
	here, ok := localPlace(c)
	i := slices.IndexFunc(all, func(o catalog.Origin) bool { return ok && o.Place() == here })
	if len(all) == 0 || i < 0 && needsFirst && len(unreadable) > 0 {
		return nil, withHint(fmt.Errorf("repository %s: %w", r.name, errors.Join(unreadable...)),
			"another repository may be whole: choose it with --repo; to restore a backup of another place, name it with --backup")
	}
	for _, e := range unreadable {
		s.log.Warn(e.Error(), "repository", r.name)
	}
	if i > 0 {
		all[0], all[i] = all[i], all[0]
		slices.SortStableFunc(all[1:], func(a, b catalog.Origin) int { return b.CreatedAt.Compare(a.CreatedAt) })
	}
	return all, nil
}

// localPlace gives the place of the data directory on this host, and false if there
// is no directory, or it was never registered.
func localPlace(c *config.Config) (catalog.Place, bool) {
	m, err := catalog.ReadMarker(c.Postgres.DataDir)
	if err != nil {
		return catalog.Place{}, false
	}
	control, err := datadir.ReadControl(c.Postgres.DataDir)
	if err != nil {
		return catalog.Place{}, false
	}
	return catalog.Place{Cluster: c.Cluster, SystemID: control.SystemID, Incarnation: m.Incarnation}, true
}

// life reads what a repository knows of the cluster's present place.
func (s *session) life(ctx context.Context, c *config.Config, r *repository) (catalog.Life, error) {
	origins, err := s.places(ctx, c, r, true)
	if err != nil {
		return catalog.Life{}, err
	}
	return catalog.ReadLife(ctx, r.objects, origins[0])
}
