package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write the schema and the reference anew")

// TestReference keeps the published schema and the reference page equal to
// what the structs and their comments say.
func TestReference(t *testing.T) {
	g := generator{comments: readComments(t)}
	schema := g.document(t)
	for path, want := range map[string][]byte{
		"salvor.schema.json":                      schema,
		"../../docs/reference/salvor.schema.json": schema,
		"../../docs/reference/configuration.md":   g.page(),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is out of date: run go test ./internal/config -run TestReference -update\n%s", path, diff)
		}
	}
}

// TestSchemaAgreesWithParse gives documents to an independent validator and to
// the parser: both must say the same.
func TestSchemaAgreesWithParse(t *testing.T) {
	var s jsonschema.Schema
	data, err := os.ReadFile("../../docs/reference/salvor.schema.json") // as published
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		doc  string
		good bool
	}{
		{full, true},
		{minimal, true},
		{minimal + "backup:\n", true},
		{minimal + "backup: {rate_limit: 64MiB, archive_timeout: 1d12h}\n", true},
		{minimal + "backup: {rate_limit: 1000000}\n", true},
		{minimal + "backup: {rate_limit: -1}\n", false},
		{minimal + "backup: {rate_limit: lots}\n", false},
		{minimal + "backup: {archive_timeout: 60}\n", false},
		{minimal + "backup: {workers: 0}\n", false},
		{minimal + "backup: {checkpoint: slow}\n", false},
		{minimal + "colour: red\n", false},
		{minimal + "node: {name: Upper}\n", false},
		{minimal + "node: {name: " + strings.Repeat("x", 64) + "}\n", false},
		{strings.Replace(minimal, "{env: KEY}", "KEY", 1), false},
		{strings.Replace(minimal, "{env: KEY}", "{env: KEY, file: k}", 1), false},
		{strings.Replace(minimal, "{env: KEY}", "{command: []}", 1), false},
		{strings.Replace(minimal, "cluster: shop\n", "", 1), false},
		{strings.Replace(minimal, ", key: {env: KEY}", "", 1), false},
		{strings.Replace(minimal, "key: {env: KEY}", "encryption: none", 1), true},
		{s3Repository("{access_key: {file: a}, secret_key: {env: B}}"), true},
		{s3Repository("{}"), true},
		{s3Repository(""), true},
		{s3Repository("{access_key: {file: a}}"), false},
		{s3Repository("{secret_key: {file: a}}"), false},
		{minimal + "retention: {window: 0s, yearly: 10, time_zone: America/Argentina/Buenos_Aires}\n", true},
		{minimal + "retention: {minimum: 0}\n", false},
		{minimal + "retention: {daily: -1}\n", false},
		{minimal + "notify:\n", true},
		{minimal + "notify: [{webhook: 'https://example.org/x', on: [failure], for: [backup, verify]}, {webhook: {file: x}}, {command: [sh, -c, ':']}, {ping: {env: X}, for: [backup]}]\n", true},
		{minimal + "notify: [{webhook: 'ftp://example.org/x'}]\n", false},
		{minimal + "notify: [{webhook: 'https://example.org/x', on: [always]}]\n", false},
		{minimal + "notify: [{webhook: 'https://example.org/x', ping: 'https://example.org/x'}]\n", false},
		{minimal + "notify: [{on: [failure]}]\n", false},
		{minimal + "notify: [{command: sh}]\n", false},
		{minimal + "notify: [{ping: {env: X}, on: [success]}]\n", false},
		{s3Repository("{access_key: AKIA, secret_key: hush}"), false},
		{s3Repository("{access_key: {file: a}, secret_key: {file: b}, token: {file: c}}"), false},
	} {
		var doc any
		if err := yaml.Load([]byte(tc.doc), &doc); err != nil {
			t.Fatal(err)
		}
		bySchema := resolved.Validate(doc)
		_, byParse := parse(tc.doc)
		if (bySchema == nil) != tc.good || (byParse == nil) != tc.good {
			t.Errorf("want good=%v\nschema: %v\nparser: %v\n%s", tc.good, bySchema, byParse, tc.doc)
		}
	}
}

// comment keys are "Type.Field".
func readComments(t *testing.T) map[string]string {
	file, err := goparser.ParseFile(token.NewFileSet(), "config.go", nil, goparser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range st.Fields.List {
			if f.Tag == nil {
				continue
			}
			text := strings.TrimSpace(f.Doc.Text())
			if text == "" {
				t.Errorf("%s.%s has no comment", spec.Name.Name, f.Names[0].Name)
			}
			comments[spec.Name.Name+"."+f.Names[0].Name] = text
		}
		return true
	})
	return comments
}

type generator struct{ comments map[string]string }

func (g generator) comment(section reflect.Type, f field) string {
	for i := range section.NumField() {
		sf := section.Field(i)
		if key, _, _ := strings.Cut(sf.Tag.Get("json"), ","); key == f.key {
			return g.comments[section.Name()+"."+sf.Name]
		}
	}
	return ""
}

