package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/examples/swifteats"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

// demoFlags are the options of salvor demo.
type demoFlags struct {
	keep   bool
	dir    string
	orders int
}

func demoCommand(s *session) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Back up, break and restore a database on this machine",
		GroupID: groupSetup,
		Long: `Play the whole story on this machine, with nothing simulated: a food delivery
platform on a PostgreSQL found here, a backup while customers order, an
accident, and a recovery to just before it, beside the original. Then compare,
count what was lost and show how long it took.

It needs the programs of a PostgreSQL from 14 to 18, touches no other server,
listens on no network, and removes everything at the end.`,
		Args: positional(),
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.keep, "keep", false, "leave the servers running, and every file")
	fl.StringVar(&f.dir, "dir", "", "`directory` to work in, new or empty (else a temporary one)")
	fl.IntVar(&f.orders, "orders", 30000, "how many past orders the database has; 100000 take 90 MB")
	cmd.RunE = s.run(func(ctx context.Context, _ []string) error { return s.demo(ctx, f) })
	return cmd
}

// demoView is how it went, in documents.
type demoView struct {
	OK           bool            `json:"ok"`
	RTO          float64         `json:"rto_seconds"` // from the decision to restore until the first answer
	RPO          float64         `json:"rpo_seconds"` // age of the oldest lost order at the accident; 0 if none is lost
	Lost         int             `json:"lost_orders"` // acknowledged before the accident, and not recovered
	Orders       int64           `json:"orders"`      // recovered
	Acknowledged int             `json:"acknowledged_orders"`
	Database     int64           `json:"database_bytes"`
	Version      string          `json:"server_version"`
	Target       stamp           `json:"target_time"`
	Seconds      float64         `json:"duration_seconds"`
	Backup       json.RawMessage `json:"backup"`
	Incremental  json.RawMessage `json:"incremental"`
	Restore      json.RawMessage `json:"restore"`
	Checks       []demoCheck     `json:"checks"`
	Steps        []demoStep      `json:"steps"`
	Kept         []demoServer    `json:"kept,omitempty"` // with --keep
}

type demoCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

