package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/verify"
	"github.com/salvor-dr/salvor/internal/verify/trial"
)

// A verification goes in these steps:
//
//  1. toVerify finds the backups that were asked for, in each repository and place, and
//     proveMost puts them in order where nobody named them
//  2. batches are made of them: those of one place together, since they share packs and
//     WAL, but each alone where time may run out between two, or each is restored
//  3. verify.Run looks at a batch, at the levels objects and data
//  4. at the level restore each backup that is sound so far is restored on trial. The
//     level data is left out then: a restore reads all that the backup needs, and the
//     server all the WAL
//  5. each backup becomes a verifiedView, and leaves a proof

// verifyFlags are the options of salvor verify.
type verifyFlags struct {
	latest      bool
	all         bool
	repair      bool
	level       string
	repository  string
	workers     int
	max         int
	maxDuration config.Duration
}

func verifyCommand(s *session) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:     "verify [ID...]",
		Short:   "Prove that backups are what they were when they were made",
		GroupID: groupDaily,
		Long: `Prove that backups, and the WAL that follows them, are what they were when they
were made: those that are named, or else all, first those whose verification proves
most: never verified ones, then those with the oldest proof. --max and --max-duration
end the work early, and the next run goes on.

--level objects reads the lists of each backup: every object that it needs is there,
with its size, its header and its footer, and so is its WAL. --level data reads
everything: decrypted, decoded and hashed, every page and every record of the WAL
checked. --level restore restores each backup into verify.scratch_dir, has a server
recover on it to the newest WAL, closed off from networks, and looks at what that has:
its pages, tables and indexes (amcheck), catalogues and rows (pg_dump), and the answers
to verify.checks. It takes the time of a restore, gives way to everything else on the
host, and leaves nothing behind.

It exits 3 if anything is wrong, with a list of what that is and what is lost by it.
Each verification leaves a record in the repository.

--repair mends WAL segments and histories that are missing or damaged in one repository
from another that has them whole; it says which, and exits 3 all the same. Nothing else
is in more than one repository: instead of a damaged backup make a new one, which takes
nothing from packs that a verification found damaged.`,
		Args: positional("[ID...]"),
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.latest, "latest", false, "only the newest backup of each repository")
	fl.BoolVar(&f.all, "all", false, "all backups, which is the default")
	choiceVar(cmd, &f.level, "level", []string{string(catalog.VerifyObjects), string(catalog.VerifyData), string(catalog.VerifyRestore)}, "how far to go (else verify.level)")
	f.level = ""
	fl.Lookup("level").DefValue = "" // it is the configuration's
	fl.BoolVar(&f.repair, "repair", false, "mend what is damaged in one repository from another that has it whole")
	fl.StringVar(&f.repository, "repo", "", "`name` of the repository (else all)")
	fl.IntVar(&f.workers, "workers", 0, "objects read at the same time (else backup.workers)")
	fl.IntVar(&f.max, "max", 0, "verify at most so many backups (0: no limit)")
	fl.TextVar(&f.maxDuration, "max-duration", config.Duration(0), "begin with no other backup after this `duration` (0: no limit)")
	cmd.RunE = s.run(func(ctx context.Context, ids []string) error { return s.verify(ctx, f, ids) })
	return cmd
}

func (s *session) verify(ctx context.Context, f verifyFlags, ids []string) error {
	switch {
	case f.latest && f.all, (f.latest || f.all) && len(ids) > 0:
		return usageError("name backups, or give --latest, or --all", "verify takes one choice of backups, not several")
	case f.workers < 0:
		return usageError("", "--workers must be 1 or more")
	case f.max < 0:
		return usageError("", "--max must not be negative")
	}
	c, err := s.config()
	if err != nil {
		return err
	}
	a := s.announce(c, "verify", false)
	return a.end(ctx, s.verifyAs(ctx, c, f, ids, a))
}

func (s *session) verifyAs(ctx context.Context, c *config.Config, f verifyFlags, ids []string, a *announcement) error {
	if f.level == "" {
		f.level = c.Verify.Level
	}
	v := verifyView{OK: true, Level: f.level, Backups: []verifiedView{}, Problems: []problemView{}, Repaired: []repairedView{}}
	todo, unseen, closeAll, err := s.chooseToVerify(ctx, c, f, ids)
	if err != nil {
		return err
	}
	defer closeAll()
	a.start(ctx)
	if err := s.verifyAll(ctx, c, f, todo, &v); err != nil {
		return err
	}
	if len(todo) == 0 && len(unseen) == 0 {
		return withHint(fmt.Errorf("nothing to verify: %w", catalog.ErrNoBackup), "make one: salvor backup")
	}
	if len(v.Backups) > 0 || !v.OK {
		if err := s.out.document(v, v); err != nil {
			return err
		}
	}
	if len(unseen) > 0 {
		return unseen[0]
	}
	if !v.OK {
		return v.failure()
	}
	return nil
}

