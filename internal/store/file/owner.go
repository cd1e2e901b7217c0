package file

import (
	"io/fs"
	"os"
	"syscall"

	"github.com/salvor-dr/salvor/internal/vfs"
)

// owner is the user that what root makes is given to.
type owner struct{ uid, gid int }

// ownerOf says whom new files and directories must be given to: the owner of
// the store's root when this process is root and that user is not.
func ownerOf(root fs.FileInfo) *owner {
	st, ok := root.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || st.Uid == 0 {
		return nil
	}
	return &owner{uid: int(st.Uid), gid: int(st.Gid)}
}

// give changes the owner of an open file. It works on what is open, not on a
// name: names in a directory of another user can be exchanged under us.
func (o *owner) give(f vfs.File) error {
	if o == nil {
		return nil
	}
	if c, ok := f.(vfs.Owner); ok {
		return c.Chown(o.uid, o.gid)
	}
	return nil
}
