package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"reflect"
	"strings"
)

// fillDefaults gives every key that was not set its default.
func (p *parser) fillDefaults() {
	for path, f := range leaves(reflect.ValueOf(p.config).Elem(), "") {
		text, ok := f.tag.Lookup("default")
		if !ok || p.config.origins[path] != "" || p.bad[path] {
			continue
		}
		if text == "@hostname" {
			text = nodeName(p.src.Hostname)
		}
		if err := f.setText(text, p.src.Dir); err != nil {
			p.problemAt(path, "%v", err)
		}
	}
}

// nodeName makes a name out of a host's: its first label in lower case, with a
// hyphen for what no name may have.
func nodeName(host string) string {
	label, _, _ := strings.Cut(strings.ToLower(host), ".")
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, label)
	name = strings.TrimLeft(name[:min(len(name), nameMax)], "-_")
	if name == "" {
		return "localhost"
	}
	return name
}

// validate checks what must be there, and what keys must say together.
func (p *parser) validate() {
	c := p.config
	for path, f := range leaves(reflect.ValueOf(c).Elem(), "") {
		if f.required() && p.config.origins[path] == "" && !p.bad[path] {
			p.problemAt(path, "is required")
		}
	}
	if len(c.Repositories) == 0 && !p.bad["repositories"] {
		p.problemAt("repositories", "needs at least one entry with name, url and key")
	}
	for i, n := range c.Notify {
		p.validateNotify(n, indexed("notify", i))
	}
	taken := map[string]int{}
	for i, r := range c.Repositories {
		at := indexed("repositories", i)
		p.validateKey(r, at)
		p.validateCredentials(r, at+".credentials")
		if r.Name == "" {
			continue
		}
		// Names that differ only in . _ - would share their variables.
		same := EnvName(r.Name)
		if j, ok := taken[same]; ok {
			p.problemAt(at+".name", "%q is too near to %q, the name of entry %d", r.Name, c.Repositories[j].Name, j+1)
			continue
		}
		taken[same] = i
	}
}

func (p *parser) validateNotify(n Notify, at string) {
	set := 0
	for key, is := range map[string]bool{"command": len(n.Command) > 0, "webhook": !n.Webhook.IsZero(), "ping": !n.Ping.IsZero()} {
		if is || p.bad[join(at, key)] {
			set++
		}
	}
	if set != 1 && !p.bad[at] {
		p.problemAt(at, "wants exactly one of command, webhook and ping")
	}
	if len(n.On) > 0 && !n.Ping.IsZero() {
		p.problemAt(at+".on", "a ping is always sent on success, and then only")
	}
}

func (p *parser) validateKey(r Repository, at string) {
	if r.Encryption == AES256GCM && r.Key.IsZero() && !p.bad[at+".key"] && !p.bad[at] {
		p.problemAt(at+".key", "is required: %s; or choose encryption: none", secretForms)
	}
}

func (p *parser) validateCredentials(r Repository, at string) {
	for _, k := range []struct {
		name        string
		key, beside Secret
	}{{"access_key", r.Credentials.AccessKey, r.Credentials.SecretKey}, {"secret_key", r.Credentials.SecretKey, r.Credentials.AccessKey}} {
		if k.key.IsZero() && !k.beside.IsZero() && !p.bad[at+"."+k.name] {
			p.problemAt(at+"."+k.name, "is required beside the other: %s", secretForms)
		}
	}
	if !r.Credentials.IsZero() && strings.HasPrefix(r.URL, "file:") {
		p.problemAt(at, "a directory takes no credentials")
	}
}

// checkURL wants an absolute URL without anything secret in it. Which schemes
// there are, the store knows. No message repeats the URL: it may hold a secret.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err == nil && u.Scheme == "" && strings.HasPrefix(s, "/"):
		return fmt.Errorf("%q is a path: want a URL, as file://%s", s, path.Clean(s))
	case err != nil || u.Scheme == "" || u.Opaque != "":
		return errors.New("not a URL: want SCHEME://…, as file:///var/lib/salvor/repo")
	case u.User != nil && hasPassword(u):
		return errors.New("must not hold a password")
	case u.Scheme == "file" && (u.Host != "" || !path.IsAbs(u.Path)):
		return errors.New("a file URL has three slashes and an absolute path, as file:///var/lib/salvor/repo")
	case u.Scheme != "file" && u.Host == "":
		return fmt.Errorf("nothing stands between %s:// and the path", u.Scheme)
	}
	return nil
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}
