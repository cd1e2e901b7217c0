//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is whom servers and tools run as: who we are, or for root, which
// PostgreSQL refuses, the user postgres.
type account struct {
	Name   string
	Become *syscall.Credential // nil: it is who we are
}

func findAccount() (account, error) {
	u, err := user.Current()
	if os.Geteuid() == 0 {
		u, err = user.Lookup("postgres")
	}
	if err != nil {
		return account{}, fmt.Errorf("choosing the user to run PostgreSQL as: %w", err)
	}
	a := account{Name: u.Username}
	if os.Geteuid() != 0 {
		return a, nil
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	ids, err3 := u.GroupIds()
	a.Become = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			a.Become.Groups = append(a.Become.Groups, uint32(n))
		}
	}
	return a, errors.Join(err1, err2, err3)
}

// own gives a file or directory to the account.
func (a account) own(path string) error {
	if a.Become == nil {
		return nil
	}
	return os.Lchown(path, int(a.Become.Uid), int(a.Become.Gid))
}

// makeDir makes an empty directory of the account's, whatever was there before.
func (a account) makeDir(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return a.own(path)
}

// write makes a file of the account's.
func (a account) write(path, text string, mode os.FileMode) error {
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return errors.Join(os.Chmod(path, mode), a.own(path))
}
