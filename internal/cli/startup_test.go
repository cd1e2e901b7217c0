package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	repoopen "github.com/salvor-dr/salvor/internal/repo/open"
	storeopen "github.com/salvor-dr/salvor/internal/store/open"
)

const startRounds = 25

// bound is how much more processor time a start may take than a program's that does
// nothing: the first, or on a machine on which everything is slow, the second, since
// both programs are slowed down alike. PostgreSQL runs salvor once for every WAL
// segment, one after the other. Both are generous, for busy machines; what a start
// really costs is in the test's log. When it grows, GODEBUG=inittrace=1 salvor version
// tells which package it is.
type bound struct {
	more  time.Duration
	times int
}

// The bounds of a start, and of a wal push of a segment of 1 MB that is archived
// already: that adds the configuration, the key, the repository and the comparison,
// and hardly any work.
var (
	startBound = bound{15 * time.Millisecond, 4}
	pushBound  = bound{20 * time.Millisecond, 5}
)

// TestStartIsCheap compares start to exit of salvor with that of a program
// that does nothing. Runs alternate, so that both see the same machine.
func TestStartIsCheap(t *testing.T) {
	salvor, hello := binary(t, "salvor"), binary(t, "hello")
	for _, args := range [][]string{
		{"version"},
		{"wal", "fetch"}, // refused, but through the same door
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) { cheap(t, startBound, hello, salvor, args...) })
	}
}

// TestPushStartsCheaply does so with what PostgreSQL runs most.
func TestPushStartsCheaply(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL: not with -short")
	}
	file, segment := archiveSite(t)
	salvor, hello := binary(t, "salvor"), binary(t, "hello")
	push := []string{"-c", file, "wal", "push", segment}
	if said, err := exec.CommandContext(t.Context(), salvor, push...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	cheap(t, pushBound, hello, salvor, push...)
}

// archiveSite makes a data directory with a segment, and a repository that knows
// it. No server runs: none is needed to push.
func archiveSite(t *testing.T) (configFile, segment string) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{WALSegmentMB: 1, Stopped: true})
	dir := t.TempDir()
	control, err := datadir.ReadControl(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	secret, identity, err := keys.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	st, err := storeopen.Open(t.Context(), "file://"+dir+"/repo", storeopen.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r, err := repoopen.Init(t.Context(), st, []keys.Secret{secret}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o := catalog.Origin{Cluster: "main", SystemID: control.SystemID, Incarnation: catalog.NewIncarnation(), CreatedAt: time.Now(), Version: 150000, Sizes: control.Sizes}
	if err := catalog.WriteOrigin(t.Context(), r.Objects, o); err != nil {
		t.Fatal(err)
	}
	if err := catalog.WriteMarker(c.Dir, catalog.Marker{Incarnation: o.Incarnation}); err != nil {
		t.Fatal(err)
	}
	text := config.Render(config.Minimal{Cluster: "main", Postgres: config.Postgres{DataDir: c.Dir},
		Repositories: []config.Repository{{Name: "local", URL: "file://" + dir + "/repo", Key: config.Secret{File: "key"}, Encryption: config.AES256GCM}}})
	for name, content := range map[string]string{"salvor.yaml": string(text), "key": identity} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := filepath.Glob(filepath.Join(c.Dir, "pg_wal", strings.Repeat("[0-9A-F]", 24)))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	return filepath.Join(dir, "salvor.yaml"), segments[0]
}

// cheap wants that a command costs little more than hello.
func cheap(t *testing.T, most bound, hello, salvor string, args ...string) {
	t.Helper()
	var c startCost
	for range 3 { // a machine that is busy with other things gets another chance
		c = startCosts(t, salvor, args, hello)
		t.Logf("processor %v, of a program that does nothing %v, %.1f times; wall %v and %v",
			c.salvor, c.hello, float64(c.salvor)/float64(c.hello), c.salvorWall, c.helloWall)
		if c.salvor <= max(c.hello+most.more, time.Duration(most.times)*c.hello) {
			return
		}
	}
	t.Errorf("salvor %v takes %v of processor time to start, and a program that does nothing %v: want at most %v more, or %d times as much",
		args, c.salvor, c.hello, most.more, most.times)
}

// startCost holds medians.
type startCost struct{ salvor, hello, salvorWall, helloWall time.Duration }

func startCosts(t *testing.T, salvor string, args []string, hello string) startCost {
	t.Helper()
	var cpu, wall [2][]time.Duration
	for range startRounds {
		for i, cmd := range []*exec.Cmd{exec.CommandContext(t.Context(), salvor, args...), exec.CommandContext(t.Context(), hello)} {
			began := time.Now()
			if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
				t.Fatal(err)
			}
			wall[i] = append(wall[i], time.Since(began))
			cpu[i] = append(cpu[i], cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
	}
	return startCost{median(cpu[0]), median(cpu[1]), median(wall[0]), median(wall[1])}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
