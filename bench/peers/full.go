//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/salvor-dr/salvor/examples/swifteats"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// measureFull backs up and restores with each tool, in turns.
func (b *bench) measureFull(ctx context.Context, all []tool) error {
	all = takesPart(all, "full")
	want, err := b.contents(ctx, sourcePort)
	if err != nil {
		return err
	}
	for repeat := 1; repeat <= b.repeats; repeat++ {
		for _, t := range turns(all, repeat) {
			check := ""
			if repeat == 1 {
				check = want
			}
			if err := b.backUpAndRestore(ctx, t, repeat, 0, check); err != nil {
				return fmt.Errorf("%s: %w", t.about().Name, err)
			}
		}
	}
	return nil
}

// backUpAndRestore measures both of one tool. want is what the restored databases
// must hold; empty leaves that out.
func (b *bench) backUpAndRestore(ctx context.Context, t tool, repeat int, gb float64, want string) error {
	if err := b.prepare(ctx, t); err != nil {
		return err
	}
	defer b.user.makeDir(b.repo(t)) //nolint:errcheck // it is made anew before it is used
	bytes, err := b.dataSize()
	if err != nil {
		return err
	}
	u, _, more, err := b.measureBackup(ctx, t, t.backup(b))
	if err != nil {
		return err
	}
	stored, err := size(b.repo(t), t.holds())
	if err != nil {
		return err
	}
	more[metricStored] = float64(stored)
	if err := b.note(t, "backup", repeat, gb, bytes, u, more); err != nil {
		return err
	}
	if v, ok := t.(verifier); ok {
		if u, _, err = b.measure(ctx, v.verify(b), t.about().Env); err != nil {
			return err
		}
		if err := b.note(t, "verify", repeat, gb, bytes, u, map[string]float64{}); err != nil {
			return err
		}
	}
	if err := b.user.makeDir(b.dest()); err != nil {
		return err
	}
	if u, _, err = b.measure(ctx, t.restore(b, b.dest()), t.about().Env); err != nil {
		return err
	}
	began := b.clock.Now()
	if err := b.sync(); err != nil {
		return err
	}
	more = map[string]float64{metricSync: b.clock.Now().Sub(began).Seconds()}
	if err := b.note(t, "restore", repeat, gb, bytes, u, more); err != nil {
		return err
	}
	if want != "" {
		err = b.check(ctx, t, want)
	}
	return errors.Join(err, b.user.makeDir(b.dest()), b.archiveBy())
}

// prepare gives the tool an empty repository and the server's WAL.
func (b *bench) prepare(ctx context.Context, t tool) error {
	if err := t.reset(ctx, b); err != nil {
		return err
	}
	if err := b.archiveBy(t); err != nil {
		return err
	}
	if err := b.drain(ctx); err != nil {
		return err
	}
	return b.db.Checkpoint(ctx)
}

// measureBackup runs a tool's backup command. It also gives what the command printed,
// and what only a backup has: the server's part, and waits.
func (b *bench) measureBackup(ctx context.Context, t tool, argv []string) (usage, []byte, map[string]float64, error) {
	pid, err := b.postmaster()
	if err != nil {
		return usage{}, nil, nil, err
	}
	waits, err := b.watchWaits(ctx)
	if err != nil {
		return usage{}, nil, nil, err
	}
	before := serverCPU(pid)
	u, stdout, err := b.measure(ctx, argv, t.about().Env)
	after := serverCPU(pid)
	waited, waitErr := waits()
	if err := errors.Join(err, waitErr); err != nil {
		return u, nil, nil, err
	}
	if w, ok := t.(waiter); ok {
		late, err := b.archivedAfter(ctx, w, stdout)
		if err != nil {
			return u, nil, nil, err
		}
		waited += late
	}
	return u, stdout, map[string]float64{metricServerCPU: after - before, metricWait: waited.Seconds()}, nil
}

// archivedAfter tells how long after the end of backup mode the server had archived
// the last segment, which the tool had to wait for.
func (b *bench) archivedAfter(ctx context.Context, w waiter, stdout []byte) (time.Duration, error) {
	stopped, err := w.stopped(stdout)
	if err != nil {
		return 0, err
	}
	a, err := b.db.Archiver(ctx)
	return max(0, a.LastArchivedAt.Sub(stopped)), err
}

// check starts what was restored, lets it recover with the tool's own command, and
// compares.
func (b *bench) check(ctx context.Context, t tool, want string) error {
	if err := t.ready(b, b.dest()); err != nil {
		return err
	}
	return b.checkReady(ctx, want)
}

// checkReady starts what is in the destination, and compares.
func (b *bench) checkReady(ctx context.Context, want string) error {
	o := b.startOptions(b.dest(), restoredPort)
	o.Set = map[string]string{"archive_mode": "off"}
	o.Until = func(s server.Status) bool { return s.State == server.StateReady }
	if _, err := server.Start(ctx, o); err != nil {
		return err
	}
	got, err := b.contents(ctx, restoredPort)
	err = errors.Join(err, server.Stop(ctx, b.dest(), server.Immediate))
	if err == nil && got != want {
		err = fmt.Errorf("what was restored differs: it has\n%s\nand not\n%s", got, want)
	}
	return err
}

// contents tells what the databases hold, as text.
func (b *bench) contents(ctx context.Context, port int) (string, error) {
	var text, part string
	for _, q := range []struct{ database, sql string }{
		{"postgres", `select format('%s %s %s', count(*), sum(abalance), sum(hashint8(aid::bigint # bid))) from public.pgbench_accounts`},
		{"swifteats", "select string_agg(f::text, e'\\n') from (" + swifteats.FingerprintQuery + ") f"},
	} {
		db, err := b.connect(ctx, port, q.database)
		if err != nil {
			return "", err
		}
		err = db.Row(ctx, q.sql, nil, &part)
		db.Close()
		if err != nil {
			return "", err
		}
		text += part + "\n"
	}
	return text, nil
}

// dataSize is the data directory without its WAL.
func (b *bench) dataSize() (int64, error) {
	all, err1 := size(b.data, []string{"."})
	wal, err2 := size(b.data, []string{"pg_wal"})
	return all - wal, errors.Join(err1, err2)
}

// note records one measurement.
func (b *bench) note(t tool, step string, repeat int, gb float64, bytes int64, u usage, more map[string]float64) error {
	a := t.about()
	m := measurement{Step: step, Tool: a.Name, Codec: a.Codec, Encrypted: a.Encrypted, Baseline: slices.Contains(a.Baseline, step), Repeat: repeat, GB: gb,
		Values: map[string]float64{
			metricWall: u.Wall, metricCPU: u.CPU, metricKernel: u.Kernel, metricMemory: float64(u.Largest), metricTree: float64(u.Tree),
			metricRead: float64(u.Read), metricWrote: float64(u.Wrote),
		}}
	if bytes > 0 {
		m.Values[metricData] = float64(bytes)
	}
	for name, value := range more {
		m.Values[name] = value
	}
	net := u.Wall - m.Values[metricWait]
	m.Values[metricNet] = net
	if bytes > 0 {
		m.Values[metricRate] = float64(bytes) / net
	}
	b.say("%-19s %-24s repeat %d: %6.2f s, CPU %6.2f s, largest %4.0f MB", step, a.Name, repeat, net, u.CPU, float64(u.Largest)/1e6)
	return b.record(line{Measured: &m})
}
