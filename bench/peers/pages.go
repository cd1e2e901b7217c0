//go:build linux

package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

// pageSize is that of every PostgreSQL that is packaged.
const pageSize = 8192

// relationFile is the name of a relation's segment, of any fork.
var relationFile = regexp.MustCompile(`^[0-9]+(_(fsm|vm|init))?(\.[0-9]+)?$`)

// pageHashes are the hashes of all pages of a cluster's relations, by file.
type pageHashes map[string][]uint64

// change is what differs between two states of a cluster.
type change struct {
	pages int64
	bound map[string]int64 // for a kind of codec: bytes that those pages take, compressed in chunks as Salvor makes them
}

// bytes is what the changed pages take as they are.
func (c change) bytes() float64 { return float64(c.pages) * pageSize }

// comparer compares the pages of a cluster with those that it saw before. It knows
// nothing of LSNs or of WAL: it reads all.
type comparer struct {
	data     string
	encoders map[string]*chunk.Encoder
	seen     pageHashes
}

func newComparer(data string) (*comparer, error) {
	c := &comparer{data: data, encoders: map[string]*chunk.Encoder{}}
	for kind, codec := range map[string]chunk.Codec{likeZstd: chunk.Zstd, likeLZ4: chunk.S2} {
		e, err := chunk.NewEncoder(codec)
		if err != nil {
			return nil, err
		}
		c.encoders[kind] = e
	}
	return c, nil
}

// look reads all pages, and gives what has changed since the last look. Of pages that
// are gone nothing is to be stored; they don't count.
func (c *comparer) look() (change, error) {
	found := change{bound: map[string]int64{}}
	now := pageHashes{}
	err := filepath.WalkDir(c.data, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() && d.Name() == "pg_wal" {
			return filepath.SkipDir
		}
		if err != nil || !d.Type().IsRegular() || !relationFile.MatchString(d.Name()) {
			return err
		}
		name, err := filepath.Rel(c.data, path)
		if err == nil {
			now[name], err = c.file(path, c.seen[name], &found)
		}
		return err
	})
	c.seen = now
	return found, err
}

// file hashes one file's pages, and compresses those that differ from before.
func (c *comparer) file(path string, before []uint64, found *change) ([]uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var hashes []uint64
	var gathered []byte
	buf := make([]byte, chunk.MaxPlain)
	for {
		n, err := io.ReadFull(f, buf)
		for at := 0; at < n; at += pageSize {
			p := buf[at:min(at+pageSize, n)]
			h, k := chunk.BlockHash(p), len(hashes)
			hashes = append(hashes, h)
			if k < len(before) && before[k] == h {
				continue
			}
			found.pages++
			if page.IsZero(p) {
				continue
			}
			if len(gathered)+len(p) > chunk.MaxPlain {
				gathered = c.compress(gathered, found)
			}
			gathered = append(gathered, p...)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			c.compress(gathered, found)
			return hashes, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// compress adds what a chunk becomes to the bounds, and gives its memory for the next.
func (c *comparer) compress(plain []byte, found *change) []byte {
	if len(plain) > 0 {
		for kind, e := range c.encoders {
			_, packed := e.Encode(plain)
			found.bound[kind] += int64(len(packed))
		}
	}
	return plain[:0]
}
