package catalog

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
)

// listBlock is how much memory a FileList takes at a time, in bytes.
const listBlock = 256 << 10

// FileList holds entries of a file table as they are encoded, in about 100 bytes
// each, in the order in which they were added until Sort. A database has hundreds of
// thousands of files. Adding is for one
// goroutine.
type FileList struct {
	blocks [][]byte
	at     []listPlace
	buf    []byte
}

// listPlace is where an entry is: the block, and the place in it.
type listPlace struct{ block, offset uint32 }

// Add adds an entry.
func (l *FileList) Add(f File) {
	l.buf = f.appendTo(l.buf[:0])
	n := len(l.blocks)
	if n == 0 || cap(l.blocks[n-1])-len(l.blocks[n-1]) < len(l.buf) {
		l.blocks = append(l.blocks, make([]byte, 0, max(listBlock, len(l.buf))))
		n++
	}
	b := &l.blocks[n-1]
	l.at = append(l.at, listPlace{uint32(n - 1), uint32(len(*b))})
	*b = append(*b, l.buf...)
}

// Len is the number of entries.
func (l *FileList) Len() int { return len(l.at) }

// entry gives an entry's encoding, without its length.
func (l *FileList) entry(p listPlace) []byte {
	b := l.blocks[p.block][p.offset:]
	size, n := binary.Uvarint(b)
	return b[n : n+int(size)]
}

// path gives the path in an entry: behind the kind, its length before it.
func path(entry []byte) []byte {
	size, n := binary.Uvarint(entry[1:])
	return entry[1+n : 1+n+int(size)]
}

// Sort puts the entries in the order of their paths, as a file table has them.
func (l *FileList) Sort() {
	slices.SortFunc(l.at, func(a, b listPlace) int { return bytes.Compare(path(l.entry(a)), path(l.entry(b))) })
}

// At gives the entry number i.
func (l *FileList) At(i int) (File, error) { return parseFile(l.entry(l.at[i])) }

// All gives the entries. It fails where one was added that no file table can hold.
func (l *FileList) All() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for _, p := range l.at {
			if !yield(parseFile(l.entry(p))) {
				return
			}
		}
	}
}
