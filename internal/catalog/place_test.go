package catalog

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

func blake3Of(b []byte) Hash { return Hash(blake3.Sum256(b)) }

// The names of objects are part of the format.
func TestNames(t *testing.T) {
	const prefix = "clusters/orders/7301234567890123456-0123456789abcdef/"
	p := testPlace
	for got, want := range map[string]string{
		p.Prefix():                           prefix,
		p.originName():                       prefix + "origin",
		p.backupName(b1, "head"):             prefix + "backups/" + b1 + "/head",
		p.RunningName(b1):                    prefix + "running/" + b1,
		p.PacksPrefix():                      prefix + "packs/",
		p.PackName(repo.ID{1}):               prefix + "packs/01000000000000000000000000000000",
		p.WALName(26, "0000001A.history"):    prefix + "wal/0000001A/0000001A.history",
		p.BackupLock():                       "backup-orders-7301234567890123456-0123456789abcdef",
		p.String():                           "7301234567890123456-0123456789abcdef",
		PartNames(p, b1)[0]:                  prefix + "backups/" + b1 + "/files",
		PartNames(p, b1)[1]:                  prefix + "backups/" + b1 + "/packs",
		string(testPlace.Incarnation):        "0123456789abcdef",
		Target{Kind: ToImmediate}.String():   "immediate",
		Target{Kind: ToLSN, LSN: 1}.String(): "lsn 0/1",
		Target{Kind: ToXID, XID: 5}.String(): "xid 5",
		NewBackupID(minute(51))[:17]:         "20261124T065100Z-",
		Target{Kind: ToTime, Time: minute(0), Exclusive: true}.String(): "before time 2026-11-24T06:00:00Z",
		Target{Kind: ToRestorePoint, Name: "a\"b"}.String():             `restore point "a\"b"`,
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, key := range []string{p.originName(), p.backupName(NewBackupID(minute(0)), "head"), p.PackName(repo.NewID()), p.RunningName(b1)} {
		if err := store.ValidateKey(key); err != nil {
			t.Error(err)
		}
	}
	for s, want := range map[string]bool{b1: true, NewBackupID(minute(0)): true, "": false, "x" + b1: false, b1 + "0": false, "20261124T060000Z-00000G": false} {
		if ValidBackupID(s) != want {
			t.Errorf("%q is an identifier of a backup: %v", s, !want)
		}
	}
}

func TestIncarnation(t *testing.T) {
	a := NewIncarnation()
	if _, err := ParseIncarnation(string(a)); err != nil || a == NewIncarnation() {
		t.Errorf("%s: %v", a, err)
	}
	for _, s := range []string{"", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "0123456789abcdef\n"} {
		if _, err := ParseIncarnation(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestPlaces(t *testing.T) {
	w := newWorld(t)
	older := w.origin
	older.Incarnation, older.CreatedAt = "ffffffffffffffff", minute(-10)
	newer := w.origin
	newer.SystemID, newer.CreatedAt, newer.Parent, newer.BackupID = 5, minute(10), older.Incarnation, b1
	elsewhere := w.origin
	elsewhere.Cluster = "orders2"
	for _, o := range []Origin{older, newer, elsewhere} {
		w.must(WriteOrigin(t.Context(), w.objects, o))
	}
	w.put("clusters/orders/7-0123456789abcdef/packs/x", []byte("a place without an origin"))
	w.put("clusters/orders/notes/x", []byte("not ours"))
	w.put("clusters/orders/README", []byte("not ours"))

	got, unreadable, err := ReadPlaces(t.Context(), w.objects, "orders")
	var lost *UnreadablePlace
	if len(unreadable) != 1 || !errors.As(unreadable[0], &lost) || lost.Place.SystemID != 7 || !errors.Is(lost, repo.ErrDamaged) {
		t.Errorf("unreadable: %v", unreadable)
	}
	for i := range got {
		got[i].FormatVersion = 0
	}
	if d := cmp.Diff([]Origin{older, w.origin, newer}, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if got, unreadable, err := ReadPlaces(t.Context(), w.objects, "nobody"); err != nil || len(got)+len(unreadable) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Places(t.Context(), w.objects, "orders"); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("all of them: %v", err)
	}
	if err := WriteOrigin(t.Context(), w.objects, older); !errors.Is(err, store.ErrExists) {
		t.Errorf("a place made twice: %v", err)
	}
	if _, err := ReadOrigin(t.Context(), w.objects, Place{"orders", 9, "0123456789abcdef"}); !errors.Is(err, ErrNoPlace) {
		t.Errorf("no place: %v", err)
	}
}

func TestHead(t *testing.T) {
	w := newWorld(t)
	full := Head{
		ID: b1, Kind: Incremental, Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation,
		ParentID: b2, Program: "1.0.0", StartedAt: minute(1), StoppedAt: minute(2), StartLSN: at(1, 0x28), StopLSN: at(2, 0),
		Timeline: 3, Seconds: 1.5, Version: 150018, CatalogVersion: 202209061, Sizes: testSizes, Checksums: true,
		Label: "START WAL LOCATION: 0/2000028\n", TablespaceMap: "1 /mnt\\\n", Tablespaces: []Tablespace{{1, "fast", "/mnt"}},
		WALIncluded: true, Owner: Owner{"postgres", "postgres"}, Needs: Needs{MaxConnections: 100, PreloadLibraries: "pg_stat_statements"},
		Slots: []Slot{{Name: "s", Kind: "logical", Plugin: "pgoutput", Database: "d"}}, Collations: []Collation{{"d", "icu", "de", "153.14"}},
		Size: 1, Read: 2, Stored: 3, PagesRead: 4, PagesStored: 5, FileCount: 6, FilesHeader: Hash{1}, PacksHeader: Hash{2},
		Damaged: []BadPage{{"base/1/2", 7, "checksum"}}, Annotations: map[string]string{"why": "before the update"},
	}
	w.must(WriteHead(t.Context(), w.objects, full))
	got, err := ReadHead(t.Context(), w.objects, testPlace, b1)
	full.FormatVersion = repo.FormatVersion
	if d := cmp.Diff(full, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if err := WriteHead(t.Context(), w.objects, full); !errors.Is(err, store.ErrExists) {
		t.Errorf("a head written twice: %v", err)
	}
	for id, want := range map[string]bool{b1: true, b2: false} {
		if ok, err := HeadExists(t.Context(), w.objects, testPlace, id); ok != want || err != nil {
			t.Errorf("%s exists: %v, %v", id, ok, err)
		}
	}
	if _, err := ReadHead(t.Context(), w.objects, testPlace, b2); !errors.Is(err, ErrNoBackup) {
		t.Errorf("no such backup: %v", err)
	}
}

// Heads that are well sealed but not what they should be.
func TestHeadWrong(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*Head)
		want   error
	}{
		"another backup":  {func(h *Head) { h.ID = b2 }, repo.ErrDamaged},
		"another place":   {func(h *Head) { h.SystemID = 5 }, repo.ErrDamaged},
		"another cluster": {func(h *Head) { h.Cluster = "x" }, repo.ErrDamaged},
		"absurd sizes":    {func(h *Head) { h.Sizes.WALSegment = 0 }, repo.ErrDamaged},
		"a newer format":  {func(h *Head) { h.FormatVersion = 2 }, repo.ErrUnknownFormat},
	} {
		w := newWorld(t)
		h := Head{FormatVersion: repo.FormatVersion, ID: b1, Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation, Sizes: testSizes}
		c.change(&h)
		data, err := json.Marshal(h)
		w.must(err)
		w.must(w.objects.Put(t.Context(), testPlace.backupName(b1, "head"), 4, data))
		if _, err := ReadHead(t.Context(), w.objects, testPlace, b1); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Backups come by time; what has no head is no backup.
func TestBackups(t *testing.T) {
	w := newWorld(t)
	w.backup("000002", 1, 1, 2, minute(1))
	w.backup("000001", 1, 1, 2, minute(2))
	w.put(testPlace.backupName("20261124T060000Z-00000a", "files"), []byte("x"))
	w.put(testPlace.backupName("notes", "head"), []byte("x"))
	heads, err := Backups(t.Context(), w.objects, testPlace)
	if err != nil || len(heads) != 2 || heads[0].ID != b2 || heads[1].ID != b1 {
		t.Errorf("%+v, %v", heads, err)
	}
}

func TestMarker(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadMarker(dir); !errors.Is(err, ErrNoMarker) {
		t.Errorf("none: %v", err)
	}
	for _, m := range []Marker{{Incarnation: NewIncarnation()}, {Incarnation: NewIncarnation(), RestoredFrom: NewIncarnation(), BackupID: b1}} {
		if err := WriteMarker(dir, m); err != nil {
			t.Fatal(err)
		}
		m.FormatVersion = repo.FormatVersion
		if got, err := ReadMarker(dir); err != nil || got != m {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := WriteMarker(dir, Marker{Incarnation: "x"}); err != nil {
		t.Fatal(err)
	}
	if m, err := ReadMarker(dir); err == nil {
		t.Errorf("a marker that is none was read: %+v", m)
	}
}
