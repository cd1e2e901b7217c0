package config

import (
	"fmt"
	"strings"
)

// Problem is one mistake in a configuration.
type Problem struct {
	File    string // as it was named; the variable, as $SALVOR_X, if the value came from there
	Line    int    // from 1; 0 if it does not come from a line of the file
	Column  int    // from 1
	Path    string // of the key, as repositories[0].url; empty for the file as a whole
	Message string // what is wrong and what would be right
}

// String gives "file:line:column: path: message", without what is not known.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Error is everything that is wrong with one configuration: at least one
// problem, in the order of the file.
type Error struct{ Problems []Problem }

// Error gives one line for each problem.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems in the configuration:", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// NotFoundError says that there is no configuration file.
type NotFoundError struct {
	Looked  []string // the files that do not exist
	NamedBy string   // the option or variable that named the only one looked for; empty otherwise
}

// Error names what was looked for.
func (e *NotFoundError) Error() string {
	switch {
	case e.NamedBy != "":
		return fmt.Sprintf("no configuration: %s, named by %s, does not exist", e.Looked[0], e.NamedBy)
	case len(e.Looked) == 1:
		return fmt.Sprintf("no configuration: %s does not exist", e.Looked[0])
	}
	return fmt.Sprintf("no configuration: looked for --config, $SALVOR_CONFIG, %s", strings.Join(e.Looked, ", "))
}

// Hint names the command that helps.
func (e *NotFoundError) Hint() string {
	return "`salvor init` writes one; -c FILE or SALVOR_CONFIG names one elsewhere"
}
