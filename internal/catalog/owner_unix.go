package catalog

import (
	"os"
	"syscall"
)

// giveTo gives a file the owner of a directory, if this process may: root does
// for a server's user.
func giveTo(f *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
