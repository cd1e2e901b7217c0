package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/restore"
	"github.com/salvor-dr/salvor/internal/store"
)

// restoreFlags are the options of salvor restore.
type restoreFlags struct {
	targetFlags
	to          string
	tablespaces []string
	action      string
	standby     bool
	takeover    bool
	delta       bool
	repository  string
	workers     int
	plan        bool

	start      bool
	port       int
	socketDir  string
	set        []string
	configFile string
}

func restoreCmd(s *session) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:     "restore --to DIR",
		Short:   "Rebuild a data directory, at any moment that backups and WAL cover",
		GroupID: groupDaily,
		Long: `Rebuild a data directory such that starting PostgreSQL on it recovers to the
target, and then promotes (or does what --action says). The target is checked
against backups and archived WAL before a byte is written.

The result is a copy: it archives nothing and can run beside the original.
With --takeover it takes the original's place; with --standby it follows it.

With --delta the directory may be an older copy of the cluster, one that has
diverged, or a restore that was cut off: what is right in it already is neither
fetched nor written, and what the backup does not have is removed.`,
		Args: positional(),
	}
	f.declare(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "the new data `directory`")
	fl.StringArrayVar(&f.tablespaces, "tablespace-map", nil, "`OID=DIR`: where a tablespace goes; can be repeated")
	choiceVar(cmd, &f.action, "action", []string{"promote", "pause", "shutdown"}, "what the server does at the target")
	fl.BoolVar(&f.standby, "standby", false, "restore a standby, which goes on following")
	fl.BoolVar(&f.takeover, "takeover", false, "take the original's place, and archive as it did")
	fl.BoolVar(&f.delta, "delta", false, "restore over what the directory has of this cluster, and write only what differs")
	fl.StringVar(&f.repository, "repo", "", "`name` of the repository (else the first that can serve)")
	fl.IntVar(&f.workers, "workers", 0, "files written at the same time (else backup.workers)")
	fl.BoolVar(&f.start, "start", false, "start the server too, leave it running, and wait for the target")
	fl.IntVar(&f.port, "port", 0, "port of the started server")
	fl.StringVar(&f.socketDir, "socket-dir", "", "`directory` of the started server's socket")
	fl.StringArrayVar(&f.set, "set", nil, "`name=value`: a setting for the started server; can be repeated")
	fl.StringVar(&f.configFile, "config-file", "", "`postgresql.conf` for the started server, if it is not in the backup")
	planFlag(cmd, &f.plan)
	cmd.RunE = s.run(func(ctx context.Context, _ []string) error { return s.restore(ctx, f) })
	return cmd
}

func (s *session) restore(ctx context.Context, f restoreFlags) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	c, err := s.config()
	if err != nil {
		return err
	}
	a := s.announce(c, "restore", f.plan)
	return a.end(ctx, s.restoreAs(ctx, c, f, o, a))
}

func (s *session) restoreAs(ctx context.Context, c *config.Config, f restoreFlags, o restore.Options, a *announcement) error {
	r, choice, err := s.choose(ctx, c, f.repository, o.Target)
	if err != nil {
		return err
	}
	defer r.close()
	o.Choice, o.Objects, o.Clock = choice, r.objects, s.clock
	if o.Workers == 0 {
		o.Workers = c.Backup.Workers
	}
	if f.plan {
		return s.planRestore(ctx, c, r, o)
	}
	start, err := s.startOptions(ctx, c, f, o)
	if err != nil {
		return err
	}
	if err := s.chooseLife(c, &o); err != nil {
		return err
	}
	done, err := s.reading(ctx, c, r, choice, o.Target)
	if err != nil {
		return err
	}
	replays := false // a server that is started later, or goes on
	defer func() { done(ctx, replays) }()
	a.start(ctx)
	proof := s.newProof(c, r.name, catalog.RestoreProof, o.Choice.Backup.ID)
	o.Confirm = func(present datadir.Control) error {
		err := s.confirm(replacing(present), o.To)
		proof.StartedAt = s.clock.Now().UTC() // who was asked took a time that no restore takes
		return err
	}
	p := s.progress("restore")
	o.Events = restore.Events{
		Phase:    func(name string) { p.update(name, 0, 0) },
		Progress: func(done, total uint64) { p.update("restore", int64(done), int64(total)) },
		Warn:     func(m string) { s.log.Warn(m) },
	}
	res, err := restore.Run(ctx, o)
	p.close()
	if err != nil {
		return err
	}
	s.copied(&proof, res)
	if o.Takeover {
		if err := s.takePlace(ctx, c, o); err != nil {
			return err
		}
	}
	v := viewOfRestore(o, r.name, res)
	replays = !f.start || o.Standby
	if f.start {
		began := s.clock.Now()
		started, err := s.start(ctx, start)
		if err != nil {
			return err
		}
		s.replayed(&proof, o, started, began)
		v.started(started)
	}
	proof.OK = true
	v.ProofID = s.keepProof(ctx, c, r, o.Choice.Origin.Place(), proof)
	v.Seconds, v.pgCtl = seconds(s.clock.Now().Sub(a.began)), "pg_ctl"
	if dir, err := binDir(ctx, c, o.Choice.Backup.Version.Major()); err == nil {
		v.pgCtl = filepath.Join(dir, "pg_ctl")
	}
	return s.out.document(v, v.details(f))
}

