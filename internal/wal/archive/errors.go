package archive

import (
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
)

// ErrForeign says that a file is not what its name says, or not of this cluster.
var ErrForeign = errors.New("the file does not belong here")

// ErrCodec says that what was compressed does not come back as it was: a fault of
// the codec or of the machine.
var ErrCodec = errors.New("what was compressed does not decompress to what it was")

// Conflict says that a repository holds another content under the file's name.
type Conflict struct {
	File       string
	Repository string
}

// Error implements error.
func (c *Conflict) Error() string {
	return fmt.Sprintf("%s is in repository %s with other content, and is never overwritten", c.File, c.Repository)
}

// Unregistered says that a repository has no place for the data directory's
// incarnation.
type Unregistered struct {
	Repository string
	SystemID   pg.SystemID
	Marker     catalog.Marker
}

// Error implements error.
func (u *Unregistered) Error() string {
	if u.Marker.RestoredFrom != "" {
		return fmt.Sprintf("this data directory is a copy, restored from incarnation %s of cluster %s, and repository %s has no place for it (incarnation %s)",
			u.Marker.RestoredFrom, u.SystemID, u.Repository, u.Marker.Incarnation)
	}
	return fmt.Sprintf("repository %s has no place for cluster %s, incarnation %s", u.Repository, u.SystemID, u.Marker.Incarnation)
}
