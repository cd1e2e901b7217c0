package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// EntryKind says what an entry of a file table is.
type EntryKind uint8

// The kinds of entry.
const (
	Dir            EntryKind = 1
	Regular        EntryKind = 2
	TablespaceLink EntryKind = 3 // a link in pg_tblspc, and the directory it leads to
)

// File is one entry of a file table.
type File struct {
	Kind    EntryKind
	Path    string // relative to the data directory, with slashes; any bytes but zero
	Mode    uint32 // permission bits
	ModTime time.Time

	Size     uint64 // Regular, bytes
	Block    uint32 // Regular: page size of a relation, else chunk.SliceSize
	Relation bool   // Regular: made of pages
	Digest   chunk.Digest
	// Map says where the blocks are, as chunk.Map encodes it; if it is large, it
	// is stored in chunks of its own, and MapRefs names them instead.
	Map     []byte
	MapRefs []repo.Ref

	Location string // TablespaceLink: where it led to on the source
}

const (
	// MaxInlineMap is the largest map that stands in the table itself, in bytes.
	MaxInlineMap = 8 << 10

	maxPath  = 4096
	maxEntry = MaxInlineMap + 2*maxPath + 64<<10
)

// appendTo appends the entry: its length as an unsigned varint, then kind, path,
// mode and modification time; for a regular file size, block size, flags (bit 0:
// relation), digest, map length, map, number of references, references; for a
// tablespace its location. Numbers are varints, the time (nanoseconds since 1970)
// a signed one; strings have their length before them.
func (f File) appendTo(b []byte) []byte {
	var e []byte
	e = append(e, byte(f.Kind))
	e = appendString(e, f.Path)
	e = binary.AppendUvarint(e, uint64(f.Mode))
	e = binary.AppendVarint(e, f.ModTime.UnixNano())
	switch f.Kind {
	case Regular:
		e = binary.AppendUvarint(e, f.Size)
		e = binary.AppendUvarint(e, uint64(f.Block))
		flags := byte(0)
		if f.Relation {
			flags |= 1
		}
		e = append(e, flags)
		e = f.Digest.AppendBinary(e)
		e = appendString(e, string(f.Map))
		e = binary.AppendUvarint(e, uint64(len(f.MapRefs)))
		for _, r := range f.MapRefs {
			e = append(e, r.Pack[:]...)
			for _, n := range []uint64{uint64(r.Ordinal), r.Offset, uint64(r.Stored), uint64(r.Plain)} {
				e = binary.AppendUvarint(e, n)
			}
		}
	case TablespaceLink:
		e = appendString(e, f.Location)
	}
	return append(binary.AppendUvarint(b, uint64(len(e))), e...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errEntry = errors.New("an entry of the file table is malformed")

// parseFile reads one entry, without its length.
func parseFile(b []byte) (File, error) {
	d := fields{b: b}
	f := File{Kind: EntryKind(d.byte()), Path: d.string(maxPath), Mode: uint32(d.number(0o7777)), ModTime: d.time()}
	switch f.Kind {
	case Dir:
	case Regular:
		f.Size, f.Block = d.number(1<<62), uint32(d.number(chunk.SliceSize))
		f.Relation = d.byte()&1 != 0
		if g := d.take(16); g != nil {
			f.Digest = chunk.DigestFrom(g)
		}
		f.Map = []byte(d.string(MaxInlineMap))
		refs := d.number(uint64(len(d.b)) / 20)
		for range refs {
			var r repo.Ref
			copy(r.Pack[:], d.take(len(r.Pack)))
			r.Ordinal, r.Offset = uint32(d.number(1<<32-1)), d.number(1<<62)
			r.Stored, r.Plain = uint32(d.number(chunk.MaxFrame)), uint32(d.number(chunk.MaxPlain))
			f.MapRefs = append(f.MapRefs, r)
		}
		if f.Block == 0 {
			return File{}, errEntry
		}
	case TablespaceLink:
		f.Location = d.string(maxPath)
	default:
		return File{}, errEntry
	}
	if d.bad || len(d.b) > 0 || !validPath(f.Path) {
		return File{}, errEntry
	}
	return f, nil
}

// validPath says whether a path stays in the data directory: it is "." for the
// directory itself, or parts that are not "", "." or "..", and without a zero byte.
// A repository without encryption is trusted no further than this.
func validPath(path string) bool {
	if path == "." {
		return true
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return false
		}
	}
	return true
}

// fields reads the parts of an entry; bad stays true after the first fault.
type fields struct {
	b   []byte
	bad bool
}

func (d *fields) number(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit || d.bad {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *fields) time() time.Time {
	v, n := binary.Varint(d.b)
	if n <= 0 || d.bad {
		d.bad = true
		return time.Time{}
	}
	d.b = d.b[n:]
	return time.Unix(0, v).UTC()
}

func (d *fields) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *fields) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *fields) string(limit int) string { return string(d.take(int(d.number(uint64(limit))))) }

// FileTable writes the file table of a backup.
type FileTable struct {
	out     *seal.Writer
	encoder *chunk.Encoder
	buf     []byte
	count   uint64
	last    string
}

// CreateFiles begins the file table of a backup.
func CreateFiles(ctx context.Context, objects *seal.Objects, p Place, id string) (*FileTable, error) {
	enc, err := chunk.NewEncoder(chunk.Zstd)
	if err != nil {
		return nil, err
	}
	out, err := objects.Create(ctx, repo.NewID(), p.backupName(id, "files"), seal.Files)
	if err != nil {
		return nil, err
	}
	return &FileTable{out: out, encoder: enc}, nil
}