// start starts the server of a restored directory, and waits for its target.
func (s *session) start(ctx context.Context, o restore.StartOptions) (restore.Started, error) {
	s.log.Info("starting the server", "data_dir", o.DataDir)
	started, err := restore.Start(ctx, o)
	if err != nil {
		return started, withHint(fmt.Errorf("%s is restored, but its server did not come up: %w", o.DataDir, err), "what it wrote is in "+filepath.Join(o.DataDir, "log"))
	}
	return started, nil
}

// options reads what can be read without the configuration.
func (f restoreFlags) options() (restore.Options, error) {
	o := restore.Options{Action: restore.Action(f.action), Standby: f.standby, Takeover: f.takeover, Delta: f.delta, Workers: f.workers, Tablespaces: map[pg.OID]string{}}
	var err error
	if o.Target, err = f.target(); err != nil {
		return o, err
	}
	if f.to == "" {
		return o, usageError("salvor restore --to /new/data/directory", "restore needs --to: the new data directory")
	}
	if o.To, err = filepath.Abs(f.to); err != nil {
		return o, err
	}
	for _, m := range f.tablespaces {
		k, dir, ok := strings.Cut(m, "=")
		oid, err := strconv.ParseUint(k, 10, 32)
		if !ok || err != nil || dir == "" {
			return o, usageError("", "--tablespace-map %q: want OID=DIR", m)
		}
		if dir, err = filepath.Abs(dir); err != nil {
			return o, err
		}
		o.Tablespaces[pg.OID(oid)] = dir
	}
	switch {
	case o.Standby && o.Target.Kind != catalog.ToLatest:
		return o, usageError("", "--standby follows the primary: it takes no target")
	case o.Standby && o.Takeover:
		return o, usageError("", "--standby and --takeover exclude each other: promote the standby for that")
	case o.Target.Kind == catalog.ToLatest && o.Action != restore.Promote:
		return o, usageError("name a target, as --at, --lsn or --immediate", "--action %s needs a target: at the end of the WAL PostgreSQL always promotes", o.Action)
	case !f.start && (f.port != 0 || f.socketDir != "" || len(f.set) > 0 || f.configFile != ""):
		return o, usageError("", "--port, --socket-dir, --set and --config-file need --start")
	case f.workers < 0:
		return o, usageError("", "--workers must be 1 or more")
	}
	return o, nil
}

