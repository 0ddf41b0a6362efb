package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"exazk/cluster"
)

func alive(context.Context) bool { return true }

// dead is a loop that does not answer.
func dead(ctx context.Context) bool {
	<-ctx.Done()
	return false
}

func answer(h http.Handler, method, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = "localhost:9180"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPaths(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "exazk_up 1\n") })
	full := newHandler(Options{Source: newStage(degraded()), Alive: alive, Metrics: metrics})
	bare := newHandler(Options{Source: newStage(degraded()), Alive: alive})
	for name, tt := range map[string]struct {
		handler      http.Handler
		method, path string
		code         int
		kind, body   string
	}{
		"page":                    {full, "GET", "/", 200, "text/html; charset=utf-8", "<title>ExaZK</title>"},
		"page, head":              {full, "HEAD", "/", 200, "text/html; charset=utf-8", ""},
		"script":                  {full, "GET", "/page.js", 200, "text/javascript; charset=utf-8", "EventSource"},
		"style":                   {full, "GET", "/page.css", 200, "text/css; charset=utf-8", "prefers-color-scheme"},
		"icon":                    {full, "GET", "/icon.svg", 200, "image/svg+xml", "<svg"},
		"status":                  {full, "GET", "/status", 200, "application/json", `"word":"unhealthy"`},
		"status is a line":        {full, "GET", "/status", 200, "application/json", "}\n"},
		"health":                  {full, "GET", "/healthz", 200, "text/plain; charset=utf-8", "ok\n"},
		"metrics":                 {full, "GET", "/metrics", 200, "", "exazk_up 1"},
		"metrics without any":     {bare, "GET", "/metrics", 404, "", ""},
		"events, head":            {full, "HEAD", "/events", 200, "text/event-stream", ""},
		"no such path":            {full, "GET", "/page/page.js", 404, "", ""},
		"nothing is posted":       {full, "POST", "/", 405, "", ""},
		"nothing is put":          {full, "PUT", "/status", 405, "", ""},
		"nothing is deleted":      {full, "DELETE", "/healthz", 405, "", ""},
		"nothing is posted there": {full, "POST", "/metrics", 405, "", ""},
		"no events are posted":    {full, "POST", "/events", 405, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := answer(tt.handler, tt.method, tt.path)
			if w.Code != tt.code || tt.kind != "" && w.Header().Get("Content-Type") != tt.kind || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("got %d, %s: %.300s", w.Code, w.Header().Get("Content-Type"), w.Body)
			}
			for header, want := range map[string]string{"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
				if !strings.HasPrefix(w.Header().Get(header), want) {
					t.Errorf("%s: %q", header, w.Header().Get(header))
				}
			}
		})
	}
}

// TestStatusIsTheView reads the JSON back.
func TestStatusIsTheView(t *testing.T) {
	type vip = struct {
		VIP        string
		Announcers []string
	}
	var vips struct{ Services []struct{ VIPs []vip } }
	body := answer(newHandler(Options{Source: newStage(degraded()), Alive: alive}), "GET", "/status").Body.Bytes()
	if err := json.Unmarshal(body, &vips); err != nil {
		t.Fatal(err)
	}
	if v := vips.Services[0].VIPs; len(v) != 3 || v[0].VIP != "10.20.255.1" || strings.Join(v[0].Announcers, " ") != "node2 node3" {
		t.Errorf("got %+v", v)
	}
}

// TestHost keeps a page of somebody else's from reading loopback under a name of its own.
func TestHost(t *testing.T) {
	h := newHandler(Options{Source: newStage(nominal()), Alive: alive})
	for host, want := range map[string][2]int{ // on loopback, elsewhere
		"localhost:9180": {200, 200}, "localhost": {200, 200}, "127.0.0.1:9180": {200, 200}, "[::1]:9180": {200, 200}, "[::1]": {200, 200},
		"rebound.example.org:9180": {421, 200}, "rebound.example.org": {421, 200}, "": {421, 200}, "localhost.example.org": {421, 200},
	} {
		for i, local := range []string{"127.0.0.1", "192.0.2.1"} {
			r := httptest.NewRequest("GET", "/status", nil)
			r.Host = host
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(local)})))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want[i] {
				t.Errorf("%q at %s: got %d, want %d", host, local, w.Code, want[i])
			}
		}
	}
}

func TestHealthzSaysThatTheLoopStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := answer(newHandler(Options{Source: newStage(nominal()), Alive: dead}), "GET", "/healthz")
		if w.Code != 503 || w.Body.String() != "the loop did not answer within 1s\n" || time.Since(start) != answerTime {
			t.Errorf("got %d after %v: %s", w.Code, time.Since(start), w.Body)
		}
	})
}

// event is one event of a stream.
type event struct{ name, data string }

// follow opens a stream and gives its events until it ends.
func follow(t *testing.T, url string) <-chan event {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Fatalf("got %s", resp.Status)
	}
	events := make(chan event, 1000)
	done := make(chan struct{})
	go func() { // ends with the test
		defer close(done)
		defer close(events)
		lines := bufio.NewScanner(resp.Body)
		var e event
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				events <- e
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		resp.Body.Close()
		<-done
	})
	return events
}

