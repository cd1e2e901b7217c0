package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/examples/swifteats"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

const (
	demoDatabase    = "swifteats"
	demoSessions    = 2  // customers at the same time
	demoRate        = 20 // orders a second of each, and four transactions for each order
	demoOrdersAfter = 60 // orders between backup and accident, at least
)

// load is customers who order, and the ledger of what they were promised.
type load struct {
	clock clock.Clock
	fail  context.CancelCauseFunc // ends the demo

	sessions sync.WaitGroup
	stops    []context.CancelFunc

	mu        sync.Mutex
	ledger    []ack
	broken    bool  // the accident comes: customers will complain
	complaint error // the first
}

// ack is an order that the database acknowledged.
type ack struct {
	id string
	at time.Time
}

// start lets customers order through a session, which it closes at the end.
func (l *load) start(db *conn.Conn) {
	ctx, stop := context.WithCancel(context.Background()) // they end when end says so
	l.stops = append(l.stops, stop)
	l.sessions.Go(func() {
		defer db.Close()
		for ctx.Err() == nil {
			_, err := swifteats.Run(ctx, db, swifteats.Options{Rate: demoRate, Acknowledged: l.note})
			if err != nil && !l.complain(err) {
				l.fail(err)
				return
			}
		}
	})
}

func (l *load) end() {
	for _, stop := range l.stops {
		stop()
	}
	l.sessions.Wait()
}

func (l *load) note(o swifteats.Order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ledger = append(l.ledger, ack{o.ID, l.clock.Now()})
}

// complain says whether a failure may be the accident's doing.
func (l *load) complain(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.complaint == nil {
		l.complaint = err
	}
	return l.broken && !conn.Unavailable(err)
}

func (l *load) expectComplaints() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
}

// seen gives the ledger, which only grows, and the first complaint.
func (l *load) seen() ([]ack, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger[:len(l.ledger):len(l.ledger)], l.complaint
}

func (l *load) count() int {
	ledger, _ := l.seen()
	return len(ledger)
}

// fingerprint says what is in a table, whatever order its rows lie in.
type fingerprint struct {
	table  string
	rows   int64
	digest string
}

func fingerprints(ctx context.Context, db *conn.Conn) (all []fingerprint, err error) {
	err = db.Rows(ctx, swifteats.FingerprintQuery, nil, func(scan func(...any) error) error {
		var f fingerprint
		err := scan(&f.table, &f.rows, &f.digest)
		all = append(all, f)
		return err
	})
	return all, err
}

// accident deletes what was to stay, and notes what was there just before.
//
// It holds a lock on the orders, which every transaction of the load changes first:
// for as long as it is held nobody commits, so that the fingerprints, the clock and
// the ledger tell of one and the same moment.
func (d *demo) accident(ctx context.Context) error {
	db, err := d.open(ctx, d.ports[0], demoDatabase)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Exec(ctx, "BEGIN; LOCK TABLE public.orders IN SHARE MODE"); err != nil {
		return err
	}
	var moment time.Time
	if err := db.Row(ctx, "SELECT clock_timestamp()", nil, &moment); err != nil {
		return err
	}
	d.view.Target = stamp(moment)
	if d.before, err = fingerprints(ctx, db); err != nil {
		return err
	}
	if err := db.Row(ctx, "SELECT pg_database_size(current_database())", nil, &d.view.Database); err != nil {
		return err
	}
	d.tell.say("just before, by the server's clock: %s (customers wait while every table is fingerprinted)", d.view.Target)
	d.load.expectComplaints()
	for _, sql := range []string{"DELETE FROM public.deliveries;", "DELETE FROM public.payments;", "DELETE FROM public.orders;"} {
		d.tell.sql(sql)
		if err := db.Exec(ctx, sql); err != nil {
			return err
		}
	}
	d.promised, _ = d.load.seen()
	d.broken = d.clock.Now()
	if err := db.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	var complaint error
	err = d.eventually(ctx, "customers notice", func() (bool, error) {
		_, complaint = d.load.seen()
		return complaint != nil, nil
	})
	d.tell.say("customers notice: %v", errors.Unwrap(complaint))
	return err
}

