package exa

import (
	"math/rand/v2"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/sim/vclock"
)

// TestStaleRoute: two routers, the session to the second is down. A VIP is announced, announced with another MED (a drain),
// and withdrawn, each acknowledged, all within one pause between two attempts to connect. Then the second session comes up.
// Meanwhile the first one may be reset, or the process may die.
func TestStaleRoute(t *testing.T) {
	for _, with := range []string{"nothing else", "reset", "respawn before", "respawn between"} {
		t.Run(with, func(t *testing.T) { playStale(t, with) })
	}
}

func playStale(t *testing.T, with string) {
	clock := vclock.New(begin)
	r := rand.New(rand.NewPCG(1, 1))
	d := newDriver(clock)
	tors := []*Tor{NewTor(clock, r, nil), NewTor(clock, r, nil)}
	cfg := Config{Acks: true, Changes: true, HoldTime: 3 * time.Second, Peers: []Peer{testPeer(0), testPeer(1)}}
	x := New(clock, r, cfg, d, tors)
	pass := func(t time.Duration) { clock.Run(clock.Now().Add(t)) }
	x.Start()
	pass(5 * time.Second)
	tors[1].Link(false)
	for x.peers[1].state != idling || x.peers[1].next < 25 { // a long pause has just begun
		pass(100 * time.Millisecond)
	}
	routes := []exabgp.Route{{Prefix: host(1), MED: 100}, {Prefix: host(1), MED: 300}, {Prefix: host(1), Withdraw: true}}
	for i, route := range routes {
		if with == "respawn before" && i == 1 || with == "respawn between" && i == 2 {
			d.Kill()
			pass(2 * time.Second)
		}
		d.want(exabgp.Table{Epoch: d.table.Epoch, Routes: []exabgp.Route{route}})
		pass(500 * time.Millisecond)
		if got := d.got[host(1)].Route; got != route {
			t.Fatalf("not accepted: %+v", route)
		}
	}
	if with == "reset" {
		tors[0].Reset()
		pass(4 * time.Second)
	}
	tors[1].Link(true)
	pass(5 * time.Minute)
	for i, tor := range tors {
		if route, has := tor.Route(host(1)); has || !tor.Up() {
			t.Errorf("five minutes later router %d has %+v, adj-rib-out is %v", i, route, x.RIB())
		}
	}
}
