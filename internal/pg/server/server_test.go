package server

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const livePIDFile = `4711
/var/lib/postgresql/15/main
1763965439
5433
/var/run/postgresql
127.0.0.1
  9961586        24
ready   
`

func TestParsePIDFile(t *testing.T) {
	full := pidFile{
		pid: 4711, dataDir: "/var/lib/postgresql/15/main", started: time.Unix(1763965439, 0).UTC(),
		port: 5433, socketDir: "/var/run/postgresql", listenAddr: "127.0.0.1", state: StateReady,
	}
	with := func(change func(*pidFile)) pidFile { f := full; change(&f); return f }
	status := func(s string) string { return strings.Replace(livePIDFile, "ready   ", s, 1) }
	for _, tt := range []struct {
		name, data string
		want       pidFile
	}{
		{"ready", livePIDFile, full},
		{"standby", status("standby "), with(func(f *pidFile) { f.state = StateStandby })},
		{"stopping", status("stopping"), with(func(f *pidFile) { f.state = StateStopping })},
		{"a status nobody knows", status("dancing "), with(func(f *pidFile) { f.state = StateStarting })},
		{"standalone", "-" + livePIDFile, with(func(f *pidFile) { f.pid = -4711 })},
		{"no TCP, no socket", "7\n/d\n9\n5432\n\n\n", pidFile{pid: 7, dataDir: "/d", started: time.Unix(9, 0).UTC(), port: 5432, state: StateStarting}},
		{"just begun", "7\n/d\n", pidFile{pid: 7, dataDir: "/d", state: StateStarting}},
		{"line ends of Windows", "7\r\n/d\r\n", pidFile{pid: 7, dataDir: "/d", state: StateStarting}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parsePIDFile([]byte(tt.data))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(pidFile{})); d != "" {
				t.Error(d)
			}
		})
	}
	for _, bad := range []string{"", "\n", "x\n", "0\n", "99999999999\n", "-2147483648\n", strings.Repeat("1\n", pidFileMax)} {
		if f, err := parsePIDFile([]byte(bad)); err == nil {
			t.Errorf("%.20q was read as %+v", bad, f)
		}
	}
}

func FuzzParsePIDFile(f *testing.F) {
	f.Add([]byte(livePIDFile))
	f.Add([]byte("-1\n\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parsePIDFile(data)
		if err == nil && (got.pid == 0 || got.port < 0 || got.port > 65535 || got.state == StateNone) {
			t.Errorf("%q gives %+v", data, got)
		}
	})
}

func TestParseMajor(t *testing.T) {
	for s, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 19rc1":                            19,
		"postgres (PostgreSQL) 18devel":                          18,
		"postgres (PostgreSQL) 9.6.24":                           9,
		"postgres (PostgreSQL) ":                                 0,
		"EDB 15.1":                                               0,
		"":                                                       0,
	} {
		got, err := parseMajor(s)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q gives %d, %v; want %d", s, got, err, want)
		}
	}
}

func TestParseStatCountsFieldsFromTheLastParenthesis(t *testing.T) {
	const tail = " S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7 8"
	for _, name := range []string{"postgres", "a b", "a) S 9 (b", ""} {
		st, err := parseStat("4711 (" + name + ")" + tail)
		want := procStat{comm: name, state: 'S', parent: 1, start: 123450 * time.Millisecond}
		if err != nil || st != want {
			t.Errorf("%q gives %+v, %v", name, st, err)
		}
	}
	for _, bad := range []string{"", "1 postgres S", "1 (postgres) S 1", ")(", "1 (p)" + strings.Replace(tail, "12345", "-1", 1)} {
		if st, err := parseStat(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, st)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("4711 (postgres) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7 8")
	f.Fuzz(func(t *testing.T, s string) {
		if st, err := parseStat(s); err == nil && st.start < 0 {
			t.Errorf("%q gives %+v", s, st)
		}
	})
}

func TestArgsNeedNoShell(t *testing.T) {
	o := StartOptions{
		BinDir: "/bin", DataDir: "/d", Port: 6000, SocketDir: "/a, b", HBAFile: "/etc/hba",
		Set: map[string]string{"restore_command": `cp "/x/%f" '%p' $(y)`, "archive_mode": "off", "my.setting": ""},
	}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"-D", "/d", "-c", "port=6000", "-c", `unix_socket_directories="/a, b"`, "-c", "hba_file=/etc/hba",
		"-c", "archive_mode=off", "-c", "my.setting=", "-c", `restore_command=cp "/x/%f" '%p' $(y)`,
	}
	if d := cmp.Diff(want, o.args()); d != "" {
		t.Error(d)
	}
}

func TestStartOptionsAreChecked(t *testing.T) {
	good := StartOptions{BinDir: "/b", DataDir: "/d"}
	for name, change := range map[string]func(*StartOptions){
		"relative BinDir":  func(o *StartOptions) { o.BinDir = "b" },
		"relative DataDir": func(o *StartOptions) { o.DataDir = "d" },
		"port":             func(o *StartOptions) { o.Port = 65536 },
		"timeout":          func(o *StartOptions) { o.Timeout = -1 },
		"setting's name":   func(o *StartOptions) { o.Set = map[string]string{"a b": ""} },
		"no name":          func(o *StartOptions) { o.Set = map[string]string{"": ""} },
		"zero byte":        func(o *StartOptions) { o.Set = map[string]string{"a": "\x00"} },
	} {
		o := good
		change(&o)
		if o.validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestConfigLineQuotes(t *testing.T) {
	got, err := ConfigLine("archive_command", "a 'b' \\ c\nd")
	if want := "archive_command = 'a ''b'' \\\\ c\\nd'\n"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if got, err := ConfigLine("a'b", ""); err == nil {
		t.Errorf("a name with a quote gives %q", got)
	}
}

func TestCleanEnv(t *testing.T) {
	got := cleanEnv([]string{"PATH=/bin", "PGPORT=1", "NOTIFY_SOCKET=/x", "LISTEN_FDS=3", "WATCHDOG_USEC=1", "LANG=C"})
	if want := []string{"PATH=/bin", "LANG=C"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOwnerMustNotBeRoot(t *testing.T) {
	if cred, err := credentialFor("/"); !errors.Is(err, ErrOwner) {
		t.Errorf("for a directory of root: %+v, %v", cred, err)
	}
}

func TestTailIsOfThisStartAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, []byte("before\nnow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(name, 7); got != "now" {
		t.Errorf("got %q", got)
	}
}
