package pgtest

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// superuser is the role that initdb makes, whoever the server runs as.
const superuser = "postgres"

// account is the user of the system that servers run as.
type account struct {
	name     string
	uid, gid int
	groups   []uint32
	switches bool // we are root and must become that user
}

// serverAccount is who we are, or for root, who PostgreSQL can run as.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return &account{name: strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	var errs error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		ids, err3 := u.GroupIds()
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		a := &account{name: name, uid: uid, gid: gid, switches: true}
		for _, id := range ids {
			if g, err := strconv.ParseUint(id, 10, 32); err == nil {
				a.groups = append(a.groups, uint32(g))
			}
		}
		return a, nil
	}
	return nil, errs
}

func (a *account) credential() *syscall.Credential {
	if !a.switches {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
}

// own gives a file or directory to the account.
func (a *account) own(path string) error {
	if !a.switches {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

func (a *account) mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return a.own(path)
}
