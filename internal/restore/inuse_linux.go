package restore

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/salvor-dr/salvor/internal/pg/server"
)

// usedBy gives the data directory of a running server on this host, other than that
// of self, which has the directory dir for its WAL or for a tablespace: a data
// directory that was copied with its links shares with the original what they lead to.
// A server works in its data directory (ChangeToDataDir, miscinit.c), which proc(5)
// tells. Of other users' servers only root sees that.
func usedBy(dir, self string) string {
	is, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	own, _ := os.Stat(self) // nil where it is not there yet
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return ""
	}
	seen := map[string]bool{}
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		data, err := os.Readlink(filepath.Join("/proc", p.Name(), "cwd"))
		if err != nil || seen[data] {
			continue
		}
		seen[data] = true
		if _, err := os.Stat(filepath.Join(data, "postmaster.pid")); err != nil {
			continue
		}
		if info, err := os.Stat(data); err != nil || own != nil && os.SameFile(own, info) {
			continue
		}
		if status, err := server.Probe(data); err == nil && status.Running && leadsTo(data, is) {
			return data
		}
	}
	return ""
}

// leadsTo says whether a data directory has the directory for its WAL or a tablespace.
func leadsTo(data string, dir os.FileInfo) bool {
	links, _ := filepath.Glob(filepath.Join(data, tablespaceDir, "*"))
	for _, link := range append(links, filepath.Join(data, walDir)) {
		if info, err := os.Stat(link); err == nil && os.SameFile(info, dir) {
			return true
		}
	}
	return false
}
