package daemon

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

// everyFacts calls f with every combination of facts.
func everyFacts(f func(Facts)) {
	for h := health.Unknown; h <= health.Unhealthy; h++ {
		for m := PresenceUnknown; m <= PresencePresent; m++ {
			for cl := ClaimUnread; cl <= ClaimPresent; cl++ {
				for dr := NotDraining; dr <= Drained; dr++ {
					for o := OthersUnread; o <= OthersServe; o++ {
						for last := Hold; last <= Withdraw; last++ {
							for bits := range 4096 {
								f(factsOf(bits, Facts{Health: h, Maintenance: m, Claim: cl, Drain: dr, Others: o, Last: last}))
							}
						}
					}
				}
			}
		}
	}
}

// factsOf adds what is one bit each to facts.
func factsOf(bits int, f Facts) Facts {
	bit := func(n int) bool { return bits>>n&1 == 1 }
	f.Authoritative, f.Stopping, f.StartOver, f.ZooKeeperLost, f.Stale, f.LastResort = bit(0), bit(1), bit(2), bit(3), bit(4), bit(5)
	f.Unheard, f.Served, f.Standby = bit(7), bit(9), bit(10)
	if bit(11) {
		f.Before = BeforeComing
		switch {
		case bit(4):
			f.Before = BeforeServes
		case bit(9):
			f.Before = BeforeBegins
		}
	}
	if f.OnZKLoss = PolicyHold; bit(8) && f.Last == Announce {
		f.LastReason = ReasonLastResort
	}
	if bit(6) {
		f.Wait, f.OnZKLoss = ReasonFlapping, PolicyAnnounce
	} else if bit(1) {
		f.OnZKLoss = PolicyWithdraw
	}
	return f
}

// TestDecideKeepsThePromises checks the order of the promises for every combination of facts: sick and drained nodes do
// not announce; what is unknown starts nothing and stops nothing; a healthy node's own VIP goes for no other reason.
func TestDecideKeepsThePromises(t *testing.T) {
	n := 0
	everyFacts(func(f Facts) {
		n++
		v := Decide(f)
		if v.Reason == "" {
			t.Fatalf("%+v: no reason", f)
		}
		switch {
		case f.Health == health.Unhealthy && v.Action != Withdraw && !f.LastResort:
			t.Fatalf("%+v: a sick node: %v", f, v)
		case f.Health == health.Unhealthy && v.Action == Announce && f.Drain == NotDraining && (f.Others == OthersServe || f.Others == OthersUnread && f.LastReason != ReasonLastResort || f.Others == OthersPrior):
			t.Fatalf("%+v: a sick node that is not the last resort: %v", f, v)
		case f.Health == health.Unhealthy && f.LastResort && f.Drain == NotDraining && f.Others == OthersNone && f.Claim != ClaimPresent && f.Last == Announce && v.Action != Announce:
			t.Fatalf("%+v: the last announcer of a VIP went: %v", f, v)
		case f.Drain == Drained && v.Action != Withdraw:
			t.Fatalf("%+v: a drained node: %v", f, v)
		case f.Health == health.Unknown && f.Drain == NotDraining && v.Action == Announce:
			t.Fatalf("%+v: announced without a verdict of the check: %v", f, v)
		case f.Health == health.Unknown && f.Drain == NotDraining && !f.StartOver && v.Action != Hold:
			t.Fatalf("%+v: unknown health must hold: %v", f, v)
		}
		if f.Health != health.Healthy || f.Drain != NotDraining {
			return
		}
		switch {
		case f.Wait != "" && f.Last == Announce && !f.Unheard && v.Action == Withdraw && v.Reason == f.Wait:
			t.Fatalf("%+v: withdrew in order to wait: %v", f, v)
		case f.Wait != "" && (f.Others == OthersServe && (f.Last != Announce || f.Unheard) || f.Others == OthersUnread && f.Last == Withdraw && f.Served): // may wait
		case f.Authoritative && v.Action == Withdraw && f.Claim != ClaimPresent && f.Claim != ClaimReturns:
			t.Fatalf("%+v: the own VIP of a healthy node: %v", f, v)
		case !f.Authoritative && f.Standby && (f.Maintenance != PresenceUnknown || f.StartOver) && v.Action != Announce:
			t.Fatalf("%+v: a standby is always announced: %v", f, v)
		case !f.Authoritative && f.Standby:
		case !f.Authoritative && f.Claim == ClaimUnread && !f.ZooKeeperLost && v.Action != Hold:
			t.Fatalf("%+v: claims never read: %v", f, v)
		case !f.Authoritative && f.Claim == ClaimAbsent && f.Maintenance == PresenceAbsent && !f.ZooKeeperLost && v.Action != Announce && (f.Before == BeforeNone || f.Before < BeforeServes && f.Last == Announce):
			t.Fatalf("%+v: nobody claims it: %v", f, v)
		case f.Claim == ClaimReturns && f.Last == Announce && !f.ZooKeeperLost && f.Maintenance == PresenceAbsent && v.Action != Announce:
			t.Fatalf("%+v: within overlap both announce: %v", f, v)
		}
	})
	if n < 10000 {
		t.Fatalf("only %d combinations", n)
	}
}

