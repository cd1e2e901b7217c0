//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// gbOfScale is what one unit of pgbench's scale takes, in GB.
const gbOfScale = 0.015

// roundsAtSize is how many incremental backups are made at each size.
const roundsAtSize = 3

// measureSizes backs up and restores clusters of growing size, to show how memory
// and cost grow with it. Each size is measured once, with the tools that archive, and
// with zstd: another codec has no other buffers. Incremental backups, if asked for, are
// of the same number of transactions at every size.
func (b *bench) measureSizes(ctx context.Context, all []tool) error {
	if len(b.sizes) == 0 {
		return nil
	}
	if err := b.db.Exec(ctx, "drop database if exists swifteats"); err != nil {
		return err
	}
	for _, gb := range b.sizes {
		scale := max(1, int(math.Round(gb/gbOfScale)))
		b.say("filling: pgbench at scale %d, %g GB", scale, gb)
		if err := b.pgbench(ctx, "-i", "-q", "-s", strconv.Itoa(scale), "postgres"); err != nil {
			return err
		}
		if err := b.rest(ctx); err != nil {
			return err
		}
		for _, t := range takesPart(all, "full") {
			if !slices.Contains(b.steps, "full") || t.about().Codec != likeZstd || t.push(b, b.data) == nil {
				continue
			}
			if err := b.backUpAndRestore(ctx, t, 1, gb, ""); err != nil {
				return fmt.Errorf("%s at %g GB: %w", t.about().Name, gb, err)
			}
		}
		if slices.Contains(b.steps, "incr") {
			if err := b.measureIncrementals(ctx, all, roundsAtSize, gb); err != nil {
				return fmt.Errorf("at %g GB: %w", gb, err)
			}
		}
	}
	return nil
}
