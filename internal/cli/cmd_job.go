package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/repo/lock"
)

func jobCommand(s *session) *cobra.Command {
	var name string
	cmd := group("job", "See and cancel backups that are under way, on any host", groupDaily,
		jobListCommand(s, &name), jobShowCommand(s, &name), jobCancelCommand(s, &name))
	cmd.PersistentFlags().StringVar(&name, "repo", "", "`name` of the repository (else all)")
	return cmd
}

func jobListCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what is under way", Args: positional(),
		Long: `List the backups of the cluster that are under way, wherever they were started,
and those that were cut off: the next backup uses what they have stored.`,
		RunE: s.run(func(ctx context.Context, _ []string) error { return s.listJobs(ctx, *name) }),
	}
}

func (s *session) listJobs(ctx context.Context, name string) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	items := []jobView{}
	err = s.eachRepository(ctx, c, name, func(r *repository) (bool, error) {
		jobs, err := s.allJobsIn(ctx, c, r)
		for _, j := range jobs {
			items = append(items, j.view())
		}
		return false, err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(items, func(a, b jobView) int { return cmp.Compare(a.ID, b.ID) })
	t := table{empty: "Nothing is under way.",
		columns: []column{{title: "id"}, {title: "kind"}, {title: "state"}, {title: "phase"}, {title: "done", right: true}, {title: "of", right: true}, {title: "rate", right: true}, {title: "eta", right: true}, {title: "repository"}, {title: "process"}}}
	for _, v := range items {
		t.rows = append(t.rows, v.row())
	}
	return s.out.list(items, t)
}

func (v jobView) row() []string {
	var done, total, rate, eta string
	if v.Done != nil {
		done = formatBytes(v.done())
	}
	if v.Total > 0 {
		total = formatBytes(int64(v.Total))
	}
	if v.Rate > 0 {
		rate = formatBytes(int64(v.Rate)) + "/s"
	}
	if v.ETA != nil {
		eta = formatLeft(secondsOf(*v.ETA))
	}
	return []string{v.ID, v.Kind, v.State, v.Phase, done, total, rate, eta, v.Repository, fmt.Sprintf("%d on %s", v.PID, v.Host)}
}

func jobShowCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show how far one is", Args: positional("ID"),
		Long: `Show how far a backup is. A job has the identifier of the backup that it makes;
of one that is complete this says so.`,
		RunE: s.run(func(ctx context.Context, args []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			var v jobView
			err = s.withJob(ctx, c, *name, args[0], func(_ *repository, j foundJob) error {
				v = j.view()
				return nil
			})
			if err != nil {
				return err
			}
			return s.out.document(v, v.details())
		}),
	}
}

func (v jobView) details() details {
	d := details{{"job", v.ID}, {"kind", v.Kind}, {"cluster", v.Cluster}, {"repository", v.Repository}, {"state", v.State}, {"phase", v.Phase}}
	if v.Total > 0 {
		d = append(d, detail{"done", formatBytes(v.done()) + " of " + formatBytes(int64(v.Total))})
	}
	if v.Rate > 0 {
		d = append(d, detail{"rate", formatBytes(int64(v.Rate)) + "/s"})
	}
	if v.ETA != nil {
		d = append(d, detail{"ETA", formatLeft(secondsOf(*v.ETA))})
	}
	d = append(d, detail{"started", formatTime(time.Time(v.StartedAt))}, detail{"as of", formatTime(time.Time(v.UpdatedAt))})
	if v.PID != 0 {
		d = append(d, detail{"process", fmt.Sprintf("%d on %s", v.PID, v.Host)})
	}
	return d
}

// foundJob is a job under way, or the backup that one has made.
type foundJob struct {
	job
	made *catalog.Head // nil while it is under way
}

func (j foundJob) view() jobView {
	if j.made == nil {
		return j.job.view()
	}
	h := j.made
	return jobView{ID: h.ID, Kind: "backup", Cluster: h.Cluster, Repository: j.repository, State: jobDone, Done: &h.Size, Total: h.Size,
		StartedAt: stamp(h.StartedAt), UpdatedAt: stamp(h.StoppedAt)}
}

// withJob finds a job and gives it to do, with its repository.
func (s *session) withJob(ctx context.Context, c *config.Config, name, id string, do func(*repository, foundJob) error) error {
	found := false
	err := s.eachRepository(ctx, c, name, func(r *repository) (bool, error) {
		j, ok, err := s.findJob(ctx, c, r, id)
		if !ok {
			return false, err
		}
		found = true
		return true, do(r, j)
	})
	if err == nil && !found {
		err = &failed{exitNotFound, "no_job", "`salvor job list` shows what is under way, `salvor backups list` what is complete", fmt.Errorf("%s: no such job", id)}
	}
	return err
}

