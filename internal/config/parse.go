package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Source is a configuration that has been read but not understood yet, with
// all that its meaning depends on.
type Source struct {
	Name     string // of the file, for messages
	Dir      string // where relative paths start
	Data     []byte
	Env      Env    // overrides; nil for none
	Hostname string // of this host; the default name of the node is made from it
}

// Parse understands a configuration. It depends on nothing but src. Mistakes
// are an *Error that holds all of them.
func Parse(src Source) (*Config, error) {
	c := &Config{origins: map[string]string{}}
	p := &parser{src: src, config: c, at: map[string]position{"": {1, 1}}, bad: map[string]bool{}}
	root, ok := p.document()
	if !ok {
		return nil, &Error{p.problems}
	}
	if root != nil {
		p.section(root, reflect.ValueOf(c).Elem(), "")
	}
	p.override()
	p.fillDefaults()
	p.validate()
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, &Error{p.problems}
	}
	return c, nil
}

type position struct{ line, column int }

// parser turns nodes into a Config and collects what is wrong with them.
type parser struct {
	src      Source
	config   *Config
	at       map[string]position // where each key that was given stands, by path
	bad      map[string]bool     // paths that have a problem already
	problems []Problem
}

// problem reports what is wrong at a node.
func (p *parser) problem(n *yaml.Node, path, format string, args ...any) {
	p.report(Problem{p.src.Name, n.Line, n.Column, path, fmt.Sprintf(format, args...)})
}

// problemAt reports what is wrong with a key that may not be in the file: the
// line is that of the nearest section around it.
func (p *parser) problemAt(path, format string, args ...any) {
	pos, ok := p.at[path]
	for around := path; !ok; pos, ok = p.at[around] {
		around = around[:max(0, strings.LastIndexAny(around, ".["))]
	}
	p.report(Problem{p.src.Name, pos.line, pos.column, path, fmt.Sprintf(format, args...)})
}

func (p *parser) report(pr Problem) {
	p.bad[pr.Path] = true
	p.problems = append(p.problems, pr)
}

// document gives the root of the only document; nil if the file has none.
func (p *parser) document() (root *yaml.Node, ok bool) {
	loader, err := yaml.NewLoader(bytes.NewReader(p.src.Data))
	if err != nil {
		p.syntax(err)
		return nil, false
	}
	var doc yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		return nil, true
	case err != nil:
		p.syntax(err)
		return nil, false
	}
	var second yaml.Node
	if err := loader.Load(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			p.syntax(err)
		} else {
			p.problem(&second, "", "a second document starts here: a configuration is one")
		}
		return nil, false
	}
	if len(doc.Content) == 0 {
		return nil, true
	}
	return doc.Content[0], true
}

// syntax reports what the YAML parser says, which never repeats a value.
func (p *parser) syntax(err error) {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		p.report(Problem{File: p.src.Name, Message: err.Error()})
		return
	}
	message := "not YAML: " + le.Message
	if le.ContextMsg != "" {
		message += " " + le.ContextMsg
		if le.ContextMark.Line > 0 {
			message += fmt.Sprintf(" that starts at line %d", le.ContextMark.Line)
		}
	}
	p.report(Problem{File: p.src.Name, Line: le.Mark.Line, Column: le.Mark.Column, Message: message})
}

// section reads the keys of a mapping into a struct.
func (p *parser) section(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return // every key in it is commented out
	}
	if n.Kind != yaml.MappingNode {
		p.problem(n, path, "must be a section of keys: %s", strings.Join(keysOf(v), ", "))
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		switch line, twice := first[name]; {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!null":
			p.problem(key, path, "a key must be plain text")
			continue
		case twice:
			p.problem(key, join(path, name), "given twice: first in line %d", line)
			continue
		}
		first[name] = key.Line
		f, ok := lookUp(v, name)
		if !ok {
			p.unknownKey(key, v, path)
			continue
		}
		p.at[join(path, name)] = position{key.Line, key.Column}
		p.value(value, f, join(path, name))
	}
}

