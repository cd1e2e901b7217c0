package catalog

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/proof"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// proof has every field.
func proofOf(n int) Proof {
	at := minute(float64(n))
	return Proof{ID: at.Format("20060102T150405Z") + "-00000" + string(rune('0'+n%10)), Kind: RestoreProof, Program: "1.0.0", Host: "db1", CPUs: 8,
		StartedAt: at, Repository: "near", BackupID: b1, Previous: &ProofRef{"20261124T050000Z-000000", "00ff"}, OK: true, Seconds: 14,
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
		w.must(putProof(ctx, w.objects, p, proofOf(n), "", nil))
		want = append(want, proofOf(n).ID)
	}
	w.must(putProof(ctx, w.objects, other, proofOf(40), "", nil))
	w.put(testPlace.proofsPrefix()+"letter", []byte("dear repository"))
	w.put(testPlace.Prefix()+"proofs.txt", []byte("dear repository"))
	slices.Reverse(want)
	for _, most := range []int{0, 1, 4, 20, 100} {
		got, unreadable := read(most)
		if d := cmp.Diff(want[:min(most, 30)], got, cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); d != "" && most > 0 || len(unreadable) > 0 || len(got) > most {
			t.Errorf("the newest %d: %v\n%s", most, unreadable, d)
		}
	}
	whole := proofOf(29)
	whole.FormatVersion = repo.FormatVersion
	got, err := ReadProof(ctx, w.objects, testPlace, whole.ID)
	if d := cmp.Diff(whole, got.Proof); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}

	// What cannot be read is named, and the others are.
	flip(w, testPlace.proofName(want[0]))
	w.must(w.objects.Put(ctx, testPlace.proofName("20261124T230000Z-aaaaaa"), seal.Proof, envelopeOf(t, Proof{FormatVersion: 1, ID: "20261124T230000Z-bbbbbb"})))
	w.must(w.objects.Put(ctx, testPlace.proofName("20261124T230001Z-aaaaaa"), seal.Proof, envelopeOf(t, Proof{FormatVersion: 2, ID: "20261124T230001Z-aaaaaa"})))
	ids, unreadable := read(5)
	if d := cmp.Diff(want[1:3], ids); d != "" || len(unreadable) != 3 {
		t.Fatalf("%v\n%s", unreadable, d)
	}
	for i, want := range []error{repo.ErrUnknownFormat, repo.ErrDamaged, repo.ErrDamaged} {
		if !errors.Is(unreadable[i], want) || !strings.Contains(unreadable[i].Error(), "/proofs/") {
			t.Errorf("%v, want %v", unreadable[i], want)
		}
	}

	// Written once, under its name.
	if err := putProof(ctx, w.objects, testPlace, proofOf(0), "", nil); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second one of the name: %v", err)
	}
	if _, err := FindProof(ctx, w.objects, testPlace.Cluster, proofOf(77).ID); !errors.Is(err, ErrNoProof) {
		t.Errorf("one that was never there: %v", err)
	}
	if v, err := FindProof(ctx, w.objects, testPlace.Cluster, proofOf(1).ID); err != nil || v.ID != proofOf(1).ID {
		t.Errorf("one of the takeover: %+v, %v", v, err)
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
	data, err := json.Marshal(proofOf(0))
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

// envelopeOf is a proof as it is kept, whether it makes sense or not.
func envelopeOf(t testing.TB, v Proof) []byte {
	t.Helper()
	predicate, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proof.Seal(proof.Statement{Subject: []proof.Subject{{Name: v.BackupID}}, PredicateType: PredicateType, Predicate: predicate})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each proof names the one before it, whichever place it is in and whoever wrote it, and
// is signed; the backup is named by what the repository has of it.
func TestProofChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	signer, err := proof.NewSigner()
	w.must(err)
	takeover := testPlace
	takeover.Incarnation = "fedcba9876543210"
	w.must(WriteHead(ctx, w.objects, ordinaryHead(1)))
	var before SignedProof
	for n := range 40 {
		p, now := testPlace, minute(float64(n/20)) // twenty of each second
		if n%3 == 1 {
			p = takeover
		}
		v := Proof{Kind: VerifyProof, BackupID: ordinaryHead(1).ID, OK: true, Level: VerifyData, StartedAt: now}
		written, err := WriteProof(ctx, w.objects, p, v, now, signer)
		w.must(err)
		got, err := ReadProof(ctx, w.objects, p, written.ID)
		w.must(err)
		if d := cmp.Diff(written, got.Proof); d != "" {
			t.Fatalf("it says that it has written something else:\n%s", d)
		}
		if _, err := got.Envelope.Check(signer.Public()); err != nil || !got.Signed() {
			t.Fatalf("proof %d: %v", n, err)
		}
		head := proof.Digest(w.raw(HeadName(testPlace, v.BackupID)))
		if p != testPlace {
			head = "" // it has no such backup
		}
		if got.HeadDigest != head {
			t.Errorf("proof %d is of the head %q, and not %q", n, got.HeadDigest, head)
		}
		switch {
		case n == 0 && got.Previous != nil:
			t.Errorf("the first names %+v", got.Previous)
		case n > 0 && (got.Previous == nil || *got.Previous != ProofRef{before.ID, before.Digest}):
			t.Fatalf("proof %d names %+v, and not %s", n, got.Previous, before.ID)
		case n > 0 && got.ID <= before.ID:
			t.Fatalf("proof %s comes before %s", got.ID, before.ID)
		}
		before = got
	}

	// One that cannot be read is passed over.
	flip(w, testPlace.proofName(before.ID))
	next, err := WriteProof(ctx, w.objects, testPlace, Proof{BackupID: b1}, minute(9), nil)
	w.must(err)
	if next.Previous == nil || next.Previous.ID >= before.ID {
		t.Errorf("behind a damaged proof: %+v", next.Previous)
	}
	if v, err := ReadProof(ctx, w.objects, testPlace, next.ID); err != nil || v.Signed() || v.HeadDigest != "" {
		t.Errorf("one that nobody signs, of a backup that is gone: %+v, %v", v, err)
	}
}

// Two that write at once may name the same proof, and both are kept.
func TestProofsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var g errgroup.Group
	for range 32 {
		g.Go(func() error {
			_, err := WriteProof(t.Context(), w.objects, testPlace, Proof{BackupID: b1}, minute(0), nil)
			return err
		})
	}
	w.must(g.Wait())
	if got, unreadable, err := ReadProofs(t.Context(), w.objects, testPlace.Cluster, 99); err != nil || len(got) != 32 || len(unreadable) > 0 {
		t.Errorf("%d proofs, %v, %v", len(got), unreadable, err)
	}
}

func TestProofIDAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, fresh, least, most string }{
		{"20261124T050000Z-ffffff", "20261124T050001Z-000000", "20261124T050001Z-000000", "20261124T050001Z-000000"},
		{"20261124T050000Z-000000", "20261124T050000Z-ffffff", "20261124T050000Z-001000", "20261124T050000Z-001000"},
		{"20261124T050000Z-0000ff", "20261124T040000Z-000000", "20261124T050000Z-000100", "20261124T050000Z-000100"},
		{"20261124T235959Z-ffffff", "20261124T235959Z-000000", "20261125T000000Z-000000", "20261125T000000Z-ffffff"},
		{"20261324T999999Z-000000", "20261124T235959Z-000000", "00010101T000001Z-000000", "00010101T000001Z-ffffff"}, // nobody writes that
	} {
		if got := proofIDAfter(c.before, c.fresh); got < c.least || got > c.most || !ValidBackupID(got) {
			t.Errorf("after %s, %s becomes %s", c.before, c.fresh, got)
		}
	}
}

// A proof is about one backup, and says so in two places.
func TestParseProof(t *testing.T) {
	t.Parallel()
	good := Proof{FormatVersion: 1, ID: proofOf(1).ID, BackupID: b1}
	seal := func(s proof.Statement) []byte {
		b, err := proof.Seal(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	predicate, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	about := []proof.Subject{{Name: b1}}
	if _, err := ParseProof(envelopeOf(t, good)); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		envelope []byte
		unknown  bool
	}{
		"no envelope":      {[]byte("{"), false},
		"no statement":     {[]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`), false},
		"of another kind":  {seal(proof.Statement{Subject: about, PredicateType: "https://slsa.dev/provenance/v1", Predicate: predicate}), true},
		"no predicate":     {seal(proof.Statement{Subject: about, PredicateType: PredicateType, Predicate: []byte(`[]`)}), false},
		"a later format":   {envelopeOf(t, Proof{FormatVersion: 2, ID: good.ID, BackupID: b1}), true},
		"no identifier":    {envelopeOf(t, Proof{FormatVersion: 1, ID: "../origin", BackupID: b1}), false},
		"another backup's": {seal(proof.Statement{Subject: []proof.Subject{{Name: b2}}, PredicateType: PredicateType, Predicate: predicate}), false},
		"of two":           {seal(proof.Statement{Subject: append(about, about...), PredicateType: PredicateType, Predicate: predicate}), false},
	} {
		_, err := ParseProof(c.envelope)
		if err == nil || errors.Is(err, repo.ErrUnknownFormat) != c.unknown {
			t.Errorf("%s: %v", what, err)
		}
	}
}
