package trial

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// ask asks one of the operator's questions.
func (r *run) ask(ctx context.Context, q SQLCheck) error {
	name := "sql: " + cmp.Or(q.Name, oneLine(q.SQL, 200))
	r.Events.Phase("checks")
	began := r.Clock.Now()
	database := cmp.Or(q.Database, r.Database)
	answer, err := r.answer(ctx, q, database)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && answer != nil && *answer:
		r.check(name, began, true, "")
		return nil
	}
	detail := "it is false"
	switch {
	case err != nil:
		detail = oneLine(err.Error(), 500)
	case answer == nil:
		detail = "it is null"
	}
	r.check(name, began, false, detail)
	r.problem(catalog.Problem{Kind: CheckFailed, Detail: fmt.Sprintf("the check %s in database %s: %s", cmp.Or(q.Name, oneLine(q.SQL, 200)), database, detail)})
	return nil
}

// answer gives it, nil for null.
func (r *run) answer(ctx context.Context, q SQLCheck, database string) (answer *bool, err error) {
	c, err := r.connect(ctx, "", database)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	// A session of salvor's sees pg_catalog alone, and waits for ever.
	if err := c.Exec(ctx, fmt.Sprintf(`SET search_path = "$user", public, pg_catalog; SET statement_timeout = %d`, r.CheckTimeout.Milliseconds())); err != nil {
		return nil, err
	}
	// The server ends the statement; if it cannot, we do.
	ctx, cancel := context.WithTimeout(ctx, r.CheckTimeout+10*time.Second)
	defer cancel()
	err = c.Row(ctx, q.SQL, nil, &answer)
	return answer, err
}
