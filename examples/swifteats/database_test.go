package swifteats_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/examples/swifteats"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// open makes an empty database and opens a session in it.
func open(t *testing.T, c *pgtest.Cluster, name string) *conn.Conn {
	t.Helper()
	c.Exec("create database " + name)
	cfg := c.Config()
	cfg.Database = name
	db, err := conn.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// filled is open with a schema and a past.
func filled(t *testing.T, c *pgtest.Cluster, name string, orders int, seed int64) *conn.Conn {
	t.Helper()
	db := open(t, c, name)
	if err := swifteats.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if err := swifteats.Fill(t.Context(), db, orders, seed); err != nil {
		t.Fatal(err)
	}
	return db
}

// text is the one value of a query, as text.
func text(t *testing.T, db *conn.Conn, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := db.Row(t.Context(), sql, args, &s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func fingerprint(t *testing.T, db *conn.Conn) string {
	t.Helper()
	return text(t, db, "select string_agg(f::text, e'\\n') from ("+swifteats.FingerprintQuery+") f")
}

func TestFill(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	empty := open(t, c, "empty")
	if err := swifteats.Create(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	a := filled(t, c, "a", 1200, 1)
	want := fingerprint(t, a)

	// Filling takes indexes and keys away for a while.
	const definitions = `select string_agg(d, e'\n' order by d) from (
		select indexdef from pg_indexes where schemaname = 'public'
		union all
		select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) || convalidated
		  from pg_constraint where connamespace = 'public'::regnamespace) all_definitions (d)`
	if diff := cmp.Diff(text(t, empty, definitions), text(t, a, definitions)); diff != "" {
		t.Errorf("Fill changed the schema (-empty +filled):\n%s", diff)
	}

	if got := fingerprint(t, filled(t, c, "b", 1200, 1)); got != want {
		t.Errorf("the same seed gave other data:\n%s", cmp.Diff(want, got))
	}
	if got := fingerprint(t, filled(t, c, "c", 1200, 2)); got == want {
		t.Error("another seed gave the same data")
	}

	var tables []string
	for line := range strings.Lines(want) {
		name, rest, _ := strings.Cut(strings.Trim(line, "(\n"), ",")
		if rows, _, _ := strings.Cut(rest, ","); rows == "0" {
			t.Errorf("%s is empty", name)
		}
		tables = append(tables, name)
	}
	wantTables := []string{"couriers", "customers", "daily_revenue", "deliveries", "menu_items", "orders", "payments", "restaurants"}
	if diff := cmp.Diff(wantTables, tables); diff != "" {
		t.Errorf("relations in the fingerprint (-want +got):\n%s", diff)
	}

	for what, sql := range map[string]string{
		"orders asked for":               `select (count(*) = 1200)::text from public.orders`,
		"items that add up":              `select bool_and(subtotal = (select sum((i->>'quantity')::int * (i->>'price')::numeric) from jsonb_array_elements(items) i))::text from public.orders`,
		"a payment unless just placed":   `select bool_and((o.status = 'placed') = (p.id is null))::text from public.orders o left join public.payments p on p.order_id = o.id`,
		"payments of what was due":       `select bool_and(p.amount = o.total)::text from public.orders o join public.payments p on p.order_id = o.id`,
		"a delivery when on the road":    `select bool_and((o.status in ('dispatched', 'delivered')) = (d.order_id is not null))::text from public.orders o left join public.deliveries d on d.order_id = o.id`,
		"couriers' counts":               `select (sum(deliveries) = (select count(*) from public.deliveries where delivered_at is not null))::text from public.couriers`,
		"orders still open":              `select (count(*) > 0)::text from public.open_orders`,
		"rows too long for a page alone": `select (pg_relation_size(reltoastrelid) > 0)::text from pg_class where oid = 'public.restaurants'::regclass`,
	} {
		if got := text(t, a, sql); got != "true" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	db := filled(t, pgtest.New(t, pgtest.Options{}), "swifteats", 200, 1)
	before := fingerprint(t, db)
	do := func(sql string) {
		t.Helper()
		if err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}

	do("update public.couriers set deliveries = deliveries + 1 where id = (select id from public.couriers limit 1)")
	after := fingerprint(t, db)
	if after == before {
		t.Error("one value changed, the fingerprint did not")
	}
	do("update public.couriers set deliveries = deliveries - 1 where id = (select id from public.couriers order by ctid desc limit 1)")
	do("cluster public.couriers using couriers_pkey")
	if got := fingerprint(t, db); got != before {
		t.Errorf("the same rows in another order:\n%s", cmp.Diff(before, got))
	}
	do("set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set extra_float_digits = -3")
	if got := fingerprint(t, db); got != before {
		t.Errorf("the fingerprint depends on the session:\n%s", cmp.Diff(before, got))
	}
}

func TestRunAgainstPostgreSQL(t *testing.T) {
	t.Parallel()
	db := filled(t, pgtest.New(t, pgtest.Options{}), "swifteats", 200, 1)
	counts := "select (select count(*) from public.payments) || ' paid, ' || (select count(*) from public.deliveries) || ' dispatched, ' ||" +
		" (select sum(deliveries) from public.couriers) || ' delivered, ' || (select count(*) from public.payments where status = 'refunded') || ' cancelled'"
	if err := db.Exec(t.Context(), "truncate public.payments, public.deliveries; update public.couriers set deliveries = 0"); err != nil {
		t.Fatal(err)
	}

	var acknowledged []string
	stats, err := swifteats.Run(t.Context(), db, swifteats.Options{Rate: 1e6, Orders: 120, Acknowledged: func(o swifteats.Order) {
		acknowledged = append(acknowledged, o.ID)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, db, "select string_agg(id::text, ' ' order by number) from public.orders where placed_at >= '2026-01-01'"); got != strings.Join(acknowledged, " ") {
		t.Error("the orders in the database are not those acknowledged, in that order")
	}
	slices.Sort(acknowledged)
	if n := len(slices.Compact(acknowledged)); n != 120 || stats.Placed != 120 {
		t.Errorf("%d different orders acknowledged, %d placed, want 120", n, stats.Placed)
	}
	if got, want := text(t, db, counts), stats.String(); !strings.HasSuffix(want, got) {
		t.Errorf("the database has %s; the run counted %s", got, want)
	}
}