// choose finds the repository and the backup that lead to the target: the first
// repository that can, in it the present place of the cluster, then, for a target
// that tells a moment, its former ones.
func (s *session) choose(ctx context.Context, c *config.Config, name string, t catalog.Target) (*repository, catalog.Choice, error) {
	list, err := repositoriesOf(c, name)
	if err != nil {
		return nil, catalog.Choice{}, err
	}
	var first error
	for _, rc := range list {
		r, err := s.openRepository(ctx, rc)
		if err == nil {
			var choice catalog.Choice
			if choice, err = s.chooseIn(ctx, c, r, t); err == nil {
				return r, choice, nil
			}
			r.close()
		}
		if first == nil {
			first = err
		} else {
			s.log.Warn(err.Error())
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, catalog.Choice{}, first
}

func (s *session) chooseIn(ctx context.Context, c *config.Config, r *repository, t catalog.Target) (catalog.Choice, error) {
	origins, err := s.places(ctx, c, r, t.BackupID == "")
	if err != nil {
		return catalog.Choice{}, err
	}
	if t.BackupID == "" && (t.Kind == catalog.ToLatest || t.Kind == catalog.ToImmediate) {
		origins = origins[:1]
	}
	var first error
	for _, o := range origins {
		life, err := catalog.ReadLife(ctx, r.objects, o)
		if err != nil {
			return catalog.Choice{}, err
		}
		choice, err := life.Resolve(ctx, r.objects, t)
		if err == nil {
			if t.BackupID == "" {
				for _, err := range life.Unreadable {
					s.log.Warn(fmt.Sprintf("restoring without a backup that cannot be read: %v", err), "repository", r.name)
				}
			}
			return choice, nil
		}
		if first == nil {
			first = err
		}
		if !errors.As(err, new(*catalog.NotCovered)) && !errors.Is(err, catalog.ErrNoBackup) {
			return catalog.Choice{}, err
		}
	}
	return catalog.Choice{}, first
}

// replacing says what a delta restore takes away.
func replacing(present datadir.Control) string {
	return fmt.Sprintf("This replaces the cluster (%s, timeline %d, last checkpoint at %s of %s, WAL that is not archived is lost) in",
		present.State, present.CheckpointCopy.Timeline, present.Checkpoint, formatTime(present.CheckpointCopy.Time))
}

// chooseLife decides whose life the restored directory lives: its source's, for a
// standby, else a new one.
func (s *session) chooseLife(c *config.Config, o *restore.Options) error {
	var err error
	source := o.Choice.Origin.Incarnation
	o.RestoreCommand, err = restoreCommand(c.File(), string(source), o.Standby)
	o.Incarnation = source
	if !o.Standby {
		o.Incarnation = catalog.NewIncarnation()
	}
	return err
}

// takePlace makes the place that a takeover goes on in. It comes after the restore:
// a place without a directory would only hide the one there is. A directory without
// a place archives nothing, and salvor init makes one.
func (s *session) takePlace(ctx context.Context, c *config.Config, o restore.Options) error {
	origin := o.Choice.Origin
	origin.Parent, origin.BackupID = origin.Incarnation, o.Choice.Backup.ID
	origin.ParentTimeline = o.Choice.Path.History.Timeline
	origin.Incarnation, origin.CreatedAt = o.Incarnation, s.clock.Now().UTC()
	all, closeAll, err := s.openAll(ctx, c)
	if err != nil {
		return err
	}
	defer closeAll()
	for _, r := range all {
		if err := catalog.WriteOrigin(ctx, r.objects, origin); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("%s is restored, but has no place in repository %s: %w", o.To, r.name, err)
		}
	}
	s.log.Warn("a takeover goes on without a backup of its own: make one now", "command", "salvor backup")
	return nil
}

func (s *session) startOptions(ctx context.Context, c *config.Config, f restoreFlags, o restore.Options) (restore.StartOptions, error) {
	so := restore.StartOptions{DataDir: o.To, Port: f.port, SocketDir: f.socketDir, Action: o.Action, Target: o.Target, Standby: o.Standby,
		Backup: o.Choice.Backup, Set: map[string]string{}, Warn: func(m string) { s.log.Warn(m) }}
	if !f.start {
		return so, nil
	}
	for _, kv := range f.set {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return so, usageError("", "--set %q: want name=value", kv)
		}
		so.Set[name] = value
	}
	var err error
	if f.configFile != "" {
		if so.ConfigFile, err = filepath.Abs(f.configFile); err != nil {
			return so, err
		}
	} else if conf := o.Choice.Backup.Needs.ConfigFile; conf != "" {
		return so, usageError("give one with --config-file, or start the server as the host's packages do", "the source kept its configuration outside its data directory, in %s, so it is not in the backup, and --start needs one", conf)
	}
	if so.BinDir, err = binDir(ctx, c, o.Choice.Backup.Version.Major()); err != nil {
		return so, err
	}
	so.Connect, err = connConfig(ctx, c)
	return so, err
}

