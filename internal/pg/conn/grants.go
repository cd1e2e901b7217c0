package conn

import (
	"strings"

	"github.com/salvor-dr/salvor/internal/pg"
)

// ShowSQLGrants gives the statements that let a role, which need not be a
// superuser, do all that this package asks for on a server of that version: take
// backups, switch WAL, create restore points, see settings and statistics, and
// stream WAL. A superuser runs them once, in the database that the role
// connects to: rights on functions are kept per database.
func ShowSQLGrants(role string, version pg.Version) string {
	r := `"` + strings.ReplaceAll(role, `"`, `""`) + `"`
	start, stop := backupFunctions(version)
	var b strings.Builder
	b.WriteString("ALTER ROLE " + r + " LOGIN REPLICATION;\n")
	b.WriteString("GRANT pg_monitor TO " + r + ";\n") // has pg_read_all_settings and pg_read_all_stats
	for _, f := range []string{start, stop, "pg_switch_wal()", "pg_create_restore_point(text)"} {
		b.WriteString("GRANT EXECUTE ON FUNCTION pg_catalog." + f + " TO " + r + ";\n")
	}
	if version.Major() >= 15 {
		b.WriteString("GRANT pg_checkpoint TO " + r + ";\n")
	}
	return b.String()
}
