package cli

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/logging"
	"github.com/salvor-dr/salvor/internal/proof"
)

// proofSite is a repository with two backups and proofs of them, and a configuration.
type proofSite struct {
	t       *testing.T
	dir     string
	file    string // the configuration
	backups []string
	place   catalog.Place
	now     time.Time
}

// newProofSite makes one whose configuration signs proofs.
func newProofSite(t *testing.T) *proofSite {
	t.Helper()
	p := &proofSite{t: t, file: listSite(t, 2), now: time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)}
	p.dir = filepath.Dir(p.file)
	p.newKey("sign.key")
	f, err := os.OpenFile(p.file, os.O_APPEND|os.O_WRONLY, 0)
	p.must(err)
	_, err = f.WriteString("proof: {key: {file: sign.key}}\n")
	p.must(err)
	p.must(f.Close())
	p.inRepository(func(s *session, c *config.Config, r *repository) {
		all, err := catalog.Places(t.Context(), r.objects, c.Cluster)
		p.must(err)
		p.place = all[0].Place()
		heads, err := catalog.Backups(t.Context(), r.objects, p.place)
		p.must(err)
		for _, h := range heads {
			p.backups = append(p.backups, h.ID)
		}
	})
	return p
}

func (p *proofSite) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// newKey makes a signing key, and the file of its public key, which it names.
func (p *proofSite) newKey(name string) (public string) {
	p.t.Helper()
	signer, err := proof.NewSigner()
	p.must(err)
	text, err := signer.PEM()
	p.must(err)
	public = filepath.Join(p.dir, name+".pub")
	p.must(os.WriteFile(filepath.Join(p.dir, name), text, 0o600))
	p.must(os.WriteFile(public, signer.Public().PEM(), 0o600))
	return public
}

func (p *proofSite) inRepository(do func(*session, *config.Config, *repository)) {
	p.t.Helper()
	var log strings.Builder
	s := newSession(Process{Stderr: &log, Version: "1.2.3", Env: func(string) (string, bool) { return "", false }})
	s.log, s.clock, s.configPath, s.noCache = logging.New(&log, slog.LevelInfo, logging.Text), clock.Fixed(p.now), p.file, true
	c, err := s.config()
	p.must(err)
	r, err := s.openRepository(p.t.Context(), c.Repositories[0])
	p.must(err)
	defer r.close()
	do(s, c, r)
	if log.Len() > 0 {
		p.t.Errorf("it says %s", &log)
	}
}

// keep writes a proof of a backup, and takes a minute.
func (p *proofSite) keep(backup int, v catalog.Proof) (id string) {
	p.t.Helper()
	p.inRepository(func(s *session, c *config.Config, r *repository) {
		n := s.newProof(c, r.name, v.Kind, p.backups[backup])
		v.Program, v.Host, v.CPUs, v.StartedAt, v.Repository, v.BackupID = n.Program, "db1", 2, n.StartedAt, n.Repository, n.BackupID
		id = s.keepProof(p.t.Context(), c, r, p.place, v)
	})
	p.now = p.now.Add(time.Minute)
	return id
}

// threeProofs are of a restore, and of two verifications of which the last has failed.
func (p *proofSite) threeProofs() (ids []string) {
	p.t.Helper()
	for n, v := range []catalog.Proof{
		{Kind: catalog.RestoreProof, OK: true, Seconds: 74, Size: 4 << 30, Fetched: 1 << 30, Written: 4 << 30, CopySeconds: 58, Target: "latest", StartLSN: 0x1000028, RecoveredTo: 0x2000028, Replayed: 1 << 24, ReplaySeconds: 15.5},
		{Kind: catalog.VerifyProof, OK: true, Seconds: 3, Level: catalog.VerifyData, Checks: []catalog.Check{{Name: "pages", OK: true, Seconds: 2, Detail: "4096"}}},
		{Kind: catalog.VerifyProof, Seconds: 1, Level: catalog.VerifyObjects, Problems: []catalog.Problem{{Kind: "missing", Object: "packs/1", Detail: "it is <gone>"}}},
	} {
		ids = append(ids, p.keep(n/2, v))
	}
	return ids
}

// object is the file of a proof in the repository.
func (p *proofSite) object(id string) string {
	return filepath.Join(p.dir, "repo", p.place.Prefix(), "proofs", id)
}

