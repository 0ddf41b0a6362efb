package exabgp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkTold is a new table of a thousand routes with every attribute, one of which changed, and the command that follows.
func BenchmarkTold(b *testing.B) {
	r := newBenchRig(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.table.Routes[i%1000].MED++
		r.step(Told{r.table})
		r.now = r.now.Add(time.Second)
		r.step(Tick{})
	}
}

// BenchmarkIdle is one keepalive of a neighbor while a thousand routes stand.
func BenchmarkIdle(b *testing.B) {
	r := newBenchRig(b)
	b.ReportAllocs()
	for b.Loop() {
		r.step(Heard{Verdict{Kind: News, Event: NeighborHeard{Neighbor{Peer: modelPeer(2)}}}})
	}
}

type benchRig struct {
	*rig
	table Table
}

func newBenchRig(b *testing.B) *benchRig {
	r := &benchRig{rig: &rig{w: NewWriter(Options{}), now: epochStart}, table: Table{Epoch: 1}}
	for i := range 1000 {
		r.table.Routes = append(r.table.Routes, Route{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.0.%d.%d/32", i/250, i%250)),
			MED: 100, ASPath: "65001 65001", Communities: "65001:20 65535:0", LargeCommunities: "65001:1:2", ExtendedCommunities: "target:65001:5"})
	}
	r.step(Begin{})
	r.step(Told{r.table})
	r.run(10 * time.Second)
	if len(r.w.rows) != 1000 || !r.w.stands(&r.w.rows[999]) {
		b.Fatal("not all routes were taken")
	}
	return r
}
