package cli

import (
	"strings"

	"github.com/salvor-dr/salvor/internal/config"
)

// request is what must be known of a command line even if it cannot be parsed:
// how to tell the error, and whether PostgreSQL is the one who asks.
type request struct {
	output string // of --output, as far as it can be told
	debug  bool   // --log-level debug
	fetch  bool   // it is wal fetch
}

// scan finds that out. It must not fail, and for fetch it errs on the side of
// yes: a fault of wal fetch taken for an ordinary one would end a recovery
// early.
func scan(args []string, env config.Env) request {
	option := func(name string) string {
		v, _ := env(config.EnvName(name))
		return v
	}
	r := request{output: option("output"), debug: option("log-level") == "debug"}
	var words []string
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(args[i], "=")
		switch {
		case args[i] == "--":
			words = append(words, args[i+1:]...)
			i = len(args)
			continue
		case len(name) > 2 && name[0] == '-' && (name[1] == 'o' || name[1] == 'c'):
			name, value, hasValue = name[:2], strings.TrimPrefix(args[i][2:], "="), true // -ojson
		case !strings.HasPrefix(name, "-"):
			words = append(words, args[i])
			continue
		}
		switch name {
		case "-o", "--output", "-c", "--config", "--log-level", "--log-format", "--cache-dir":
			if !hasValue && i+1 < len(args) {
				i++
				value = args[i]
			}
		}
		switch name {
		case "-o", "--output":
			r.output = value
		case "--log-level":
			r.debug = value == "debug"
		}
	}
	for i := range max(0, len(words)-1) {
		r.fetch = r.fetch || words[i] == "wal" && words[i+1] == "fetch"
	}
	if len(words) > 0 && (words[0] == "help" || strings.HasPrefix(words[0], "__complete")) {
		r.fetch = false // they speak of it
	}
	return r
}