// TestCoreFilesArePure fails when a file of the core imports what decides nothing, or starts a goroutine, makes a
// channel or reads the clock.
func TestCoreFilesArePure(t *testing.T) {
	allowed := []string{"cmp", "fmt", "net/netip", "slices", "strconv", "strings", "time", "exazk/exabgp", "exazk/health", "exazk/link", "exazk/zkstate"}
	for _, file := range []string{"core.go", "state.go", "event.go", "neighbor.go", "drain.go", "failback.go", "rank.go", "reload.go", "rib.go", "status.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			if path, _ := strconv.Unquote(imp.Path.Value); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", file, path)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", file)
			case *ast.ChanType:
				t.Errorf("%s has a channel", file)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "NewTimer", "Sleep"}, n.Sel.Name) {
					t.Errorf("%s uses time.%s", file, n.Sel.Name)
				}
			}
			return true
		})
	}
}

// walk makes random events from a seed.
type walk struct {
	*rand.Rand
	now time.Time
}

func (w *walk) event(last Decision) Event {
	ip := func() netip.Addr { return netip.AddrFrom4([4]byte{172, 16, 1, byte(6 + w.IntN(2))}) }
	switch w.IntN(14) {
	case 0, 1:
		return FromHealth{health.Changed{Service: "apex", State: health.State(1 + w.IntN(2))}}
	case 2, 3:
		return FromExaBGP{exabgp.NeighborChanged{Neighbor: exabgp.Neighbor{Peer: ip()}, State: exabgp.NeighborState(1 + w.IntN(3))}}
	case 4:
		return FromExaBGP{exabgp.NeighborsListed{Established: []netip.Addr{ip()}[:w.IntN(2)]}}
	case 5, 6, 7:
		if n := len(last.Table.Routes); n > 0 {
			return FromExaBGP{exabgp.RouteAccepted{Route: last.Table.Routes[w.IntN(n)], Epoch: last.Table.Epoch}}
		}
		return Tick{}
	case 8:
		if n := len(last.Table.Routes); n > 0 {
			return FromExaBGP{exabgp.RouteRefused{Route: last.Table.Routes[w.IntN(n)], Epoch: last.Table.Epoch}}
		}
		return Tick{}
	case 9:
		return FromZooKeeper{zkstate.SessionChanged{State: zkstate.State(w.IntN(4)), Timeout: 4 * time.Second, AfterLoss: w.IntN(2) == 0}}
	case 10, 11:
		claims := map[string]zkstate.Claim{}
		for _, vip := range []string{"10.20.255.1", "10.20.255.2", "10.20.255.3"} {
			claims[vip] = zkstate.Claim{Holder: zkstate.Holder(w.IntN(5))}
		}
		return FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Began: w.now, Claims: claims}}
	case 12:
		return FromZooKeeper{zkstate.MaintenanceRead{Service: "apex", Began: w.now, Present: w.IntN(3) == 0}}
	default:
		return FromZooKeeper{zkstate.PeersRead{Service: "apex", Began: w.now, Peers: map[string]zkstate.Status{
			"node2": {Node: "node2", Routes: []zkstate.StatusRoute{{VIP: "10.20.255.1", Announced: w.IntN(2) == 0}}},
		}}}
	}
}

// TestRandomWalk drives two cores with the same random events and checks at every step what must always hold.
func TestRandomWalk(t *testing.T) {
	cfg, err := ParseConfig("walk.toml", storyConfig)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(200) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
			w := &walk{rand.New(rand.NewPCG(seed, 0)), start}
			a, b := NewCore(cfg, Identity{Node: "node1"}), NewCore(cfg, Identity{Node: "node1"})
			var last Decision
			for range 300 {
				w.now = w.now.Add(time.Duration(w.IntN(800)) * time.Millisecond)
				ev := w.event(last)
				da, db := a.Step(w.now, ev), b.Step(w.now, ev)
				if !reflect.DeepEqual(da, db) {
					t.Fatalf("equal inputs, different decisions after %+v", ev)
				}
				checkDecision(t, a, w.now, da)
				last = da
			}
		})
	}
}

