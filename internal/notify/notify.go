package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of a delivery: none holds a command up for long.
const (
	commandTime = time.Minute
	requestTime = 10 * time.Second
	attempts    = 3
	pause       = time.Second // after the first attempt, and twice that after the second
	answerMax   = 300         // bytes of what a program says that are repeated
)

// Target is one who is told: Command, Webhook or Ping is set.
type Target struct {
	Name    string   // in errors
	Command []string // program and arguments; the event is its standard input
	Dir     string   // where it runs
	Webhook Address  // the event is posted there
	Ping    Address  // asked for on success
	On      []State  // empty for all
	For     []string // commands; empty for all
}

// Address gives a URL, which may be a secret: no error here repeats it.
type Address func(ctx context.Context) (string, error)

// wants says whether the target is told of e.
func (t Target) wants(e Event) bool {
	switch {
	case e.State == Test:
		return true
	case len(t.For) > 0 && !slices.Contains(t.For, e.Command):
		return false
	case t.Ping != nil:
		return e.State == Success
	}
	return len(t.On) == 0 || slices.Contains(t.On, e.State)
}

// Tell tells all targets that want to know, at the same time, and returns when each was
// told or has failed, an error for each of these. It takes at most a minute.
func Tell(ctx context.Context, targets []Target, e Event) []error {
	e.FormatVersion, e.Event = 1, e.Command+"."+string(e.State)
	body, err := json.Marshal(e)
	if err != nil {
		return []error{fmt.Errorf("making a notification: %w", err)}
	}
	failed := make([]error, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		if t.wants(e) {
			all.Go(func() {
				if err := t.tell(ctx, body); err != nil {
					failed[i] = fmt.Errorf("telling %s: %w", t.Name, err)
				}
			})
		}
	}
	all.Wait()
	return slices.DeleteFunc(failed, func(err error) bool { return err == nil })
}

func (t Target) tell(ctx context.Context, body []byte) error {
	switch {
	case len(t.Command) > 0:
		return t.run(ctx, body)
	case t.Webhook != nil:
		return ask(ctx, t.Webhook, http.MethodPost, body)
	}
	return ask(ctx, t.Ping, http.MethodGet, nil)
}

func (t Target) run(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("it did not end within %s", commandTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, t.Command[0], t.Command[1:]...)
	cmd.Dir, cmd.Stdin = t.Dir, bytes.NewReader(body)
	cmd.WaitDelay = time.Second // a grandchild that keeps the pipe open must not keep us
	said := &beginning{max: answerMax}
	cmd.Stdout, cmd.Stderr = io.Discard, said
	err := cmd.Run()
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && said.String() != "":
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// ask makes a request, and makes it again where that may help.
func ask(ctx context.Context, to Address, method string, body []byte) error {
	address, err := to(ctx)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		again, err := request(ctx, address, method, body)
		if err == nil || !again || n == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(n) * pause):
		}
	}
}

func request(ctx context.Context, address, method string, body []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTime, fmt.Errorf("no answer within %s", requestTime))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return false, errors.New("its address is none")
	}
	req.Header.Set("User-Agent", "salvor")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	// To follow a redirection would tell another host the address, and may turn POST to GET.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return true, context.Cause(ctx)
		}
		return true, withoutAddress(err)
	}
	_ = res.Body.Close()
	// What else it says is not repeated: many servers repeat the path there.
	answer := fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode))
	switch res.StatusCode / 100 {
	case 2:
		return false, nil
	case 3:
		return false, fmt.Errorf("it redirects (%s), which is not followed: give the address that it redirects to", answer)
	}
	return res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500, fmt.Errorf("it answered %s", answer)
}

// withoutAddress gives what a request failed with, without the address and without what
// the server said.
func withoutAddress(err error) error {
	if of, ok := errors.AsType[*url.Error](err); ok { // it repeats the address
		err = of.Err
	}
	_, network := errors.AsType[net.Error](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	if network || certificate || errors.Is(err, io.EOF) || errors.Is(err, http.ErrSchemeMismatch) {
		return err
	}
	return errors.New("its answer is none that HTTP knows")
}

// beginning keeps the first max bytes, and takes the rest without keeping it.
type beginning struct {
	kept strings.Builder
	max  int
}

// Write implements io.Writer.
func (b *beginning) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), b.max-b.kept.Len())])
	return len(p), nil
}

// String gives it on one line.
func (b *beginning) String() string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(b.kept.String(), "?")), " ")
}
