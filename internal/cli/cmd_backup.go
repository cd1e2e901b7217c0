package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/backup"
	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/expire"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/store"
)

// backupFlags are the options of salvor backup.
type backupFlags struct {
	kind        string
	detect      string
	from        string
	checkpoint  string
	workers     int
	rateLimit   config.Size
	withWAL     bool
	annotations []string
	repository  string
	ifOlder     config.Duration
	retryLock   config.Duration
	plan        bool
}

func backupCommand(s *session) *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use:     "backup",
		Short:   "Back up the cluster",
		GroupID: groupDaily,
		Long: `Back up the running cluster into a repository. The backup is complete, and
restorable, when the command says so: its WAL is in the repository by then.`,
		Args: positional(),
	}
	choiceVar(cmd, &f.kind, "kind", []string{"auto", "full", "incremental"}, "auto makes an incremental backup whenever there is a usable earlier one")
	choiceVar(cmd, &f.detect, "detect", []string{"", "wal", "lsn", "hash"}, "how an incremental backup finds changed pages: by the WAL, which reads no others; by the LSN of each; or by comparing all (default the first that can be used)")
	choiceVar(cmd, &f.from, "from", []string{"primary", "standby", "auto"}, "which server this may be: auto takes it as it is")
	choiceVar(cmd, &f.checkpoint, "checkpoint", []string{"", "fast", "spread"}, "how the backup's checkpoint is made (else backup.checkpoint)")
	fl := cmd.Flags()
	fl.IntVar(&f.workers, "workers", 0, "files read at the same time (else backup.workers)")
	fl.TextVar(&f.rateLimit, "rate-limit", config.Size(0), "most `bytes` read in a second, as 50MB (else backup.rate_limit)")
	fl.BoolVar(&f.withWAL, "with-wal", false, "carry the WAL inside: a standalone backup, for a cluster without an archive")
	fl.StringArrayVar(&f.annotations, "annotate", nil, "`key=value` to keep with the backup; can be repeated")
	fl.StringVar(&f.repository, "repo", "", "`name` of the repository (else the first)")
	fl.TextVar(&f.ifOlder, "if-older-than", config.Duration(0), "make none if there is one younger than this `duration`; with --kind full, a full one")
	retryLockFlag(cmd, &f.retryLock)
	planFlag(cmd, &f.plan)
	cmd.RunE = s.run(func(ctx context.Context, _ []string) error { return s.backup(ctx, f) })
	return cmd
}

func (s *session) backup(ctx context.Context, f backupFlags) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	a := s.announce(c, "backup", f.plan)
	return a.end(ctx, s.backupAs(ctx, c, f, a))
}

func (s *session) backupAs(ctx context.Context, c *config.Config, f backupFlags, a *announcement) error {
	notes, err := parseAnnotations(f.annotations)
	if err != nil {
		return err
	}
	if f.workers < 0 {
		return usageError("", "--workers must be 1 or more")
	}
	r, err := s.openNamed(ctx, c, f.repository)
	if err != nil {
		return err
	}
	defer r.close()
	young, err := s.youngBackup(ctx, c, r, f)
	if err != nil {
		return err
	}
	if young != nil {
		return s.skipBackup(*young, r.name)
	}
	db, err := s.connect(ctx, c)
	if err != nil {
		return err
	}
	defer db.Close()
	o, err := s.backupOptions(c, f)
	if err != nil {
		return err
	}
	o.Conn, o.Objects, o.Repository, o.Annotations = db, r.objects, r.name, notes
	o.Connect = func(ctx context.Context, host string, port int) (*conn.Conn, error) {
		there := *c
		there.Postgres.Host, there.Postgres.Port = host, port
		return s.connect(ctx, &there)
	}
	if o.Locks, err = s.locks(r); err != nil {
		return err
	}
	if f.plan {
		return s.planBackup(ctx, o)
	}
	a.start(ctx)
	s.removeTemporary(ctx, c, r)
	p := s.progress("backup")
	o.Events = p.backupEvents(s)
	var head catalog.Head
	err = s.retryLocked(ctx, time.Duration(f.retryLock), func() error {
		head, err = backup.Run(ctx, o)
		return err
	})
	if bad := (*backup.DamagedParent)(nil); errors.As(err, &bad) && o.Kind == backup.Auto {
		s.log.Warn("the backup is begun anew, as a full one", "error", bad.Error())
		head, err = s.full(ctx, c, o)
	}
	p.close()
	if err != nil {
		return err
	}
	s.sweep(ctx, r, head.Place(), o.Locks)
	if err := s.out.document(viewOfBackup(head, r.name), backupDetails(head, r.name)); err != nil {
		return err
	}
	if n := len(head.Damaged); n > 0 {
		return foundProblem("run pg_amcheck, and keep the older backups: salvor backups list", "%d pages of the database are damaged; the first is page %d of %s", n, head.Damaged[0].Block, head.Damaged[0].Path)
	}
	return nil
}

