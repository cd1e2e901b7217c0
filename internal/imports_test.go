package internal_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	module    = "github.com/salvor-dr/salvor"
	tableFile = "imports.txt"
	lintFile  = "../.golangci.yml"
)

var update = flag.Bool("update", false, "write the import table into .golangci.yml")

// table is imports.txt. Packages are named as there.
type table struct {
	ground    []string
	packages  []string            // in the file's order
	imports   map[string][]string // package: patterns of what it may import
	libraries []string            // in the file's order
	owners    map[string][]string // library: patterns of packages that may import it
}

func parseTable(text string) (*table, error) {
	t := &table{imports: map[string][]string{}, owners: map[string][]string{}}
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		head, tail, ok := strings.Cut(line, ":")
		words, list := strings.Fields(head), strings.Fields(tail)
		switch {
		case ok && len(words) == 1 && words[0] == "ground":
			t.ground = list
		case ok && len(words) == 2 && words[0] == "package" && t.imports[words[1]] == nil:
			t.packages = append(t.packages, words[1])
			t.imports[words[1]] = append([]string{}, list...)
		case ok && len(words) == 2 && words[0] == "library" && t.owners[words[1]] == nil:
			t.libraries = append(t.libraries, words[1])
			t.owners[words[1]] = append([]string{}, list...)
		default:
			return nil, fmt.Errorf("%s:%d: cannot read %q, or it was there before", tableFile, n+1, line)
		}
	}
	for _, g := range t.ground {
		t.packages = append(t.packages, g)
		t.imports[g] = nil
	}
	return t, nil
}

// match says whether one of the patterns stands for the package.
func match(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if p == "*" {
			return true
		}
		if parent, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(pkg, parent)
		}
		return p == pkg
	})
}

// under says whether path is the library or one of its packages.
func under(library, path string) bool {
	return path == library || strings.HasPrefix(path, library+"/")
}

// forTests says whether a package exists for tests alone, by its name.
func forTests(pkg string) bool {
	return strings.HasSuffix(pkg, "test") || strings.HasPrefix(pkg, "test/")
}

// problem says what is wrong with pkg importing path, or nothing.
func (t *table) problem(pkg, path string) string {
	if ours, ok := ourName(path); ok {
		switch {
		case forTests(ours):
			return "it exists for tests alone"
		case match(t.ground, ours) && !match(t.ground, pkg), match(t.imports[pkg], ours):
			return ""
		}
		return fmt.Sprintf("%s lets it import only: %s", tableFile, cmp.Or(strings.Join(t.imports[pkg], " "), "nothing"))
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for _, l := range t.libraries {
		if under(l, path) {
			if match(t.owners[l], pkg) {
				return ""
			}
			return fmt.Sprintf("it belongs to: %s", strings.Join(t.owners[l], " "))
		}
	}
	return "no such library is in " + tableFile
}

// ourName turns an import path of this module into the name the table uses.
func ourName(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return "", false
	}
	return strings.TrimPrefix(rest, "internal/"), true
}

// TestImports holds every package of the module to imports.txt.
func TestImports(t *testing.T) {
	t.Parallel()
	table := readTable(t)
	for _, p := range listPackages(t) {
		name, ok := ourName(p.ImportPath)
		if !ok || name == "internal" || forTests(name) || strings.HasPrefix(name, "bench/") {
			continue
		}
		if _, ok := table.imports[name]; !ok {
			t.Errorf("%s is not in internal/%s: say there what it may import", name, tableFile)
			continue
		}
		for _, path := range p.Imports {
			if why := table.problem(name, path); why != "" {
				t.Errorf("%s imports %s: %s", name, path, why)
			}
		}
	}
}

