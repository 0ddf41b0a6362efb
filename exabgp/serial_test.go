package exabgp

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestNewWishForWhatIsHeld plays the changes of mind that never reach ExaBGP: each new wish is answered, without a command.
func TestNewWishForWhatIsHeld(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	w := NewWriter(Options{Interactive: true}) // every command is accepted once it is written
	announce := Route{Prefix: netip.MustParsePrefix("10.20.255.1/32"), MED: 100, Serial: 1}
	withdraw := Route{Prefix: announce.Prefix, Withdraw: true, Serial: 2}
	again := announce
	again.Serial = 3
	w.Step(now, Begin{})
	step := func(in Input) Output { now = now.Add(time.Second); return w.Step(now, in) }
	accepted := func(out Output, want ...Route) {
		t.Helper()
		var got []Route
		for _, ev := range out.Events {
			if a, ok := ev.(RouteAccepted); ok {
				got = append(got, a.Route)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("accepted %+v, want %+v", got, want)
		}
	}
	if out := step(Told{Table{Routes: []Route{announce}}}); out.Write == nil {
		t.Fatal("nothing written")
	}
	accepted(step(Written{}), announce)

	out := step(Told{Table{Routes: []Route{again}}}) // the withdraw in between was replaced before it was told
	if out.Write != nil {
		t.Errorf("wrote %q for what is held", out.Write)
	}
	accepted(out, again)
	accepted(step(Told{Table{Routes: []Route{again}}}))

	withdraw.Serial, again.Serial = 4, 5
	if out := step(Told{Table{Routes: []Route{withdraw}}}); out.Write == nil {
		t.Fatal("withdraw not written")
	}
	accepted(step(Told{Table{Routes: []Route{again}}})) // the withdraw is in flight: not held for long
	out = step(Written{})
	accepted(out, withdraw)
	for out.Write == nil {
		out = step(Tick{})
	}
	accepted(step(Written{}), again)
}

// TestSupersededEvents keeps what waits for a slow listener from growing with every poll and every keepalive, and drops
// nothing else: the order of what is left stays.
func TestSupersededEvents(t *testing.T) {
	a, b := Neighbor{Peer: netip.MustParseAddr("192.0.2.2")}, Neighbor{Peer: netip.MustParseAddr("192.0.2.3")}
	q := newQueue(supersedes)
	listed := func(peers ...netip.Addr) Event { return NeighborsListed{Established: peers} }
	for _, ev := range []Event{
		NeighborHeard{a}, NeighborHeard{a}, NeighborHeard{b}, NeighborHeard{a},
		listed(), listed(a.Peer), NeighborHeard{a}, listed(),
		NeighborChanged{Neighbor: a, State: NeighborDown}, NeighborChanged{Neighbor: a, State: NeighborDown},
	} {
		q.put(ev)
	}
	var got []string
	for _, ev := range q.take() {
		got = append(got, describe(ev))
	}
	down := `neighbor 192.0.2.2 local=invalid IP state=1 ""`
	want := []string{"heard 192.0.2.2 local=invalid IP", "heard 192.0.2.3 local=invalid IP", "heard 192.0.2.2 local=invalid IP",
		"listed [192.0.2.2]", "heard 192.0.2.2 local=invalid IP", "listed []", down, down}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
