package exabgp

import (
	"net/netip"
	"testing"
	"time"
)

// TestReplyBetweenTheTwoQuestions hears a reply that belongs to nothing after the list of routes, before the configuration
// was asked for: whether every neighbor keeps a list is not known, so the withdraw must be written.
func TestReplyBetweenTheTwoQuestions(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	w := NewWriter(Options{Track: true})
	asked := false
	step := func(in Input) {
		now = now.Add(time.Millisecond)
		out := w.Step(now, in)
		asked = asked || string(out.Write) == queryConfiguration+"\n"
		for _, ev := range out.Events {
			if _, ok := ev.(RouteAccepted); ok && !asked {
				t.Errorf("%s, and whether neighbors keep a list was not asked", describe(ev))
			}
		}
	}
	step(Told{Table{Epoch: 1, Routes: []Route{{Prefix: netip.MustParsePrefix("10.20.255.2/32"), Withdraw: true}}}})
	step(Begin{})
	for _, l := range []string{"error", "Peer            AS        up/down state       |     #sent     #recvd", "done"} {
		step(Heard{Decode([]byte(l))})
	}
	step(Written{})                     // and the routes are asked for
	step(Heard{Decode([]byte("done"))}) // answered before the end of the write is seen
	step(Heard{Decode([]byte("done"))}) // and once more
}
