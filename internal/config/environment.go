package config

import (
	"reflect"
	"strconv"
	"strings"
)

// EnvPrefix begins the name of every variable that Salvor reads, for keys of
// the configuration and for options of the command line.
const EnvPrefix = "SALVOR_"

// EnvName gives the variable that belongs to an option or to the path of a
// key: rate-limit and rate_limit to SALVOR_RATE_LIMIT.
func EnvName(name string) string {
	return EnvPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}

// override sets the keys whose variables are set.
func (p *parser) override() {
	for path, f := range leaves(reflect.ValueOf(p.config).Elem(), "") {
		address, ok := p.byName(path)
		if f.tag.Get("env") == "-" || !ok {
			continue
		}
		name := EnvName(address)
		if f.isSecret() {
			p.overrideSecret(f.val.Addr().Interface().(*Secret), name, path)
			continue
		}
		text := p.src.Env.get(name)
		if text == "" {
			continue
		}
		if err := f.setText(text, p.src.Dir); err != nil {
			p.report(Problem{File: "$" + name, Path: path, Message: err.Error()})
			continue
		}
		p.config.origins[path] = "$" + name
	}
}

// overrideSecret makes a reference out of NAME, which holds the secret, or
// NAME_FILE, which holds the path of a file that does.
func (p *parser) overrideSecret(s *Secret, name, path string) {
	value, file := p.src.Env.get(name), p.src.Env.get(name+"_FILE")
	switch {
	case value != "" && file != "":
		p.report(Problem{File: "$" + name, Path: path, Message: "set beside " + name + "_FILE: want one of the two"})
	case value != "":
		*s = Secret{Env: name}
		p.config.origins[path] = "$" + name
	case file != "":
		*s = Secret{File: absolute(file, p.src.Dir)}
		p.config.origins[path] = "$" + name + "_FILE"
	}
}

// byName turns repositories[0].url into repositories.local.url. Entries of other lists
// have no names: it gives false for them.
func (p *parser) byName(path string) (string, bool) {
	list, rest, ok := strings.Cut(path, "[")
	if !ok || list != "repositories" {
		return path, !ok
	}
	number, rest, _ := strings.Cut(rest, "]")
	i, err := strconv.Atoi(number)
	if err != nil || i >= len(p.config.Repositories) {
		return path, false
	}
	return list + "." + p.config.Repositories[i].Name + rest, true
}
