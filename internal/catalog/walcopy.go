package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// CopyWAL copies a stored segment to another repository, where it is sealed anew. Nothing
// appears there unless all of it was read and has the size and digest that its footer
// says. With a version it takes the place of the object of that version, in one step, and
// fails with store.ErrChanged if another is there; else it fails with store.ErrExists if
// there is one.
func CopyWAL(ctx context.Context, from, to *seal.Objects, name string, over store.Version) error {
	in, err := OpenWAL(ctx, from, name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.Replace(ctx, repo.NewID(), name, seal.WALSegment, over)
	if err != nil {
		return err
	}
	defer out.Abort() // nothing after Commit
	for {
		f, err := in.stream.Next()
		if err != nil {
			return err
		}
		if f.Last {
			payload := append([]byte(nil), f.Payload...)
			if err := in.finish(f.Payload); err != nil {
				return err
			}
			if _, err := in.stream.Next(); !errors.Is(err, io.EOF) {
				return repo.Damaged(name, "it goes on after its end: %v", err)
			}
			return out.Commit(f.Codec, payload, int(f.Ref.Plain))
		}
		if in.plain, err = in.dec.Decode(f.Codec, f.Payload, in.plain, int(f.Ref.Plain)); err != nil {
			return repo.Damaged(name, "%v", err)
		}
		in.hash.Write(in.plain)
		in.size += int64(len(in.plain))
		if _, err := out.Frame(f.Codec, f.Payload, int(f.Ref.Plain)); err != nil {
			return fmt.Errorf("copying %s: %w", name, err)
		}
	}
}

// CopyWALSmall is CopyWAL for a history or a backup history file.
func CopyWALSmall(ctx context.Context, from, to *seal.Objects, name string, over store.Version) error {
	data, err := from.Get(ctx, name, seal.WALSmall)
	if err != nil {
		return err
	}
	out, err := to.Replace(ctx, repo.NewID(), name, seal.WALSmall, over)
	if err != nil {
		return err
	}
	return out.Commit(chunk.None, data, len(data))
}
