package config

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// View is a configuration made for reading: secrets are references.
type View struct {
	File    string          `json:"file"`             // absolute path of the file
	Config  json.RawMessage `json:"config"`           // as salvor.yaml has it
	Origins []Origin        `json:"origins,omitzero"` // where each value comes from, in the order of Config

	root *yaml.Node
}

// Origin says where the value of one key comes from.
type Origin struct {
	Path string `json:"path"` // of the key, as repositories[0].url
	From string `json:"from"` // "default", file:line, or $VARIABLE
}

// View shows what the file and the environment set.
func (c *Config) View() (View, error) { return c.view(false) }

// Effective shows every key, those that have their default included, each with
// its origin.
func (c *Config) Effective() (View, error) { return c.view(true) }

func (c *Config) view(all bool) (View, error) {
	v := View{File: c.file}
	v.root = c.sectionNode(reflect.ValueOf(c).Elem(), "", all, &v.Origins)
	var doc bytes.Buffer
	if err := writeJSON(&doc, v.root); err != nil {
		return View{}, err
	}
	v.Config = doc.Bytes()
	return v, nil
}

// YAML gives the configuration as a salvor.yaml that says the same; in an
// effective view each line that is not the file's own tells its origin.
func (v View) YAML() ([]byte, error) { return yaml.Dump(v.root) }

func (c *Config) sectionNode(section reflect.Value, path string, all bool, origins *[]Origin) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for f := range fields(section) {
		var value *yaml.Node
		at := join(path, f.key)
		switch {
		case f.isSection():
			value = c.sectionNode(f.val, at, all, origins)
		case f.isList():
			value = &yaml.Node{Kind: yaml.SequenceNode}
			for i := range f.val.Len() {
				value.Content = append(value.Content, c.sectionNode(f.val.Index(i), indexed(at, i), all, origins))
			}
		default:
			value = c.leafNode(f, at, all, origins)
		}
		if value == nil || value.Kind != yaml.ScalarNode && len(value.Content) == 0 {
			continue
		}
		n.Content = append(n.Content, textNode(f.key), value)
	}
	return n
}

// leafNode gives nil for a key that is not shown: it has no value, or only its
// default.
func (c *Config) leafNode(f field, path string, all bool, origins *[]Origin) *yaml.Node {
	from := c.origins[path]
	_, hasDefault := f.tag.Lookup("default")
	if from == "" && (!all || !hasDefault) {
		return nil
	}
	if from == "" {
		from = "default"
	}
	n := leafValue(f)
	if all {
		*origins = append(*origins, Origin{path, from})
		if from == "default" || from[0] == '$' {
			n.LineComment = from
		}
	}
	return n
}

func leafValue(f field) *yaml.Node {
	switch v := f.val.Interface().(type) {
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(v)}
	case Size:
		if v == 0 {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: "0"}
		}
		return textNode(v.String())
	case Duration:
		return textNode(v.String())
	case Secret:
		return secretNode(v)
	case Address:
		if v.URL == "" {
			return secretNode(v.From)
		}
		return textNode(v.URL)
	case []string:
		return wordsNode(v)
	}
	return textNode(f.val.String())
}

func secretNode(s Secret) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	switch {
	case s.File != "":
		n.Content = []*yaml.Node{textNode("file"), textNode(s.File)}
	case s.Env != "":
		n.Content = []*yaml.Node{textNode("env"), textNode(s.Env)}
	default:
		n.Content = []*yaml.Node{textNode("command"), wordsNode(s.Command)}
	}
	return n
}

func wordsNode(words []string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, w := range words {
		n.Content = append(n.Content, textNode(w))
	}
	return n
}

func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// writeJSON writes a node with its keys in order.
func writeJSON(b *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, n.Content[i]); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := writeJSON(b, n.Content[i+1]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, c); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	default:
		if n.Tag == "!!int" {
			b.WriteString(n.Value)
			return nil
		}
		text, err := json.Marshal(n.Value)
		if err != nil {
			return err
		}
		b.Write(text)
	}
	return nil
}