func (p *proofSite) run(args ...string) result {
	return inProcess(commands, nil, append([]string{"-c", p.file}, args...)...)
}

func TestProofCommands(t *testing.T) {
	t.Parallel()
	p := newProofSite(t)
	if r := p.run("proof"); r.exit != 0 || !strings.HasPrefix(r.stdout, "Nothing was proven yet") {
		t.Errorf("before there is one: %+v", r)
	}
	ids := p.threeProofs()
	r := p.run("proof", "list")
	want := []string{
		"ID                       WHAT            BACKUP                   STARTED                TOOK  RESULT     SIGNATURE  REPOSITORY",
		ids[0] + "  restore         " + p.backups[0] + "  2026-11-24T06:00:00Z  1m14s  ok         valid      local",
		ids[1] + "  verify data     " + p.backups[0] + "  2026-11-24T06:01:00Z   3.0s  ok         valid      local",
		ids[2] + "  verify objects  " + p.backups[1] + "  2026-11-24T06:02:00Z   1.0s  1 PROBLEM  valid      local",
	}
	if d := cmp.Diff(strings.Join(want, "\n")+"\n", r.stdout); r.exit != 0 || d != "" {
		t.Errorf("%+v\n%s", r, d)
	}
	var list struct {
		Items []map[string]any `json:"items"`
	}
	p.must(json.Unmarshal([]byte(p.run("proof", "list", "-o", "json").stdout), &list))
	if len(list.Items) != 3 || list.Items[0]["restore_seconds"] != 73.5 || list.Items[0]["signature"] != "valid" || list.Items[1]["level"] != "data" || list.Items[0]["format_version"] != nil {
		t.Errorf("%v", list)
	}

	r = p.run("proof", "show", ids[0])
	for _, line := range []string{"what           restore", "result         ok", "by             salvor 1.2.3 on db1, with 2 processors",
		"restored       4.0 GiB in 58.0s; 1.0 GiB fetched, 4.0 GiB written", "recovered to   0/2000028 (target: latest), 16.0 MiB of WAL in 15.5s", "signature      valid "} {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("no line %q in\n%s", line, r.stdout)
		}
	}
	r = p.run("proof", "show", ids[2])
	for _, line := range []string{"result         1 PROBLEM", "problem        missing: packs/1: it is <gone>", "previous       " + ids[1]} {
		if !strings.Contains(r.stdout, line) {
			t.Errorf("no line %q in\n%s", line, r.stdout)
		}
	}
	if doc := decoded[map[string]any](t, p.run("proof", "show", ids[1], "-o", "json").stdout); doc["format_version"] != 1.0 || doc["head_sha256"] == nil || doc["previous"] == nil {
		t.Errorf("%v", doc)
	}
	p.run("proof", "show", "20261124T060000Z-0000ff", "-o", "json").failedWith(t, exitNotFound, "no_proof")
	p.run("proof", "show", "newest", "-o", "json").failedWith(t, exitUsage, "usage")

	public, err := os.ReadFile(filepath.Join(p.dir, "sign.key.pub"))
	p.must(err)
	if r := p.run("proof", "key"); r.exit != 0 || r.stdout != string(public) {
		t.Errorf("%+v", r)
	}
}

