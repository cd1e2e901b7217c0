package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/store/s3/s3test"
)

// newS3Site makes a site whose repository is in a bucket, with its configuration
// written by hand. init is left to the test.
func newS3Site(t *testing.T, srv *s3test.Server, bucket, secretKey string) *site {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Settings: map[string]string{"archive_mode": "on"}})
	s := &site{t: t, cluster: c, dir: c.TempDir(t)}
	s.config = filepath.Join(s.dir, "salvor.yaml")
	_, identity, err := keys.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"salvor.key": identity, "s3.access": srv.AccessKey, "s3.secret": secretKey,
		"salvor.yaml": fmt.Sprintf(`cluster: main
postgres: {data_dir: %s, host: %s, port: %d, user: postgres}
repositories:
  - name: far
    url: %s
    key: {file: salvor.key}
    credentials: {access_key: {file: s3.access}, secret_key: {file: s3.secret}}
`, c.Dir, c.SocketDir, c.Port(), srv.URL(bucket, "some/where")),
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text+"\n"), 0o644); err != nil { // the server's user reads them
			t.Fatal(err)
		}
	}
	return s
}

// The whole way with a repository in S3: init tries the place, WAL is archived, two
// backups are taken, and both sides of a moment are recovered.
func TestS3(t *testing.T) {
	t.Parallel()
	skipShort(t)
	srv := s3test.Start(t)
	s := newS3Site(t, srv, srv.Bucket(t), srv.SecretKey)
	var done struct {
		ArchiveCommand string `json:"archive_command"`
		Repositories   []struct {
			Created bool `json:"created"`
		} `json:"repositories"`
	}
	s.ok("init", "-o", "json").decode(t, &done)
	if done.ArchiveCommand == "" || len(done.Repositories) != 1 || !done.Repositories[0].Created {
		t.Fatalf("init says: %+v", done)
	}
	s.ok("init") // again, on what is there
	c := s.cluster
	c.Set("archive_command", done.ArchiveCommand)

	// More than a part of an upload, of what does not compress.
	c.Exec("CREATE TABLE dish AS SELECT g AS id, sha512(g::text::bytea) || sha512((-g)::text::bytea) AS taste FROM generate_series(1, 200000) g")
	b := s.backup()
	if b.Stored < 20<<20 || b.Stored > b.Size {
		t.Errorf("the backup says: %+v", b)
	}
	c.Exec("UPDATE dish SET taste = 'salty' WHERE id <= 100")
	s.backup()
	between := pgtest.QueryValue[string](c, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ')")
	c.Exec("DELETE FROM dish WHERE id > 1000")
	s.archiveAll()
	s.ok("wal", "status")

	before := s.restore("--at", between)
	if n := value[int](t, before, "SELECT count(*) FROM public.dish"); n != 200000 {
		t.Errorf("before the delete there were %d dishes", n)
	}
	if n := value[int](t, before, "SELECT count(*) FROM public.dish WHERE taste = 'salty'"); n != 100 {
		t.Errorf("of which %d were salty", n)
	}
	before.checkPages(t)
	after := s.restore()
	if n := value[int](t, after, "SELECT count(*) FROM public.dish"); n != 1000 {
		t.Errorf("after the delete there were %d dishes", n)
	}
	if list := s.backups(); len(list) != 2 {
		t.Errorf("the list says: %+v", list)
	}
}

// What is wrong with a bucket or a key is said, and nothing is made of it.
func TestS3Refusals(t *testing.T) {
	t.Parallel()
	skipShort(t)
	srv := s3test.Start(t)
	s := newS3Site(t, srv, srv.Bucket(t), "not the secret")
	s.ends(1, "init", "-o", "json").says(t, "store_permission", "SignatureDoesNotMatch", "access key")
	s = newS3Site(t, srv, "there-is-no-such-bucket", srv.SecretKey)
	s.ends(1, "init", "-o", "json").says(t, "the bucket does not exist", "there-is-no-such-bucket")
}
