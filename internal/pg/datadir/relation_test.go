package datadir

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseRelation(t *testing.T) {
	tests := []struct {
		path string
		want Relation
	}{
		{"base/5/1259", Relation{1663, 5, 1259, ForkMain, 0}},
		{"base/5/1259_fsm", Relation{1663, 5, 1259, ForkFSM, 0}},
		{"base/5/1259_vm.3", Relation{1663, 5, 1259, ForkVM, 3}},
		{"base/5/1259_init", Relation{1663, 5, 1259, ForkInit, 0}},
		{"base/4294967295/4294967295.4294967295", Relation{1663, 4294967295, 4294967295, ForkMain, 4294967295}},
		{"global/1262", Relation{1664, 0, 1262, ForkMain, 0}},
		{"global/1262_vm", Relation{1664, 0, 1262, ForkVM, 0}},
		{"pg_tblspc/16389/PG_15_202209061/16384/2619.12", Relation{16389, 16384, 2619, ForkMain, 12}},
		{"pg_tblspc/16389/PG_9_201608131/16384/2619", Relation{16389, 16384, 2619, ForkMain, 0}},
	}
	for _, tt := range tests {
		got, ok := ParseRelation(tt.path)
		if !ok || got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.path, got, ok, tt.want)
		}
		if IsTemp(tt.path) {
			t.Errorf("%s is called temporary", tt.path)
		}
		if n := testing.AllocsPerRun(10, func() { ParseRelation(tt.path) }); n != 0 {
			t.Errorf("%s: %v allocations", tt.path, n)
		}
	}
}

func TestFilesThatAreNoRelation(t *testing.T) {
	for _, path := range strings.Fields(`
		1259 base/1259 base/5/PG_VERSION base/5/pg_filenode.map base/5/pg_internal.init global/pg_control
		global/pg_filenode.map base/5/0 base/5/01259 base/5/+1259 base/5/4294967296 base/5/1259_ base/5/1259_foo
		base/5/1259_fsm_vm base/5/1259. base/5/1259.0 base/5/1259.01 base/5/1259.1.2 base/5/1259.1_fsm base/5/.1
		base/05/1259 base/x/1259 base/5/5/1259 base//1259 /base/5/1259 base/5/ base/5 global/5/1259 based/5/1259
		pg_xact/0000 pg_multixact/offsets/0000 pg_tblspc/16389/PG_15_202209061/1259 pg_tblspc/16389/16384/2619
		pg_tblspc/x/PG_15_202209061/16384/2619 pg_tblspc/16389/PG_15/16384/2619 pg_tblspc/16389/pg_15_2/16384/2619
		pg_tblspc/16389/PG_15_202209061/16384/x/2619 base/5/t3_16400 base/pgsql_tmp/pgsql_tmp1.0`) {
		if r, ok := ParseRelation(path); ok {
			t.Errorf("%s is taken for %+v", path, r)
		}
	}
	if _, ok := ParseRelation(""); ok {
		t.Error("the empty path is taken for a relation")
	}
}

func TestIsTemp(t *testing.T) {
	for path, want := range map[string]bool{
		"base/5/t3_16400":                             true,
		"base/5/t0_16400":                             true,
		"base/5/t123_16400_fsm":                       true,
		"base/5/t123_16400.2":                         true,
		"pg_tblspc/16389/PG_15_202209061/5/t3_1_vm.1": true,
		"base/5/t_16400":                              false,
		"base/5/t3_":                                  false,
		"base/5/t3":                                   false,
		"base/5/tx_16400":                             false,
		"base/5/t3_16400_foo":                         false,
		"base/5/3_16400":                              false,
		"global/t3_16400":                             false,
		"t3_16400":                                    false,
		"log/t3_16400":                                false,
	} {
		if got := IsTemp(path); got != want {
			t.Errorf("IsTemp(%s) = %v", path, got)
		}
	}
}

// path writes a relation's path, for a cluster of one version.
func (r Relation) path() string {
	dir := fmt.Sprintf("pg_tblspc/%d/PG_15_202209061/%d", r.Tablespace, r.Database)
	switch r.Tablespace {
	case DefaultTablespace:
		dir = fmt.Sprintf("base/%d", r.Database)
	case GlobalTablespace:
		dir = "global"
	}
	name := fmt.Sprint(r.Number)
	if r.Fork != ForkMain {
		name += "_" + r.Fork.String()
	}
	if r.Segment > 0 {
		name += fmt.Sprintf(".%d", r.Segment)
	}
	return dir + "/" + name
}

// What is accepted is written in one way only.
func FuzzParseRelation(f *testing.F) {
	for _, path := range []string{
		"base/5/1259_fsm.3", "global/1262", "pg_tblspc/16389/PG_15_202209061/5/2619",
		"pg_tblspc/1663/PG_15_202209061/5/2619", "base/5/t3_16400", "",
	} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, ok := ParseRelation(path)
		if IsTemp(path) && ok {
			t.Fatalf("%q is both", path)
		}
		if !ok || strings.HasPrefix(path, "pg_tblspc/") && (!strings.Contains(path, "/PG_15_202209061/") || r.Tablespace == DefaultTablespace || r.Tablespace == GlobalTablespace) {
			return
		}
		if got := r.path(); got != path {
			t.Fatalf("%q was read as %+v, which is %q", path, r, got)
		}
	})
}
