package catalog

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/proof"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Kind is full or incremental.
type Kind string

// The kinds of backup.
const (
	Full        Kind = "full"
	Incremental Kind = "incremental"
)

// Detector is how an incremental backup finds the pages that changed.
type Detector string

// The detectors.
const (
	ByWAL  Detector = "wal"  // the WAL between the two tells, and no other pages are read
	ByLSN  Detector = "lsn"  // every page is read, and its LSN compared with the parent's start
	ByHash Detector = "hash" // every page is read, and compared with the hash that the parent has
)

// Head is a backup. Its object is written last: with it the backup exists, and
// everything it names is durable.
type Head struct {
	FormatVersion int         `json:"format_version"`
	ID            string      `json:"id"`
	Kind          Kind        `json:"kind"`
	Cluster       string      `json:"cluster"`
	SystemID      pg.SystemID `json:"system_id"`
	Incarnation   Incarnation `json:"incarnation"`
	ParentID      string      `json:"parent_id,omitempty"`
	Detector      Detector    `json:"detector,omitempty"` // of an incremental backup
	FromStandby   bool        `json:"from_standby,omitempty"`
	Program       string      `json:"salvor_version"`

	StartedAt time.Time   `json:"started_at"` // by the server's clock
	StoppedAt time.Time   `json:"stopped_at"` // by the server's clock, when pg_backup_stop was called
	StartLSN  pg.LSN      `json:"start_lsn"`  // redo of the backup's checkpoint
	StopLSN   pg.LSN      `json:"stop_lsn"`   // consistency is reached here
	Timeline  pg.Timeline `json:"timeline"`
	Seconds   float64     `json:"duration_seconds"`

	Version        pg.Version   `json:"server_version"`
	CatalogVersion uint32       `json:"catalog_version"`
	Sizes          pg.Sizes     `json:"sizes"`
	Checksums      bool         `json:"data_checksums"`
	Label          string       `json:"backup_label"`
	TablespaceMap  string       `json:"tablespace_map,omitempty"`
	Tablespaces    []Tablespace `json:"tablespaces,omitempty"`
	WALIncluded    bool         `json:"wal_included"` // pg_wal in the file table has it from start to stop
	Owner          Owner        `json:"owner"`
	Needs          Needs        `json:"needs"`
	Slots          []Slot       `json:"replication_slots,omitempty"`
	Collations     []Collation  `json:"collations,omitempty"`
	Databases      []Database   `json:"databases,omitempty"` // when the backup began

	Size        uint64 `json:"size_bytes"`                // what a restore writes
	Read        uint64 `json:"read_bytes"`                // read from the data directory
	Stored      uint64 `json:"stored_bytes"`              // added to the repository, WAL apart
	Adopted     uint64 `json:"adopted_bytes,omitempty"`   // found where backups stored it that were cut off
	Forwarded   uint64 `json:"forwarded_bytes,omitempty"` // before compression, that had not changed and was stored anew, out of packs with little else
	PagesRead   uint64 `json:"pages_read"`
	PagesStored uint64 `json:"pages_stored"`
	FileCount   uint64 `json:"file_count"`

	FilesHeader Hash              `json:"files_header"` // of the file table's object
	PacksHeader Hash              `json:"packs_header"` // of the pack list's object
	Damaged     []BadPage         `json:"damaged_pages,omitempty"`
	InFlight    []BadPage         `json:"in_flight_pages,omitempty"` // that were being written: the WAL repairs them
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Tablespace is one that the cluster had, with its place on the source.
type Tablespace struct {
	OID      pg.OID `json:"oid"`
	Name     string `json:"name"`
	Location string `json:"location"`
}

// Database tells databases of one OID apart: one that was dropped and made anew has
// another XMin, and so has one that was altered.
type Database struct {
	OID  pg.OID `json:"oid"`
	XMin uint32 `json:"xmin"` // of its row in pg_database
}

// Owner is who owned the data directory on the source.
type Owner struct {
	User  string `json:"user"`
	Group string `json:"group"`
}

// Needs are settings of the source that a server needs at least to replay its
// WAL as a hot standby, and libraries that it preloaded.
type Needs struct {
	MaxConnections   int    `json:"max_connections"`
	MaxWorkers       int    `json:"max_worker_processes"`
	MaxWALSenders    int    `json:"max_wal_senders"`
	MaxPreparedXacts int    `json:"max_prepared_transactions"`
	MaxLocksPerXact  int    `json:"max_locks_per_transaction"`
	PreloadLibraries string `json:"shared_preload_libraries,omitempty"`
	ConfigFile       string `json:"config_file,omitempty"` // where it lies outside the data directory
	HBAFile          string `json:"hba_file,omitempty"`
	IdentFile        string `json:"ident_file,omitempty"`
}

// Slot is a replication slot of the source. Backups do not hold slots: they are
// listed so that they can be made anew.
type Slot struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Plugin   string `json:"plugin,omitempty"`
	Database string `json:"database,omitempty"`
}

