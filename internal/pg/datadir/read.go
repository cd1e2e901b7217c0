package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// How often a pg_control with a wrong CRC is read again, and the pause between:
// what PostgreSQL's own tools do (get_controlfile, controldata_utils.c). A write
// of the file takes microseconds; the same wrong bytes twice are no torn read.
const (
	controlTries = 10
	controlPause = 10 * time.Millisecond
)

// ReadControl reads and parses global/pg_control of a data directory, also
// while the server writes it: contents that don't fit their CRC are read again a
// few times. If they stay as they are, the error is ErrControlCRC.
func ReadControl(dataDir string) (Control, error) {
	_, c, err := ReadControlImage(dataDir)
	return c, err
}

// ReadControlImage is ReadControl for one who stores the file: it returns the
// bytes as well, and they fit their CRC.
func ReadControlImage(dataDir string) ([]byte, Control, error) {
	return readControl(func() ([]byte, error) {
		return readUpTo(filepath.Join(dataDir, filepath.FromSlash(ControlPath)), ControlFileSize)
	}, time.Sleep)
}

// readControl opens the file anew for each try: a buffered or kept handle could
// give the same stale bytes again.
func readControl(read func() ([]byte, error), pause func(time.Duration)) ([]byte, Control, error) {
	var last []byte
	for try := 1; ; try++ {
		data, err := read()
		if err != nil {
			return nil, Control{}, fmt.Errorf("reading pg_control: %w", err)
		}
		c, err := ParseControl(data)
		if err == nil {
			return data, c, nil
		}
		torn := errors.Is(err, ErrControlCRC) && !bytes.Equal(data, last)
		if !torn || try == controlTries {
			return nil, Control{}, err
		}
		last = data
		pause(controlPause)
	}
}

// readUpTo reads a file, but no more than limit bytes of it.
func readUpTo(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
