package datadir

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
)

func TestParseLabelOfRealServers(t *testing.T) {
	for major := pg.OldestMajor; major <= pg.NewestMajor; major++ {
		got, err := ParseLabel(readFile(t, fmt.Sprintf("testdata/pg%d.backup_label", major)))
		if err != nil {
			t.Fatal(major, err)
		}
		if !strings.HasSuffix(got.StartTime, " UTC") {
			t.Errorf("%d: START TIME = %q", major, got.StartTime)
		}
		got.StartTime = ""
		want := Label{
			Start: 0xC00028, StartFile: "000000010000000000000006", Checkpoint: 0xC00060,
			Method: "streamed", From: "primary", Label: `fixture "label"`, Timeline: 1,
		}
		if major == 14 {
			want.Start, want.StartFile, want.Checkpoint = 0xE00028, "000000010000000000000007", 0xE00060
		}
		if major >= 17 {
			want.Checkpoint = 0xC00080 // a record at the redo position comes before it
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d (-want +got):\n%s", major, diff)
		}
		if got.FromStandby() {
			t.Errorf("%d: FromStandby", major)
		}
	}
}

const (
	startLine      = "START WAL LOCATION: 16/B374D848 (file 0000000A00000016000000B3)\n"
	checkpointLine = "CHECKPOINT LOCATION: 16/B374D880\n"
)

func TestParseLabel(t *testing.T) {
	tests := []struct {
		name, text string
		want       Label
		wantErr    string
	}{
		{
			name: "the least", text: startLine + checkpointLine,
			want: Label{Start: 0x16B374D848, StartFile: "0000000A00000016000000B3", Checkpoint: 0x16B374D880, Timeline: 10},
		},
		{
			name: "of a standby, with lines of another version",
			text: startLine + checkpointLine + "BACKUP FROM: standby\nINCREMENTAL FROM LSN: 0/1\nnonsense\n\nSTART TIMELINE: 10",
			want: Label{Start: 0x16B374D848, StartFile: "0000000A00000016000000B3", Checkpoint: 0x16B374D880, Timeline: 10, From: "standby"},
		},
		{
			name: "a label with newlines can not replace other lines",
			text: startLine + checkpointLine + "LABEL: x\nSTART WAL LOCATION: 0/0 (file 000000010000000000000000)\nCHECKPOINT LOCATION: 0/0\n",
			want: Label{Start: 0x16B374D848, StartFile: "0000000A00000016000000B3", Checkpoint: 0x16B374D880, Timeline: 10, Label: "x"},
		},
		{name: "nothing", wantErr: "START WAL LOCATION is missing"},
		{name: "cut off", text: startLine, wantErr: "CHECKPOINT LOCATION is missing"},
		{name: "no checkpoint", text: startLine + "CHECKPOINT LOCATION: 16/\n", wantErr: "not an LSN"},
		{name: "no file", text: "START WAL LOCATION: 0/2000028\n" + checkpointLine, wantErr: "name of a WAL segment"},
		{name: "short file", text: "START WAL LOCATION: 0/2000028 (file 00000001)\n" + checkpointLine, wantErr: "name of a WAL segment"},
		{name: "no position", text: "START WAL LOCATION: x (file 0000000A00000016000000B3)\n" + checkpointLine, wantErr: "not an LSN"},
		{name: "timeline zero", text: "START WAL LOCATION: 0/1 (file 000000000000001600000001)\n" + checkpointLine, wantErr: "not a timeline"},
		{name: "other timeline", text: startLine + checkpointLine + "START TIMELINE: 16\n", wantErr: "is 16, but the segment"},
		{name: "no number", text: startLine + checkpointLine + "START TIMELINE: 0x0A\n", wantErr: "invalid syntax"},
	}
	for _, tt := range tests {
		got, err := ParseLabel([]byte(tt.text))
		if tt.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%s: error %v, want %q", tt.name, err, tt.wantErr)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
	}
}

func FuzzParseLabel(f *testing.F) {
	f.Add(readFile(f, "testdata/pg15.backup_label"))
	f.Add([]byte(startLine + checkpointLine + "START TIMELINE: 10\n"))
	f.Add([]byte("START WAL LOCATION: (file )\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLabel(data)
		if err == nil && (len(l.StartFile) != 24 || l.Timeline == 0) {
			t.Fatalf("accepted %+v", l)
		}
	})
}
