package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

// roomForWAL is the least free space of a repository, in segments, that gives time
// to react before archiving stops.
const roomForWAL = 20

func repositoryChecks() []check {
	opens := []string{"repository_opens"}
	return []check{
		{
			name: "repository_opens", title: "opens with its key", each: true, probe: probeOpens,
			why: "a backup that cannot be read is none",
		},
		{
			name: "encryption", title: "encryption", each: true, needs: opens, probe: probeEncryption,
			why: "whoever can read the storage reads the whole database, with every copy of it that was ever made",
		},
		{
			name: "key_speed", title: "cost of opening", each: true, needs: opens, probe: probeKeySpeed,
			why: "PostgreSQL runs wal push once for every WAL segment, and each run opens the repository",
		},
		{
			name: "repository_works", title: "what the storage must be able to do", each: true, needs: opens, probe: probeWorks,
			why: "that nothing is overwritten, and that two backups never run at once, rests on the storage doing this right",
		},
		{
			name: "repository_writable", title: "writable for PostgreSQL's user", each: true, needs: append([]string{"server_user"}, opens...), probe: probeWritable,
			why: "archive_command runs as that user; what it cannot store stays in pg_wal until the server's disk is full",
		},
		{
			name: "repository_space", title: "free space", each: true, needs: opens, probe: probeSpace,
			why: "a full repository stops backups and archiving, and then the server's disk fills with WAL",
		},
		{
			name: "repository_apart", title: "disk of its own", each: true, needs: opens, probe: probeApart,
			why: "one disk holds both: what destroys it takes the database and its backups",
		},
		{
			name: "registration", title: "place of the cluster", each: true, needs: append([]string{"data_dir"}, opens...), probe: probeRegistration,
			why: "backups and WAL are kept by incarnation, so that a restored copy cannot mix its WAL with the original's",
		},
	}
}

func probeOpens(ctx context.Context, e *examination, r *examined, v *verdict) {
	began := e.clock.Now()
	open, err := e.openRepository(ctx, r.Repository)
	if err != nil {
		v.fail(err)
		return
	}
	r.open, r.took = open, e.clock.Now().Sub(began)
	v.say("%s", r.URL)
}

func probeEncryption(_ context.Context, e *examination, r *examined, v *verdict) {
	if r.Encryption == config.EncryptionNone {
		v.warn("make a new repository with a key, in "+e.c.File()+": what is stored stays as it is", "NOT ENCRYPTED: everything is stored in the clear")
		return
	}
	v.say("%s", r.Encryption)
}

func probeKeySpeed(ctx context.Context, _ *examination, r *examined, v *verdict) {
	secret, err := secretOf(ctx, r.Repository)
	if err != nil {
		v.fail(err)
		return
	}
	if secret == nil || !secret.Slow() {
		v.say("%s", formatDuration(r.took))
		return
	}
	v.warn("use an age identity as key: salvor init makes one for a new repository",
		"a passphrase takes %s to open, on purpose, and so every WAL segment does: at most %.0f a minute",
		formatDuration(r.took), time.Minute.Seconds()/max(r.took.Seconds(), 0.001))
}

// probeWorks tries on a small object what all else relies on.
func probeWorks(ctx context.Context, _ *examination, r *examined, v *verdict) {
	name := "doctor/" + repo.NewID().String()
	st := r.open.store
	// Gone already if all went well; and if not, the first error tells more.
	defer func() { _ = st.Delete(context.WithoutCancel(ctx), name, "") }()
	if err := exercise(ctx, st, name); err != nil {
		v.fail(err)
		return
	}
	v.say("wrote, read, listed, replaced and deleted an object, each only where its condition held")
}

// exercise writes, reads, lists, replaces and deletes an object, with conditions that
// hold and with such that don't.
func exercise(ctx context.Context, st store.Store, name string) error {
	one, two := []byte("salvor doctor\n"), []byte("salvor doctor, replaced\n")
	first, err := store.Put(ctx, st, name, one, store.CreateOptions{IfAbsent: true})
	if err != nil {
		return err
	}
	_, err = store.Put(ctx, st, name, two, store.CreateOptions{IfAbsent: true})
	if err := refused(err, store.ErrExists, "writing what is there already"); err != nil {
		return err
	}
	if err := holds(ctx, st, name, one); err != nil {
		return err
	}
	second, err := store.Put(ctx, st, name, two, store.CreateOptions{IfMatch: first.Version})
	if err != nil {
		return err
	}
	_, err = store.Put(ctx, st, name, one, store.CreateOptions{IfMatch: first.Version})
	if err := refused(err, store.ErrChanged, "replacing a version that is gone"); err != nil {
		return err
	}
	if err := holds(ctx, st, name, two); err != nil {
		return err
	}
	if err := st.Delete(ctx, name, second.Version); err != nil {
		return err
	}
	_, err = st.Stat(ctx, name)
	return refused(err, store.ErrNotFound, "looking up what was deleted")
}

