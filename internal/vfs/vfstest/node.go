package vfstest

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"
)

// sector is the unit in which a disk keeps or loses bytes.
const sector = 512

// node is a file or a directory.
type node struct {
	dir    bool
	mode   fs.FileMode
	born   int64 // a number that no other node has; it survives a crash
	locked *file

	data, synced       []byte
	modTime, syncedMod time.Time

	names       map[string]*node
	syncedNames map[string]*node
	// history holds, for each name changed since the last sync, the states it
	// went through after the synced one; nil is "no such name".
	history map[string][]*node
}

func newDir(mode fs.FileMode, born int64) *node {
	return &node{dir: true, mode: mode, born: born, names: map[string]*node{},
		syncedNames: map[string]*node{}, history: map[string][]*node{}}
}

// set makes name mean child, or nothing when child is nil.
func (n *node) set(name string, child *node) {
	if child == nil {
		delete(n.names, name)
	} else {
		n.names[name] = child
	}
	n.history[name] = append(n.history[name], child)
}

func (n *node) sync() {
	if n.dir {
		n.syncedNames = maps.Clone(n.names)
		n.history = map[string][]*node{}
		return
	}
	n.synced = slices.Clone(n.data)
	n.syncedMod = n.modTime
}

// crash returns the node as it is after a loss of power. done keeps a file with
// two names one file.
func (n *node) crash(rng *rand.Rand, luck int, done map[*node]*node) *node {
	if c, ok := done[n]; ok {
		return c
	}
	if !n.dir {
		c := &node{mode: n.mode, born: n.born, data: n.crashBytes(rng, luck), modTime: n.syncedMod}
		if pick(rng, luck) {
			c.modTime = n.modTime
		}
		c.sync()
		done[n] = c
		return c
	}
	c := newDir(n.mode, n.born)
	done[n] = c
	state := maps.Clone(n.syncedNames)
	for _, name := range slices.Sorted(maps.Keys(n.history)) {
		states := n.history[name]
		if !pick(rng, luck) {
			continue
		}
		last := states[len(states)-1]
		if luck == mixed {
			last = states[rng.IntN(len(states))]
		}
		if last == nil {
			delete(state, name)
		} else {
			state[name] = last
		}
	}
	for _, name := range slices.Sorted(maps.Keys(state)) {
		c.names[name] = state[name].crash(rng, luck, done)
	}
	c.sync()
	return c
}

// How lucky a crash is.
const (
	loseAll = iota
	keepAll
	mixed
)

func pick(rng *rand.Rand, luck int) bool {
	return luck == keepAll || luck == mixed && rng.IntN(2) == 0
}

func (n *node) crashBytes(rng *rand.Rand, luck int) []byte {
	switch luck {
	case loseAll:
		return slices.Clone(n.synced)
	case keepAll:
		return slices.Clone(n.data)
	}
	lo, hi := min(len(n.synced), len(n.data)), max(len(n.synced), len(n.data))
	out := make([]byte, lo+rng.IntN(hi-lo+1)) // unwritten sectors read as zeros
	for i := 0; i < len(out); i += sector {
		from := n.synced
		if rng.IntN(2) == 0 {
			from = n.data
		}
		if i < len(from) {
			copy(out[i:min(i+sector, len(out))], from[i:])
		}
	}
	return out
}

// info describes a node; it is an fs.FileInfo and an fs.DirEntry.
type info struct {
	name    string
	size    int64
	mode    fs.FileMode
	modTime time.Time
	node    *node
}

func (n *node) info(path string) info {
	i := info{name: filepath.Base(path), size: int64(len(n.data)), mode: n.mode, modTime: n.modTime, node: n}
	if n.dir {
		i.mode |= fs.ModeDir
	}
	return i
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) Mode() fs.FileMode          { return i.mode }
func (i info) ModTime() time.Time         { return i.modTime }
func (i info) IsDir() bool                { return i.mode.IsDir() }
func (i info) Sys() any                   { return i.node }
func (i info) Type() fs.FileMode          { return i.mode.Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
