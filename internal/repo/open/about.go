package open

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

// AboutName is the object that makes a store a repository. It is plain JSON and
// written once.
const AboutName = "salvor.json"

// The values of About.Encryption.
const (
	EncryptionAES  = "aes-256-gcm"
	EncryptionNone = "none"
)

// About is the content of salvor.json.
type About struct {
	FormatVersion int       `json:"format_version"`
	RepositoryID  repo.ID   `json:"repository_id"`
	CreatedAt     time.Time `json:"created_at"`
	Encryption    string    `json:"encryption"`
}

// encode gives the text of salvor.json. Its last field is the sum of all that stands
// before that field's line: where nothing is encrypted, no MAC covers the text.
func (a About) encode() ([]byte, error) {
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return nil, err
	}
	data = append(bytes.TrimSuffix(data, []byte("\n}")), ",\n"...)
	return append(data, sumLine(data)...), nil
}

// sumLine ends the text that begins with data.
func sumLine(data []byte) []byte {
	return fmt.Appendf(nil, "  \"sha256\": \"%x\"\n}\n", sha256.Sum256(data))
}

// parseAbout reads what encode gave, or what a later release adds fields to.
func parseAbout(data []byte) (About, error) {
	var a About
	if err := json.Unmarshal(data, &a); err != nil {
		return About{}, repo.Damaged(AboutName, "it is not the JSON that was written")
	}
	if a.FormatVersion != repo.FormatVersion {
		return About{}, fmt.Errorf("%s has format version %d, this release reads %d: %w",
			AboutName, a.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)
	}
	body := data[:max(0, len(data)-len(sumLine(nil)))]
	if !bytes.Equal(data[len(body):], sumLine(body)) {
		return About{}, repo.Damaged(AboutName, "its content has not the sum that its last field says")
	}
	return a, nil
}

// Read gives salvor.json, for who has no key yet. It fails with
// repo.ErrNoRepository if there is none.
func Read(ctx context.Context, st store.Store) (About, []byte, error) {
	data, err := store.Get(ctx, st, AboutName, 64<<10)
	if errors.Is(err, store.ErrNotFound) {
		return About{}, nil, fmt.Errorf("%s: %w", st, repo.ErrNoRepository)
	}
	if err != nil {
		return About{}, nil, fmt.Errorf("reading %s: %w", AboutName, err)
	}
	about, err := parseAbout(data)
	return about, data, err
}
