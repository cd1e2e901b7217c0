package trial

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// A directory that nobody holds is what a killed run left: it goes, with its server. What
// is held, what has another name, and what a link leads to, stays.
func TestSweep(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	original := pgtest.New(t, pgtest.Options{})
	base, owner := c.TempDir(t), Owner{c.UID, c.GID}

	left, err := makeScratch(base, owner)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.Command("cp", "-a", c.Dir+"/.", left.data()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	st, err := server.Start(t.Context(), server.StartOptions{BinDir: c.BinDir, DataDir: left.data(), SocketDir: left.dir, Port: port, Set: map[string]string{"listen_addresses": ""}})
	if err != nil {
		t.Fatal(err)
	}
	held, err := makeScratch(base, owner)
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := Sweep(base, owner); err != nil || len(removed) > 0 {
		t.Fatalf("both are held, and it removed %q: %v", removed, err)
	}
	left.lock.Close() // as the end of its process does
	other := filepath.Join(base, "salvor-demo-1")
	trap := filepath.Join(base, prefix+"trap")
	for _, dir := range []string{other, trap} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(original.Dir, filepath.Join(trap, "data")); err != nil {
		t.Fatal(err)
	}
	removed, err := Sweep(base, owner)
	want := []string{left.dir, trap}
	slices.Sort(want)
	if slices.Sort(removed); err != nil || !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q: %v", removed, want, err)
	}
	for dir, is := range map[string]bool{left.dir: false, trap: false, held.dir: true, other: true} {
		if _, err := os.Stat(dir); (err == nil) != is {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/cwd/PG_VERSION", st.PID)); err == nil {
		t.Error("the server of the dead run still runs")
	}
	if st := original.Status(); !st.Running {
		t.Error("the server that a link led to was ended")
	}
	if err := held.close(); err != nil {
		t.Error(err)
	}
	if got, err := Sweep(filepath.Join(base, "none"), owner); err != nil || got != nil {
		t.Errorf("where no directory is: %q, %v", got, err)
	}
}

// A stranger's directory is left alone, wherever it leads.
func TestStrangersDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // only root makes files of others
	}
	base := t.TempDir()
	dir := filepath.Join(base, prefix+"0")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	if removed, err := Sweep(base, Owner{4243, 4243}); err != nil || len(removed) > 0 {
		t.Errorf("removed %q: %v", removed, err)
	}
	if removed, err := Sweep(base, Owner{4242, 4242}); err != nil || len(removed) != 1 {
		t.Errorf("of the server's own user: removed %q: %v", removed, err)
	}
}

// There must be room for the data, for what replay adds, and for the WAL beside it.
func TestNeeded(t *testing.T) {
	t.Parallel()
	goal := func(size uint64, replay pg.LSN) Goal {
		h := catalog.Head{Size: size, StartLSN: 1 << 30, StopLSN: 1<<30 + 1}
		return Goal{Choice: catalog.Choice{Backup: h, StopLSN: 1<<30 + replay}}
	}
	small := needed(goal(1<<30, 1<<20))
	if least := uint64(1<<30 + 2<<20); small < least || small > 2*least {
		t.Errorf("for 1 GB and little WAL: %d MB", small>>20)
	}
	if more := needed(goal(1<<30, 10<<30)); more < 1<<30+10<<30+walKept || more > 14<<30 {
		t.Errorf("for 1 GB and 10 GB of WAL: %d MB", more>>20)
	}
}

// lowerPriority makes the test program lower its priority, and run a program that says
// which one it has.
const lowerPriority = "SALVOR_TEST_LOWER_PRIORITY"

func TestMain(m *testing.M) {
	if os.Getenv(lowerPriority) == "" {
		os.Exit(m.Run())
	}
	err := errors.Join(LowerPriority(), LowerPriority()) // also where it is low already
	if err == nil {
		cmd := exec.Command("nice")
		cmd.Stdout = os.Stdout
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestLowerPriority(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lowerPriority+"=yes")
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "10" && got != "19" {
		t.Errorf("what it starts has priority %q: %v", got, err)
	}
}
