package zkstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

// harness runs a Session against a fakeServer inside a bubble.
type harness struct {
	t       *testing.T
	s       *Session
	clients []*fakeClient
	events  []Event // written by Run's goroutine, read after synctest.Wait
	deaf    bool
	cancel  context.CancelCauseFunc
	ended   chan error
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.DebugLevel)
	return logrus.NewEntry(log)
}

func start(t *testing.T, srv *fakeServer, cfg Config) *harness {
	h := &harness{t: t, s: New(cfg, quiet()), ended: make(chan error, 1)}
	h.s.open = func(_ *hosts, number uint64, push func(Input)) (client, error) {
		c := &fakeClient{srv: srv, node: cfg.Node, number: number, push: push, closed: make(chan struct{})}
		h.clients = append(h.clients, c)
		return c, nil
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	h.cancel = cancel
	go func() {
		h.ended <- h.s.Run(ctx, func(ev Event) bool {
			h.events = append(h.events, ev)
			return !h.deaf
		})
	}()
	synctest.Wait()
	return h
}

// client is the newest one.
func (h *harness) client() *fakeClient { return h.clients[len(h.clients)-1] }

// sleep lets virtual time pass.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// stop ends the Session and returns how long that took.
func (h *harness) stop(cause error) time.Duration {
	began := time.Now()
	h.cancel(cause)
	if err := <-h.ended; err != nil {
		h.t.Errorf("Run returned %v", err)
	}
	return time.Since(began)
}

// claims is the newest reading.
func (h *harness) claims() map[string]Claim {
	for i := len(h.events) - 1; i >= 0; i-- {
		if ev, ok := h.events[i].(ClaimsRead); ok {
			return ev.Claims
		}
	}
	return nil
}

func (h *harness) count(is func(Event) bool) int {
	n := 0
	for _, ev := range h.events {
		if is(ev) {
			n++
		}
	}
	return n
}

func (h *harness) states() string {
	var words []string
	for _, ev := range h.events {
		if ev, ok := ev.(SessionChanged); ok {
			words = append(words, ev.State.String())
		}
	}
	return strings.Join(words, " ")
}

const (
	vip1   = "192.0.2.1"
	claim1 = "/x/service/web/" + vip1
)

func wish(w Wish) Want {
	return Want{Claims: map[ClaimKey]Wish{{"web", vip1}: w}, Statuses: map[string]*Status{"web": {Node: "n1", Instance: "i1"}}}
}

func up(id int64) SessionUp { return SessionUp{ID: id, Timeout: 4 * time.Second} }

func TestSessionHoldsReleasesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		h := start(t, srv, testConfig())
		h.s.Set(wish(Release))
		h.s.Set(wish(Hold))
		h.client().connect(up(0xa1))
		sleep(time.Second)
		if got := h.claims()[vip1].Holder; got != Own {
			t.Errorf("claim is %v, want own", got)
		}
		reads := h.count(func(ev Event) bool { _, ok := ev.(MaintenanceRead); return ok })
		h.s.Resync()
		sleep(time.Second)
		if got := h.count(func(ev Event) bool { _, ok := ev.(MaintenanceRead); return ok }); got != reads+1 {
			t.Errorf("%d readings emitted after Resync, want 1", got-reads)
		}
		if took := h.stop(nil); took > time.Second/10 {
			t.Errorf("the end took %v", took)
		}
		srv.with(func(tr *tree) {
			if tr.nodes[claim1] != nil || tr.nodes["/x/status/web/n1"] != nil {
				t.Error("something of ours is left")
			}
		})
		if h.states() != "connected" {
			t.Errorf("states: %s", h.states())
		}
	})
}

func TestStopIsBoundedWithAFrozenServer(t *testing.T) {
	for name, cause := range map[string]error{"released": nil, "abandoned": ErrAbandon} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newFakeServer(t)
				h := start(t, srv, testConfig())
				h.s.Set(wish(Hold))
				h.client().connect(up(0xa1))
				sleep(time.Second)
				srv.freeze()
				if took := h.stop(cause); took > stopWithin {
					t.Errorf("the end took %v", took)
				}
			})
		})
	}
}

// stuckClient is a client whose Close and calls do not return.
type stuckClient struct {
	client
	free chan struct{}
}

func (c *stuckClient) Sync(path string) (string, error) {
	<-c.free
	return "", zk.ErrClosing
}

func (c *stuckClient) Exists(string) (bool, *zk.Stat, error) {
	<-c.free
	return true, nil, zk.ErrClosing
}

func (c *stuckClient) Close() { <-c.free }

func TestStopDoesNotWaitForAStuckClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testConfig(), quiet())
		free := make(chan struct{})
		s.open = func(_ *hosts, number uint64, push func(Input)) (client, error) {
			push(SessionUp{Conn: number, ID: 0xa1, Timeout: 4 * time.Second})
			return &stuckClient{free: free}, nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx, func(Event) bool { return true }) }()
		sleep(time.Second)
		began := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != stopWithin {
			t.Errorf("the end took %v, want %v", took, stopWithin)
		}
		close(free)
	})
}

func TestAbandonedSessionIsClosedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		h := start(t, srv, testConfig())
		h.s.Set(wish(Hold))
		h.client().connect(up(0xa1))
		sleep(time.Second)
		if took := h.stop(ErrAbandon); took != 0 {
			t.Errorf("the end took %v", took)
		}
		srv.with(func(tr *tree) {
			if tr.nodes[claim1] != nil {
				t.Error("the claim is left")
			}
		})
	})
}

func TestRunEndsWhenNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		h := start(t, srv, testConfig())
		h.deaf = true
		h.client().connect(up(0xa1))
		if err := <-h.ended; err != nil {
			t.Error(err)
		}
		if len(h.events) != 1 {
			t.Errorf("%d events emitted, want 1", len(h.events))
		}
		h.cancel(nil)
	})
}

func TestRunRefusesWhatCanNeverWork(t *testing.T) {
	for name, servers := range map[string][]string{
		"none": nil, "a list": {"a:1,b:2"}, "a path": {"host:2181/app"}, "no port": {"host:"}, "no name": {":2181"},
		"port 0": {"host:0"}, "port 65536": {"host:65536"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Servers = servers
			if err := New(cfg, quiet()).Run(t.Context(), nil); err == nil {
				t.Error("no error")
			}
		})
	}
	t.Run("client", func(t *testing.T) {
		s := New(testConfig(), quiet())
		odd := errors.New("odd")
		s.open = func(*hosts, uint64, func(Input)) (client, error) { return nil, odd }
		if err := s.Run(t.Context(), nil); !errors.Is(err, odd) {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestTwinsDoNotStealForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		one := start(t, srv, testConfig())
		other := testConfig()
		other.Instance = "i2"
		two := start(t, srv, other)
		one.s.Set(wish(Hold))
		w := wish(Hold)
		w.Statuses = map[string]*Status{"web": {Node: "n1", Instance: "i2"}}
		two.s.Set(w)
		one.client().connect(up(0xa1))
		sleep(time.Second)
		two.client().connect(up(0xb1))
		sleep(10 * time.Second)
		var before int64
		srv.with(func(tr *tree) { before = tr.zxid })
		sleep(10 * time.Minute)
		srv.with(func(tr *tree) {
			if tr.zxid != before {
				t.Errorf("%d changes in ten minutes", tr.zxid-before)
			}
		})
		if a, b := one.claims()[vip1], two.claims()[vip1]; a.Holder != Foreign || b.Holder != Own {
			t.Errorf("the first sees %v, the second %v", a, b)
		}
		two.stop(nil)
		sleep(time.Second)
		if got := one.claims()[vip1].Holder; got != Own {
			t.Errorf("after the twin's end the claim is %v", got)
		}
		one.stop(nil)
	})
}

func TestCallsToAFrozenServerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		cfg := testConfig()
		h := start(t, srv, cfg)
		h.s.Set(wish(Hold))
		h.client().connect(up(0xa1))
		sleep(time.Second)
		srv.freeze()
		most := 0
		for range 600 { // the connection is not lost: worse than real
			h.s.Resync()
			sleep(time.Second)
			srv.with(func(*tree) { most = max(most, srv.waiting) })
		}
		if most > 2*maxSent {
			t.Errorf("%d calls wait", most)
		}
		if len(h.clients) < 2 {
			t.Error("the client was not made anew")
		}
		srv.thaw()
		h.client().connect(up(0xa2))
		sleep(10 * time.Second)
		if got := h.claims()[vip1].Holder; got != Own {
			t.Errorf("claim is %v, want own", got)
		}
		h.stop(nil)
	})
}

func TestClientIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		h := start(t, srv, testConfig())
		h.s.Set(wish(Hold))
		h.client().connect(up(0xa1))
		sleep(time.Second)
		h.client().disconnect()
		sleep(61 * time.Second)
		if len(h.clients) != 2 {
			t.Fatalf("%d clients", len(h.clients))
		}
		srv.with(func(tr *tree) { tr.expire(0xa1) })
		h.client().connect(up(0xa2))
		sleep(time.Second)
		if got := h.states(); got != "connected suspended lost connected" {
			t.Errorf("states: %s", got)
		}
		h.stop(nil)
	})
}

func TestServerOutOfReachIsLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	s := New(testConfig(), logrus.NewEntry(log))
	refused := errors.New("connection refused")
	for _, try := range []struct {
		address string
		err     error
		want    int // lines about that address
	}{
		{"192.0.2.1:2181", refused, 1},
		{"192.0.2.1:2181", errors.New("i/o timeout"), 1}, // what is in the way may change with every try
		{"192.0.2.2:2181", refused, 1},
		{"192.0.2.1:2181", nil, 1},
		{"192.0.2.1:2181", refused, 2},
		{"zk:2181", fmt.Errorf("dial: %w", errNotResolved), 0},
		{"192.0.2.3:2181", errClosed, 0},
	} {
		s.tried(try.address, try.err)
		if got := strings.Count(out.String(), `address="`+try.address+`" reason="connection refused"`); got != try.want {
			t.Errorf("%s %v: %d lines, want %d:\n%s", try.address, try.err, got, try.want, out.String())
		}
	}
	for i := range 3 * maxTried {
		s.tried(fmt.Sprintf("192.0.2.4:%d", i), refused)
	}
	if len(s.unreached) > maxTried {
		t.Errorf("%d addresses are remembered", len(s.unreached))
	}
}

func TestLibraryChatterIsForDebugging(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	c := chatter{logrus.NewEntry(log)}
	c.Printf("connected to %s", "a")
	if out.Len() != 0 {
		t.Errorf("logged %q", out.String())
	}
	log.SetLevel(logrus.DebugLevel)
	c.Printf("connected to %s", "a")
	if !strings.Contains(out.String(), `text="connected to a"`) {
		t.Errorf("logged %q", out.String())
	}
}

func TestWords(t *testing.T) {
	var got []string
	for _, s := range []interface{ String() string }{Connecting, Connected, Suspended, Lost, Absent, Own, Ghost, Foreign, Leave, Hold, Release} {
		got = append(got, s.String())
	}
	if s := strings.Join(got, " "); s != "connecting connected suspended lost absent own ghost foreign leave hold release" {
		t.Error(s)
	}
}

func TestMachinePanicsOnWhatCannotBe(t *testing.T) {
	for name, do := range map[string]func(){
		"input":   func() { newPlayer(testConfig()).step(0, nil) },
		"op":      func() { do(nil, Call{Op: OpReplace + 1}) },
		"foreign": func() { newService(Service{Authoritative: []string{"a"}}) },
		"twice":   func() { newPlayer(testConfig()).m.reconfigure(testServices([]string{"web:a:a", "web:b:b"})) },
		"json":    func() { mustJSON(make(chan int)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			do()
		})
	}
}

func TestSessionIsReconfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newFakeServer(t)
		h := start(t, srv, testConfig())
		h.s.Set(wish(Hold))
		h.client().connect(up(0xa1))
		sleep(time.Second)
		czxid := h.claims()[vip1].Czxid
		told := len(h.events)

		h.s.Reconfigure(testServices([]string{"web:192.0.2.1:192.0.2.1"})) // never seen: the newest counts
		services := testServices([]string{"web:192.0.2.1,192.0.2.2:192.0.2.1", "mail:192.0.2.9:192.0.2.9"})
		h.s.Reconfigure(services)
		services[1].VIPs[0], services[1].Authoritative[0] = "changed", "afterwards"
		w := wish(Hold)
		w.Claims[ClaimKey{"mail", "192.0.2.9"}] = Hold
		h.s.Set(w)
		sleep(time.Second)
		if got := h.claims()["192.0.2.9"].Holder; got != Own {
			t.Errorf("the new claim is %v, want own", got)
		}
		for _, ev := range h.events[told:] {
			if ev, ok := ev.(ClaimsRead); ok && ev.Service != "mail" {
				t.Errorf("what did not change is told: %+v", ev)
			}
		}
		srv.with(func(tr *tree) {
			if n := tr.nodes[claim1]; n == nil || n.stat.Czxid != czxid {
				t.Errorf("the claim that stays is %v, was made by %d", n, czxid)
			}
		})

		h.s.Reconfigure(nil)
		sleep(time.Second)
		srv.with(func(tr *tree) {
			for _, p := range []string{claim1, "/x/status/web/n1", "/x/service/mail/192.0.2.9"} {
				if tr.nodes[p] != nil {
					t.Errorf("%s is left", p)
				}
			}
		})
		if got := h.states(); got != "connected" {
			t.Errorf("states: %s", got)
		}
		h.stop(nil)
	})
}

// TestNewServicesComeBeforeResults has a reading of the services before end after Reconfigure was called: it must not be told.
func TestNewServicesComeBeforeResults(t *testing.T) {
	s := New(testConfig(), quiet())
	s.push(SessionUp{Conn: 1})
	s.Set(wish(Hold))
	s.Resync()
	s.Reconfigure(nil)
	var kinds []string
	for _, in := range s.take() {
		kinds = append(kinds, fmt.Sprintf("%T", in))
	}
	if got := strings.Join(kinds, " "); got != "zkstate.Reconfigured zkstate.SessionUp zkstate.SetWant zkstate.ResyncAsked" {
		t.Errorf("taken in the order %s", got)
	}
	if ins := s.take(); len(ins) != 0 {
		t.Errorf("taken twice: %v", ins)
	}
}
