package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// ReadProofs reads the newest proofs of a cluster, in whichever of its places they are:
// at most so many, newest first. Those that cannot be read count too, and are given as
// errors, each an *UnreadableProof.
func ReadProofs(ctx context.Context, objects *seal.Objects, cluster string, most int) (proofs []Proof, unreadable []error, err error) {
	newest, err := listProofs(ctx, objects, cluster, most)
	if err != nil {
		return nil, nil, err
	}
	unreadable, err = readAll(ctx, objects, newest, func(v SignedProof) { proofs = append(proofs, v.Proof) })
	return proofs, unreadable, err
}

// WalkProofs reads all proofs of a cluster, in whichever of its places they are, and
// gives them to use in the order in which they were written. Those that cannot be read
// are given as errors, each an *UnreadableProof.
func WalkProofs(ctx context.Context, objects *seal.Objects, cluster string, use func(SignedProof)) (unreadable []error, err error) {
	all, err := listProofs(ctx, objects, cluster, -1)
	if err != nil {
		return nil, err
	}
	slices.Reverse(all)
	return readAll(ctx, objects, all, use)
}

// FindProof reads the proof of that identifier, in whichever of the cluster's places it
// is. It fails with ErrNoProof if there is none.
func FindProof(ctx context.Context, objects *seal.Objects, cluster, id string) (SignedProof, error) {
	all, err := listProofs(ctx, objects, cluster, -1)
	if err != nil {
		return SignedProof{}, err
	}
	for _, n := range all {
		if n.id == id {
			return ReadProof(ctx, objects, n.place, id)
		}
	}
	return SignedProof{}, fmt.Errorf("%s: %w", id, ErrNoProof)
}

// ErrNoProof says that there is no such proof.
var ErrNoProof = errors.New("no such proof")

// proofsAtOnce is how many proofs are read before the first of them is used: of each,
// the store is waited for.
const proofsAtOnce = 8 * headsAtOnce

// readAll reads proofs, and gives them to use in their order.
func readAll(ctx context.Context, objects *seal.Objects, all []named, use func(SignedProof)) (unreadable []error, err error) {
	for some := range slices.Chunk(all, proofsAtOnce) {
		proofs, errs := make([]SignedProof, len(some)), make([]error, len(some))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(headsAtOnce)
		for i, n := range some {
			g.Go(func() error {
				if gctx.Err() != nil {
					return context.Cause(gctx)
				}
				v, err := ReadProof(gctx, objects, n.place, n.id)
				proofs[i], errs[i] = v, err
				if err != nil && !errors.Is(err, store.ErrNotFound) && !repo.Unreadable(err) {
					return fmt.Errorf("reading proof %s: %w", n.id, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		for i, err := range errs {
			switch {
			case err == nil:
				use(proofs[i])
			case repo.Unreadable(err):
				unreadable = append(unreadable, &UnreadableProof{some[i].id, some[i].place, err})
			} // or it went meanwhile
		}
	}
	return unreadable, nil
}

// newestProof names the newest proof of a cluster, nil if there is none. One that cannot
// be read has no digest, so the one before it is named.
func newestProof(ctx context.Context, objects *seal.Objects, cluster string) (*ProofRef, error) {
	all, err := listProofs(ctx, objects, cluster, proofAttempts)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		v, err := ReadProof(ctx, objects, n.place, n.id)
		switch {
		case err == nil:
			return &ProofRef{v.ID, v.Digest}, nil
		case !errors.Is(err, store.ErrNotFound) && !repo.Unreadable(err):
			return nil, fmt.Errorf("reading proof %s: %w", n.id, err)
		}
	}
	return nil, nil
}

// named is a proof by its name.
type named struct {
	place Place
	id    string
}

func newerFirst(a, b named) int { return cmp.Compare(b.id, a.id) }

// listProofs names the newest proofs of a cluster, newest first: at most so many, and no
// more names are held; all if most is negative.
func listProofs(ctx context.Context, objects *seal.Objects, cluster string, most int) ([]named, error) {
	var newest []named
	add := func(n named) { newest = append(newest, n) }
	if most >= 0 {
		add = func(n named) {
			at, _ := slices.BinarySearchFunc(newest, n, newerFirst)
			if at < most {
				newest = slices.Insert(newest, at, n)
				newest = newest[:min(len(newest), most)]
			}
		}
	}
	prefix := clustersPrefix + cluster + "/"
	for o, err := range objects.Store().List(ctx, prefix, store.ListOptions{Delimited: true}) {
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", prefix, err)
		}
		p, err := parsePlace(cluster, strings.TrimSuffix(strings.TrimPrefix(o.Key, prefix), "/"))
		if err != nil {
			continue // not ours
		}
		for o, err := range objects.Store().List(ctx, p.proofsPrefix(), store.ListOptions{}) {
			if err != nil {
				return nil, fmt.Errorf("listing %s: %w", p.proofsPrefix(), err)
			}
			id := strings.TrimPrefix(o.Key, p.proofsPrefix())
			if ValidBackupID(id) {
				add(named{p, id})
			}
		}
	}
	slices.SortStableFunc(newest, newerFirst)
	return newest, nil
}
