package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/expire"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/retention"
)

// A run that would remove more than half of a repository's backups, and at least so many,
// is more likely a mistake in the policy than meant: it has to be confirmed.
const manyBackups = 10

// expireFlags are the options of salvor expire.
type expireFlags struct {
	plan       bool
	repository string
	retryLock  config.Duration
	policy     config.Retention // what the plan is to be made with; see changed
	changed    map[string]bool
}

func expireCommand(s *session) *cobra.Command {
	var f expireFlags
	cmd := &cobra.Command{
		Use: "expire", Short: "Remove the backups and WAL that the retention policy does not keep", GroupID: groupDaily, Args: positional(),
		Long: `Remove the backups, and the WAL, that no rule of the retention policy keeps, in every
repository. With --plan say which rule keeps each backup, and what would go; the
policy can be varied there, to see what a change would do.

The last good backup of a cluster, one that is held, and one that is in use always
stay. Nobody is asked, unless more than half of a repository's backups, and at least
10, would go, or the repository got nothing for longer than the window, and than 8
days, as when a clock has jumped: then --yes is needed.`,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.repository, "repo", "", "`name` of the repository (else all)")
	retryLockFlag(cmd, &f.retryLock)
	planFlag(cmd, &f.plan)
	fl.TextVar(&f.policy.Window, "window", config.Duration(0), "with --plan: another recovery window, a `duration`")
	for _, n := range []struct {
		name string
		to   *int
	}{{"hourly", &f.policy.Hourly}, {"daily", &f.policy.Daily}, {"weekly", &f.policy.Weekly}, {"monthly", &f.policy.Monthly}, {"yearly", &f.policy.Yearly}, {"minimum", &f.policy.Minimum}} {
		fl.IntVar(n.to, n.name, 0, "with --plan: another `number` for retention."+n.name)
	}
	fl.StringVar(&f.policy.TimeZone, "time-zone", "", "with --plan: another time zone, by its `name`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.changed = map[string]bool{}
		for _, name := range []string{"window", "hourly", "daily", "weekly", "monthly", "yearly", "minimum", "time-zone"} {
			f.changed[name] = fl.Changed(name)
		}
		return s.run(func(ctx context.Context, _ []string) error { return s.expire(ctx, f) })(cmd, args)
	}
	return cmd
}

// over gives the configured policy with what the command line has of it.
func (f expireFlags) over(r config.Retention) config.Retention {
	for name, set := range map[string]func(){
		"window": func() { r.Window = f.policy.Window }, "hourly": func() { r.Hourly = f.policy.Hourly },
		"daily": func() { r.Daily = f.policy.Daily }, "weekly": func() { r.Weekly = f.policy.Weekly },
		"monthly": func() { r.Monthly = f.policy.Monthly }, "yearly": func() { r.Yearly = f.policy.Yearly },
		"minimum": func() { r.Minimum = f.policy.Minimum }, "time-zone": func() { r.TimeZone = f.policy.TimeZone },
	} {
		if f.changed[name] {
			set()
		}
	}
	return r
}

func (s *session) expire(ctx context.Context, f expireFlags) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	for name, is := range f.changed {
		if is && !f.plan {
			return usageError("set retention in the configuration, and look at it with --plan", "--%s goes with --plan only: what is removed is what the configuration says", name)
		}
	}
	a := s.announce(c, "expire", f.plan)
	return a.end(ctx, s.expireAs(ctx, c, f, a))
}

