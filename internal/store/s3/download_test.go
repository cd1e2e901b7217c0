package s3

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestParseContentRange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][3]int64{
		"bytes 0-0/1":    {0, 0, 1},
		"bytes 3-7/20":   {3, 7, 20},
		"bytes 9-9/10":   {9, 9, 10},
		"bytes 07-8/010": {7, 8, 10},
	} {
		first, last, size, ok := parseContentRange(text)
		if got := [3]int64{first, last, size}; !ok || got != want {
			t.Errorf("%q is read as %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "bytes", "bytes ", "bytes */20", "bytes 3-7/*", "bytes 7-3/20", "bytes -1-3/20", "items 0-1/2",
		"bytes 0-1/2 ", "bytes 0-99999999999999999999/2", "bytes 0-1", "bytes 0x1-2/3", "bytes +1-2/3"} {
		if _, _, _, ok := parseContentRange(text); ok {
			t.Errorf("%q was read", text)
		}
	}
}

// Whatever a place answers, what is accepted lies within what was asked for.
func FuzzCheckRange(f *testing.F) {
	f.Add("bytes 3-7/20", int64(5), int64(3), int64(5))
	f.Add("bytes 3-19/20", int64(17), int64(3), int64(-1))
	f.Add("", int64(5), int64(0), int64(9))
	f.Add("bytes 0-9223372036854775806/9223372036854775807", int64(1)<<62, int64(0), int64(-1))
	f.Fuzz(func(t *testing.T, header string, n, offset, length int64) {
		if offset < 0 || length == 0 || n > 1<<62 || offset > 1<<62 {
			return
		}
		out := &s3.GetObjectOutput{ContentLength: &n}
		if header != "" {
			out.ContentRange = aws.String(header)
		}
		ranged := rangeHeader(offset, length) != nil
		end, err := checkRange(out, ranged, offset, length)
		if err != nil {
			return
		}
		if end < offset || end-offset != n || length > 0 && n > length {
			t.Errorf("%q with %d bytes for %d from %d: it ends at %d", header, n, length, offset, end)
		}
	})
}
