package catalog

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// proof has every field.
func proof(n int) Proof {
	at := minute(float64(n))
	return Proof{ID: at.Format("20060102T150405Z") + "-00000" + string(rune('0'+n%10)), Kind: RestoreProof, Program: "1.0.0", Host: "db1", CPUs: 8,
		StartedAt: at, Repository: "near", BackupID: b1, OK: true, Seconds: 14,
		Level: VerifyRestore, Checks: []Check{{"pages", true, 12.5, "4096", false}, {"amcheck", false, 0.5, "not installed", true}}, Problems: []Problem{{"damaged", "packs/1", "base/1/2", "why"}}, Size: 4 << 30, Fetched: 1 << 30, Written: 3 << 30, Delta: true, CopySeconds: 12.25,
		Target: ToRestorePoint.String(), StartLSN: 0x100028, RecoveredTo: 0x300000, Replayed: 0x300000 - 0x100028, ReplaySeconds: 1.5}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	read := func(most int) (ids []string, unreadable []error) {
		t.Helper()
		got, unreadable, err := ReadProofs(ctx, w.objects, testPlace.Cluster, most)
		w.must(err)
		for _, p := range got {
			ids = append(ids, p.ID)
		}
		return ids, unreadable
	}
	if got, unreadable := read(20); len(got)+len(unreadable) != 0 {
		t.Errorf("before there is one: %v, %v", got, unreadable)
	}
	// Some are those of a takeover; other clusters' are none of ours.
	takeover, other := testPlace, testPlace
	takeover.Incarnation, other.Cluster = "fedcba9876543210", "other"
	var want []string
	for n := range 30 {
		p := testPlace
		if n%3 == 1 {
			p = takeover
		}
		w.must(WriteProof(ctx, w.objects, p, proof(n)))
		want = append(want, proof(n).ID)
	}
	w.must(WriteProof(ctx, w.objects, other, proof(40)))
	w.put(testPlace.proofsPrefix()+"letter", []byte("dear repository"))
	w.put(testPlace.Prefix()+"proofs.txt", []byte("dear repository"))
	slices.Reverse(want)
	for _, most := range []int{0, 1, 4, 20, 100} {
		got, unreadable := read(most)
		if d := cmp.Diff(want[:min(most, 30)], got, cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); d != "" && most > 0 || len(unreadable) > 0 || len(got) > most {
			t.Errorf("the newest %d: %v\n%s", most, unreadable, d)
		}
	}
	whole := proof(29)
	whole.FormatVersion = repo.FormatVersion
	got, err := ReadProof(ctx, w.objects, testPlace, whole.ID)
	if d := cmp.Diff(whole, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}

	// What cannot be read is named, and the others are.
	flip(w, testPlace.proofName(want[0]))
	w.must(w.objects.Put(ctx, testPlace.proofName("20261124T230000Z-aaaaaa"), seal.Proof, []byte(`{"format_version":1,"id":"20261124T230000Z-bbbbbb"}`)))
	w.must(w.objects.Put(ctx, testPlace.proofName("20261124T230001Z-aaaaaa"), seal.Proof, []byte(`{"format_version":2,"id":"20261124T230001Z-aaaaaa"}`)))
	ids, unreadable := read(5)
	if d := cmp.Diff(want[1:3], ids); d != "" || len(unreadable) != 3 {
		t.Fatalf("%v\n%s", unreadable, d)
	}
	for i, want := range []error{repo.ErrUnknownFormat, repo.ErrDamaged, repo.ErrDamaged} {
		if !errors.Is(unreadable[i], want) || !strings.Contains(unreadable[i].Error(), "/proofs/") {
			t.Errorf("%v, want %v", unreadable[i], want)
		}
	}

	// Written once, under a name of its kind.
	if err := WriteProof(ctx, w.objects, testPlace, proof(0)); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second one of the name: %v", err)
	}
	if err := WriteProof(ctx, w.objects, testPlace, Proof{ID: "../origin"}); err == nil {
		t.Error("a proof of any name is written")
	}
	if left, err := Leftovers(ctx, w.objects, testPlace); err != nil || len(left) > 0 || testPlace.Removable(testPlace.proofName(want[3])) {
		t.Errorf("proofs are taken for leftovers: %v, %v", left, err)
	}
}

// Every field of a proof stands in the format's page.
func TestProofDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/format/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n### Proofs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	data, err := json.Marshal(proof(0))
	var fields map[string]any
	if err = errors.Join(err, json.Unmarshal(data, &fields)); err != nil || !found {
		t.Fatal(err, found)
	}
	for name := range fields {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("docs/format/README.md does not tell of a proof's %s", name)
		}
	}
}
