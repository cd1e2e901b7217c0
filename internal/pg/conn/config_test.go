package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"
)

func TestParseDSN(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGPORT", "PGPASSWORD", "PGDATABASE", "PGSERVICE", "PGAPPNAME", "PGCONNECT_TIMEOUT", "PGSSLMODE"} {
		t.Setenv(name, "")
	}
	t.Setenv("PGUSER", "envuser")
	t.Setenv("PGPASSFILE", "/dev/null")
	for _, tt := range []struct {
		dsn  string
		want Config
	}{
		{
			"postgres://chef:s%40lt@db.example:5433/kitchen?connect_timeout=7&application_name=oven&sslmode=disable",
			Config{Host: "db.example", Port: 5433, User: "chef", Password: "s@lt", Database: "kitchen", ConnectTimeout: 7 * time.Second, ApplicationName: "oven"},
		},
		{
			`host=/run/pg port=6000 user='the chef' password='it\'s' dbname=kitchen`,
			Config{Host: "/run/pg", Port: 6000, User: "the chef", Password: "it's", Database: "kitchen"},
		},
		{"host=db port=5432", Config{Host: "db", Port: 5432, User: "envuser"}},
	} {
		tt.want.DSN = tt.dsn
		got, err := ParseDSN(tt.dsn)
		if err != nil {
			t.Errorf("%s: %v", tt.dsn, err)
			continue
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.dsn, d)
		}
	}
}

func TestFieldsWinOverDSN(t *testing.T) {
	for _, dsn := range []string{"host=a port=1 user=u password=p dbname=d sslmode=disable", "postgres://u:p@a:1/d?sslmode=disable", "postgres://u:p@a:1/d"} {
		p, err := (Config{DSN: dsn, Host: "/b c", Port: 2, Password: `x'\ &?`}).driverConfig()
		if err != nil {
			t.Fatal(err)
		}
		if p.Host != "/b c" || p.Port != 2 || p.User != "u" || p.Password != `x'\ &?` || p.Database != "d" {
			t.Errorf("%s gives %s %d %s %q %s", dsn, p.Host, p.Port, p.User, p.Password, p.Database)
		}
	}
}

