package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/wal/fetch"
)

const (
	tripPoll = 50 * time.Millisecond

	// tripFailures is how many failures of archive_command are waited for: the
	// server tries three times in a row (NUM_ARCHIVE_RETRIES, pgarch.c).
	tripFailures = 3
)

func roundTripCheck() check {
	return check{
		name: "wal_round_trip", title: "round trip of a WAL segment",
		needs: []string{"server_user", "privileges", "data_dir", "wal_level", "archive_mode", "archive_command"}, probe: probeRoundTrip,
		why: "it is the whole way that every change goes: out of the server, into each repository, and back",
	}
}

// trip is a segment on its way.
type trip struct {
	segment     string
	incarnation string
	object      string // its name in a repository
	before      conn.ArchiverStats
	began       time.Time
}

// probeRoundTrip ends a WAL segment, waits for it in each repository, fetches it
// back as restore_command does and compares.
func probeRoundTrip(ctx context.Context, e *examination, _ *examined, v *verdict) {
	switch {
	case e.server.InRecovery:
		v.skip("the server is a standby: run doctor on the primary's host")
		return
	case len(e.opened()) == 0:
		v.skip("no repository opens")
		return
	}
	for _, r := range e.repos {
		if r.open == nil || e.found[key("registration", r)] == checkProblem {
			v.skip("repository %s must open and know the cluster first: a push succeeds in all of them or fails", r.Name)
			return
		}
	}
	t, err := e.depart(ctx)
	if err != nil {
		v.fail(err)
		return
	}
	for _, r := range e.repos {
		if !e.arrives(ctx, t, r, v) {
			return
		}
		there := e.clock.Now().Sub(t.began)
		back := e.clock.Now()
		compared, err := e.comesBack(ctx, t, r)
		if err != nil {
			v.problem("", "%s came into repository %s, but not back: %v", t.segment, r.Name, err)
			continue
		}
		v.say("%s was in repository %s after %s, and back after %s, %s", t.segment, r.Name, formatDuration(there), formatDuration(e.clock.Now().Sub(back)), compared)
	}
}

// depart ends the current segment.
func (e *examination) depart(ctx context.Context) (trip, error) {
	m, err := catalog.ReadMarker(e.c.Postgres.DataDir)
	if err != nil {
		return trip{}, err
	}
	t := trip{incarnation: string(m.Incarnation), began: e.clock.Now()}
	if t.before, err = e.db.Archiver(ctx); err != nil {
		return trip{}, err
	}
	end, err := e.db.CreateRestorePoint(ctx, "salvor doctor")
	if err != nil {
		return trip{}, err
	}
	if _, err := e.db.SwitchWAL(ctx); err != nil {
		return trip{}, err
	}
	size := e.control.Sizes.WALSegment
	s := pg.SegmentBefore(e.server.Timeline, end, size)
	t.segment = s.Name(size)
	t.object = catalog.Place{Cluster: e.c.Cluster, SystemID: e.control.SystemID, Incarnation: m.Incarnation}.WALName(s.Timeline, t.segment)
	return t, nil
}

// arrives waits until the segment is in a repository, and reports why if it does not
// come.
func (e *examination) arrives(ctx context.Context, t trip, r *examined, v *verdict) bool {
	wait := time.Duration(e.c.Backup.ArchiveTimeout)
	for {
		there, err := r.open.objects.Exists(ctx, t.object)
		if err != nil {
			v.fail(err)
			return false
		}
		if there {
			return true
		}
		now, err := e.db.Archiver(ctx)
		if err != nil {
			v.fail(err)
			return false
		}
		failing := now.FailedCount-t.before.FailedCount >= tripFailures && now.LastFailedAt.After(now.LastArchivedAt)
		if waited := e.clock.Now().Sub(t.began); failing || waited > wait {
			e.lost(t, r, now, waited, v)
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-e.clock.After(tripPoll):
		}
	}
}

// lost says what is known of why a segment did not come.
func (e *examination) lost(t trip, r *examined, now conn.ArchiverStats, waited time.Duration, v *verdict) {
	where := fmt.Sprintf("%s is not in repository %s after %s", t.segment, r.Name, formatDuration(waited))
	byHand := fmt.Sprintf("the server's log has its messages; try by hand, as its user: cd %s && %s",
		shellWord(e.c.Postgres.DataDir), e.command("wal push pg_wal/"+t.segment))
	switch {
	case now.LastFailedAt.After(now.LastArchivedAt):
		v.problem(byHand, "%s: archive_command fails, last for %s at %s", where, now.LastFailedWAL, formatTime(now.LastFailedAt))
	case now.LastArchivedWAL >= t.segment:
		v.problem("set the archive_command that salvor init prints", "%s: the server has archived it, but not here; archive_command is: %s", where, e.server.ArchiveCommand)
	default:
		v.problem(fmt.Sprintf("see how far the archiver is behind: %s", e.command("wal status")), "%s: the server has not archived it yet, the last was %s", where, now.LastArchivedWAL)
	}
}

// comesBack fetches the segment as wal fetch does, and says what it was compared
// with.
func (e *examination) comesBack(ctx context.Context, t trip, r *examined) (compared string, err error) {
	sources, err := e.walSources(ctx, e.c, r.open, t.incarnation)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "salvor-doctor-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	got := filepath.Join(dir, t.segment)
	if err := fetch.Fetch(ctx, t.segment, got, sources); err != nil {
		return "", err
	}
	own := filepath.Join(e.c.Postgres.DataDir, "pg_wal", t.segment)
	same, err := sameContent(got, own)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the same by its digest", nil // the server uses the file for another segment now
	case err != nil:
		return "", err
	case !same:
		return "", fmt.Errorf("it is not the same as %s", own)
	}
	return "the same byte for byte", nil
}

// sameContent compares two files. If the second is no longer there at the end,
// because the server gave it another name, that is fs.ErrNotExist.
func sameContent(a, b string) (bool, error) {
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer y.Close()
	same, err := sameBytes(x, y)
	if err != nil || same {
		return same, err
	}
	opened, err := y.Stat()
	if err != nil {
		return false, err
	}
	if now, err := os.Stat(b); err != nil || !os.SameFile(opened, now) {
		return false, fs.ErrNotExist
	}
	return false, nil
}

func sameBytes(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		switch {
		case n != m || string(x[:n]) != string(y[:m]):
			return false, nil
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return true, nil
		case err != nil || err2 != nil:
			return false, errors.Join(err, err2)
		}
	}
}
