package daemon

import (
	"net/netip"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/link"
)

// linkCore is a core with one neighbor whose session is up.
func linkCore(t *testing.T, more string) (*Core, func(Event) *neighbor) {
	t.Helper()
	cfg, err := ParseConfig("link.toml", storyConfig+more)
	if err != nil {
		t.Fatal(err)
	}
	c := NewCore(cfg, Identity{Node: "node1"})
	step := func(ev Event) *neighbor {
		c.Step(epoch, ev)
		return &c.neighbors[0]
	}
	id := exabgp.Neighbor{Local: netip.MustParseAddr("172.16.1.1"), Peer: netip.MustParseAddr("172.16.1.6")}
	if n := step(FromExaBGP{exabgp.NeighborChanged{Neighbor: id, State: exabgp.NeighborUp}}); !n.usable() {
		t.Fatalf("neighbor %+v", n)
	}
	return c, step
}

func onLink(name string, up bool) FromLink {
	return FromLink{link.Changed{Interface: name, Up: up, Prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.1.1/29")}}}
}

// TestRemovedLink takes the interface away under a session: it has no addresses any more, but its sessions are known.
func TestRemovedLink(t *testing.T) {
	c, step := linkCore(t, "")
	if n := step(onLink("eth0", true)); !n.usable() {
		t.Errorf("the link is up, the neighbor %s", n.word())
	}
	if n := step(FromLink{link.Changed{Interface: "eth1", Removed: true}}); !n.usable() {
		t.Errorf("another link is removed, the neighbor %s", n.word())
	}
	if n := step(FromLink{link.Changed{Interface: "eth0", Removed: true}}); n.word() != "link-down" {
		t.Errorf("the link is removed, the neighbor %s", n.word())
	}
	if len(c.links) != 0 {
		t.Errorf("removed links are remembered: %v", c.links)
	}
	if n := step(FromExaBGP{exabgp.NeighborChanged{Neighbor: c.neighbors[0].id, State: exabgp.NeighborUp}}); !n.usable() {
		t.Errorf("a new session does not count for a link that is gone: %s", n.word())
	}
}

// TestAddressOnTwoLinks moves the session's address: as long as one interface that has it is up, a new session counts.
func TestAddressOnTwoLinks(t *testing.T) {
	c, step := linkCore(t, "")
	step(FromLink{link.Changed{Interface: "mgmt", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.66.1/24")}}})
	step(onLink("eth0", false))
	again := FromExaBGP{exabgp.NeighborChanged{Neighbor: c.neighbors[0].id, State: exabgp.NeighborUp}}
	if n := step(again); n.word() != "link-down" {
		t.Errorf("its only link is down, the neighbor %s", n.word())
	}
	step(onLink("eth1", true))
	for range 20 { // the order in which links are looked at must not matter
		if n := step(again); !n.usable() {
			t.Fatalf("one of two links is up, the neighbor %s", n.word())
		}
	}
}

// TestKeepaliveOfAnother hears a neighbor that does not hear exazk: it is no neighbor of ours, and its silence no news.
func TestKeepaliveOfAnother(t *testing.T) {
	c, step := linkCore(t, "[exabgp]\nneighbors = [\"172.16.1.6\"]\nhold_time = \"3s\"\n")
	step(FromExaBGP{exabgp.NeighborHeard{Neighbor: exabgp.Neighbor{Peer: netip.MustParseAddr("192.0.2.99")}}})
	if n := c.neighbors[1]; n.usable() || len(c.status(c.services[0]).Neighbors) != 1 {
		t.Errorf("neighbors %+v", c.neighbors)
	}
	c.Step(epoch.Add(2900*time.Millisecond), FromExaBGP{exabgp.NeighborHeard{Neighbor: exabgp.Neighbor{Peer: netip.MustParseAddr("192.0.2.99")}}})
	if n := &c.neighbors[0]; !n.usable() || !n.spoke.IsZero() {
		t.Errorf("neighbor %+v", n)
	}
}
