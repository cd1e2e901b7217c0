package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	repoopen "github.com/salvor-dr/salvor/internal/repo/open"
	storeopen "github.com/salvor-dr/salvor/internal/store/open"
)

// listSite makes a repository with backups that hold nothing, and a configuration. It
// needs no server.
func listSite(t *testing.T, backups int) (configFile string) {
	t.Helper()
	dir := t.TempDir()
	secret, identity, err := keys.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	url := "file://" + dir + "/repo"
	st, err := storeopen.Open(t.Context(), url, storeopen.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	now := time.Now()
	r, err := repoopen.Init(t.Context(), st, []keys.Secret{secret}, now)
	if err != nil {
		t.Fatal(err)
	}
	o := catalog.Origin{Cluster: "main", SystemID: 7, Incarnation: catalog.NewIncarnation(), CreatedAt: now, Version: 150000,
		Sizes: pg.Sizes{Block: 8192, SegmentBlocks: 131072, WALBlock: 8192, WALSegment: 1 << 20}}
	if err := catalog.WriteOrigin(t.Context(), r.Objects, o); err != nil {
		t.Fatal(err)
	}
	for range backups {
		h := catalog.Head{ID: catalog.NewBackupID(now), Kind: catalog.Full, Cluster: o.Cluster, SystemID: o.SystemID, Incarnation: o.Incarnation,
			StartedAt: now, StoppedAt: now, Timeline: 1, Version: o.Version, Sizes: o.Sizes}
		if err := catalog.WriteHead(t.Context(), r.Objects, h); err != nil {
			t.Fatal(err)
		}
	}
	text := config.Render(config.Minimal{Cluster: "main", Postgres: config.Postgres{DataDir: dir + "/data"},
		Repositories: []config.Repository{{Name: "local", URL: url, Key: config.Secret{File: "key"}, Encryption: config.AES256GCM}}})
	for name, content := range map[string]string{"salvor.yaml": string(text), "key": identity} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "salvor.yaml")
}

// Where copies of heads go, and that they change nothing.
func TestCacheDirectory(t *testing.T) {
	t.Parallel()
	file := listSite(t, 3)
	home := t.TempDir()
	for name, c := range map[string]struct {
		vars []string
		args []string
		want string // below home
	}{
		"option":               {vars: []string{"HOME=" + home + "/a"}, args: []string{"--cache-dir", home + "/option"}, want: "option"},
		"variable":             {vars: []string{"SALVOR_CACHE_DIR=" + home + "/variable", "HOME=" + home + "/a"}, want: "variable"},
		"xdg":                  {vars: []string{"XDG_CACHE_HOME=" + home + "/xdg", "HOME=" + home + "/a"}, want: "xdg/salvor"},
		"xdg not absolute":     {vars: []string{"XDG_CACHE_HOME=xdg", "HOME=" + home + "/b"}, want: "b/.cache/salvor"},
		"home":                 {vars: []string{"HOME=" + home + "/c"}, want: "c/.cache/salvor"},
		"no home":              {},
		"no cache":             {vars: []string{"HOME=" + home + "/d"}, args: []string{"--no-cache"}},
		"no cache by variable": {vars: []string{"HOME=" + home + "/d", "SALVOR_NO_CACHE=yes"}},
		"unusable":             {vars: []string{"SALVOR_CACHE_DIR=/dev/null/x"}},
	} {
		before := cacheFiles(t, home)
		for range 2 { // cold and warm
			r := inProcess(commands, c.vars, append([]string{"-c", file, "backups", "list", "-o", "json"}, c.args...)...)
			if r.exit != 0 || strings.Count(r.stdout, `"id"`) != 3 || r.stderr != "" {
				t.Errorf("%s: %+v", name, r)
			}
		}
		var made []string
		for _, path := range cacheFiles(t, home) {
			if !strings.Contains("\n"+strings.Join(before, "\n")+"\n", "\n"+path+"\n") {
				made = append(made, path)
			}
		}
		switch {
		case c.want == "" && len(made) > 0, c.want != "" && (len(made) != 1 || !strings.HasPrefix(made[0], filepath.Join(home, c.want)+"/")):
			t.Errorf("%s: copies are in %q, want one in %q", name, made, c.want)
		}
	}
}

func cacheFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
