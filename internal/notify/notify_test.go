package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hub is a web server that notes what it is sent.
type hub struct {
	sync.Mutex
	got   []string
	fails int // so many requests are answered with 503 first
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.Lock()
	defer h.Unlock()
	body, _ := io.ReadAll(r.Body)
	if h.fails > 0 {
		h.fails--
		http.Error(w, "busy\nnow", http.StatusServiceUnavailable)
		return
	}
	if r.URL.Path == "/gone" {
		http.Error(w, "no such hook", http.StatusNotFound)
	}
	var e Event
	if len(body) > 0 && (json.Unmarshal(body, &e) != nil || r.Header.Get("Content-Type") != "application/json") {
		e.Event = "not JSON"
	}
	h.got = append(h.got, r.Method+" "+r.URL.Path+" "+e.Event)
}

func (h *hub) taken() []string {
	h.Lock()
	defer h.Unlock()
	defer func() { h.got = nil }()
	return h.got
}

func serve(t *testing.T, h *hub) (at func(path string) Address) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return func(path string) Address {
		return func(context.Context) (string, error) { return s.URL + path, nil }
	}
}

func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	h := &hub{}
	at := serve(t, h)
	for _, tc := range []struct {
		target Target
		event  Event
		told   bool
	}{
		{Target{Webhook: at("/")}, Event{Command: "backup", State: Start}, true},
		{Target{Webhook: at("/")}, Event{Command: "expire", State: Failure}, true},
		{Target{Webhook: at("/"), On: []State{Failure}}, Event{Command: "backup", State: Start}, false},
		{Target{Webhook: at("/"), On: []State{Failure, Start}}, Event{Command: "backup", State: Start}, true},
		{Target{Webhook: at("/"), For: []string{"verify"}}, Event{Command: "backup", State: Start}, false},
		{Target{Webhook: at("/"), For: []string{"verify"}}, Event{Command: "verify", State: Start}, true},
		{Target{Webhook: at("/"), For: []string{"verify"}, On: []State{Failure}}, Event{Command: "notify", State: Test}, true},
		{Target{Ping: at("/")}, Event{Command: "backup", State: Start}, false},
		{Target{Ping: at("/")}, Event{Command: "backup", State: Failure}, false},
		{Target{Ping: at("/")}, Event{Command: "backup", State: Success}, true},
		{Target{Ping: at("/"), For: []string{"verify"}}, Event{Command: "backup", State: Success}, false},
		{Target{Ping: at("/")}, Event{Command: "notify", State: Test}, true},
	} {
		if failed := Tell(t.Context(), []Target{tc.target}, tc.event); len(failed) > 0 {
			t.Error(failed)
		}
		var want []string
		switch {
		case tc.told && tc.target.Ping != nil:
			want = []string{"GET / "}
		case tc.told:
			want = []string{fmt.Sprintf("POST / %s.%s", tc.event.Command, tc.event.State)}
		}
		if d := cmp.Diff(want, h.taken()); d != "" {
			t.Errorf("%+v: %s", tc.event, d)
		}
	}
}

func TestProgramReadsTheEvent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	code := 3
	want := Event{FormatVersion: 1, Event: "backup.failure", Command: "backup", State: Failure, Cluster: "shop", Host: "db1", At: time.Unix(1764000000, 0).UTC(),
		Seconds: 1.5, ExitCode: &code, Error: &Fault{"problem_found", "one page is damaged", "run pg_amcheck"}, Result: json.RawMessage(`{"id":"x"}`)}
	failed := Tell(t.Context(), []Target{{Name: "program", Command: []string{"sh", "-c", "cat > event"}, Dir: dir}}, want)
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	data, err := os.ReadFile(filepath.Join(dir, "event"))
	if err != nil {
		t.Fatal(err)
	}
	var got Event
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFaultsNameTheTarget(t *testing.T) {
	t.Parallel()
	h := &hub{}
	at := serve(t, h)
	dead := httptest.NewServer(h)
	dead.Close()
	failed := Tell(t.Context(), []Target{
		{Name: "notify[0]", Command: []string{"sh", "-c", "echo pager is off >&2; exit 4"}},
		{Name: "notify[1]", Webhook: at("/gone")},
		{Name: "notify[2]", Webhook: func(context.Context) (string, error) { return "", errors.New("no such file") }},
		{Name: "notify[3]", Ping: func(context.Context) (string, error) { return dead.URL + "/hush", nil }},
		{Name: "notify[4]", Webhook: at("/fine")},
		{Name: "notify[5]", Command: []string{"/no/such/program"}},
	}, Event{Command: "backup", State: Success})
	want := []string{"notify[0]: exit status 4: pager is off", "notify[1]: it answered 404 Not Found", "notify[2]: no such file", "notify[3]: ", "notify[5]: "}
	if len(failed) != len(want) {
		t.Fatalf("%d errors: %v", len(failed), failed)
	}
	for i, w := range want {
		if !strings.HasPrefix(failed[i].Error(), "telling "+w) || strings.Contains(failed[i].Error(), "hush") {
			t.Errorf("error %v, want %q", failed[i], w)
		}
	}
}

func TestTriedAgain(t *testing.T) {
	t.Parallel()
	h := &hub{fails: attempts - 1}
	at := serve(t, h)
	if failed := Tell(t.Context(), []Target{{Name: "hook", Webhook: at("/")}}, Event{Command: "verify", State: Failure}); len(failed) > 0 {
		t.Error(failed)
	}
	if got := h.taken(); len(got) != 1 {
		t.Errorf("told %q", got)
	}
	h.fails = attempts
	failed := Tell(t.Context(), []Target{{Name: "hook", Webhook: at("/")}}, Event{Command: "verify", State: Failure})
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "503 Service Unavailable") || len(h.taken()) > 0 {
		t.Errorf("after %d refusals: %v", attempts, failed)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client leaves
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	failed := Tell(ctx, []Target{
		{Name: "program", Command: []string{"sleep", "600"}},
		{Name: "hook", Webhook: func(context.Context) (string, error) { return silent.URL, nil }},
	}, Event{Command: "backup", State: Start})
	if len(failed) != 2 {
		t.Error(failed)
	}
}

// The address is a secret: no error has it, and no other host is told it.
func TestAddressStaysSecret(t *testing.T) {
	t.Parallel()
	told := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told <- r.Method + " " + r.Referer() }))
	t.Cleanup(other.Close)
	for what, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"repeats the path": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no such hook: "+r.URL.String(), http.StatusNotFound)
		}, "it answered 404 Not Found"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/x", http.StatusFound) }, "it redirects"},
		"is no web server": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(conn, "what is %s?\r\n\r\n", r.URL)
			conn.Close()
		}, "its answer is none that HTTP knows"},
	} {
		s := httptest.NewServer(c.answer)
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			_, err := request(t.Context(), s.URL+"/services/HUSH?key=HUSH", method, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "HUSH") {
				t.Errorf("a server that %s, %s: %v", what, method, err)
			}
		}
		s.Close()
	}
	if len(told) > 0 {
		t.Errorf("another host was asked: %q", <-told)
	}
}
