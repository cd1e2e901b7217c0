package pgtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

// LoadTable is where a Load writes: id is the key, version counts changes.
const LoadTable = "pgtest_load"

// Bounds of a load, so that a test which forgets one fills no disk: each client
// makes at most loadMax changes, and rests between two, if nobody says for how long.
const (
	loadMax   = 100_000
	loadPause = 2 * time.Millisecond
)

// Change is one transaction of a Load: the row was inserted (Version 1) or
// updated.
type Change struct {
	ID, Version int64
	XID         uint64
	// Before and After are the server's clock, read before the transaction began
	// and after its commit was acknowledged. The commit's own time lies between.
	// If the server went away right after the commit, After and LSN were read
	// when it was back.
	Before, After time.Time
	// LSN is the server's position after the commit was acknowledged: the
	// commit's record ends at it or before.
	LSN pg.LSN
}

// Ledger is what a Load did, as its clients know it.
type Ledger struct {
	// Acknowledged holds the changes that the server said are committed, in the
	// order of each client, but not between clients.
	Acknowledged []Change
	// Unknown holds the changes whose answer did not come: each may be there or
	// not. A last one may be committed for sure (XID is set), but not when.
	Unknown []Change
}

// Load is clients that change rows until Stop. They ride out the loss of the
// server: they connect again, for as long as the load goes on.
type Load struct {
	c      *Cluster
	pause  time.Duration
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	ledger Ledger
	last   error // why a client had to connect again
}

// Load starts so many clients, which insert rows and update their own in a
// table of their own (LoadTable), one transaction each. It stops when t ends,
// at the latest.
func (c *Cluster) Load(t testing.TB, clients int) *Load {
	t.Helper()
	return c.LightLoad(t, clients, loadPause)
}

// LightLoad is Load with another rest between two changes.
func (c *Cluster) LightLoad(t testing.TB, clients int, pause time.Duration) *Load {
	t.Helper()
	c.Exec("CREATE TABLE IF NOT EXISTS " + LoadTable + " (id bigint PRIMARY KEY, version bigint NOT NULL, pad text NOT NULL)")
	first := QueryValue[int64](c, "SELECT coalesce(max(id >> 32), 0) + 1 FROM "+LoadTable)
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{c: c, pause: pause, cancel: cancel}
	for i := range clients {
		l.done.Go(func() { l.client(ctx, first+int64(i)) })
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

// Stop ends the load and gives its ledger. A second Stop gives the same.
func (l *Load) Stop() Ledger {
	l.cancel()
	l.done.Wait()
	return l.ledger
}

// Ledger gives what the load has done until now.
func (l *Load) Ledger() Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Ledger{Acknowledged: slices.Clip(l.ledger.Acknowledged), Unknown: slices.Clip(l.ledger.Unknown)}
}

// WaitFor waits until so many changes are acknowledged, since the load began.
func (l *Load) WaitFor(changes int) {
	l.c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		n, last := l.made()
		if n >= changes {
			return
		}
		if time.Now().After(deadline) {
			l.c.t.Fatalf("after %s the load has made %d of %d changes; its last error: %v", patience, n, changes, last)
		}
		time.Sleep(pollEvery)
	}
}

// WaitMore waits until so many changes more are acknowledged.
func (l *Load) WaitMore(changes int) {
	l.c.t.Helper()
	n, _ := l.made()
	l.WaitFor(n + changes)
}

// made gives how many changes are acknowledged, and why a client had to connect again.
func (l *Load) made() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ledger.Acknowledged), l.last
}

// client runs sessions one after the other until ctx ends.
func (l *Load) client(ctx context.Context, number int64) {
	w := writer{load: l, base: number << 32}
	for ctx.Err() == nil && w.made < loadMax {
		if err := w.session(ctx); err != nil && ctx.Err() == nil {
			l.mu.Lock()
			l.last = err
			l.mu.Unlock()
		}
		rest(ctx, pollEvery)
	}
	if w.open != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ledger.Unknown = append(l.ledger.Unknown, *w.open)
	}
}

// writer is one client: its rows have the ids base+1, base+2, …
type writer struct {
	load       *Load
	base, rows int64
	versions   []int64 // of row base+1+i
	made       int
	open       *Change // committed, and the time and position after it are not yet known
}

func (w *writer) session(ctx context.Context) error {
	cn, err := conn.Open(ctx, w.load.c.config(superuser))
	if err != nil {
		return err
	}
	defer cn.Close()
	for ctx.Err() == nil && w.made < loadMax {
		if w.open == nil {
			if err := w.change(ctx, cn); err != nil {
				return err
			}
		}
		if err := w.settle(ctx, cn); err != nil {
			return err
		}
		w.made++
		rest(ctx, w.load.pause)
	}
	return nil
}

