package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/salvor-dr/salvor/internal/repo"
)

// MarkerName is the file in a data directory that says which incarnation of the
// cluster it is. It travels with physical copies, as standbys need it to; backups
// leave it out, and a restore writes a new one.
const MarkerName = "salvor.incarnation"

// Marker is the content of that file.
type Marker struct {
	FormatVersion int         `json:"format_version"`
	Incarnation   Incarnation `json:"incarnation"`
	// RestoredFrom is the incarnation whose backup this directory was restored
	// from, for a copy that lives its own life.
	RestoredFrom Incarnation `json:"restored_from,omitempty"`
	BackupID     string      `json:"backup_id,omitempty"`
}

// ErrNoMarker says that the data directory has no marker.
var ErrNoMarker = errors.New("the data directory has no " + MarkerName)

// ReadMarker reads a data directory's marker. It fails with ErrNoMarker if there
// is none.
func ReadMarker(dataDir string) (Marker, error) {
	path := filepath.Join(dataDir, MarkerName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Marker{}, fmt.Errorf("%s: %w", dataDir, ErrNoMarker)
	}
	if err != nil {
		return Marker{}, fmt.Errorf("reading the incarnation: %w", err)
	}
	var m Marker
	if err := json.Unmarshal(data, &m); err != nil {
		return Marker{}, fmt.Errorf("reading %s: %w", path, err)
	}
	if _, err := ParseIncarnation(string(m.Incarnation)); err != nil {
		return Marker{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return m, nil
}

// WriteMarker writes a data directory's marker, durably, with the directory's
// owner.
func WriteMarker(dataDir string, m Marker) error {
	m.FormatVersion = repo.FormatVersion
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := writeOwned(filepath.Join(dataDir, MarkerName), append(data, '\n')); err != nil {
		return fmt.Errorf("writing the incarnation: %w", err)
	}
	return nil
}

// writeOwned replaces a file in one step, with its directory's owner.
func writeOwned(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(data)
	if err == nil {
		err = giveTo(f, dir)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
