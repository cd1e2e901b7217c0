package server

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StartOptions say how to start a postmaster.
type StartOptions struct {
	// BinDir holds the programs; see FindBin. Required.
	BinDir string
	// DataDir is the data directory. Required. As root, the server runs as its owner.
	DataDir string
	// Port, if not zero, is the TCP and socket port.
	Port int
	// SocketDir, if set, is the only directory for the Unix socket. A path over
	// 107 bytes with the socket's own name is refused by the system.
	SocketDir string
	// ConfigFile, HBAFile and IdentFile, if set, take the place of the files in
	// the data directory. Debian keeps them in /etc.
	ConfigFile, HBAFile, IdentFile string
	// Set gives more settings. They win over every file.
	Set map[string]string
	// LogFile takes what the server writes to standard output and error, at its
	// end. Empty throws that away. It is made if missing, with mode 0600 and the
	// owner of the data directory.
	LogFile string
	// Env is added to the server's environment. PG* variables and those of
	// systemd's notification protocol are not inherited, since they would
	// change what the server does.
	Env []string
	// Timeout bounds the wait; zero means as long as ctx allows, which is right
	// for a recovery of unknown length.
	Timeout time.Duration
	// Until says when the wait is over. It is called with each new status.
	// The default is Status.Up. Status.Primary waits for the end of a recovery.
	Until func(Status) bool
	// Guarded ties the server's life to this program's: however that ends, the server
	// is shut down at once.
	Guarded bool
	// NoNetwork gives the server a network of its own, without any connection: sockets
	// in the file system are all that leads in or out, for its extensions, functions
	// and commands too. Start fails with ErrNoIsolation where this program may not
	// make one.
	NoNetwork bool
}

func (o *StartOptions) validate() error {
	switch {
	case !filepath.IsAbs(o.BinDir):
		return fmt.Errorf("the programs' directory %q is not an absolute path", o.BinDir)
	case !filepath.IsAbs(o.DataDir):
		return fmt.Errorf("the data directory %q is not an absolute path", o.DataDir)
	case o.Port < 0 || o.Port > 65535:
		return fmt.Errorf("%d is no port", o.Port)
	case o.Timeout < 0:
		return fmt.Errorf("the timeout %s is negative", o.Timeout)
	}
	for name, value := range o.Set {
		if err := checkSetting(name, value); err != nil {
			return err
		}
	}
	return nil
}

// args gives the arguments of postgres, in a fixed order.
func (o *StartOptions) args() []string {
	args := []string{"-D", o.DataDir}
	set := func(name, value string) { args = append(args, "-c", name+"="+value) }
	if o.Port != 0 {
		set("port", strconv.Itoa(o.Port))
	}
	for _, s := range []struct{ name, value string }{
		{"unix_socket_directories", quoteListItem(o.SocketDir)},
		{"config_file", o.ConfigFile},
		{"hba_file", o.HBAFile},
		{"ident_file", o.IdentFile},
	} {
		if s.value != "" {
			set(s.name, s.value)
		}
	}
	names := make([]string, 0, len(o.Set))
	for name := range o.Set {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		set(name, o.Set[name])
	}
	return args
}

// quoteListItem quotes one member of a setting that is a list of paths, if it
// needs that (SplitDirectoriesString, varlena.c).
func quoteListItem(s string) string {
	if !strings.ContainsAny(s, `", `) {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// checkSetting refuses a name that is no setting's, and a value that can't be
// an argument of a program.
func checkSetting(name, value string) error {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c != '.' && (c < '0' || c > '9')) {
			return fmt.Errorf("%q is not the name of a setting", name)
		}
	}
	if name == "" {
		return errors.New("a setting has no name")
	}
	if strings.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("the value of %s holds a zero byte", name)
	}
	return nil
}

// ConfigLine gives the line of a postgresql.conf that sets name to value, with
// the line's end. The value is quoted as DeescapeQuotedString (guc-file.l)
// reads it, so it may hold quotes, backslashes and line ends.
func ConfigLine(name, value string) (string, error) {
	if err := checkSetting(name, value); err != nil {
		return "", err
	}
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\r", `\r`).Replace(value)
	return name + " = '" + quoted + "'\n", nil
}
