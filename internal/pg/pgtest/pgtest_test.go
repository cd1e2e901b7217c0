package pgtest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/pg/server"
)

func TestClusterIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Settings: map[string]string{"work_mem": "1234kB", "cluster_name": `it's \ "here"`}})
	for name, want := range map[string]string{
		"data_checksums": "on", "server_encoding": "UTF8", "lc_messages": "C.UTF-8", "fsync": "off", "work_mem": "1234kB",
		"cluster_name": `it's \ "here"`, "listen_addresses": "127.0.0.1", "port": strconv.Itoa(c.Port()),
		"unix_socket_directories": c.SocketDir, "data_directory": c.Dir, "wal_segment_size": "16MB", "server_version_num": "",
	} {
		got := QueryValue[string](c, "SELECT current_setting($1)", name)
		if name == "server_version_num" {
			want, got = strconv.Itoa(c.Major), got[:2]
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := c.Psql("SELECT 6 * 7"); got != "42\n" {
		t.Errorf("psql printed %q", got)
	}
	out, err := c.Command("id", "-u").Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != strconv.Itoa(c.UID) || got == "0" {
		t.Errorf("commands run as %s, %v; the server as %d", got, err, c.UID)
	}
	dir := c.TempDir(t)
	c.Exec("COPY (SELECT 1) TO '" + dir + "/out'")
	if b, err := os.ReadFile(dir + "/out"); err != nil || string(b) != "1\n" {
		t.Errorf("the server wrote %q, %v", b, err)
	}
	c.Set("work_mem", "2MB")
	if got := QueryValue[string](c, "SHOW work_mem"); got != "2MB" {
		t.Errorf("after Set, work_mem is %s", got)
	}
	if err := c.TryExec("SELECT 1/0"); err == nil {
		t.Error("a division by zero succeeds")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	a := New(t, Options{ChecksumsOff: true, WALSegmentMB: 1})
	b := New(t, Options{ChecksumsOff: true, WALSegmentMB: 1})
	if got := QueryValue[string](a, "SHOW data_checksums") + " " + QueryValue[string](a, "SHOW wal_segment_size"); got != "off 1MB" {
		t.Errorf("checksums and segment size: %s", got)
	}
	const sysid = "SELECT system_identifier::text FROM pg_control_system()"
	idA, idB := QueryValue[string](a, sysid), QueryValue[string](b, sysid)
	if idA == idB {
		t.Errorf("two clusters have the system identifier %s", idA)
	}
	b.Restart() // the new identifier is in WAL as well
	if got := QueryValue[string](b, sysid); got != idB {
		t.Errorf("after a restart %s became %s", idB, got)
	}
}

func TestCrashAndFreeze(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	c.Exec("CREATE TABLE dish AS SELECT 7 AS id")
	c.Kill9()
	if st := c.Status(); st.Running {
		t.Fatalf("after Kill9: %+v", st)
	}
	if pids, err := processesIn(c.Dir); err != nil || len(pids) != 0 {
		t.Errorf("left by Kill9: %v, %v", pids, err)
	}
	c.Start()
	if got := QueryValue[int](c, "SELECT id FROM dish"); got != 7 {
		t.Errorf("after the crash: %d", got)
	}
	c.Pause()
	pids, err := processesIn(c.Dir)
	if err != nil || len(pids) < 4 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || !strings.Contains(string(b), ") T ") {
			t.Errorf("process %d is not stopped: %.60s, %v", pid, b, err)
		}
	}
	if pids[0] != c.Status().PID {
		t.Errorf("the postmaster %d is not first of %v", c.Status().PID, pids)
	}
	c.Resume()
	c.Exec("SELECT 1")
}

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	var root, dir string
	var port, shm int
	t.Run("a test that leaves a frozen and a crashed server", func(t *testing.T) {
		c := New(t, Options{})
		root, dir, port = c.root, c.Dir, c.Port()
		New(t, Options{}).Pause()
		b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		if shm, err = strconv.Atoi(strings.Fields(strings.Split(string(b), "\n")[6])[1]); err != nil {
			t.Fatal(err)
		}
		c.Kill9()
		if !sharedMemoryExists(shm) {
			t.Fatalf("the crash took segment %d along", shm)
		}
	})
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Errorf("%s: %v", root, err)
	}
	if pids, err := processesIn(dir); err != nil || len(pids) != 0 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if !portFree(port) {
		t.Errorf("port %d is taken", port)
	}
	if sharedMemoryExists(shm) {
		t.Errorf("shared memory segment %d is left", shm)
	}
}

func sharedMemoryExists(id int) bool {
	var desc unix.SysvShmDesc
	_, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc)
	return err == nil
}

func TestPortsAreNotShared(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := make(map[int]bool)
	var ports []*port
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			p, err := takePort()
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[p.number] {
				t.Errorf("port %+v, %v", p, err)
				return
			}
			seen[p.number] = true
			ports = append(ports, p)
		})
	}
	wg.Wait()
	for _, p := range ports {
		p.release()
	}
}

