package server

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// credentialFor gives what a program needs to run as the owner of dir: nil if
// that is who we are. Only root can become another; PostgreSQL never runs as root.
func credentialFor(dir string) (*syscall.Credential, error) {
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("the owner of %s is unknown", dir)
	}
	me := uint32(os.Geteuid())
	switch {
	case st.Uid == 0:
		return nil, fmt.Errorf("%s belongs to root: %w", dir, ErrOwner)
	case st.Uid == me:
		return nil, nil
	case me != 0:
		return nil, fmt.Errorf("%s belongs to uid %d and this is uid %d: %w", dir, st.Uid, me, ErrOwner)
	}
	cred := &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
	u, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10))
	if err != nil {
		return cred, nil // a uid without a name, as in containers, has no more groups
	}
	if gid, err := strconv.ParseUint(u.Gid, 10, 32); err == nil {
		cred.Gid = uint32(gid)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("looking up the groups of %s: %w", u.Username, err)
	}
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			cred.Groups = append(cred.Groups, uint32(gid))
		}
	}
	return cred, nil
}
