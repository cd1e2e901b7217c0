package conn

import (
	"context"
	"fmt"
	"strings"

	"github.com/salvor-dr/salvor/internal/pg"
)

// RoleExists says whether the cluster has a role of that name.
func (c *Conn) RoleExists(ctx context.Context, role string) (bool, error) {
	var exists bool
	if err := c.Row(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", []any{role}, &exists); err != nil {
		return false, fmt.Errorf("looking for role %s on %s: %w", role, c.cfg.Address(), err)
	}
	return exists, nil
}

// ShowSQLRole gives the statements that make a role which can do what ShowSQLGrants
// lets one do. It has no password.
func ShowSQLRole(role string, version pg.Version) string {
	return strings.Replace(ShowSQLGrants(role, version), "ALTER ROLE ", "CREATE ROLE ", 1)
}