// full makes a full backup, on a session of its own: that of one that failed is gone.
func (s *session) full(ctx context.Context, c *config.Config, o backup.Options) (catalog.Head, error) {
	db, err := s.connect(ctx, c)
	if err != nil {
		return catalog.Head{}, err
	}
	defer db.Close()
	o.Conn, o.Kind = db, backup.Full
	return backup.Run(ctx, o)
}

// temporaryAge is when a temporary file of the store must be a dead writer's: no
// object takes nearly as long to write.
const temporaryAge = 24 * time.Hour

// removeTemporary removes what writers left that were killed, in every repository:
// WAL goes to all of them. One that cannot be reached now is no reason not to back up
// into another, which is open.
func (s *session) removeTemporary(ctx context.Context, c *config.Config, open *repository) {
	remove := func(st store.Store) error {
		t, ok := store.Ability[store.TempCleaner](st)
		if !ok {
			return nil
		}
		_, _, err := t.RemoveTemporary(ctx, temporaryAge, s.clock.Now())
		return err
	}
	for _, rc := range c.Repositories {
		var err error
		if rc.Name == open.name {
			err = remove(open.store)
		} else if st, failed := s.openStore(ctx, rc, false); failed != nil {
			err = failed
		} else {
			err = errors.Join(remove(st), st.Close())
		}
		if err != nil {
			s.log.Warn("removing temporary files of the repository", "repository", rc.Name, "error", err.Error())
		}
	}
}

// sweep removes what earlier backups left that were cut off, and what removals left.
// The backup is complete: that this fails is a warning.
func (s *session) sweep(ctx context.Context, r *repository, p catalog.Place, locks *lock.Locks) {
	gone, err := expire.SweepKilled(ctx, expire.Options{Objects: r.objects, Locks: locks, Place: p, Clock: s.clock}, expire.Grace)
	switch {
	case errors.As(err, new(*lock.Held)): // who holds it will do it
	case err != nil:
		s.log.Warn("removing what backups left that were cut off", "error", err.Error())
	case gone.Objects > 0:
		s.log.Info("removed what backups left that were cut off", "objects", gone.Objects, "bytes", gone.Bytes)
	}
}

func (s *session) backupOptions(c *config.Config, f backupFlags) (backup.Options, error) {
	codec, err := chunk.ParseCodec(c.Backup.Compression)
	if err != nil {
		return backup.Options{}, err
	}
	o := backup.Options{
		Cluster: c.Cluster, DataDir: c.Postgres.DataDir, Codec: codec,
		Workers: c.Backup.Workers, RateLimit: int64(c.Backup.RateLimit), Spread: c.Backup.Checkpoint == "spread",
		From: fromOf(f.from), Kind: kindOf(f.kind), Detect: catalog.Detector(f.detect), WithWAL: f.withWAL, ArchiveTimeout: time.Duration(c.Backup.ArchiveTimeout), Program: versionOf(s.version, s.commit, readBuild()).Version, Clock: s.clock,
	}
	if f.workers > 0 {
		o.Workers = f.workers
	}
	if f.rateLimit > 0 {
		o.RateLimit = int64(f.rateLimit)
	}
	if f.checkpoint != "" {
		o.Spread = f.checkpoint == "spread"
	}
	return o, nil
}

func kindOf(name string) backup.Kind {
	return map[string]backup.Kind{"full": backup.Full, "incremental": backup.Incremental}[name]
}

func fromOf(name string) backup.From {
	return map[string]backup.From{"standby": backup.FromStandby, "auto": backup.FromAuto}[name]
}

func parseAnnotations(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, a := range list {
		k, v, ok := strings.Cut(a, "=")
		if !ok || k == "" {
			return nil, usageError("", "--annotate %q: want key=value", a)
		}
		m[k] = v
	}
	return m, nil
}

// planBackup says what a backup would do.
func (s *session) planBackup(ctx context.Context, o backup.Options) error {
	p, err := backup.Plan(ctx, o)
	if err != nil {
		return err
	}
	view := struct {
		Kind        string `json:"kind"`
		ParentID    string `json:"parent_id,omitempty"`
		Cluster     string `json:"cluster"`
		Repository  string `json:"repository"`
		Files       int    `json:"files"`
		SizeBytes   int64  `json:"size_bytes"`
		Checkpoint  string `json:"checkpoint"`
		WALIncluded bool   `json:"wal_included"`
	}{string(p.Kind), p.Parent, o.Cluster, o.Repository, p.Files, p.Bytes, "fast", o.WithWAL}
	if o.Spread {
		view.Checkpoint = "spread"
	}
	kind := view.Kind
	if p.Parent != "" {
		kind += ", after " + p.Parent
	}
	return s.out.document(view, details{
		{"kind", kind}, {"cluster", view.Cluster}, {"repository", view.Repository},
		{"would read", fmt.Sprintf("%s in %d files", formatBytes(p.Bytes), p.Files)}, {"checkpoint", view.Checkpoint},
		{"WAL", whereWAL(o.WithWAL)},
	})
}

