package system

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/datadir"
)

const pageSize = 8192

// page is a page of a relation, of which mask clears what means nothing to PostgreSQL:
// two servers that have done the same may differ in it (the masks that
// wal_consistency_checking uses: access/common/bufmask.c, and each access method's own).
type page []byte

func (p page) u16(at int) int { return int(binary.LittleEndian.Uint16(p[at:])) }

func (p page) lower() int   { return p.u16(12) }
func (p page) upper() int   { return p.u16(14) }
func (p page) special() int { return p.u16(16) }

// mask clears hints, free space, LSN and checksum. A page without any row is like one
// that was never written: new pages may be made ready without WAL.
func (p page) mask(fork datadir.Fork) {
	clear(p[:10]) // pd_lsn, pd_checksum
	if fork == datadir.ForkVM || !p.sane() {
		return
	}
	p[10] &^= 1 | 2 | 4 // PD_HAS_FREE_LINES, PD_PAGE_FULL, PD_ALL_VISIBLE
	clear(p[20:24])     // pd_prune_xid
	if p.lower() > 24 {
		clear(p[p.lower():p.upper()])
	}
	special := p[p.special():]
	switch kind := p.u16(pageSize - 2); {
	case len(special) == 0:
		p.maskHeap()
		if p.lower() == 24 && p.upper() == pageSize {
			clear(p)
		}
	case len(special) == 16 && kind == 0xFF80: // hash
		p.maskFlags()
		special[12] &^= 1 << 7 // LH_PAGE_HAS_DEAD_TUPLES
	case len(special) == 16 && kind == 0xFF81: // GiST
		clear(special[:8]) // nsn
		p.maskFlags()
		special[12] &^= 1<<2 | 1<<4 // F_TUPLES_DELETED, F_HAS_GARBAGE
		special[12] &^= 1 << 3      // F_FOLLOW_RIGHT
		if special[12]&2 != 0 {     // deleted
			clear(p[24:p.special()])
		}
	case len(special) == 16: // B-tree
		flags := binary.LittleEndian.Uint16(special[12:])
		binary.LittleEndian.PutUint16(special[12:], flags&^(1<<6)) // BTP_HAS_GARBAGE
		clear(special[14:])                                        // cycle ID
		if flags&1 != 0 {
			p.maskFlags()
		}
	case kind == 0xFF82 && special[0]&1 != 0: // metapage of SP-GiST: pages with room
		clear(p[24:p.special()])
	}
}

// sane says whether it has a header; zeros have none.
func (p page) sane() bool {
	return p.lower() >= 24 && p.lower() <= p.upper() && p.upper() <= p.special() && p.special() <= pageSize
}

// items gives the line pointers.
func (p page) items() (at []int) {
	for i := 24; i < p.lower(); i += 4 {
		at = append(at, i)
	}
	return at
}

// maskFlags clears the line pointers' flags, which an index changes without WAL.
func (p page) maskFlags() {
	for _, at := range p.items() {
		v := binary.LittleEndian.Uint32(p[at:])
		binary.LittleEndian.PutUint32(p[at:], v&^(3<<15))
	}
}

// maskHeap clears the hints of rows, and what lies between them.
func (p page) maskHeap() {
	const (
		xminHints, frozen = 0x0300, 0x0300
		xmaxHints         = 0x0400 | 0x0800
	)
	used := make([]bool, pageSize)
	for i := range p.upper() {
		used[i] = true
	}
	for _, at := range p.items() {
		v := binary.LittleEndian.Uint32(p[at:])
		offset, flags, length := int(v&0x7FFF), v>>15&3, int(v>>17)
		if flags != 1 || offset+length > pageSize || length < 23 { // LP_NORMAL
			continue
		}
		for i := range length {
			used[offset+i] = true
		}
		row := p[offset:]
		info := binary.LittleEndian.Uint16(row[20:])
		if info&xminHints == frozen {
			info &^= xmaxHints
		} else {
			info &^= xminHints | xmaxHints
		}
		binary.LittleEndian.PutUint16(row[20:], info)
		clear(row[8:12]) // t_cid
	}
	for i, is := range used {
		if !is {
			p[i] = 0
		}
	}
}

// relations reads the files of relations below a data directory, with pages masked,
// and without free space maps, which are hints. Files and ends of files that are
// nothing but zeros are left out.
func relations(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all, seen := map[string][]byte{}, map[string][]byte{}
	var walk func(prefix, dir string) error
	walk = func(prefix, dir string) error {
		return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := filepath.Join(prefix, strings.TrimPrefix(path, dir))
			if d.Type()&fs.ModeSymlink != 0 && filepath.Dir(name) == "pg_tblspc" {
				to, err := filepath.EvalSymlinks(path)
				if err != nil {
					return err
				}
				return walk(name, to)
			}
			r, is := datadir.ParseRelation(name)
			if !is || r.Fork == datadir.ForkFSM || !d.Type().IsRegular() {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			seen[name] = visible(r, data)
			for at := 0; at+pageSize <= len(data); at += pageSize {
				page(data[at : at+pageSize]).mask(r.Fork)
			}
			if data = bytes.TrimRight(data, "\x00"); len(data) > 0 {
				all[name] = data
			}
			return nil
		})
	}
	if err := walk("", dir); err != nil {
		t.Fatal(err)
	}
	for name, rows := range seen {
		for n, is := range seen[name+"_vm"] {
			if is == 1 && n < len(rows) && rows[n] == 0 {
				t.Errorf("%s, page %d: the visibility map says that all its rows are visible, and it does not", name, n)
			}
		}
	}
	return all
}

// visible gives a byte for each page of a heap: whether it says that all of its rows are
// visible; or, of a visibility map, for each page of its heap whether the map says so.
func visible(r datadir.Relation, data []byte) []byte {
	var out []byte
	for at := 0; at+pageSize <= len(data); at += pageSize {
		p := page(data[at : at+pageSize])
		switch {
		case r.Fork == datadir.ForkMain && p.sane():
			out = append(out, p[10]>>2&1)
		case r.Fork == datadir.ForkMain:
			out = append(out, 0)
		case r.Fork == datadir.ForkVM:
			for _, b := range p[24:] {
				out = append(out, b&1, b>>2&1, b>>4&1, b>>6&1)
			}
		}
	}
	return out
}

// sameRelations says where the relations of two data directories differ in what means
// something.
func sameRelations(t *testing.T, what, a, b string) {
	t.Helper()
	one, two := relations(t, a), relations(t, b)
	said := 0
	say := func(format string, args ...any) {
		if said++; said < 20 {
			t.Errorf(what+": "+format, args...)
		}
	}
	for name, data := range one {
		other := two[name]
		delete(two, name)
		if bytes.Equal(data, other) {
			continue
		}
		for at := 0; at < max(len(data), len(other)); at += pageSize {
			x, y := piece(data, at), piece(other, at)
			if i := differsAt(x, y); i >= 0 {
				say("%s, page %d differs at byte %d: %x and %x", name, at/pageSize, i, x[i&^15:min(len(x), i&^15+16)], y[i&^15:min(len(y), i&^15+16)])
			}
		}
	}
	for name, data := range two {
		say("%s, of %d bytes, is in one only", name, len(data))
	}
}

// piece is a page at a place, with zeros where there is nothing.
func piece(b []byte, at int) []byte {
	p := make([]byte, pageSize)
	if at < len(b) {
		copy(p, b[at:min(len(b), at+pageSize)])
	}
	return p
}

func differsAt(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
