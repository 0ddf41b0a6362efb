package zkstate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"exazk/zkstate/zktest"
)

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAdmin(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	ctx := within(t, 30*time.Second)
	a, err := Dial(ctx, []string{srv.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	const at = "/a/b/node1"
	must := func(want bool, got bool, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	names, err := a.Children(ctx, "/a/b")
	must(true, len(names) == 0, err)
	_, found, err := a.Get(ctx, at)
	must(false, found, err)
	ok, err := a.Create(ctx, at, []byte("one"))
	must(true, ok, err)
	ok, err = a.Create(ctx, at, []byte("two"))
	must(false, ok, err)
	n, found, err := a.Get(ctx, at)
	must(true, found, err)
	if string(n.Data) != "one" || time.Since(n.Created).Abs() > time.Minute {
		t.Errorf("got %+v", n)
	}
	ok, err = a.Set(ctx, at, []byte("two"), n.Version)
	must(true, ok, err)
	ok, err = a.Set(ctx, at, []byte("three"), n.Version)
	must(false, ok, err)
	ok, err = a.Delete(ctx, at, n.Version)
	must(false, ok, err)
	names, err = a.Children(ctx, "/a/b")
	must(true, slices.Equal(names, []string{"node1"}), err)

	// A server that comes back is waited for.
	srv.Kill()
	restarted := make(chan error, 1)
	go func() { restarted <- srv.Restart() }()
	ok, err = a.Delete(ctx, at, Any)
	must(true, ok, err)
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	ok, err = a.Delete(ctx, at, Any)
	must(false, ok, err)

	for name, data := range map[string]string{"n1": `{"node":"n1","health":"healthy"}`, "n2": `{"node":"n1"}`, "n3": "{", "n4": `{"node":"n4","health":"unhealthy","later":1}`} {
		if _, err := a.Create(ctx, "/s/"+name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	records, err := a.Statuses(ctx, "/s")
	must(true, len(records) == 2 && records["n1"].Health == "healthy" && records["n4"].Health == "unhealthy", err)
}

// TestAdminForgetsAddresses bounds what is remembered of servers whose names resolve to ever new addresses.
func TestAdminForgetsAddresses(t *testing.T) {
	a := &Admin{reasons: map[string]string{}}
	for i := range 5 * maxTried {
		a.tried(fmt.Sprintf("192.0.2.1:%d", i), errUnheard)
	}
	if n := len(a.reasons); n > maxTried+1 || n == 0 {
		t.Errorf("%d addresses are remembered", n)
	}
	if newest := fmt.Sprintf("192.0.2.1:%d", 5*maxTried-1); a.reasons[newest] != errUnheard.Error() {
		t.Errorf("the newest is forgotten")
	}
}

func TestAdminOutOfReach(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := time.Now()
	_, err = Dial(within(t, 2*time.Second), []string{"127.0.0.1:1", silent.Addr().String(), "no-such-name.invalid:2181"})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	for _, want := range []string{"ZooKeeper is out of reach", "127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused",
		silent.Addr().String() + ": takes connections but does not answer", "no-such-name.invalid:2181: the name is not resolved", "remedy: check"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
	if _, err = Dial(within(t, time.Second), []string{"no-such-name.invalid"}); err == nil || !strings.Contains(err.Error(), "no-such-name.invalid:2181: the name is not resolved") {
		t.Errorf("got %v", err)
	}
	if _, err = Dial(within(t, time.Second), []string{"a/b"}); err == nil || !strings.Contains(err.Error(), `server "a/b"`) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errUnheard)
	if _, err = Dial(ctx, []string{"127.0.0.1:1"}); !errors.Is(err, errUnheard) {
		t.Errorf("got %v", err)
	}
}

func TestAdminGivesUpOnAFrozenServer(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	a, err := Dial(within(t, 30*time.Second), []string{srv.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	srv.Freeze()
	defer srv.Thaw()
	if _, _, err := a.Get(within(t, 500*time.Millisecond), "/x"); err == nil || !strings.Contains(err.Error(), `read "/x": ZooKeeper is out of reach (`+srv.Addr()+": takes connections but does not answer") {
		t.Errorf("got %v", err)
	}
	began := time.Now()
	a.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
}
