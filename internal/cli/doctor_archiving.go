package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const (
	// waitingMax is how many finished segments may wait for the archiver: more, and
	// it does not keep up.
	waitingMax = 10

	// archiveTimeoutWanted bounds, on a server that writes little, how much time
	// may be lost.
	archiveTimeoutWanted = time.Minute
)

func archivingChecks() []check {
	server := []string{"server"}
	return []check{
		{
			name: "wal_level", title: "wal_level", needs: server, probe: probeWALLevel,
			why: "with minimal, WAL does not have what a backup needs to become consistent",
		},
		{
			name: "archive_mode", title: "archive_mode", needs: server, probe: probeArchiveMode,
			why: "without archived WAL a backup can be made only standalone, and nothing after it can be recovered",
		},
		{
			name: "archive_command", title: "archive_command", needs: []string{"server", "archive_mode"}, probe: probeArchiveCommand,
			why: "it is how WAL gets into the repositories",
		},
		{
			name: "archive_timeout", title: "archive_timeout", needs: server, probe: probeArchiveTimeout,
			why: "a segment is archived when it is full: on a server that writes little, what was committed since may wait for hours, and is lost with the server",
		},
		{
			name: "archiver", title: "archiver", needs: []string{"privileges", "archive_mode", "archive_command"}, probe: probeArchiver,
			why: "WAL that is not archived is lost with the server, and fills its disk until then",
		},
	}
}

func probeWALLevel(_ context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.WALLevel == "minimal" {
		v.problem(alterSystem("wal_level", "replica")+"\n"+thenRestart, "minimal")
		return
	}
	v.say("%s", e.server.WALLevel)
}

func probeArchiveMode(_ context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.ArchiveMode == "off" {
		v.problem(alterSystem("archive_mode", "on")+"\n"+thenRestart, "off")
		return
	}
	v.say("%s", e.server.ArchiveMode)
}

func probeArchiveCommand(ctx context.Context, e *examination, _ *examined, v *verdict) {
	want, err := archiveCommand(e.c.File())
	if err != nil {
		v.fail(err)
		return
	}
	fix := alterSystem("archive_command", want) + "\n" + reloadSQL
	is := e.server.ArchiveCommand
	words, plain := shellWords(is)
	program, configFile, pushes := parsePush(words)
	switch {
	case e.server.ArchiveLibrary != "":
		v.problem(alterSystem("archive_library", "")+"\n"+fix, "archive_library is %s, and archive_command does not count", e.server.ArchiveLibrary)
	case is == "":
		v.problem(fix, "it is empty")
	case !strings.Contains(is, "wal push"):
		v.problem(fix, "it does not archive into these repositories: %s", is)
	case !plain:
		v.warn(fix, "it is more than one command, and only the round trip below tells whether it works: %s", is)
	case !pushes || !filepath.IsAbs(program):
		v.problem(fix, "it should name this program by its whole path, and end with: wal push %%p; it is: %s", is)
	case !sameFile(configFile, e.c.File()):
		v.problem(fix, "it uses the configuration %s, and not %s: %s", configFile, e.c.File(), is)
	case e.account != nil && (!e.account.need(ctx, v, "-x", program) || !e.account.need(ctx, v, "-r", configFile)):
	default:
		v.say("%s", is)
	}
}

// parsePush finds the program and the configuration file in the words of an
// archive_command, and says whether it is one of ours that pushes %p.
func parsePush(words []string) (program, configFile string, ok bool) {
	if len(words) == 0 {
		return "", "", false
	}
	configFile = "/etc/salvor/salvor.yaml" // there is none in the data directory
	var plain []string
	for i := 1; i < len(words); i++ {
		name, value, has := strings.Cut(words[i], "=")
		if !strings.HasPrefix(name, "-") {
			plain = append(plain, words[i])
			continue
		}
		switch name {
		case "-c", "--config", "-o", "--output", "--log-level", "--log-format", "--cache-dir":
			if !has && i+1 < len(words) {
				i++
				value = words[i]
			}
		}
		if name == "-c" || name == "--config" {
			configFile = value
		}
	}
	return words[0], configFile, len(plain) == 3 && plain[0] == "wal" && plain[1] == "push" && plain[2] == "%p"
}

// shellWords splits a command as /bin/sh would, and PostgreSQL before it, and says
// whether it is a plain one: no second command, redirection or variable.
func shellWords(command string) (words []string, plain bool) {
	var word strings.Builder
	inWord := false
	for i := 0; i < len(command); i++ {
		c := command[i]
		switch {
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
			continue
		case c == '\'':
			end := strings.IndexByte(command[i+1:], '\'')
			if end < 0 {
				return nil, false
			}
			word.WriteString(command[i+1 : i+1+end])
			i += end + 1
		case c == '\\' && i+1 < len(command):
			i++
			word.WriteByte(command[i])
		case strings.IndexByte(";&|<>()$`\"*?[#~\n", c) >= 0:
			return nil, false
		default:
			word.WriteByte(c)
		}
		inWord = true
	}
	if inWord {
		words = append(words, word.String())
	}
	for i, w := range words {
		words[i] = strings.ReplaceAll(w, "%%", "%")
	}
	return words, true
}

func probeArchiveTimeout(_ context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.ArchiveTimeout == 0 {
		v.warn(alterSystem("archive_timeout", fmt.Sprintf("%.0fs", archiveTimeoutWanted.Seconds()))+"\n"+reloadSQL,
			"0: how much time may be lost has no bound until a segment of %s is full", formatBytes(int64(e.server.WALSegmentSize)))
		return
	}
	v.say("%s", e.server.ArchiveTimeout)
}

func probeArchiver(ctx context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.InRecovery && e.server.ArchiveMode != "always" {
		v.skip("the server is a standby, and archives nothing")
		return
	}
	stats, err := e.db.Archiver(ctx)
	if err != nil {
		v.fail(err)
		return
	}
	var waiting int
	err = e.db.Row(ctx, `SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'`, nil, &waiting)
	if err != nil {
		v.fail(err)
		return
	}
	byHand := fmt.Sprintf("the server's log has its messages; try by hand, as its user: cd %s && %s",
		shellWord(e.c.Postgres.DataDir), e.command("wal push pg_wal/"+stats.LastFailedWAL))
	switch {
	case stats.LastFailedAt.After(stats.LastArchivedAt):
		v.problem(byHand, "archive_command fails, last for %s at %s; %d segments wait", stats.LastFailedWAL, formatTime(stats.LastFailedAt), waiting)
	case waiting > waitingMax:
		v.warn("see that the repositories are fast enough: "+e.command("wal status"), "%d segments wait for it", waiting)
	case stats.LastArchivedWAL == "":
		v.say("it has archived nothing yet")
	default:
		v.say("archived %s at %s; %d segments wait", stats.LastArchivedWAL, formatTime(stats.LastArchivedAt), waiting)
	}
}