// Collation is a collation provider's version as a database recorded it. Another
// version on the host of a restore may sort differently and break indexes.
type Collation struct {
	Database string `json:"database"`
	Provider string `json:"provider"`
	Name     string `json:"name"`
	Version  string `json:"version"`
}

// BadPage is a page that did not check when it was read.
type BadPage struct {
	Path  string `json:"path"`
	Block uint64 `json:"block"` // in the file
	Why   string `json:"why"`
}

// Hash is a BLAKE3-256.
type Hash [32]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%x", h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	if err != nil || len(v) != len(h) {
		return fmt.Errorf("%q is not a hash of 64 hexadecimal digits", b)
	}
	copy(h[:], v)
	return nil
}

// Place is the place of the backup.
func (h Head) Place() Place { return Place{h.Cluster, h.SystemID, h.Incarnation} }

// NewBackupID makes an identifier that sorts by time: 20261124T065100Z-1f3a5c. The
// random end keeps backups of one second apart.
func NewBackupID(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + repo.NewID().String()[:6]
}

// ValidBackupID says whether s has the form of a backup's identifier.
func ValidBackupID(s string) bool {
	at, random, _ := strings.Cut(s, "-")
	return len(at) == 16 && at[8] == 'T' && at[15] == 'Z' && only(decimal, at[:8]+at[9:15]) &&
		len(random) == 6 && only(hexadecimal, random)
}

const (
	decimal     = "0123456789"
	hexadecimal = "0123456789abcdef"
)

// only says whether s has no other characters. A regular expression would be
// compiled at each start of the program, and PostgreSQL starts it for every segment.
func only(characters, s string) bool { return strings.Trim(s, characters) == "" }

// ErrNoBackup says that there is no such backup.
var ErrNoBackup = errors.New("no such backup")

// WriteHead completes a backup.
func WriteHead(ctx context.Context, objects *seal.Objects, h Head) error {
	h.FormatVersion = repo.FormatVersion
	return putDocument(ctx, objects, HeadName(h.Place(), h.ID), seal.Head, h)
}

// forgetter is the ability of a store that keeps copies of objects on this host: it
// drops one, and says whether it had it (store/cache).
type forgetter interface{ Forget(key string) bool }

func forget(objects *seal.Objects, name string) bool {
	f, ok := store.Ability[forgetter](objects.Store())
	return ok && f.Forget(name)
}

// ReadHead reads one backup's head. It fails with ErrNoBackup if there is none.
func ReadHead(ctx context.Context, objects *seal.Objects, p Place, id string) (Head, error) {
	h, err := readHead(ctx, objects, p, id)
	if err != nil && ctx.Err() == nil && forget(objects, p.backupName(id, "head")) {
		return readHead(ctx, objects, p, id) // a useless copy says nothing of the repository
	}
	return h, err
}

// Reread reads a head once more from the repository itself, if what is known of it
// may come from a copy on this host. Who is about to do more than show a backup calls
// it: the repository may have lost it since.
func Reread(ctx context.Context, objects *seal.Objects, h Head) (Head, error) {
	if !forget(objects, HeadName(h.Place(), h.ID)) {
		return h, nil
	}
	return readHead(ctx, objects, h.Place(), h.ID)
}

func readHead(ctx context.Context, objects *seal.Objects, p Place, id string) (Head, error) {
	name := p.backupName(id, "head")
	h, err := getDocument[Head](ctx, objects, name, seal.Head)
	if errors.Is(err, store.ErrNotFound) {
		return Head{}, fmt.Errorf("%s: %w", id, ErrNoBackup)
	}
	if err != nil {
		return Head{}, err
	}
	if h.FormatVersion != repo.FormatVersion {
		return Head{}, fmt.Errorf("%s has format version %d, this release reads %d: %w",
			name, h.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)
	}
	if h.ID != id || h.Place() != p {
		return Head{}, repo.Damaged(name, "it is the head of backup %s of %s", h.ID, h.Place())
	}
	if err := h.Sizes.Validate(); err != nil {
		return Head{}, repo.Damaged(name, "%v", err)
	}
	return h, nil
}

// Backups reads the heads of a place, oldest first. It fails if one cannot be read:
// who decides what may be deleted must know all.
func Backups(ctx context.Context, objects *seal.Objects, p Place) ([]Head, error) {
	heads, unreadable, err := ReadHeads(ctx, objects, p)
	return heads, errors.Join(err, errors.Join(unreadable...))
}

// headsAtOnce is how many heads are read at the same time: from an object store each
// costs a round trip, and a place may have ten thousand.
const headsAtOnce = 32

