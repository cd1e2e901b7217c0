package verify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// lists reads the lists of packs, and then every file table, with the maps of all files.
func (v *verification) lists(ctx context.Context) error {
	v.Events.Phase("manifests")
	for _, b := range v.backups {
		if b.head == nil {
			continue
		}
		if err := v.namePacks(ctx, b); err != nil {
			return err
		}
	}
	infos := make([]pack.Info, 0, len(v.packs))
	for _, p := range v.packs {
		infos = append(infos, p.info)
	}
	v.reader = pack.NewReader(v.Objects, v.Place.PackName, infos)
	for _, b := range v.backups {
		err := v.walk(ctx, b, func(f catalog.File, m chunk.Map, named map[repo.ID]pack.Info) error {
			v.refer(b, f, m, named)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// namePacks reads a backup's list of packs.
func (v *verification) namePacks(ctx context.Context, b *backup) error {
	list, err := catalog.ReadPacks(ctx, v.Objects, *b.head)
	if err != nil {
		return v.breaks(ctx, b, catalog.PartNames(v.Place, b.id)[1], err)
	}
	for _, n := range list {
		p := v.packs[n.ID]
		if p == nil {
			p = &packState{info: n.Info, checksums: b.head.Checksums}
			v.packs[n.ID] = p
		}
		if p.info != n.Info {
			b.add(manifestStage, catalog.Problem{Kind: Damaged, Object: catalog.PartNames(v.Place, b.id)[1],
				Detail: fmt.Sprintf("it says of pack %s something else than another backup's", n.ID)})
		}
	}
	return nil
}

// breaks notes that a list of a backup cannot be read, if that is what the error says.
func (v *verification) breaks(ctx context.Context, b *backup, object string, err error) error {
	if !unreadable(err) {
		return err
	}
	p, err := v.problem(ctx, object, err)
	if err == nil {
		b.broken = true
		b.add(manifestStage, p)
	}
	return err
}

// visit is called with a file of a backup, the map of one that is regular, and the packs
// that the backup names.
type visit func(f catalog.File, m chunk.Map, named map[repo.ID]pack.Info) error

// walk goes through the file table of a backup. What cannot be read becomes a problem of
// the backup; then the walk goes on with the next file, if it can.
func (v *verification) walk(ctx context.Context, b *backup, use visit) error {
	if b.broken {
		return nil
	}
	list, err := catalog.ReadPacks(ctx, v.Objects, *b.head)
	if err != nil {
		return v.breaks(ctx, b, catalog.PartNames(v.Place, b.id)[1], err)
	}
	named := make(map[repo.ID]pack.Info, len(list))
	for _, n := range list {
		named[n.ID] = n.Info
	}
	reader := pack.NewReader(v.Objects, v.Place.PackName, catalog.PackInfos(list))
	var scratch pack.Scratch
	var failed error // of use, or of the store
	err = catalog.ReadFiles(ctx, v.Objects, *b.head, func(f catalog.File) error {
		m := chunk.Map{}
		if f.Kind == catalog.Regular {
			m, failed = catalog.FileMap(ctx, *b.head, f, reader, &scratch)
			if failed != nil {
				failed = v.mapless(ctx, b, f, failed)
				return failed
			}
		}
		failed = use(f, m, named)
		return failed
	})
	if failed != nil || err == nil {
		return failed
	}
	return v.breaks(ctx, b, catalog.FilesName(v.Place, b.id), err)
}

// mapless notes a file without a map, if that is what the error says.
func (v *verification) mapless(ctx context.Context, b *backup, f catalog.File, err error) error {
	if !unreadable(err) {
		return err
	}
	p, err := v.problem(ctx, catalog.FilesName(v.Place, b.id), err)
	if err == nil {
		p.File, p.Detail = f.Path, "the map of the file cannot be read: "+p.Detail
		b.add(packStage, p)
	}
	return err
}

// refer checks that each chunk that a map names can be in its pack, and notes WAL that
// the backup brings along.
func (v *verification) refer(b *backup, f catalog.File, m chunk.Map, named map[repo.ID]pack.Info) {
	if name, ok := strings.CutPrefix(f.Path, "pg_wal/"); ok && b.head.WALIncluded && f.Kind == catalog.Regular {
		if w, err := pg.ParseWALFile(name, b.head.Sizes.WALSegment); err == nil && w.Kind == pg.WALSegment {
			b.included = append(b.included, f)
		}
	}
	for _, r := range m.Runs {
		if r.Zero {
			continue
		}
		p, ok := named[r.Ref.Pack]
		blocks := (r.Ref.Plain + f.Block - 1) / f.Block
		if ok && r.Ref.Ordinal < p.Chunks && r.Ref.End() <= p.Size && r.Slot+r.Blocks <= blocks {
			continue
		}
		b.add(manifestStage, catalog.Problem{Kind: Damaged, Object: catalog.FilesName(v.Place, b.id), File: f.Path,
			Detail: fmt.Sprintf("block %d is to be in chunk %d of pack %s, which has none like that", r.First, r.Ref.Ordinal, r.Ref.Pack)})
		return
	}
}

// seen remembers files that several backups have in the same way.
type seen map[[16]byte]struct{}

// newSeen makes one, nil where there is only one backup.
func (v *verification) newSeen() seen {
	if len(v.backups) < 2 {
		return nil
	}
	return seen{}
}

// before says whether the same file, of the same blocks in the same places, was there
// before.
func (s seen) before(f catalog.File) bool {
	if s == nil {
		return false
	}
	h := sha256.New()
	h.Write([]byte(f.Path))
	b := binary.LittleEndian.AppendUint64([]byte{0, 0}, f.Size)
	if f.Relation {
		b[1] = 1
	}
	b = f.Digest.AppendBinary(binary.LittleEndian.AppendUint32(b, f.Block))
	for _, r := range f.MapRefs {
		b = append(b, r.Pack[:]...)
		b = binary.LittleEndian.AppendUint32(b, r.Ordinal)
	}
	h.Write(append(b, f.Map...))
	key := [16]byte(h.Sum(nil))
	_, is := s[key]
	s[key] = struct{}{}
	return is
}
