//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/salvor-dr/salvor/internal/clock"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == meterArgument {
		os.Exit(meter(os.Args[2]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// run is the whole benchmark.
func run(ctx context.Context, args []string, env func(string) string) error {
	o, err := parseOptions(args, env)
	if err != nil {
		return err
	}
	if o.from != "" {
		return render(o)
	}
	b, err := open(ctx, o, clock.System())
	if err != nil {
		return err
	}
	if err := errors.Join(b.measureAll(ctx), b.close()); err != nil {
		return err
	}
	return b.report()
}

// render writes tables and page from the files of earlier runs.
func render(o options) error {
	var all results
	for i, name := range list(o.from) {
		r, err := readFile(name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if i == 0 {
			all = *r
		} else {
			all.join(r)
		}
	}
	return all.write(os.Stdout, o.page)
}

func readFile(name string) (*results, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return readResults(in)
}