func (s *session) findJob(ctx context.Context, c *config.Config, r *repository, id string) (foundJob, bool, error) {
	if !catalog.ValidBackupID(id) {
		return foundJob{}, false, nil
	}
	jobs, err := s.allJobsIn(ctx, c, r)
	if err != nil {
		return foundJob{}, false, err
	}
	// Backups are looked for after jobs: one that ends meanwhile is found as such.
	for _, j := range jobs {
		if j.report.ID == id {
			return foundJob{job: j}, true, nil
		}
	}
	origins, err := catalog.Places(ctx, r.objects, c.Cluster)
	if err != nil {
		return foundJob{}, false, err
	}
	for _, o := range origins {
		exists, err := catalog.HeadExists(ctx, r.objects, o.Place(), id)
		if err != nil {
			return foundJob{}, false, err
		}
		if !exists {
			continue
		}
		h, err := catalog.ReadHead(ctx, r.objects, o.Place(), id)
		if err != nil {
			return foundJob{}, false, err
		}
		return foundJob{job{place: o.Place(), repository: r.name}, &h}, true, nil
	}
	return foundJob{}, false, nil
}

// cancelFlags are the options of salvor job cancel.
type cancelFlags struct {
	wait    bool
	timeout time.Duration
	plan    bool
}

func jobCancelCommand(s *session, name *string) *cobra.Command {
	var f cancelFlags
	cmd := &cobra.Command{
		Use: "cancel ID", Short: "Cancel one, wherever it runs", Args: positional("ID"),
		Long: `Ask a backup to stop, on whatever host it runs, and wait until it has ended. It
ends as by Ctrl-C: the server leaves backup mode, and nothing of it is visible.
The command that made it exits 1.`,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.cancelJob(ctx, *name, args[0], f) }),
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.wait, "wait", true, "wait until it has ended")
	fl.DurationVar(&f.timeout, "timeout", 5*time.Minute, "`how` long to wait")
	planFlag(cmd, &f.plan)
	return cmd
}

// notRunning is a job that nobody can cancel any more.
func notRunning(hint, format string, args ...any) error {
	return &failed{exitNotNow, "not_running", hint, fmt.Errorf(format, args...)}
}

func (s *session) cancelJob(ctx context.Context, name, id string, f cancelFlags) error {
	if f.timeout <= 0 {
		return usageError("", "--timeout must be more than 0")
	}
	c, err := s.config()
	if err != nil {
		return err
	}
	return s.withJob(ctx, c, name, id, func(r *repository, j foundJob) error { return s.cancelIn(ctx, r, j, f) })
}

func (s *session) cancelIn(ctx context.Context, r *repository, j foundJob, f cancelFlags) error {
	switch {
	case j.made != nil:
		return completed(j.made.ID)
	case j.lease.Life == lock.Gone:
		return j.died()
	case f.plan:
		v := j.view()
		return s.out.document(struct {
			ID          string `json:"id"`
			Repository  string `json:"repository"`
			WouldCancel bool   `json:"would_cancel"`
		}{v.ID, v.Repository, true}, details{{"would cancel", v.ID}, {"repository", v.Repository}, {"it is at", v.short()}, {"process", fmt.Sprintf("%d on %s", v.PID, v.Host)}})
	case j.lease.Life == lock.Silent:
		s.log.Warn("the job gives no sign of life", "last", formatTime(j.lease.RenewedAt), "host", j.lease.Holder.Host)
	}
	locks, err := s.locks(r)
	if err != nil {
		return err
	}
	err = locks.Cancel(ctx, j.lease.What, j.lease.Token, whoAsks())
	if err != nil && !errors.Is(err, lock.ErrNotHeld) {
		return err
	}
	v := cancelView{j.report.ID, j.place.Cluster, r.name, "asked"}
	if !f.wait {
		return s.out.document(v, details{{"asked to stop", v.ID}, {"repository", v.Repository}})
	}
	s.log.Info("asked it to stop; waiting until it has ended", "job", v.ID)
	if err := s.untilEnded(ctx, r, locks, j, f.timeout); err != nil {
		return err
	}
	v.State = "cancelled"
	return s.out.document(v, details{{"cancelled", v.ID}, {"repository", v.Repository}})
}

// cancelView is what became of a request, in documents.
type cancelView struct {
	ID         string `json:"id"`
	Cluster    string `json:"cluster"`
	Repository string `json:"repository"`
	State      string `json:"state"` // asked, cancelled
}

// untilEnded waits until a job that was asked to stop has ended, and fails if it was
// not for that.
func (s *session) untilEnded(ctx context.Context, r *repository, locks *lock.Locks, j foundJob, limit time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	died, err := locks.Wait(bounded, j.lease.What, j.lease.Token)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return &failed{exitFailed, "timeout", "it may be at something that cannot be broken off: `salvor job show " + j.report.ID + "` says whether it has ended",
			fmt.Errorf("job %s was asked to stop, and has not ended within %s", j.report.ID, limit)}
	}
	if err != nil {
		return err
	}
	exists, err := catalog.HeadExists(ctx, r.objects, j.place, j.report.ID)
	switch {
	case err != nil:
		return err
	case exists:
		return completed(j.report.ID)
	case died:
		return j.died()
	}
	return nil
}

func completed(id string) error {
	return notRunning("`salvor backups delete "+id+"` removes it", "job %s is not running: the backup is complete", id)
}

func (j job) died() error {
	h := j.lease.Holder
	return notRunning("nothing of it is visible, and the next `salvor backup` uses what it has stored", "job %s is not running: process %d on %s has ended without completing it", j.report.ID, h.PID, h.Host)
}

// whoAsks names who runs this process, for whoever reads of it elsewhere.
func whoAsks() string {
	name := fmt.Sprint("user ", os.Geteuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += " on " + host
	}
	return fmt.Sprintf("%s (process %d)", name, os.Getpid())
}
