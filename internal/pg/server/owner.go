package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// Command prepares one of PostgreSQL's programs to run as the owner of the data
// directory, in C's locale and without the variables that would change what it does.
// It is killed when ctx ends; run it with Run, which kills it too when this program
// ends before.
func Command(ctx context.Context, binDir, dataDir, program string, args ...string) (*exec.Cmd, error) {
	cred, err := credentialFor(dataDir)
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", program, err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(binDir, program), args...)
	cmd.Dir = "/"
	cmd.Env = append(cleanEnv(os.Environ()), "LC_ALL=C", "LANGUAGE=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// Run runs a Command to its end.
func Run(cmd *exec.Cmd) error {
	runtime.LockOSThread() // whose end would be taken for this program's
	defer runtime.UnlockOSThread()
	return cmd.Run()
}

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
