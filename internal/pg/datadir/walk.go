package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Walk calls fn for everything in the data directory root that a backup holds
// (Rules), in the order and by the rules of the package documentation. An error
// of fn ends the walk and is returned as it is. The directory may change while
// it is walked; root itself must exist. Walk opens no file, only directories.
func Walk(root string, opts WalkOptions, fn func(Entry) error) error {
	if err := opts.validate(); err != nil {
		return fmt.Errorf("walking data directory %s: %w", root, err)
	}
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return fmt.Errorf("walking data directory: %w", err)
	}
	w := &walker{
		root:    root,
		version: versionDirectory(opts.Major, opts.CatalogVersion),
		opts:    opts,
		rules:   newRuleSet(opts.Exclude),
		fn:      fn,
	}
	if err := w.findTablespaces(); err != nil {
		return err
	}
	if err := fn(newEntry(".", KindDir, info)); err != nil {
		return err
	}
	return w.contents("")
}

type walker struct {
	root    string
	version string // name of this cluster's directory in each tablespace
	opts    WalkOptions
	rules   ruleSet
	fn      func(Entry) error

	// Directories that are walked as part of a tablespace: where their location
	// is inside the data directory, the walk comes by them a second time.
	spaces map[fileID]bool
}

// abs gives the name to open for a path of the walk.
func (w *walker) abs(path string) string { return filepath.Join(w.root, filepath.FromSlash(path)) }

// contents walks what is in the directory at path, "" being the data directory.
func (w *walker) contents(path string) error {
	names, err := w.names(path)
	if err != nil {
		return err
	}
	prefix := path + "/"
	if path == "" {
		prefix = ""
	}
	_, db, relations := parseRelationDir(path)
	var unlogged map[uint32]bool
	if relations {
		unlogged = unloggedRelations(names)
	}
	for _, name := range names {
		if relations && (isUnlogged(name, unlogged) || db != 0 && isTempName(name)) {
			continue
		}
		if err := w.visit(prefix+name, name); err != nil {
			return err
		}
	}
	return nil
}

// names lists a directory in the order of bytes; one that vanished is empty.
func (w *walker) names(path string) ([]string, error) {
	f, err := os.Open(w.abs(path))
	if err == nil {
		defer f.Close()
		var names []string
		if names, err = f.Readdirnames(-1); err == nil {
			slices.Sort(names)
			return names, nil
		}
	}
	if vanished(err) {
		return nil, nil
	}
	return nil, fmt.Errorf("listing directory of the cluster: %w", err)
}

// unloggedRelations gives the numbers of the relations that have an init fork.
func unloggedRelations(names []string) map[uint32]bool {
	var unlogged map[uint32]bool
	for _, name := range names {
		if r, ok := parseRelationName(name); ok && r.Fork == ForkInit {
			if unlogged == nil {
				unlogged = make(map[uint32]bool)
			}
			unlogged[r.Number] = true
		}
	}
	return unlogged
}

// isUnlogged says whether the file is one that the server makes anew from the
// init fork at the end of recovery (ResetUnloggedRelations, reinit.c).
func isUnlogged(name string, unlogged map[uint32]bool) bool {
	if unlogged == nil {
		return false
	}
	r, ok := parseRelationName(name)
	return ok && r.Fork != ForkInit && unlogged[r.Number]
}

// visit gives the entry at path to fn, and what is in it.
func (w *walker) visit(path, name string) error {
	effect := w.rules.effect(path, name)
	if effect == LeaveOut {
		return nil
	}
	info, err := os.Lstat(w.abs(path))
	if vanished(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at file of the cluster: %w", err)
	}
	if oid, ok := tablespaceOID(path); ok && (info.IsDir() || isLink(info)) {
		return w.tablespace(path, oid, info)
	}
	if isLink(info) {
		if info, err = w.follow(path, info, effect); info == nil || err != nil {
			return err
		}
	}
	switch {
	case info.IsDir():
		return w.directory(path, info, effect)
	case effect == LeaveContents:
		return nil // not the server's directory: a file in its place is nothing to keep
	case info.Mode().IsRegular():
		return w.fn(newEntry(path, KindFile, info))
	}
	w.skipped(path, "special file: "+describe(info))
	return nil
}

// directory gives a directory and what is in it, unless only the directory is
// held.
func (w *walker) directory(path string, info fs.FileInfo, effect Effect) error {
	if err := w.fn(newEntry(path, KindDir, info)); err != nil {
		return err
	}
	if path == "pg_wal" {
		return w.walDirectories(info)
	}
	if effect == LeaveContents {
		return nil
	}
	if id, ok := idOf(info); ok && w.spaces[id] && !isVersionDirectoryPath(path) {
		return nil
	}
	return w.contents(path)
}

// walDirectories gives the directories that a server expects in pg_wal, whether
// they are there or not (basebackup.c does the same).
func (w *walker) walDirectories(parent fs.FileInfo) error {
	paths := []string{"pg_wal/archive_status"}
	if w.opts.Major >= 17 {
		paths = append(paths, "pg_wal/summaries")
	}
	for _, path := range paths {
		info, err := os.Stat(w.abs(path))
		if err != nil || !info.IsDir() {
			info = parent
		}
		if err := w.fn(newEntry(path, KindDir, info)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) skipped(path, reason string) {
	if w.opts.Skipped != nil {
		w.opts.Skipped(path, reason)
	}
}

// vanished says whether an error means that a file or directory is not there
// any more, or no longer the directory it was.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func isLink(info fs.FileInfo) bool { return info.Mode()&fs.ModeSymlink != 0 }

func describe(info fs.FileInfo) string {
	switch m := info.Mode(); {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "neither a file nor a directory"
}
