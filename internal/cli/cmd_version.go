package cli

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
)

// versionView says what this binary is.
type versionView struct {
	Version          string `json:"version"`
	Commit           string `json:"commit,omitzero"`
	CommittedAt      string `json:"committed_at,omitzero"`
	Modified         bool   `json:"modified"` // built from a checkout with changes
	Go               string `json:"go"`
	Platform         string `json:"platform"`
	RepositoryFormat int    `json:"repository_format"`
	Postgres         []int  `json:"postgres_versions"` // majors
}

func versionCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, and what it works with",
		GroupID: groupSetup,
		Args:    positional(),
		RunE:    s.run(func(context.Context, []string) error { return s.printVersion() }),
	}
}

func (s *session) printVersion() error {
	v := versionOf(s.version, s.commit, readBuild())
	commit := v.Commit
	if v.Modified {
		commit += ", with changes"
	}
	return s.out.document(v, details{
		{"salvor", v.Version},
		{"commit", commit},
		{"go", v.Go + " " + v.Platform},
		{"repository format", fmt.Sprint(v.RepositoryFormat)},
		{"postgresql", fmt.Sprintf("%d to %d", pg.OldestMajor, pg.NewestMajor)},
	})
}

func readBuild() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{GoVersion: runtime.Version()}
}

// versionOf puts together what the release and the build say.
func versionOf(release, commit string, build *debug.BuildInfo) versionView {
	module := strings.TrimPrefix(build.Main.Version, "v")
	v := versionView{
		Version:          cmp.Or(strings.TrimPrefix(release, "v"), module, "(devel)"),
		Commit:           commit,
		Go:               strings.TrimPrefix(build.GoVersion, "go"),
		Platform:         runtime.GOOS + "/" + runtime.GOARCH,
		RepositoryFormat: repo.FormatVersion,
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Commit = cmp.Or(commit, setting.Value)
		case "vcs.time":
			v.CommittedAt = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
	for major := pg.OldestMajor; major <= pg.NewestMajor; major++ {
		v.Postgres = append(v.Postgres, major)
	}
	return v
}
