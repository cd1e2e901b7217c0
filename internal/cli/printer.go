package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"
)

// Forms of output.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

// formatVersion is the version of the documents: it changes when one changes
// such that a reader that ignores unknown fields would misread it.
const formatVersion = 1

// tabular is a result for people.
type tabular interface{ writeTo(w io.Writer) error }

// viewer is an item of a list that makes what is printed of it when it is printed: of a
// long list not all at once.
type viewer interface{ view() any }

// printer prints results.
type printer struct {
	w      io.Writer
	format string
	last   any // the document that was printed last
}

// document prints one result: v, a struct or map, as JSON or YAML, or else t.
func (p *printer) document(v any, t tabular) error {
	p.last = v
	if p.format == outputTable {
		return written(t.writeTo(p.w))
	}
	body, err := encode(v)
	if err != nil {
		return err
	}
	return p.raw(body)
}

// list prints results of one sort: items, a slice, as {"items":[…]} in JSON
// or YAML, or else t.
func (p *printer) list(items any, t tabular) error {
	if p.format == outputTable {
		return written(t.writeTo(p.w))
	}
	var body bytes.Buffer // for YAML
	out := bufio.NewWriterSize(p.w, 64<<10)
	if p.format == outputYAML {
		out.Reset(&body)
	}
	_, _ = fmt.Fprintf(out, `{"format_version":%d,"items":[`, formatVersion)
	all := reflect.ValueOf(items)
	for i := range all.Len() { // one after the other: there may be ten thousand
		v := all.Index(i).Interface()
		if later, is := v.(viewer); is {
			v = later.view()
		}
		item, err := encode(v)
		if err != nil {
			return err
		}
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.Write(item)
	}
	_, _ = out.WriteString("]}\n")
	if err := out.Flush(); err != nil || p.format == outputJSON { // with the first error of all
		return written(err)
	}
	text, err := toYAML(body.Bytes())
	if err != nil {
		return err
	}
	_, err = p.w.Write(text)
	return written(err)
}

// raw prints a JSON object with the version as its first key.
func (p *printer) raw(object []byte) error {
	if len(object) < 2 || object[0] != '{' {
		return fmt.Errorf("printing a result: %.20q is not an object", object)
	}
	doc := fmt.Appendf(nil, `{"format_version":%d`, formatVersion)
	if string(object) != "{}" {
		doc = append(doc, ',')
	}
	doc = append(doc, object[1:]...)
	if p.format == outputYAML {
		text, err := toYAML(doc)
		if err != nil {
			return err
		}
		_, err = p.w.Write(text)
		return written(err)
	}
	_, err := p.w.Write(append(doc, '\n'))
	return written(err)
}

func written(err error) error {
	if err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// encode gives JSON on one line, with <, > and & as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("printing a result: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// writeFailure writes the document that ends stdout when a command failed.
func writeFailure(w io.Writer, f failure) error {
	var doc struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Hint    string `json:"hint"`
		} `json:"error"`
	}
	doc.Error.Code, doc.Error.Message, doc.Error.Hint = f.code, f.message, f.hint
	line, err := encode(doc)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// toYAML writes a JSON document as YAML, with its keys in order.
func toYAML(doc []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	node, err := nodeOf(dec)
	if err != nil {
		return nil, fmt.Errorf("printing a result as YAML: %w", err)
	}
	text, err := yaml.Dump(node)
	if err != nil {
		return nil, fmt.Errorf("printing a result as YAML: %w", err)
	}
	return text, nil
}

// nodeOf reads the next value.
func nodeOf(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode}
		if v == '[' {
			n.Kind = yaml.SequenceNode
		}
		for dec.More() {
			member, err := nodeOf(dec) // of a mapping: a key, then its value
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, member)
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		_, err := dec.Token() // the closing bracket
		return n, err
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}, nil
	case json.Number:
		if _, err := v.Int64(); err == nil {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: v.String()}, nil
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: v.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}, nil
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	}
	return nil, errors.New("no such value in JSON")
}

// stamp is a time in a document: RFC 3339 in UTC with microseconds, which is
// what PostgreSQL's times have. The zero stamp is not known: tag it omitzero.
type stamp time.Time

func (s stamp) IsZero() bool { return time.Time(s).IsZero() }

// String gives the form of documents.
func (s stamp) String() string { return time.Time(s).UTC().Format("2006-01-02T15:04:05.000000Z") }

// MarshalText implements encoding.TextMarshaler.
func (s stamp) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// seconds is a duration in a document, to the microsecond.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }
