package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// deployed are the files of deploy that run commands.
func deployed(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"deploy/systemd/*.service", "deploy/systemd/*.timer", "deploy/cron/*"} {
		files, err := filepath.Glob(filepath.Join(docsRoot, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		all = append(all, files...)
	}
	return all
}

// TestDeployedCommands gives the command lines of units and of cron to the parser.
func TestDeployedCommands(t *testing.T) {
	t.Parallel()
	found := 0
	for _, file := range deployed(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range (block{text: string(text)}).commands() {
			found++
			if err := parses(args, true); err != nil {
				t.Errorf("%s: salvor %s: %v", file, strings.Join(args, " "), err)
			}
		}
	}
	if found < 6 {
		t.Errorf("found only %d command lines: does this test still read them?", found)
	}
}

// TestUnits has systemd itself look at its units.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not on this machine")
	}
	dir := t.TempDir()
	var units []string
	for _, file := range deployed(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(filepath.Dir(file)) != "systemd" {
			continue
		}
		unit := filepath.Join(dir, filepath.Base(file))
		// The program need not be installed here.
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/salvor", "/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify"}, units...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
