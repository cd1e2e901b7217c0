package catalog

import (
	"context"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// NewTablespace is a tablespace that recovery creates.
type NewTablespace struct {
	OID      pg.OID
	Location string // absolute, as CREATE TABLESPACE was told it
	LSN      pg.LSN // of the record: recovery to before it does not create it
}

// NewTablespaces gives the tablespaces that recovery from the choice's backup to the
// target creates, in the order of the WAL. PostgreSQL makes their links to where they
// were on the source, wherever a restore put what the backup has of them
// (tblspc_redo, tablespace.c). So those are among them that came while the backup was
// made, and that its head lists; and those that were dropped again, or whose
// transaction was aborted. Tablespaces in pg_tblspc itself are not.
//
// Only the indexes of archived WAL are read: of the WAL that a backup holds itself,
// and that is not archived, nothing is known.
func (c Choice) NewTablespaces(ctx context.Context, objects *seal.Objects, t Target) ([]NewTablespace, error) {
	// Then recovery stops after the first record that begins at the position or later,
	// else before every record that does, but for ends of transactions.
	inclusive := t.Kind == ToLSN && !t.Exclusive
	var list []NewTablespace
	var through pg.LSN
	for e, err := range Events(ctx, objects, c.Archive, c.Path, c.Backup.StartLSN) {
		switch {
		case err != nil && through >= c.StopLSN:
			return list, nil // broken after all that is needed
		case err != nil:
			return nil, err
		case e.Kind == 0:
			if through = e.Through; through >= c.StopLSN && !inclusive {
				return list, nil
			}
		case e.Kind == walrec.TablespaceCreate && e.Location != "" && (e.LSN < c.StopLSN || inclusive && e.Prev < c.StopLSN):
			list = append(list, NewTablespace{e.Tablespace, e.Location, e.LSN})
		case e.LSN >= c.StopLSN:
			return list, nil
		}
	}
	return list, nil
}
