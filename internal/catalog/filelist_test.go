package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

// What is added comes back, sorted by path.
func TestFileList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l FileList
		var want []File
		for i := range rapid.IntRange(0, 200).Draw(t, "entries") {
			f := File{Kind: Dir, Path: fmt.Sprintf("%s/%d", rapid.StringMatching(`[a-z]{1,12}`).Draw(t, "dir"), i), Mode: 0o700, ModTime: time.Unix(int64(i), 5).UTC()}
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				f.Kind, f.Location = TablespaceLink, "/srv/ts"
			case 1, 2:
				f.Kind, f.Block, f.Size, f.Relation, f.Digest = Regular, 8192, uint64(i), true, chunk.Digest{Hi: 1, Lo: uint64(i)}
				f.Map = []byte(strings.Repeat("m", rapid.IntRange(0, MaxInlineMap).Draw(t, "map")))
			case 3:
				f.Kind, f.Block, f.Map = Regular, 1, []byte{}
				f.MapRefs = []repo.Ref{{Pack: repo.ID{1}, Ordinal: 2, Offset: 3, Stored: 4, Plain: 5}}
			}
			l.Add(f)
			want = append(want, f)
		}
		if l.Len() != len(want) {
			t.Fatalf("it has %d entries, not %d", l.Len(), len(want))
		}
		slices.SortFunc(want, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
		l.Sort()
		var got []File
		for f, err := range l.All() {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, f)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}
