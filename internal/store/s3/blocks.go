package s3

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"
)

// block is a piece of a buffer. Objects of some hundred bytes are many, and of
// some MiB too: pieces fit both, and nothing is copied when a buffer grows.
type block [256 << 10]byte

// buffer is bytes in blocks of a pool. It is for one goroutine; its readers are
// for others.
type buffer struct {
	pool   *sync.Pool
	blocks []*block
	size   int
}

// write takes bytes until the buffer has max of them.
func (b *buffer) write(p []byte, max int) int {
	done := 0
	for len(p) > 0 && b.size < max {
		at := b.size % len(block{})
		if at == 0 {
			b.blocks = append(b.blocks, b.pool.Get().(*block))
		}
		n := copy(b.blocks[len(b.blocks)-1][at:], p[:min(len(p), max-b.size)])
		p = p[n:]
		b.size += n
		done += n
	}
	return done
}

// each gives the bytes, block by block.
func (b *buffer) each(yield func([]byte)) {
	for i, blk := range b.blocks {
		yield(blk[:min(len(blk), b.size-i*len(blk))])
	}
}

// free gives the blocks back. Every reader must have been revoked.
func (b *buffer) free() {
	for _, blk := range b.blocks {
		b.pool.Put(blk)
	}
	b.blocks, b.size = nil, 0
}

// sums are the checksums of a body, as headers have them.
type sums struct{ crc32c, md5 *string }

func (b *buffer) sums(c Checksum) sums {
	encode := func(sum []byte) *string { s := base64.StdEncoding.EncodeToString(sum); return &s }
	switch c {
	case CRC32C:
		table, crc := crc32.MakeTable(crc32.Castagnoli), uint32(0)
		b.each(func(p []byte) { crc = crc32.Update(crc, table, p) })
		return sums{crc32c: encode(binary.BigEndian.AppendUint32(nil, crc))}
	case MD5:
		h := md5.New()
		b.each(func(p []byte) { _, _ = h.Write(p) })
		return sums{md5: encode(h.Sum(nil))}
	}
	return sums{}
}

// reader is the body of one request.
type reader struct {
	mu   sync.Mutex
	b    *buffer // nil once it is revoked
	at   int
	size int
}

func (b *buffer) reader() *reader { return &reader{b: b, size: b.size} }

var errRevoked = errors.New("the body of a request that has ended was read")

// Read reads the next bytes.
func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.b == nil:
		return 0, errRevoked
	case r.at == r.size:
		return 0, io.EOF
	}
	blk, at := r.b.blocks[r.at/len(block{})], r.at%len(block{})
	n := copy(p, blk[at:min(len(blk), at+r.size-r.at)])
	r.at += n
	return n, nil
}

// Seek goes to a place: the body is read twice, first for its signature.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += int64(r.at)
	case io.SeekEnd:
		offset += int64(r.size)
	}
	if offset < 0 || offset > int64(r.size) {
		return 0, errors.New("seeking outside of a body")
	}
	r.at = int(offset)
	return offset, nil
}

// revoke ends the reader. The transport may read the body of a request that has
// failed a little longer, and the blocks are somebody else's then.
func (r *reader) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b = nil
}
