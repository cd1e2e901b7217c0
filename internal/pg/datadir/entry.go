package datadir

import (
	"fmt"
	"io/fs"
	"time"
)

// Kind tells what an entry of a data directory is restored as.
type Kind uint8

// The kinds.
const (
	KindDir        Kind = iota + 1
	KindFile            // a regular file, or a link to one
	KindTablespace      // a link or directory in pg_tblspc, named by the tablespace's OID
)

// String gives the kind in a word.
func (k Kind) String() string {
	switch k {
	case KindDir:
		return "directory"
	case KindFile:
		return "file"
	case KindTablespace:
		return "tablespace"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Entry is one file or directory that a backup holds. Attributes of what is
// reached through a link are those of what it leads to.
type Entry struct {
	Path    string // relative to the data directory, with slashes; "." is the data directory
	Kind    Kind
	Size    int64 // of a file, in bytes, when it was looked at; else zero
	Mode    fs.FileMode
	ModTime time.Time
	UID     uint32
	GID     uint32

	// Relation says which pages a file consists of, if IsRelation.
	Relation   Relation
	IsRelation bool

	// Link is where a tablespace leads, as the link says it; empty for an
	// in-place tablespace.
	Link string
}

func newEntry(path string, kind Kind, info fs.FileInfo) Entry {
	e := Entry{Path: path, Kind: kind, Mode: info.Mode().Perm(), ModTime: info.ModTime()}
	e.UID, e.GID = owner(info)
	if kind == KindFile {
		e.Size = info.Size()
		e.Relation, e.IsRelation = ParseRelation(path)
	}
	return e
}