func (g generator) document(t *testing.T) []byte {
	s := g.section(reflect.TypeFor[Config]())
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "salvor.yaml"
	s.Description = "Configuration of Salvor, disaster recovery for PostgreSQL."
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

func (g generator) section(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{
		Type:                 "object",
		Properties:           map[string]*jsonschema.Schema{},
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
	}
	for f := range fields(reflect.New(t).Elem()) {
		p := g.key(f)
		p.Description = g.comment(t, f)
		s.Properties[f.key] = p
		s.PropertyOrder = append(s.PropertyOrder, f.key)
		if f.required() {
			s.Required = append(s.Required, f.key)
		}
	}
	if t == reflect.TypeFor[Repository]() {
		none := any(EncryptionNone)
		s.AnyOf = []*jsonschema.Schema{
			{Required: []string{"key"}},
			{Required: []string{"encryption"}, Properties: map[string]*jsonschema.Schema{"encryption": {Const: &none}}},
		}
	}
	if t == reflect.TypeFor[Notify]() {
		for _, key := range []string{"command", "webhook", "ping"} {
			s.OneOf = append(s.OneOf, &jsonschema.Schema{Required: []string{key}})
		}
		s.DependentSchemas = map[string]*jsonschema.Schema{"ping": {Properties: map[string]*jsonschema.Schema{"on": {Not: &jsonschema.Schema{}}}}}
	}
	if t == reflect.TypeFor[Credentials]() {
		s.DependentRequired = map[string][]string{"access_key": {"secret_key"}, "secret_key": {"access_key"}}
	}
	return s
}

func (g generator) key(f field) *jsonschema.Schema {
	switch {
	case f.isSection():
		s := g.section(f.val.Type())
		if !f.required() {
			s.Type, s.Types = "", []string{"object", "null"} // every key in it commented out
		}
		return s
	case f.isList():
		s := &jsonschema.Schema{Type: "array", Items: g.section(f.val.Type().Elem())}
		if f.required() {
			s.MinItems = new(1)
		} else {
			s.Type, s.Types = "", []string{"array", "null"}
		}
		return s
	case f.isSecret():
		return secretSchema()
	case f.isAddress():
		return &jsonschema.Schema{OneOf: append([]*jsonschema.Schema{{Type: "string", Pattern: "^https?://[^/]"}}, secretSchema().OneOf...)}
	case f.isWords():
		item := &jsonschema.Schema{Type: "string"}
		if f.tag.Get("enum") != "" {
			g.text(item, f)
		}
		return &jsonschema.Schema{Type: "array", Items: item, MinItems: new(1)}
	}
	s := &jsonschema.Schema{Type: "string"}
	def, hasDefault := f.tag.Lookup("default")
	encoded, _ := json.Marshal(def)
	switch f.val.Interface().(type) {
	case int:
		s.Type = "integer"
		s.Minimum, s.Maximum = number(f.tag.Get("min")), number(f.tag.Get("max"))
		encoded = []byte(def)
	case Size:
		s.Type = ""
		s.AnyOf = []*jsonschema.Schema{
			{Type: "integer", Minimum: new(0.0)},
			{Type: "string", Pattern: `^[0-9]+ *([kKmMgGtT][iI]?)?[bB]?$`},
		}
		encoded = []byte(def)
	case Duration:
		s.Pattern = `^([0-9]+d)?([0-9.]+(ns|us|µs|ms|s|m|h))*$`
		s.MinLength = new(2)
	case string:
		g.text(s, f)
	}
	if hasDefault && !strings.HasPrefix(def, "@") {
		s.Default = encoded
	}
	return s
}

func (g generator) text(s *jsonschema.Schema, f field) {
	if enum := f.tag.Get("enum"); enum != "" {
		for v := range strings.SplitSeq(enum, ",") {
			s.Enum = append(s.Enum, v)
		}
		return
	}
	s.MinLength = new(1)
	switch f.tag.Get("kind") {
	case "name":
		s.Pattern, s.MaxLength = namePattern, new(nameMax)
	case "url":
		s.Format = "uri"
	}
}

func number(s string) *float64 {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil
	}
	return &n
}

func secretSchema() *jsonschema.Schema {
	form := func(key string, s *jsonschema.Schema) *jsonschema.Schema {
		return &jsonschema.Schema{
			Type: "object", Required: []string{key},
			Properties:           map[string]*jsonschema.Schema{key: s},
			AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}},
		}
	}
	text := func() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", MinLength: new(1)} }
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
		form("file", text()), form("env", text()),
		form("command", &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "string"}, MinItems: new(1)}),
	}}
}

