package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/salvor-dr/salvor/internal/pg/server"
	"github.com/salvor-dr/salvor/internal/repo/lock"
)

// job is an operation, ready to be started and cut.
type job struct {
	name    string
	repo    *repository // that it works on, if it is one
	args    []string
	steps   []step
	endless bool         // it does not end by itself
	copy    *copied      // that it makes, if it is a restore
	after   func(result) // looks at what is left, and takes note of it
	again   func()       // the same once more, which must succeed
	end     func()       // removes what was only for this
}

// operation prepares a job, or gives nil if it makes no sense now.
type operation struct {
	weight int
	make   func(*site) *job
}

// most is how many backups a repository may have before one must go.
const most = 4

func operations() []operation {
	return []operation{
		{10, func(s *site) *job { return s.backupJob(s.anyRepository(), false) }},
		{4, func(s *site) *job { return s.backupJob(s.anyRepository(), true) }},
		{2, (*site).waitingJob},
		{9, (*site).deleteJob},
		{5, (*site).pushJob},
		{3, func(s *site) *job { return s.fetchJob(s.anySegment(), filepath.Join(s.freshDir(), "RECOVERYXLOG")) }},
		{6, func(s *site) *job { return s.restoreJob(false) }},
		{3, func(s *site) *job { return s.restoreJob(true) }},
		{4, (*site).deltaJob},
	}
}

// draw prepares one of the operations that make sense.
func (s *site) draw() *job {
	s.t.Helper()
	for {
		all := operations()
		sum := 0
		for _, o := range all {
			sum += o.weight
		}
		n := s.rng.IntN(sum)
		for _, o := range all {
			if n -= o.weight; n < 0 {
				if j := o.make(s); j != nil {
					return j
				}
				break
			}
		}
	}
}

func (s *site) anyRepository() *repository { return s.repos[s.rng.IntN(len(s.repos))] }

// anyBackup draws a backup, nil if the repository has fewer than least.
func (s *site) anyBackup(r *repository, least int) *backup {
	ids := r.ids()
	if len(ids) < max(least, 1) {
		return nil
	}
	b := r.backups[ids[s.rng.IntN(len(ids))]]
	return &b
}

func (s *site) backupJob(r *repository, withWAL bool) *job {
	if len(r.backups) >= most {
		return nil
	}
	return s.backupOf(r, withWAL)
}

func (s *site) backupOf(r *repository, withWAL bool) *job {
	j := &job{name: "backup", repo: r, args: []string{"backup", "-o", "json", "--repo", r.name, "--workers", fmt.Sprint(1 + s.rng.IntN(4))}}
	if withWAL {
		j.name, j.args = "backup --with-wal", append(j.args, "--with-wal")
	}
	if s.rng.IntN(3) == 0 {
		j.args = append(j.args, "--rate-limit", fmt.Sprintf("%dMB", 20+s.rng.IntN(60)))
	}
	in := func(folder string) string { return filepath.Join(r.root, folder) + "/" }
	place := func(folder string) string { return in(r.below(folder)) }
	j.steps = []step{
		appears("lock", in("locks")), appears("mark", place("running")),
		appears("temporary file", in(".tmp")).times(8), appears("pack", place("packs")).times(4),
		appears("segment archived", place("wal")).times(2),
		appears("files", "/files"), appears("pack list", "/packs"), appears("head", "/head"),
		vanishes("mark removed", place("running")), vanishes("lock released", in("locks")),
	}
	j.after = func(res result) {
		var b backup
		if res.document(&b) && b.ID != "" {
			r.backups[b.ID] = b // even if it was killed then: it said so
		} else if res.done() {
			s.failf("a backup without a document: %s", res)
		}
		s.adopt(r, res)
	}
	j.again = func() {
		res := s.ok(j.args...)
		s.atOnce(res)
		j.after(res)
		s.checkNone(r, "locks")
	}
	return j
}

// waitingJob is a backup whose WAL does not come: it is never complete.
func (s *site) waitingJob() *job {
	s.t.Helper()
	r := s.anyRepository()
	j := s.backupJob(r, false)
	if j == nil {
		return nil
	}
	s.usual["backup that waits"] = 2 * s.usual[j.name]
	j.name, j.endless, j.steps = "backup that waits", true, j.steps[:4]
	after, release := j.after, s.holdArchiver()
	j.after = func(res result) {
		if res.done() || len(s.list(r)) > len(r.backups) {
			s.failf("it is complete without its WAL: %s", res)
		}
		release()
	}
	j.again = func() {
		res := s.ok(j.args...)
		s.atOnce(res)
		after(res)
	}
	return j
}

// atOnce sees that a command did not wait for the lock of one that is dead.
func (s *site) atOnce(res result) {
	s.t.Helper()
	if res.took >= lock.TTL {
		s.failf("it waited for the dead: %s", res)
	}
}

