package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestRendezvousNeverChanges: nodes of two releases must come to the same order, or two of them take over, or none.
func TestRendezvousNeverChanges(t *testing.T) {
	for claim, want := range map[string]string{
		"10.20.255.1":    "node2 node4 node3 node1",
		"10.20.255.2":    "node1 node3 node2 node4",
		"10.20.255.3":    "node1 node3 node2 node4",
		"192.0.2.0_24":   "node4 node2 node3 node1",
		"2001:db8::53":   "node2 node3 node4 node1",
		"2001:db8::_64":  "node4 node1 node3 node2",
		"203.0.113.255":  "node3 node2 node1 node4",
		"10.255.255.255": "node2 node1 node4 node3",
	} {
		for _, nodes := range [][]string{{"node1", "node2", "node3", "node4"}, {"node4", "node2", "node3", "node1"}} {
			if got := strings.Join(rendezvous(claim, nodes), " "); got != want {
				t.Errorf("%s: %s, want %s", claim, got, want)
			}
		}
	}
}

// TestRendezvousIsFair: of all VIPs of a node that goes, each other node gets about the same number; and a node more, or less,
// leaves the order of the rest as it was.
func TestRendezvousIsFair(t *testing.T) {
	nodes := []string{"lb1", "lb2", "lb3", "lb4", "lb5"}
	const vips = 2000
	first := map[string]int{}
	for i := range vips {
		claim := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()
		order := rendezvous(claim, nodes)
		first[order[0]]++
		without := slices.DeleteFunc(slices.Clone(order), func(n string) bool { return n == "lb3" })
		if got := rendezvous(claim, []string{"lb1", "lb2", "lb4", "lb5"}); !slices.Equal(got, without) {
			t.Fatalf("%s: %v without lb3, was %v", claim, got, order)
		}
	}
	for _, n := range nodes {
		if want := vips / len(nodes); first[n] < want*8/10 || first[n] > want*12/10 {
			t.Errorf("%s is the first of %d VIPs, of %d", n, first[n], vips)
		}
	}
}

// TestOrderIsTheSameOnAllNodes reads the file of each node of a service: where two of them back a VIP up, its order is one.
func TestOrderIsTheSameOnAllNodes(t *testing.T) {
	nodes := []string{"a", "b", "c", "d"}
	const vips = 12
	all := map[netip.Prefix][]string{}
	for _, node := range nodes {
		var own, others, owners []string
		for i := range vips {
			vip := fmt.Sprintf("2001:db8::%x", i+1)
			if nodes[i%len(nodes)] == node {
				own = append(own, vip)
			} else {
				others = append(others, vip)
			}
			owners = append(owners, fmt.Sprintf("%q = %q", vip, nodes[i%len(nodes)]))
		}
		c, err := ParseConfig("f.toml", fmt.Sprintf(`
node = %q
zookeeper = {hosts = ["zk"]}
exabgp = {local_as = 65001}
[[service]]
name = "apex"
backup = "standby"
authoritative = %s
backup_for = %s
nodes = %s
[service.owners]
%s
[service.check]
command = "true"
`, node, tomlList(own), tomlList(others), tomlList(nodes), strings.Join(owners, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		s := c.Services[0]
		if len(s.Order) != vips {
			t.Errorf("%s has an order of %d VIPs", node, len(s.Order))
		}
		for vip, order := range s.Order {
			if before, there := all[vip]; there && !slices.Equal(order, before) {
				t.Errorf("%s: %v on %s, and %v before", vip, order, node, before)
			}
			if all[vip] = order; len(order) != len(nodes)-1 || slices.Contains(order, s.Owners[vip]) {
				t.Errorf("%s of %s: %v", vip, s.Owners[vip], order)
			}
		}
	}
}

func TestRanksComeBeforeTheHash(t *testing.T) {
	const ranks = "[service.ranks]\n\"10.20.255.2\" = [\"x\", \"node1\"]\n\"10.20.255.3\" = [\"node1\"]\n\"10.20.255.1\" = []\n"
	c, err := ParseConfig("f.toml", strings.Replace(storyConfig, "[service.check]", "backups = \"first\"\n"+ranks+"[service.check]", 1))
	if err != nil {
		t.Fatal(err)
	}
	order := c.Services[0].Order
	for vip, want := range map[string]string{"10.20.255.1/32": "", "10.20.255.2/32": "x node1", "10.20.255.3/32": "node1"} {
		if got := strings.Join(order[netip.MustParsePrefix(vip)], " "); got != want {
			t.Errorf("%s: %q, want %q", vip, got, want)
		}
	}
}
