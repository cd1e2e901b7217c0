package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestID(t *testing.T) {
	a, b := NewID(), NewID()
	if a == b || a == (ID{}) {
		t.Fatal("identifiers are not random")
	}
	data, err := json.Marshal(map[ID]ID{a: b})
	if err != nil {
		t.Fatal(err)
	}
	var back map[ID]ID
	if err := json.Unmarshal(data, &back); err != nil || back[a] != b {
		t.Errorf("%s came back as %v, %v", data, back, err)
	}
	good := a.String()
	for _, bad := range []string{"", good[1:], good + "0", strings.Repeat("AB", 16), strings.Repeat("g", 32), " " + good[1:]} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("%q was read as %s", bad, id)
		}
	}
}

func TestDamaged(t *testing.T) {
	err := fmt.Errorf("restoring: %w", Damaged("packs/x", "frame %d", 3))
	var d *Damage
	if !errors.Is(err, ErrDamaged) || !errors.As(err, &d) || d.Object != "packs/x" || errors.Is(err, ErrWrongKey) {
		t.Errorf("%v", err)
	}
	if want := "restoring: object packs/x is damaged: frame 3"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
