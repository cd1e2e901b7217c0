package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/backup"
	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/repo/lock"
)

// States of a job.
const (
	jobRunning     = "running"
	jobInterrupted = "interrupted" // its process is gone, gives no sign of life, or did not complete it
	jobDone        = "done"        // the backup is complete
)

// job is a backup that is under way, or was cut off, as its lease in a repository
// tells; or its mark there alone, and then the lease is of nobody.
type job struct {
	report     backup.Report
	lease      lock.State
	place      catalog.Place
	repository string
}

// ofMark makes the job of a backup that has left nothing but its mark.
func ofMark(m catalog.Running, p catalog.Place, repository string) job {
	return job{backup.Report{Kind: "backup", ID: m.ID, StartedAt: m.StartedAt},
		lock.State{Life: lock.Gone, Holder: lock.Holder{Host: m.Host, PID: m.PID}}, p, repository}
}

// jobView is a job in documents.
type jobView struct {
	ID         string   `json:"id"`
	Kind       string   `json:"kind"`
	Cluster    string   `json:"cluster"`
	Repository string   `json:"repository"`
	State      string   `json:"state"`
	Phase      string   `json:"phase,omitempty"`
	Done       *uint64  `json:"done_bytes,omitempty"`
	Total      uint64   `json:"total_bytes,omitzero"`
	Rate       float64  `json:"rate_bytes_per_second,omitzero"`
	ETA        *float64 `json:"eta_seconds,omitempty"`
	StartedAt  stamp    `json:"started_at,omitzero"`
	UpdatedAt  stamp    `json:"updated_at,omitzero"`
	Host       string   `json:"host,omitempty"`
	PID        int      `json:"pid,omitzero"`
}

func (j job) state() string {
	if j.lease.Life != lock.Alive {
		return jobInterrupted
	}
	return jobRunning
}

func (j job) view() jobView {
	v := jobView{
		ID: j.report.ID, Kind: j.report.Kind, Cluster: j.place.Cluster, Repository: j.repository, State: j.state(), Phase: j.report.Phase,
		Total: j.report.Total, StartedAt: stamp(j.report.StartedAt), UpdatedAt: stamp(j.lease.RenewedAt),
		Host: j.lease.Holder.Host, PID: j.lease.Holder.PID,
	}
	if v.Phase != "" {
		v.Done = &j.report.Done
	}
	if v.State != jobRunning {
		return v
	}
	v.Rate = j.report.Rate
	if left, ok := v.progress().left(); ok {
		eta := left.Round(time.Second).Seconds()
		v.ETA = &eta
	}
	return v
}

func (v jobView) progress() state {
	return state{phase: v.Phase, done: v.done(), total: int64(v.Total), rate: v.Rate}
}

func (v jobView) done() int64 {
	if v.Done == nil {
		return 0
	}
	return int64(*v.Done)
}

// short says in one line how far a job is.
func (v jobView) short() string {
	text := v.Phase
	if v.Total > 0 {
		text += fmt.Sprintf(" %.0f%%, %s of %s", 100*min(1, float64(v.done())/float64(v.Total)), formatBytes(v.done()), formatBytes(int64(v.Total)))
	}
	if v.ETA != nil {
		text += ", ETA " + formatLeft(secondsOf(*v.ETA))
	}
	if v.State != jobRunning {
		text = v.State + " at " + text
	}
	return text
}

// jobsIn lists the jobs of the cluster in a repository that hold its lock: those that
// are under way, and those that died and that nobody has followed yet.
func (s *session) jobsIn(ctx context.Context, c *config.Config, r *repository) ([]job, error) {
	origins, err := catalog.Places(ctx, r.objects, c.Cluster)
	if err != nil {
		return nil, err
	}
	var all []job
	for _, o := range origins {
		j, ok, err := s.jobAt(ctx, r, o.Place())
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, j)
		}
	}
	return all, nil
}

// jobAt gives the job that holds the lock of a place.
func (s *session) jobAt(ctx context.Context, r *repository, p catalog.Place) (job, bool, error) {
	locks, err := s.locks(r)
	if err != nil {
		return job{}, false, err
	}
	lease, err := locks.Look(ctx, p.BackupLock())
	if errors.Is(err, lock.ErrNotHeld) {
		return job{}, false, nil
	}
	if err != nil {
		return job{}, false, err
	}
	report, err := backup.ParseReport(lease.Report)
	if err != nil {
		return job{}, false, nil // something else holds it, or a backup that begins this moment
	}
	return job{report, lease, p, r.name}, true, nil
}

// allJobsIn lists also the jobs that were cut off earlier, and left something.
func (s *session) allJobsIn(ctx context.Context, c *config.Config, r *repository) ([]job, error) {
	origins, err := catalog.Places(ctx, r.objects, c.Cluster)
	if err != nil {
		return nil, err
	}
	var all []job
	for _, o := range origins {
		p := o.Place()
		// The marks first: who has left one and holds no lock afterwards has ended.
		marks, err := catalog.ReadRunning(ctx, r.objects, p)
		if err != nil {
			return nil, err
		}
		under, ok, err := s.jobAt(ctx, r, p)
		if err != nil {
			return nil, err
		}
		for _, m := range marks {
			if ok && m.ID == under.report.ID {
				continue
			}
			complete, err := catalog.HeadExists(ctx, r.objects, p, m.ID)
			if err != nil {
				return nil, err
			}
			if !complete {
				all = append(all, ofMark(m, p, r.name))
			}
		}
		if ok {
			all = append(all, under)
		}
	}
	return all, nil
}

// eachRepository opens the named repository, or else all, one after the other, and
// gives each to look until that says that it has found what it looks for. One that
// fails is warned of if others do not: err is nil then.
func (s *session) eachRepository(ctx context.Context, c *config.Config, name string, look func(*repository) (found bool, err error)) error {
	list, err := repositoriesOf(c, name)
	if err != nil {
		return err
	}
	var broken []error
	for _, rc := range list {
		r, err := s.openRepository(ctx, rc)
		if err == nil {
			var found bool
			found, err = look(r)
			r.close()
			if found {
				return err
			}
		}
		if err != nil {
			broken = append(broken, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(broken) == len(list) || ctx.Err() != nil {
		return errors.Join(broken...)
	}
	for _, err := range broken {
		s.log.Warn(err.Error())
	}
	return nil
}

// heldHint tells who met a lock what to do, as exactly as the holder's report allows.
func heldHint(h *lock.Held) string {
	r, err := backup.ParseReport(h.Report)
	if err != nil {
		return "wait until it has finished"
	}
	return fmt.Sprintf("wait until it has finished: `salvor job show %s` says how far it is, `salvor job cancel %s` ends it", r.ID, r.ID)
}
