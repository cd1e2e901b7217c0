package conn

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Server describes the server and the session's role on it, at one moment.
type Server struct {
	Version  pg.Version
	SystemID pg.SystemID
	// Timeline is the one that a primary writes, or that a standby has replayed
	// to or receives, whichever is higher.
	Timeline        pg.Timeline
	InRecovery      bool
	PostmasterStart time.Time
	PostmasterPID   int // zero if the role may not read the server's files

	// Paths on the server's machine. They need pg_read_all_settings.
	DataDirectory, ConfigFile, HBAFile, IdentFile string
	SocketDirectories                             []string
	Port                                          int

	// Settings of archiving and WAL, as the server shows them.
	WALLevel          string // minimal, replica or logical
	ArchiveMode       string // off, on or always
	ArchiveCommand    string
	ArchiveLibrary    string // version 15 and later
	ArchiveTimeout    time.Duration
	FullPageWrites    bool
	WALLogHints       bool
	DataChecksums     string // off or on; 19 knows states between them
	BlockSize         uint32
	WALBlockSize      uint32
	WALSegmentSize    uint32
	RelSegmentBlocks  uint32 // blocks in one file of a relation
	MaxWALSenders     int
	CheckpointTimeout time.Duration
	ServerEncoding    string // of the database that the session is in

	// The role.
	User          string
	Superuser     bool
	CanBackup     bool // may run the functions that begin and end a backup
	CanCheckpoint bool // may run CHECKPOINT
	IsReplication bool // may open a replication connection
}

// serverSQL asks for all but the settings.
const serverSQL = `
SELECT current_setting('server_version_num')::int,
  (SELECT system_identifier::text FROM pg_control_system()),
  pg_is_in_recovery(),
  pg_postmaster_start_time(),
  has_function_privilege('pg_read_file(text,bigint,bigint,boolean)', 'EXECUTE'),
  current_user::text,
  r.rolsuper,
  r.rolsuper OR r.rolreplication,
  has_function_privilege($1, 'EXECUTE') AND has_function_privilege($2, 'EXECUTE'),
  r.rolsuper OR coalesce((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_checkpoint'), false),
  r.rolsuper OR pg_has_role('pg_read_all_settings', 'USAGE')
FROM pg_roles r WHERE r.rolname = current_user`

// Server asks what the server is. If the role may not see the paths of the data
// directory and of the configuration, the error is a *MissingPrivilege, and
// everything else in the answer is good.
func (c *Conn) Server(ctx context.Context) (Server, error) {
	s, err := c.server(ctx)
	if err != nil {
		return s, fmt.Errorf("asking the server at %s about itself: %w", c.cfg.Address(), err)
	}
	return s, nil
}

func (c *Conn) server(ctx context.Context) (Server, error) {
	var s Server
	var id string
	var seesPaths, readsFiles bool
	start, stop := backupFunctions(c.version)
	err := c.Row(ctx, serverSQL, []any{start, stop}, &s.Version, &id, &s.InRecovery, &s.PostmasterStart, &readsFiles,
		&s.User, &s.Superuser, &s.IsReplication, &s.CanBackup, &s.CanCheckpoint, &seesPaths)
	if err != nil {
		return Server{}, err
	}
	s.PostmasterStart = s.PostmasterStart.UTC()
	if s.SystemID, err = parseSystemID(id); err != nil {
		return Server{}, err
	}
	if readsFiles {
		if s.PostmasterPID, err = c.postmasterPID(ctx); err != nil {
			return Server{}, err
		}
	}
	if s.Timeline, err = c.timeline(ctx); err != nil {
		return Server{}, err
	}
	if err := c.readSettings(ctx, &s); err != nil {
		return Server{}, err
	}
	if !seesPaths {
		return s, &MissingPrivilege{
			Role: s.User, What: "see the server's data_directory",
			Need: "to be a member of pg_read_all_settings or pg_monitor",
		}
	}
	return s, nil
}

// postmasterPID reads the first line of the server's pid file.
func (c *Conn) postmasterPID(ctx context.Context) (int, error) {
	var line string
	err := c.Row(ctx, `SELECT coalesce(split_part(pg_read_file('postmaster.pid', 0, 32, true), E'\n', 1), '0')`, nil, &line)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, fmt.Errorf("the server's pid file: %w", err)
	}
	return pid, nil
}

// parseSystemID reads what pg_control_system prints: a bigint, so that an
// identifier from 2038 on is negative.
func parseSystemID(s string) (pg.SystemID, error) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil && v < 0 {
		return pg.SystemID(uint64(v)), nil
	}
	return pg.ParseSystemID(s)
}

