//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

const (
	limitFile   = 512 << 20 // bytes written and read
	limitBuffer = 1 << 20
	limitTime   = 500 * time.Millisecond // at least, of each loop in memory
)

// limits measures what this machine can do at best, in one thread.
func (b *bench) limits(ctx context.Context) error {
	b.say("measuring the machine")
	sample, err := b.sample()
	if err != nil {
		return err
	}
	for _, f := range []func([]byte) error{b.diskLimits, b.memoryLimit, b.cipherLimits, b.codecLimits} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := f(sample); err != nil {
			return fmt.Errorf("measuring the machine: %w", err)
		}
	}
	return nil
}

// sample reads what the codecs are measured on: the beginnings of the largest files,
// which are tables and indexes of all kinds.
func (b *bench) sample() ([]byte, error) {
	type file struct {
		path string
		size int64
	}
	var files []file
	err := filepath.WalkDir(filepath.Join(b.data, "base"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files = append(files, file{path, info.Size()})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(b.size, a.size) })
	const most, each = 16, 4 << 20
	var all []byte
	for _, f := range files[:min(most, len(files))] {
		in, err := os.Open(f.path)
		if err != nil {
			return nil, err
		}
		part, err := io.ReadAll(io.LimitReader(in, each))
		_ = in.Close()
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

func (b *bench) limit(name, unit string, value float64) error {
	return b.record(line{Limit: &limit{Name: name, Unit: unit, Value: value}})
}

// timed records in MB/s what f did with so many bytes.
func (b *bench) timed(name string, f func() (int64, error)) error {
	began := b.clock.Now()
	n, err := f()
	if err != nil {
		return err
	}
	return b.limit(name, "MB/s", float64(n)/1e6/b.clock.Now().Sub(began).Seconds())
}

// repeated does f, which does so many bytes at a time, until it has been measured. It
// is this thread's processor time that counts: the machine may be busy.
func (b *bench) repeated(name string, n int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := f(); err != nil { // once before, so that memory is there
		return err
	}
	began, err := threadCPU()
	if err != nil {
		return err
	}
	for done := int64(0); ; {
		if err := f(); err != nil {
			return err
		}
		done += int64(n)
		now, err := threadCPU()
		if err != nil {
			return err
		}
		if took := now - began; took >= limitTime.Seconds() {
			return b.limit(name, "MB/s", float64(done)/1e6/took)
		}
	}
}

// threadCPU is the processor time of the calling thread, in seconds.
func threadCPU() (float64, error) {
	var r unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &r)
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6, err
}

func (b *bench) diskLimits(sample []byte) error {
	if err := b.sync(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(b.root, "limit"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	write := func() (int64, error) {
		for at := int64(0); at < limitFile; at += limitBuffer {
			if _, err := f.WriteAt(sample[:min(limitBuffer, len(sample))], at); err != nil {
				return 0, err
			}
		}
		return limitFile, unix.Fdatasync(int(f.Fd()))
	}
	buffer := make([]byte, limitBuffer)
	read := func() (int64, error) {
		for at := int64(0); at < limitFile; at += limitBuffer {
			if _, err := f.ReadAt(buffer, at); err != nil {
				return 0, err
			}
		}
		return limitFile, nil
	}
	return errors.Join(
		b.timed("disk: write and fdatasync", write),
		unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED),
		b.timed("disk: read, not cached", read),
		b.timed("disk: read, cached", read),
	)
}

func (b *bench) memoryLimit(sample []byte) error {
	to := make([]byte, len(sample))
	return b.repeated("memory: copy", len(sample), func() error { copy(to, sample); return nil })
}

func (b *bench) cipherLimits([]byte) error {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	buffer := make([]byte, limitBuffer, limitBuffer+gcm.Overhead())
	nonce := make([]byte, gcm.NonceSize())
	cbc := cipher.NewCBCEncrypter(block, make([]byte, block.BlockSize()))
	return errors.Join(
		b.repeated("AES-256-GCM, seal", limitBuffer, func() error { gcm.Seal(buffer[:0], nonce, buffer[:limitBuffer], nil); return nil }),
		b.repeated("AES-256-CBC, encrypt", limitBuffer, func() error { cbc.CryptBlocks(buffer, buffer); return nil }),
	)
}

// codecLimits measures our codecs on the sample, in chunks as a backup makes them.
func (b *bench) codecLimits(sample []byte) error {
	for _, codec := range []chunk.Codec{chunk.Zstd, chunk.S2} {
		encoder, err := chunk.NewEncoder(codec)
		if err != nil {
			return err
		}
		var packed [][]byte
		var codecs []chunk.Codec
		var stored int
		for at := 0; at < len(sample); at += chunk.MaxPlain {
			used, data := encoder.Encode(sample[at:min(at+chunk.MaxPlain, len(sample))])
			packed, codecs = append(packed, append([]byte(nil), data...)), append(codecs, used)
			stored += len(data)
		}
		encode := func() error {
			for at := 0; at < len(sample); at += chunk.MaxPlain {
				encoder.Encode(sample[at:min(at+chunk.MaxPlain, len(sample))])
			}
			return nil
		}
		var decoder chunk.Decoder
		buffer := make([]byte, 0, chunk.MaxPlain)
		decode := func() error {
			for i, data := range packed {
				if _, err := decoder.Decode(codecs[i], data, buffer, min(chunk.MaxPlain, len(sample)-i*chunk.MaxPlain)); err != nil {
					return err
				}
			}
			return nil
		}
		if err := errors.Join(
			b.limit(codec.String()+", pages become smaller by", "times", float64(len(sample))/float64(stored)),
			b.repeated(codec.String()+", compress", len(sample), encode),
			b.repeated(codec.String()+", decompress", len(sample), decode),
		); err != nil {
			return err
		}
	}
	return nil
}
