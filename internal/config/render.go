package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Minimal is what a first salvor.yaml says. Empty fields are left out, which
// gives them their default.
type Minimal struct {
	Cluster      string
	Node, Zone   string
	Postgres     Postgres
	Repositories []Repository
	Proof        Proof
}

// Render writes a small, commented salvor.yaml. Parse reads the same values
// from it.
func Render(m Minimal) []byte {
	var b strings.Builder
	b.WriteString(`# Salvor: disaster recovery for PostgreSQL.
# All keys with their present values: salvor config show --effective
# After a change: salvor config validate

# Backups and WAL are kept under this name. Keep it the same on every host.
`)
	entry(&b, "", "cluster", m.Cluster)
	if m.Node != "" || m.Zone != "" {
		b.WriteString("\n# This host, and the failure domain it stands in.\nnode:\n")
		entry(&b, "  ", "name", m.Node)
		entry(&b, "  ", "zone", m.Zone)
	}
	b.WriteString("\npostgres:\n")
	renderPostgres(&b, m.Postgres)
	b.WriteString("\n# WAL is written to each of these, a backup to the first or where --repo says.\n# Lose every key, and the backups are lost:\n" +
		"# keep a copy of the keys somewhere else.\nrepositories:\n")
	for _, r := range m.Repositories {
		b.WriteString("  - name: " + quote(r.Name) + "\n")
		entry(&b, "    ", "url", r.URL)
		secretEntry(&b, "    ", "key", r.Key)
		if r.Encryption != AES256GCM {
			entry(&b, "    ", "encryption", r.Encryption)
		}
		if !r.Credentials.IsZero() {
			b.WriteString("    credentials:\n")
			secretEntry(&b, "      ", "access_key", r.Credentials.AccessKey)
			secretEntry(&b, "      ", "secret_key", r.Credentials.SecretKey)
		}
	}
	if !m.Proof.Key.IsZero() {
		b.WriteString("\n# Signs what restores and verifications have shown. Keep the public key somewhere\n# else: salvor proof key\nproof:\n")
		secretEntry(&b, "  ", "key", m.Proof.Key)
	}
	b.WriteString(`
# The defaults, to change where they do not fit:
# backup:
#   compression: zstd       # zstd, s2 or none
#   workers: 2
#   rate_limit: 0           # bytes a second, as 100MiB; 0 is no limit
#   checkpoint: fast        # or spread
#   archive_timeout: 1m
# wal:
#   compression: s2
`)
	return []byte(b.String())
}

func renderPostgres(b *strings.Builder, p Postgres) {
	entry(b, "  ", "data_dir", p.DataDir)
	entry(b, "  ", "bin_dir", p.BinDir)
	entry(b, "  ", "host", p.Host)
	if p.Port != 0 {
		entry(b, "  ", "port", strconv.Itoa(p.Port))
	}
	entry(b, "  ", "user", p.User)
	secretEntry(b, "  ", "password", p.Password)
	entry(b, "  ", "database", p.Database)
}

func entry(b *strings.Builder, indent, key, value string) {
	if value != "" {
		fmt.Fprintf(b, "%s%s: %s\n", indent, key, quote(value))
	}
}

func secretEntry(b *strings.Builder, indent, key string, s Secret) {
	if !s.IsZero() {
		fmt.Fprintf(b, "%s%s: %s\n", indent, key, s)
	}
}

// quote writes a text such that YAML reads it back as it is, plainly where
// that is safe. A quoted text of JSON is one of YAML too.
func quote(s string) string {
	plain, _ := regexp.MatchString(`^[A-Za-z0-9_./@]([A-Za-z0-9_./@:+-]*[A-Za-z0-9_./@+-])?$`, s)
	if plain && s[0] != '@' && !slices.Contains([]string{"null", "Null", "NULL"}, s) {
		return s
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string cannot fail
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
