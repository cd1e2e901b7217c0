package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// People are told what is not in a backup, and what makes its slots anew.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	h := catalog.Head{
		Needs: catalog.Needs{ConfigFile: "/etc/postgresql/15/main/postgresql.conf", IdentFile: "/etc/postgresql/15/main/pg_ident.conf"},
		Slots: []catalog.Slot{
			{Name: "standby_b", Kind: "physical"},
			{Name: "cdc", Kind: "logical", Plugin: "pgoutput", Database: "shop"},
			{Name: "odd", Kind: "logical", Plugin: `a'b\c`, Database: "shop"},
		},
	}
	var text strings.Builder
	if err := elsewhereDetails(h).writeTo(&text); err != nil {
		t.Fatal(err)
	}
	want := `not in the backup  /etc/postgresql/15/main/postgresql.conf
not in the backup  /etc/postgresql/15/main/pg_ident.conf
replication slot   standby_b, physical: SELECT pg_create_physical_replication_slot('standby_b');
replication slot   cdc, logical in database shop: SELECT pg_create_logical_replication_slot('cdc', 'pgoutput');
replication slot   odd, logical in database shop: SELECT pg_create_logical_replication_slot('odd', E'a''b\\c');
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