// TestQuietStepsRepeat drives two cores with the same random events, ticks and keepalives, one of which thinks at every step: what the
// other one repeats is what it would have thought.
func TestQuietStepsRepeat(t *testing.T) {
	for _, extra := range []string{"", "failback = \"manual\"\n", "failback_delay = \"7s\"\nlast_resort = true\n", "drain_style = \"gshut\"\non_zk_loss = \"announce\"\n"} {
		cfg, err := ParseConfig("quiet.toml", strings.Replace(storyConfig, "[service.check]", extra+"[service.check]", 1)+"[exabgp]\nhold_time = \"3s\"\n")
		if err != nil {
			t.Fatal(err)
		}
		quiet := 0
		for seed := range uint64(60) {
			w := &walk{rand.New(rand.NewPCG(seed, 1)), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}
			a, b := NewCore(cfg, Identity{Node: "node1"}), NewCore(cfg, Identity{Node: "node1"})
			var last Decision
			for range 300 {
				next := w.now.Add(time.Duration(w.IntN(900)) * time.Millisecond)
				ev := w.event(last)
				switch w.IntN(4) {
				case 0:
					ev = FromExaBGP{exabgp.NeighborHeard{Neighbor: exabgp.Neighbor{Peer: netip.AddrFrom4([4]byte{172, 16, 1, 6})}}}
				case 1, 2:
					ev = Tick{}
				}
				if last.Wake.Before(next) && !last.Wake.IsZero() {
					next, ev = last.Wake, Tick{}
				}
				w.now, b.quiet = next, false
				if a.quiet && ev == (Tick{}) {
					quiet++
				}
				da, db := a.Step(w.now, ev), b.Step(w.now, ev)
				da.Wake, last = db.Wake, da
				if !reflect.DeepEqual(da, db) {
					t.Fatalf("%q, seed %d: after %+v it repeats\n%+v\nand should have thought\n%+v", extra, seed, ev, da, db)
				}
			}
		}
		if quiet == 0 {
			t.Error("no step was quiet")
		}
	}
}

func checkDecision(t *testing.T, c *Core, now time.Time, d Decision) {
	t.Helper()
	if !d.Wake.After(now) {
		t.Errorf("wake %v is not after %v", d.Wake, now)
	}
	s := c.services[0]
	configured := []string{"10.20.255.1/32", "10.20.255.2/32", "10.20.255.3/32"}
	for _, r := range d.Table.Routes {
		switch {
		case !slices.Contains(configured, r.Prefix.String()):
			t.Errorf("a route that is not configured: %v", r)
		case !r.Withdraw && s.health.State == health.Unhealthy:
			t.Errorf("a sick node announces %v", r)
		case !r.Withdraw && !c.audible(s):
			t.Errorf("announced while no neighbor is up: %v", r)
		}
	}
	for key, w := range d.Want.Claims {
		if w != zkstate.Hold {
			continue
		}
		v := s.vips[slices.IndexFunc(s.vips, func(v *vip) bool { return v.name == key.VIP })]
		switch {
		case !v.authoritative || v.last.Action != Announce || v.last.Role != Authoritative:
			t.Errorf("claims %s, which it does not announce as its own: %v", key.VIP, v.last)
		case !c.accepted(v):
			t.Errorf("claims %s before its route was acknowledged", key.VIP)
		case s.drainSince != nil, c.established(s) < 1:
			t.Errorf("claims %s while drained or unheard", key.VIP)
		}
	}
}

func TestWithdrawsAreWrittenFirst(t *testing.T) {
	out := playStory(t, storyConfig, "2s steady\n5s claims apex 10.20.255.1=own 10.20.255.3\n")
	if want := "table 1: -10.20.255.3, +10.20.255.1 med 100, +10.20.255.2 med 200"; !strings.Contains(out, want) {
		t.Errorf("want %q in:\n%s", want, out)
	}
}

func TestStatusRecord(t *testing.T) {
	cfg, _ := ParseConfig("status.toml", storyConfig)
	c := NewCore(cfg, Identity{Node: "node1", Instance: "i1", Version: "v1"})
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	var d Decision
	for _, ev := range []Event{
		FromExaBGP{exabgp.NeighborsListed{Established: []netip.Addr{netip.MustParseAddr("172.16.1.6")}}},
		FromZooKeeper{zkstate.SessionChanged{State: zkstate.Connected}},
		FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Began: now, Claims: map[string]zkstate.Claim{"10.20.255.2": {Holder: zkstate.Foreign}}}},
		FromZooKeeper{zkstate.MaintenanceRead{Service: "apex", Began: now}},
		FromHealth{health.Changed{Service: "apex", State: health.Healthy}},
	} {
		d = c.Step(now, ev)
	}
	st := d.Want.Statuses["apex"]
	if st.Routes[0].Announced {
		t.Error("a route that was not acknowledged is shown as announced")
	}
	d = c.Step(now, FromExaBGP{exabgp.RouteAccepted{Route: d.Table.Routes[0], Epoch: d.Table.Epoch}})
	st = d.Want.Statuses["apex"]
	want := zkstate.StatusRoute{VIP: "10.20.255.1", Verdict: "announce", Role: "authoritative", MED: 100, Reason: "authoritative", Announced: true, Own: true, Since: "2000-01-01T00:00:00.000Z"}
	if st.Routes[0] != want {
		t.Errorf("got %+v, want %+v", st.Routes[0], want)
	}
	if st.Health != "healthy" || st.Maintenance != "absent" || len(st.Neighbors) != 1 || st.Neighbors[0].State != "up" {
		t.Errorf("got %+v", st)
	}
}

