//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// measureWAL pushes and fetches the same segments with each tool, in turns.
func (b *bench) measureWAL(ctx context.Context, all []tool) error {
	all = takesPart(all, "wal")
	segments, err := b.makeWAL(ctx)
	if err != nil {
		return fmt.Errorf("making WAL: %w", err)
	}
	for repeat := 1; repeat <= b.repeats; repeat++ {
		for _, t := range turns(all, repeat) {
			if err := b.pushAndFetch(ctx, t, repeat, segments); err != nil {
				return fmt.Errorf("%s: %w", t.about().Name, err)
			}
		}
	}
	return nil
}

// walSource looks to the tools like a data directory whose WAL is to be archived;
// walTarget like one that recovers.
func (b *bench) walSource() string { return filepath.Join(b.root, "walsource") }
func (b *bench) walTarget() string { return filepath.Join(b.root, "waltarget") }

// makeWAL has the server write WAL, of small transactions and of loading, and keeps
// its segments in the source. It gives their names in order.
func (b *bench) makeWAL(ctx context.Context) ([]string, error) {
	if err := b.makeDataDir(b.walSource()); err != nil {
		return nil, err
	}
	into := filepath.Join(b.walSource(), "pg_wal")
	if err := b.drain(ctx); err != nil {
		return nil, err
	}
	if err := b.setArchiving("exec cp \"$1\" '" + into + "/'\n"); err != nil {
		return nil, err
	}
	b.say("making %d MB of WAL", b.walMB)
	var names []string
	for round := 1; ; round++ {
		if err := b.pgbench(ctx, "-n", "-c", "4", "-t", "2500", "--random-seed="+strconv.Itoa(round), "postgres"); err != nil {
			return nil, err
		}
		if err := b.fillEats(ctx, "more", 20_000, int64(round)); err != nil {
			return nil, err
		}
		if err := errors.Join(b.db.Exec(ctx, "drop database more"), b.drain(ctx)); err != nil {
			return nil, err
		}
		var bytes int64
		var err error
		if names, bytes, err = segmentsIn(into); err != nil || bytes >= int64(b.walMB)*1_000_000 {
			return names, errors.Join(err, b.archiveBy())
		}
	}
}

// makeDataDir makes what the tools want to see of a data directory.
func (b *bench) makeDataDir(dir string) error {
	for _, d := range []string{dir, dir + "/global", dir + "/pg_wal", dir + "/pg_wal/archive_status"} {
		if err := b.user.makeDir(d); err != nil {
			return err
		}
	}
	return b.keepControl(dir)
}

// keepControl copies the files by which the tools know the cluster. The last is
// Salvor's, made by its init.
func (b *bench) keepControl(dir string) error {
	for _, name := range []string{"PG_VERSION", "global/pg_control", "salvor.incarnation"} {
		data, err := os.ReadFile(filepath.Join(b.data, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = b.user.write(filepath.Join(dir, name), string(data), 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// segmentsIn lists WAL segments in order, and their size.
func segmentsIn(dir string) ([]string, int64, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	var sum int64
	for _, e := range entries {
		if !isSegment(e.Name()) {
			continue
		}
		info, infoErr := e.Info()
		if infoErr != nil {
			return nil, 0, infoErr
		}
		names = append(names, e.Name())
		sum += info.Size()
	}
	return names, sum, err
}

func isSegment(name string) bool {
	return len(name) == 24 && strings.Trim(name, "0123456789ABCDEF") == ""
}

// pushLoop does what the server's archiver does: a command for each segment, in
// order, and then the rename that tells asynchronous tools what is left.
const pushLoop = `cd %s || exit 1
while read -r s; do
  %s pg_wal/$s </dev/null || exit 1
  mv pg_wal/archive_status/$s.ready pg_wal/archive_status/$s.done || exit 1
done <%s
`

// fetchLoop does what recovery does. What was fetched is kept, to be compared.
const fetchLoop = `cd %s || exit 1
while read -r s; do
  %s $s pg_wal/RECOVERYXLOG </dev/null || exit 1
  mv pg_wal/RECOVERYXLOG fetched/$s || exit 1
done <%s
`

func (b *bench) pushAndFetch(ctx context.Context, t tool, repeat int, segments []string) error {
	if err := t.reset(ctx, b); err != nil {
		return err
	}
	defer b.user.makeDir(b.repo(t)) //nolint:errcheck // it is made anew before it is used
	names := filepath.Join(b.root, "segments")
	if err := b.user.write(names, strings.Join(segments, "\n")+"\n", 0o600); err != nil {
		return err
	}
	if err := errors.Join(b.keepControl(b.walSource()), b.makeReady(segments)); err != nil {
		return err
	}
	_, bytes, err := segmentsIn(filepath.Join(b.walSource(), "pg_wal"))
	if err != nil {
		return err
	}
	before, err := size(b.repo(t), []string{"."})
	if err != nil {
		return err
	}
	u, err := b.loop(ctx, t, pushLoop, b.walSource(), t.push(b, b.walSource()), names)
	if err != nil {
		return err
	}
	after, err := size(b.repo(t), []string{"."})
	if err != nil {
		return err
	}
	if err := b.note(t, "push", repeat, 0, bytes, u, map[string]float64{metricStored: float64(after - before)}); err != nil {
		return err
	}
	if err := errors.Join(b.makeDataDir(b.walTarget()), b.user.makeDir(b.walTarget()+"/fetched")); err != nil {
		return err
	}
	if u, err = b.loop(ctx, t, fetchLoop, b.walTarget(), t.fetch(b, b.walTarget()), names); err != nil {
		return err
	}
	if err := b.note(t, "fetch", repeat, 0, bytes, u, nil); err != nil {
		return err
	}
	return errors.Join(b.compareWAL(segments), os.RemoveAll(b.walTarget()))
}

// loop measures one of the loops above.
func (b *bench) loop(ctx context.Context, t tool, text, dir string, argv []string, names string) (usage, error) {
	script := filepath.Join(b.root, "loop.sh")
	text = fmt.Sprintf(text, quote([]string{dir}), quote(argv), quote([]string{names}))
	if err := b.user.write(script, text, 0o600); err != nil {
		return usage{}, err
	}
	u, _, err := b.measure(ctx, []string{"sh", script}, t.about().Env)
	return u, err
}

// makeReady marks the segments as the server does before it archives them.
func (b *bench) makeReady(segments []string) error {
	status := filepath.Join(b.walSource(), "pg_wal", "archive_status")
	if err := b.user.makeDir(status); err != nil {
		return err
	}
	for _, s := range segments {
		if err := b.user.write(filepath.Join(status, s+".ready"), "", 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) compareWAL(segments []string) error {
	for _, s := range segments {
		want, err1 := os.ReadFile(filepath.Join(b.walSource(), "pg_wal", s))
		got, err2 := os.ReadFile(filepath.Join(b.walTarget(), "fetched", s))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !bytes.Equal(want, got) {
			return fmt.Errorf("segment %s came back different", s)
		}
	}
	return nil
}
