//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The kinds of codec that are compared with each other.
const (
	likeZstd = "zstd" // zstd, fastest in Salvor, level 3 in the others
	likeLZ4  = "lz4"  // S2 in Salvor, LZ4 in the others
	noCodec  = "none"
)

// about says what a tool is.
type about struct {
	Name      string
	Codec     string
	Encrypted bool
	Baseline  []string // measured steps in which tools with the same codec are compared with it
	Programs  []string // without these it is left out
	Env       []string
	Steps     []string // what it takes part in; nil: all
}

// tool is one program in one configuration, with a repository of its own. Command
// lines are arguments, the program first; nil is a step that the tool lacks.
type tool interface {
	about() about
	// reset makes the repository anew.
	reset(ctx context.Context, b *bench) error
	// backup makes a full backup of the cluster.
	backup(b *bench) []string
	// incremental makes a backup of what changed since the last one.
	incremental(b *bench) []string
	// restore rebuilds the data directory in an empty directory, of the last backup.
	restore(b *bench, dest string) []string
	// ready writes what a restored directory lacks to recover on its own.
	ready(b *bench, dest string) error
	// push archives one file of a data directory; its path follows.
	push(b *bench, dataDir string) []string
	// fetch brings one file to a data directory; name and destination follow.
	fetch(b *bench, dataDir string) []string
	// holds are the directories below the repository that backups are in, not WAL.
	holds() []string
}

// waiter is a tool that waits at the end of a backup until its WAL is archived.
type waiter interface {
	// stopped reads from what the backup printed when the server had left backup mode.
	stopped(stdout []byte) (time.Time, error)
}

// verifier is a tool that reads its backups and WAL, and checks them.
type verifier interface {
	verify(b *bench) []string
}

// counter is a tool that tells of a backup which pages it read and stored.
type counter interface {
	counted(stdout []byte) (pageCount, error)
}

// tools gives all that could be measured. Each missing is told.
func tools(b *bench) []tool {
	all := []tool{&salvorTool{codec: "zstd"}, &salvorTool{codec: "s2"}}
	for i, p := range b.pgbackrests {
		last := i == len(b.pgbackrests)-1
		for _, codec := range []string{"zst", "lz4"} {
			all = append(all,
				&pgBackRest{program: p, codec: codec, baseline: last},
				&pgBackRest{program: p, codec: codec, async: true},
				&pgBackRest{program: p, codec: codec, block: true, baseline: last})
		}
	}
	all = append(all, &walG{codec: "zstd"}, &walG{codec: "lz4"}, &baseBackup{codec: "zstd"}, &baseBackup{codec: "lz4"}, &plainCopy{})
	for _, t := range all {
		if s, ok := t.(interface{ set(o options) }); ok {
			s.set(b.options)
		}
	}
	return all
}

// present leaves out tools that are not asked for or not here.
func (b *bench) present(all []tool) []tool {
	var out []tool
	for _, t := range all {
		a := t.about()
		if !b.chosen(a.Name) {
			continue
		}
		missing := ""
		if p, ok := t.(*pgBackRest); ok && p.block && !p.program.incrementalByBlock() {
			continue // which no word needs to be lost about
		}
		for _, p := range a.Programs {
			if _, err := exec.LookPath(p); err != nil {
				missing = fmt.Sprintf("%s: left out, %v", a.Name, err)
			}
			if p == "" {
				missing = a.Name + ": left out, no program was given"
			}
		}
		if missing != "" {
			b.say("%s", missing)
			b.result.Run.Missing = append(b.result.Run.Missing, missing)
			continue
		}
		out = append(out, t)
	}
	return out
}

// slug turns a tool's name into a directory's.
func slug(name string) string {
	return strings.NewReplacer(" ", "-", "+", "-").Replace(name)
}

func (b *bench) repo(t tool) string { return filepath.Join(b.root, "repo", slug(t.about().Name)) }

// quote makes words of a shell's command line.
func quote(argv []string) string {
	words := make([]string, len(argv))
	for i, w := range argv {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

// shell is a tool's command with its environment, for a shell.
func shell(t tool, argv []string) string {
	env := t.about().Env
	if len(env) == 0 {
		return quote(argv)
	}
	return "env " + quote(env) + " " + quote(argv)
}
