package catalog

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

const clustersPrefix = "clusters/"

// Incarnation tells lives of one system identifier apart: 16 hexadecimal digits.
type Incarnation string

// NewIncarnation draws one.
func NewIncarnation() Incarnation { return Incarnation(repo.NewID().String()[:16]) }

// ParseIncarnation reads 16 lower-case hexadecimal digits.
func ParseIncarnation(s string) (Incarnation, error) {
	if len(s) != 16 || !only(hexadecimal, s) {
		return "", fmt.Errorf("%q is not an incarnation: want 16 lower-case hexadecimal digits", s)
	}
	return Incarnation(s), nil
}

// Place names where one life of a cluster is kept in a repository.
type Place struct {
	Cluster     string
	SystemID    pg.SystemID
	Incarnation Incarnation
}

// Prefix is what the names of all the place's objects begin with.
func (p Place) Prefix() string {
	return fmt.Sprintf("%s%s/%s-%s/", clustersPrefix, p.Cluster, p.SystemID, p.Incarnation)
}

// String gives system identifier and incarnation.
func (p Place) String() string { return fmt.Sprintf("%s-%s", p.SystemID, p.Incarnation) }

// Names of objects.
func (p Place) originName() string                { return p.Prefix() + "origin" }
func (p Place) backupName(id, part string) string { return p.Prefix() + "backups/" + id + "/" + part }

// RunningName is the object that marks a backup under way.
func (p Place) RunningName(id string) string { return p.Prefix() + "running/" + id }

func (p Place) tombstoneName(id repo.ID) string { return p.TombstonesPrefix() + id.String() }

// TombstonesPrefix is what the names of the marks of removals begin with.
func (p Place) TombstonesPrefix() string { return p.Prefix() + "tombstones/" }

func (p Place) proofName(id string) string { return p.proofsPrefix() + id }

func (p Place) proofsPrefix() string { return p.Prefix() + "proofs/" }

// HoldsPrefix is what the names of the holds of backups begin with.
func (p Place) HoldsPrefix() string { return p.Prefix() + "holds/" }

// readingsPrefix is what the names of the marks of restores begin with.
func (p Place) readingsPrefix(replaying bool) string {
	if replaying {
		return p.Prefix() + "replaying/"
	}
	return p.Prefix() + "reading/"
}

func (p Place) purgedPrefix() string { return p.Prefix() + "purged/" }

// BackupsPrefix is what the names of all parts of backups begin with.
func (p Place) BackupsPrefix() string { return p.Prefix() + "backups/" }

// PackName is the object of a pack.
func (p Place) PackName(id repo.ID) string { return p.Prefix() + "packs/" + id.String() }

// PackOf gives the pack whose object has the key, and false if it is not a pack's.
func (p Place) PackOf(key string) (repo.ID, bool) {
	name, ok := strings.CutPrefix(key, p.PacksPrefix())
	if !ok {
		return repo.ID{}, false
	}
	id, err := repo.ParseID(name)
	return id, err == nil
}

// PacksPrefix is what the names of all packs begin with.
func (p Place) PacksPrefix() string { return p.Prefix() + "packs/" }

// WALName is the object of a WAL file: a segment, history or backup history
// file with PostgreSQL's name.
func (p Place) WALName(tli pg.Timeline, file string) string {
	return p.walPrefix() + tli.Hex() + "/" + file
}

func (p Place) walPrefix() string { return p.Prefix() + "wal/" }

// BackupLock is what a running backup of the place holds.
func (p Place) BackupLock() string { return "backup-" + p.Cluster + "-" + p.String() }

// RemovalLock is what a removal from the place holds, beside which a backup may run.
func (p Place) RemovalLock() string { return "removal-" + p.Cluster + "-" + p.String() }

