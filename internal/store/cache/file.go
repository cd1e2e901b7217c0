package cache

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/salvor-dr/salvor/internal/store"
)

// A file of the cache is the kept objects of a group:
//
//	magic, and the group's prefix
//	for each object, in order: key, version, bytes
//
// each but the magic with its length before it, as an unsigned varint. No other
// program reads it: a change needs no more than another magic.
const magic = "salvor cache 1\n"

const tmpPrefix = ".tmp-"

// path is where a group's file is.
func (s *Store) path(group string) string {
	sum := sha256.Sum256([]byte(group))
	return filepath.Join(s.o.Dir, s.o.Name, hex.EncodeToString(sum[:16]))
}

// read finds what a group's file holds, nothing where there is none. With an error, too,
// it gives what could be read. The file stays open: entries are read from it.
func (s *Store) read(group string) (*os.File, map[string]entry, error) {
	path := s.path(group)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, map[string]entry{}, nil
	}
	if err != nil {
		return nil, map[string]entry{}, fmt.Errorf("reading the cache: %w", err)
	}
	info, err := f.Stat()
	if most := 2*s.o.GroupMax + 1<<20; err == nil && (info.Size() > most || !info.Mode().IsRegular()) {
		err = fmt.Errorf("%s is no file of at most %d bytes", path, most)
	}
	if err != nil {
		return nil, map[string]entry{}, errors.Join(fmt.Errorf("reading the cache: %w", err), f.Close())
	}
	entries, err := parse(group, f, info.Size())
	for key, e := range entries {
		e.from = f
		entries[key] = e
	}
	if err != nil {
		err = fmt.Errorf("reading the cache: %s: %w", path, err)
	}
	return f, entries, err
}

var errMalformed = errors.New("it is not a file of this group, or is damaged")

// nameMax is longer than any key or version.
const nameMax = 8 << 10

// parser reads a file of the cache from its beginning.
type parser struct {
	in   *bufio.Reader
	at   int64 // in the file
	left int64
	err  error
}

// length reads the length of a part.
func (p *parser) length() (n int64) {
	if p.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(p)
	if err != nil || p.left < 0 || v > uint64(p.left) {
		p.err = errMalformed
		return 0
	}
	p.at, p.left = p.at+int64(v), p.left-int64(v)
	return int64(v)
}

// ReadByte implements io.ByteReader, for length.
func (p *parser) ReadByte() (byte, error) {
	b, err := p.in.ReadByte()
	if err == nil {
		p.at, p.left = p.at+1, p.left-1
	}
	return b, err
}

// part reads a part that is short.
func (p *parser) part() string {
	n := p.length()
	if n > nameMax {
		p.err = errMalformed
	}
	if p.err != nil {
		return ""
	}
	b := make([]byte, n)
	_, p.err = io.ReadFull(p.in, b)
	return string(b)
}

// pass says where a part is, and passes over it.
func (p *parser) pass() entry {
	n := p.length()
	if n > objectMax {
		p.err = errMalformed
	}
	if p.err == nil {
		_, p.err = p.in.Discard(int(n))
	}
	return entry{at: p.at - n, size: n}
}

// parse reads what writeTo wrote, up to where it makes no sense.
func parse(group string, in io.Reader, size int64) (map[string]entry, error) {
	entries := map[string]entry{}
	p := parser{in: bufio.NewReaderSize(in, 64<<10), at: int64(len(magic)), left: size - int64(len(magic))}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(p.in, head); err != nil || string(head) != magic || p.part() != group || p.err != nil {
		return entries, errMalformed
	}
	for p.left > 0 {
		key, version := p.part(), p.part()
		e := p.pass()
		if p.err != nil || !strings.HasPrefix(key, group) || version == "" {
			return entries, errMalformed
		}
		e.version = store.Version(version)
		entries[key] = e
	}
	return entries, nil
}

// writeTo writes what parse reads.
func writeTo(w io.Writer, group string, entries map[string]entry) error {
	out := bufio.NewWriterSize(w, 64<<10)
	length := func(n int64) { _, _ = out.Write(binary.AppendUvarint(nil, uint64(n))) }
	part := func(s string) {
		length(int64(len(s)))
		_, _ = out.WriteString(s)
	}
	_, _ = out.WriteString(magic)
	part(group)
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		e := entries[key]
		part(key)
		part(string(e.version))
		length(e.size)
		data, err := e.bytes()
		if err != nil {
			return fmt.Errorf("copying %s: %w", key, err)
		}
		_, _ = out.Write(data)
	}
	return out.Flush() // with the first error of all
}

// spool writes bytes to a file without a name, from where writeTo takes them.
func (s *Store) spool(name string, g *group, data []byte) (entry, error) {
	if g.fresh == nil {
		f, err := s.createTemp(name)
		if err != nil {
			return entry{}, err
		}
		if err := os.Remove(f.Name()); err != nil {
			return entry{}, errors.Join(err, f.Close())
		}
		g.fresh = f
	}
	e := entry{from: g.fresh, at: g.written, size: int64(len(data))}
	_, err := g.fresh.WriteAt(data, e.at)
	g.written += e.size
	return e, err
}

// createTemp makes a file beside the one of a group.
func (s *Store) createTemp(name string) (*os.File, error) {
	dir := filepath.Dir(s.path(name))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, tmpPrefix) // 0600
}

// save writes the groups that have changed.
func (s *Store) save() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrote := false
	for name, g := range s.groups {
		if g.whole {
			s.load(name, g)
			for key := range g.entries {
				if _, ok := g.listed[key]; !ok {
					g.drop(key)
				}
			}
		}
		if !g.changed {
			continue
		}
		g.changed, wrote = false, true
		if err := s.write(name, g); err != nil {
			s.o.Failed(fmt.Errorf("writing the cache: %w", err))
			return
		}
	}
	if wrote {
		s.sweep()
	}
}

func (s *Store) write(name string, g *group) error {
	s.load(name, g)
	path := s.path(name)
	if len(g.entries) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	tmp, err := s.createTemp(name)
	if err != nil {
		return err
	}
	err = writeTo(tmp, name, g.entries)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// sweep removes what nobody has written for long, of any store: repositories that are
// gone, and what killed processes left.
func (s *Store) sweep() {
	now := s.o.Clock.Now()
	files, err := filepath.Glob(filepath.Join(quote(s.o.Dir), "*", "*"))
	if err != nil {
		s.o.Failed(fmt.Errorf("tidying the cache: %w", err))
		return
	}
	for _, path := range files {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		age := now.Sub(info.ModTime())
		switch name := filepath.Base(path); {
		case strings.HasPrefix(name, tmpPrefix) && age > leftoverMax, ours(name) && age > unusedMax:
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.o.Failed(fmt.Errorf("tidying the cache: %w", err))
			}
			_ = os.Remove(filepath.Dir(path)) // only if it is empty
		}
	}
}

// ours says whether a file has such a name as path gives: the directory may be one
// that holds other things, too.
func ours(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == 16
}

// quote makes of a path a pattern that matches it alone.
func quote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
