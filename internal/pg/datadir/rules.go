package datadir

import "strings"

// Place is where in a data directory a rule holds.
type Place uint8

// The places.
const (
	Top      Place = iota + 1 // directly in the data directory
	Anywhere                  // at every depth
)

// Effect is what a rule does with what it matches.
type Effect uint8

// The effects.
const (
	LeaveOut      Effect = iota + 1 // the file, or the directory with everything in it
	LeaveContents                   // the directory stays, as an empty one
)

// Rule is one line of the table of what a backup does not hold.
type Rule struct {
	Name   string // of the file or directory
	Prefix bool   // Name is only the beginning of the name
	Place  Place
	Effect Effect
	Reason string
}

// Rules is what a backup of PostgreSQL 14 to 18 does not hold: what the server's
// own base backup leaves out (excludeDirContents, excludeFiles and sendDir,
// basebackup.c), and what would be wrong in a restored cluster. Not in the
// table, since they are not told by a name of their own: temporary relations
// (IsTemp), all forks but the init fork of unlogged relations, the directories
// of other clusters in a tablespace, and sockets, pipes and devices.
func Rules() []Rule {
	return []Rule{
		// Directories that the server empties or fills by itself.
		{"pg_wal", false, Top, LeaveContents, "WAL comes from the archive"},
		{"pg_replslot", false, Top, LeaveContents, "a slot of the source would hold back WAL of the copy for ever"},
		{"pg_notify", false, Top, LeaveContents, "emptied at start"},
		{"pg_serial", false, Top, LeaveContents, "emptied at start"},
		{"pg_snapshots", false, Top, LeaveContents, "exported snapshots end with their session"},
		{"pg_subtrans", false, Top, LeaveContents, "set to zero at start"},
		{"pg_dynshmem", false, Top, LeaveContents, "shared memory of the running server"},
		{"pg_stat_tmp", false, Top, LeaveContents, "temporary statistics (14) and files of extensions"},

		// Traces of the running server.
		{"postmaster.pid", false, Top, LeaveOut, "lock file of the running server"},
		{"postmaster.opts", false, Top, LeaveOut, "command line of the running server"},
		{"current_logfiles", false, Top, LeaveOut, "names of the running server's log files"},
		{"current_logfiles.tmp", false, Top, LeaveOut, "the same while it is written"},
		{"postgresql.auto.conf.tmp", false, Top, LeaveOut, "ALTER SYSTEM under way"},

		// What only another backup or recovery put there.
		{"backup_label", false, Top, LeaveOut, "pg_backup_stop returns this backup's own"},
		{"backup_label.old", false, Top, LeaveOut, "of the backup this cluster came from"},
		{"tablespace_map", false, Top, LeaveOut, "pg_backup_stop returns this backup's own"},
		{"tablespace_map.old", false, Top, LeaveOut, "of the backup this cluster came from"},
		{"backup_manifest", false, Top, LeaveOut, "of the backup this cluster came from"},
		{"standby.signal", false, Top, LeaveOut, "a restore writes the one it needs"},
		{"recovery.signal", false, Top, LeaveOut, "a restore writes the one it needs"},
		{"recovery.conf", false, Top, LeaveOut, "left from before 12; a server with it does not start"},
		{"recovery.done", false, Top, LeaveOut, "left from before 12"},

		// Temporary and cached contents of databases.
		{"pgsql_tmp", true, Anywhere, LeaveOut, "temporary files of queries"},
		{"pg_internal.init", true, Anywhere, LeaveOut, "cache of catalogs, rebuilt at start"},
		{".DS_Store", false, Anywhere, LeaveOut, "written by macOS, not by PostgreSQL"},
	}
}

// ruleSet is the table made ready for a walk.
type ruleSet struct {
	top      map[string]Effect
	anywhere map[string]Effect
	prefixes []Rule
	exclude  map[string]bool // paths the caller leaves out
}

func newRuleSet(exclude []string) ruleSet {
	s := ruleSet{top: map[string]Effect{}, anywhere: map[string]Effect{}, exclude: map[string]bool{}}
	for _, r := range Rules() {
		switch {
		case r.Prefix:
			s.prefixes = append(s.prefixes, r)
		case r.Place == Top:
			s.top[r.Name] = r.Effect
		default:
			s.anywhere[r.Name] = r.Effect
		}
	}
	for _, path := range exclude {
		s.exclude[path] = true
	}
	return s
}

// effect gives what the rules do with a path whose last component is name, and
// zero if nothing.
func (s ruleSet) effect(path, name string) Effect {
	if s.exclude[path] {
		return LeaveOut
	}
	if e := s.anywhere[name]; e != 0 {
		return e
	}
	for _, r := range s.prefixes {
		if strings.HasPrefix(name, r.Name) {
			return r.Effect
		}
	}
	if len(path) == len(name) {
		return s.top[name]
	}
	return 0
}
