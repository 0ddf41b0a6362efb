package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/internal/logtest"
)

// running is a Server that runs until the test ends or stop is called.
type running struct {
	*Server
	log  *logtest.Buffer
	stop func() error
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	log := &logtest.Buffer{}
	logger := logrus.New()
	logger.SetOutput(log)
	r := &running{Server: New(o, logrus.NewEntry(logger)), log: log}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(5 * time.Second):
			return fmt.Errorf("the server does not end")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// free is an address where nobody listens.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func get(at netip.AddrPort) (string, error) {
	resp, err := client.Get("http://" + at.String() + "/healthz")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// eventually waits until f returns nil.
func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	for start := time.Now(); ; <-time.After(10 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Since(start) > limit {
			t.Fatalf("not within %v: %v", limit, err)
		}
	}
}

func answers(at netip.AddrPort) func() error {
	return func() error {
		if body, err := get(at); err != nil || body != "ok\n" {
			return fmt.Errorf("%q, %w", body, err)
		}
		return nil
	}
}

func silent(at netip.AddrPort) func() error {
	return func() error {
		if body, err := get(at); err == nil {
			return fmt.Errorf("it answers %q", body)
		}
		return nil
	}
}

func options() Options { return Options{Source: newStage(nominal()), Alive: alive} }

// TestAddressesChange has a reload move the server, and what is followed at an address that stays go on.
func TestAddressesChange(t *testing.T) {
	s := start(t, options())
	a, b := free(t), free(t)
	s.Listen([]netip.AddrPort{a})
	eventually(t, time.Second, answers(a))
	events := follow(t, "http://"+a.String())
	next(t, events, "view")
	s.Listen([]netip.AddrPort{a, b})
	eventually(t, time.Second, answers(b))
	next(t, events, "beat")
	s.Listen([]netip.AddrPort{b})
	eventually(t, time.Second, silent(a))
	for range events { // until it has ended
	}
	eventually(t, time.Second, answers(b))
	s.Listen(nil)
	eventually(t, time.Second, silent(b))
}

// TestAddressIsTaken tries again, and says so once.
func TestAddressIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := start(t, options())
	at := taken.Addr().(*net.TCPAddr).AddrPort()
	s.Listen([]netip.AddrPort{at, netip.MustParseAddrPort("192.0.2.1:9180")}) // the second is no address of this machine
	<-time.After(retryEvery + retryEvery/2)
	if text := s.log.String(); strings.Count(text, "address already in use") != 1 || strings.Count(text, "cannot assign requested address") != 1 {
		t.Errorf("got %s", text)
	}
	taken.Close()
	eventually(t, 2*retryEvery, answers(at))
	if !strings.Contains(s.log.String(), "http server listens") {
		t.Errorf("got %s", s.log)
	}
}

// TestEndDoesNotWait has followers and half a request there when the server is to end.
func TestEndDoesNotWait(t *testing.T) {
	s := start(t, options())
	at := free(t)
	s.Listen([]netip.AddrPort{at})
	eventually(t, time.Second, answers(at))
	next(t, follow(t, "http://"+at.String()), "view")
	half, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	io.WriteString(half, "GET / HTTP/1.1\r\n")
	begin := time.Now()
	if err := s.stop(); err != nil || time.Since(begin) > time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

// TestSlowAndLarge cuts off who does not send a request in time, or too large a one.
func TestSlowAndLarge(t *testing.T) {
	t.Parallel()
	s := start(t, options())
	at := free(t)
	s.Listen([]netip.AddrPort{at})
	eventually(t, time.Second, answers(at))
	slow, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	io.WriteString(slow, "GET / HTTP/1.1\r\n")
	slow.SetReadDeadline(time.Now().Add(headerTime + 2*time.Second))
	if _, err := io.ReadAll(slow); err != nil {
		t.Errorf("the connection is still there: %v", err)
	}
	r, err := http.NewRequest("GET", "http://"+at.String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 2*maxHeader))
	if resp, err := client.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %s", resp.Status)
		}
	}
}

// TestStreamOutlivesTheBoundsOfARequest follows for longer than a whole request or answer may take.
func TestStreamOutlivesTheBoundsOfARequest(t *testing.T) {
	t.Parallel()
	src := newStage(nominal())
	s := start(t, Options{Source: src, Alive: alive})
	at := free(t)
	s.Listen([]netip.AddrPort{at})
	eventually(t, time.Second, answers(at))
	events := follow(t, "http://"+at.String())
	for start := time.Now(); time.Since(start) < writeTime+beatEvery; {
		next(t, events, "beat")
	}
	src.show(down())
	next(t, events, "view")
}

// TestPanicEndsItsConnectionAlone has a picture that cannot be made.
func TestPanicEndsItsConnectionAlone(t *testing.T) {
	s := start(t, Options{Source: nil, Alive: alive})
	at := free(t)
	s.Listen([]netip.AddrPort{at})
	eventually(t, time.Second, answers(at))
	if resp, err := client.Get("http://" + at.String() + "/status"); err == nil {
		resp.Body.Close()
		t.Errorf("got %s", resp.Status)
	}
	for range 20 {
		eventually(t, time.Second, answers(at))
		if resp, err := client.Get("http://" + at.String() + "/status"); err == nil {
			resp.Body.Close()
			t.Errorf("got %s", resp.Status)
		}
	}
	if n := strings.Count(s.log.String(), "nil pointer dereference"); n != 1 {
		t.Errorf("got %s", s.log)
	}
}

// TestConnectionsThatFallSilentMakeRoom has all of them ask for something at once, and then for nothing more.
func TestConnectionsThatFallSilentMakeRoom(t *testing.T) {
	c := &crowd{room: 3}
	var theirs []net.Conn
	for range 3 {
		mine, other := net.Pipe()
		defer mine.Close()
		theirs = append(theirs, other)
		c.changed(mine, http.StateNew)
		c.changed(mine, http.StateActive)
		defer c.changed(mine, http.StateClosed)
		if len(theirs) == 3 {
			c.changed(mine, http.StateIdle)
		}
	}
	_ = theirs[2].SetReadDeadline(time.Now().Add(time.Second))
	if _, err := theirs[2].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the silent one is there still: %v", err)
	}
}

// TestSilentConnectionsMakeRoom has twice as many connections as there may be, whose owners have asked once and ask no more, or never.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	s := start(t, options())
	at := free(t)
	s.Listen([]netip.AddrPort{at})
	eventually(t, time.Second, answers(at))
	events := follow(t, "http://"+at.String())
	next(t, events, "view")
	for i := range 2 * maxConnections {
		conn, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(headerTime * 4 / 5)) // before the server cuts those off that say nothing
		if i%2 == 0 {                                            // and this one it keeps for a minute
			io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
	late := &http.Client{Timeout: idleTime / 3, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 10 {
		resp, err := late.Get("http://" + at.String() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	next(t, events, "beat")
}
