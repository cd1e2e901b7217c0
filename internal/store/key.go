package store

import (
	"fmt"
	"strings"
)

const (
	// KeyMax is the most bytes a key may have: the limit of S3, GCS and Azure.
	KeyMax = 1024
	// PartMax is the most bytes a key may have between two slashes: NAME_MAX of
	// the usual file systems.
	PartMax = 255
)

// ValidateKey says whether a key is one that every backend can hold as it is.
//
// A key is 1 to KeyMax bytes: parts of 1 to PartMax bytes with a slash between
// them, and none before the first or after the last. A part holds letters,
// digits and "-_.=+,@!()", and neither begins nor ends with a dot: that leaves
// hidden names to the backends, and rules out "." and "..". Everything else in
// ASCII is taken out by some place or other: Windows shares, the lists of
// characters to avoid of S3 and GCS, URL escaping. The error is ErrInvalidKey.
func ValidateKey(key string) error {
	if err := validate(key, false); err != nil {
		return fmt.Errorf("key %.80q: %w: %s", key, ErrInvalidKey, err.reason)
	}
	return nil
}

// ValidatePrefix says whether prefix could be the beginning of a valid key, as
// List needs it: "" and "a/b/" and "a/b" are. The error is ErrInvalidKey.
func ValidatePrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if err := validate(prefix, true); err != nil {
		return fmt.Errorf("prefix %.80q: %w: %s", prefix, ErrInvalidKey, err.reason)
	}
	return nil
}

type invalid struct{ reason string }

func validate(key string, prefix bool) *invalid {
	switch {
	case key == "":
		return &invalid{"it is empty"}
	case len(key) > KeyMax:
		return &invalid{fmt.Sprintf("it has %d bytes, at most %d are allowed", len(key), KeyMax)}
	}
	for rest, more := key, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if prefix && !more {
			if part == "" {
				return nil // the prefix ends at a slash
			}
			return validatePart(part, true)
		}
		if err := validatePart(part, false); err != nil {
			return err
		}
	}
	return nil
}

func validatePart(part string, unfinished bool) *invalid {
	switch {
	case part == "":
		return &invalid{"it has an empty part"}
	case len(part) > PartMax:
		return &invalid{fmt.Sprintf("a part has %d bytes, at most %d are allowed", len(part), PartMax)}
	case part[0] == '.':
		return &invalid{"a part begins with a dot"}
	case part[len(part)-1] == '.' && !unfinished:
		return &invalid{"a part ends with a dot"}
	}
	for i := range len(part) {
		if !keyByte(part[i]) {
			return &invalid{fmt.Sprintf("byte %q is not allowed", part[i])}
		}
	}
	return nil
}

func keyByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("-_.=+,@!()", c) >= 0
}