func TestDSNWithSeveralHostsStaysWhole(t *testing.T) {
	c, err := ParseDSN("host=a,b port=1,2 user=u sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.driverConfig()
	if err != nil || p.Host != "a" || len(p.Fallbacks) != 1 || p.Fallbacks[0].Host != "b" || p.Fallbacks[0].Port != 2 {
		t.Errorf("got %s, %v, %v", p.Host, p.Fallbacks, err)
	}
}

// Any text in the fields reaches the driver as it is.
func TestConfigReachesTheDriver(t *testing.T) {
	text := rapid.StringMatching(`[a-zA-Z0-9 '"\\=&?@:/%,#é-]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		c := Config{
			DSN:  rapid.SampledFrom([]string{"", "sslmode=disable", "postgres://?sslmode=disable", "postgresql://h/x"}).Draw(t, "dsn"),
			Host: "db.example", Port: rapid.IntRange(1, 65535).Draw(t, "port"),
			User: text.Draw(t, "user"), Password: text.Draw(t, "password"), Database: text.Draw(t, "database"),
		}
		p, err := c.driverConfig()
		if err != nil {
			t.Fatal(err)
		}
		if p.Host != c.Host || int(p.Port) != c.Port || p.User != c.User || p.Password != c.Password || p.Database != c.Database {
			t.Fatalf("%#v became %s %d %q %q %q", c, p.Host, p.Port, p.User, p.Password, p.Database)
		}
	})
}

func TestBrokenDSNKeepsItsPassword(t *testing.T) {
	const secret = "s3cr3t"
	for _, dsn := range []string{
		"postgres://u:" + secret + "/more@h:99999/d", "postgres://u:" + secret + "@h:port/d", "postgres://u:" + secret + "%zz@h/d",
		"host=h password='" + secret, "password=" + secret + " sslmode=never", "host=h " + secret, "postgres://h:" + secret,
		"password=" + secret + " port=" + secret, "password=" + secret + " connect_timeout=" + secret,
	} {
		_, err := ParseDSN(dsn)
		if err == nil {
			continue // some of them are fine after all
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	if _, err := ParseDSN("host=h password='" + secret); err == nil {
		t.Error("a string that does not end is accepted")
	}
}

func FuzzParseDSN(f *testing.F) {
	f.Add("postgres://u:p@h:1,h2:2/d?sslmode=disable")
	f.Add(`host=/run user='a b' password='\''`)
	f.Add("postgres://[::1]:5432/")
	f.Fuzz(func(t *testing.T, dsn string) {
		if strings.Contains(dsn, "service") || strings.Contains(dsn, "file") || strings.Contains(dsn, "ssl") {
			t.Skip("names files")
		}
		c, err := ParseDSN(dsn)
		if err == nil && (c.Port < 0 || c.Port > 65535) {
			t.Errorf("%q gives port %d", dsn, c.Port)
		}
	})
}

func TestConfigIsShownWithoutPassword(t *testing.T) {
	c := Config{DSN: "password=s3cr3t", Host: "/run/pg", Port: 5433, User: "u", Password: "s3cr3t", Database: "d"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c)
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%v", &c), log.String()} {
		if strings.Contains(s, "s3cr3t") || !strings.Contains(s, "/run/pg/.s.PGSQL.5433 as u, database d") {
			t.Errorf("shown as %s", s)
		}
	}
}

func TestErrorsAreSorted(t *testing.T) {
	state := func(code string) error { return fmt.Errorf("asking: %w", &pgconn.PgError{Code: code}) }
	at := func(err error) error { return fmt.Errorf("x: %w", &ConnectError{Err: err}) }
	for _, tt := range []struct {
		err                       error
		unavailable, auth, denied bool
	}{
		{err: nil},
		{err: errors.New("other")},
		{err: state("57P03"), unavailable: true},
		{err: state("57P01"), unavailable: true},
		{err: state("57P02"), unavailable: true},
		{err: state("53300"), unavailable: true},
		{err: state("08006"), unavailable: true},
		{err: state("57014")}, // query_canceled
		{err: state("3D000")}, // no such database
		{err: state("28P01"), auth: true},
		{err: state("28000"), auth: true},
		{err: state("42501"), denied: true},
		{err: &MissingPrivilege{}, denied: true},
		{err: at(syscall.ECONNREFUSED), unavailable: true},
		{err: at(context.DeadlineExceeded), unavailable: true}, // of the connection, not the caller
		{err: at(io.ErrUnexpectedEOF), unavailable: true},
		{err: at(errors.New("certificate"))},
		{err: &ConnectError{Err: context.Canceled, ended: true}},
		{err: &ConnectError{Err: context.DeadlineExceeded, ended: true}},
		{err: context.DeadlineExceeded},
		{err: fmt.Errorf("x: %w: %w", ErrLost, io.EOF), unavailable: true},
		{err: ErrRoleChanged},
	} {
		if u, a, d := Unavailable(tt.err), AuthFailed(tt.err), PermissionDenied(tt.err); u != tt.unavailable || a != tt.auth || d != tt.denied {
			t.Errorf("%v: unavailable %v, auth %v, denied %v", tt.err, u, a, d)
		}
	}
}

func TestSplitList(t *testing.T) {
	for s, want := range map[string][]string{
		"":                     nil,
		"/run/postgresql":      {"/run/postgresql"},
		"/a, /b ,/c":           {"/a", "/b", "/c"},
		`"/a, ""x""" , /b`:     {`/a, "x"`, "/b"},
		`"/a`:                  {"/a"},
		" , ":                  nil,
		"/run/postgresql,/tmp": {"/run/postgresql", "/tmp"},
	} {
		if d := cmp.Diff(want, splitList(s)); d != "" {
			t.Errorf("%q: %s", s, d)
		}
	}
}

func TestLabelIsCompared(t *testing.T) {
	b := Backup{StartLSN: 0x2000028, Timeline: 3}
	const label = "START WAL LOCATION: 0/2000028 (file 000000030000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n" +
		"BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-24 06:50:00 UTC\nLABEL: START TIMELINE: 9\nSTART TIMELINE: 3\n"
	if err := b.checkLabel(StopResult{StopLSN: 0x2000100, Label: []byte(label)}); err != nil {
		t.Errorf("a good label: %v", err)
	}
	for name, r := range map[string]StopResult{
		"other start":                {StopLSN: 0x2000100, Label: []byte(strings.Replace(label, "0/2000028", "0/3000028", 1))},
		"other timeline":             {StopLSN: 0x2000100, Label: []byte(strings.Replace(label, "\nSTART TIMELINE: 3", "\nSTART TIMELINE: 4", 1))},
		"no timeline":                {StopLSN: 0x2000100, Label: []byte(strings.Replace(label, "\nSTART TIMELINE: 3", "", 1))},
		"stop before":                {StopLSN: 0x2000000, Label: []byte(label)},
		"no label":                   {StopLSN: 0x2000100},
		"a start that can't be read": {StopLSN: 0x2000100, Label: []byte(strings.Replace(label, "0/2000028", "0-2000028", 1))},
	} {
		if err := b.checkLabel(r); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSystemIdentifierIsUnsigned(t *testing.T) {
	for s, want := range map[string]uint64{"7575757575757575757": 7575757575757575757, "-2": 1<<64 - 2} {
		if got, err := parseSystemID(s); err != nil || uint64(got) != want {
			t.Errorf("%s gives %d, %v", s, got, err)
		}
	}
	if got, err := parseSystemID("x"); err == nil {
		t.Errorf("x gives %d", got)
	}
}
