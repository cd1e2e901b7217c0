package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
)

// holdView is a hold in documents.
type holdView struct {
	ID         string `json:"id"`
	Repository string `json:"repository"`
	Held       bool   `json:"held"`
	Reason     string `json:"reason,omitempty"`
	Owner      string `json:"owner,omitempty"`
	At         stamp  `json:"held_at,omitzero"`
}

func backupsHoldCommand(s *session, name *string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "hold ID --reason TEXT", Short: "Keep a backup, whatever the policy says", Args: positional("ID"),
		Long: `Keep a backup until it is released: neither salvor expire nor salvor backups delete
removes it, nor the WAL that makes it consistent.`,
		RunE: s.run(func(ctx context.Context, args []string) error {
			if reason == "" {
				return usageError("", "hold needs --reason: whoever wants to remove the backup will ask")
			}
			h := catalog.Hold{BackupID: args[0], Reason: reason, Owner: owner(), At: s.clock.Now().UTC()}
			return s.withBackup(ctx, *name, args[0], func(r *repository, p catalog.Place) error {
				if err := catalog.WriteHold(ctx, r.objects, p, h); err != nil {
					return err
				}
				// A removal that began before may not have seen it.
				if err := s.stays(ctx, r, p, h.BackupID); err != nil {
					_ = catalog.RemoveHold(context.WithoutCancel(ctx), r.objects, p, h.BackupID) // of nothing
					return err
				}
				return s.out.document(holdView{h.BackupID, r.name, true, h.Reason, h.Owner, stamp(h.At)},
					details{{"held", h.BackupID}, {"repository", r.name}, {"by", h.Owner}, {"reason", h.Reason}})
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why: `text` for whoever wants to remove it")
	return cmd
}

func backupsReleaseCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "release ID", Short: "Let the policy decide about a backup that was held", Args: positional("ID"),
		RunE: s.run(func(ctx context.Context, args []string) error {
			return s.withBackup(ctx, *name, args[0], func(r *repository, p catalog.Place) error {
				if err := catalog.RemoveHold(ctx, r.objects, p, args[0]); err != nil {
					return err
				}
				return s.out.document(holdView{ID: args[0], Repository: r.name}, details{{"released", args[0]}, {"repository", r.name}})
			})
		}),
	}
}

// withBackup finds a backup, and gives do its repository and place.
func (s *session) withBackup(ctx context.Context, name, id string, do func(*repository, catalog.Place) error) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	b, err := s.findBackup(ctx, c, name, id)
	if err != nil {
		return err
	}
	return s.inRepository(ctx, c, b.repo, func(r *repository) error { return do(r, b.head.Place()) })
}

func (s *session) inRepository(ctx context.Context, c *config.Config, name string, do func(*repository) error) error {
	r, err := s.openNamed(ctx, c, name)
	if err != nil {
		return err
	}
	defer r.close()
	return do(r)
}

// owner names who runs this process, as user@host.
func owner() string {
	name := fmt.Sprint(os.Geteuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