const pageHead = `# Configuration

<!-- Made from internal/config/config.go. After a change there:
     go test ./internal/config -run TestReference -update -->

Salvor reads one file: the one that ` + "`-c`, `--config`" + ` names, else the one that ` + "`$SALVOR_CONFIG`" + `
names, else ` + "`./salvor.yaml`, else `/etc/salvor/salvor.yaml`" + `. ` + "`salvor init`" + ` writes one.

- ` + "`salvor config validate`" + ` reports every mistake in it, with line and column.
- ` + "`salvor config show --effective`" + ` shows every key with its value and where that comes from.
- ` + "`salvor config schema`" + ` prints the JSON Schema, which is also in
  [salvor.schema.json](salvor.schema.json). For an editor with the YAML language server, begin the
  file with ` + "`# yaml-language-server: $schema=salvor.schema.json`" + `.

An unknown key, a key given twice, a key without a value, an anchor or an alias is an error.

## A small one

` + "```yaml\n" + full + "```" + `

## How values are written

| kind | written as |
|---|---|
| name | up to 63 of ` + "`a-z`, `0-9`, `.`, `_`, `-`" + `, with a letter or digit first |
| path | a relative one starts at the directory of the configuration file |
| size | bytes as a whole number, or with a unit: ` + "`10MB`" + ` is 10,000,000 bytes, ` + "`64MiB`" + ` is 67,108,864; units are ` + "`B kB MB GB TB KiB MiB GiB TiB`" + `, in any case |
| time zone | a name of the IANA database, as UTC, Europe/Berlin or America/New_York; the program has it built in |
| duration | numbers with a unit: ` + "`90s`, `5m`, `1h30m`, `7d`, `1d12h`" + `; a day has 24 hours |
| secret | never the secret itself but where it is: ` + "`{file: PATH}`, `{env: NAME}` or `{command: [PROGRAM, ARGUMENT, …]}`" + `, a program that prints it. One line end at its end does not count. A command runs in the directory of the configuration file and has 30 seconds. |
| address | ` + "`http://…` or `https://…`" + `, or where it is, as a secret: addresses of chat services are secrets |

## Overrides from the environment

Every key has a variable: ` + "`SALVOR_`" + ` and the path in capitals, with ` + "`_`" + ` for each dot, as
` + "`SALVOR_BACKUP_WORKERS=8`" + `. An entry of ` + "`repositories`" + ` is addressed by its name, with ` + "`_`" + ` for
` + "`.` and `-`" + `: ` + "`SALVOR_REPOSITORIES_LOCAL_URL`" + `. The variable of a secret holds the secret itself
(` + "`SALVOR_POSTGRES_PASSWORD`" + `); with ` + "`_FILE`" + ` at its end it holds the path of a file that does. An
empty variable counts as unset. Variables win over the file, options of the command line over both.
Every option has a variable too: ` + "`SALVOR_` and its name, as `SALVOR_LOG_LEVEL`" + ` for ` + "`--log-level`" + `.
`

func (g generator) page() []byte {
	var b bytes.Buffer
	b.WriteString(pageHead)
	b.WriteString("\n## Keys\n")
	g.table(&b, reflect.TypeFor[Config](), "")
	return b.Bytes()
}

func (g generator) table(b *bytes.Buffer, section reflect.Type, path string) {
	b.WriteString("\n| key | kind | default | meaning |\n|---|---|---|---|\n")
	var below []field
	for f := range fields(reflect.New(section).Elem()) {
		meaning := strings.ReplaceAll(g.comment(section, f), "\n", " ")
		kind := kindOf(f)
		if f.isSection() || f.isList() {
			below = append(below, f)
			fmt.Fprintf(b, "| [`%s`](#%s) | %s | %s | %s |\n", join(path, f.key), f.key, kind, defaultOf(f), meaning)
			continue
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", join(path, f.key), kind, defaultOf(f), meaning)
	}
	for _, f := range below {
		fmt.Fprintf(b, "\n### %s\n", f.key)
		if f.isList() {
			g.table(b, f.val.Type().Elem(), join(path, f.key)+"[]")
			continue
		}
		g.table(b, f.val.Type(), join(path, f.key))
	}
}

func kindOf(f field) string {
	switch f.val.Interface().(type) {
	case int:
		return f.tag.Get("min") + " to " + f.tag.Get("max")
	case Size:
		return "size"
	case Duration:
		return "duration"
	case Secret:
		return "secret"
	case Address:
		return "address"
	}
	switch enum := f.tag.Get("enum"); {
	case f.isSection():
		return "section"
	case f.isList():
		return "list"
	case f.isWords() && enum != "":
		return "list of `" + strings.ReplaceAll(enum, ",", "`, `") + "`"
	case f.isWords():
		return "list of texts"
	case enum != "":
		return "`" + strings.ReplaceAll(enum, ",", "`, `") + "`"
	case f.tag.Get("kind") == "url":
		return "URL"
	case f.tag.Get("kind") != "":
		return f.tag.Get("kind")
	}
	return "text"
}

func defaultOf(f field) string {
	def := f.tag.Get("default")
	switch {
	case def == "@hostname":
		return "the host's name"
	case def != "":
		return "`" + def + "`"
	case f.required():
		return "**required**"
	}
	return ""
}
