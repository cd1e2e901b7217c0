package cli

import (
	"context"
	"fmt"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/verify"
)

// repair mends what it can of what a verification found, from the other repositories, and
// gives what is wrong after that.
func (s *session) repair(ctx context.Context, c *config.Config, r *repository, o verify.Options, report verify.Report) (verify.Report, []verify.Repaired, error) {
	var sources []verify.Source
	for _, rc := range c.Repositories {
		if rc.Name == r.name {
			continue
		}
		other, err := s.openRepository(ctx, rc)
		if err != nil {
			s.log.Warn(fmt.Sprintf("nothing is repaired from it: %v", err), "repository", rc.Name)
			continue
		}
		defer other.close()
		sources = append(sources, verify.Source{Name: rc.Name, Objects: other.objects})
	}
	if len(sources) == 0 {
		s.log.Warn("there is no other repository to repair it from", "repository", r.name)
		return report, nil, nil
	}
	mended, err := verify.Repair(ctx, o, report, sources)
	for _, m := range mended {
		s.log.Warn("repaired "+m.Object, "repository", r.name, "from", m.From)
	}
	if err != nil || len(mended) == 0 {
		return report, mended, err
	}
	o.WALOnly = true
	again, err := verify.Run(ctx, o)
	return report.Again(again), mended, err
}

// repairedView is an object of a repository that was damaged, and is not any more.
type repairedView struct {
	Repository string `json:"repository"`
	verify.Repaired
}

// repairedFailure ends a verification that found nothing but what it then repaired.
func (v verifyView) repairedFailure() error {
	return foundProblem("is the storage of that repository failing? It has lost what was stored there",
		"%d objects were damaged or missing, and have been repaired; the first: %s in repository %s", len(v.Repaired), v.Repaired[0].Object, v.Repaired[0].Repository)
}
