package store

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValidateKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(strings.Repeat("k", 127)+"/", 8) // 1024 bytes
	for _, key := range []string{
		"a", "salvor.json", "keys/1", "a/b/c", "a-b", "a.b.c", "Az09-_.=+,@!()",
		"clusters/main/7412-1/wal/00000001/000000010000000000000003.backup",
		strings.Repeat("p", 255), "x/" + strings.Repeat("p", 255), long[:1022] + "/k",
	} {
		if err := ValidateKey(key); err != nil {
			t.Errorf("%.40q: %v", key, err)
		}
	}
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "../a", ".tmp/x", "a/.b", "a./b", "a.",
		"a b", "a\x00", "a\nb", "ä", "a\\b", "a:b", "a*", "a?", "a%20", "a#b", "a~", "a\"b", "a|b", "a<b", "a&b", "\x7f",
		strings.Repeat("p", 256), long + "k",
	} {
		if err := ValidateKey(key); !errors.Is(err, ErrInvalidKey) {
			t.Errorf("%.40q: error is %v, want ErrInvalidKey", key, err)
		}
	}
}

func TestValidatePrefix(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a.", "a/b."} {
		if err := ValidatePrefix(prefix); err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"/", "a//", "//", ".", "a/.", "a./", "a/../", "a b", strings.Repeat("k/", 600)} {
		if err := ValidatePrefix(prefix); !errors.Is(err, ErrInvalidKey) {
			t.Errorf("%.40q: error is %v, want ErrInvalidKey", prefix, err)
		}
	}
}

// Every beginning of a valid key is a valid prefix.
func TestPrefixesOfKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[a.b/=]{1,12}`).Draw(t, "key")
		if ValidateKey(key) != nil {
			t.Skip("not a key")
		}
		for i := range len(key) + 1 {
			if err := ValidatePrefix(key[:i]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzValidateKey(f *testing.F) {
	for _, s := range []string{"", "a", "a/b", "../x", "a\x00b", "a//b", ".x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if ValidateKey(key) != nil {
			return
		}
		if len(key) > KeyMax || strings.ContainsAny(key, "\x00\\ \n") {
			t.Errorf("%q is taken for a key", key)
		}
		for _, part := range strings.Split(key, "/") {
			if part == "" || part[0] == '.' || len(part) > PartMax {
				t.Errorf("%q is taken for a key", key)
			}
		}
	})
}
