//go:build unix && !linux

package vfs

import (
	"errors"
	"os"
	"time"
)

func renameNoReplace(string, string) error { return errors.ErrUnsupported }

func (f osFile) SetModTime(t time.Time) error { return os.Chtimes(f.Name(), time.Time{}, t) }
