package exabgp

import (
	"net/netip"
	"testing"
	"time"
)

// TestReplyBeforeWritten gives every reply before the end of the write that it answers: ExaBGP is quick, and which of the
// two the shell sees first is chance.
func TestReplyBeforeWritten(t *testing.T) {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	w := NewWriter(Options{Track: true})
	var wrote []string
	step := func(in Input) {
		now = now.Add(time.Millisecond)
		if out := w.Step(now, in); out.Write != nil {
			wrote = append(wrote, string(out.Write))
		}
	}
	heard := func(lines ...string) {
		for _, l := range lines {
			step(Heard{Decode([]byte(l))})
		}
	}
	step(Told{Table{Epoch: 1, Routes: []Route{{Prefix: netip.MustParsePrefix("10.20.255.2/32"), Withdraw: true}}}})
	step(Begin{})
	heard("error", "Peer            AS        up/down state       |     #sent     #recvd", "done")
	step(Written{})
	heard("done") // to show adj-rib-out
	step(Written{})
	if want := []string{"\nshow neighbor summary\n", queryRoutes + "\n", queryConfiguration + "\n"}; len(wrote) != 3 || wrote[0] != want[0] || wrote[1] != want[1] || wrote[2] != want[2] {
		t.Errorf("wrote %q, want %q", wrote, want)
	}
}
