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
