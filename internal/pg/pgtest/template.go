package pgtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// makeTemplate gives a data directory fresh from initdb that fits the options.
// It is made once and kept for later runs, in a directory of the user that runs
// the tests; a file lock keeps test programs that run side by side apart.
func makeTemplate(binDir string, user *account, o Options) (string, error) {
	args := initdbArgs(o)
	key, err := templateKey(binDir, user, args)
	if err != nil {
		return "", err
	}
	dir, err := sharedDir("templates")
	if err != nil {
		return "", err
	}
	template := filepath.Join(dir, fmt.Sprintf("%d-%s", o.Major, key))
	unlock, err := lockFile(template + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	data := filepath.Join(template, "data")
	if _, err := os.Stat(data); err == nil {
		return data, nil
	}
	// What a killed run left is swept first. The rename makes it whole or absent.
	half := template + ".new"
	if err := errors.Join(os.RemoveAll(half), os.RemoveAll(template)); err != nil {
		return "", err
	}
	if err := errors.Join(os.Mkdir(half, 0o755), user.own(half)); err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(binDir, "initdb"), append(args, "-D", filepath.Join(half, "data"))...)
	cmd.Env = append(withoutPG(os.Environ()), "LC_ALL=C.UTF-8")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user.credential()}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return data, os.Rename(half, template)
}

func initdbArgs(o Options) []string {
	args := []string{"--no-sync", "--auth=trust", "--username=" + superuser, "--encoding=UTF8", "--locale=C.UTF-8"}
	switch {
	case !o.ChecksumsOff:
		args = append(args, "--data-checksums")
	case o.Major >= 18:
		args = append(args, "--no-data-checksums")
	}
	if o.WALSegmentMB != 0 {
		args = append(args, fmt.Sprintf("--wal-segsize=%d", o.WALSegmentMB))
	}
	return append(args, o.InitDB...)
}

// templateKey depends on everything that makes one initdb differ from another.
func templateKey(binDir string, user *account, args []string) (string, error) {
	fi, err := os.Stat(filepath.Join(binDir, "initdb"))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d %q", binDir, fi.ModTime().UnixNano(), fi.Size(), user.uid, args))
	return fmt.Sprintf("%x", sum[:8]), nil
}

// sharedDir is a directory that all test programs of this user share. One that
// belongs to somebody else is refused: its name can be guessed.
func sharedDir(name string) (string, error) {
	base := os.TempDir()
	if !reachable(base) {
		base = "/tmp"
	}
	dir := filepath.Join(base, fmt.Sprintf("salvor-pgtest-%d", os.Geteuid()))
	for _, d := range []string{dir, filepath.Join(dir, name)} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
		fi, err := os.Lstat(d)
		if err != nil {
			return "", err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); !fi.IsDir() || !ok || int(st.Uid) != os.Geteuid() {
			return "", fmt.Errorf("%s is not a directory of ours", d)
		}
		if err := os.Chmod(d, 0o755); err != nil { // whatever the umask
			return "", err
		}
	}
	return filepath.Join(dir, name), nil
}

// lockFile waits for a lock that ends with the process at the latest.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// copyTree copies a directory with owners, modes and times; where the file
// system can, blocks are shared.
func copyTree(from, to string) error {
	out, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput()
	if err != nil { // not GNU's
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		out, err = exec.Command("cp", "-a", from, to).CombinedOutput()
	}
	if err != nil {
		return fmt.Errorf("copying %s: %w: %s", from, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// renewSystemID gives a copy of a template, which never ran, an identity of
// its own. The identifier stands at the start of pg_control, whose CRC-32C
// follows the last field (pg_control.h), and in the long header of each WAL
// segment's first page, which no checksum covers (xlog_internal.h).
func renewSystemID(dataDir string) error {
	var low [4]byte
	if _, err := rand.Read(low[:]); err != nil {
		return err
	}
	// As initdb does: seconds in the upper half, and something unlikely to repeat.
	id := uint64(time.Now().Unix())<<32 | uint64(binary.NativeEndian.Uint32(low[:]))

	control := filepath.Join(dataDir, "global", "pg_control")
	data, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	end, err := controlEnd(data)
	if err != nil {
		return fmt.Errorf("%s: %w", control, err)
	}
	binary.NativeEndian.PutUint64(data, id)
	binary.NativeEndian.PutUint32(data[end:], crc32.Checksum(data[:end], crc32.MakeTable(crc32.Castagnoli)))
	if err := overwrite(control, 0, data); err != nil {
		return err
	}
	segments, err := filepath.Glob(filepath.Join(dataDir, "pg_wal", strings.Repeat("[0-9A-F]", 24)))
	if err != nil {
		return err
	}
	const longHeaderSystemID = 24 // offsetof(XLogLongPageHeaderData, xlp_sysid)
	for _, name := range segments {
		if err := overwrite(name, longHeaderSystemID, binary.NativeEndian.AppendUint64(nil, id)); err != nil {
			return err
		}
	}
	return nil
}

// controlEnd finds where the checksum of pg_control stands: each version has
// its own length, and the checksum fits at one place only.
func controlEnd(data []byte) (int, error) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for end := 128; end+4 <= min(len(data), 512); end += 4 {
		if crc32.Checksum(data[:end], table) == binary.NativeEndian.Uint32(data[end:]) {
			return end, nil
		}
	}
	return 0, errors.New("no checksum fits")
}

// overwrite changes bytes of a file and nothing else of it.
func overwrite(path string, at int64, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, at)
	return errors.Join(err, f.Close())
}