// chooseToVerify finds the backups to verify, in the order in which to do that, and says
// which repositories could not be asked: what the others have is verified all the same.
func (s *session) chooseToVerify(ctx context.Context, c *config.Config, f verifyFlags, ids []string) (todo []candidate, unseen []error, closeAll func(), err error) {
	repositories, err := repositoriesOf(c, f.repository)
	if err != nil {
		return nil, nil, nil, err
	}
	var open []*repository
	closeAll = func() {
		for _, r := range open {
			r.close()
		}
	}
	for _, rc := range repositories {
		r, err := s.openRepository(ctx, rc)
		if err == nil {
			open = append(open, r)
			todo, err = s.candidates(ctx, c, r, f, ids, todo)
		}
		if ctx.Err() != nil {
			closeAll()
			return nil, nil, nil, err
		}
		if err != nil {
			if unseen = append(unseen, err); len(repositories) > 1 {
				s.log.Warn(fmt.Sprintf("not verified: %v", err), "repository", rc.Name)
			}
		}
	}
	for _, id := range ids {
		if len(unseen) == 0 && !slices.ContainsFunc(todo, func(c candidate) bool { return c.id == id }) {
			closeAll()
			return nil, nil, nil, withHint(fmt.Errorf("%s: %w", id, catalog.ErrNoBackup), "`salvor backups list` shows those that there are")
		}
	}
	if len(ids) == 0 && !f.latest {
		known := map[*repository]catalog.Verifications{}
		for _, r := range open {
			known[r] = s.verifications(ctx, c, r)
		}
		proveMost(todo, catalog.VerifyLevel(f.level), func(c candidate) catalog.Verification { return known[c.repository][c.id] })
	}
	if f.max > 0 && len(todo) > f.max {
		s.log.Info(fmt.Sprintf("%d backups are left for later", len(todo)-f.max), "max", f.max)
		todo = todo[:f.max]
	}
	return todo, unseen, closeAll, nil
}

// candidates adds what a repository has of the backups that were asked for.
func (s *session) candidates(ctx context.Context, c *config.Config, r *repository, f verifyFlags, ids []string, to []candidate) ([]candidate, error) {
	places, err := s.toVerify(ctx, c, r, f, ids)
	if err != nil {
		return to, err
	}
	for _, p := range places {
		for _, id := range p.ids {
			to = append(to, candidate{repository: r, place: p.place, id: id})
		}
	}
	return to, nil
}

// batch are backups of one place that are verified together.
type batch struct {
	repository *repository
	placeToVerify
	why string
}

// batchesOf makes batches of backups, which keep their order where that matters.
func batchesOf(todo []candidate, single bool) []batch {
	var all []batch
	for _, c := range todo {
		i := slices.IndexFunc(all, func(b batch) bool { return b.repository == c.repository && b.place == c.place })
		if i < 0 || single {
			all = append(all, batch{c.repository, placeToVerify{c.place, []string{c.id}}, c.why})
			continue
		}
		all[i].ids = append(all[i].ids, c.id)
	}
	return all
}

// verifyAll verifies backups until all are, or time is up.
func (s *session) verifyAll(ctx context.Context, c *config.Config, f verifyFlags, todo []candidate, v *verifyView) error {
	restored := f.level == string(catalog.VerifyRestore)
	if restored {
		if err := trial.LowerPriority(); err != nil {
			s.log.Warn(err.Error())
		}
	}
	began := s.clock.Now()
	lives := map[string]*catalog.Life{}
	batches := batchesOf(todo, restored || f.maxDuration > 0)
	for i, b := range batches {
		if left := len(batches) - i; f.maxDuration > 0 && i > 0 && s.clock.Now().Sub(began) >= time.Duration(f.maxDuration) {
			s.log.Info(fmt.Sprintf("time is up, and %d backups are left for later", left), "max_duration", f.maxDuration.String())
			return nil
		}
		if b.why != "" && len(b.ids) == 1 {
			s.log.Info("verifying", "backup", b.ids[0], "repository", b.repository.name, "because", b.why)
		}
		if err := s.verifyBatch(ctx, c, f, b, lives, v); err != nil {
			return err
		}
	}
	return nil
}

// placeToVerify are backups of one place.
type placeToVerify struct {
	place catalog.Place
	ids   []string
}