// Origin is what a place remembers of how it came to be.
type Origin struct {
	FormatVersion int         `json:"format_version"`
	Cluster       string      `json:"cluster"`
	SystemID      pg.SystemID `json:"system_id"`
	Incarnation   Incarnation `json:"incarnation"`
	CreatedAt     time.Time   `json:"created_at"`
	Version       pg.Version  `json:"server_version"`
	Sizes         pg.Sizes    `json:"sizes"`
	// Parent is the incarnation that a takeover continues, and its backup.
	Parent Incarnation `json:"parent_incarnation,omitempty"`
	// ParentTimeline is the last of the parent's timelines that is part of this life:
	// the parent may have gone on, with timelines of numbers that come here too.
	ParentTimeline pg.Timeline `json:"parent_timeline,omitempty"`
	BackupID       string      `json:"backup_id,omitempty"`
}

// Place is the place of the origin.
func (o Origin) Place() Place { return Place{o.Cluster, o.SystemID, o.Incarnation} }

// ErrNoPlace says that the repository does not know the incarnation.
var ErrNoPlace = errors.New("the repository has no place for this incarnation of the cluster")

// WriteOrigin makes the place. It fails with store.ErrExists if there is one.
func WriteOrigin(ctx context.Context, objects *seal.Objects, o Origin) error {
	o.FormatVersion = repo.FormatVersion
	return putDocument(ctx, objects, o.Place().originName(), seal.Origin, o)
}

// ReadOrigin reads what is known of a place. It fails with ErrNoPlace if the
// place does not exist.
func ReadOrigin(ctx context.Context, objects *seal.Objects, p Place) (Origin, error) {
	o, err := getDocument[Origin](ctx, objects, p.originName(), seal.Origin)
	if errors.Is(err, store.ErrNotFound) {
		return Origin{}, fmt.Errorf("%s in %s: %w", p, objects.Store(), ErrNoPlace)
	}
	if err != nil {
		return Origin{}, err
	}
	if o.FormatVersion != repo.FormatVersion {
		return Origin{}, fmt.Errorf("%s has format version %d, this release reads %d: %w",
			p.originName(), o.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)
	}
	if o.Place() != p {
		return Origin{}, repo.Damaged(p.originName(), "it describes another place, %s", o.Place())
	}
	if err := o.Sizes.Validate(); err != nil {
		return Origin{}, repo.Damaged(p.originName(), "%v", err)
	}
	return o, nil
}

// Places lists the places of a cluster, oldest first. It fails if one cannot be read.
func Places(ctx context.Context, objects *seal.Objects, cluster string) ([]Origin, error) {
	origins, unreadable, err := ReadPlaces(ctx, objects, cluster)
	return origins, errors.Join(err, errors.Join(unreadable...))
}

// ReadPlaces lists the places of a cluster, oldest first, and gives those apart, each as
// an *UnreadablePlace, that cannot be read: one damaged origin must not keep what is in
// the other places from being restored.
func ReadPlaces(ctx context.Context, objects *seal.Objects, cluster string) (origins []Origin, unreadable []error, err error) {
	prefix := clustersPrefix + cluster + "/"
	for o, err := range objects.Store().List(ctx, prefix, store.ListOptions{Delimited: true}) {
		if err != nil {
			return nil, nil, fmt.Errorf("listing %s: %w", prefix, err)
		}
		p, err := parsePlace(cluster, strings.TrimSuffix(strings.TrimPrefix(o.Key, prefix), "/"))
		if err != nil {
			continue // not ours
		}
		origin, err := ReadOrigin(ctx, objects, p)
		if errors.Is(err, ErrNoPlace) {
			// It is the first object of a place, and nobody removes it.
			err = repo.Damaged(p.originName(), "it is missing, and other objects of its place are there")
		}
		switch {
		case err == nil:
			origins = append(origins, origin)
		case repo.Unreadable(err):
			unreadable = append(unreadable, &UnreadablePlace{Place: p, Err: err})
		default:
			return nil, nil, err
		}
	}
	sort.SliceStable(origins, func(i, j int) bool { return origins[i].CreatedAt.Before(origins[j].CreatedAt) })
	return origins, unreadable, nil
}

func parsePlace(cluster, s string) (Place, error) {
	id, inc, _ := strings.Cut(s, "-")
	systemID, err := pg.ParseSystemID(id)
	if err != nil {
		return Place{}, err
	}
	incarnation, err := ParseIncarnation(inc)
	return Place{cluster, systemID, incarnation}, err
}