type demoStep struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"duration_seconds"`
}

// demoServer is a server that is left running.
type demoServer struct {
	DataDir   string `json:"data_dir"`
	SocketDir string `json:"socket_dir"`
	Port      int    `json:"port"`
}

// demoBackup and demoRestore are what the story takes from salvor's own documents.
type demoBackup struct {
	ID      string  `json:"id"`
	Size    int64   `json:"size_bytes"`
	Read    int64   `json:"read_bytes"`
	Stored  int64   `json:"stored_bytes"`
	Seconds float64 `json:"duration_seconds"`
}

type demoRestore struct {
	Restored int64   `json:"restored_bytes"`
	Seconds  float64 `json:"duration_seconds"`
	Port     int     `json:"server_port"`
	Proof    string  `json:"proof_id"`
}

// demo is the state of a play.
type demo struct {
	*session
	demoFlags
	*stage
	load *load
	tell story
	view demoView

	backup, incremental demoBackup
	restore             demoRestore

	before   []fingerprint // of each table, at the moment
	promised []ack         // before the accident
	broken   time.Time     // when the accident was committed
	recent   int           // orders acknowledged when the recovery began
}

func (s *session) demo(ctx context.Context, f demoFlags) error {
	if f.orders < 1 {
		return usageError("", "--orders must be 1 or more")
	}
	forgetVariables()
	ctx, stop := untilUnheard(ctx)
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	began := s.clock.Now()
	d := &demo{session: s, demoFlags: f, tell: story{s.stdout, new(int)}, load: &load{clock: s.clock, fail: fail}}
	if s.quiet {
		d.tell.w = io.Discard
	} else if s.output != outputTable {
		d.tell.w = s.stderr
	}
	var err error
	if d.stage, err = openStage(ctx, f.dir); err != nil {
		return err
	}
	if err := d.play(ctx); err != nil {
		return err
	}
	d.view.Seconds = seconds(s.clock.Now().Sub(began))
	return d.score()
}

// forgetVariables drops what the environment says about the user's own servers: no
// step of the demo, and no command that its PostgreSQL runs, may go by that.
func forgetVariables() {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "SALVOR_") || strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // it is set, so the name is good
		}
	}
}

// untilUnheard ends a context also when the terminal or the reader of the story goes
// away, for then, too, there is to clean up.
func untilUnheard(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, signals...)
}

// play plays it all, and cleans up whatever happens.
func (d *demo) play(ctx context.Context) (err error) {
	defer func() {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if endErr := d.end(); err == nil {
			err = endErr
		} else if endErr != nil {
			d.log.Error("cleaning up", "error", endErr)
		}
	}()
	d.tell.opening(d.stage)
	for _, step := range []struct {
		name, heading string
		do            func(context.Context) error
	}{
		{"database", "A database with a past, and customers who go on ordering", d.makeDatabase},
		{"init", "A repository, its keys, and an archive for the WAL", d.initialise},
		{"backup", "A full backup, while customers order", d.takeBackup},
		{"day", "The day goes on", d.waitForOrders},
		{"incremental", "An incremental backup: it reads what the WAL says has changed", d.takeIncremental},
		{"load", "And on: these orders are in no backup, only in the WAL", d.waitForOrders},
		{"accident", "The accident: a clean-up script lost its WHERE", d.accident},
		{"recovery", "Recovery to just before it, beside the original", d.recovery},
		{"proof", "The proof", d.prove},
	} {
		began := d.clock.Now()
		d.tell.heading(step.heading)
		if err := step.do(ctx); err != nil {
			return err
		}
		took := d.clock.Now().Sub(began)
		d.tell.say("(%s)", formatDuration(took))
		d.view.Steps = append(d.view.Steps, demoStep{step.name, seconds(took)})
	}
	return nil
}

// end stops the customers and, unless everything is to be kept, leaves nothing.
func (d *demo) end() error {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // it takes moments, and must be done
	d.load.end()
	if !d.keep {
		return d.stage.close()
	}
	d.view.Kept = d.servers()
	if d.quiet {
		d.tell.w = d.stderr
	}
	d.tell.kept(d.stage)
	return nil
}

func (d *demo) makeDatabase(ctx context.Context) error {
	if err := d.startOriginal(ctx, d.tell); err != nil {
		return err
	}
	db, err := d.open(ctx, d.ports[0], "postgres")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Exec(ctx, "CREATE DATABASE swifteats"); err != nil {
		return err
	}
	d.view.Version = db.Version().String()
	shop, err := d.open(ctx, d.ports[0], demoDatabase)
	if err != nil {
		return err
	}
	defer shop.Close()
	if err := swifteats.Create(ctx, shop); err != nil {
		return err
	}
	if err := swifteats.Fill(ctx, shop, d.orders, 1); err != nil {
		return err
	}
	for range demoSessions {
		db, err := d.open(ctx, d.ports[0], demoDatabase)
		if err != nil {
			return err
		}
		d.load.start(db)
	}
	d.tell.say("PostgreSQL %s runs, with %d past orders; %d a second come in", d.view.Version, d.orders, demoSessions*demoRate)
	return nil
}

func (d *demo) initialise(ctx context.Context) error {
	var v struct {
		SQL []string `json:"sql"`
	}
	repository := url.URL{Scheme: "file", Path: filepath.Join(d.root, "repository")}
	_, err := d.salvor(ctx, &v, "-c", d.configFile, "init", fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", d.sockets, d.ports[0], demoDatabase),
		"--repo", repository.String(), "--cluster", demoDatabase, "-o", "json")
	if err != nil {
		return err
	}
	d.tell.say("encrypted; the key that opens it is in %s", filepath.Join(d.root, "salvor.key"))
	db, err := d.open(ctx, d.ports[0], demoDatabase)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, sql := range v.SQL {
		d.tell.sql(sql)
		if err := db.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func (d *demo) takeBackup(ctx context.Context) (err error) {
	v, before := &d.backup, d.load.count()
	if d.view.Backup, err = d.salvor(ctx, v, "-c", d.configFile, "backup", "--kind", "full", "-o", "json"); err != nil {
		return err
	}
	d.tell.say("backup %s: %s read, %s stored; %d orders came in meanwhile", v.ID, formatBytes(v.Read), formatBytes(v.Stored), d.load.count()-before)
	return nil
}

func (d *demo) takeIncremental(ctx context.Context) (err error) {
	v, full := &d.incremental, d.backup
	if d.view.Incremental, err = d.salvor(ctx, v, "-c", d.configFile, "backup", "--kind", "incremental", "-o", "json"); err != nil {
		return err
	}
	d.tell.say("backup %s: %s read, %s stored, where the full one read %s and stored %s; it is restored as fast", v.ID,
		formatBytes(v.Read), formatBytes(v.Stored), formatBytes(full.Read), formatBytes(full.Stored))
	return nil
}

func (d *demo) waitForOrders(ctx context.Context) error {
	since := d.load.count()
	err := d.eventually(ctx, "new orders come in", func() (bool, error) { return d.load.count() >= since+demoOrdersAfter, nil })
	d.tell.say("%d orders since the backup, %d since the start", d.load.count()-since, d.load.count())
	return err
}

// recovery measures the RTO: from the decision to restore until the recovered server
// has answered a query.
func (d *demo) recovery(ctx context.Context) (err error) {
	decided, moment := d.clock.Now(), d.view.Target
	d.recent = d.load.count()
	if err := d.archiveAll(ctx, time.Time(moment)); err != nil {
		return err
	}
	v := &d.restore
	d.view.Restore, err = d.salvor(ctx, v, "-c", d.configFile, "restore", "--to", d.recovered, "--at", moment.String(),
		"--start", "--port", fmt.Sprint(d.ports[1]), "--socket-dir", d.sockets, "-o", "json")
	if err != nil {
		return err
	}
	db, err := d.open(ctx, d.ports[1], demoDatabase)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Row(ctx, "SELECT count(*) FROM public.orders", nil, &d.view.Orders); err != nil {
		return fmt.Errorf("asking the recovered server: %w", err)
	}
	d.view.RTO = seconds(d.clock.Now().Sub(decided))
	d.tell.say("%s restored, WAL replayed to the moment, server on port %d: %d orders", formatBytes(v.Restored), v.Port, d.view.Orders)
	if v.Proof != "" {
		d.tell.say("kept as proof %s, signed", v.Proof)
	}
	return nil
}

// archiveAll makes the server archive the WAL that it writes now, and waits until
// what was committed after the moment is there too: only that shows that the archive
// goes beyond it.
func (d *demo) archiveAll(ctx context.Context, moment time.Time) error {
	db, err := d.open(ctx, d.ports[0], demoDatabase)
	if err != nil {
		return err
	}
	defer db.Close()
	const sql = "SELECT pg_switch_wal();"
	d.tell.sql(sql)
	if err := db.Exec(ctx, sql); err != nil {
		return err
	}
	args := []string{"-c", d.configFile, "wal", "status", "-o", "json"}
	d.tell.command("salvor", args...)
	var v struct {
		Latest time.Time `json:"latest_recoverable_at"`
	}
	err = d.eventually(ctx, "the WAL of the accident is in the archive", func() (bool, error) {
		_, err := d.ask(ctx, &v, args...)
		return v.Latest.After(moment), err
	})
	d.tell.say("recoverable to %s", stamp(v.Latest))
	return err
}

// eventually waits until something is so, for as long as it may take on a busy machine.
func (d *demo) eventually(ctx context.Context, what string, is func() (bool, error)) error {
	patience := d.clock.After(time.Minute)
	for {
		if ok, err := is(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience:
			return fmt.Errorf("after a minute still not: %s", what)
		case <-d.clock.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) open(ctx context.Context, port int, database string) (*conn.Conn, error) {
	return conn.Open(ctx, conn.Config{DSN: "sslmode=disable", Host: d.sockets, Port: port, User: "postgres", Database: database, ApplicationName: demoDatabase})
}

// score prints the scoreboard.
func (d *demo) score() error {
	v := &d.view
	var failed []string
	for _, c := range v.Checks {
		if !c.OK {
			failed = append(failed, c.Name)
		}
	}
	v.OK = len(failed) == 0
	b, i, r := d.backup, d.incremental, d.restore
	t := table{columns: []column{{title: "scoreboard"}, {title: "measured", right: true}, {title: "what it is"}}, rows: [][]string{
		{"RTO", fmt.Sprintf("%.1f s", v.RTO), "from the decision to restore until the recovered server answered"},
		{"RPO", fmt.Sprintf("%.1f s", v.RPO), fmt.Sprintf("%d of %d orders acknowledged before the accident are lost", v.Lost, v.Acknowledged)},
		{"backup", fmt.Sprintf("%.1f s", b.Seconds), fmt.Sprintf("%s, %s stored, taken under load", formatBytes(b.Size), formatBytes(b.Stored))},
		{"incremental", fmt.Sprintf("%.1f s", i.Seconds), fmt.Sprintf("%s read, %s stored", formatBytes(i.Read), formatBytes(i.Stored))},
		{"restore", fmt.Sprintf("%.1f s", r.Seconds), fmt.Sprintf("%s restored, started and recovered to %s", formatBytes(r.Restored), v.Target)},
		{"database", formatBytes(v.Database), fmt.Sprintf("%d orders recovered, PostgreSQL %s", v.Orders, v.Version)},
		{"checks", fmt.Sprintf("%d of %d", len(v.Checks)-len(failed), len(v.Checks)), "hold; each is listed above"},
		{"all of it", fmt.Sprintf("%.1f s", v.Seconds), "from nothing to proof, on this machine"},
	}}
	if d.out.format == outputTable && !d.quiet {
		fmt.Fprintln(d.stdout)
	}
	if err := d.out.document(v, t); err != nil {
		return err
	}
	if !v.OK {
		return foundProblem("this is a bug in salvor: run the demo again with --keep, and report what it leaves", "does not hold: %s", strings.Join(failed, ", "))
	}
	return nil
}