// TestStatusRecordOfDrift marks a route for as long as a look at what ExaBGP holds found it otherwise, and no longer.
func TestStatusRecordOfDrift(t *testing.T) {
	cfg, _ := ParseConfig("drift.toml", storyConfig)
	c := NewCore(cfg, Identity{Node: "node1"})
	for _, drifts := range [][]exabgp.Drift{nil, {{Route: exabgp.Route{Prefix: netip.MustParsePrefix("10.20.255.2/32")}}}, nil} {
		d := c.Step(epoch, FromExaBGP{exabgp.Drifted{Routes: drifts}})
		for _, r := range d.Want.Statuses["apex"].Routes {
			if want := len(drifts) > 0 && r.VIP == "10.20.255.2"; r.Drift != want {
				t.Errorf("after %+v: %+v, want drift %t", drifts, r, want)
			}
		}
	}
}

// TestStatusRecordOfAWithdraw shows a route as pending until ExaBGP has taken its withdraw: until then users still come.
func TestStatusRecordOfAWithdraw(t *testing.T) {
	cfg, _ := ParseConfig("pending.toml", storyConfig)
	c := NewCore(cfg, Identity{Node: "node1"})
	c.Step(epoch, FromExaBGP{exabgp.NeighborsListed{Established: []netip.Addr{netip.MustParseAddr("172.16.1.6")}}})
	d := c.Step(epoch, FromHealth{health.Changed{Service: "apex", State: health.Unhealthy}})
	pending := func(want bool) {
		t.Helper()
		for _, r := range d.Want.Statuses["apex"].Routes {
			if r.Pending != want || r.Announced || r.Verdict != "withdraw" {
				t.Errorf("want pending %t: %+v", want, r)
			}
		}
	}
	pending(true)
	for _, r := range d.Table.Routes {
		d = c.Step(epoch, FromExaBGP{exabgp.RouteAccepted{Route: r, Epoch: d.Table.Epoch}})
	}
	pending(false)
}

func TestEventsOfStrangersAreIgnored(t *testing.T) {
	cfg, _ := ParseConfig("strangers.toml", storyConfig)
	c := NewCore(cfg, Identity{Node: "node1"})
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	before := c.Step(now, Tick{})
	for _, ev := range []Event{
		FromHealth{health.Changed{Service: "other", State: health.Healthy}},
		FromZooKeeper{zkstate.ClaimsRead{Service: "other", Claims: map[string]zkstate.Claim{"192.0.2.1": {}}}},
		FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Claims: map[string]zkstate.Claim{"192.0.2.1; announce route 0.0.0.0/0": {Holder: zkstate.Foreign}}}},
		FromZooKeeper{zkstate.MaintenanceRead{Service: "other", Present: true}},
		FromZooKeeper{zkstate.PeersRead{Service: "other"}},
		FromExaBGP{exabgp.RouteAccepted{Route: exabgp.Route{Prefix: netip.MustParsePrefix("192.0.2.1/32")}}},
		FromExaBGP{exabgp.RouteRefused{Route: exabgp.Route{Prefix: netip.MustParsePrefix("192.0.2.1/32")}}},
	} {
		if d := c.Step(now, ev); !reflect.DeepEqual(d.Why, before.Why) || len(d.Table.Routes) > 0 {
			t.Errorf("%+v changed something: %+v", ev, d)
		}
	}
}

// BenchmarkStep measures a step of a steady node in which nothing is new, and one that thinks.
func BenchmarkStep(b *testing.B) {
	cfg, err := ParseConfig("bench.toml", storyConfig)
	if err != nil {
		b.Fatal(err)
	}
	for _, quiet := range []bool{true, false} {
		b.Run(fmt.Sprintf("quiet=%v", quiet), func(b *testing.B) {
			c := NewCore(cfg, Identity{Node: "node1"})
			now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
			c.Step(now, FromHealth{health.Changed{Service: "apex", State: health.Healthy}})
			for b.Loop() {
				now = now.Add(time.Second)
				c.quiet = c.quiet && quiet
				c.Step(now, Tick{})
			}
		})
	}
}
