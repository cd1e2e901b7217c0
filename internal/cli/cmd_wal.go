package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

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

func (s *session) walPush(ctx context.Context, path string) error {
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
	origins, err := s.places(ctx, c, r)
	if err != nil {
		return nil, err
	}
	want := catalog.Incarnation(incarnation)
	if want == "" {
		want = wantedHere(origins[0])
	}
	var out []fetch.Source
	for want != "" {
		next := catalog.Incarnation("")
		for _, o := range origins {
			if o.Incarnation == want {
				out = append(out, fetch.Source{Name: r.name, Objects: r.objects, Origin: o})
				next = o.Parent
			}
		}
		want = next
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("repository %s has no incarnation %s of cluster %s: %w", r.name, incarnation, c.Cluster, catalog.ErrNoPlace)
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

func walStatusCommand(s *session) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which WAL is archived, by timeline, and what can be recovered",
		Args:  positional(),
		RunE:  s.run(func(ctx context.Context, _ []string) error { return s.walStatus(ctx, name) }),
	}
	cmd.Flags().StringVar(&name, "repo", "", "`name` of the repository (else the first)")
	return cmd
}

// walView is the archive in documents.
type walView struct {
	OK         bool           `json:"ok"`
	Repository string         `json:"repository"`
	Timelines  []timelineView `json:"timelines"`
	Earliest   stamp          `json:"earliest_recoverable_at,omitzero"`
	Latest     stamp          `json:"latest_recoverable_at,omitzero"`
	LatestLSN  pg.LSN         `json:"latest_recoverable_lsn,omitzero"`
	LagBytes   *int64         `json:"lag_bytes,omitempty"`
	LagSeconds *float64       `json:"lag_seconds,omitempty"`
	Problems   []string       `json:"problems"`
	window     catalog.Window
}

type timelineView struct {
	Timeline pg.Timeline `json:"timeline"`
	Ranges   []rangeView `json:"ranges"`
}

type rangeView struct {
	From  pg.LSN `json:"from_lsn"`
	To    pg.LSN `json:"to_lsn"`
	State string `json:"state"`
}

func (s *session) walStatus(ctx context.Context, name string) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	r, err := s.openNamed(ctx, c, name)
	if err != nil {
		return err
	}
	defer r.close()
	v, err := s.lookAtWAL(ctx, c, r)
	if err != nil {
		return err
	}
	if err := s.out.document(v, v.table()); err != nil {
		return err
	}
	if !v.OK {
		return foundProblem("`salvor doctor` looks for the cause; a new backup begins a new recovery window", "%s", v.Problems[0])
	}
	return nil
}

// lookAtWAL says what the archive holds, and how far behind the server it is.
func (s *session) lookAtWAL(ctx context.Context, c *config.Config, r *repository) (walView, error) {
	life, err := s.life(ctx, c, r)
	if err != nil {
		return walView{}, err
	}
	v := walView{OK: true, Repository: r.name, Timelines: []timelineView{}, Problems: []string{}}
	for _, e := range life.Unreadable {
		v.problem("%v", e)
	}
	for _, l := range life.Archive.Lines {
		t := timelineView{Timeline: l.Timeline, Ranges: []rangeView{}}
		for _, rg := range life.Archive.Ranges(l) {
			state := "found"
			if rg.Lost {
				state = "lost"
				v.problem("WAL from %s to %s of timeline %d is lost", rg.From, rg.To, l.Timeline)
			}
			t.Ranges = append(t.Ranges, rangeView{rg.From, rg.To, state})
		}
		v.Timelines = append(v.Timelines, t)
	}
	if v.window, err = life.Window(ctx, r.objects); err != nil {
		return walView{}, err
	}
	if w := v.window; w.OK {
		v.Earliest, v.Latest, v.LatestLSN = stamp(w.From), stamp(w.To.Time), w.EndLSN
	} else {
		v.problem("nothing can be recovered: %s", w.Reason)
	}
	s.lag(ctx, c, life, &v)
	return v, nil
}

func (v *walView) problem(format string, args ...any) {
	v.OK = false
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// lag compares with the server, if it can be asked.
func (s *session) lag(ctx context.Context, c *config.Config, life catalog.Life, v *walView) {
	db, err := s.connect(ctx, c)
	if err != nil {
		v.problem("how far behind the server the archive is, is not known: %v", err)
		return
	}
	defer db.Close()
	srv, err := db.Server(ctx)
	if err != nil || srv.SystemID != life.Origin.SystemID || srv.InRecovery {
		return
	}
	now, err := db.CurrentLSN(ctx)
	if err != nil {
		v.problem("how far behind the server the archive is, is not known: %v", err)
		return
	}
	stats, err := db.Archiver(ctx)
	if err != nil {
		v.problem("how archiving goes is not known: %v", err)
		return
	}
	line, _ := life.Archive.Find(srv.Timeline)
	var end pg.LSN
	if n := len(line.Segments); n > 0 {
		end = pg.Segment{Timeline: srv.Timeline, Number: line.Segments[n-1]}.End(life.Archive.SegmentSize)
	}
	behind := max(0, int64(now)-int64(end))
	v.LagBytes = &behind
	if v.window.OK {
		age := 0.0
		if behind > 0 {
			age = max(0, seconds(s.clock.Now().Sub(v.window.To.Time)))
		}
		v.LagSeconds = &age
	}
	if end > 0 && behind > int64(life.Archive.SegmentSize) {
		i := slices.IndexFunc(v.Timelines, func(t timelineView) bool { return t.Timeline == srv.Timeline })
		v.Timelines[i].Ranges = append(v.Timelines[i].Ranges, rangeView{end, now, "delayed"})
	}
	switch {
	case srv.ArchiveMode == "off":
		v.problem("archive_mode is off: new WAL is lost")
	case stats.LastFailedAt.After(stats.LastArchivedAt):
		v.problem("archive_command fails, last for %s at %s", stats.LastFailedWAL, stats.LastFailedAt.UTC().Format(time.RFC3339))
	}
}

func (v walView) table() tabular {
	d := details{
		{"repository", v.Repository},
		{"recoverable from", formatTime(time.Time(v.Earliest))},
		{"recoverable to", formatTime(time.Time(v.Latest))},
	}
	if v.LatestLSN != 0 {
		d = append(d, detail{"archived to", v.LatestLSN.String()})
	}
	if v.LagBytes != nil {
		d = append(d, detail{"behind the server", formatBytes(*v.LagBytes)})
	}
	for _, t := range v.Timelines {
		for _, r := range t.Ranges {
			d = append(d, detail{fmt.Sprintf("timeline %d", t.Timeline), fmt.Sprintf("%s to %s  %s", r.From, r.To, r.State)})
		}
	}
	for _, p := range v.Problems {
		d = append(d, detail{"problem", p})
	}
	return d
}
