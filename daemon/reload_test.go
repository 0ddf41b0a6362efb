package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

// TestReloadNewSerials: a VIP that goes and comes back, or moves to another service, wants its route under another serial each time.
// exabgp.Writer says once of each that it stands, and may never have seen the VIP gone.
func TestReloadNewSerials(t *testing.T) {
	text := func(apex, www string) *Config {
		cfg, err := ParseConfig("test.toml", fmt.Sprintf(`node = "node1"
zookeeper.hosts = ["zk:2181"]
[[service]]
name = "apex"
backup_for = [%s]
check.command = "true"
[[service]]
name = "www"
backup_for = [%s]
check.command = "true"
`, apex, www))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	const stays, moves = `"10.20.255.1"`, `"10.20.255.2"`
	with, without := text(stays+", "+moves, `"10.20.255.3"`), text(stays, `"10.20.255.3"`)
	c := NewCore(with, Identity{Node: "node1"})
	now := time.Unix(0, 0)
	serials, all := map[uint64]string{}, map[exabgp.Route]bool{}
	for i, cfg := range []*Config{with, without, with, text(stays, `"10.20.255.3", `+moves), with} {
		c.Step(now, Reload{Config: cfg})
		c.Step(now, FromHealth{health.Changed{Service: "www", State: health.Unhealthy}})
		d := c.Step(now, FromHealth{health.Changed{Service: "apex", State: health.Unhealthy}})
		for _, r := range d.Table.Routes {
			switch r.Prefix.String() {
			case "10.20.255.1/32":
				all[r] = true
			case "10.20.255.2/32":
				if first, twice := serials[r.Serial]; twice {
					t.Errorf("configuration %d has %+v, with the serial of %s", i, r, first)
				}
				serials[r.Serial] = fmt.Sprintf("%d: %+v", i, r)
			}
		}
	}
	if len(serials) != 5 || len(all) != 1 {
		t.Errorf("%d serials of the VIP that moves, and %v of the one that stays; want 5 and 1", len(serials), all)
	}
}

// TestReloadGivesAnAudienceBack: a file that nobody could hear this node by is mended. No session comes up for that, and the
// acknowledgements must count all the same, or the claim would never be held again.
func TestReloadGivesAnAudienceBack(t *testing.T) {
	for name, lines := range map[string]string{
		"a neighbor that there is not": `neighbors = ["172.16.1.99"]`,
		"more neighbors than are up":   "min_neighbors = 2",
	} {
		t.Run(name, func(t *testing.T) {
			good, err := ParseConfig("good.toml", storyConfig)
			if err != nil {
				t.Fatal(err)
			}
			bad, err := ParseConfig("bad.toml", strings.Replace(storyConfig, `name = "apex"`, "name = \"apex\"\n"+lines, 1))
			if err != nil {
				t.Fatal(err)
			}
			c, claim := NewCore(good, Identity{Node: "node1"}), zkstate.ClaimKey{Service: "apex", VIP: "10.20.255.1"}
			step := func(ev Event) Decision {
				d := c.Step(epoch, ev)
				for _, r := range d.Table.Routes {
					if r.Neighbor != netip.MustParseAddr("172.16.1.99") {
						d = c.Step(epoch, FromExaBGP{exabgp.RouteAccepted{Route: r, Epoch: d.Table.Epoch}})
					}
				}
				return d
			}
			step(FromExaBGP{exabgp.NeighborsListed{Established: []netip.Addr{netip.MustParseAddr("172.16.1.6")}}})
			step(FromZooKeeper{zkstate.SessionChanged{State: zkstate.Connected}})
			step(FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Began: epoch}})
			step(FromZooKeeper{zkstate.MaintenanceRead{Service: "apex", Began: epoch}})
			step(FromHealth{health.Changed{Service: "apex", State: health.Healthy}})
			for _, s := range []struct {
				cfg  *Config
				want zkstate.Wish
			}{{good, zkstate.Hold}, {bad, zkstate.Release}, {good, zkstate.Hold}} {
				if d := step(Reload{s.cfg}); d.Want.Claims[claim] != s.want {
					t.Errorf("%v: the claim is to %v, not to %v", s.cfg.Services[0].Neighbors, d.Want.Claims[claim], s.want)
				}
			}
		})
	}
}

// TestRemovedVIPsWaitForEveryNeighbor: what left the configuration is withdrawn until ExaBGP has acknowledged that while every
// neighbor was up. One that never was in this life is not known, unless the configuration names it.
func TestRemovedVIPsWaitForEveryNeighbor(t *testing.T) {
	one, two := netip.MustParseAddr("172.16.1.6"), netip.MustParseAddr("172.16.2.6")
	for name, test := range map[string]struct {
		chosen string
		up     []netip.Addr
		want   bool
	}{
		"none up":            {"", nil, true},
		"all known up":       {"", []netip.Addr{one}, false},
		"one of two chosen":  {`neighbors = ["172.16.1.6", "172.16.2.6"]`, []netip.Addr{one}, true},
		"both of two chosen": {`neighbors = ["172.16.1.6", "172.16.2.6"]`, []netip.Addr{one, two}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := ParseConfig("f.toml", strings.Replace(storyConfig, "[zookeeper]", "[exabgp]\n"+test.chosen+"\n[zookeeper]", 1))
			if err != nil {
				t.Fatal(err)
			}
			removed := exabgp.Route{Prefix: netip.MustParsePrefix("10.20.255.9/32")}
			c, now := NewCore(cfg, Identity{Node: "node1"}, removed), time.Now()
			d := c.Step(now, FromExaBGP{exabgp.NeighborsListed{Established: test.up}})
			for _, r := range d.Table.Routes {
				d = c.Step(now, FromExaBGP{exabgp.RouteAccepted{Route: r, Epoch: d.Table.Epoch}})
			}
			d = c.Step(now, FromExaBGP{exabgp.NeighborsListed{Established: test.up}})
			got := slices.ContainsFunc(d.Table.Routes, func(r exabgp.Route) bool { return r.Prefix == removed.Prefix && r.Withdraw && r.Left })
			if got != test.want {
				t.Errorf("withdrawn further on: %t, table %s", got, renderRoutes(d.Table.Routes))
			}
		})
	}
}