func TestStartTakesAnotherPortIfItsOwnIsTaken(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Stopped: true})
	thief := New(t, Options{})
	c.port = &port{number: thief.Port(), lock: mustOpen(t, os.DevNull)}
	c.Start()
	if c.Port() == thief.Port() || QueryValue[int](c, "SELECT 1") != 1 {
		t.Errorf("started on port %d", c.Port())
	}
}

func mustOpen(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestOpenStartsACopy(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Settings: map[string]string{"archive_mode": "on", "archive_command": "true"}})
	c.Exec("CREATE TABLE dish AS SELECT 7 AS id")
	c.Stop(server.Fast)
	dir := filepath.Join(c.TempDir(t), "copy")
	if err := copyTree(c.Dir, dir); err != nil {
		t.Fatal(err)
	}
	c.Start()
	o := Open(t, dir, map[string]string{"archive_mode": "off"})
	if o.Port() == c.Port() || o.Dir != dir || o.Major != c.Major {
		t.Errorf("opened %+v", o)
	}
	if got := QueryValue[string](o, "SELECT id || current_setting('archive_mode') FROM dish"); got != "7off" {
		t.Errorf("got %s", got)
	}
}

func TestLoadAndStandby(t *testing.T) {
	t.Parallel()
	c := New(t, Options{})
	space := c.TempDir(t)
	c.Exec("CREATE TABLESPACE food LOCATION '" + space + "'")
	c.Exec("CREATE TABLE dish TABLESPACE food AS SELECT 7 AS id")
	s := c.Standby(t, "it's one")
	if got := QueryValue[string](c, "SELECT application_name FROM pg_stat_replication"); got != "it's one" {
		t.Errorf("application_name %q", got)
	}
	load := c.Load(t, 3)
	load.WaitFor(60)
	c.Kill9() // clients lose the server, and go on with it
	c.Start()
	load.WaitFor(len(load.acknowledged()) + 60)
	ledger := load.Stop()
	s.WaitReplayed(c.LSN())

	all := func(Change) bool { return true }
	none := func(Change) bool { return false }
	for _, at := range []*Cluster{c, s} {
		rows := at.LoadRows()
		for _, d := range ledger.Compare(rows, all, all) {
			t.Error(d)
		}
		if len(ledger.Compare(rows, none, none)) == 0 {
			t.Error("rows that may not be there are not noticed")
		}
	}
	if len(ledger.Compare(map[int64]int64{}, all, all)) == 0 {
		t.Error("rows that are missing are not noticed")
	}
	updates := 0
	for _, ch := range ledger.Acknowledged {
		if ch.XID == 0 || ch.LSN == 0 || ch.Before.IsZero() || ch.After.Before(ch.Before) {
			t.Errorf("change %+v", ch)
		}
		if ch.Version > 1 {
			updates++
		}
	}
	if updates == 0 {
		t.Error("no row was updated")
	}

	s.Promote()
	s.Exec("INSERT INTO dish VALUES (8)")
	if got := QueryValue[int](s, "SELECT sum(id)::int FROM dish"); got != 15 {
		t.Errorf("the standby's tablespace holds %d", got)
	}
	if got := QueryValue[int](c, "SELECT sum(id)::int FROM dish"); got != 7 {
		t.Errorf("the primary's tablespace holds %d", got)
	}
}

// acknowledged is a copy, for a load that goes on.
func (l *Load) acknowledged() []Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Change(nil), l.ledger.Acknowledged...)
}

func TestControlEndIsFoundInEveryVersion(t *testing.T) {
	t.Parallel()
	c := New(t, Options{Stopped: true})
	data, err := os.ReadFile(filepath.Join(c.Dir, "global/pg_control"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := controlEnd(data); err != nil {
		t.Error(err)
	}
	data[5]++
	if end, err := controlEnd(data); err == nil {
		t.Errorf("a checksum of damaged contents is found at %d: %x", end, binary.NativeEndian.Uint32(data[end:]))
	}
}

// abandoned makes a test that starts a cluster and then waits to be killed.
const abandoned = "SALVOR_TEST_ABANDONED"

func TestAbandoned(t *testing.T) {
	if os.Getenv(abandoned) == "" {
		return // it is only a part of the next test
	}
	c := New(t, Options{})
	fmt.Printf("\nROOT %s\n", c.root)
	select {}
}

func TestWatchdogEndsWhatAKilledTestLeaves(t *testing.T) {
	t.Parallel()
	FindBin(t, installed(t))
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(me, "-test.run=^TestAbandoned$")
	child.Env = append(os.Environ(), abandoned+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var root string
	for lines := bufio.NewScanner(out); root == "" && lines.Scan(); {
		root, _ = strings.CutPrefix(lines.Text(), "ROOT ")
		if !strings.HasPrefix(root, "/") {
			root = ""
		}
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	if root == "" {
		t.Fatal("the abandoned test has no cluster")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(pollEvery) {
		_, err := os.Stat(root)
		pids, perr := processesIn(root)
		if os.IsNotExist(err) && perr == nil && len(pids) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v; processes %v, %v", root, err, pids, perr)
		}
	}
}