// adopt takes up a backup that a cut command has finished without a word, once it is
// proven.
func (s *site) adopt(r *repository, res result) {
	s.t.Helper()
	for id, b := range s.list(r) {
		if _, ok := r.backups[id]; ok {
			continue
		}
		if res.done() {
			s.failf("backup %s is listed in %s; this made another: %s", id, r.name, res)
		}
		s.prove(r, b)
		r.backups[id] = b
		s.tally["a killed backup was whole"]++
	}
}

func (s *site) deleteJob() *job {
	r := s.anyRepository()
	b := s.anyBackup(r, 2)
	if b == nil {
		return nil
	}
	return s.deleteOf(r, b)
}

func (s *site) deleteOf(r *repository, b *backup) *job {
	in := func(folder string) string { return filepath.Join(r.root, folder) + "/" }
	j := &job{name: "delete", repo: r, args: []string{"backups", "delete", b.ID, "--yes", "--repo", r.name, "-o", "json"}}
	j.steps = []step{
		appears("lock", in("locks")), vanishes("head removed", "/"+b.ID+"/head"), vanishes("files removed", "/"+b.ID+"/files"),
		vanishes("pack list removed", "/"+b.ID+"/packs"), appears("tombstone", in(r.below("tombstones"))),
		vanishes("pack removed", in(r.below("packs"))).times(2), vanishes("tombstone removed", in(r.below("tombstones"))), vanishes("lock released", in("locks")),
	}
	j.after = func(res result) {
		_, listed := s.list(r)[b.ID]
		if res.done() && listed {
			s.failf("it is deleted, and listed: %s", res)
		}
		if !listed {
			delete(r.backups, b.ID)
		}
	}
	j.again = func() {
		_, listed := r.backups[b.ID]
		res := s.run(j.args...)
		if want := map[bool]int{true: exitDone, false: exitNotFound}[listed]; res.code != want {
			s.failf("want exit %d of: %s", want, res)
		}
		s.atOnce(res)
		j.after(res)
		if listed {
			s.checkNone(r, "locks")
		}
	}
	return j
}

// pushJob pushes a segment by hand. Three times in four the server's own archiver is
// held meanwhile, or it would nearly always be first.
func (s *site) pushJob() *job {
	s.t.Helper()
	name := value[string](s, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	release := func() {}
	if s.rng.IntN(4) > 0 {
		release = s.holdArchiver()
	}
	s.exec("SELECT pg_logical_emit_message(true, 'chaos', 'to push')")
	s.exec("SELECT pg_switch_wal()")
	want := s.digest(s.walFile(name))
	j := &job{name: "wal push", args: []string{"wal", "push", s.walFile(name)}}
	for _, r := range s.repos {
		j.steps = append(j.steps, appears("temporary file "+r.name, filepath.Join(r.root, ".tmp")+"/"), appears("segment "+r.name, r.below("wal")+"/00000001/"+name))
	}
	j.after = func(res result) {
		if res.done() {
			s.wal[name] = want
			s.checkSegment(name)
		}
		dest := filepath.Join(s.freshDir(), "fetched")
		switch got := s.run("wal", "fetch", name, dest); {
		case got.done():
			if !bytes.Equal(s.digest(dest), want) {
				s.failf("%s is fetched otherwise than it was pushed", name)
			}
		case got.code != exitAbsent || res.done():
			s.failf("after %s\nfetching it back: %s", res, got)
		}
		s.remove(filepath.Dir(dest))
	}
	j.again = func() { j.after(s.ok(j.args...)) }
	j.end = release
	return j
}

// holdArchiver stops the server's archiver between two segments.
func (s *site) holdArchiver() (release func()) {
	s.t.Helper()
	s.archive()
	pid := value[int](s, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'archiver'")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		s.failf("stopping the archiver: %v", err)
	}
	return func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			s.failf("letting the archiver go on: %v", err)
		}
	}
}

func (s *site) fetchJob(name, dest string) *job {
	s.t.Helper()
	want := s.wal[name]
	var junk []byte
	if s.rng.IntN(2) == 0 { // a file that is there is replaced
		junk = []byte("of another time")
		if err := os.WriteFile(dest, junk, 0o600); err != nil {
			s.failf("%v", err)
		}
	}
	j := &job{name: "wal fetch", args: []string{"wal", "fetch", name, dest}}
	j.steps = []step{appears("temporary file", filepath.Dir(dest)+"/.salvor"), appears("destination", dest)}
	j.after = func(res result) {
		got, err := os.ReadFile(dest)
		switch {
		case res.done() || err == nil && !bytes.Equal(got, junk):
			if !bytes.Equal(s.digest(dest), want) {
				s.failf("%s is not what was archived after: %s", name, res)
			}
		case err != nil && !errors.Is(err, os.ErrNotExist):
			s.failf("%v", err)
		}
	}
	j.again = func() {
		j.after(s.ok(j.args...))
		entries, err := os.ReadDir(filepath.Dir(dest))
		if err != nil {
			s.failf("%v", err)
		}
		if len(entries) != 1 {
			s.failf("beside the fetched segment there are %v", entries)
		}
	}
	j.end = func() { s.remove(filepath.Dir(dest)) }
	return j
}

