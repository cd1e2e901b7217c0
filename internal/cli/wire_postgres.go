package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// connect opens a session on the configured server.
func (s *session) connect(ctx context.Context, c *config.Config) (*conn.Conn, error) {
	cfg, err := connConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	return conn.Open(ctx, cfg)
}

func connConfig(ctx context.Context, c *config.Config) (conn.Config, error) {
	p := c.Postgres
	cfg := conn.Config{Host: p.Host, Port: p.Port, User: p.User, Database: p.Database}
	if !p.Password.IsZero() {
		var err error
		if cfg.Password, err = p.Password.Resolve(ctx); err != nil {
			return cfg, &failed{exitUsage, "password_unreadable", "", fmt.Errorf("the password of postgres.user: %w", err)}
		}
	}
	return cfg, nil
}

// binDir finds PostgreSQL's programs of a major version.
func binDir(ctx context.Context, c *config.Config, major int) (string, error) {
	var dirs []string
	if c.Postgres.BinDir != "" {
		dirs = append(dirs, c.Postgres.BinDir)
	}
	return server.FindBin(ctx, major, dirs...)
}

// self is this program's path, for commands that PostgreSQL runs.
func self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	return filepath.EvalSymlinks(path)
}

// archiveCommand is the value of archive_command that fits the configuration.
func archiveCommand(configFile string) (string, error) {
	program, err := self()
	return fmt.Sprintf("%s -c %s wal push %%p", shellWord(program), shellWord(configFile)), err
}

// restoreCommand is the value of restore_command for a directory that is restored
// from a place's incarnation. The variable makes even a fault of the Go runtime before
// main end by a signal: its usual exit 2 would mean the end of the archive.
func restoreCommand(configFile, incarnation string, standby bool) (string, error) {
	program, err := self()
	extra := ""
	if standby {
		extra = " --standby"
	}
	return fmt.Sprintf("GOTRACEBACK=crash %s -c %s wal fetch%s --incarnation %s %%f %%p", shellWord(program), shellWord(configFile), extra, incarnation), err
}

// shellWord quotes a word for /bin/sh, and for PostgreSQL, which replaces what
// follows a percent sign.
func shellWord(word string) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:,@%") == "" && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
