package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// TestTranscripts runs the command lines in testdata/*.txt and expects what
// stands below each: stdout as it is, stderr after "! ", then the exit code if
// it is not 0. Variables stand before the command, and lines that begin with #
// are remarks.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join(home, file))
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(filepath.Join(home, "testdata"))
			var got strings.Builder
			for line := range strings.Lines(string(want)) {
				switch {
				case strings.HasPrefix(line, "#"):
					got.WriteString(line)
				case strings.HasPrefix(line, "$ "):
					fmt.Fprintf(&got, "%s%s\n", line, transcript(line[2:], home))
				}
			}
			if *update {
				if err := os.WriteFile(filepath.Join(home, file), []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func transcript(line, home string) string {
	var vars, args []string
	for word := range strings.FieldsSeq(line) {
		switch {
		case word == "salvor" && args == nil:
			args = []string{}
		case args == nil:
			vars = append(vars, word)
		default:
			args = append(args, word)
		}
	}
	vars = append(vars, "SALVOR_NODE_NAME=db1") // not this machine's name
	r := inProcess(commands, vars, args...)
	var b strings.Builder
	b.WriteString(r.stdout)
	for said := range strings.Lines(r.stderr) {
		b.WriteString("! " + said)
	}
	if r.exit != 0 {
		fmt.Fprintf(&b, "exit %d\n", r.exit)
	}
	return strings.NewReplacer(
		filepath.Join(home, "testdata"), "$DIR",
		strings.TrimPrefix(runtime.Version(), "go"), "$GO",
		runtime.GOOS+"/"+runtime.GOARCH, "$PLATFORM",
	).Replace(b.String())
}
