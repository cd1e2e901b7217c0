package datadir

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/salvor-dr/salvor/internal/pg"
)

// The tablespaces that every cluster has (pg_tablespace.dat).
const (
	DefaultTablespace pg.OID = 1663 // pg_default: base/
	GlobalTablespace  pg.OID = 1664 // pg_global: global/
)

// Fork tells the files of one relation apart (ForkNumber, relpath.h).
type Fork uint8

// The forks, with PostgreSQL's numbers.
const (
	ForkMain Fork = iota
	ForkFSM       // free space map
	ForkVM        // visibility map
	ForkInit      // what an unlogged relation is reset to after a crash
)

// String gives the name PostgreSQL uses in file names, and "main".
func (f Fork) String() string {
	switch f {
	case ForkMain:
		return "main"
	case ForkFSM:
		return "fsm"
	case ForkVM:
		return "vm"
	case ForkInit:
		return "init"
	}
	return fmt.Sprintf("Fork(%d)", uint8(f))
}

// Relation says what a file of pages is: a segment of a fork of a relation.
type Relation struct {
	Tablespace pg.OID
	Database   pg.OID // zero for what the whole cluster shares (global/)
	Number     uint32 // relfilenode, not the OID of the table
	Fork       Fork
	Segment    uint32 // the file holds the fork's pages from Segment*Sizes.SegmentBlocks on
}

// ParseRelation reads the path of a relation's file, relative to the data
// directory and with slashes:
//
//	base/<database>/<file>
//	global/<file>
//	pg_tblspc/<tablespace>/PG_<major>_<catalog version>/<database>/<file>
//
// where file is the relation's number, then _fsm, _vm or _init, then a dot and
// the segment from 1 on. Numbers have no leading zeros. Files of temporary
// relations, for which see IsTemp, and every other file give false
// (relpathbackend, relpath.c; parse_filename_for_nontemp_relation, reinit.c).
func ParseRelation(path string) (Relation, bool) {
	dir, name, ok := cutLast(path)
	if !ok {
		return Relation{}, false
	}
	space, db, ok := parseRelationDir(dir)
	if !ok {
		return Relation{}, false
	}
	r, ok := parseRelationName(name)
	r.Tablespace, r.Database = space, db
	return r, ok
}

// IsTemp says whether the path is of a file of a temporary relation, whose name
// has the form t<backend>_<number>: it belongs to a session and is worth nothing
// after it (looks_like_temp_rel_name, fd.c). The shared relations of global/ are
// never temporary.
func IsTemp(path string) bool {
	dir, name, ok := cutLast(path)
	if !ok {
		return false
	}
	_, db, ok := parseRelationDir(dir)
	return ok && db != 0 && isTempName(name)
}

func isTempName(name string) bool {
	rest, ok := strings.CutPrefix(name, "t")
	backend, file, ok2 := strings.Cut(rest, "_")
	if !ok || !ok2 || backend == "" || strings.Trim(backend, "0123456789") != "" {
		return false
	}
	_, ok = parseRelationName(file)
	return ok
}

// parseRelationDir reads the path of a directory that holds relations.
func parseRelationDir(dir string) (space, db pg.OID, ok bool) {
	if dir == "global" {
		return GlobalTablespace, 0, true
	}
	parent, name, ok := cutLast(dir)
	if !ok {
		return 0, 0, false
	}
	n, ok := parseNumber(name)
	if !ok {
		return 0, 0, false
	}
	db = pg.OID(n)
	if parent == "base" {
		return DefaultTablespace, db, true
	}
	inTblspc, ok := strings.CutPrefix(parent, "pg_tblspc/")
	oid, version, ok2 := strings.Cut(inTblspc, "/")
	n, ok3 := parseNumber(oid)
	if !ok || !ok2 || !ok3 || !isVersionDirectory(version) {
		return 0, 0, false
	}
	return pg.OID(n), db, true
}

func isVersionDirectory(name string) bool {
	rest, ok := strings.CutPrefix(name, "PG_")
	major, catalog, ok2 := strings.Cut(rest, "_")
	_, ok3 := parseNumber(major)
	_, ok4 := parseNumber(catalog)
	return ok && ok2 && ok3 && ok4
}

// parseRelationName reads the name of a relation's file without its directory.
func parseRelationName(name string) (r Relation, ok bool) {
	rest, segment, hasSegment := strings.Cut(name, ".")
	if hasSegment {
		if r.Segment, ok = parseNumber(segment); !ok {
			return Relation{}, false
		}
	}
	number, fork, hasFork := strings.Cut(rest, "_")
	if hasFork {
		switch fork {
		case "fsm":
			r.Fork = ForkFSM
		case "vm":
			r.Fork = ForkVM
		case "init":
			r.Fork = ForkInit
		default:
			return Relation{}, false
		}
	}
	if r.Number, ok = parseNumber(number); !ok {
		return Relation{}, false
	}
	return r, true
}

// parseNumber reads a number as PostgreSQL writes it into file names: decimal,
// of 32 bits, not zero, without leading zeros or a sign.
func parseNumber(s string) (uint32, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// cutLast divides a path at its last slash.
func cutLast(path string) (dir, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}