// refused is nil if err is what was wanted.
func refused(err, want error, what string) error {
	switch {
	case errors.Is(err, want):
		return nil
	case err == nil:
		return fmt.Errorf("%s went well, and should have been refused: %w", what, want)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// holds checks that an object is listed and has a content.
func holds(ctx context.Context, st store.Store, name string, content []byte) error {
	got, err := store.Get(ctx, st, name, 1<<10)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, content) {
		return fmt.Errorf("%s does not give back what was written to it", name)
	}
	for o, err := range st.List(ctx, name, store.ListOptions{}) {
		if err != nil || o.Key == name {
			return err
		}
	}
	return fmt.Errorf("%s was written and is not in the list", name)
}

// directory is where a file repository is, and false for one of another sort.
func (r *examined) directory() (string, bool) {
	u, err := url.Parse(r.URL)
	if err != nil || !strings.EqualFold(u.Scheme, "file") {
		return "", false
	}
	return filepath.Clean(u.Path), true
}

// probeWritable looks at the directories that WAL goes into: root may have made one
// of them.
func probeWritable(ctx context.Context, e *examination, r *examined, v *verdict) {
	root, ok := r.directory()
	if !ok {
		v.say("there is no user of the system in it")
		return
	}
	dirs := []string{root}
	if place, ok := localPlace(e.c); ok {
		for dir := root; dir != filepath.Join(root, place.Prefix(), "wal"); {
			rest, _ := filepath.Rel(dir, filepath.Join(root, place.Prefix(), "wal"))
			next, _, _ := strings.Cut(rest, string(filepath.Separator))
			dir = filepath.Join(dir, next)
			dirs = append(dirs, dir)
		}
		lines, _ := filepath.Glob(filepath.Join(dirs[len(dirs)-1], "*")) // the pattern is good
		dirs = append(dirs, lines...)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue // not made yet
		}
		if !e.account.need(ctx, v, "-w", dir) || !e.account.need(ctx, v, "-x", dir) {
			return
		}
	}
	v.say("%s may write to %s", e.account.name, root)
}

func probeSpace(ctx context.Context, e *examination, r *examined, v *verdict) {
	root, ok := r.directory()
	if !ok {
		v.say("not known for this storage")
		return
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		v.warn("", "looking at the file system of %s: %v", root, err)
		return
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) //nolint:unconvert // they have other types on other systems
	fix := fmt.Sprintf("make room at %s, or delete old backups: %s", root, e.command("backups list"))
	if least := roomForWAL * max(int64(e.server.WALSegmentSize), 16<<20); free < least {
		v.problem(fix, "%s free, and %d WAL segments need %s", formatBytes(free), roomForWAL, formatBytes(least))
		return
	}
	size, ok := e.databaseSize(ctx)
	switch {
	case !ok:
		v.say("%s free", formatBytes(free))
	case free < size:
		v.warn(fix, "%s free, and the databases have %s", formatBytes(free), formatBytes(size))
	default:
		v.say("%s free; the databases have %s", formatBytes(free), formatBytes(size))
	}
}

// databaseSize is the size of all databases, and false if the server cannot say.
func (e *examination) databaseSize(ctx context.Context) (int64, bool) {
	if e.db == nil {
		return 0, false
	}
	size, err := e.db.DatabaseSize(ctx)
	return size, err == nil
}

func probeApart(_ context.Context, e *examination, r *examined, v *verdict) {
	root, ok := r.directory()
	if !ok {
		v.say("it is elsewhere")
		return
	}
	a, err1 := os.Stat(root)
	b, err2 := os.Stat(e.c.Postgres.DataDir)
	if err := errors.Join(err1, err2); err != nil {
		v.skip("%v", err)
		return
	}
	x, ok1 := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	if ok1 && ok2 && x.Dev == y.Dev {
		v.warn("put the repository on another disk, or better on another machine", "%s is on the file system of the data directory", root)
		return
	}
	v.say("%s is on another file system than the data directory", root)
}

func probeRegistration(ctx context.Context, e *examination, r *examined, v *verdict) {
	fix := e.command("init")
	m, err := catalog.ReadMarker(e.c.Postgres.DataDir)
	if err != nil {
		v.problem(fix, "%v", err)
		return
	}
	place := catalog.Place{Cluster: e.c.Cluster, SystemID: e.control.SystemID, Incarnation: m.Incarnation}
	o, err := catalog.ReadOrigin(ctx, r.open.objects, place)
	switch {
	case errors.Is(err, catalog.ErrNoPlace) && m.RestoredFrom != "":
		v.problem(fix+" (which makes it a cluster of its own)", "this data directory is a copy, restored from backup %s, and has no place", m.BackupID)
	case errors.Is(err, catalog.ErrNoPlace):
		v.problem(fix, "it has none for cluster %s (%s)", e.c.Cluster, place)
	case err != nil:
		v.fail(err)
	case o.Sizes != e.control.Sizes:
		v.problem("", "its WAL segments have %d bytes there and %d here", o.Sizes.WALSegment, e.control.Sizes.WALSegment)
	default:
		v.say("cluster %s, incarnation %s", e.c.Cluster, m.Incarnation)
	}
}