func lookUp(section reflect.Value, key string) (field, bool) {
	for f := range fields(section) {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

func keysOf(section reflect.Value) []string {
	var keys []string
	for f := range fields(section) {
		keys = append(keys, f.key)
	}
	return keys
}

// unknownKey suggests a near key of the same section, or says where the key
// belongs, which finds wrong indentation.
func (p *parser) unknownKey(key *yaml.Node, section reflect.Value, path string) {
	keys := keysOf(section)
	hint := "known here: " + strings.Join(keys, ", ")
	if key.Value == "<<" {
		hint = "merge keys are not supported"
	} else if near := Nearest(key.Value, keys); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
		p.bad[join(path, near)] = true // then it is not missing as well
	} else if home := homeOf(key.Value); home != "" {
		hint = fmt.Sprintf("it belongs to %s: check the indentation", home)
	}
	p.problem(key, join(path, key.Value), "unknown key; %s", hint)
}

// homeOf gives the first section that has such a key.
func homeOf(key string) string {
	example := reflect.ValueOf(&Config{Repositories: make([]Repository, 1)}).Elem()
	for path := range leaves(example, "") {
		if section, ok := strings.CutSuffix(path, "."+key); ok {
			return strings.TrimSuffix(section, "[0]")
		}
	}
	return ""
}

// value reads one node into a key of any sort.
func (p *parser) value(n *yaml.Node, f field, path string) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		p.problem(n, path, "anchors and aliases are not supported: write the value out")
	case f.isSection():
		p.section(n, f.val, path)
	case f.isList():
		p.list(n, f, path)
	case isNull(n):
		p.problem(n, path, "has no value: give it one, or leave the line out for the default")
	case f.isSecret():
		p.secret(n, f.val.Addr().Interface().(*Secret), path)
	case f.isAddress() && n.Kind == yaml.MappingNode:
		p.secret(n, &f.val.Addr().Interface().(*Address).From, path)
	case f.isWords():
		if err := p.words(n, f); err != nil {
			p.problem(n, path, "%v", err)
		}
	case n.Kind != yaml.ScalarNode || !plainTag(n):
		p.problem(n, path, "must be a single value")
	default:
		if err := f.setText(n.Value, p.src.Dir); err != nil {
			p.problem(n, path, "%v", err)
			return
		}
	}
	if !f.isSection() && !f.isList() {
		p.config.origins[path] = fmt.Sprintf("%s:%d", p.src.Name, n.Line)
	}
}

func (p *parser) list(n *yaml.Node, f field, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		p.problem(n, path, "must be a list: start each entry with a hyphen")
		return
	}
	f.val.Set(reflect.MakeSlice(f.val.Type(), len(n.Content), len(n.Content)))
	for i, entry := range n.Content {
		at := indexed(path, i)
		p.at[at] = position{entry.Line, entry.Column}
		if entry.Kind == yaml.AliasNode || entry.Anchor != "" {
			p.problem(entry, at, "anchors and aliases are not supported: write the value out")
			continue
		}
		p.section(entry, f.val.Index(i), at)
	}
}

// words reads a list of texts.
func (p *parser) words(n *yaml.Node, f field) error {
	words := wordsOf(n)
	if words == nil {
		return errors.New("must be a list of texts: [FIRST, SECOND, …]")
	}
	return f.setWords(words)
}

// secret reads a reference. Whatever stands in its place may be the secret
// itself, so no message repeats it.
func (p *parser) secret(n *yaml.Node, s *Secret, path string) {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 || n.Content[0].Kind != yaml.ScalarNode {
		p.problem(n, path, "secrets are not written here: want exactly one of %s", secretForms)
		return
	}
	form, value := n.Content[0].Value, n.Content[1]
	text := value.Kind == yaml.ScalarNode && plainTag(value) && value.Value != "" && !isNull(value) && value.Anchor == ""
	switch {
	case form == "file" && text:
		s.File = absolute(value.Value, p.src.Dir)
	case form == "env" && text && !strings.ContainsAny(value.Value, "=\x00"):
		s.Env = value.Value
	case form == "command":
		s.Command = wordsOf(value)
		s.dir = p.src.Dir
		if s.Command == nil {
			p.problem(value, path, "command must be a list of texts: [PROGRAM, ARGUMENT, …]")
		}
	default:
		p.problem(n, path, "not a reference to a secret: want %s", secretForms)
	}
}

// wordsOf gives a list of texts, as the words of a command, nil if it is none.
func wordsOf(n *yaml.Node) []string {
	if n.Kind != yaml.SequenceNode || n.Anchor != "" {
		return nil
	}
	var words []string
	for _, w := range n.Content {
		if w.Kind != yaml.ScalarNode || w.Anchor != "" || !plainTag(w) || strings.Contains(w.Value, "\x00") {
			return nil
		}
		words = append(words, w.Value)
	}
	if len(words) > 0 && words[0] == "" {
		return nil
	}
	return words
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// plainTag refuses values that ask for a type of their own, such as !!binary.
func plainTag(n *yaml.Node) bool {
	return slices.Contains([]string{"!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!null"}, n.ShortTag())
}
