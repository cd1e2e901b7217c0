package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// secretSizeMax bounds a secret: passphrases and age identities have some
	// dozens of bytes, a file with many identities some thousands.
	secretSizeMax = 64 << 10

	// secretCommandTimeout bounds a secret's command that hangs, such as a
	// client of a vault that cannot be reached: PostgreSQL waits behind it.
	secretCommandTimeout = 30 * time.Second

	secretForms = "{file: PATH}, {env: NAME} or {command: [PROGRAM, ARGUMENT, …]}"
)

// Secret says where a secret is, never what it is: exactly one of the three
// fields is set, or none if there is no secret. Printing, logging or encoding
// it gives the reference. It holds no value that could leak; Resolve fetches
// the value anew each time.
type Secret struct {
	File    string   `json:"file,omitzero"`    // absolute path of a file that holds it
	Env     string   `json:"env,omitzero"`     // name of the environment variable that holds it
	Command []string `json:"command,omitzero"` // program and arguments that print it

	dir string // where the command runs
}

// IsZero says that there is no secret.
func (s Secret) IsZero() bool { return s.File == "" && s.Env == "" && len(s.Command) == 0 }

// String gives the reference as salvor.yaml writes it.
func (s Secret) String() string {
	switch {
	case s.File != "":
		return "{file: " + quote(s.File) + "}"
	case s.Env != "":
		return "{env: " + quote(s.Env) + "}"
	case len(s.Command) > 0:
		quoted := make([]string, len(s.Command))
		for i, a := range s.Command {
			quoted[i] = quote(a)
		}
		return "{command: [" + strings.Join(quoted, ", ") + "]}"
	}
	return "{}"
}

// GoString gives the reference too.
func (s Secret) GoString() string { return "config.Secret" + s.String() }

// LogValue gives the reference to slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON gives the reference, null if there is no secret.
func (s Secret) MarshalJSON() ([]byte, error) {
	type reference Secret
	if s.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(reference(s))
}

// Resolve fetches the secret. One line end at its end is cut off. An empty
// secret is an error, and so is one of more than 64 KiB. A command runs in the
// directory of the configuration file, for at most 30 seconds.
func (s Secret) Resolve(ctx context.Context) (string, error) {
	var value string
	var err error
	switch {
	case s.File != "":
		value, err = s.readFile()
	case s.Env != "":
		value = os.Getenv(s.Env)
	case len(s.Command) > 0:
		value, err = s.runCommand(ctx)
	default:
		return "", errors.New("reading a secret: none is configured")
	}
	if err != nil {
		return "", fmt.Errorf("reading the secret %s: %w", s, err)
	}
	if len(value) > secretSizeMax {
		return "", fmt.Errorf("reading the secret %s: it has more than %d bytes", s, secretSizeMax)
	}
	value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
	if value == "" {
		return "", fmt.Errorf("reading the secret %s: it is empty or not set", s)
	}
	return value, nil
}

func (s Secret) readFile() (string, error) {
	f, err := os.Open(s.File)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, secretSizeMax+1))
	return string(b), err
}

func (s Secret) runCommand(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, secretCommandTimeout,
		fmt.Errorf("no answer in %s", secretCommandTimeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Command[0], s.Command[1:]...)
	cmd.Dir = s.dir
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe open must not keep us
	var stdout, stderr limitedBuffer
	stdout.max, stderr.max = secretSizeMax+1, 300
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		// What the command says about itself helps; what it printed as the
		// secret is not repeated.
		if said := strings.TrimSpace(stderr.String()); said != "" {
			return "", fmt.Errorf("%w: %s", err, said)
		}
		return "", err
	}
	return stdout.String(), nil
}

// limitedBuffer keeps the first max bytes and takes the rest without keeping it.
// It does not embed bytes.Buffer, whose ReadFrom knows no limit.
type limitedBuffer struct {
	kept bytes.Buffer
	max  int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.max - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *limitedBuffer) String() string { return b.kept.String() }