// restoreView is a restore in documents.
type restoreView struct {
	BackupID        string      `json:"backup_id"`
	Repository      string      `json:"repository"`
	To              string      `json:"to"`
	Target          string      `json:"target"`
	Timeline        pg.Timeline `json:"timeline"`
	Restored        uint64      `json:"restored_bytes"`
	Fetched         uint64      `json:"fetched_bytes"`
	Written         uint64      `json:"written_bytes"`
	Files           uint64      `json:"file_count"`
	Compared        *uint64     `json:"compared_bytes,omitempty"`
	Kept            *uint64     `json:"kept_bytes,omitempty"`
	Removed         *uint64     `json:"removed_count,omitempty"`
	Seconds         float64     `json:"duration_seconds"`
	RecoveredToLSN  *pg.LSN     `json:"recovered_to_lsn,omitempty"`
	RecoveredToTime stamp       `json:"recovered_to_time,omitzero"`
	PID             int         `json:"server_pid,omitzero"`
	Port            int         `json:"server_port,omitzero"`
	SocketDir       string      `json:"server_socket_dir,omitzero"`
	Slots           []slotView  `json:"replication_slots"`
	Elsewhere       []string    `json:"files_not_in_backup"`
	ProofID         string      `json:"proof_id,omitempty"`

	pgCtl     string // the program, for what to do next
	elsewhere details
}

func viewOfRestore(o restore.Options, repository string, r restore.Result) restoreView {
	h := o.Choice.Backup
	v := restoreView{BackupID: h.ID, Repository: repository, To: o.To, Target: o.Target.String(), Timeline: o.Choice.Path.History.Timeline,
		Restored: r.Restored, Fetched: r.Fetched, Written: r.Written, Files: r.Files,
		Slots: viewsOfSlots(h.Slots), Elsewhere: filesElsewhere(h.Needs), elsewhere: elsewhereDetails(h)}
	if o.Delta {
		v.Compared, v.Kept, v.Removed = &r.Compared, &r.Kept, &r.Removed
	}
	return v
}

func (v *restoreView) started(s restore.Started) {
	if s.LSN != 0 {
		v.RecoveredToLSN = &s.LSN
	}
	v.RecoveredToTime, v.PID, v.Port, v.SocketDir = stamp(s.Time), s.PID, s.Port, s.SocketDir
}

func (v restoreView) details(f restoreFlags) details {
	d := details{
		{"restored", v.To}, {"from backup", v.BackupID + " in " + v.Repository}, {"target", v.Target},
		{"size", fmt.Sprintf("%s in %d files", formatBytes(int64(v.Restored)), v.Files)},
	}
	if v.Compared != nil {
		d = append(d, detail{"compared", fmt.Sprintf("%s, of which %s were right; %d files and directories removed", formatBytes(int64(*v.Compared)), formatBytes(int64(*v.Kept)), *v.Removed)},
			detail{"written", formatBytes(int64(v.Written))})
	}
	d = append(d, detail{"fetched", formatBytes(int64(v.Fetched))}, detail{"took", formatDuration(secondsOf(v.Seconds))})
	if v.RecoveredToLSN != nil {
		d = append(d, detail{"recovered to", strings.TrimSpace(v.RecoveredToLSN.String() + "  " + formatTime(time.Time(v.RecoveredToTime)))})
	}
	if v.ProofID != "" {
		d = append(d, detail{"kept as proof", v.ProofID})
	}
	d = append(d, v.elsewhere...)
	switch {
	case v.PID != 0:
		d = append(d, detail{"server", fmt.Sprintf("process %d, port %d, socket in %s", v.PID, v.Port, v.SocketDir)},
			detail{"stop it with", v.pgCtl + " stop -D " + shellWord(v.To)})
	case !f.start && len(v.Elsewhere) > 0:
		d = append(d, detail{"next", "start PostgreSQL on it, with the configuration that is not in the backup: pg_ctlcluster on Debian"})
	case !f.start:
		d = append(d, detail{"next", "start PostgreSQL on it: " + v.pgCtl + " start -D " + shellWord(v.To)})
	}
	return d
}

// restorePlan is what a restore would do, in documents.
type restorePlan struct {
	BackupID     string      `json:"backup_id"`
	Repository   string      `json:"repository"`
	To           string      `json:"to"`
	Target       string      `json:"target"`
	Timeline     pg.Timeline `json:"timeline"`
	Restored     uint64      `json:"restored_bytes"`
	FromLSN      pg.LSN      `json:"wal_from_lsn"`
	ToLSN        pg.LSN      `json:"wal_to_lsn"`
	Segments     int         `json:"wal_segments"`
	WALBytes     int64       `json:"wal_bytes"`
	Replay       int64       `json:"replay_bytes"`
	LastCommitAt stamp       `json:"last_commit_at,omitzero"`
	Delta        *deltaPlan  `json:"delta,omitempty"`

	Estimate *estimateView `json:"estimate,omitempty"`
}

