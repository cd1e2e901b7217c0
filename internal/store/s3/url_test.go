package s3

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]Options{
		"s3://bucket":              {Bucket: "bucket"},
		"s3://bucket/":             {Bucket: "bucket"},
		"S3://my.bucket-1/a/b/":    {Bucket: "my.bucket-1", Prefix: "a/b"},
		"s3://bucket?region=eu-x1": {Bucket: "bucket", Region: "eu-x1"},
		"s3://bucket/p?region=r&endpoint=https://s3.example.org:9000/&path_style=false&ca_file=/etc/ca%20s.pem&checksum=md5": {
			Bucket: "bucket", Prefix: "p", Region: "r", Endpoint: "https://s3.example.org:9000", PathStyle: new(false),
			CAFile: "/etc/ca s.pem", Checksum: MD5},
		"s3://bucket?endpoint=http%3A%2F%2F127.0.0.1%3A7480&path_style=true": {
			Bucket: "bucket", Endpoint: "http://127.0.0.1:7480", PathStyle: new(true)},
	} {
		got, err := ParseURL(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".LookupEnv" }, cmp.Ignore())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
		if again, err := ParseURL(got.url()); err != nil || again.url() != got.url() {
			t.Errorf("%s is written as %s, and that is read as %+v, %v", raw, got.url(), again, err)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for raw, says := range map[string]string{
		"":                                         "s3://BUCKET",
		"s3:bucket":                                "s3://BUCKET",
		"http://bucket":                            "s3://BUCKET",
		"s3://":                                    "not the name of a bucket",
		"s3:///prefix":                             "not the name of a bucket",
		"s3://b":                                   "not the name of a bucket",
		"s3://bucket:9000/x":                       "endpoint=https://host:port",
		"s3://key:hushhush@bucket/x":               "must not hold a user",
		"s3://bucket/a//b":                         "prefix",
		"s3://bucket/.hidden":                      "prefix",
		"s3://bucket/" + long(513):                 "prefix",
		"s3://bucket/x#y":                          "#",
		"s3://bucket/x#":                           "#",
		"s3://bucket?regoin=x":                     "unknown; there are ca_file",
		"s3://bucket?region=":                      "needs one value",
		"s3://bucket?region=a&region=b":            "needs one value",
		"s3://bucket?region=%zz":                   "parameters",
		"s3://bucket?path_style=perhaps":           "true or false",
		"s3://bucket?checksum=crc31":               "crc32c, md5 or none",
		"s3://bucket?endpoint=localhost":           "endpoint=https://host:port",
		"s3://bucket?endpoint=ftp://h":             "endpoint=https://host:port",
		"s3://bucket?endpoint=http://h/p":          "takes no path",
		"s3://bucket?endpoint=http://u:hushhush@h": "must not hold a user",
		"s3://bucket?secret_key=hushhush":          "unknown",
	} {
		_, err := ParseURL(raw)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error is %v, want %q", raw, err, says)
		} else if strings.Contains(err.Error(), "hushhush") {
			t.Errorf("%s: the error shows what may be a secret: %v", raw, err)
		}
	}
}

func long(n int) string { return strings.Repeat("x/", n/2) + "xx" }

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"s3://bucket/p?region=r", "s3://b", "s3://bucket?endpoint=http://127.0.0.1:1&path_style=true",
		"s3://bucket?ca_file=/x%2526&checksum=none", "s3:x", "s3://bucket?%3a=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		o, err := ParseURL(raw)
		if err != nil {
			return
		}
		again, err := ParseURL(o.url())
		if err != nil || again.url() != o.url() {
			t.Errorf("%q is written as %q, and that is read as %q, %v", raw, o.url(), again.url(), err)
		}
	})
}
