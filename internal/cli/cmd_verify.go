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
	"github.com/salvor-dr/salvor/internal/verify"
)

// A verification goes in three steps:
//
//  1. toVerify finds the backups that were asked for, in each repository and place
//  2. verify.Run looks at those of one place together, since they share packs and WAL, at
//     the levels objects and data
//  3. each backup becomes a verifiedView, and leaves a proof
//
// The level restore comes between 2 and 3: each backup that is sound so far is restored,
// and what that finds is added to its verify.Backup.

// verifyFlags are the options of salvor verify.
type verifyFlags struct {
	latest     bool
	all        bool
	level      string
	repository string
	workers    int
}

func verifyCommand(s *session) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:     "verify [ID...]",
		Short:   "Prove that backups are what they were when they were made",
		GroupID: groupDaily,
		Long: `Prove that backups, and the WAL that follows them, are what they were when they
were made: those that are named, or else all.

--level objects reads the lists of each backup: every object that it needs is there,
with its size, its header and its footer, and so is its WAL. --level data reads
everything: decrypted, decoded and hashed, every page and every record of the WAL
checked.

It exits 3 if anything is wrong, with a list of what that is and what is lost by it.
Each verification leaves a record in the repository.`,
		Args: positional("[ID...]"),
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.latest, "latest", false, "only the newest backup of each repository")
	fl.BoolVar(&f.all, "all", false, "all backups, which is the default")
	choiceVar(cmd, &f.level, "level", []string{string(catalog.VerifyData), string(catalog.VerifyObjects)}, "how far to go")
	fl.StringVar(&f.repository, "repo", "", "`name` of the repository (else all)")
	fl.IntVar(&f.workers, "workers", 0, "objects read at the same time (else backup.workers)")
	cmd.RunE = s.run(func(ctx context.Context, ids []string) error { return s.verify(ctx, f, ids) })
	return cmd
}