const (
	insertSQL = "INSERT INTO public." + LoadTable + " VALUES ($1, $2, repeat('salvor ', 20)) RETURNING pg_current_xact_id()::text::bigint"
	updateSQL = "UPDATE public." + LoadTable + " SET version = $2 WHERE id = $1 RETURNING pg_current_xact_id()::text::bigint"
)

// change makes one transaction, which settle then writes into the ledger. Three
// out of four insert a row. A change whose outcome is unknown gives its row up,
// so that the ledger stays true.
func (w *writer) change(ctx context.Context, cn *conn.Conn) error {
	ch := Change{ID: w.base + w.rows + 1, Version: 1}
	sql := insertSQL
	index := int64(-1)
	if w.made%4 == 3 && len(w.versions) > 0 {
		index = int64(w.made/4) % int64(len(w.versions))
		if w.versions[index] > 0 {
			ch.ID, ch.Version, sql = w.base+index+1, w.versions[index]+1, updateSQL
		} else {
			index = -1
		}
	}
	if err := cn.Row(ctx, "SELECT clock_timestamp()", nil, &ch.Before); err != nil {
		return err
	}
	ch.Before = ch.Before.UTC()
	var xid int64
	err := cn.Row(ctx, sql, []any{ch.ID, ch.Version}, &xid)
	w.note(index, ch.Version, err == nil)
	if err != nil {
		w.load.mu.Lock()
		defer w.load.mu.Unlock()
		w.load.ledger.Unknown = append(w.load.ledger.Unknown, ch)
		return err
	}
	ch.XID = uint64(xid)
	w.open = &ch
	return nil
}

// settle reads time and position after a commit and writes it into the ledger.
func (w *writer) settle(ctx context.Context, cn *conn.Conn) error {
	ch := *w.open
	var lsn string
	err := cn.Row(ctx, "SELECT clock_timestamp(), pg_current_wal_lsn()::text", nil, &ch.After, &lsn)
	if err != nil {
		return err
	}
	ch.After = ch.After.UTC()
	if ch.LSN, err = pg.ParseLSN(lsn); err != nil {
		return err
	}
	w.open = nil
	w.load.mu.Lock()
	defer w.load.mu.Unlock()
	w.load.ledger.Acknowledged = append(w.load.ledger.Acknowledged, ch)
	return nil
}

// note keeps the version of a row; zero for one that is given up.
func (w *writer) note(index, version int64, known bool) {
	if !known {
		version = 0
	}
	if index >= 0 {
		w.versions[index] = version
		return
	}
	w.rows++
	w.versions = append(w.versions, version)
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// LoadRows reads the rows of LoadTable: the version of each id.
func (c *Cluster) LoadRows() map[int64]int64 {
	c.t.Helper()
	rows := make(map[int64]int64)
	err := c.with(func(cn *conn.Conn) error {
		ctx, cancel := c.context()
		defer cancel()
		return cn.Rows(ctx, "SELECT id, version FROM "+LoadTable, nil, func(scan func(...any) error) error {
			var id, version int64
			err := scan(&id, &version)
			rows[id] = version
			return err
		})
	})
	if err != nil {
		c.t.Fatalf("reading the rows of a load: %v", err)
	}
	return rows
}

// Compare finds differences between rows and the ledger, for a server that was
// recovered to a point. A change for which must says yes has to be there; one
// for which may says no must not be. A change between the two, and an unknown
// one that may be there, is allowed either way. Differences are for people; at
// most ten are given.
func (l Ledger) Compare(rows map[int64]int64, must, may func(Change) bool) []string {
	least, most := make(map[int64]int64), make(map[int64]int64)
	for _, ch := range l.Acknowledged {
		if must(ch) {
			least[ch.ID] = max(least[ch.ID], ch.Version)
		}
		if may(ch) {
			most[ch.ID] = max(most[ch.ID], ch.Version)
		}
	}
	for _, ch := range l.Unknown {
		if may(ch) {
			most[ch.ID] = max(most[ch.ID], ch.Version)
		}
	}
	var out []string
	say := func(format string, args ...any) {
		if len(out) < 10 {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	for id, v := range least {
		if rows[id] < v {
			say("row %d has version %d, and %d was committed", id, rows[id], v)
		}
	}
	for id, v := range rows {
		if v > most[id] {
			say("row %d has version %d, and the latest that belongs there is %d", id, v, most[id])
		}
	}
	return out
}