// TestImportTable holds .golangci.yml to imports.txt, or with -update writes it.
func TestImportTable(t *testing.T) {
	t.Parallel()
	const begin, end = "        # import table: begin\n", "        # import table: end\n"
	old, err := os.ReadFile(lintFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has not both lines %q and %q", lintFile, begin, end)
	}
	want := head + begin + readTable(t).depguard() + end + tail
	if want == string(old) {
		return
	}
	if !*update {
		t.Fatalf(".golangci.yml differs from internal/%s: run `go test ./internal -run ImportTable -update`", tableFile)
	}
	if err := os.WriteFile(lintFile, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// depguard writes the table as depguard's rules.
func (t *table) depguard() string {
	var b strings.Builder
	for _, pkg := range t.packages {
		fmt.Fprintf(&b, "        %s:\n          list-mode: strict\n", strings.ReplaceAll(pkg, "/", "-"))
		fmt.Fprintf(&b, "          files: [\"**/%s/*.go\", \"!$test\"]\n          allow:\n            - $gostd\n", dir(pkg))
		for _, path := range t.allowed(pkg) {
			fmt.Fprintf(&b, "            - %s\n", path)
		}
	}
	return b.String()
}

// allowed gives import paths as depguard wants them: one that ends in $ stands for
// that package alone, any other for all that begin with it. Of paths that begin
// with another of the list only that one is given: depguard compares an import
// with its nearest neighbour alone.
func (t *table) allowed(pkg string) []string {
	patterns := slices.Clone(t.imports[pkg])
	if !match(t.ground, pkg) {
		patterns = slices.Concat(t.ground, patterns)
	}
	var all []string
	for _, p := range patterns {
		parent, children := strings.CutSuffix(p, "*")
		switch {
		case p == "*":
			all = append(all, module+"/")
		case children:
			all = append(all, path.Join(module, dir(parent))+"/")
		default:
			all = append(all, path.Join(module, dir(p))+"$")
		}
	}
	for _, l := range t.libraries {
		if match(t.owners[l], pkg) {
			all = append(all, l)
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(path string) bool {
		return slices.ContainsFunc(all, func(other string) bool { return other != path && strings.HasPrefix(path, other) })
	})
}

// dir is where the package lies in the module.
func dir(pkg string) string {
	for _, top := range []string{"cmd/", "examples/"} {
		if strings.HasPrefix(pkg, top) {
			return pkg
		}
	}
	return "internal/" + pkg
}

func readTable(t *testing.T) *table {
	t.Helper()
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	table, err := parseTable(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// goPackage is what `go list -json` says of a package, as far as needed here.
type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	list.Dir = ".."
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("reading what go list says: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list found no package")
	}
	return packages
}

// TestProblem shows that the check can fail.
func TestProblem(t *testing.T) {
	t.Parallel()
	table, err := parseTable(`
ground: clock
package pg:
package pg/page: pg # a child may import its parent
package repo/open: repo repo/*
package cli: *
library example.com/sdk: pg/page repo/*
`)
	if err != nil {
		t.Fatal(err)
	}
	in := func(p string) string { return module + "/internal/" + p }
	for _, tc := range []struct {
		pkg, path string
		ok        bool
	}{
		{"pg", "os/exec", true},
		{"pg", in("clock"), true},
		{"pg", in("pg/page"), false},
		{"pg", in("pg/pgtest"), false},
		{"cli", in("pg/pgtest"), false},
		{"cli", in("pg/page"), true},
		{"clock", in("clock/zone"), false},
		{"pg/page", in("pg"), true},
		{"pg/page", in("repo"), false},
		{"repo/open", in("repo/pack"), true},
		{"repo/open", in("repository"), false},
		{"pg/page", "example.com/sdk/v2", true},
		{"pg/page", "example.com/sdkother", false},
		{"repo/open", "example.com/sdk", true},
		{"pg", "example.com/sdk", false},
		{"cli", "example.com/sdk", false},
	} {
		if why := table.problem(tc.pkg, tc.path); (why == "") != tc.ok {
			t.Errorf("%s imports %s: problem %q, want none: %v", tc.pkg, tc.path, why, tc.ok)
		}
	}
	for _, bad := range []string{"package pg", "pg: pg", "package a: b\npackage a: c"} {
		if _, err := parseTable(bad); err == nil {
			t.Errorf("%q was read as a table", bad)
		}
	}
}
