package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

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

	life   catalog.Life
	window catalog.Window
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
	srv := s.askServer(ctx, c)
	v, err := s.lookAtWAL(ctx, c, r, srv)
	if err != nil {
		return err
	}
	for _, p := range srv.problems() {
		v.problem("%s", p)
	}
	if err := s.out.document(v, v.table()); err != nil {
		return err
	}
	if !v.OK {
		return foundProblem("`salvor doctor` looks for the cause; a new backup begins a new recovery window", "%s", v.Problems[0])
	}
	return nil
}

// asked is what the server said of its WAL.
type asked struct {
	err    error // why it could not be asked
	server conn.Server
	lsn    pg.LSN // a primary writes there, or a standby has replayed to there
	stats  conn.ArchiverStats
}

func (s *session) askServer(ctx context.Context, c *config.Config) asked {
	var a asked
	db, err := s.connect(ctx, c)
	if err != nil {
		return asked{err: err}
	}
	defer db.Close()
	if a.server, a.err = db.Server(ctx); a.err != nil {
		return a
	}
	if a.server.InRecovery {
		a.lsn, a.err = db.ReplayLSN(ctx)
	} else {
		a.lsn, a.err = db.CurrentLSN(ctx)
	}
	if a.err == nil {
		a.stats, a.err = db.Archiver(ctx)
	}
	return a
}

// problems are those that concern every repository.
func (a asked) problems() []string {
	switch {
	case a.err != nil:
		return []string{fmt.Sprintf("the server cannot be asked, so how far behind it the archive is, is not known: %v", a.err)}
	case a.server.InRecovery:
		return nil
	case a.server.ArchiveMode == "off":
		return []string{"archive_mode is off: new WAL is lost"}
	case a.stats.LastFailedAt.After(a.stats.LastArchivedAt):
		return []string{fmt.Sprintf("archive_command fails, last for %s at %s", a.stats.LastFailedWAL, a.stats.LastFailedAt.UTC().Format(time.RFC3339))}
	}
	return nil
}

// lookAtWAL says what the archive holds, and how far behind the server it is.
func (s *session) lookAtWAL(ctx context.Context, c *config.Config, r *repository, a asked) (walView, error) {
	life, err := s.life(ctx, c, r)
	if err != nil {
		return walView{}, err
	}
	v := walView{OK: true, Repository: r.name, Timelines: []timelineView{}, Problems: []string{}, life: life}
	for _, e := range slices.Concat(life.Unreadable, life.Archive.Unreadable()) {
		v.problem("%v", e)
	}
	if v.window, err = life.Window(ctx, r.objects); err != nil {
		return walView{}, err
	}
	if w := v.window; w.OK {
		v.Earliest, v.Latest, v.LatestLSN = stamp(w.From), stamp(w.To.Time), w.EndLSN
	} else {
		v.problem("nothing can be recovered: %s", w.Reason)
	}
	v.ranges()
	if a.err != nil || a.server.SystemID != life.Origin.SystemID || a.server.InRecovery {
		return v, nil
	}
	return v, v.lag(ctx, r, a, s.clock.Now())
}

// ranges lists what is there and what is lost. A loss that lies before the newest
// backup is past cure, and hurts nobody who recovers to now: it is shown, and is no
// problem any more.
func (v *walView) ranges() {
	for _, l := range v.life.Archive.Lines {
		t := timelineView{Timeline: l.Timeline, Ranges: []rangeView{}}
		for _, rg := range v.life.Archive.Ranges(l) {
			state := "found"
			if rg.Lost {
				state = "lost"
				if !v.window.OK || rg.To > v.window.Newest.StartLSN {
					v.problem("WAL from %s to %s of timeline %d is lost", rg.From, rg.To, l.Timeline)
				}
			}
			t.Ranges = append(t.Ranges, rangeView{rg.From, rg.To, state})
		}
		v.Timelines = append(v.Timelines, t)
	}
}

func (v *walView) problem(format string, args ...any) {
	v.OK = false
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// lag compares with the server.
func (v *walView) lag(ctx context.Context, r *repository, a asked, now time.Time) error {
	archive := v.life.Archive
	line, _ := archive.Find(a.server.Timeline)
	var end pg.LSN
	if n := len(line.Segments); n > 0 {
		end = pg.Segment{Timeline: a.server.Timeline, Number: line.Segments[n-1]}.End(archive.SegmentSize)
	}
	behind := max(0, int64(a.lsn)-int64(end))
	v.LagBytes = &behind
	if v.window.OK {
		age := 0.0
		if behind > 0 {
			age = max(0, seconds(now.Sub(v.window.To.Time)))
		}
		v.LagSeconds = &age
	}
	if end == 0 || behind <= int64(archive.SegmentSize) {
		return nil
	}
	state := rangeView{end, a.lsn, "delayed"}
	elsewhere, err := v.archivedElsewhere(ctx, r, a)
	if err != nil {
		return err
	}
	if elsewhere {
		state.State = "lost"
		v.problem("the server has archived %s, and not here: is archive_command still the one that salvor init prints? It is: %s", a.stats.LastArchivedWAL, a.server.ArchiveCommand)
	}
	i := slices.IndexFunc(v.Timelines, func(t timelineView) bool { return t.Timeline == a.server.Timeline })
	v.Timelines[i].Ranges = append(v.Timelines[i].Ranges, state)
	return nil
}

// archivedElsewhere says whether the server believes to have archived a segment that
// is not here. It looks for the segment itself, which may have come since the list
// was made.
func (v *walView) archivedElsewhere(ctx context.Context, r *repository, a asked) (bool, error) {
	archive := v.life.Archive
	f, err := pg.ParseWALFile(a.stats.LastArchivedWAL, archive.SegmentSize)
	if err != nil || f.Kind != pg.WALSegment || f.Timeline != a.server.Timeline {
		return false, nil //nolint:nilerr // a name that tells nothing
	}
	there, err := r.objects.Exists(ctx, archive.Place.WALName(f.Timeline, a.stats.LastArchivedWAL))
	return !there, err
}

func (v walView) table() tabular {
	d := details{
		{"repository", v.Repository},
		{"recoverable from", formatMoment(v.Earliest)},
		{"recoverable to", formatMoment(v.Latest)},
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
