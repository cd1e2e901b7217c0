package config

import (
	"fmt"
	"iter"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// namePattern is what a cluster, a repository and a node may be called. Names
// become parts of object names, files and variables, so they are narrow.
const (
	namePattern = `^[a-z0-9][a-z0-9._-]*$`
	nameMax     = 63
)

// field is one key of a section.
type field struct {
	key string
	tag reflect.StructTag
	val reflect.Value
}

func (f field) required() bool { return f.tag.Get("required") == "true" }

// isSection says that the key holds keys of its own.
func (f field) isSection() bool {
	return f.val.Kind() == reflect.Struct && !f.isSecret() && !f.isAddress()
}

// isList says that the key holds a list of sections.
func (f field) isList() bool { return f.val.Kind() == reflect.Slice && !f.isWords() }

// isWords says that the key holds a list of texts.
func (f field) isWords() bool { return f.val.Type() == reflect.TypeFor[[]string]() }

func (f field) isAddress() bool { return f.val.Type() == reflect.TypeFor[Address]() }

func (f field) isSecret() bool { return f.val.Type() == reflect.TypeFor[Secret]() }

// fields gives the keys of a section in the order of its struct.
func fields(section reflect.Value) iter.Seq[field] {
	return func(yield func(field) bool) {
		t := section.Type()
		for i := range t.NumField() {
			sf := t.Field(i)
			if !sf.IsExported() {
				continue
			}
			key, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
			if !yield(field{key, sf.Tag, section.Field(i)}) {
				return
			}
		}
	}
}

// leaves gives every key that holds a value, with its path, down through
// sections and lists.
func leaves(section reflect.Value, path string) iter.Seq2[string, field] {
	return func(yield func(string, field) bool) {
		for f := range fields(section) {
			if !leavesOf(f, join(path, f.key), yield) {
				return
			}
		}
	}
}

func leavesOf(f field, path string, yield func(string, field) bool) bool {
	switch {
	case f.isSection():
		for p, leaf := range leaves(f.val, path) {
			if !yield(p, leaf) {
				return false
			}
		}
		return true
	case f.isList():
		for i := range f.val.Len() {
			for p, leaf := range leaves(f.val.Index(i), indexed(path, i)) {
				if !yield(p, leaf) {
					return false
				}
			}
		}
		return true
	}
	return yield(path, f)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// setText gives the key its value, which is neither a section, a list nor a
// secret. A relative path is taken to start at dir.
func (f field) setText(text, dir string) error {
	switch v := f.val.Addr().Interface().(type) {
	case *Size:
		return v.UnmarshalText([]byte(text))
	case *Duration:
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		if least, err := ParseDuration(f.tag.Get("min")); err == nil && d < least {
			return fmt.Errorf("must be at least %s", least)
		}
		*v = d
	case *int:
		least, _ := strconv.Atoi(f.tag.Get("min"))
		most, _ := strconv.Atoi(f.tag.Get("max"))
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is not a whole number from %d to %d", text, least, most)
		}
		*v = n
	case *[]string:
		return f.setWords(strings.Split(text, ","))
	case *Address:
		if err := checkAddress(text); err != nil {
			return err
		}
		*v = Address{URL: text}
	case *string:
		s, err := f.checkString(text, dir)
		if err != nil {
			return err
		}
		*v = s
	default:
		return fmt.Errorf("no way to read a %s", f.val.Type())
	}
	return nil
}

// setWords gives a list of texts.
func (f field) setWords(words []string) error {
	if enum := f.tag.Get("enum"); enum != "" {
		allowed := strings.Split(enum, ",")
		for _, w := range words {
			if !slices.Contains(allowed, w) {
				return notAllowed(w, allowed)
			}
		}
	}
	f.val.Set(reflect.ValueOf(words))
	return nil
}

func (f field) checkString(text, dir string) (string, error) {
	if enum := f.tag.Get("enum"); enum != "" {
		allowed := strings.Split(enum, ",")
		if !slices.Contains(allowed, text) {
			return "", notAllowed(text, allowed)
		}
		return text, nil
	}
	if text == "" {
		return "", fmt.Errorf("must not be empty: leave the line out for the default")
	}
	if f.tag.Get("kind") == "sql" {
		return text, checkSQL(text)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "", fmt.Errorf("must be plain text on one line")
	}
	switch f.tag.Get("kind") {
	case "name":
		return text, checkName(text)
	case "url":
		return text, checkURL(text)
	case "path":
		return absolute(text, dir), nil
	case "time zone":
		_, err := loadZone(text)
		return text, err
	}
	return text, nil
}

// checkSQL wants text, which may have many lines.
func checkSQL(text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return unicode.IsControl(c) && !strings.ContainsRune("\n\r\t", c) }) {
		return fmt.Errorf("must be plain text")
	}
	return nil
}

func notAllowed(text string, allowed []string) error {
	if len(allowed) == 1 {
		return fmt.Errorf("%q is not supported, only %s", text, allowed[0])
	}
	hint := ""
	if near := Nearest(text, allowed); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return fmt.Errorf("%q is not one of %s%s", text, strings.Join(allowed, ", "), hint)
}

// CheckName says whether a cluster, a repository or a node may be called name.
func CheckName(name string) error { return checkName(name) }

func checkName(name string) error {
	if ok, _ := regexp.MatchString(namePattern, name); !ok || len(name) > nameMax {
		return fmt.Errorf("%q is not a name: want at most %d of a-z, 0-9, dot, underscore and hyphen, with a letter or digit first", name, nameMax)
	}
	return nil
}

func absolute(path, dir string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