// What was exported is checked with the public key alone.
func TestProofOffline(t *testing.T) {
	t.Parallel()
	p := newProofSite(t)
	var files []string
	for _, id := range p.threeProofs() {
		r := p.run("proof", "export", id, "-o", "json")
		files = append(files, filepath.Join(p.dir, id+".json"))
		p.must(os.WriteFile(files[len(files)-1], []byte(r.stdout), 0o600))
	}
	key, other := filepath.Join(p.dir, "sign.key.pub"), p.newKey("other.key")
	alone := func(args ...string) result {
		return inProcess(commands, []string{"SALVOR_CONFIG=/nowhere.yaml"}, append([]string{"proof", "verify"}, args...)...)
	}
	v := decoded[checkedProofs](t, alone(append(files, "--public-key", other, "--public-key", key, "-o", "json")...).stdout)
	if !v.OK || len(v.Proofs) != 3 || v.Proofs[0].Previous != linkNone || v.Proofs[1].Previous != linkOK || v.Proofs[2].Backup != linkUnknown || v.Proofs[2].Proven || !v.Proofs[1].Proven {
		t.Errorf("%+v", v)
	}
	if r := alone(files[2], "--public-key", key); r.exit != 0 || !strings.Contains(r.stdout, "valid") {
		t.Errorf("one without those before it: %+v", r)
	}
	good, err := os.ReadFile(files[1])
	p.must(err)
	unsigned, _, found := bytes.Cut(good, []byte(`"signatures":`))
	if !found {
		t.Fatalf("%s", good)
	}
	bad := filepath.Join(p.dir, "bad.json")
	for what, c := range map[string]struct {
		data []byte
		key  string
		says string
	}{
		"another key":   {good, other, "another key"},
		"changed":       {bytes.Replace(good, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1), key, "forged"},
		"not signed":    {append(bytes.Clone(unsigned), `"signatures":[]}`...), key, "not signed"},
		"no envelope":   {[]byte("{}\n"), key, "payloadType"},
		"cut":           {good[:len(good)/2], key, "cannot be read"},
		"empty":         {nil, key, "cannot be read"},
		"of other type": {bytes.Replace(good, []byte("in-toto"), []byte("out-of"), 1), key, "payloadType"},
	} {
		p.must(os.WriteFile(bad, c.data, 0o600))
		if r := alone(bad, "--public-key", c.key); r.exit != exitProblem || !strings.Contains(r.stdout, c.says) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	// A changed one breaks the chain as well.
	p.must(os.WriteFile(bad, bytes.Replace(good, []byte(`"sig":"`), []byte(`"sig":"AAAA`), 1), 0o600))
	if r := alone(bad, files[2], "--public-key", key); r.exit != exitProblem || !strings.Contains(r.stdout, "is not what it was") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{{}, {files[0]}, {files[0], "--public-key", files[0]}, {files[0], "--public-key", filepath.Join(p.dir, "sign.key")}, {"/nowhere.json", "--public-key", key}, {files[0], "--all"}} {
		if r := alone(args...); r.exit != exitUsage {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// What is missing, changed or unsigned in the repository is told.
func TestProofVerifyAll(t *testing.T) {
	t.Parallel()
	p := newProofSite(t)
	ids := p.threeProofs()
	all := func(args ...string) (checkedProofs, result) {
		t.Helper()
		r := p.run(append([]string{"proof", "verify", "-o", "json"}, args...)...)
		return decoded[checkedProofs](t, r.stdout), r
	}
	if v, r := all("--all"); r.exit != 0 || !v.OK || len(v.Proofs) != 3 || v.Proofs[2].Previous != linkOK || v.Proofs[2].Backup != linkOK || len(v.Forks) > 0 {
		t.Errorf("%+v", r)
	}
	if v, r := all(ids[1]); r.exit != 0 || len(v.Proofs) != 1 || v.Proofs[0].ID != ids[1] || v.Proofs[0].Previous != linkOK {
		t.Errorf("%+v", r)
	}
	p.run("proof", "verify", ids[1], "20261124T060000Z-0000ff", "-o", "json").failedWith(t, exitNotFound, "no_proof")

	// The backup is another one, and then it is gone.
	head := filepath.Join(p.dir, "repo", catalog.HeadName(p.place, p.backups[0]))
	data, err := os.ReadFile(head)
	p.must(err)
	p.must(os.WriteFile(head, append(data, 0), 0o600))
	if v, r := all(ids[0]); r.exit != exitProblem || v.Proofs[0].Backup != linkDiffers {
		t.Errorf("another head: %+v", r)
	}
	p.must(os.Remove(head))
	if v, r := all(ids[0]); r.exit != 0 || v.Proofs[0].Backup != linkMissing {
		t.Errorf("no head: %+v", r)
	}

	// A proof is damaged, and then it is gone.
	data, err = os.ReadFile(p.object(ids[1]))
	p.must(err)
	data[len(data)/2] ^= 1
	p.must(os.WriteFile(p.object(ids[1]), data, 0o600))
	if v, r := all("--all"); r.exit != exitProblem || len(v.Unreadable) != 1 || v.Proofs[1].Previous != linkUnreadable {
		t.Errorf("a damaged one: %+v", r)
	}
	if r := p.run("proof", "list"); r.exit != exitProblem || strings.Count(r.stdout, "\n") != 3 || !strings.Contains(r.stderr, ids[1]) {
		t.Errorf("a damaged one in the list: %+v", r)
	}
	p.must(os.Remove(p.object(ids[1])))
	if v, r := all("--all"); r.exit != exitProblem || len(v.Unreadable) != 0 || v.Proofs[1].Previous != linkMissing {
		t.Errorf("one that is gone: %+v", r)
	}

	p.must(os.Remove(p.object(ids[2])))
	p.keep(1, catalog.Proof{Kind: catalog.VerifyProof, Level: catalog.VerifyObjects, OK: true})
	p.keep(1, catalog.Proof{Kind: catalog.VerifyProof, Level: catalog.VerifyObjects, OK: true})
	if v, _ := all("--all"); len(v.Forks) != 0 || len(v.Proofs) != 3 {
		t.Errorf("%+v", v)
	}

	// A configuration without a key keeps proofs all the same.
	text, err := os.ReadFile(p.file)
	p.must(err)
	p.must(os.WriteFile(p.file, bytes.Replace(text, []byte("proof: {key: {file: sign.key}}\n"), nil, 1), 0o600))
	id := p.keep(1, catalog.Proof{Kind: catalog.VerifyProof, Level: catalog.VerifyObjects, OK: true})
	if v, r := all(id, "--public-key", filepath.Join(p.dir, "sign.key.pub")); r.exit != exitProblem || v.Proofs[0].Signature != signatureNone {
		t.Errorf("one that is not signed: %+v", r)
	}
	if r := p.run("proof", "list"); r.exit != 0 || strings.Count(r.stdout, "unchecked") != 3 || strings.Count(r.stdout, "unsigned") != 1 {
		t.Errorf("without a key: %+v", r)
	}
	p.run("proof", "verify", "--all", "-o", "json").failedWith(t, exitUsage, "no_proof_key")
	p.run("proof", "key", "-o", "json").failedWith(t, exitUsage, "no_proof_key")
}

// Two proofs that name the same one are a fork, which is told and is no problem.
func TestProofFork(t *testing.T) {
	t.Parallel()
	c := chain{map[string]string{}, map[string]int{}, true}
	first := catalog.SignedProof{Proof: catalog.Proof{ID: "1"}, Digest: "d1"}
	c.add(first)
	for _, id := range []string{"2", "3"} {
		p := catalog.SignedProof{Proof: catalog.Proof{ID: id, Previous: &catalog.ProofRef{ID: "1", Digest: "d1"}}, Digest: "d" + id}
		c.add(p)
		v := checkedProof{}
		if c.link(p, &v); v.Previous != linkOK || len(v.Problems) > 0 {
			t.Errorf("%+v", v)
		}
	}
	if d := cmp.Diff([]string{"1"}, c.forks()); d != "" {
		t.Error(d)
	}
}

// The how-to's way to check a proof without Salvor works.
func TestProofWithOpenSSL(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sh", "jq", "openssl", "base64"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	_, page, found := strings.Cut(readPage(t, "docs/how-to/proofs.md"), "<!-- TestProofWithOpenSSL runs this. -->\n\n```sh\n")
	script, _, ended := strings.Cut(page, "```")
	if !found || !ended {
		t.Fatal("the page has no such block")
	}
	p := newProofSite(t)
	id := p.threeProofs()[1]
	p.must(os.WriteFile(filepath.Join(p.dir, "proof.json"), []byte(p.run("proof", "export", id).stdout), 0o600))
	p.must(os.WriteFile(filepath.Join(p.dir, "salvor.proof.pub"), []byte(p.run("proof", "key").stdout), 0o600))
	check := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
		cmd.Dir = p.dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := check(); err != nil || !strings.Contains(out, "Signature Verified Successfully") {
		t.Errorf("%v: %s", err, out)
	}
	payload, err := os.ReadFile(filepath.Join(p.dir, "payload"))
	if err != nil || !strings.Contains(string(payload), `"predicate":{"format_version":1,"id":"`+id) {
		t.Errorf("%v: %s", err, payload)
	}
	p.must(os.Rename(p.newKey("other.key"), filepath.Join(p.dir, "salvor.proof.pub")))
	if out, err := check(); err == nil {
		t.Errorf("another key checks it, too: %s", out)
	}
}
