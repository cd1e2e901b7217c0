package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/expire"
	"github.com/salvor-dr/salvor/internal/repo"
)

func backupsCommand(s *session) *cobra.Command {
	var name string
	list := backupsListCommand(s, &name)
	cmd := group("backups", "List, show, hold and delete backups", groupDaily,
		list, backupsShowCommand(s, &name), backupsHoldCommand(s, &name), backupsReleaseCommand(s, &name), backupsDeleteCommand(s, &name))
	cmd.RunE = list.RunE // without a word behind it, list
	cmd.PersistentFlags().StringVar(&name, "repo", "", "`name` of the repository (else all, or the first)")
	return cmd
}

// stored is a backup with the repository that has it. Its head is as a list has it.
type stored struct {
	head *catalog.Head
	repo string
	// proven is what the repository's proofs tell of it.
	proven catalog.Verification
	hold   *catalog.Hold // nil if it is not held
	keptBy []string      // rules of the retention policy
}

// allBackups lists the backups of the cluster in the named repository, or in all,
// of every place, oldest first.
//
// Those that cannot be read are given apart, as errors that name them.
func (s *session) allBackups(ctx context.Context, c *config.Config, name string) (all []stored, unreadable []error, err error) {
	repositories, err := repositoriesOf(c, name)
	if err != nil {
		return nil, nil, err
	}
	for _, rc := range repositories {
		heads, bad, err := s.backupsIn(ctx, c, rc)
		if err != nil {
			return nil, nil, err
		}
		all, unreadable = append(all, heads...), append(unreadable, bad...)
	}
	return all, unreadable, nil
}

func (s *session) backupsIn(ctx context.Context, c *config.Config, rc config.Repository) (all []stored, unreadable []error, err error) {
	r, err := s.openRepository(ctx, rc)
	if err != nil {
		return nil, nil, err
	}
	defer r.close()
	origins, lost, err := catalog.ReadPlaces(ctx, r.objects, c.Cluster)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range lost {
		unreadable = append(unreadable, fmt.Errorf("repository %s: the backups of %w", r.name, e))
	}
	proven := s.verifications(ctx, c, r)
	read := map[catalog.Place][]*catalog.Head{}
	for _, o := range origins {
		heads, bad, err := catalog.ListHeads(ctx, r.objects, o.Place())
		if err != nil {
			return nil, nil, err
		}
		read[o.Place()] = heads
		all = slices.Grow(all, len(heads))
		for _, h := range heads {
			all = append(all, stored{head: h, repo: r.name, proven: proven[h.ID]})
		}
		for _, e := range bad {
			unreadable = append(unreadable, &unreadableIn{r.name, e})
		}
	}
	if len(lost) == 0 && len(all) > 0 {
		s.sayKept(ctx, c, r, all, read, proven)
	}
	return all, unreadable, nil
}

// unreadableIn is a backup that cannot be read, with the repository that has it.
type unreadableIn struct {
	repo string
	err  error
}

// Error implements error.
func (u *unreadableIn) Error() string { return fmt.Sprintf("repository %s: %v", u.repo, u.err) }

// Unwrap gives the *catalog.Unreadable.
func (u *unreadableIn) Unwrap() error { return u.err }

// listedView is a backup in the list. Later releases add what they know of it.
type listedView struct {
	backupView
	VerifiedAt     *stamp   `json:"verified_at"`
	VerifiedLevel  *string  `json:"verified_level"`
	RestoreSeconds *float64 `json:"restore_seconds"`
	FailedAt       *stamp   `json:"failed_at"` // a verification found problems, and none has passed at its level since
	FailedLevel    *string  `json:"failed_level"`
	Held           bool     `json:"held"`
	KeptBy         []string `json:"kept_by"`
}

func backupsListCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the backups, oldest first", Args: positional(),
		RunE: s.run(func(ctx context.Context, _ []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			all, unreadable, err := s.allBackups(ctx, c, *name)
			if err != nil {
				return err
			}
			items := make([]viewer, len(all))
			for i := range all {
				items[i] = (*listed)(&all[i])
			}
			if err := s.out.list(items, backupsTable(all)); err != nil {
				return err
			}
			if len(unreadable) > 0 {
				return foundProblem("the other backups are not touched by it; make a new one: salvor backup", "%d more cannot be read: %w", len(unreadable), errors.Join(unreadable...))
			}
			return nil
		}),
	}
}

// listed is a backup in the list.
type listed stored

func (l *listed) view() any { return viewOfListed(*l.head, (*stored)(l)) }