// deltaPlan is what a delta restore would find.
type deltaPlan struct {
	Replaces *replacedView `json:"replaces,omitempty"`
	Compared uint64        `json:"compared_bytes"`
	Missing  uint64        `json:"missing_bytes"`
	Removed  uint64        `json:"removed_count"`
	Some     []string      `json:"removed"`
}

type replacedView struct {
	State      string      `json:"state"`
	Timeline   pg.Timeline `json:"timeline"`
	Checkpoint pg.LSN      `json:"checkpoint_lsn"`
	At         stamp       `json:"checkpoint_at"`
}

// planRestore says what a restore would do.
func (s *session) planRestore(ctx context.Context, c *config.Config, r *repository, o restore.Options) error {
	found, err := restore.Check(ctx, o)
	if err != nil {
		return err
	}
	choice := o.Choice
	walBytes := int64(len(choice.Path.Steps)) * int64(choice.Archive.SegmentSize)
	segments := 0
	for _, step := range choice.Path.Steps {
		if step.Segment.Start(choice.Archive.SegmentSize) <= choice.StopLSN {
			segments++
		}
	}
	v := restorePlan{BackupID: choice.Backup.ID, Repository: r.name, To: o.To, Target: o.Target.String(), Timeline: choice.Path.History.Timeline,
		Restored: choice.Backup.Size, FromLSN: choice.Backup.StartLSN, ToLSN: choice.StopLSN,
		Segments: segments, WALBytes: min(walBytes, int64(segments)*int64(choice.Archive.SegmentSize)), Replay: int64(choice.StopLSN - choice.Backup.StartLSN)}
	if choice.LastCommit != nil {
		v.LastCommitAt = stamp(choice.LastCommit.Time)
	}
	if found.Over {
		v.Delta = viewOfDelta(found)
	}
	past := s.proven(ctx, c, r)
	v.Estimate = past.estimate(c.Node.Name, restore.Work{Size: v.Restored, Replay: uint64(v.Replay), Delta: found.Over})
	return s.out.document(v, v.details())
}

func viewOfDelta(p restore.Plan) *deltaPlan {
	d := &deltaPlan{Compared: p.Compared, Missing: p.Missing, Removed: p.Removed, Some: p.Some}
	if d.Some == nil {
		d.Some = []string{}
	}
	if c := p.Present; c != nil {
		d.Replaces = &replacedView{c.State.String(), c.CheckpointCopy.Timeline, c.Checkpoint, stamp(c.CheckpointCopy.Time)}
	}
	return d
}

func (v restorePlan) details() details {
	d := details{
		{"backup", v.BackupID + " in " + v.Repository}, {"to", v.To}, {"target", v.Target},
		{"timeline", fmt.Sprint(v.Timeline)},
	}
	if v.Delta == nil {
		d = append(d, detail{"would write", formatBytes(int64(v.Restored))})
	} else {
		d = append(d, v.Delta.details()...)
	}
	d = append(d,
		detail{"WAL to replay", fmt.Sprintf("%s to %s: %s, in %d segments", v.FromLSN, v.ToLSN, formatBytes(v.Replay), v.Segments)},
		detail{"last commit", formatTime(time.Time(v.LastCommitAt))})
	return append(d, v.Estimate.details()...)
}

func (d *deltaPlan) details() details {
	var list details
	if r := d.Replaces; r != nil {
		list = append(list, detail{"would replace", fmt.Sprintf("the cluster there: %s, timeline %d, checkpoint at %s of %s", r.State, r.Timeline, r.Checkpoint, formatTime(time.Time(r.At)))})
	}
	list = append(list, detail{"would compare", formatBytes(int64(d.Compared)) + ", and write what differs"},
		detail{"would write", formatBytes(int64(d.Missing)) + " that are missing"})
	remove := fmt.Sprintf("%d files and directories", d.Removed)
	for i, path := range d.Some {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		remove += sep + path
	}
	if int(d.Removed) > len(d.Some) {
		remove += ", and more"
	}
	return append(list, detail{"would remove", remove})
}
