package zkstate

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// response is a connect response, as a server sends it: length, version, timeout, session id, password, read-only.
func response(timeout time.Duration, id int64) []byte {
	b := make([]byte, 4+4+4+8+4+16+1)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	binary.BigEndian.PutUint32(b[8:], uint32(timeout.Milliseconds()))
	binary.BigEndian.PutUint64(b[12:], uint64(id))
	binary.BigEndian.PutUint32(b[20:], 16)
	return b
}

// listen answers every connection with what serve does.
func listen(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

func TestGuardReportsWhatWasNegotiated(t *testing.T) {
	for name, tc := range map[string]struct {
		answer  []byte
		pieces  int // bytes per write; 0 means all at once
		id      int64
		refused bool
	}{
		"session":              {answer: response(4*time.Second, 0xabc), id: 0xabc},
		"byte by byte":         {answer: response(4*time.Second, 0xabc), pieces: 1, id: 0xabc},
		"expired":              {answer: response(0, 0)},
		"no timeout":           {answer: response(0, 0xabc), refused: true},
		"negative timeout":     {answer: response(-time.Second, 0xabc), refused: true},
		"HTTP":                 {answer: []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), refused: true},
		"HTTP byte by byte":    {answer: []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), pieces: 1, refused: true},
		"closed without words": {answer: nil},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			go func() {
				defer theirs.Close()
				for b := tc.answer; len(b) > 0; {
					n := len(b)
					if tc.pieces > 0 {
						n = tc.pieces
					}
					if _, err := theirs.Write(b[:n]); err != nil {
						return
					}
					b = b[n:]
				}
			}()
			var id int64
			var timeout time.Duration
			g := &guard{Conn: ours, limit: time.Second, negotiated: func(i int64, d time.Duration) { id, timeout = i, d }}
			got, err := io.ReadAll(g)
			if refused := errors.Is(err, errNotZooKeeper); refused != tc.refused {
				t.Fatalf("error %v, want refused %v", err, tc.refused)
			}
			if id != tc.id || tc.id != 0 && timeout != 4*time.Second {
				t.Errorf("reported %#x, %v", id, timeout)
			}
			if !tc.refused && string(got) != string(tc.answer) {
				t.Errorf("read %q", got)
			}
		})
	}
}

func TestGuardBoundsTheHandshakeOnly(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	g := &guard{Conn: ours, limit: 50 * time.Millisecond}
	for _, far := range []time.Time{time.Now().Add(time.Hour), {}} { // set, and cleared
		g.SetReadDeadline(far)
		began := time.Now()
		if _, err := g.Read(make([]byte, 1)); err == nil {
			t.Fatal("read something")
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("waited %v", took)
		}
	}
	g.SetReadDeadline(time.Time{})
	go theirs.Write([]byte{0})
	if _, err := g.Read(make([]byte, 1)); err != nil {
		t.Errorf("after the handshake: %v", err)
	}
}

func TestHandshakeLimit(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		time.Second: 500 * time.Millisecond, 2 * time.Second: 500 * time.Millisecond, 4 * time.Second: time.Second} {
		if got := handshakeLimit(timeout); got != want {
			t.Errorf("%v: %v, want %v", timeout, got, want)
		}
	}
}

func TestDialerKeepsPaceAndHangsUp(t *testing.T) {
	var open atomic.Int32
	addr := listen(t, func(c net.Conn) {
		open.Add(1)
		io.Copy(io.Discard, c)
		open.Add(-1)
	})
	d := newDialer(time.Second, nil)
	began := time.Now()
	for range 3 {
		if _, err := d.dial("tcp", addr, 0); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 2*pace {
		t.Errorf("three connections in %v", took)
	}
	poll(t, "the older connections are closed", func() bool { return open.Load() == 1 })
	d.stop()
	if _, err := d.dial("tcp", addr, 0); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
	poll(t, "the connection stays", func() bool { return open.Load() == 1 })
	d.hangUp()
	poll(t, "the connection is closed", func() bool { return open.Load() == 0 })
}

func TestDialerRefusesNamesAndReportsErrors(t *testing.T) {
	d := newDialer(time.Second, nil)
	if _, err := d.dial("tcp", "zk1:2181", 0); !errors.Is(err, errNotResolved) || !strings.Contains(err.Error(), `"zk1:2181"`) {
		t.Errorf("a name: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := d.dial("tcp", l.Addr().String(), 0); err == nil {
		t.Error("nobody listens, and no error")
	}
	for i := range maxTried {
		d.tried[string(rune(i))] = time.Time{}
	}
	d.wait("a")
	if len(d.tried) != 1 {
		t.Errorf("%d addresses remembered", len(d.tried))
	}
}

func TestDialerClosesWhatComesAfterTheEnd(t *testing.T) {
	d := newDialer(time.Second, nil)
	d.stop()
	ours, theirs := net.Pipe()
	if d.keep(ours) {
		t.Error("kept")
	}
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("not closed: %v", err)
	}
}

// poll waits until is holds.
func poll(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestNextServerIsTriedSoon has two servers that accept and never answer: the library must go from one to the other within
// the limit of the handshake. It finds out when a new version of the library sets its deadlines in another order.
func TestNextServerIsTriedSoon(t *testing.T) {
	accepted := make(chan time.Time, 16)
	silent := func(c net.Conn) {
		accepted <- time.Now()
		io.Copy(io.Discard, c)
	}
	cfg := testConfig()
	cfg.SessionTimeout = 20 * time.Second
	cfg.Servers = []string{listen(t, silent), listen(t, silent)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- New(cfg, quiet()).Run(ctx, func(Event) bool { return true }) }()
	shortest := time.Hour // of a few: the machine may be busy
	for last, i := <-accepted, 0; i < 4; i++ {
		next := <-accepted
		shortest = min(shortest, next.Sub(last))
		last = next
	}
	if limit := handshakeLimit(cfg.SessionTimeout); shortest > limit+100*time.Millisecond || shortest < limit/2 {
		t.Errorf("the next server is tried after %v, want %v", shortest, limit)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestClosedClientEnds closes a client that reaches no server; the library's own loop would dial for ever.
func TestClosedClientEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := New(testConfig(), quiet())
	h, err := newHosts([]string{l.Addr().String()}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	c, err := s.connect(h, 1, func(Input) {})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "servers are tried", func() bool { return c.(*conn).State() == zk.StateConnecting })
	c.Close()
	poll(t, "the library's goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}