func (s *session) verify(ctx context.Context, f verifyFlags, ids []string) error {
	switch {
	case f.latest && f.all, (f.latest || f.all) && len(ids) > 0:
		return usageError("name backups, or give --latest, or --all", "verify takes one choice of backups, not several")
	case f.workers < 0:
		return usageError("", "--workers must be 1 or more")
	}
	c, err := s.config()
	if err != nil {
		return err
	}
	repositories := c.Repositories
	if f.repository != "" {
		r, err := c.Repository(f.repository)
		if err != nil {
			return usageError("", "--repo: %w", err)
		}
		repositories = []config.Repository{r}
	}
	v := verifyView{OK: true, Level: f.level, Backups: []verifiedView{}, Problems: []problemView{}}
	var unseen []error // repositories that could not be asked
	found := map[string]bool{}
	for _, rc := range repositories {
		err := s.verifyIn(ctx, c, rc, f, ids, found, &v)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil && len(repositories) > 1:
			s.log.Warn(fmt.Sprintf("not verified: %v", err), "repository", rc.Name)
			fallthrough
		case err != nil:
			unseen = append(unseen, err)
		}
	}
	for _, id := range ids {
		if !found[id] && len(unseen) == 0 {
			return withHint(fmt.Errorf("%s: %w", id, catalog.ErrNoBackup), "`salvor backups list` shows those that there are")
		}
	}
	if len(v.Backups) == 0 && len(unseen) == 0 && v.OK {
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

// verifyIn verifies what a repository has of the backups that were asked for.
func (s *session) verifyIn(ctx context.Context, c *config.Config, rc config.Repository, f verifyFlags, ids []string, found map[string]bool, v *verifyView) error {
	r, err := s.openRepository(ctx, rc)
	if err != nil {
		return err
	}
	defer r.close()
	places, err := s.toVerify(ctx, c, r, f, ids)
	if err != nil {
		return err
	}
	for _, p := range places {
		for _, id := range p.ids {
			found[id] = true
		}
		if err := s.verifyPlace(ctx, c, r, f, p, v); err != nil {
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

// verifyPlace verifies backups of one place.
func (s *session) verifyPlace(ctx context.Context, c *config.Config, r *repository, f verifyFlags, p placeToVerify, v *verifyView) error {
	proof := s.newProof(c, r.name, catalog.VerifyProof, "")
	bar := s.progress("verify")
	phase := phases{bar: bar}
	workers := c.Backup.Workers
	if f.workers > 0 {
		workers = f.workers
	}
	report, err := verify.Run(ctx, verify.Options{Objects: r.objects, Place: p.place, IDs: p.ids, Level: catalog.VerifyLevel(f.level), Workers: workers, Clock: s.clock,
		Events: verify.Events{Phase: phase.begin, Progress: phase.progress, Warn: func(m string) { s.log.Warn(m) }}})
	bar.close()
	if err != nil {
		return err
	}
	for _, b := range report.Backups {
		proof.BackupID, proof.OK, proof.Level, proof.Checks, proof.Problems = b.ID, b.OK(), report.Level, b.Checks, b.Problems
		proof.Seconds = roundUp(report.Took.Seconds())
		v.add(r.name, report, b, s.keepProof(ctx, c, r, p.place, proof))
	}
	for _, one := range report.Problems {
		v.OK = false
		v.Problems = append(v.Problems, problemView{r.name, one})
	}
	return nil
}

// verifyView is a verification in documents.
type verifyView struct {
	OK      bool           `json:"ok"`
	Level   string         `json:"level"`
	Backups []verifiedView `json:"backups"`
	// Problems are those that no backup has: of the WAL after them, above all.
	Problems []problemView `json:"problems"`
}

// problemView is a problem of a repository.
type problemView struct {
	Repository string `json:"repository"`
	catalog.Problem
}

// verifiedView is a backup that was verified.
type verifiedView struct {
	ID         string            `json:"id"`
	Repository string            `json:"repository"`
	OK         bool              `json:"ok"`
	Level      string            `json:"level"`
	Seconds    float64           `json:"duration_seconds"`
	Problems   []catalog.Problem `json:"problems"`
	More       int               `json:"more_problems,omitempty"`
	Known      int               `json:"known_damaged_pages"`
	Checks     []catalog.Check   `json:"checks"`
	Proof      string            `json:"proof_id,omitempty"` // if a record could be kept

	stopped time.Time
}

func (v *verifyView) add(repository string, r verify.Report, b verify.Backup, proof string) {
	one := verifiedView{ID: b.ID, Repository: repository, OK: b.OK(), Level: string(r.Level), Seconds: seconds(r.Took),
		Problems: slices.Concat([]catalog.Problem{}, b.Problems), More: b.More, Known: b.Known, Checks: b.Checks, Proof: proof}
	if b.Head != nil {
		one.stopped = b.Head.StoppedAt
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
	if len(bad) == 0 {
		return foundProblem("the backups can be restored; a new one begins a new recovery window: salvor backup", "the WAL or the repository has %d problems; the first: %s", n, inWords(v.Problems[0].Problem))
	}
	return foundProblem("restore from another backup or repository, and make a new backup: salvor backup --kind full", "%d problems; damaged: %s", n, strings.Join(bad, ", "))
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
	t := table{columns: []column{{title: "id"}, {title: "stopped"}, {title: "level"}, {title: "result"}, {title: "took", right: true}, {title: "repository"}}}
	for _, b := range v.Backups {
		result := "ok"
		if !b.OK {
			result = fmt.Sprintf("%d problems", len(b.Problems)+b.More)
		}
		if b.Known > 0 {
			result += fmt.Sprintf(", %d damaged pages that the backup knew", b.Known)
		}
		t.rows = append(t.rows, []string{b.ID, formatTime(b.stopped), b.Level, result, formatDuration(secondsOf(b.Seconds)), b.Repository})
	}
	if len(t.rows) > 0 {
		if err := t.writeTo(w); err != nil {
			return err
		}
	}
	var d details
	for _, b := range v.Backups {
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