// backupView is a backup in documents.
type backupView struct {
	ID          string      `json:"id"`
	Kind        string      `json:"kind"`
	Cluster     string      `json:"cluster"`
	StartedAt   stamp       `json:"started_at"`
	StoppedAt   stamp       `json:"stopped_at"`
	StartLSN    pg.LSN      `json:"start_lsn"`
	StopLSN     pg.LSN      `json:"stop_lsn"`
	Timeline    pg.Timeline `json:"timeline"`
	Size        uint64      `json:"size_bytes"`
	Read        uint64      `json:"read_bytes"`
	Stored      uint64      `json:"stored_bytes"`
	Adopted     uint64      `json:"adopted_bytes"`
	PagesRead   uint64      `json:"pages_read"`
	PagesStored uint64      `json:"pages_stored"`
	Forwarded   uint64      `json:"forwarded_bytes"`
	Detector    string      `json:"detector,omitempty"`
	FromStandby bool        `json:"from_standby"`
	Seconds     float64     `json:"duration_seconds"`
	ParentID    *string     `json:"parent_id"`
	Repository  string      `json:"repository"`

	SystemID      pg.SystemID         `json:"system_id"`
	Incarnation   catalog.Incarnation `json:"incarnation"`
	ServerVersion string              `json:"server_version"`
	WALIncluded   bool                `json:"wal_included"`
	DamagedPages  []catalog.BadPage   `json:"damaged_pages,omitempty"`
	Annotations   map[string]string   `json:"annotations,omitempty"`
}

func viewOfBackup(h catalog.Head, repository string) backupView {
	v := backupView{
		ID: h.ID, Kind: string(h.Kind), Cluster: h.Cluster, StartedAt: stamp(h.StartedAt), StoppedAt: stamp(h.StoppedAt),
		StartLSN: h.StartLSN, StopLSN: h.StopLSN, Timeline: h.Timeline, Size: h.Size, Read: h.Read, Stored: h.Stored, Adopted: h.Adopted, Forwarded: h.Forwarded, Detector: string(h.Detector), FromStandby: h.FromStandby,
		PagesRead: h.PagesRead, PagesStored: h.PagesStored, Seconds: h.Seconds, Repository: repository,
		SystemID: h.SystemID, Incarnation: h.Incarnation, ServerVersion: h.Version.String(), WALIncluded: h.WALIncluded,
		DamagedPages: h.Damaged, Annotations: h.Annotations,
	}
	if h.ParentID != "" {
		v.ParentID = &h.ParentID
	}
	return v
}

func whereWAL(included bool) string {
	if included {
		return "inside (standalone)"
	}
	return "in the archive"
}

func backupDetails(h catalog.Head, repository string) details {
	d := details{
		{"backup", h.ID}, {"kind", string(h.Kind)}, {"cluster", h.Cluster}, {"repository", repository},
		{"started", formatTime(h.StartedAt)}, {"stopped", formatTime(h.StoppedAt)},
		{"WAL", fmt.Sprintf("%s to %s, timeline %d, %s", h.StartLSN, h.StopLSN, h.Timeline, whereWAL(h.WALIncluded))},
		{"size", formatBytes(int64(h.Size))}, {"stored", formatBytes(int64(h.Stored))},
		{"took", formatDuration(secondsOf(h.Seconds))},
	}
	if h.ParentID != "" {
		d = append(d, detail{"parent", h.ParentID},
			detail{"pages", fmt.Sprintf("%d read, %d stored; changes found by %s", h.PagesRead, h.PagesStored, h.Detector)})
	}
	if h.FromStandby {
		d = append(d, detail{"from", "a standby"})
	}
	if h.Adopted > 0 {
		d = append(d, detail{"adopted", formatBytes(int64(h.Adopted)) + " of a backup that was cut off"})
	}
	if n := len(h.Damaged); n > 0 {
		d = append(d, detail{"damaged pages", fmt.Sprint(n)})
	}
	return d
}

// backupEvents feeds the progress with a backup's events.
func (p *progress) backupEvents(s *session) backup.Events {
	return backup.Events{
		Phase:    func(name string) { p.update(name, 0, 0) },
		Progress: func(done, total uint64) { p.update("copy", int64(done), int64(total)) },
		Warn:     func(m string) { s.log.Warn(m) },
	}
}