// Add appends an entry. Paths must rise, byte by byte, so that directories
// come before what is in them.
func (t *FileTable) Add(f File) error {
	if f.Path <= t.last {
		return fmt.Errorf("file table: %q does not come after %q", f.Path, t.last)
	}
	t.last = f.Path
	entry := f.appendTo(nil)
	if len(entry) > maxEntry {
		return fmt.Errorf("file table: the entry of %q is too long", f.Path)
	}
	// What could not be read back must not be written.
	_, n := binary.Uvarint(entry)
	if _, err := parseFile(entry[n:]); err != nil {
		return fmt.Errorf("file table: the entry of %q breaks the format's limits", f.Path)
	}
	if len(t.buf)+len(entry) > chunk.MaxPlain {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.buf = append(t.buf, entry...)
	t.count++
	return nil
}

func (t *FileTable) flush() error {
	codec, data := t.encoder.Encode(t.buf)
	_, err := t.out.Frame(codec, data, len(t.buf))
	t.buf = t.buf[:0]
	return err
}

// Commit completes the table and gives its object's header digest and size.
func (t *FileTable) Commit() (Hash, uint64, error) {
	if len(t.buf) > 0 {
		if err := t.flush(); err != nil {
			return Hash{}, 0, errors.Join(err, t.out.Abort())
		}
	}
	last := binary.AppendUvarint(nil, t.count)
	if err := t.out.Commit(chunk.None, last, len(last)); err != nil {
		return Hash{}, 0, err
	}
	return t.out.HeaderDigest(), t.out.Size(), nil
}

// Abort leaves nothing of the table.
func (t *FileTable) Abort() error { return t.out.Abort() }

// ReadFiles calls use with each entry of the backup's file table, in order. The
// entries were read and authenticated frame by frame; that none is missing is known
// only when ReadFiles returns nil.
func ReadFiles(ctx context.Context, objects *seal.Objects, h Head, use func(File) error) error {
	_, err := IndexFiles(ctx, objects, h, use)
	return err
}

// FileParts is a file table that has been read once, to be read again part by part, a
// few thousand entries each: who takes hours over a table holds neither all of it nor
// a connection to the store. It is for one goroutine.
type FileParts struct {
	table  *seal.Opener
	frames []repo.Ref
	first  []string // path of the first entry of each
	own    partReader
}

// partReader is the memory that a part is read with.
type partReader struct {
	frame  []byte
	reader tableReader
}

// IndexFiles is ReadFiles, and gives what reads the table again.
func IndexFiles(ctx context.Context, objects *seal.Objects, h Head, use func(File) error) (*FileParts, error) {
	name := h.Place().backupName(h.ID, "files")
	stream, err := objects.Stream(ctx, name, seal.Files)
	if err != nil {
		return nil, missingPart(name, err)
	}
	defer stream.Close()
	if stream.HeaderDigest() != h.FilesHeader {
		return nil, repo.Damaged(name, "it is another file table than the one the backup wrote")
	}
	parts := &FileParts{table: stream.Opener}
	count := uint64(0)
	last := ""
	ordered := func(f File) error {
		if f.Path <= last {
			return errEntry
		}
		last = f.Path
		if len(parts.first) == len(parts.frames) {
			parts.first = append(parts.first, f.Path)
		}
		return use(f)
	}
	for {
		f, err := stream.Next()
		if err != nil {
			return nil, err
		}
		if f.Last {
			want, n := binary.Uvarint(f.Payload)
			if n <= 0 || want != count {
				return nil, repo.Damaged(name, "it has %d entries, and says %d", count, want)
			}
			if _, err := stream.Next(); err != io.EOF {
				return nil, repo.Damaged(name, "it goes on after its end")
			}
			return parts, nil
		}
		n, err := parts.own.reader.entries(name, f.Codec, f.Payload, f.Ref, ordered)
		if err != nil {
			return nil, err
		}
		count += n
		parts.frames = append(parts.frames, f.Ref)
	}
}

// Len is the number of parts.
func (p *FileParts) Len() int { return len(p.frames) }

// Read calls use with each entry of a part, in order.
func (p *FileParts) Read(ctx context.Context, part int, use func(File) error) error {
	return p.own.read(ctx, p.table, p.frames[part], use)
}

// read calls use with each entry of the part in a frame of the table.
func (r *partReader) read(ctx context.Context, table *seal.Opener, ref repo.Ref, use func(File) error) error {
	r.frame = slices.Grow(r.frame[:0], int(ref.Stored))[:ref.Stored]
	if err := table.ReadAt(ctx, ref.Offset, r.frame); err != nil {
		return err
	}
	codec, payload, err := table.Frame(r.frame, ref)
	if err != nil {
		return err
	}
	_, err = r.reader.entries(table.Name(), codec, payload, ref, use)
	return err
}

// tableReader is the memory that a table's frames are read with.
type tableReader struct {
	dec   chunk.Decoder
	plain []byte
}

// entries calls use with each entry of one frame, and counts them.
func (t *tableReader) entries(name string, codec chunk.Codec, payload []byte, ref repo.Ref, use func(File) error) (n uint64, err error) {
	if t.plain, err = t.dec.Decode(codec, payload, t.plain, int(ref.Plain)); err != nil {
		return 0, repo.Damaged(name, "%v", err)
	}
	n, err = useEntries(t.plain, use)
	if errors.Is(err, errEntry) {
		return n, repo.Damaged(name, "%v", err)
	}
	return n, err
}

func useEntries(b []byte, use func(File) error) (count uint64, err error) {
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return count, errEntry
		}
		f, err := parseFile(b[n : n+int(size)])
		if err != nil {
			return count, err
		}
		if err := use(f); err != nil {
			return count, err
		}
		b = b[n+int(size):]
		count++
	}
	return count, nil
}
