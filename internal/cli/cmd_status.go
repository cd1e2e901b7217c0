package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
)

func statusCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Can I recover, to when, and what is broken",
		GroupID: groupDaily,
		Args:    positional(),
		RunE:    s.run(func(ctx context.Context, _ []string) error { return s.status(ctx) }),
	}
}

// statusView is the state of protection in documents.
type statusView struct {
	OK              bool             `json:"ok"`
	Cluster         string           `json:"cluster"`
	Server          serverView       `json:"server"`
	Components      []componentView  `json:"components"`
	RecoverableFrom stamp            `json:"recoverable_from,omitzero"`
	RecoverableTo   stamp            `json:"recoverable_to,omitzero"`
	LastBackupAt    stamp            `json:"last_backup_at,omitzero"`
	LastBackupID    string           `json:"last_backup_id,omitempty"`
	LastProofAt     stamp            `json:"last_proof_at,omitzero"`
	LastProofID     string           `json:"last_proof_id,omitempty"`
	LastVerifiedAt  stamp            `json:"last_verified_at,omitzero"`
	Jobs            []jobView        `json:"jobs"`
	Repositories    []repositoryView `json:"repositories"`
	Problems        []string         `json:"problems"`
	Warnings        []string         `json:"warnings"` // which leave ok as it is
}

type serverView struct {
	Reachable bool        `json:"reachable"`
	Version   string      `json:"version,omitempty"`
	Role      string      `json:"role,omitempty"`
	Timeline  pg.Timeline `json:"timeline,omitzero"`
	LSN       pg.LSN      `json:"lsn,omitzero"`
}

type componentView struct {
	Name         string   `json:"name"`
	Kind         string   `json:"kind"`
	RTOObjective *float64 `json:"rto_objective_seconds,omitempty"`
	RTOMeasured  *float64 `json:"rto_measured_seconds,omitempty"`
	MeasuredAt   stamp    `json:"rto_measured_at,omitzero"`
	// Estimate is how long a restore to now would take.
	Estimate     *estimateView `json:"rto_estimate,omitempty"`
	RPOObjective *float64      `json:"rpo_objective_seconds,omitempty"`
	RPOSeconds   *float64      `json:"rpo_seconds,omitempty"`
	OK           bool          `json:"ok"`
}

type repositoryView struct {
	Name            string `json:"name"`
	URL             string `json:"url"`
	OK              bool   `json:"ok"`
	RecoverableFrom stamp  `json:"recoverable_from,omitzero"`
	RecoverableTo   stamp  `json:"recoverable_to,omitzero"`
	Backups         int    `json:"backups"`
}

func (s *session) status(ctx context.Context) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	v := statusView{OK: true, Cluster: c.Cluster, Problems: []string{}, Warnings: []string{}, Jobs: []jobView{}, Repositories: []repositoryView{}}
	srv := s.askServer(ctx, c)
	v.Server = stateOf(srv)
	for _, p := range srv.problems() {
		v.problem("%s", p)
	}
	database := componentView{Name: c.Cluster, Kind: "database"}
	for _, rc := range c.Repositories {
		lag := s.repositoryState(ctx, c, rc, srv, &v, &database)
		if database.RPOSeconds == nil || lag != nil && *lag < *database.RPOSeconds {
			database.RPOSeconds = lag
		}
	}
	v.unproven(s.clock.Now())
	v.objectives(c.Objectives.Database, &database)
	database.OK = v.OK
	v.Components = []componentView{database}
	if err := s.out.document(v, v.details()); err != nil {
		return err
	}
	if !v.OK {
		return foundProblem("`salvor doctor` tests each part and names the fix", "%s", v.Problems[0])
	}
	return nil
}

func (v *statusView) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	v.OK = false
	for _, p := range v.Problems {
		if p == text {
			return
		}
	}
	v.Problems = append(v.Problems, text)
}

func stateOf(a asked) serverView {
	if a.err != nil {
		return serverView{}
	}
	role := "primary"
	if a.server.InRecovery {
		role = "standby"
	}
	return serverView{Reachable: true, Version: a.server.Version.String(), Role: role, Timeline: a.server.Timeline, LSN: a.lsn}
}

// repositoryState adds what a repository can give back, and says how much time
// would be lost, if that is known.
func (s *session) repositoryState(ctx context.Context, c *config.Config, rc config.Repository, srv asked, v *statusView, database *componentView) *float64 {
	out := repositoryView{Name: rc.Name, URL: rc.URL}
	defer func() { v.Repositories = append(v.Repositories, out) }()
	r, err := s.openRepository(ctx, rc)
	if err != nil {
		v.problem("%v", err)
		return nil
	}
	defer r.close()
	jobs, err := s.jobsIn(ctx, c, r)
	if err != nil {
		v.problem("repository %s: %v", rc.Name, err)
		return nil
	}
	for _, j := range jobs {
		v.Jobs = append(v.Jobs, j.view())
	}
	w, err := s.lookAtWAL(ctx, c, r, srv)
	if err != nil {
		v.problem("repository %s: %v", rc.Name, err)
		return nil
	}
	out.OK, out.Backups, out.RecoverableFrom, out.RecoverableTo = w.OK, len(w.life.Backups), w.Earliest, w.Latest
	for _, p := range w.Problems {
		v.problem("repository %s: %s", rc.Name, p)
	}
	v.addProven(s.proven(ctx, c, r), w, c.Node.Name, database)
	if !w.window.OK {
		return w.LagSeconds
	}
	if v.RecoverableFrom.IsZero() || time.Time(w.Earliest).Before(time.Time(v.RecoverableFrom)) {
		v.RecoverableFrom = w.Earliest
	}
	if time.Time(w.Latest).After(time.Time(v.RecoverableTo)) {
		v.RecoverableTo = w.Latest
	}
	if h := w.window.Newest; h.StoppedAt.After(time.Time(v.LastBackupAt)) {
		v.LastBackupAt, v.LastBackupID = stamp(h.StoppedAt), h.ID
	}
	return w.LagSeconds
}

func (v statusView) details() details {
	server := "not reachable"
	if v.Server.Reachable {
		server = fmt.Sprintf("%s, PostgreSQL %s, timeline %d at %s", v.Server.Role, v.Server.Version, v.Server.Timeline, v.Server.LSN)
	}
	d := details{{"cluster", v.Cluster}, {"server", server}}
	if v.RecoverableFrom.IsZero() {
		d = append(d, detail{"recoverable", "NOTHING"})
	} else {
		d = append(d, detail{"recoverable", formatMoment(v.RecoverableFrom) + " to " + formatMoment(v.RecoverableTo)},
			detail{"last backup", formatTime(time.Time(v.LastBackupAt)) + "  " + v.LastBackupID})
	}
	d = append(d, v.provenDetails()...)
	for _, j := range v.Jobs {
		d = append(d, detail{"backup under way", fmt.Sprintf("%s  %s, into %s", j.ID, j.short(), j.Repository)})
	}
	for _, r := range v.Repositories {
		state := "ok"
		if !r.OK {
			state = "NOT OK"
		}
		d = append(d, detail{"repository " + r.Name, fmt.Sprintf("%s, %d backups, %s", r.URL, r.Backups, state)})
	}
	for _, p := range v.Problems {
		d = append(d, detail{"problem", p})
	}
	for _, w := range v.Warnings {
		d = append(d, detail{"warning", w})
	}
	return d
}