// toVerify finds the backups in a repository that were asked for. The identifiers of
// backups rise with time, also of those that cannot be read.
func (s *session) toVerify(ctx context.Context, c *config.Config, r *repository, f verifyFlags, ids []string) ([]placeToVerify, error) {
	origins, lost, err := catalog.ReadPlaces(ctx, r.objects, c.Cluster)
	if err != nil {
		return nil, err
	}
	var all []placeToVerify
	for _, o := range origins {
		all = append(all, placeToVerify{place: o.Place()})
	}
	for _, err := range lost {
		if u := (*catalog.UnreadablePlace)(nil); errors.As(err, &u) {
			all = append(all, placeToVerify{place: u.Place})
		}
	}
	newest := ""
	for i := range all {
		p := &all[i]
		heads, bad, err := catalog.ListHeads(ctx, r.objects, p.place)
		if err != nil {
			return nil, err
		}
		for _, h := range heads {
			p.ids = append(p.ids, h.ID)
		}
		for _, err := range bad {
			if u := (*catalog.Unreadable)(nil); errors.As(err, &u) {
				p.ids = append(p.ids, u.ID)
			}
		}
		newest = slices.Max(append(slices.Clone(p.ids), newest))
	}
	for i := range all {
		all[i].ids = slices.DeleteFunc(all[i].ids, func(id string) bool {
			return f.latest && id != newest || len(ids) > 0 && !slices.Contains(ids, id)
		})
	}
	return slices.DeleteFunc(all, func(p placeToVerify) bool { return len(p.ids) == 0 }), nil
}

// verifyBatch verifies backups of one place.
func (s *session) verifyBatch(ctx context.Context, c *config.Config, f verifyFlags, b batch, lives map[string]*catalog.Life, v *verifyView) error {
	proof := s.newProof(c, b.repository.name, catalog.VerifyProof, "")
	bar := s.progress("verify")
	defer bar.close()
	phase := phases{bar: bar}
	workers := c.Backup.Workers
	if f.workers > 0 {
		workers = f.workers
	}
	level := catalog.VerifyLevel(f.level)
	first := level
	if level == catalog.VerifyRestore {
		first = catalog.VerifyObjects
	}
	o := verify.Options{Objects: b.repository.objects, Place: b.place, IDs: b.ids, Level: first, Workers: workers, Clock: s.clock,
		Events: verify.Events{Phase: phase.begin, Progress: phase.progress, Warn: func(m string) { s.log.Warn(m) }}}
	report, err := verify.Run(ctx, o)
	if err == nil && f.repair && !report.OK() {
		var mended []verify.Repaired
		report, mended, err = s.repair(ctx, c, b.repository, o, report)
		for _, m := range mended {
			v.OK, v.Repaired = false, append(v.Repaired, repairedView{b.repository.name, m})
		}
	}
	if err != nil {
		return err
	}
	report.Level = level
	for _, one := range report.Backups {
		var t *tried
		if level == catalog.VerifyRestore && one.OK() {
			if t, err = s.try(ctx, c, b.repository, lives, *one.Head, bar); errors.Is(err, catalog.ErrNoBackup) || errors.As(err, new(*catalog.BeingRemoved)) {
				s.log.Warn(fmt.Sprintf("not verified: %v", err), "repository", b.repository.name)
				continue
			} else if err != nil {
				return err
			}
			one.Problems, one.Checks = append(one.Problems, t.Problems...), append(one.Checks, t.Checks...)
			report.Took = s.clock.Now().Sub(proof.StartedAt)
			t.provenIn(&proof)
		}
		proof.BackupID, proof.OK, proof.Level, proof.Checks, proof.Problems = one.ID, one.OK(), level, one.Checks, one.Problems
		proof.Seconds = roundUp(report.Took.Seconds())
		v.add(report, b, one, t, s.keepProof(ctx, c, b.repository, b.place, proof))
	}
	for _, one := range report.Problems {
		v.OK = false
		if p := (problemView{b.repository.name, one}); !slices.Contains(v.Problems, p) {
			v.Problems = append(v.Problems, p)
		}
	}
	return nil
}

// verifyView is a verification in documents.
type verifyView struct {
	OK      bool           `json:"ok"`
	Level   string         `json:"level"`
	Backups []verifiedView `json:"backups"`
	// Problems are those that no backup has: of the WAL after them, above all.
	Problems []problemView  `json:"problems"`
	Repaired []repairedView `json:"repaired"`
}

// problemView is a problem of a repository.
type problemView struct {
	Repository string `json:"repository"`
	catalog.Problem
}

