package trial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// badPage is what pg_checksums says of a page (scan_file, pg_checksums.c).
var badPage = regexp.MustCompile(`checksum verification failed in file "([^"]+)", block (\d+)`)

// pages compares every page with its checksum, where the cluster has them. amcheck and
// pg_dump do not read indexes of other kinds than B-trees, nor maps.
func (r *run) pages(ctx context.Context) error {
	if !r.head().Checksums {
		return nil
	}
	const name = "checksums"
	r.Events.Phase(name)
	began := r.Clock.Now()
	if _, err := os.Stat(filepath.Join(r.BinDir, "pg_checksums")); errors.Is(err, fs.ErrNotExist) {
		r.skip(name, began, "pg_checksums is not in "+r.BinDir)
		return nil
	}
	cmd, err := server.Command(ctx, r.BinDir, r.scratch.data(), "pg_checksums", "--check", "-D", r.scratch.data())
	if err != nil {
		return err
	}
	said := &excerpt{most: 64 << 10}
	cmd.Stderr = said
	err = server.Run(cmd)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		r.check(name, began, true, "every page has its checksum")
		return nil
	case !errors.As(err, new(*exec.ExitError)):
		return fmt.Errorf("running pg_checksums: %w", err)
	}
	bad := badPage.FindAllStringSubmatch(said.String(), -1)
	for _, m := range bad {
		r.problem(catalog.Problem{Kind: PageDamaged, File: strings.TrimPrefix(m[1], r.scratch.data()+"/"), Detail: fmt.Sprintf("block %s has not its checksum", m[2])})
	}
	if len(bad) == 0 {
		r.problem(catalog.Problem{Kind: PageDamaged, Detail: "pg_checksums failed: " + oneLine(said.String(), 500)})
	}
	r.check(name, began, false, fmt.Sprintf("%d pages have not their checksum", max(1, len(bad))))
	return nil
}

// excerpt keeps the first bytes of what a program says.
type excerpt struct {
	strings.Builder
	most int
}

// Write implements io.Writer.
func (w *excerpt) Write(p []byte) (int, error) {
	w.Builder.Write(p[:min(len(p), max(0, w.most-w.Len()))])
	return len(p), nil
}
