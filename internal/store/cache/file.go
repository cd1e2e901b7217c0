package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
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

// read reads a group's file, nothing where there is none. With an error, too, it
// gives what could be read.
func (s *Store) read(group string) (map[string]entry, error) {
	path := s.path(group)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	if most := 2*s.o.GroupMax + 1<<20; info.Size() > most || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading the cache: %s is no file of at most %d bytes", path, most)
	}
	buf := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := buf.ReadFrom(f); err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	entries, err := parse(group, buf.Bytes())
	if err != nil {
		return entries, fmt.Errorf("reading the cache: %s: %w", path, err)
	}
	return entries, nil
}

var errMalformed = errors.New("it is not a file of this group, or is damaged")

// parse reads what encode wrote, up to where it makes no sense.
func parse(group string, b []byte) (map[string]entry, error) {
	entries := map[string]entry{}
	b, ok := bytes.CutPrefix(b, []byte(magic))
	next := func() (part []byte) {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			ok = false
			return nil
		}
		part, b = b[n:n+int(size):n+int(size)], b[n+int(size):]
		return part
	}
	if !ok || string(next()) != group {
		return entries, errMalformed
	}
	for len(b) > 0 {
		key, version, data := next(), next(), next()
		if !ok || !strings.HasPrefix(string(key), group) || len(version) == 0 {
			return entries, errMalformed
		}
		entries[string(key)] = entry{store.Version(version), data}
	}
	return entries, nil
}

func encode(group string, entries map[string]entry) []byte {
	b := []byte(magic)
	put := func(part []byte) {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	put([]byte(group))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		put([]byte(key))
		put([]byte(entries[key].version))
		put(entries[key].data)
	}
	return b
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
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), tmpPrefix) // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(encode(name, g.entries))
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