// restoreJob restores any backup to its end, or the newest state.
func (s *site) restoreJob(start bool) *job {
	s.t.Helper()
	r := s.anyRepository()
	b := s.anyBackup(r, 1)
	if b == nil {
		return nil
	}
	if s.rng.IntN(2) == 0 {
		b = nil
	}
	return s.restoreOf(r, b, start)
}

// restoreOf restores one backup, or if it is nil the newest state.
func (s *site) restoreOf(r *repository, b *backup, start bool) *job {
	s.t.Helper()
	j := &job{name: "restore", repo: r}
	var c *copied
	if b != nil {
		c = s.copyAt(*b)
		j.args = []string{"restore", "--to", c.dir, "--repo", r.name, "--backup", b.ID, "--immediate"}
	} else {
		c = s.copyOf(s.archive())
		j.args = []string{"restore", "--to", c.dir, "--repo", r.name}
	}
	in := func(name string) string { return filepath.Join(c.dir, name) }
	j.steps = []step{
		appears("note", in(noteName)), appears("file", c.dir+"/").times(900), appears("control hidden", in(controlName+".restoring")),
		appears("label", in("backup_label")), appears("settings", in("postgresql.auto.conf")), appears("marker", in("salvor.incarnation")),
		appears("control", in(controlName)), vanishes("note removed", in(noteName)),
	}
	if start {
		j.name, j.args = "restore --start", append(j.args, c.startArgs()...)
		j.steps = append(j.steps, appears("server's log", in("log")+"/"), appears("postmaster.pid", in("postmaster.pid")),
			vanishes("label used", in("backup_label")), appears("new timeline", in("pg_wal/00000002.history")))
	}
	// Whole ones are started one time in three: this takes longest.
	try := start || s.rng.IntN(3) == 0
	j.after = func(res result) { s.afterRestore(c, res) }
	j.again = func() {
		if c.state() != complete {
			s.finishRestore(c, j.args)
		} else {
			s.leavesAlone(c, j.args)
		}
		if try {
			c.up()
			c.compare()
		}
	}
	j.copy, j.end = c, c.end
	return j
}

// deltaJob restores a backup over another one. Until the note is there, the other is.
func (s *site) deltaJob() *job {
	s.t.Helper()
	r := s.anyRepository()
	from, to := s.anyBackup(r, 1), s.anyBackup(r, 1)
	if from == nil {
		return nil
	}
	j := s.restoreOf(r, to, false)
	c := j.copy
	before := s.ok("restore", "--to", c.dir, "--repo", r.name, "--backup", from.ID, "--immediate")
	j.name, j.args = "restore --delta", append(j.args, "--delta", "--yes")
	j.steps = slices.DeleteFunc(j.steps, func(st step) bool { return st.name == "file" })
	j.after = func(res result) {
		c.settle()
		got := c.state()
		if res.done() && got != complete {
			s.failf("restored, and not complete: %s", res)
		}
		if got == unfinished {
			c.refusesToStart()
		}
	}
	j.again = func() {
		s.finishRestore(c, j.args)
		if s.rng.IntN(3) == 0 {
			c.up()
			c.compare()
		}
	}
	s.usual[j.name] = before.took
	return j
}

func (s *site) afterRestore(c *copied, res result) {
	s.t.Helper()
	c.settle()
	switch got := c.state(); {
	case res.done() && got != complete:
		s.failf("restored, and not complete: %s", res)
	case got == complete && slices.Contains([]int{exitFailed, exitNotFound, exitRepository}, res.code):
		s.failf("it failed, and what it left looks like a database: %s", res)
	case got == unfinished:
		c.refusesToStart()
	case got == complete && c.noted():
		c.isWhole()
	}
}

// finishRestore is the same command once more.
func (s *site) finishRestore(c *copied, args []string) {
	s.t.Helper()
	s.ok(args...)
	if c.state() != complete {
		s.failf("restored again, and not complete")
	}
	if c.noted() {
		s.failf("restored again, and the note is still there")
	}
}

// leavesAlone runs the command on a directory that is restored already, and may have
// been used: it is refused, or if not, the result is whole.
func (s *site) leavesAlone(c *copied, args []string) {
	s.t.Helper()
	before := c.noted()
	res := s.run(args...)
	switch {
	case before && !res.done():
		s.failf("the restore was not finished, and cannot be: %s", res)
	case !before && (res.code != exitNotNow || !strings.Contains(res.stdout+res.stderr, "not empty") && !strings.Contains(res.stdout+res.stderr, "runs in")):
		s.failf("want a refusal to restore over a database: %s", res)
	case c.state() != complete || c.noted():
		s.failf("it is not complete any more after: %s", res)
	}
	if before {
		s.tally["a restore was killed before its last step"]++
	}
	c.stop(server.Fast)
}
