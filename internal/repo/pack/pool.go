package pack

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

const (
	// maxIndex bounds the chunks that a Pool indexes, 16 bytes each: with more, it
	// indexes an even sample, and finds the others by their neighbours.
	maxIndex = 1 << 20
	// maxLoaded bounds the footers that a Pool holds, about 150 KiB each: one for
	// each worker that follows a pack, and some that chance led to.
	maxLoaded = 16
	// poolReaders is how many footers are read at the same time.
	poolReaders = 8
)

// Stored is a pack as a listing gives it.
type Stored struct {
	ID   repo.ID
	Size int64 // bytes
}

// Pool finds chunks by their content in packs that a backup left that was cut off, so
// that the next need not store them again. A chunk is found if all of its blocks have
// the hashes that a footer lists. Its methods may be called by several goroutines.
//
// Memory is bounded: chunks were stored in the order in which they are looked for, so
// where one is found its neighbours are, and an index of some of them is enough (as in
// Lillibridge et al., Sparse Indexing, FAST 2009).
type Pool struct {
	objects *seal.Objects
	name    func(repo.ID) string
	packs   []Stored
	block   uint32
	max     int // entries of the index

	mu     sync.Mutex
	mask   uint64 // keys with one of these bits set are not indexed
	index  []located
	loaded []*footer // last used first
	used   map[repo.ID]Info
}

// located is the place of a chunk, by the key of its hashes.
type located struct {
	key  uint64
	pack uint32
}

// footer is a pack's, ready to be searched.
type footer struct {
	pack    uint32
	info    Info
	entries []Entry
	byKey   map[uint64]int
}

// OpenPool reads the footers of packs and indexes their chunks of blocks of the given
// size, in bytes. Packs that are damaged, or gone, are left out: skipped, if not nil,
// hears of each.
func OpenPool(ctx context.Context, objects *seal.Objects, name func(repo.ID) string, packs []Stored, block uint32, skipped func(error)) (*Pool, error) {
	return openPoolOf(ctx, objects, name, packs, block, maxIndex, skipped)
}

func openPoolOf(ctx context.Context, objects *seal.Objects, name func(repo.ID) string, packs []Stored, block uint32, most int, skipped func(error)) (*Pool, error) {
	p := &Pool{objects: objects, name: name, packs: packs, block: block, max: most, used: map[repo.ID]Info{}}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(poolReaders)
	for i := range packs {
		g.Go(func() error {
			f, err := p.read(ctx, uint32(i))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if err != nil {
				if skipped != nil {
					skipped(err)
				}
				return nil
			}
			p.add(f)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.index, func(a, b located) int { return cmp.Compare(a.key, b.key) })
	return p, nil
}

// read reads one pack's footer.
func (p *Pool) read(ctx context.Context, i uint32) (*footer, error) {
	s := p.packs[i]
	op, err := p.objects.Open(ctx, p.name(s.ID), seal.Pack)
	if err != nil {
		return nil, err
	}
	if op.ID() != s.ID {
		return nil, repo.Damaged(op.Name(), "it is pack %s", op.ID())
	}
	entries, err := readFooter(ctx, op, s.Size)
	if err != nil {
		return nil, err
	}
	f := &footer{pack: i, entries: entries, byKey: make(map[uint64]int, len(entries)),
		info: Info{ID: s.ID, Size: uint64(s.Size), Header: op.HeaderDigest(), Chunks: uint32(len(entries)), Plain: plainOf(entries)}}
	for j, e := range entries {
		if e.Block == p.block {
			f.byKey[key(e.Hashes)] = j
		}
	}
	return f, nil
}

// add indexes a footer's chunks, and halves the sample while the index is too large.
func (p *Pool) add(f *footer) {
	for k := range f.byKey {
		if k&p.mask == 0 {
			p.index = append(p.index, located{k, f.pack})
		}
	}
	for len(p.index) > p.max {
		p.mask = p.mask<<1 | 1
		p.index = slices.DeleteFunc(p.index, func(l located) bool { return l.key&p.mask != 0 })
	}
}

// key folds the hashes of a chunk's blocks. Its low bits are as good as the others.
func key(hashes []uint64) uint64 {
	k := uint64(len(hashes))
	for _, h := range hashes {
		k = (k ^ h) * 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio (Knuth, TAOCP 6.4)
		k ^= k >> 32
	}
	return k
}

// Find gives the chunk with these blocks, and false if there is none, or none can be
// read. plain is the length of the chunk, in bytes.
func (p *Pool) Find(ctx context.Context, hashes []uint64, plain int) (repo.Ref, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := key(hashes)
	for i, f := range p.loaded {
		if ref, ok := f.find(k, hashes, plain); ok {
			copy(p.loaded[1:i+1], p.loaded[:i])
			p.loaded[0] = f
			p.used[f.info.ID] = f.info
			return ref, true
		}
	}
	if k&p.mask != 0 {
		return repo.Ref{}, false
	}
	i, _ := slices.BinarySearchFunc(p.index, k, func(l located, k uint64) int { return cmp.Compare(l.key, k) })
	for ; i < len(p.index) && p.index[i].key == k; i++ {
		f, err := p.read(ctx, p.index[i].pack)
		if err != nil {
			continue // it was there a while ago: the chunk is stored anew
		}
		if ref, ok := f.find(k, hashes, plain); ok {
			p.loaded = slices.Insert(p.loaded, 0, f)
			p.loaded = p.loaded[:min(len(p.loaded), maxLoaded)]
			p.used[f.info.ID] = f.info
			return ref, true
		}
	}
	return repo.Ref{}, false
}

func (f *footer) find(k uint64, hashes []uint64, plain int) (repo.Ref, bool) {
	i, ok := f.byKey[k]
	if !ok || int(f.entries[i].Ref.Plain) != plain || !slices.Equal(f.entries[i].Hashes, hashes) {
		return repo.Ref{}, false
	}
	return f.entries[i].Ref, true
}

// Used lists the packs in which a chunk was found, by their identity.
func (p *Pool) Used() []Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Info, 0, len(p.used))
	for _, i := range p.used {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(a.ID.String(), b.ID.String()) })
	return all
}

// readFooter reads the list of a pack's chunks. size is the object's, in bytes.
func readFooter(ctx context.Context, op *seal.Opener, size int64) ([]Entry, error) {
	codec, payload, _, err := op.Last(ctx, size)
	if err != nil {
		return nil, err
	}
	if codec != chunk.None {
		return nil, repo.Damaged(op.Name(), "its footer has codec %v", codec)
	}
	entries, err := parseFooter(op.ID(), payload)
	if err != nil {
		return nil, repo.Damaged(op.Name(), "%v", err)
	}
	return entries, nil
}
