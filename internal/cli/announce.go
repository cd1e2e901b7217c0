package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/notify"
)

// announcement is what those are told of a command whom the configuration names.
type announcement struct {
	s       *session
	event   notify.Event // without what an end adds
	targets []notify.Target
	began   time.Time
	told    chan struct{} // closed when the start was told; nil before it is
}

// announce prepares to tell of a command, unless it only plans. Nobody is told yet.
func (s *session) announce(c *config.Config, command string, plan bool) *announcement {
	a := &announcement{s: s, began: s.clock.Now(), event: notify.Event{Command: command, Cluster: c.Cluster, Host: c.Node.Name}}
	if !plan {
		a.targets = notifyTargets(c)
	}
	return a
}

// start tells that the work begins, beside it.
func (a *announcement) start(ctx context.Context) {
	a.told = make(chan struct{})
	go func() {
		defer close(a.told)
		a.tell(ctx, notify.Start, a.event)
	}()
}

// end tells how the work ended, if it began or failed, and gives err back. Also one who
// was interrupted is waited for: that is told, too.
func (a *announcement) end(ctx context.Context, err error) error {
	if a.told == nil && err == nil || len(a.targets) == 0 {
		return err
	}
	if a.told != nil {
		<-a.told
	}
	e, state, code := a.event, notify.Success, 0
	if err != nil {
		f := failureOf(ctx, err)
		state, code = notify.Failure, f.exit
		e.Error = &notify.Fault{Code: f.code, Message: f.message, Hint: f.hint}
	}
	e.Seconds, e.ExitCode = seconds(a.s.clock.Now().Sub(a.began)), &code
	if last := a.s.out.last; last != nil {
		if body, err := encode(last); err == nil {
			e.Result = body
		}
	}
	a.tell(context.WithoutCancel(ctx), state, e)
	return err
}

func (a *announcement) tell(ctx context.Context, state notify.State, e notify.Event) {
	e.State, e.At = state, a.s.clock.Now().UTC()
	for _, err := range notify.Tell(ctx, a.targets, e) {
		a.s.log.Warn(err.Error(), "command", "salvor notify test")
	}
}

func notifyTargets(c *config.Config) []notify.Target {
	var all []notify.Target
	for i, n := range c.Notify {
		t := notify.Target{Command: n.Command, Dir: filepath.Dir(c.File()), For: n.For}
		for _, state := range n.On {
			t.On = append(t.On, notify.State(state))
		}
		what := n.Ping.String()
		switch {
		case len(n.Command) > 0:
			what = n.Command[0]
		case !n.Webhook.IsZero():
			t.Webhook, what = n.Webhook.Resolve, n.Webhook.String()
		default:
			t.Ping = n.Ping.Resolve
		}
		t.Name = fmt.Sprintf("notify[%d] (%s)", i, what)
		all = append(all, t)
	}
	return all
}

// failureOf says how a command ends on err.
func failureOf(ctx context.Context, err error) failure {
	var stopped stoppedBy
	if errors.As(context.Cause(ctx), &stopped) {
		return stopped.failure(err)
	}
	return classify(err)
}