// verifiedView is a backup that was verified.
type verifiedView struct {
	ID          string            `json:"id"`
	Repository  string            `json:"repository"`
	OK          bool              `json:"ok"`
	Level       string            `json:"level"`
	Seconds     float64           `json:"duration_seconds"`
	Restore     *float64          `json:"restore_seconds,omitempty"`
	Recovered   *pg.LSN           `json:"recovered_to_lsn,omitempty"`
	RecoveredAt stamp             `json:"recovered_to_time,omitzero"`
	Why         string            `json:"chosen_because,omitempty"`
	Problems    []catalog.Problem `json:"problems"`
	More        int               `json:"more_problems,omitempty"`
	Known       int               `json:"known_damaged_pages"`
	Checks      []catalog.Check   `json:"checks"`
	Proof       string            `json:"proof_id,omitempty"` // if a record could be kept

	stopped time.Time
}

func (v *verifyView) add(r verify.Report, of batch, b verify.Backup, t *tried, proof string) {
	one := verifiedView{ID: b.ID, Repository: of.repository.name, OK: b.OK(), Level: string(r.Level), Seconds: seconds(r.Took), Why: of.why,
		Problems: slices.Concat([]catalog.Problem{}, b.Problems), More: b.More, Known: b.Known, Checks: b.Checks, Proof: proof}
	if b.Head != nil {
		one.stopped = b.Head.StoppedAt
	}
	if t != nil && t.RecoveredTo != 0 {
		took := roundUp(t.CopySeconds + t.ReplaySeconds)
		one.Restore, one.Recovered, one.RecoveredAt = &took, &t.RecoveredTo, stamp(t.RecoveredAt)
	}
	v.OK = v.OK && one.OK
	v.Backups = append(v.Backups, one)
}

// failure says what was found.
func (v verifyView) failure() error {
	var bad []string
	n := len(v.Problems)
	for _, b := range v.Backups {
		if n += len(b.Problems) + b.More; !b.OK {
			bad = append(bad, b.ID)
		}
	}
	switch {
	case len(bad) > 0:
	case len(v.Problems) == 0:
		return v.repairedFailure()
	default:
		return foundProblem("the backups can be restored; WAL may be whole in another repository: salvor verify --repair; a new backup begins a new recovery window: salvor backup", "the WAL or the repository has %d problems; the first: %s", n, inWords(v.Problems[0].Problem))
	}
	return foundProblem("damaged WAL may be whole in another repository: salvor verify --repair; instead of a damaged backup make a new one: salvor backup", "%d problems; damaged: %s", n, strings.Join(bad, ", "))
}

// inWords puts a problem into words.
func inWords(p catalog.Problem) string {
	words := p.Kind
	for _, name := range []string{p.Object, p.File} {
		if name != "" {
			words += " " + name
		}
	}
	return words + ": " + p.Detail
}

func (v verifyView) writeTo(w io.Writer) error {
	t := table{columns: []column{{title: "id"}, {title: "stopped"}, {title: "level"}, {title: "result"}, {title: "took", right: true}, {title: "restore", right: true}, {title: "repository"}}}
	for _, b := range v.Backups {
		result := "ok"
		if !b.OK {
			result = fmt.Sprintf("%d problems", len(b.Problems)+b.More)
		}
		if b.Known > 0 {
			result += fmt.Sprintf(", %d damaged pages that the backup knew", b.Known)
		}
		restored := ""
		if b.Restore != nil {
			restored = formatDuration(secondsOf(*b.Restore))
		}
		t.rows = append(t.rows, []string{b.ID, formatTime(b.stopped), b.Level, result, formatDuration(secondsOf(b.Seconds)), restored, b.Repository})
	}
	if len(t.rows) > 0 {
		if err := t.writeTo(w); err != nil {
			return err
		}
	}
	var d details
	for _, b := range v.Backups {
		for _, k := range b.Checks {
			if k.Skipped {
				d = append(d, detail{b.ID, "not checked: " + k.Name + ": " + k.Detail})
			}
		}
		for _, p := range b.Problems {
			d = append(d, detail{b.ID, inWords(p)})
		}
		if b.More > 0 {
			d = append(d, detail{b.ID, fmt.Sprintf("and %d more", b.More)})
		}
	}
	for _, p := range v.Problems {
		d = append(d, detail{p.Repository, inWords(p.Problem)})
	}
	for _, m := range v.Repaired {
		d = append(d, detail{m.Repository, fmt.Sprintf("repaired %s, from %s", m.Object, m.From)})
	}
	if len(d) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return d.writeTo(w)
}

// phases feed a progress with the events of an engine that names its phases.
type phases struct {
	bar *progress

	mu   sync.Mutex
	name string
}

func (p *phases) begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.name = name
	p.bar.update(name, 0, 0)
}

func (p *phases) progress(done, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bar.update(p.name, int64(done), int64(total))
}