func viewOfListed(h catalog.Head, b *stored) listedView {
	proven := b.proven
	v := listedView{backupView: viewOfBackup(h, b.repo), Held: b.hold != nil, KeptBy: slices.Concat([]string{}, b.keptBy)}
	if best := proven.Best; best.ID != "" {
		v.VerifiedAt, v.VerifiedLevel = new(stamp(best.At)), new(string(best.Level))
	}
	if proven.Restore.ID != "" {
		v.RestoreSeconds = new(roundUp(proven.Restore.Seconds))
	}
	if failed := proven.Failed; failed.ID != "" {
		v.FailedAt, v.FailedLevel = new(stamp(failed.At)), new(string(failed.Level))
	}
	return v
}

// backupsTable is the table of backups, made when it is printed.
type backupsTable []stored

func (all backupsTable) writeTo(w io.Writer) error {
	t := table{empty: "There are no backups yet: salvor backup",
		columns: []column{{title: "id"}, {title: "kind"}, {title: "stopped"}, {title: "size", right: true}, {title: "stored", right: true}, {title: "took", right: true}, {title: "timeline", right: true}, {title: "stop lsn"}, {title: "verified"}, {title: "repository"}, {title: "remarks"}}}
	for _, b := range all {
		h := b.head
		t.rows = append(t.rows, []string{h.ID, string(h.Kind), formatTime(h.StoppedAt), formatBytes(int64(h.Size)), formatBytes(int64(h.Stored)),
			formatDuration(secondsOf(h.Seconds)), fmt.Sprint(h.Timeline), h.StopLSN.String(), string(b.proven.Best.Level), b.repo, remarks(b)})
	}
	return t.writeTo(w)
}

func remarks(b stored) string {
	h := b.head
	var r []string
	if b.hold != nil {
		r = append(r, "held")
	}
	if b.proven.Failed.ID != "" {
		r = append(r, "VERIFICATION FAILED")
	}
	if h.WALIncluded {
		r = append(r, "standalone")
	}
	if n := len(h.Damaged); n > 0 {
		r = append(r, fmt.Sprintf("%d damaged pages", n))
	}
	return strings.Join(r, ", ")
}

func backupsShowCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one backup", Args: positional("ID"),
		RunE: s.run(func(ctx context.Context, args []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			b, err := s.findBackup(ctx, c, *name, args[0])
			if err != nil {
				return err
			}
			h, err := s.wholeHead(ctx, c, b)
			if err != nil {
				return err
			}
			view := struct {
				listedView
				Tablespaces      []catalog.Tablespace `json:"tablespaces"`
				ReplicationSlots []slotView           `json:"replication_slots"`
				Elsewhere        []string             `json:"files_not_in_backup"`
				Checksums        bool                 `json:"data_checksums"`
				Files            uint64               `json:"file_count"`
				Program          string               `json:"salvor_version"`
			}{viewOfListed(h, &b), h.Tablespaces, viewsOfSlots(h.Slots), filesElsewhere(h.Needs), h.Checksums, h.FileCount, h.Program}
			return s.out.document(view, append(showDetails(h, b.repo, b.proven), keptDetails(b)...))
		}),
	}
}

// wholeHead reads all of the head of a backup that was listed.
func (s *session) wholeHead(ctx context.Context, c *config.Config, b stored) (catalog.Head, error) {
	r, err := s.openNamed(ctx, c, b.repo)
	if err != nil {
		return catalog.Head{}, err
	}
	defer r.close()
	return catalog.ReadHead(ctx, r.objects, b.head.Place(), b.head.ID)
}

func showDetails(h catalog.Head, repository string, proven catalog.Verification) details {
	d := append(backupDetails(h, repository),
		detail{"server", "PostgreSQL " + h.Version.String()},
		detail{"system id", h.SystemID.String()},
		detail{"incarnation", string(h.Incarnation)},
		detail{"files", fmt.Sprint(h.FileCount)},
		detail{"data checksums", map[bool]string{true: "on", false: "off"}[h.Checksums]},
		detail{"made by", "salvor " + h.Program})
	d = append(d, provenDetails(proven)...)
	for _, t := range h.Tablespaces {
		d = append(d, detail{"tablespace", fmt.Sprintf("%s (%d) at %s", t.Name, t.OID, t.Location)})
	}
	d = append(d, elsewhereDetails(h)...)
	for _, k := range slices.Sorted(maps.Keys(h.Annotations)) {
		d = append(d, detail{"annotation", k + "=" + h.Annotations[k]})
	}
	return d
}

