package datadir

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/salvor-dr/salvor/internal/pg"
)

// TablespaceMapPathMax is the longest location PostgreSQL reads from a
// tablespace_map, in bytes (MAXPGPATH with the closing zero).
const TablespaceMapPathMax = 1023

// Tablespace is one line of a tablespace_map: a link in pg_tblspc and where it
// leads.
type Tablespace struct {
	OID      pg.OID
	Location string
}

// ParseTablespaceMap reads the contents of a tablespace_map: a line for each
// tablespace, its OID, one space, its location. A backslash takes the special
// meaning from the character after it, so that a location may contain newlines
// (read_tablespace_map, xlogrecovery.c).
func ParseTablespaceMap(data []byte) ([]Tablespace, error) {
	var spaces []Tablespace
	var line []byte
	escaped := false
	for _, ch := range data {
		switch {
		case escaped:
			line = append(line, ch)
			escaped = false
		case ch == '\\':
			escaped = true
		case ch != '\n' && ch != '\r':
			line = append(line, ch)
		case len(line) > 0: // otherwise the newline of \r\n
			t, err := parseTablespace(line)
			if err != nil {
				return nil, fmt.Errorf("tablespace_map: line %d: %w", len(spaces)+1, err)
			}
			spaces = append(spaces, t)
			line = line[:0]
		}
	}
	if len(line) > 0 || escaped {
		return nil, fmt.Errorf("tablespace_map: the last line is cut off")
	}
	return spaces, nil
}

func parseTablespace(line []byte) (Tablespace, error) {
	// A location may begin with a space: only the first one separates.
	digits, location, ok := bytes.Cut(line, []byte(" "))
	oid, err := strconv.ParseUint(string(digits), 10, 32)
	switch {
	case !ok || err != nil || oid == 0 || len(location) == 0:
		return Tablespace{}, fmt.Errorf("%q is not an OID and a location", line)
	case len(location) > TablespaceMapPathMax:
		return Tablespace{}, fmt.Errorf("the location of tablespace %d has %d bytes, more than PostgreSQL reads", oid, len(location))
	}
	return Tablespace{pg.OID(oid), string(location)}, nil
}

// FormatTablespaceMap writes what ParseTablespaceMap and PostgreSQL read
// (do_pg_backup_start, xlog.c): newlines, carriage returns and backslashes of
// locations get a backslash before them.
func FormatTablespaceMap(spaces []Tablespace) []byte {
	var out []byte
	for _, t := range spaces {
		out = strconv.AppendUint(out, uint64(t.OID), 10)
		out = append(out, ' ')
		for _, ch := range []byte(t.Location) {
			if ch == '\n' || ch == '\r' || ch == '\\' {
				out = append(out, '\\')
			}
			out = append(out, ch)
		}
		out = append(out, '\n')
	}
	return out
}
