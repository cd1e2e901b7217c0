package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user of the system that the server runs as, and with it
// archive_command: the owner of the data directory, or the server does not start.
type account struct {
	name   string
	group  string
	become *syscall.Credential // nil where this process runs as that user
	other  bool                // neither root nor that user: nothing can be tried
}

// accountOf finds the account of a data directory.
func accountOf(dataDir string) (*account, error) {
	info, err := os.Stat(dataDir)
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("who owns %s is not known", dataDir)
	}
	uid, gid := strconv.FormatUint(uint64(st.Uid), 10), strconv.FormatUint(uint64(st.Gid), 10)
	a := &account{name: uid, group: gid}
	var groups []uint32
	if u, err := user.LookupId(uid); err == nil {
		a.name = u.Username
		ids, _ := u.GroupIds() // of a user without an entry there are none
		for _, id := range ids {
			if n, err := strconv.ParseUint(id, 10, 32); err == nil {
				groups = append(groups, uint32(n))
			}
		}
	}
	if g, err := user.LookupGroupId(gid); err == nil {
		a.group = g.Name
	}
	switch os.Geteuid() {
	case int(st.Uid):
	case 0:
		a.become = &syscall.Credential{Uid: st.Uid, Gid: st.Gid, Groups: groups}
	default:
		a.other = true
	}
	return a, nil
}

// can says whether the account may read (-r), write (-w) or execute (-x) a path, in
// which its way through all directories above is included. It lets the system
// decide, which knows of access lists and read-only mounts too.
func (a *account) can(ctx context.Context, what, path string) (bool, error) {
	cmd := exec.CommandContext(ctx, "test", what, path)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.become}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("trying what user %s may do with %s: %w", a.name, path, err)
	}
	return true, nil
}

// need reports what the account may not do with a path but must, and says whether
// it may.
func (a *account) need(ctx context.Context, v *verdict, what, path string) bool {
	ok, err := a.can(ctx, what, path)
	if err != nil {
		v.warn("", "%v", err)
		return true
	}
	if ok {
		return true
	}
	word := map[string]string{"-r": "read", "-w": "write to", "-x": "execute"}[what]
	if dir := a.blocked(ctx, path); dir != "" {
		v.problem(fmt.Sprintf("chmod a+x %s (or keep it elsewhere)", shellWord(dir)), "user %s cannot %s %s, since it may not enter %s", a.name, word, path, dir)
		return false
	}
	fix := fmt.Sprintf("chgrp %s %s && chmod g+r %s", a.group, shellWord(path), shellWord(path))
	switch what {
	case "-w":
		fix = fmt.Sprintf("chown -R %s:%s %s && chmod u+rwx %s", a.name, a.group, shellWord(path), shellWord(path))
	case "-x":
		fix = fmt.Sprintf("chmod a+rx %s", shellWord(path))
	}
	v.problem(fix, "user %s cannot %s %s", a.name, word, path)
	return false
}

// blocked gives the first directory above path that the account may not pass
// through, "" if there is none.
func (a *account) blocked(ctx context.Context, path string) string {
	var above []string
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		above = append(above, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for i := len(above) - 1; i >= 0; i-- {
		if ok, err := a.can(ctx, "-x", above[i]); err == nil && !ok {
			return above[i]
		}
	}
	return ""
}