func (s *session) expireAs(ctx context.Context, c *config.Config, f expireFlags, a *announcement) error {
	settings := f.over(c.Retention)
	policy, err := settings.Policy()
	if err != nil {
		return usageError("", "--time-zone: %w", err)
	}
	if least := min(policy.Hourly, policy.Daily, policy.Weekly, policy.Monthly, policy.Yearly); least < 0 || policy.Minimum < 1 {
		return usageError("", "no number may be negative, and --minimum must be 1 or more")
	}
	list, err := repositoriesOf(c, f.repository)
	if err != nil {
		return err
	}
	a.start(ctx)
	v := expireView{Plan: f.plan, Cluster: c.Cluster, Policy: settings, Repositories: []expiredView{}}
	var failures []error
	for _, rc := range list {
		one, err := s.expireIn(ctx, c, rc, policy, f)
		if err != nil {
			failures = append(failures, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		v.Repositories = append(v.Repositories, *one)
		v.Freed += one.Freed
	}
	if len(v.Repositories) > 0 {
		if err := s.out.document(v, v); err != nil {
			return err
		}
	}
	if len(failures) > 0 {
		for _, err := range failures[1:] {
			s.log.Warn(err.Error())
		}
		return failures[0]
	}
	return nil
}

// expireIn applies the policy to a repository, or says what that would do.
func (s *session) expireIn(ctx context.Context, c *config.Config, rc config.Repository, policy retention.Policy, f expireFlags) (*expiredView, error) {
	r, err := s.openRepository(ctx, rc)
	if err != nil {
		return nil, err
	}
	defer r.close()
	locks, err := s.locks(r)
	if err != nil {
		return nil, err
	}
	var v *expiredView
	decide := func(ctx context.Context) ([]expire.Plan, error) {
		survey, err := expire.Look(ctx, expire.SurveyOptions{Objects: r.objects, Locks: locks, Cluster: c.Cluster, Clock: s.clock})
		if err != nil {
			return nil, err
		}
		for _, e := range slices.Concat(survey.Unreadable, survey.Doubts) {
			s.log.Warn(fmt.Sprintf("what cannot be read stays: %v", e), "repository", r.name)
		}
		d := retention.Decide(policy, survey.History, s.clock.Now())
		plans := survey.Plans(d)
		v = viewOfExpired(r.name, survey, d, plans)
		v.leap = survey.Leap(policy.Window, d, plans)
		return plans, nil
	}
	if f.plan {
		_, err := decide(ctx)
		return v, inRepositoryNamed(r.name, err)
	}
	origins, err := catalog.Places(ctx, r.objects, c.Cluster)
	if err != nil {
		return nil, inRepositoryNamed(r.name, err)
	}
	o := expire.RunOptions{Objects: r.objects, Locks: locks, Clock: s.clock}
	for _, origin := range origins {
		o.Places = append(o.Places, origin.Place())
	}
	var gone expire.Removed
	err = s.retryLocked(ctx, time.Duration(f.retryLock), func() (err error) {
		gone, err = expire.Run(ctx, o, func(ctx context.Context) ([]expire.Plan, error) {
			plans, err := decide(ctx)
			if err == nil {
				err = s.allows(ctx, c, r, v)
			}
			return plans, err
		})
		return err
	})
	if err != nil {
		return nil, inRepositoryNamed(r.name, err)
	}
	if err := s.sweepPlaces(ctx, r, locks, o.Places, &gone); err != nil {
		return nil, inRepositoryNamed(r.name, err)
	}
	v.done(gone)
	for _, err := range gone.Kept {
		s.log.Warn(fmt.Sprintf("kept for now: %v", err), "repository", r.name)
	}
	return v, nil
}

func inRepositoryNamed(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("repository %s: %w", name, err)
}

// allows looks whether what is kept is there, and not only on this host; and refuses to
// remove most of what there is without being told so.
func (s *session) allows(ctx context.Context, c *config.Config, r *repository, v *expiredView) error {
	if v.RemovedBackups == 0 && len(v.WAL) == 0 {
		return nil
	}
	for _, d := range v.decisions.Backups {
		if slices.Contains(d.KeptBy, retention.Last) {
			if _, err := catalog.Reread(ctx, r.objects, *d.Head); err != nil {
				return fmt.Errorf("nothing is removed, since what is to stay cannot be read: %w", err)
			}
		}
	}
	if v.RemovedBackups >= manyBackups && 2*v.RemovedBackups > len(v.Backups) {
		return s.confirm(fmt.Sprintf("This removes %d of %d backups in repository %s (salvor expire --plan shows them), of cluster", v.RemovedBackups, len(v.Backups), r.name), c.Cluster)
	}
	if v.leap != (expire.Leap{}) {
		return s.confirm(fmt.Sprintf("Between %s and %s repository %s got neither a backup nor WAL. If backups were made then, a clock has jumped, and this removes what the window should keep (salvor expire --plan shows it), of cluster",
			formatTime(v.leap.From), formatTime(v.leap.To), r.name), c.Cluster)
	}
	return nil
}

// sweepPlaces removes what was left by backups that were cut off long ago.
func (s *session) sweepPlaces(ctx context.Context, r *repository, locks *lock.Locks, places []catalog.Place, gone *expire.Removed) error {
	for _, p := range places {
		left, err := expire.SweepKilled(ctx, expire.Options{Objects: r.objects, Locks: locks, Place: p, Clock: s.clock}, expire.Grace)
		if errors.As(err, new(*lock.Held)) {
			s.log.Debug("what was cut off stays for now", "repository", r.name, "reason", err)
			continue
		}
		if err != nil {
			return err
		}
		gone.Objects += left.Objects
		gone.Bytes += left.Bytes
	}
	return nil
}

// sayKept notes with backups that were listed which rules keep them, and who holds them.
func (s *session) sayKept(ctx context.Context, c *config.Config, r *repository, all []stored, heads map[catalog.Place][]*catalog.Head, proven catalog.Verifications) {
	fail := func(err error) {
		s.log.Warn(fmt.Sprintf("which rules keep the backups is not known: %v", err), "repository", r.name)
	}
	policy, err := c.Retention.Policy()
	if err != nil {
		fail(err)
		return
	}
	locks, err := s.locks(r)
	if err != nil {
		fail(err)
		return
	}
	if proven == nil {
		proven = catalog.Verifications{}
	}
	survey, err := expire.Look(ctx, expire.SurveyOptions{Objects: r.objects, Locks: locks, Cluster: c.Cluster, Clock: s.clock, Heads: heads, Proven: proven})
	if err != nil {
		fail(err)
		return
	}
	rules := make(map[string][]string, len(all))
	for _, d := range retention.Decide(policy, survey.History, s.clock.Now()).Backups {
		rules[d.ID] = rulesOf(d.KeptBy)
	}
	for i := range all {
		all[i].keptBy = rules[all[i].head.ID]
		if h, held := survey.Holds[all[i].head.ID]; held {
			all[i].hold = &h
		}
	}
}

func rulesOf(rules []retention.Rule) []string {
	all := make([]string, len(rules))
	for i, r := range rules {
		all[i] = string(r)
	}
	return all
}

// keptDetails say why a backup is kept.
func keptDetails(b stored) details {
	d := details{{"kept by", strings.Join(b.keptBy, ", ")}}
	if len(b.keptBy) == 0 {
		d[0].value = "nothing: salvor expire removes it"
	}
	if h := b.hold; h != nil {
		d = append(d, detail{"held", fmt.Sprintf("by %s since %s: %s", h.Owner, formatTime(h.At), h.Reason)})
	}
	return d
}

// expireView is what was removed, or would be, in documents.
type expireView struct {
	Plan         bool             `json:"plan"`
	Cluster      string           `json:"cluster"`
	Policy       config.Retention `json:"policy"`
	Repositories []expiredView    `json:"repositories"`
	Freed        uint64           `json:"freed_bytes"` // of a plan: at most
}

type expiredView struct {
	Repository     string        `json:"repository"`
	WindowFrom     stamp         `json:"window_from,omitzero"`
	Backups        []decidedView `json:"backups"`
	WAL            []purgedView  `json:"wal"` // that goes
	RemovedBackups int           `json:"removed_backups"`
	RemovedWAL     int           `json:"removed_segments"`
	Objects        int           `json:"deleted_objects,omitempty"`
	Freed          uint64        `json:"freed_bytes"`

	decisions retention.Decisions
	leap      expire.Leap
}

type decidedView struct {
	ID            string   `json:"id"`
	Kind          string   `json:"kind"`
	StoppedAt     stamp    `json:"stopped_at"`
	Stored        uint64   `json:"stored_bytes"`
	VerifiedLevel *string  `json:"verified_level"`
	Held          bool     `json:"held"`
	Removed       bool     `json:"removed"`
	KeptBy        []string `json:"kept_by"`
}

type purgedView struct {
	SystemID    pg.SystemID         `json:"system_id"`
	Incarnation catalog.Incarnation `json:"incarnation"`
	Timeline    pg.Timeline         `json:"timeline"`
	From        pg.LSN              `json:"from_lsn"`
	To          pg.LSN              `json:"to_lsn"`
	Segments    int                 `json:"segments"`
	Bytes       uint64              `json:"bytes"`
}

func viewOfExpired(repository string, s *expire.Survey, d retention.Decisions, plans []expire.Plan) *expiredView {
	v := &expiredView{Repository: repository, WindowFrom: stamp(d.Since), Backups: make([]decidedView, 0, len(d.Backups)), WAL: []purgedView{}, decisions: d}
	for _, b := range d.Backups {
		one := decidedView{ID: b.ID, Kind: string(b.Kind), StoppedAt: stamp(b.StoppedAt), Stored: b.Stored, Held: b.Held, Removed: !b.Kept(), KeptBy: rulesOf(b.KeptBy)}
		if b.Level != "" {
			one.VerifiedLevel = new(string(b.Level))
		}
		if one.Removed {
			v.RemovedBackups++
			v.Freed += b.Stored
		}
		v.Backups = append(v.Backups, one)
	}
	for _, p := range plans {
		i := slices.IndexFunc(s.History.Places, func(o retention.Place) bool { return o.Own.Place == p.Place })
		v.wal(p, s.History.Places[i].Own.SegmentSize)
	}
	return v
}

// wal lists the stretches of WAL that go from a place.
func (v *expiredView) wal(p expire.Plan, segmentSize uint32) {
	for _, o := range p.WAL {
		seg := o.File.Segment
		v.Freed += uint64(o.Size)
		n := len(v.WAL) - 1
		if n < 0 || v.WAL[n].Incarnation != p.Place.Incarnation || v.WAL[n].SystemID != p.Place.SystemID || v.WAL[n].Timeline != o.File.Timeline || v.WAL[n].To < seg.Start(segmentSize) {
			v.WAL = append(v.WAL, purgedView{SystemID: p.Place.SystemID, Incarnation: p.Place.Incarnation, Timeline: o.File.Timeline, From: seg.Start(segmentSize)})
			n++
		}
		v.WAL[n].To = seg.End(segmentSize)
		v.WAL[n].Bytes += uint64(o.Size)
		if o.File.Kind == pg.WALSegment {
			v.WAL[n].Segments++
			v.RemovedWAL++
		}
	}
}

// done tells what was removed in place of what was to be.
func (v *expiredView) done(gone expire.Removed) {
	v.Objects, v.Freed, v.RemovedBackups = gone.Objects, gone.Bytes, len(gone.Backups)
	for i := range v.Backups {
		if b := &v.Backups[i]; b.Removed && !slices.Contains(gone.Backups, b.ID) {
			b.Removed, b.KeptBy = false, []string{string(retention.InUse)}
		}
	}
}

// writeTo shows the calendar.
func (v expireView) writeTo(w io.Writer) error {
	p := v.Policy
	rules := []string{"window " + p.Window.String()}
	for _, n := range []struct {
		name  string
		count int
	}{{"hourly", p.Hourly}, {"daily", p.Daily}, {"weekly", p.Weekly}, {"monthly", p.Monthly}, {"yearly", p.Yearly}, {"minimum", p.Minimum}} {
		if n.count > 0 {
			rules = append(rules, fmt.Sprintf("%s %d", n.name, n.count))
		}
	}
	if _, err := fmt.Fprintf(w, "policy: %s (%s)\n", strings.Join(rules, ", "), p.TimeZone); err != nil {
		return err
	}
	for _, r := range v.Repositories {
		if err := r.writeTo(w, v.Plan); err != nil {
			return err
		}
	}
	return nil
}

func (v expiredView) writeTo(w io.Writer, plan bool) error {
	if _, err := fmt.Fprintf(w, "\nrepository %s, window from %s\n", v.Repository, formatTime(time.Time(v.WindowFrom))); err != nil {
		return err
	}
	gone, at := "removed", ""
	if plan {
		gone, at = "would be removed", "at most "
	}
	t := table{empty: "no backups", columns: []column{{title: "id"}, {title: "kind"}, {title: "stopped"}, {title: "stored", right: true}, {title: "kept by"}}}
	for _, b := range v.Backups {
		by := strings.Join(b.KeptBy, ", ")
		if b.Removed {
			by = "- " + gone
		}
		t.rows = append(t.rows, []string{b.ID, b.Kind, formatTime(time.Time(b.StoppedAt)), formatBytes(int64(b.Stored)), by})
	}
	if err := t.writeTo(w); err != nil {
		return err
	}
	for _, r := range v.WAL {
		if _, err := fmt.Fprintf(w, "WAL of timeline %d from %s to %s: %s, %d segments, %s\n", r.Timeline, r.From, r.To, gone, r.Segments, formatBytes(int64(r.Bytes))); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d of %d backups and %d WAL segments %s, %s%s freed\n", v.RemovedBackups, len(v.Backups), v.RemovedWAL, gone, at, formatBytes(int64(v.Freed)))
	return err
}
