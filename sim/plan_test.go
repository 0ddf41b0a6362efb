package sim

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"exazk/sim/fault"
)

// TestTogether: what breaks one check breaks all of them at about the same time, and nothing else does.
func TestTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	sick := fault.Fault{Kind: fault.SickCheck, Node: 1, At: time.Minute, For: 10 * time.Second}
	crash := fault.Fault{Kind: fault.Crash, Node: 0, At: 50 * time.Second, For: time.Second}
	got := together(r, []fault.Fault{crash, sick}, 3)
	if len(got) != 4 || got[0] != crash {
		t.Fatalf("got %v, want the crash and three nodes that are sick", got)
	}
	nodes := map[int]bool{}
	for _, f := range got[1:] {
		nodes[f.Node] = true
		if f.Kind != fault.SickCheck || f.For != sick.For || (f.At-sick.At).Abs() > 250*time.Millisecond {
			t.Errorf("%v is not %v on another node at about the same time", f, sick)
		}
	}
	if len(nodes) != 3 {
		t.Errorf("nodes %v are sick, want three", nodes)
	}
	if !slices.IsSortedFunc(got, func(a, b fault.Fault) int { return int(a.At - b.At) }) {
		t.Errorf("%v are not in order", got)
	}
}

// TestOwners: each VIP has its node, and where one is shared, one VIP has two.
func TestOwners(t *testing.T) {
	for _, test := range []struct {
		knobs  Knobs
		second int // node that is the owner of another's VIP, or -1 ...
		vip    int // ... which is this one
	}{
		{Knobs{Nodes: 3}, -1, 0},
		{Knobs{Nodes: 3, Python: true}, -1, 0},
		{Knobs{Nodes: 3, Shared: true}, 1, 0},
		{Knobs{Nodes: 3, Shared: true, Python: true}, 0, 2},
	} {
		k := &test.knobs
		for n := range k.Nodes {
			for v := range k.Nodes {
				want := n == v || n == test.second && v == test.vip
				if got := k.owns(n, v); got != want {
					t.Errorf("%+v: node %d owns VIP %d: %v", test, n, v, got)
				}
				listed := slices.Contains(k.config(n, 0).Services[0].Authoritative, vipOf(v))
				if listed != want {
					t.Errorf("%+v: node %d is configured as the owner of VIP %d: %v", test, n, v, listed)
				}
			}
		}
		for v := range k.Nodes {
			if got := k.shared(v); got != (test.second >= 0 && v == test.vip) {
				t.Errorf("%+v: VIP %d is shared: %v", test, v, got)
			}
		}
	}
}

// TestRefusals: where one of so many commands is refused, ExaBGP's answer reaches exazk, and all is well in the end.
func TestRefusals(t *testing.T) {
	p := Plan{Knobs: Draw(1).Knobs, Faults: []fault.Fault{{Kind: fault.ResetSession, Node: 0, At: time.Minute}}}
	p.Knobs.Acks, p.Knobs.Planned, p.Knobs.Still, p.Knobs.Refusals = true, false, false, 8
	refused := 0
	r := Play(p, true)
	for _, line := range r.Story {
		if line.Text == "< refused " {
			refused++
		}
	}
	if refused == 0 || r.Violation != nil {
		t.Errorf("%d commands were refused, and the run ended with %v", refused, r.Violation)
	}
}

// TestVariants: a node's first configuration is the plain one; later ones change one thing or the other, and never take its own VIP.
func TestVariants(t *testing.T) {
	k := Draw(7).Knobs
	k.Nodes, k.Shared, k.Standby = 3, false, true
	seen := map[string]bool{}
	for variant := range 60 {
		conf := k.config(1, variant)
		s := conf.Services[0]
		seen["listed"] = seen["listed"] || slices.Equal(conf.ExaBGP.Neighbors, []netip.Addr{peerOf(1)})
		if !slices.Equal(s.Authoritative, []netip.Prefix{vipOf(1)}) {
			t.Fatalf("variant %d has %v as its own", variant, s.Authoritative)
		}
		seen["without"] = seen["without"] || len(s.BackupFor) == 1
		seen["med"] = seen["med"] || s.Announce.Backup.MED == backupMED+100
		seen["slower"] = seen["slower"] || s.Overlap == 2*k.Overlap
		seen["check"] = seen["check"] || s.Checks[0].Rise != k.Rise || s.Checks[0].Fall != k.Fall
		if variant == 0 && (len(s.BackupFor) != 2 || seen["med"] || seen["slower"] || seen["check"] || seen["listed"]) {
			t.Errorf("the first configuration is changed: %+v", s)
		}
	}
	if len(seen) != 5 || !seen["listed"] || !seen["without"] || !seen["med"] || !seen["slower"] || !seen["check"] {
		t.Errorf("of what may change only %v does in 60 variants", seen)
	}
	s := k.config(1, 0).Services[0]
	if order, want := s.Order[vipOf(0)], []string{"node2", "node3"}; !slices.Equal(order, want) || k.rank(1, 0) != 0 || k.rank(2, 0) != 1 || k.rank(0, 2) != 0 {
		t.Errorf("the order of the first VIP's backups is %v, want %v, and ranks %d %d %d, want 0 1 0", order, want, k.rank(1, 0), k.rank(2, 0), k.rank(0, 2))
	}
}

// TestNewKnobsAreRare: what is known stays tested as it was in most seeds.
func TestNewKnobsAreRare(t *testing.T) {
	plain, standby, first, after := 0, 0, 0, 0
	const n = 3000
	for seed := range uint64(n) {
		switch k := Draw(seed).Knobs; {
		case k.Standby:
			standby++
		case k.First:
			first++
		case k.ZKLossAfter > 0:
			after++
		default:
			plain++
		}
	}
	if plain < n/2 || standby < n/20 || first < n/20 || after < n/20 {
		t.Errorf("of %d seeds %d are plain, %d have standby, %d first, %d zk_loss_after", n, plain, standby, first, after)
	}
}