// timelineSQL: what a primary writes stands in the name of its current segment.
// pg_control has the timeline of the last checkpoint only, which is behind for a
// while after a promotion; a standby knows no better than that, the timeline
// its last recovery point is on, and the one it receives.
const timelineSQL = `
SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END,
  (SELECT timeline_id FROM pg_control_checkpoint()),
  (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
  (SELECT received_tli FROM pg_stat_wal_receiver)`

func (c *Conn) timeline(ctx context.Context) (pg.Timeline, error) {
	var segment *string
	var checkpoint, recovered uint32
	var received *uint32
	if err := c.Row(ctx, timelineSQL, nil, &segment, &checkpoint, &recovered, &received); err != nil {
		return 0, err
	}
	if segment != nil {
		if len(*segment) != 24 {
			return 0, fmt.Errorf("%q is not the name of a WAL segment", *segment)
		}
		return pg.ParseTimelineHex((*segment)[:8])
	}
	tli := max(checkpoint, recovered)
	if received != nil {
		tli = max(tli, *received)
	}
	return pg.Timeline(tli), nil
}

// readSettings reads pg_settings, where a row that the role may not see is
// missing, and values of time and size come in the units of the setting.
func (c *Conn) readSettings(ctx context.Context, s *Server) error {
	var size, blockSize, walBlock, relSegment, segment int64
	var archiveTimeout, checkpointTimeout int64 // seconds
	var port, senders int64
	var fullPages, hints, sockets string
	texts := map[string]*string{
		"data_directory": &s.DataDirectory, "config_file": &s.ConfigFile, "hba_file": &s.HBAFile, "ident_file": &s.IdentFile,
		"unix_socket_directories": &sockets, "wal_level": &s.WALLevel, "archive_mode": &s.ArchiveMode,
		"archive_command": &s.ArchiveCommand, "archive_library": &s.ArchiveLibrary, "data_checksums": &s.DataChecksums,
		"full_page_writes": &fullPages, "wal_log_hints": &hints, "server_encoding": &s.ServerEncoding,
	}
	numbers := map[string]*int64{
		"block_size": &blockSize, "wal_block_size": &walBlock, "segment_size": &relSegment, "wal_segment_size": &segment,
		"archive_timeout": &archiveTimeout, "checkpoint_timeout": &checkpointTimeout, "port": &port, "max_wal_senders": &senders,
	}
	names := make([]string, 0, len(texts)+len(numbers))
	for n := range texts {
		names = append(names, n)
	}
	for n := range numbers {
		names = append(names, n)
	}
	const sql = "SELECT name, coalesce(setting, '') FROM pg_settings WHERE name = ANY($1)"
	err := c.Rows(ctx, sql, []any{names}, func(scan func(...any) error) error {
		var name, value string
		if err := scan(&name, &value); err != nil {
			return err
		}
		if t, ok := texts[name]; ok {
			*t = value
			return nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("the setting %s: %w", name, err)
		}
		*numbers[name] = n
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		to   *uint32
		from int64
	}{
		{"block_size", &s.BlockSize, blockSize},
		{"wal_block_size", &s.WALBlockSize, walBlock},
		{"segment_size", &s.RelSegmentBlocks, relSegment},
		{"wal_segment_size", &s.WALSegmentSize, segment},
	} {
		if size = f.from; size <= 0 || size > 1<<31 {
			return fmt.Errorf("the setting %s is %d", f.name, size)
		}
		*f.to = uint32(size)
	}
	s.FullPageWrites, s.WALLogHints = fullPages == "on", hints == "on"
	s.ArchiveTimeout = time.Duration(archiveTimeout) * time.Second
	s.CheckpointTimeout = time.Duration(checkpointTimeout) * time.Second
	s.Port, s.MaxWALSenders = int(port), int(senders)
	s.SocketDirectories = splitList(sockets)
	return nil
}

// splitList reads a setting that is a list of names or paths: separated by
// commas, a member in double quotes if it holds one (SplitDirectoriesString,
// varlena.c).
func splitList(s string) []string {
	var out []string
	for s = strings.TrimSpace(s); s != ""; {
		var item string
		if s[0] == '"' {
			item, s = unquote(s[1:])
			_, s, _ = strings.Cut(s, ",")
		} else {
			item, s, _ = strings.Cut(s, ",")
			item = strings.TrimSpace(item)
		}
		if item != "" {
			out = append(out, item)
		}
		s = strings.TrimSpace(s)
	}
	return out
}

// unquote reads up to the closing quote, where a doubled one stands for itself.
func unquote(s string) (item, rest string) {
	var b strings.Builder
	for {
		part, after, _ := strings.Cut(s, `"`)
		b.WriteString(part)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after
		}
		b.WriteByte('"')
		s = after[1:]
	}
}
