package config

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
)

// Address is a URL of http or https. One that is a secret itself, as those of chat
// services are, is given as a Secret, so that it is never printed.
type Address struct {
	URL  string // empty if it is a secret
	From Secret
}

// IsZero says that there is no address.
func (a Address) IsZero() bool { return a.URL == "" && a.From.IsZero() }

// String gives the URL, or the reference to it.
func (a Address) String() string {
	if a.URL != "" {
		return a.URL
	}
	return a.From.String()
}

// LogValue gives what String does to slog.
func (a Address) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON gives the URL, or the reference to it, or null.
func (a Address) MarshalJSON() ([]byte, error) {
	if a.URL != "" {
		return json.Marshal(a.URL)
	}
	return json.Marshal(a.From)
}

// Resolve gives the URL, which it fetches as Secret.Resolve does if it is one. No error
// repeats it.
func (a Address) Resolve(ctx context.Context) (string, error) {
	if a.URL != "" {
		return a.URL, nil
	}
	text, err := a.From.Resolve(ctx)
	if err != nil {
		return "", err
	}
	if err := checkAddress(text); err != nil {
		return "", fmt.Errorf("%s: %w", a.From, err)
	}
	return text, nil
}

// checkAddress wants an absolute URL of http or https. No message repeats it.
func checkAddress(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("not an address: want http://… or https://…, or %s", secretForms)
	}
	return nil
}
