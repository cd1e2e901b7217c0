package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// Setting is a line for postgresql.auto.conf.
type Setting struct{ Name, Value string }

// Settings gives the recovery settings that lead to the target, for PostgreSQL 12
// and later, and for a copy those that keep it from living its original's life.
func Settings(o Options) []Setting {
	s := []Setting{{"restore_command", o.RestoreCommand}}
	target := targetSettings(o)
	s = append(s, unset(target)...)
	if o.Standby {
		return append(s, Setting{"recovery_target_timeline", "latest"})
	}
	// A recovery is not a delayed standby, and what ran for one must not run here.
	s = append(s, Setting{"recovery_min_apply_delay", "0"}, Setting{"archive_cleanup_command", ""}, Setting{"recovery_end_command", ""})
	s = append(s, target...)
	s = append(s, Setting{"recovery_target_timeline", timeline(o)})
	if o.Target.Kind != catalog.ToLatest {
		s = append(s, Setting{"recovery_target_action", string(o.Action)})
	}
	if o.Choice.Path.Hole && o.Choice.Backup.Version.Major() >= 15 {
		// The server reads ahead of the record that it replays (xlogprefetcher.c),
		// and would run into the hole that lies behind the target.
		s = append(s, Setting{"recovery_prefetch", "off"})
	}
	s = append(s, Setting{"primary_conninfo", ""}, Setting{"primary_slot_name", ""})
	if !o.Takeover {
		s = append(s, Setting{"archive_mode", "off"}, Setting{"synchronous_standby_names", ""})
	}
	return s
}

// unset takes back every target but ours: postgresql.conf may still have one, of a
// recovery long ago. It must come before ours: PostgreSQL refuses to touch a second
// target once one is set (assign_recovery_target_xid and its siblings).
func unset(target []Setting) []Setting {
	var s []Setting
	for _, name := range []string{"recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name"} {
		if len(target) == 0 || target[0].Name != name {
			s = append(s, Setting{name, ""})
		}
	}
	return s
}

func targetSettings(o Options) []Setting {
	t := o.Target
	inclusive := Setting{"recovery_target_inclusive", strconv.FormatBool(!t.Exclusive)}
	switch {
	case o.Choice.Consistent:
		return []Setting{{"recovery_target", "immediate"}}
	case o.Choice.ByLSN:
		return []Setting{{"recovery_target_lsn", o.Choice.StopLSN.String()}, inclusive}
	}
	switch t.Kind {
	case catalog.ToImmediate:
		return []Setting{{"recovery_target", "immediate"}}
	case catalog.ToTime:
		return []Setting{{"recovery_target_time", microseconds(t).Format("2006-01-02 15:04:05.000000-07:00")}, inclusive}
	case catalog.ToLSN:
		return []Setting{{"recovery_target_lsn", t.LSN.String()}, inclusive}
	case catalog.ToXID:
		return []Setting{{"recovery_target_xid", strconv.FormatUint(uint64(t.XID), 10)}, inclusive}
	case catalog.ToRestorePoint:
		return []Setting{{"recovery_target_name", t.Name}}
	}
	return nil
}

// microseconds gives the target time in PostgreSQL's resolution, such that the
// same commits lie before it.
func microseconds(t catalog.Target) time.Time {
	at := t.Time.UTC().Truncate(time.Microsecond)
	if t.Exclusive && at.Before(t.Time) {
		at = at.Add(time.Microsecond)
	}
	return at
}

// timeline gives a number wherever it can, rather than "latest": PostgreSQL stops
// to look for newer timelines at the first history file it misses.
func timeline(o Options) string {
	if tli := o.Choice.Path.History.Timeline; o.Target.Kind != catalog.ToImmediate && tli != o.Choice.Backup.Timeline {
		return strconv.FormatUint(uint64(tli), 10)
	}
	return "current"
}

// managed are the settings that a restore decides: what the source had for them is
// removed, since PostgreSQL refuses two targets.
var managed = []string{
	"restore_command", "archive_cleanup_command", "recovery_end_command",
	"recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name",
	"recovery_target_inclusive", "recovery_target_timeline", "recovery_target_action",
}

// settle writes everything that makes the directory recover: the label, the
// signal, the settings, and whose life it is.
func (r *run) settle() error {
	if r.head.Label == "" {
		return fmt.Errorf("backup %s has no backup_label", r.head.ID)
	}
	signal := "recovery.signal"
	if r.Standby {
		signal = "standby.signal"
	}
	if err := r.write("backup_label", []byte(r.head.Label)); err != nil {
		return err
	}
	if err := r.write(signal, nil); err != nil {
		return err
	}
	old, err := os.ReadFile(filepath.Join(r.To, autoConf))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	conf, err := rewrite(old, Settings(r.Options), r.head.ID, r.Target)
	if err != nil {
		return err
	}
	if err := r.write(autoConf, conf); err != nil {
		return err
	}
	m := catalog.Marker{Incarnation: r.Incarnation}
	if !r.Standby {
		m.RestoredFrom, m.BackupID = r.Choice.Origin.Incarnation, r.head.ID
	}
	return catalog.WriteMarker(r.To, m)
}

const autoConf = "postgresql.auto.conf"

const (
	blockBegin = "# salvor restore: begin"
	blockEnd   = "# salvor restore: end"
)

// rewrite removes what an earlier restore wrote, and the settings that this one
// decides, and appends a block of our own.
func rewrite(old []byte, settings []Setting, backupID string, t catalog.Target) ([]byte, error) {
	decided := map[string]bool{}
	for _, name := range managed {
		decided[name] = true
	}
	for _, s := range settings {
		decided[s.Name] = true
	}
	var out bytes.Buffer
	skipping := false
	for line := range strings.Lines(string(old)) {
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, blockBegin):
			skipping = true
		case skipping:
			skipping = !strings.HasPrefix(text, blockEnd)
		case !decided[settingName(text)]:
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	fmt.Fprintf(&out, "%s of backup %s to %s\n", blockBegin, backupID, strings.ReplaceAll(t.String(), "\n", " "))
	for _, s := range settings {
		line, err := server.ConfigLine(s.Name, s.Value)
		if err != nil {
			return nil, err
		}
		out.WriteString(line)
	}
	out.WriteString(blockEnd + "\n")
	return out.Bytes(), nil
}

// settingName gives the name that a line of a configuration file sets, in lower
// case, as PostgreSQL compares names; "" for a remark or an empty line.
func settingName(line string) string {
	end := strings.IndexFunc(line, func(c rune) bool {
		return c == '=' || c == ' ' || c == '\t' || c == '#'
	})
	if end < 0 {
		end = len(line)
	}
	return strings.ToLower(line[:end])
}

// write makes a file of the data directory, for its owner. That it is durable is
// seen to at the end.
func (r *run) write(name string, data []byte) error {
	path := filepath.Join(r.To, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return r.owner.give(path)
}
