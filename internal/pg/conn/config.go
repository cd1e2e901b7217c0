package conn

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Config says which server to connect to, and as whom. A field that is empty
// takes its value from DSN, then from the PG* environment, the service and
// password files, then from libpq's defaults.
type Config struct {
	// DSN is a connection URL or a keyword/value string, as libpq takes them,
	// with everything that has no field of its own, as sslmode. Fields win over it.
	DSN string
	// Host is a name, an address, or the directory of a Unix socket.
	Host     string
	Port     int
	User     string
	Password string
	Database string
	// ConnectTimeout bounds the making of a connection, login included. Zero:
	// what DSN says, or else ten seconds.
	ConnectTimeout time.Duration
	// ApplicationName is shown in pg_stat_activity. Default: salvor.
	ApplicationName string
}

const (
	defaultConnectTimeout = 10 * time.Second
	defaultApplication    = "salvor"
)

// ParseDSN reads a connection URL or a keyword/value string, with the PG*
// environment and the files it names for whatever is missing there, and gives
// the parts. The string itself is kept in DSN. No error shows it, as it may
// hold a password.
func ParseDSN(dsn string) (Config, error) {
	p, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return Config{}, parseError(err)
	}
	c := fieldsOf(p)
	c.DSN = dsn
	return c, nil
}

// fieldsOf takes the fields of Config out of what the driver understood.
func fieldsOf(p *pgconn.Config) Config {
	return Config{
		Host: p.Host, Port: int(p.Port), User: p.User, Password: p.Password, Database: p.Database,
		ConnectTimeout: p.ConnectTimeout, ApplicationName: p.RuntimeParams["application_name"],
	}
}

// parseError says what is wrong with a connection string without showing any
// of it: a string that can't be parsed can't be stripped of its password with
// certainty. The driver's text is "cannot parse `STRING`: WHY (DETAIL)".
func parseError(err error) error {
	var pe *pgconn.ParseConfigError
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); errors.As(err, &pe) && i >= 0 {
		why, _, _ := strings.Cut(text[i+len("`: "):], " (")
		if !strings.Contains(pe.ConnString, why) {
			return fmt.Errorf("the connection string is no URL or keyword/value list that PostgreSQL would take: %s", why)
		}
	}
	return errors.New("the connection string is no URL or keyword/value list that PostgreSQL would take")
}

// driverConfig gives the driver's configuration: DSN, with the fields laid over it.
func (c Config) driverConfig() (*pgx.ConnConfig, error) {
	dsn := c.DSN
	if dsn != "" {
		p, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return nil, parseError(err)
		}
		c = c.without(fieldsOf(p))
	}
	if c.Port < 0 || c.Port > 65535 {
		return nil, fmt.Errorf("%d is no port", c.Port)
	}
	dsn = overlay(dsn, c)
	p, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, parseError(err)
	}
	return p, nil
}

// without empties the fields that say what other says already. Only real
// differences are laid over a DSN, so that one with several hosts stays whole.
func (c Config) without(other Config) Config {
	same := func(a *string, b string) {
		if *a == b {
			*a = ""
		}
	}
	same(&c.Host, other.Host)
	same(&c.User, other.User)
	same(&c.Password, other.Password)
	same(&c.Database, other.Database)
	if c.Port == other.Port {
		c.Port = 0
	}
	return c
}

// overlay adds the fields to a connection string of either form, where the
// last value of a keyword counts.
func overlay(dsn string, c Config) string {
	port := ""
	if c.Port != 0 {
		port = strconv.Itoa(c.Port)
	}
	isURL := strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
	var b strings.Builder
	b.WriteString(dsn)
	sep := " "
	if isURL {
		sep = "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
	}
	for _, f := range []struct{ key, value string }{
		{"host", c.Host}, {"port", port}, {"user", c.User}, {"password", c.Password}, {"dbname", c.Database},
	} {
		switch {
		case f.value == "":
		case isURL:
			// To libpq a plus sign is one, and no space.
			b.WriteString(sep + f.key + "=" + strings.ReplaceAll(url.QueryEscape(f.value), "+", "%20"))
			sep = "&"
		default:
			b.WriteString(sep + f.key + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(f.value) + "'")
		}
	}
	return b.String()
}

// Address gives "host:port", or the path of the Unix socket, for people.
func (c Config) Address() string {
	host, port := c.Host, cmp.Or(c.Port, 5432)
	if strings.HasPrefix(host, "/") {
		return fmt.Sprintf("%s/.s.PGSQL.%d", strings.TrimRight(host, "/"), port)
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// String names the server, the user and the database; never the password.
func (c Config) String() string {
	return fmt.Sprintf("%s as %s, database %s", c.Address(), c.User, cmp.Or(c.Database, c.User))
}

// GoString is String, so that %#v does not show a password either.
func (c Config) GoString() string { return "conn.Config{" + c.String() + "}" }

// LogValue implements slog.LogValuer.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }
