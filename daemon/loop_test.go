package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/exabgp"
	"exazk/health"
	"exazk/link"
	"exazk/zkstate"
)

// recorder stands for both edges and keeps the order in which they were called.
type recorder struct {
	mu    sync.Mutex // a bubble orders the loop's writes before our reads, but not our reads before its next write
	calls []string
	want  zkstate.Want
	table exabgp.Table
}

func (r *recorder) routes() *routeRecorder { return &routeRecorder{r} }

type routeRecorder struct{ *recorder }

func (r *routeRecorder) Set(t exabgp.Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "routes "+renderRoutes(t.Routes))
	r.table = t
}

func (r *recorder) Set(w zkstate.Want) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wish := w.Claims[zkstate.ClaimKey{Service: "apex", VIP: "10.20.255.1"}]
	r.calls = append(r.calls, "claim "+wish.String())
	r.want = w
}

func (r *recorder) Reconfigure(services []zkstate.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf("reconfigure %d", len(services)))
}

func (r *recorder) Resync() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "resync")
}

func (r *recorder) written() exabgp.Table {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table
}

// since gives the calls since the last time it was asked.
func (r *recorder) since() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func newTestLoop(t *testing.T) (*Loop, *recorder, *bytes.Buffer) {
	cfg, err := ParseConfig("loop.toml", storyConfig)
	if err != nil {
		t.Fatal(err)
	}
	log := &bytes.Buffer{}
	logger := logrus.New()
	logger.SetOutput(log)
	r := &recorder{}
	return NewLoop(NewCore(cfg, Identity{Node: "node1"}), r.routes(), r, logrus.NewEntry(logger)), r, log
}

var steadyState = []Event{
	FromExaBGP{exabgp.NeighborsListed{Established: []netip.Addr{netip.MustParseAddr("172.16.1.6")}}},
	FromZooKeeper{zkstate.SessionChanged{State: zkstate.Connected}},
	FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Claims: map[string]zkstate.Claim{"10.20.255.2": {Holder: zkstate.Foreign}, "10.20.255.3": {Holder: zkstate.Foreign}}}},
	FromZooKeeper{zkstate.MaintenanceRead{Service: "apex"}},
	FromHealth{health.Changed{Service: "apex", State: health.Healthy}},
}

// runSteady runs the loop until ctx is done, and brings it into the steady state.
func runSteady(ctx context.Context, l *Loop) {
	go l.Run(ctx)
	for _, ev := range steadyState {
		l.Post(ctx, ev)
	}
}

func TestLoopPassesRoutesBeforeClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r, log := newTestLoop(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan Exit)
		go func() { done <- l.Run(ctx) }()
		for _, ev := range steadyState {
			l.Post(ctx, ev)
		}
		synctest.Wait()
		l.ExaBGP(ctx)(exabgp.RouteAccepted{Route: r.written().Routes[0], Epoch: r.written().Epoch})
		synctest.Wait()
		if got := r.want.Claims[zkstate.ClaimKey{Service: "apex", VIP: "10.20.255.1"}]; got != zkstate.Hold {
			t.Fatalf("claim %v after the acknowledgement; calls: %q", got, r.calls)
		}
		r.since()
		l.Health(ctx)(health.Changed{Service: "apex", State: health.Unhealthy})
		synctest.Wait()
		if got := strings.Join(r.since(), "; "); got != "routes -10.20.255.1, -10.20.255.2, -10.20.255.3; claim release" {
			t.Errorf("got %q", got)
		}
		if want := `level=warning msg="verdict changed" from=announce reason=unhealthy role=authoritative service=apex to=withdraw vip=10.20.255.1`; !strings.Contains(log.String(), want) {
			t.Errorf("want %q in the log:\n%s", want, log)
		}
		cancel()
		if exit := <-done; exit != Stay {
			t.Errorf("exit %v after the context ended", exit)
		}
	})
}

func TestLoopWakesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r, _ := newTestLoop(t)
		runSteady(t.Context(), l)
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if len(r.written().Routes) != 1 {
			t.Fatalf("before overlap: %v", r.written().Routes)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if len(r.written().Routes) != 3 {
			t.Errorf("after overlap: %v", r.written().Routes)
		}
	})
}

func TestLoopEndsWithExaBGP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _ := newTestLoop(t)
		done := make(chan Exit)
		go func() { done <- l.Run(t.Context()) }()
		l.Post(t.Context(), FromExaBGP{exabgp.Gone{}})
		if exit := <-done; exit != Abandon {
			t.Errorf("exit %v", exit)
		}
	})
}

func TestLoopNoticesSleepAndSaysSo(t *testing.T) {
	l, r, log := newTestLoop(t)
	l.step(Tick{})
	l.core.last = l.core.last.Add(-2 * sleepLimit) // as if the last step were long ago
	l.step(Tick{})
	if got := r.calls[len(r.calls)-1]; got != "resync" {
		t.Errorf("calls %q", r.calls)
	}
	if !strings.Contains(log.String(), "process slept") {
		t.Errorf("log: %s", log)
	}
}

func TestLoopLogsSlowEventsMaintenanceAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, log := newTestLoop(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l.ZooKeeper(ctx)(zkstate.MaintenanceRead{Service: "apex", Present: true, Data: []byte("kernel")})
		l.ZooKeeper(ctx)(zkstate.MaintenanceRead{Service: "apex", Present: true, Data: []byte("kernel")})
		l.ZooKeeper(ctx)(zkstate.MaintenanceRead{Service: "other"})
		l.Post(ctx, Stop{Signal: "terminated"})
		time.Sleep(time.Second)
		if exit := l.Run(ctx); exit != Leave {
			t.Errorf("exit %v", exit)
		}
		for _, want := range []string{`msg="event waited" elapsed_ms=1000 event=MaintenanceRead`, `event=Stop`, `msg="maintenance changed" from=unknown note=kernel service=apex to=present`, `msg="draining before the end" event=stop signal=terminated`} {
			if strings.Count(log.String(), want) == 0 {
				t.Errorf("want %q in the log:\n%s", want, log)
			}
		}
		if n := strings.Count(log.String(), "maintenance changed"); n != 1 {
			t.Errorf("%d lines about one change", n)
		}
	})
}

func TestLoopLogsNeighborsThatComeAndGo(t *testing.T) {
	l, _, log := newTestLoop(t)
	id := exabgp.Neighbor{Local: netip.MustParseAddr("172.16.1.1"), Peer: netip.MustParseAddr("172.16.1.6")}
	for _, ev := range []exabgp.Event{
		exabgp.NeighborChanged{Neighbor: id, State: exabgp.NeighborConnected},
		exabgp.NeighborChanged{Neighbor: id, State: exabgp.NeighborDown, Reason: "refused"},
		exabgp.NeighborChanged{Neighbor: id, State: exabgp.NeighborUp},
		exabgp.NeighborsListed{Established: []netip.Addr{id.Peer}},
		exabgp.NeighborChanged{Neighbor: id, State: exabgp.NeighborDown, Reason: "hold timer"},
	} {
		l.step(FromExaBGP{ev})
	}
	for _, want := range []string{
		`level=info msg="neighbor changed" established=1 event=neighbor from=down neighbor=172.16.1.6 to=up`,
		`level=warning msg="neighbor changed" established=0 event=neighbor from=up neighbor=172.16.1.6 reason="hold timer" to=down`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("want %q in the log:\n%s", want, log)
		}
	}
	if n := strings.Count(log.String(), "neighbor changed"); n != 2 {
		t.Errorf("%d lines for two transitions:\n%s", n, log)
	}
}

// TestLoopLogsDrift has one line when a route begins to be another one than ExaBGP acknowledged, and one when it ends.
func TestLoopLogsDrift(t *testing.T) {
	l, _, log := newTestLoop(t)
	one := exabgp.Drift{Route: exabgp.Route{Prefix: netip.MustParsePrefix("10.20.255.1/32"), MED: 100}, Neighbor: netip.MustParseAddr("172.16.1.6"), Held: true, Have: "next-hop self med 7"}
	two := exabgp.Drift{Route: exabgp.Route{Prefix: netip.MustParsePrefix("10.20.255.2/32"), Withdraw: true}, Held: true}
	changed := one
	changed.Route.MED, changed.Held = 200, false
	for _, drifts := range [][]exabgp.Drift{{one, two}, {changed}, nil} {
		l.step(FromExaBGP{exabgp.Drifted{Routes: drifts}})
	}
	var got []string
	for line := range strings.Lines(log.String()) {
		if _, fields, found := strings.Cut(line, "event=drift"); found {
			level, _, _ := strings.Cut(line[strings.Index(line, "level="):], " ")
			got = append(got, level+fields)
		}
	}
	want := []string{
		"level=warning have=\"next-hop self med 7\" neighbor=172.16.1.6 vip=10.20.255.1 want=announce\n",
		"level=warning have=\"a route\" vip=10.20.255.2 want=withdraw\n",
		"level=info vip=10.20.255.2 want=withdraw\n",
		"level=info neighbor=172.16.1.6 vip=10.20.255.1 want=announce\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestPostGivesUpWithTheContext(t *testing.T) {
	l, _, _ := newTestLoop(t)
	ctx, cancel := context.WithCancel(t.Context())
	for range cap(l.events) {
		l.Post(ctx, Tick{})
	}
	cancel()
	if l.Post(ctx, Tick{}) {
		t.Error("posted into a full channel")
	}
}

// TestLoopLogsByWeight checks that a line that a person should look at is an error, and one that is safe a warning.
func TestLoopLogsByWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, log := newTestLoop(t)
		ctx := t.Context()
		runSteady(ctx, l)
		taken := map[string]zkstate.Claim{"10.20.255.1": {Holder: zkstate.Foreign, Detail: "held by node \"node9\""}}
		l.ZooKeeper(ctx)(zkstate.ClaimsRead{Service: "apex", Began: time.Now(), Claims: taken})
		time.Sleep(2 * time.Second)
		l.Health(ctx)(health.Changed{Service: "apex", State: health.Unhealthy})
		synctest.Wait()
		for _, want := range []string{
			`level=info msg="verdict changed" from=hold reason=authoritative role=authoritative service=apex to=announce vip=10.20.255.1`,
			`level=error msg="verdict changed" detail="held by node \"node9\"" from=announce reason=conflict role=backup service=apex to=withdraw vip=10.20.255.1`,
			`level=warning msg="verdict changed" from=withdraw reason=unhealthy role=authoritative service=apex to=withdraw vip=10.20.255.1`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("want %q in the log:\n%s", want, log)
			}
		}
	})
}

// TestLoopTakesLinksAndNamesEvents lets a session go down with its link, and names what came from ExaBGP where it waited.
func TestLoopTakesLinksAndNamesEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, log := newTestLoop(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l.ExaBGP(ctx)(exabgp.NeighborsListed{Established: []netip.Addr{netip.MustParseAddr("172.16.1.6")}})
		l.Link(ctx)(link.Changed{Interface: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.1.1/29")}})
		time.Sleep(time.Second)
		go l.Run(ctx)
		synctest.Wait()
		for _, want := range []string{
			`msg="event waited" elapsed_ms=1000 event=NeighborsListed`, `msg="event waited" elapsed_ms=1000 event=FromLink`,
			`msg="neighbor changed" established=0 event=neighbor from=up neighbor=172.16.1.6 reason="link eth0 is down" to=link-down`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("want %q in the log:\n%s", want, log)
			}
		}
	})
}

// TestLoopLogsRemovedVIPs has a file lose a VIP, and another one move to another service, which is no loss.
func TestLoopLogsRemovedVIPs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, log := newTestLoop(t)
		ctx := t.Context()
		runSteady(ctx, l)
		time.Sleep(2 * time.Second)
		next := strings.Replace(storyConfig, `["10.20.255.2", "10.20.255.3"]`, "[]", 1) + "[[service]]\nname = \"b\"\nbackup_for = [\"10.20.255.3\"]\ncheck = {command = \"true\"}\n"
		cfg, err := ParseConfig("f.toml", next)
		if err != nil {
			t.Error(err)
			return
		}
		l.Post(ctx, Reload{cfg})
		synctest.Wait()
		if want := `level=info msg="vip left the configuration" from=withdraw service=apex to=withdraw vip=10.20.255.2`; !strings.Contains(log.String(), want) || strings.Count(log.String(), "left the configuration") != 1 {
			t.Errorf("want %q once in the log:\n%s", want, log)
		}
	})
}

// TestLoopPassesEverythingOnAfterAReload: what stands between the loop and ExaBGP may look at the same table otherwise.
func TestLoopPassesEverythingOnAfterAReload(t *testing.T) {
	l, r, _ := newTestLoop(t)
	for _, ev := range append([]Event{Tick{}}, steadyState...) {
		l.step(ev)
	}
	r.since()
	cfg, err := ParseConfig("loop.toml", storyConfig)
	if err != nil {
		t.Fatal(err)
	}
	l.step(Reload{cfg})
	if got, want := r.since(), []string{"routes +10.20.255.1 med 100", "reconfigure 1", "claim leave"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestJoin: acknowledgements that follow each other become one event; nothing overtakes anything.
func TestJoin(t *testing.T) {
	ack := func(n int) exabgp.RouteAccepted { return exabgp.RouteAccepted{Epoch: uint64(n)} }
	stop, tick := Stop{Signal: "x"}, Tick{}
	for _, tc := range []struct{ in, want []Event }{
		{[]Event{stop}, []Event{stop}},
		{[]Event{FromExaBGP{ack(1)}}, []Event{FromExaBGP{ack(1)}}},
		{[]Event{FromExaBGP{ack(1)}, FromExaBGP{ack(2)}, FromExaBGP{ack(3)}}, []Event{Accepted{ack(1), ack(2), ack(3)}}},
		{
			[]Event{tick, FromExaBGP{ack(1)}, FromExaBGP{ack(2)}, FromExaBGP{exabgp.Gone{}}, FromExaBGP{ack(3)}, stop, FromExaBGP{ack(4)}, FromExaBGP{ack(5)}},
			[]Event{tick, Accepted{ack(1), ack(2)}, FromExaBGP{exabgp.Gone{}}, FromExaBGP{ack(3)}, stop, Accepted{ack(4), ack(5)}},
		},
	} {
		if got := Join(slices.Clone(tc.in)); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v become %v, want %v", tc.in, got, tc.want)
		}
	}
}

// TestManyAcknowledgements: those that wait together are decided about once.
func TestManyAcknowledgements(t *testing.T) {
	l, r, _ := newTestLoop(t)
	for _, ev := range append([]Event{Tick{}}, steadyState...) {
		l.step(ev)
	}
	table := r.written()
	r.since()
	for _, route := range table.Routes {
		l.events <- posted{FromExaBGP{exabgp.RouteAccepted{Route: route, Epoch: table.Epoch}}, time.Now()}
	}
	l.take(<-l.events)
	if calls := r.since(); !slices.Equal(calls, []string{"claim hold"}) {
		t.Errorf("%d acknowledgements lead to %q, want the claim to be held at once", len(table.Routes), calls)
	}
}

// TestLoopSaysSinceWhen checks that a table says when its cause happened: when the event was posted, or its deadline came.
func TestLoopSaysSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r, _ := newTestLoop(t)
		ctx := t.Context()
		waits := make(chan time.Duration, 100)
		l.WatchWaits(func(d time.Duration) { waits <- d })
		posted := time.Now()
		l.Post(ctx, steadyState[0])
		time.Sleep(time.Second)
		runSteady(ctx, l)
		synctest.Wait()
		if got := r.written().Since; got.Before(posted.Add(time.Second)) {
			t.Errorf("the table of a healthy node is since %v, %v after the first event", got, got.Sub(posted))
		}
		if n, first, second := len(waits), <-waits, <-waits; n != 1+len(steadyState) || first != time.Second || second != 0 {
			t.Errorf("%d waits, of %v, %v, …", n, first, second)
		}
		back := time.Now() // a claim comes back, and the route goes when overlap is over
		l.Post(ctx, FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Began: back}})
		l.Post(ctx, FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Began: back, Claims: map[string]zkstate.Claim{"10.20.255.2": {Holder: zkstate.Foreign}}}})
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if got := r.written().Since.Sub(back); got != time.Second {
			t.Errorf("the withdraw after overlap is since %v after the claim", got)
		}
	})
}

// TestLoopIsAliveWhileItRuns asks before, while and after it does.
func TestLoopIsAliveWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _ := newTestLoop(t)
		ask := func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return l.Alive(ctx)
		}
		if ask() {
			t.Error("it answers and does not run")
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan Exit)
		go func() { done <- l.Run(ctx) }()
		for range 3 {
			if !ask() {
				t.Error("it runs and does not answer")
			}
		}
		stop()
		<-done
		if ask() {
			t.Error("it answers and has ended")
		}
	})
}