func (s *session) findBackup(ctx context.Context, c *config.Config, name, id string) (stored, error) {
	all, unreadable, err := s.allBackups(ctx, c, name)
	if err != nil {
		return stored{}, err
	}
	for _, b := range all {
		if b.head.ID == id {
			return b, nil
		}
	}
	for _, err := range unreadable {
		if is := (*catalog.Unreadable)(nil); errors.As(err, &is) && is.ID == id {
			return stored{}, err
		}
	}
	return stored{}, withHint(fmt.Errorf("%s: %w", id, catalog.ErrNoBackup), "`salvor backups list` shows those that there are")
}

func backupsDeleteCommand(s *session, name *string) *cobra.Command {
	var last, plan bool
	cmd := &cobra.Command{
		Use: "delete ID", Short: "Delete one backup", Args: positional("ID"),
		Long: `Delete one backup, and what only it needs. WAL is kept. The only backup of a
cluster is not deleted unless --last says so. A backup that is damaged can be deleted, too.`,
		RunE: s.run(func(ctx context.Context, args []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			b, err := s.toDelete(ctx, c, *name, args[0])
			if err != nil {
				return err
			}
			if b.hold != nil {
				return &expire.Held{Hold: *b.hold}
			}
			if err := s.keepsAnother(ctx, c, b); err != nil && !last {
				return err // before anybody is asked to confirm it
			}
			if plan {
				return s.planDelete(b)
			}
			if err := s.confirm("This deletes backup", b.head.ID); err != nil {
				return err
			}
			return s.deleteBackup(ctx, c, b, last)
		}),
	}
	cmd.Flags().BoolVar(&last, "last", false, "also if it is the only backup of the cluster")
	planFlag(cmd, &plan)
	return cmd
}

// toDelete finds a backup, also one with a damaged head, of which no more is known then
// than where it is.
func (s *session) toDelete(ctx context.Context, c *config.Config, name, id string) (stored, error) {
	b, err := s.findBackup(ctx, c, name, id)
	var bad *catalog.Unreadable
	var in *unreadableIn
	if err == nil || !errors.Is(err, repo.ErrDamaged) || !errors.As(err, &bad) || !errors.As(err, &in) {
		return b, err
	}
	s.log.Warn("this backup is damaged, and can not be restored", "backup", id, "error", err.Error())
	p := bad.Place
	return stored{head: &catalog.Head{ID: id, Cluster: p.Cluster, SystemID: p.SystemID, Incarnation: p.Incarnation}, repo: in.repo}, nil
}

// planDelete says what a removal would do.
func (s *session) planDelete(b stored) error {
	d := details{{"would delete", b.head.ID}, {"repository", b.repo}}
	if !b.head.StoppedAt.IsZero() {
		d = append(d, detail{"stopped", formatTime(b.head.StoppedAt)}, detail{"frees at most", formatBytes(int64(b.head.Stored))})
	}
	return s.out.document(map[string]any{"id": b.head.ID, "repository": b.repo, "would_delete": true}, d)
}

// keepsAnother fails with *expire.LastBackup if b is the only backup of its place.
func (s *session) keepsAnother(ctx context.Context, c *config.Config, b stored) error {
	all, _, err := s.allBackups(ctx, c, b.repo)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.head.ID != b.head.ID && other.head.Place() == b.head.Place() {
			return nil
		}
	}
	return &expire.LastBackup{ID: b.head.ID}
}

func (s *session) deleteBackup(ctx context.Context, c *config.Config, b stored, last bool) error {
	r, err := s.openNamed(ctx, c, b.repo)
	if err != nil {
		return err
	}
	defer r.close()
	locks, err := s.locks(r)
	if err != nil {
		return err
	}
	gone, err := expire.Delete(ctx, expire.Options{Objects: r.objects, Locks: locks, Place: b.head.Place(), Clock: s.clock, Last: last}, b.head.ID)
	if unknown := (*catalog.NeedsUnknown)(nil); errors.As(err, &unknown) && errors.Is(err, repo.ErrDamaged) {
		return withHint(err, "`salvor backups delete "+unknown.ID+"` removes that one, which can not be restored, and then this can be run again")
	}
	if err != nil {
		return err
	}
	return s.out.document(struct {
		ID         string `json:"id"`
		Repository string `json:"repository"`
		Objects    int    `json:"deleted_objects"`
		Bytes      uint64 `json:"deleted_bytes"`
	}{b.head.ID, r.name, gone.Objects, gone.Bytes},
		details{{"deleted", b.head.ID}, {"objects", fmt.Sprint(gone.Objects)}, {"freed", formatBytes(int64(gone.Bytes))}})
}
