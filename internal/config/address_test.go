package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hidden := filepath.Join(dir, "hook")
	want := []Notify{
		{Webhook: Address{URL: "https://example.org/hook?a=1"}, On: []string{"failure"}, For: []string{"backup", "verify"}},
		{Webhook: Address{From: Secret{File: hidden}}},
		{Command: []string{"sh", "-c", "cat > x"}, On: []string{"start", "success"}},
		{Ping: Address{URL: "http://127.0.0.1:8000/ping"}, For: []string{"backup"}},
	}
	c, err := parse(minimal + "notify:\n" +
		"  - {webhook: 'https://example.org/hook?a=1', on: [failure], for: [backup, verify]}\n" +
		"  - {webhook: {file: " + hidden + "}}\n" +
		"  - {command: [sh, -c, 'cat > x'], on: [start, success]}\n" +
		"  - {ping: 'http://127.0.0.1:8000/ping', for: [backup]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, c.Notify, sameConfig()); d != "" {
		t.Error(d)
	}
	v, err := c.View()
	if err != nil {
		t.Fatal(err)
	}
	text, err := v.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(string(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if d := cmp.Diff(want, again.Notify, sameConfig()); d != "" {
		t.Errorf("read again from\n%s%s", text, d)
	}

	for content, fault := range map[string]string{"https://example.org/T0/hush\n": "", "hush\n": "not an address", "file:///hush": "not an address"} {
		if err := os.WriteFile(hidden, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := c.Notify[1].Webhook.Resolve(t.Context())
		switch {
		case fault == "" && (err != nil || got != strings.TrimSpace(content)):
			t.Errorf("%q: %q, %v", content, got, err)
		case fault != "" && (err == nil || !strings.Contains(err.Error(), fault) || !strings.Contains(err.Error(), hidden) || strings.Contains(err.Error(), "hush")):
			t.Errorf("%q: error %v", content, err)
		}
	}
}