// ReadHeads reads the heads of a place, oldest first, and gives those apart, each as
// an *Unreadable, that are damaged, or that this release or key cannot read.
func ReadHeads(ctx context.Context, objects *seal.Objects, p Place) (heads []Head, unreadable []error, err error) {
	all, unreadable, err := readHeads(ctx, objects, p, func(*Head) {})
	if err != nil {
		return nil, nil, err
	}
	heads = make([]Head, len(all))
	for i, h := range all {
		heads[i] = *h
	}
	return heads, unreadable, nil
}

// ListHeads is ReadHeads for who shows backups: of each is left out what only matters to
// who restores it, which is most of it. Of ten thousand that is what memory can spare.
func ListHeads(ctx context.Context, objects *seal.Objects, p Place) (heads []*Head, unreadable []error, err error) {
	return readHeads(ctx, objects, p, func(h *Head) {
		h.Label, h.TablespaceMap, h.Tablespaces, h.Slots, h.Collations, h.Databases = "", "", nil, nil, nil, nil
		h.Owner, h.Needs = Owner{}, Needs{}
	})
}

// readHeads is ReadHeads, which calls trim with each head while others are read.
func readHeads(ctx context.Context, objects *seal.Objects, p Place, trim func(*Head)) (heads []*Head, unreadable []error, err error) {
	type result struct {
		head *Head // nil if it was deleted since it was listed
		bad  error
	}
	var results []*result
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(headsAtOnce)
	listed := listHeads(gctx, objects, p, func(id string) {
		r := new(result)
		results = append(results, r)
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			h, err := ReadHead(gctx, objects, p, id)
			switch {
			case repo.Unreadable(err):
				r.bad = &Unreadable{ID: id, Place: p, Err: err}
			case errors.Is(err, ErrNoBackup):
			case err != nil:
				return err
			default:
				trim(&h)
				r.head = &h
			}
			return nil
		})
	})
	// What failed first ended the other, so it is what to tell.
	if err := cmp.Or(g.Wait(), listed); err != nil {
		return nil, nil, err
	}
	heads = make([]*Head, 0, len(results))
	for _, r := range results {
		switch {
		case r.bad != nil:
			unreadable = append(unreadable, r.bad)
		case r.head != nil:
			heads = append(heads, r.head)
		}
	}
	slices.SortStableFunc(heads, func(a, b *Head) int { return a.StoppedAt.Compare(b.StoppedAt) })
	return heads, unreadable, nil
}

// listHeads names the backups of a place that have a head. The list is one of the heads
// themselves, not only of what seems to be backups: one without is under way, or is
// being deleted.
func listHeads(ctx context.Context, objects *seal.Objects, p Place, use func(id string)) error {
	prefix := p.BackupsPrefix()
	for o, err := range objects.Store().List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("listing %s: %w", prefix, err)
		}
		id, part, _ := strings.Cut(strings.TrimPrefix(o.Key, prefix), "/")
		if part == "head" && ValidBackupID(id) {
			use(id)
		}
	}
	return nil
}

// HeadExists says whether the backup is complete.
func HeadExists(ctx context.Context, objects *seal.Objects, p Place, id string) (bool, error) {
	return objects.Exists(ctx, p.backupName(id, "head"))
}

// HeadName is the object of a backup's head.
func HeadName(p Place, id string) string { return p.backupName(id, "head") }

// HeadDigest is the SHA-256 of a backup's head as the repository has it, in hexadecimal
// digits. The head names all that the backup consists of, by digests. It fails with
// ErrNoBackup if there is none.
func HeadDigest(ctx context.Context, objects *seal.Objects, p Place, id string) (string, error) {
	forget(objects, HeadName(p, id)) // what counts is what is there
	data, err := store.Get(ctx, objects.Store(), HeadName(p, id), headMax)
	if errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("%s: %w", id, ErrNoBackup)
	}
	return proof.Digest(data), err
}

// headMax is longer than any head, in bytes.
const headMax = 64 << 20

// KeptUnder gives the prefix under which a place has its heads, for the key of a head, or
// its proofs, for that of a proof, and "" for the key of any other object. Heads and proofs
// never change, and no name of one is used again: copies may be kept.
func KeptUnder(key string) string {
	if i := strings.LastIndexByte(key, '/') + 1; strings.HasSuffix(key[:i], "/proofs/") && ValidBackupID(key[i:]) {
		return key[:i]
	}
	dir, ok := strings.CutSuffix(key, "/head")
	if !ok {
		return ""
	}
	i := strings.LastIndexByte(dir, '/') + 1
	if !strings.HasSuffix(dir[:i], "/backups/") || !ValidBackupID(dir[i:]) {
		return ""
	}
	return dir[:i]
}

// FilesName is the object of a backup's file table.
func FilesName(p Place, id string) string { return p.backupName(id, "files") }

// PartNames lists the objects of a backup beside its head and its packs.
func PartNames(p Place, id string) []string {
	return []string{p.backupName(id, "files"), p.backupName(id, "packs")}
}
