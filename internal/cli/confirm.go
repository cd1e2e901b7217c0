package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// confirm asks the person at the terminal to type name before something of
// that name is destroyed; what says what would happen, as "This deletes the
// backup". With --yes it does not ask. Without a terminal, and on any other
// answer, it refuses: exit 2.
func (s *session) confirm(what, name string) error {
	if s.yes {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return &failed{exitUsage, "confirmation_required", "--yes does it without asking", fmt.Errorf(format, args...)}
	}
	if !s.isTerminal(s.stdin) {
		return refuse("not done, since nobody is there to confirm it: %s %s", what, name)
	}
	fmt.Fprintf(s.stderr, "%s %s.\nType %s to go on: ", what, name, name)
	line, err := bufio.NewReader(io.LimitReader(s.stdin, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the confirmation: %w", err)
	}
	if got := strings.TrimSpace(line); got != name {
		return refuse("not done: %q was typed, not %q", got, name)
	}
	return nil
}
