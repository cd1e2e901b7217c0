package backup

import (
	"context"
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

// From says which server to back up.
type From int

// The sources.
const (
	FromPrimary From = iota
	FromStandby
	FromAuto // whichever this one is
)

// primary is the server that writes the WAL: the one that is backed up, or the one that
// it follows.
type primary struct {
	*conn.Conn
	server conn.Server
	own    bool // a session that is none of the caller's, on host and port
	host   string
	port   int
}

// cascade is how many standbys may be between a standby and its primary.
const cascade = 8

// findPrimary finds the primary of the server that is backed up. It is nil, with the
// reason, if it cannot be asked anything: a backup from a standby is possible without,
// but begins where the standby made its last restartpoint, and ends when the primary
// archives the WAL up to its stop by itself.
func findPrimary(ctx context.Context, o *Options, s conn.Server) (*primary, error) {
	at := &primary{Conn: o.Conn, server: s}
	for range cascade {
		if !at.server.InRecovery {
			return at, nil
		}
		next, err := o.follow(ctx, at.Conn, s.SystemID)
		at.close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	at.close()
	return nil, fmt.Errorf("there are more than %d standbys between", cascade)
}

// follow connects to the server that a standby streams from.
func (o *Options) follow(ctx context.Context, standby *conn.Conn, id pg.SystemID) (*primary, error) {
	host, port, err := standby.Sender(ctx)
	if err != nil {
		return nil, err
	}
	if o.Connect == nil {
		return nil, fmt.Errorf("nothing says how to connect to %s", host)
	}
	p := &primary{own: true, host: host, port: port}
	if p.Conn, err = o.Connect(ctx, host, port); err != nil {
		return nil, err
	}
	p.server, err = p.Conn.Server(ctx)
	if err == nil && p.server.SystemID != id {
		err = fmt.Errorf("%s is of another cluster", p.Config().Address())
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// close ends a session that findPrimary began.
func (p *primary) close() {
	if p != nil && p.own {
		p.Close()
	}
}

// askAgain opens a new session on the primary of a standby, hours after the first: it
// may have been restarted meanwhile. Where it does not answer, the backup goes on
// without.
func (r *run) askAgain(ctx context.Context) {
	p := r.source.primary
	if p == nil || !p.own {
		return
	}
	c, err := r.Connect(ctx, p.host, p.port)
	if err != nil {
		r.Events.Warn(fmt.Sprintf("the primary does not answer any more: %v", err))
		p.close()
		r.source.primary = nil
		return
	}
	p.Close()
	p.Conn = c
}

// catchUp has the primary of a standby make a checkpoint, and waits until the standby
// has replayed it: then the backup starts there, and not at a checkpoint of long ago.
func (r *run) catchUp(ctx context.Context) error {
	if !r.source.server.InRecovery || r.source.primary == nil {
		return nil
	}
	if p := r.source.primary.server; p.Timeline != r.source.server.Timeline {
		return refuse("see why the standby does not follow: its log says", "the standby is on timeline %d, and its primary on %d", r.source.server.Timeline, p.Timeline)
	}
	until, err := r.checkpointThere(ctx)
	if err != nil {
		return err
	}
	var last pg.LSN
	deadline := r.Clock.Now().Add(r.ArchiveTimeout)
	for {
		at, err := r.Conn.ReplayLSN(ctx)
		if err != nil || at >= until {
			return err
		}
		if at > last {
			last, deadline = at, r.Clock.Now().Add(r.ArchiveTimeout)
		}
		if r.Clock.Now().After(deadline) {
			return refuse("is replay paused or delayed (pg_is_wal_replay_paused, recovery_min_apply_delay), or held up by a query (max_standby_streaming_delay)?",
				"the standby has replayed WAL up to %s, and nothing more for %s: the checkpoint to start from ends at %s", at, r.ArchiveTimeout, until)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.Clock.After(pollEvery):
		}
	}
}

// checkpointThere makes the checkpoint, in the way in which a backup does: that needs no
// other rights. It gives a position after it.
func (r *run) checkpointThere(ctx context.Context) (pg.LSN, error) {
	c, err := r.Connect(ctx, r.source.primary.host, r.source.primary.port)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	b, err := c.StartBackup(ctx, "salvor "+r.id+" checkpoint", !r.Spread)
	if err != nil {
		return 0, err
	}
	defer b.Abort(context.WithoutCancel(ctx))
	return c.CurrentLSN(ctx)
}

// endSegment ends the segment in which a backup from a standby stopped, so that it is
// archived. A primary does that by itself when the backup stops.
func (r *run) endSegment(ctx context.Context) {
	if r.WithWAL {
		return // its WAL is copied from pg_wal
	}
	r.askAgain(ctx)
	p := r.source.primary
	if p == nil || !p.own {
		return
	}
	size := r.source.control.Sizes.WALSegment
	now, err := p.CurrentLSN(ctx)
	if err == nil && pg.SegmentAt(r.head.Timeline, now, size) == pg.SegmentBefore(r.head.Timeline, r.head.StopLSN, size) {
		_, err = p.SwitchWAL(ctx)
	}
	if err != nil {
		r.Events.Warn(fmt.Sprintf("the primary does not end its segment; the backup waits until it is archived: %v", err))
	}
}