// next is the next event of that name.
func next(t *testing.T, events <-chan event, name string) string {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("the stream has ended")
			}
			if e.name == name {
				return e.data
			}
		case <-limit:
			t.Fatalf("no event %s", name)
		}
	}
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func serve(t *testing.T, o Options) string {
	t.Helper()
	s := httptest.NewServer(newHandler(o))
	t.Cleanup(s.Close)
	return s.URL
}

func TestStreamFollows(t *testing.T) {
	src := newStage(nominal())
	events := follow(t, serve(t, Options{Source: src, Alive: alive}))
	if hello := next(t, events, "hello"); !strings.Contains(hello, `"version":"`+pageVersion+`"`) {
		t.Errorf("got %s", hello)
	}
	if view := next(t, events, "view"); !strings.Contains(view, `"level":"nominal"`) {
		t.Errorf("got %s", view)
	}
	start := time.Now()
	src.show(degraded())
	if view := next(t, events, "view"); !strings.Contains(view, `"level":"degraded"`) {
		t.Errorf("got %s", view)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v", took)
	}
	if beat, err := time.Parse(time.RFC3339, next(t, events, "beat")); err != nil || time.Since(beat) > 5*time.Second {
		t.Errorf("beat %v, %v", beat, err)
	}
}

// TestStreamOfManyChanges gets few pictures, and the newest last.
func TestStreamOfManyChanges(t *testing.T) {
	src := newStage(nominal())
	events := follow(t, serve(t, Options{Source: src, Alive: alive}))
	next(t, events, "view")
	for range 1000 {
		src.show(degraded())
	}
	src.show(down())
	n := 1
	for !strings.Contains(next(t, events, "view"), `"level":"down"`) {
		n++
	}
	if n > 20 {
		t.Errorf("%d pictures", n)
	}
}

func TestStreamHasNoLineOfOthers(t *testing.T) {
	events := follow(t, serve(t, Options{Source: newStage(hostile()), Alive: alive}))
	var v map[string]any
	if err := json.Unmarshal([]byte(next(t, events, "view")), &v); err != nil || !strings.HasPrefix(v["observer"].(string), "<img") {
		t.Errorf("%v: %v", err, v)
	}
}

func TestFollowersAreBounded(t *testing.T) {
	url := serve(t, Options{Source: newStage(nominal()), Alive: alive})
	for range maxFollowers {
		next(t, follow(t, url), "view")
	}
	resp, err := client.Get(url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %s, %v", resp.Status, resp.Header)
	}
	if resp, err = client.Get(url + "/status"); err != nil || resp.StatusCode != 200 {
		t.Errorf("the rest: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

// hold follows until ctx is done.
func hold(t *testing.T, ctx context.Context, at netip.AddrPort) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+at.String()+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
}

// TestPlaceOfAFollowerThatLeftIsFree has more followers come and go than there are places.
func TestPlaceOfAFollowerThatLeftIsFree(t *testing.T) {
	s := &stream{picture: &picture{source: newStage(nominal())}, places: make(chan struct{}, 1)}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		s.follow(w, httptest.NewRequest("GET", "/events", nil).WithContext(ctx))
		if w.Code != 200 {
			t.Errorf("got %d", w.Code)
		}
	}
}

// TestFollowerThatDoesNotReadIsCutOff has its connection full of pictures.
func TestFollowerThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	v := nominal()
	v.Services[0].Nodes[0].Note = strings.Repeat("x", 1<<20)
	src := newStage(v)
	s := &stream{picture: &picture{source: src}, places: make(chan struct{}, 1)}
	server := httptest.NewServer(http.HandlerFunc(s.follow))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	eventually(t, time.Second, func() error {
		if len(s.places) == 0 {
			return errors.New("it does not follow")
		}
		return nil
	})
	eventually(t, writeTime+20*time.Second, func() error {
		v.At = v.At.Add(time.Second)
		src.show(v)
		if len(s.places) > 0 {
			return errors.New("it has its place still")
		}
		return nil
	})
}

// counting counts how often a picture is asked for.
type counting struct {
	*stage
	asked int
}

func (c *counting) View() (cluster.View, <-chan struct{}) {
	c.asked++
	return c.stage.View()
}

// TestPictureIsMadeOnceForAll however many look and however much changes, and anew while it lasts.
func TestPictureIsMadeOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &counting{stage: newStage(nominal())}
		p := &picture{source: src}
		for i, step := range []struct {
			wait  time.Duration
			show  bool
			asked int
		}{{0, false, 1}, {0, false, 1}, {0, true, 1}, {freshFor, false, 2}, {staleAfter - 1, false, 2}, {1, false, 3}, {freshFor, true, 4}} {
			time.Sleep(step.wait)
			if step.show {
				src.show(degraded())
			}
			if _, _, err := p.get(); err != nil || src.asked != step.asked {
				t.Errorf("step %d: asked for %d times, want %d; %v", i, src.asked, step.asked, err)
			}
		}
	})
}
