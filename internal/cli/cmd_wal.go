package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/wal/archive"
	"github.com/salvor-dr/salvor/internal/wal/fetch"
)

func walCommand(s *session) *cobra.Command {
	return group("wal", "Archive, fetch and check WAL", groupDaily,
		walPushCommand(s), walFetchCommand(s), walStatusCommand(s))
}

func walPushCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "push PATH",
		Short: "Archive a WAL file (archive_command)",
		Long: `Archive a finished WAL file in every repository. PostgreSQL runs this:

    archive_command = 'salvor -c /etc/salvor/salvor.yaml wal push %p'

It succeeds when every repository has the file durably, also if it was there
before with the same content. Nothing is ever overwritten.`,
		Args: positional("PATH"),
		RunE: s.run(func(ctx context.Context, args []string) error { return s.walPush(ctx, args[0]) }),
	}
}

// firstCollection is how much memory a push takes before the garbage collector runs
// for the first time. The push of a segment of the usual size takes less and ends
// before; it would otherwise be collected three times.
const firstCollection = 32 << 20

// collectLate puts the first run of the garbage collector off. From the second on all
// is as usual, so that memory stays bounded by what is in use. If the environment says
// how often it is to run, that counts.
func (s *session) collectLate() {
	if _, ok := s.env("GOGC"); ok {
		return
	}
	const usual, usualFirst = 100, 4 << 20 // of the runtime
	debug.SetGCPercent(usual * firstCollection / usualFirst)
	runtime.AddCleanup(new([16]byte), func(percent int) { debug.SetGCPercent(percent) }, usual)
}

func (s *session) walPush(ctx context.Context, path string) error {
	s.collectLate()
	c, err := s.config()
	if err != nil {
		return err
	}
	name := c.WAL.Compression
	if name == "" {
		name = c.Backup.Compression
	}
	codec, err := chunk.ParseCodec(name)
	if err != nil {
		return err
	}
	all, closeAll, err := s.openAll(ctx, c)
	if err != nil {
		return err
	}
	defer closeAll()
	o := archive.Options{Cluster: c.Cluster, DataDir: dataDirOf(path, c), Codec: codec, Warn: func(m string) { s.log.Warn(m) }}
	for _, r := range all {
		o.Repositories = append(o.Repositories, archive.Repository{Name: r.name, Objects: r.objects})
	}
	results, err := archive.Push(ctx, path, o)
	if err != nil {
		return err
	}
	if s.out.format == outputTable {
		return nil // archive_command's output would only fill the server's log
	}
	return s.out.document(struct {
		File         string           `json:"file"`
		Repositories []archive.Result `json:"repositories"`
	}{filepath.Base(path), results}, text(nil))
}

// dataDirOf finds the data directory that a file of pg_wal belongs to. PostgreSQL
// runs archive_command there, with a relative path; pg_wal may be a link.
func dataDirOf(path string, c *config.Config) string {
	candidates := []string{".", filepath.Dir(filepath.Dir(path))}
	if filepath.IsAbs(path) {
		candidates = candidates[1:]
	}
	for _, dir := range candidates {
		if _, err := os.Stat(filepath.Join(dir, datadir.ControlPath)); err == nil {
			return dir
		}
	}
	return c.Postgres.DataDir
}

func walFetchCommand(s *session) *cobra.Command {
	var incarnation string
	cmd := fetchCommand(s, func(ctx context.Context, name, dest string, _ bool) error {
		return s.walFetch(ctx, name, dest, incarnation)
	})
	cmd.Flags().StringVar(&incarnation, "incarnation", "", "whose WAL (salvor restore writes this into restore_command; else the data directory's)")
	return cmd
}

func (s *session) walFetch(ctx context.Context, name, dest, incarnation string) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	var sources []fetch.Source
	var broken error
	for _, rc := range c.Repositories {
		r, err := s.openRepository(ctx, rc)
		if err == nil {
			defer r.close()
			var src []fetch.Source
			if src, err = s.walSources(ctx, c, r, incarnation); err == nil {
				sources = append(sources, src...)
				continue
			}
		}
		s.log.Warn(err.Error())
		if broken == nil {
			broken = err
		}
	}
	if len(sources) == 0 {
		return broken
	}
	err = fetch.Fetch(ctx, name, dest, sources)
	if err != nil && broken != nil {
		return fmt.Errorf("%s: %w (and what the other repositories have: %v)", name, broken, err) // absence is not proven
	}
	return err
}

// walSources gives the places that may hold a cluster's WAL: of the incarnation, and
// of those that it continues.
func (s *session) walSources(ctx context.Context, c *config.Config, r *repository, incarnation string) ([]fetch.Source, error) {
	origins, err := s.places(ctx, c, r, incarnation == "")
	if err != nil {
		return nil, err
	}
	want := catalog.Incarnation(incarnation)
	if want == "" {
		want = wantedHere(origins[0])
	}
	var out []fetch.Source
	upTo := pg.Timeline(0)
	for want != "" && len(out) < len(origins) {
		i := slices.IndexFunc(origins, func(o catalog.Origin) bool { return o.Incarnation == want })
		if i < 0 {
			// Without it, WAL that only it has would seem to be proven absent.
			return nil, fmt.Errorf("repository %s: incarnation %s of cluster %s cannot be read, or is not there: %w", r.name, want, c.Cluster, catalog.ErrNoPlace)
		}
		out = append(out, fetch.Source{Name: r.name, Objects: r.objects, Origin: origins[i], UpTo: upTo})
		want, upTo = origins[i].Parent, origins[i].ParentTimeline
	}
	return out, nil
}

// wantedHere is the incarnation of the data directory that PostgreSQL runs
// restore_command in, for a copy the one it was restored from; else the first.
func wantedHere(first catalog.Origin) catalog.Incarnation {
	m, err := catalog.ReadMarker(".")
	switch {
	case err != nil:
		return first.Incarnation
	case m.RestoredFrom != "":
		return m.RestoredFrom
	}
	return m.Incarnation
}
