package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"exazk/cluster"
)

const (
	// maxFollowers bounds the streams. The page of one more says so and tries again.
	maxFollowers = 48
	// beatEvery is how often a stream says that it is alive. The page takes three missing ones for a lost connection.
	beatEvery = 2 * time.Second
	// staleAfter is when a picture is made anew although nothing has changed: it says how long something is so already, and some
	// things are wrong only once they last.
	staleAfter = 5 * time.Second
	// freshFor is how long a picture will do although something has changed: a cluster that starts has a thousand changes a second,
	// and many may look.
	freshFor = 100 * time.Millisecond
	// quiet is the least time between two pictures of a stream: each is whole, and a cluster that starts has many changes.
	quiet = 150 * time.Millisecond
	// answerTime is how long the loop may take to answer; it needs microseconds.
	answerTime = time.Second
)

// Source is where the picture comes from. Its methods never wait for long, and may be called from many goroutines.
type Source interface {
	// View is the newest picture, not to be changed, and a channel that is closed once there is a newer one.
	View() (cluster.View, <-chan struct{})
}

// Options says what to serve.
type Options struct {
	Source  Source
	Alive   func(context.Context) bool // says whether the loop answered before the context was done
	Metrics http.Handler               // nil where there are none
}

//go:embed page
var files embed.FS

// policy allows what the page has of its own and nothing else: no inline script, no other host, no frame around it, and no text
// of others as markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// newHandler is everything that the server answers. A method other than GET and HEAD is answered with 405 by the multiplexer.
func newHandler(o Options) http.Handler {
	p := &picture{source: o.Source}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", p.status)
	mux.HandleFunc("GET /events", (&stream{picture: p, places: make(chan struct{}, maxFollowers)}).follow)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { healthz(w, r, o.Alive) })
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	for path, name := range map[string]string{"/{$}": "index.html", "/page.js": "page.js", "/page.css": "page.css", "/icon.svg": "icon.svg"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache") // what is kept is asked for: an upgrade has other files
			w.Header().Set("ETag", `"`+pageVersion+`"`)
			http.ServeFileFS(w, r, files, "page/"+name)
		})
	}
	return guard(mux)
}

// pageVersion tells the files of one version from those of another.
var pageVersion = func() string {
	sum := sha256.New()
	_ = fs.WalkDir(files, "page", func(path string, d fs.DirEntry, _ error) error { // what is embedded can be read
		if text, err := files.ReadFile(path); err == nil && !d.IsDir() {
			sum.Write(text)
		}
		return nil
	})
	return fmt.Sprintf("%x", sum.Sum(nil)[:8])
}()

// guard sets what holds for every answer, and refuses who reaches loopback by a name of their own: a page of somebody else's in
// an operator's browser that has its name point here (DNS rebinding).
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && at.IP.IsLoopback() && !isOwnName(r.Host) {
			http.Error(w, "no such host here; remedy: use localhost or an address, or have the proxy send one as Host", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwnName says whether a Host header has an address or localhost; a name could be anybody's.
func isOwnName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost"
}

// healthz is about this process and not about the service: 200 while the loop answers. What it announces, and whether it should,
// is in /status.
func healthz(w http.ResponseWriter, r *http.Request, alive func(context.Context) bool) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	if !alive(ctx) {
		http.Error(w, fmt.Sprintf("the loop did not answer within %v", answerTime), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// picture is the newest View as JSON, made once for all who want it.
type picture struct {
	source Source

	mu      sync.Mutex
	text    []byte
	made    time.Time
	changed <-chan struct{}
}

// get returns it in one line, and a channel that is closed once it is old.
func (p *picture) get() ([]byte, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if age := time.Since(p.made); p.text != nil && (age < freshFor || age < staleAfter && !closed(p.changed)) {
		return p.text, p.changed, nil
	}
	view, changed := p.source.View()
	text, err := json.Marshal(view)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the picture: %w", err)
	}
	p.text, p.made, p.changed = text, time.Now(), changed
	return p.text, p.changed, nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (p *picture) status(w http.ResponseWriter, _ *http.Request) {
	text, _, err := p.get()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text[:len(text):len(text)], '\n')) // who is gone needs no answer
}

// stream sends the picture to who follows it.
type stream struct {
	*picture
	places chan struct{}
}

// follow sends the picture, and again whenever it changes, until the client is gone or reads too slowly.
func (s *stream) follow(w http.ResponseWriter, r *http.Request) {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d others follow already", maxFollowers), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	send := sender(w)
	if send("hello", fmt.Appendf(nil, `{"version":%q,"now":%q}`, pageVersion, now())) != nil {
		return
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	var sent []byte
	for {
		text, changed, err := s.get()
		switch {
		case err != nil:
			return
		case bytes.Equal(text, sent):
			err = send("beat", []byte(now()))
		default:
			err = send("view", text)
		}
		if sent = text; err != nil || !rest(r.Context(), quiet) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C:
		}
	}
}

func now() string { return time.Now().UTC().Format(time.RFC3339Nano) }

// sender writes events, each in the time that one may take. The server's own bounds are for a whole request and a whole answer;
// the one for reading would end the request's context.
func sender(w http.ResponseWriter) func(name string, data []byte) error {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // a connection without deadlines shows with the first write
	return func(name string, data []byte) error {
		if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data); err != nil {
			return err
		}
		return c.Flush()
	}
}

// rest waits, and says whether ctx is still not done.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
