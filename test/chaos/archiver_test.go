package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// archiverRound kills the push that the server's own archiver runs. The server takes
// a death by a signal for the end of its archiver, and starts another, up to ten
// seconds later (pgarch.c): so these rounds are few.
func (s *site) archiverRound() {
	s.t.Helper()
	r := s.anyRepository()
	name := value[string](s, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	j := &job{name: "the server's wal push", steps: []step{
		appears("temporary file", filepath.Join(r.root, ".tmp")+"/"), appears("segment", r.below("wal")+"/00000001/"+name),
	}}
	s.usual[j.name] = s.usual["wal push"]
	end := s.anyCut(j)
	s.doing += j.name + ", " + end.String()
	s.t.Log(s.doing)
	var met <-chan struct{}
	if end.step != nil {
		met = s.watch.await(*end.step, 1)
	}
	s.exec("SELECT pg_logical_emit_message(true, 'chaos', 'to archive')")
	s.exec("SELECT pg_switch_wal()")
	if met != nil {
		select {
		case <-met:
		case <-time.After(patience):
			s.failf("the server does not archive")
		}
	}
	time.Sleep(end.after)
	killed := s.killPushes(end.signal)
	s.tally[j.name+map[bool]string{true: ": cut", false: ": done before"}[killed]]++
	s.check()
	s.noteSegments()
	s.checkSegment(name)
}

// killPushes signals what the server's archiver runs, and says whether there was any.
func (s *site) killPushes(sig syscall.Signal) (found bool) {
	s.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		s.failf("%v", err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), s.config+"\x00wal\x00push\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			s.failf("%v", err)
		}
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.failf("%v", err)
		}
		found = true
	}
	return found
}
