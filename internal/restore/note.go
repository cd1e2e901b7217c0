package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// NoteName is the file that marks a directory as an unfinished restore.
const NoteName = "salvor.restoring"

// note is its content. Unless Delta is set, only what it names was written by us, and
// may be removed when the restore is done again.
type note struct {
	BackupID    string    `json:"backup_id"`
	Target      string    `json:"target"`
	StartedAt   time.Time `json:"started_at"`
	Tablespaces []string  `json:"tablespaces,omitempty"` // directories
	// Delta says that the directory held a cluster, whose files are made the backup's.
	Delta bool `json:"delta,omitempty"`
}

// write makes the note of a directory that holds nothing yet.
func (n note) write(dir string, o owner) error {
	path := filepath.Join(dir, NoteName)
	if err := n.writeTo(path, o); err != nil {
		return err
	}
	return syncDir(dir)
}

// replace makes the note of a directory that holds something, in one step: an empty
// note would say that nothing else is there.
func (n note) replace(dir string, o owner) error {
	path := filepath.Join(dir, NoteName)
	if err := os.RemoveAll(path + ".new"); err != nil {
		return err
	}
	if err := n.writeTo(path+".new", o); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(dir)
}

func (n note) writeTo(path string, o owner) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return o.give(path)
}

func (n note) remove(dir string) error {
	if err := os.Remove(filepath.Join(dir, NoteName)); err != nil {
		return err
	}
	return syncDir(dir)
}

// readNote gives the note of a restore that was cut off, and false if there is none.
func readNote(dir string) (note, bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, NoteName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return note{}, false, nil
	}
	if err != nil {
		return note{}, false, err
	}
	var n note
	if len(data) == 0 {
		return n, true, nil // killed while it was written: nothing else is there yet
	}
	if err := json.Unmarshal(data, &n); err != nil {
		return note{}, false, fmt.Errorf("reading %s: %w", NoteName, err)
	}
	return n, true, nil
}
