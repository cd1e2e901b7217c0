package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/salvor-dr/salvor/internal/config"
)

func configurationChecks() []check {
	return []check{
		{
			name: "configuration", title: "configuration", probe: probeConfiguration,
			why: "everything else is read from it",
		},
		{
			name: "private_files", title: "private files", probe: probePrivateFiles,
			why: "whoever reads a key reads every backup; whoever writes to the configuration runs commands as PostgreSQL's user",
		},
		{
			name: "server_user", title: "what PostgreSQL's user can read", probe: probeServerUser,
			why: "archive_command runs as that user, and fails if it cannot read the configuration and the keys",
		},
		{
			name: "proof_key", title: "key that signs proofs", probe: probeProofKey,
			why: "what is not signed proves nothing to anybody who does not trust the repository",
		},
		{
			name: "copies", title: "number of repositories", probe: probeCopies,
			why: "of everything that matters there should be three copies, on two kinds of storage, one of them elsewhere",
		},
	}
}

func probeConfiguration(_ context.Context, e *examination, _ *examined, v *verdict) {
	c, err := config.Load(e.path, e.env)
	if err != nil {
		v.fail(err)
		return
	}
	e.c = c
	for _, r := range c.Repositories {
		e.repos = append(e.repos, &examined{Repository: r})
	}
	v.say("%s", c.File())
}

// probePrivateFiles looks at the files that hold secrets, and at the configuration.
func probePrivateFiles(_ context.Context, e *examination, _ *examined, v *verdict) {
	secrets := secretFiles(e.c)
	for _, path := range append(secrets, e.c.File()) {
		info, err := os.Stat(path)
		if err != nil {
			v.problem("put the file back from your copy, or correct the configuration", "%v", err)
			continue
		}
		mode, word := info.Mode().Perm(), shellWord(path)
		if mode&0o022 != 0 {
			v.problem("chmod go-w "+word, "%s can be changed by others than its owner (mode %04o)", path, mode)
		}
		if path != e.c.File() && mode&0o004 != 0 {
			v.problem("chmod o= "+word, "%s can be read by everybody on this host (mode %04o)", path, mode)
		}
	}
	if v.result == checkOK {
		v.say("%d with secrets, and the configuration", len(secrets))
	}
}

// secretFiles are the files with keys and passwords, each once.
func secretFiles(c *config.Config) []string {
	var files []string
	seen := map[string]bool{"": true}
	add := func(s config.Secret) {
		if !seen[s.File] {
			files = append(files, s.File)
		}
		seen[s.File] = true
	}
	for _, r := range c.Repositories {
		add(r.Key)
	}
	add(c.Postgres.Password)
	add(c.Proof.Key)
	return files
}

func probeServerUser(ctx context.Context, e *examination, _ *examined, v *verdict) {
	a, err := accountOf(e.c.Postgres.DataDir)
	if err != nil {
		v.skip("the data directory, whose owner it is, cannot be looked at: %v", err)
		return
	}
	if a.other {
		v.skip("it is %s, and only that user or root can try", a.name)
		return
	}
	e.account = a
	a.need(ctx, v, "-r", e.c.File())
	seen := map[string]bool{}
	for _, r := range e.c.Repositories {
		switch {
		case r.Key.File != "" && !seen[r.Key.File]:
			a.need(ctx, v, "-r", r.Key.File)
			seen[r.Key.File] = true
		case r.Key.Env != "":
			v.say("the key of repository %s is in the variable %s, which the server's environment must have too", r.Name, r.Key.Env)
		}
	}
	if v.result == checkOK {
		v.say("%s reads the configuration and the keys", a.name)
	}
}

// probeProofKey looks whether proofs are signed. Without, everything works.
func probeProofKey(ctx context.Context, e *examination, _ *examined, v *verdict) {
	signer, err := signerOf(ctx, e.c)
	switch {
	case err != nil:
		v.warn("put the file back, or, if it is lost, draw a new one: "+e.command("init"), "proofs are kept without a signature: %v", err)
	case signer == nil:
		v.warn(noSignerFix(e.c), "there is none: proofs are kept without a signature")
	default:
		v.say("%s; `salvor proof key` prints the public one", signer.Public().ID()[:16])
	}
}

func probeCopies(_ context.Context, e *examination, _ *examined, v *verdict) {
	var names []string
	for _, r := range e.repos {
		names = append(names, r.Name)
	}
	if len(names) == 1 {
		v.warn(fmt.Sprintf("add a second repository, on another machine, to %s, and run: %s", e.c.File(), e.command("init")),
			"there is only one, %s", names[0])
		return
	}
	v.say("%s", strings.Join(names, ", "))
}

// command is a command line of this program for the same configuration.
func (e *examination) command(words string) string {
	return fmt.Sprintf("salvor -c %s %s", shellWord(e.c.File()), words)
}
