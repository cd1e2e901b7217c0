package cli

import (
	"fmt"
	"strings"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// What a cluster has and a backup of its data directory has not.

// slotView is a replication slot of the source in documents.
type slotView struct {
	catalog.Slot
	SQL string `json:"sql"` // makes it anew
}

func viewsOfSlots(slots []catalog.Slot) []slotView {
	views := []slotView{}
	for _, s := range slots {
		views = append(views, slotView{s, slotSQL(s)})
	}
	return views
}

// slotSQL makes a slot anew. It begins at the present: what its consumer has not had
// before is not in it.
func slotSQL(s catalog.Slot) string {
	if s.Kind == "logical" {
		return fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, %s);", sqlText(s.Name), sqlText(s.Plugin))
	}
	return fmt.Sprintf("SELECT pg_create_physical_replication_slot(%s);", sqlText(s.Name))
}

// sqlText is a string in SQL, whatever standard_conforming_strings says.
func sqlText(s string) string {
	quoted := "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
	if strings.Contains(s, `\`) {
		return "E" + quoted
	}
	return quoted
}

// detail tells of a slot, and how it is made anew.
func (v slotView) detail() detail {
	what := v.Name + ", " + v.Kind
	if v.Database != "" {
		what += " in database " + v.Database
	}
	return detail{"replication slot", what + ": " + v.SQL}
}

// filesElsewhere are the configuration files of a cluster that are outside of its data
// directory, as Debian keeps them.
func filesElsewhere(n catalog.Needs) []string {
	files := []string{}
	for _, f := range []string{n.ConfigFile, n.HBAFile, n.IdentFile} {
		if f != "" {
			files = append(files, f)
		}
	}
	return files
}

// elsewhereDetails tells people what a backup has not.
func elsewhereDetails(h catalog.Head) details {
	var d details
	for _, f := range filesElsewhere(h.Needs) {
		d = append(d, detail{"not in the backup", f})
	}
	for _, v := range viewsOfSlots(h.Slots) {
		d = append(d, v.detail())
	}
	return d
}
