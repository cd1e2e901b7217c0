package swifteats

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// How the load behaves; see [Run].
const (
	inKitchen   = 8  // orders between one that is paid and its dispatch
	onTheRoad   = 8  // orders between a dispatch and its delivery
	cancelEvery = 25 // about one order in so many is cancelled instead of dispatched
	menuSize    = 15 // positions on each menu, as data.sql makes them
)

// Order is one order that the database has acknowledged.
type Order struct {
	ID     string // its key in orders, a uuid in the usual form
	Number int    // counts the orders of one Run, from 1
}

// Options of [Run].
type Options struct {
	// Rate is how many orders are placed a second, at most; more than zero.
	Rate float64

	// Orders ends the run after so many; zero goes on until the context ends.
	Orders int

	// Seed makes two runs do the same, down to the keys of the orders, so one
	// seed serves one database only once. Zero takes a random one.
	Seed uint64

	// Acknowledged is told of each order as soon as the commit that placed it
	// has returned, and before anything else happens. It may be nil.
	Acknowledged func(Order)
}

func (o Options) validate() error {
	if !(o.Rate > 0) { // not a number is refused too
		return fmt.Errorf("rate of %v orders a second: want more than zero", o.Rate)
	}
	if o.Orders < 0 {
		return fmt.Errorf("%d orders asked for: want zero or more", o.Orders)
	}
	return nil
}

// Stats counts the transactions that were acknowledged.
type Stats struct {
	Placed, Paid, Dispatched, Delivered, Cancelled int
}

// String gives "3 placed, 3 paid, 1 dispatched, 0 delivered, 0 cancelled".
func (s Stats) String() string {
	return fmt.Sprintf("%d placed, %d paid, %d dispatched, %d delivered, %d cancelled",
		s.Placed, s.Paid, s.Dispatched, s.Delivered, s.Cancelled)
}

// Run is a day at SwiftEats, one transaction at a time: at each tick an order is
// placed and paid, one paid earlier goes to a courier or is cancelled, and one on
// the road is delivered. It needs a database that [Fill] has filled. For more
// load, run several, each in a session of its own.
//
// It returns nil when Options.Orders are placed or the context ends, and
// otherwise the first error of the database; the order that was being placed
// then may be there or not. Orders still open at the end stay open.
func Run(ctx context.Context, db Execer, opts Options) (Stats, error) {
	if err := opts.validate(); err != nil {
		return Stats{}, fmt.Errorf("running SwiftEats: %w", err)
	}
	d := newDay(db, opts)
	tick := time.NewTicker(max(time.Duration(float64(time.Second)/opts.Rate), 1))
	defer tick.Stop()
	for opts.Orders == 0 || d.stats.Placed < opts.Orders {
		select {
		case <-ctx.Done():
			return d.stats, nil
		case <-tick.C:
		}
		if err := d.tick(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return d.stats, nil
			}
			return d.stats, fmt.Errorf("running SwiftEats: %w", err)
		}
	}
	return d.stats, nil
}

// day is the state of one Run.
type day struct {
	db           Execer
	rnd          *rand.Rand
	source       *rand.ChaCha8
	acknowledged func(Order)
	kitchen      []string // paid orders, oldest first
	road         []string // dispatched orders, oldest first
	stats        Stats
}

func newDay(db Execer, opts Options) *day {
	var seed [32]byte
	if opts.Seed == 0 {
		_, _ = crand.Read(seed[:]) // never fails
	} else {
		copy(seed[:], strconv.FormatUint(opts.Seed, 16))
	}
	source := rand.NewChaCha8(seed)
	return &day{db: db, rnd: rand.New(source), source: source, acknowledged: opts.Acknowledged}
}

// The statements of the load. The key at or after a random one, or else the
// first, picks a row without knowing how many there are.
const (
	placeSQL = `select public.place_order($1,
	  coalesce((select id from public.customers where id >= $2 order by id limit 1), (select id from public.customers order by id limit 1)),
	  coalesce((select id from public.restaurants where id >= $3 order by id limit 1), (select id from public.restaurants order by id limit 1)),
	  $4, $5)`
	dispatchSQL = `select public.dispatch_order($1,
	  coalesce((select id from public.couriers where id >= $2 order by id limit 1), (select id from public.couriers order by id limit 1)),
	  $3, $4)`
	paySQL     = `select public.pay_order($1, $2)`
	deliverSQL = `select public.deliver_order($1)`
	cancelSQL  = `select public.cancel_order($1)`
)

// tick does what is due once for each new order.
func (d *day) tick(ctx context.Context) error {
	id, err := d.place(ctx)
	if err != nil {
		return err
	}
	method := []string{"card", "card", "wallet", "voucher"}[d.rnd.IntN(4)]
	if err := d.do(ctx, &d.stats.Paid, "paying", id, paySQL, method); err != nil {
		return err
	}
	d.kitchen = append(d.kitchen, id)
	if err := d.dispatch(ctx); err != nil {
		return err
	}
	return d.deliver(ctx)
}

func (d *day) place(ctx context.Context) (string, error) {
	id := d.uuid()
	tip := fmt.Sprintf("%d.%02d", d.rnd.IntN(4), d.rnd.IntN(100))
	if err := d.do(ctx, &d.stats.Placed, "placing", id, placeSQL, d.uuid(), d.uuid(), d.lines(), tip); err != nil {
		return "", err
	}
	if d.acknowledged != nil {
		d.acknowledged(Order{ID: id, Number: d.stats.Placed})
	}
	return id, nil
}

// dispatch hands the oldest order of the kitchen to a courier, or cancels it.
func (d *day) dispatch(ctx context.Context) error {
	if len(d.kitchen) <= inKitchen {
		return nil
	}
	id := d.kitchen[0]
	d.kitchen = d.kitchen[1:]
	if d.rnd.IntN(cancelEvery) == 0 {
		return d.do(ctx, &d.stats.Cancelled, "cancelling", id, cancelSQL)
	}
	latitude := strconv.FormatFloat(51.3+d.rnd.Float64()*0.4, 'f', 6, 64)
	longitude := strconv.FormatFloat(d.rnd.Float64()*0.5-0.3, 'f', 6, 64)
	d.road = append(d.road, id)
	return d.do(ctx, &d.stats.Dispatched, "dispatching", id, dispatchSQL, d.uuid(), latitude, longitude)
}

// deliver ends the oldest order on the road.
func (d *day) deliver(ctx context.Context) error {
	if len(d.road) <= onTheRoad {
		return nil
	}
	id := d.road[0]
	d.road = d.road[1:]
	return d.do(ctx, &d.stats.Delivered, "delivering", id, deliverSQL)
}

// do runs one transaction about an order and counts it.
func (d *day) do(ctx context.Context, count *int, doing, id, sql string, args ...any) error {
	if err := d.db.Exec(ctx, sql, append([]any{id}, args...)...); err != nil {
		return fmt.Errorf("%s order %s: %w", doing, id, err)
	}
	*count++
	return nil
}

// lines is a basket of one to four different dishes, as place_order takes it.
func (d *day) lines() string {
	var b strings.Builder
	for i, p := range d.rnd.Perm(menuSize)[:1+d.rnd.IntN(4)] {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"position":%d,"quantity":%d}`, p+1, 1+d.rnd.IntN(3))
	}
	return "[" + b.String() + "]"
}

// uuid gives a random UUID (RFC 9562, version 4) from the seeded source.
func (d *day) uuid() string {
	var u [16]byte
	_, _ = d.source.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
