package s3

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// filesMax bounds what is read of one AWS configuration file.
const filesMax = 1 << 20

// environment is where AWS's tools look for what they are not told.
type environment struct {
	lookup func(string) (string, bool)
}

func (e environment) get(name string) string {
	v, _ := e.lookup(name)
	return v
}

// region is the one that requests are signed for.
func (e environment) region(o Options) (string, error) {
	for _, r := range []string{o.Region, e.get("AWS_REGION"), e.get("AWS_DEFAULT_REGION")} {
		if r != "" {
			return r, nil
		}
	}
	if o.Endpoint != "" {
		return "us-east-1", nil // what servers that know no regions expect
	}
	p, err := e.profile()
	if err != nil {
		return "", err
	}
	if r := p.keys["region"]; r != "" {
		return r, nil
	}
	return "", errors.New("the region is not known: give region= in the URL, or set AWS_REGION")
}

// profile is a section of AWS's configuration files, with its keys in small letters.
type profile struct {
	name string
	keys map[string]string
}

// profile reads the profile that AWS_PROFILE names, or else the one called default,
// from both files; the credentials file wins. Without AWS_PROFILE it may be absent.
func (e environment) profile() (profile, error) {
	p := profile{name: e.get("AWS_PROFILE"), keys: map[string]string{}}
	named := p.name != ""
	if !named {
		p.name = "default"
	}
	found := false
	for _, f := range []struct{ variable, file, section string }{
		{"AWS_CONFIG_FILE", "config", "profile " + p.name},
		{"AWS_SHARED_CREDENTIALS_FILE", "credentials", p.name},
	} {
		path := e.get(f.variable)
		if path == "" {
			if home := e.get("HOME"); home != "" {
				path = filepath.Join(home, ".aws", f.file)
			}
		}
		there, err := readProfile(path, []string{f.section, p.name}, p.keys)
		if err != nil {
			return profile{}, fmt.Errorf("reading AWS's %s file: %w", f.file, err)
		}
		found = found || there
	}
	if named && !found {
		return profile{}, &credentialsError{fmt.Sprintf("there is no profile %q (AWS_PROFILE) in AWS's files", p.name)}
	}
	return p, nil
}

func readProfile(path string, sections []string, into map[string]string) (found bool, err error) {
	if path == "" {
		return false, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	found, err = parseProfile(io.LimitReader(f, filesMax), sections, into)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

// parseProfile collects the keys of the sections with one of the names. The format
// is an INI file: [section], key = value, and comments in lines that begin with #
// or ; (AWS SDKs and Tools Reference Guide, "Shared config and credentials files").
// Indented lines are settings of single services, which are not used here.
func parseProfile(r io.Reader, sections []string, into map[string]string) (found bool, err error) {
	in := false
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		text := strings.TrimSpace(line)
		switch {
		case text == "", text[0] == '#', text[0] == ';', line[0] == ' ', line[0] == '\t':
			continue
		case text[0] == '[':
			name, _, ok := strings.Cut(text[1:], "]")
			if !ok {
				return false, fmt.Errorf("line %d is not [NAME]", n)
			}
			in = false
			for _, s := range sections {
				in = in || strings.Join(strings.Fields(name), " ") == s
			}
			found = found || in
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return false, fmt.Errorf("line %d is not KEY = VALUE", n) // not repeated: it may hold a secret
		}
		if in {
			if before, _, ok := strings.Cut(value, " #"); ok {
				value = before
			}
			into[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return found, lines.Err()
}