func (d *demo) prove(ctx context.Context) error {
	err := d.eventually(ctx, "the original takes orders", func() (bool, error) { return d.load.count() > d.recent, nil })
	if err != nil {
		return err
	}
	now, _ := d.load.seen()
	db, err := d.open(ctx, d.ports[1], demoDatabase)
	if err != nil {
		return err
	}
	defer db.Close()
	after, err := fingerprints(ctx, db)
	if err != nil {
		return err
	}
	d.tell.block(d.compare(after))
	d.check("every table is as it was", len(d.before) > 0 && slices.Equal(d.before, after), "%d tables, by the digest of all their rows", len(after))
	lost, err := missing(ctx, db, d.promised)
	if err != nil {
		return err
	}
	d.view.Acknowledged, d.view.Lost = len(d.promised), len(lost)
	if len(lost) > 0 {
		d.view.RPO = seconds(d.broken.Sub(lost[0].at))
	}
	d.check("no acknowledged order is lost", len(lost) == 0, "%d of %d are missing", len(lost), len(d.promised))
	later := now[len(d.promised):]
	absent, err := missing(ctx, db, later)
	if err != nil {
		return err
	}
	d.check("the accident, and what came after it, is not in it", len(later) > 0 && len(absent) == len(later) && d.view.Orders >= int64(d.orders+len(d.promised)),
		"%d orders are there, and %d of the %d that came later", d.view.Orders, len(later)-len(absent), len(later))
	var archiving string
	if err := db.Row(ctx, "SHOW archive_mode", nil, &archiving); err != nil {
		return err
	}
	d.check("the original was left alone", len(now) > d.recent && archiving == "off",
		"it took %d more orders during the recovery; the copy's archive_mode is %s", len(now)-d.recent, archiving)
	return nil
}

// check notes whether something that is to be proved holds.
func (d *demo) check(name string, ok bool, format string, args ...any) {
	c := demoCheck{name, ok, fmt.Sprintf(format, args...)}
	d.view.Checks = append(d.view.Checks, c)
	sign := "ok     "
	if !ok {
		sign = "FAILED "
	}
	d.tell.say("%s%s: %s", sign, name, c.Detail)
}

// compare shows the tables before the accident and after the recovery.
func (d *demo) compare(after []fingerprint) table {
	t := table{columns: []column{{title: "table"}, {title: "rows before", right: true}, {title: "recovered", right: true}, {title: "contents"}}}
	for _, f := range d.before {
		i := slices.IndexFunc(after, func(a fingerprint) bool { return a.table == f.table })
		rows, contents := "none", "DIFFER"
		if i >= 0 {
			rows = fmt.Sprint(after[i].rows)
			if after[i] == f {
				contents = "the same"
			}
		}
		t.rows = append(t.rows, []string{f.table, fmt.Sprint(f.rows), rows, contents})
	}
	return t
}

// missing gives those of a ledger that a database does not have.
func missing(ctx context.Context, db *conn.Conn, ledger []ack) ([]ack, error) {
	ids := make([]string, len(ledger))
	for i, a := range ledger {
		ids[i] = a.id
	}
	const sql = "SELECT i::int FROM unnest($1::text[]) WITH ORDINALITY AS l (id, i) WHERE NOT EXISTS (SELECT FROM public.orders o WHERE o.id = l.id::uuid) ORDER BY i"
	var out []ack
	err := db.Rows(ctx, sql, []any{ids}, func(scan func(...any) error) error {
		var i int
		if err := scan(&i); err != nil {
			return err
		}
		out = append(out, ledger[i-1])
		return nil
	})
	return out, err
}
