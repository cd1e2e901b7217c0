package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// A backup is followed through its lease, and cancelled through it.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks, err := lock.New(mem.New(mem.Options{}), clock.System())
		if err != nil {
			t.Fatal(err)
		}
		lease, held, err := locks.Acquire(t.Context(), "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		var events []string
		began := time.Now()
		r := &run{id: catalog.NewBackupID(began), Options: Options{Clock: clock.System(), Events: Events{
			Phase:    func(name string) { events = append(events, name) },
			Progress: func(done, total uint64) { events = append(events, fmt.Sprint(done, "/", total)) },
		}}}
		r.tell(lease)
		seen := func() Report {
			t.Helper()
			synctest.Wait()
			s, err := locks.Look(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseReport(s.Report)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		want := Report{Kind: "backup", ID: r.id, Phase: "begin", StartedAt: began.UTC()}
		check := func() {
			t.Helper()
			if diff := cmp.Diff(want, seen()); diff != "" {
				t.Errorf("(-want +seen):\n%s", diff)
			}
		}
		check()
		r.Events.Phase("copy")
		time.Sleep(5 * time.Second)
		r.Events.Progress(100, 10000)
		time.Sleep(5 * time.Second) // reports go out now
		want.Phase, want.Done, want.Total = "copy", 100, 10000
		check()
		time.Sleep(5 * time.Second)
		r.Events.Progress(2100, 10000)
		r.Events.Progress(2000, 10000) // overtaken
		time.Sleep(5 * time.Second)
		want.Done, want.Rate = 2100, 200
		check()
		r.Events.Phase("wal")
		time.Sleep(10 * time.Second)
		want.Phase, want.Rate = "wal", 0
		check()
		if diff := cmp.Diff([]string{"copy", "100/10000", "2100/10000", "2000/10000", "wal"}, events); diff != "" {
			t.Errorf("events that came through (-want +got):\n%s", diff)
		}

		other := errors.New("something else")
		if err := r.reason(held, other); err != other {
			t.Errorf("while nobody cancelled: %v", err)
		}
		s, err := locks.Look(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if err := locks.Cancel(t.Context(), "x", s.Token, "Ann"); err != nil {
			t.Fatal(err)
		}
		<-held.Done()
		for _, err := range []error{other, context.Canceled, context.Cause(held)} {
			if err := r.reason(held, err); !errors.As(err, new(*lock.Cancelled)) || !strings.Contains(err.Error(), r.id) {
				t.Errorf("once cancelled: %v", err)
			}
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What a lease holds was written by others: it is taken for what it is.
func FuzzParseReport(f *testing.F) {
	good, err := json.Marshal(Report{Kind: reportKind, ID: catalog.NewBackupID(time.Unix(1e9, 0)), Phase: "copy", Done: 1, Total: 2, Rate: 3, StartedAt: time.Unix(1e9, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"kind":"backup","id":"../x","phase":"copy"}`))
	f.Add([]byte(`{"kind":"sweep"}`))
	f.Add([]byte(strings.Replace(string(good), "copy", `\u001b[2J`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(data)
		if err != nil {
			if r != (Report{}) {
				t.Errorf("a report %+v beside the error %v", r, err)
			}
			return
		}
		if r.Kind != reportKind || !catalog.ValidBackupID(r.ID) || !validPhase(r.Phase) || r.Rate < 0 {
			t.Errorf("taken: %+v", r)
		}
		if strings.ContainsAny(r.Phase, "\x1b\n") {
			t.Errorf("a phase %q", r.Phase)
		}
	})
}
