package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// management is the namespace that is only a bridge: the network between ZooKeeper and the load balancers.
const management = "mgmt"

var (
	routers   = []string{"r0", "r1", "r2", "r3"}
	balancers = []string{"lb1", "lb2", "lb3"}
)

// ensemble is the number of servers of a lab with more than one: what loses one and goes on.
const ensemble = 3

// zkServers are the hosts that ZooKeeper runs on, for a number of servers that Options.check accepts.
func zkServers(n int) []string {
	if n == 1 {
		return []string{"zk"}
	}
	return []string{"zk1", "zk2", "zk3"}
}

// hostsOf lists the namespaces that have a keeper and run processes.
func hostsOf(zk int) []string {
	return slices.Concat(routers, balancers, zkServers(zk), []string{"client"})
}

func namespacesOf(zk int) []string { return append([]string{management}, hostsOf(zk)...) }

// everyNamespace is that of any lab, whatever its options were.
func everyNamespace() []string { return append(namespacesOf(1), zkServers(ensemble)...) }

// Hosts are the names of the lab's hosts: routers, load balancers, ZooKeeper servers and client.
func (l *Lab) Hosts() []string { return hostsOf(l.opt.ZKServers) }

// ZKServers are the names of the hosts that ZooKeeper runs on: "zk" alone, or "zk1" to "zk3".
func (l *Lab) ZKServers() []string { return zkServers(l.opt.ZKServers) }

// Routers are the names of the spine and the leaves.
func Routers() []string { return slices.Clone(routers) }

// Balancers are the names of the load balancers, lb1 first.
func Balancers() []string { return slices.Clone(balancers) }

// VIPs are the service's addresses. The load balancer with the same index in Balancers owns it.
func VIPs() []netip.Addr {
	var vips []netip.Addr
	for i := range balancers {
		vips = append(vips, netip.AddrFrom4([4]byte{10, 20, 255, byte(i + 1)}))
	}
	return vips
}

// Leaf is the name of the router that a load balancer is connected to.
func Leaf(lb string) string { return "r" + strings.TrimPrefix(lb, "lb") }

// end is one end of a link. The interface is named after what it leads to.
type end struct {
	host string
	ifc  string
	addr netip.Prefix // invalid for a port of the bridge
}

type link [2]end

// links of a lab with that many ZooKeeper servers.
func links(zk int) []link {
	p := netip.MustParsePrefix
	var all []link
	for i := range 3 {
		leaf, lb, net := fmt.Sprintf("r%d", i+1), fmt.Sprintf("lb%d", i+1), 8*i
		all = append(all,
			link{{"r0", leaf, p(fmt.Sprintf("172.16.0.%d/29", net+6))}, {leaf, "r0", p(fmt.Sprintf("172.16.0.%d/29", net+5))}},
			link{{leaf, lb, p(fmt.Sprintf("172.16.1.%d/29", net+6))}, {lb, leaf, p(fmt.Sprintf("172.16.1.%d/29", net+1))}},
			link{{lb, management, p(fmt.Sprintf("192.168.66.%d/24", i+1))}, {management, lb, netip.Prefix{}}})
	}
	all = append(all, link{{"r0", "client", p("172.16.2.6/29")}, {"client", "r0", p("172.16.2.1/29")}})
	for i, name := range zkServers(zk) {
		addr := netip.PrefixFrom(zkAddrs(zk)[i].Addr(), 24)
		all = append(all, link{{name, management, addr}, {management, name, netip.Prefix{}}})
	}
	return all
}

// findLink returns the link between two hosts, with a's end first.
func findLink(zk int, a, b string) (link, error) {
	for _, l := range links(zk) {
		if l[0].host == a && l[1].host == b {
			return l, nil
		}
		if l[0].host == b && l[1].host == a {
			return link{l[1], l[0]}, nil
		}
	}
	return link{}, fmt.Errorf("no link between %q and %q", a, b)
}

// gateway returns the address of a host's default router; routers have none, they learn their routes over BGP.
func gateway(host string) (netip.Addr, bool) {
	if slices.Contains(routers, host) {
		return netip.Addr{}, false
	}
	for _, l := range links(1) { // the number of ZooKeeper servers makes no difference to it
		if l[1].host == host && slices.Contains(routers, l[0].host) {
			return l[0].addr.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// zkAddrs is where ZooKeeper listens for clients: .10 for a server alone, .11 to .13 for those of an ensemble.
func zkAddrs(zk int) []netip.AddrPort {
	var addrs []netip.AddrPort
	for i := range zkServers(zk) {
		last := byte(10)
		if zk > 1 {
			last += byte(i) + 1
		}
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 66, last}), 2181))
	}
	return addrs
}

// hostsFile is /etc/hosts of every host.
func hostsFile(zk int) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	seen := map[string]bool{}
	for _, l := range links(zk) {
		for _, e := range l {
			if !e.addr.IsValid() {
				continue
			}
			name := e.host
			if seen[name] || (slices.Contains(balancers, name) && e.ifc == management) {
				name += "-" + e.ifc // one name, one address; the others of a host are named after their interface
			}
			seen[name] = true
			fmt.Fprintf(&b, "%s %s\n", e.addr.Addr(), name)
		}
	}
	return b.String()
}

// ManagementAddr is the address of a load balancer on the management network.
func ManagementAddr(lb string) netip.Addr {
	for _, l := range links(1) {
		if l[0].host == lb && l[1].host == management {
			return l[0].addr.Addr()
		}
	}
	panic(fmt.Sprintf("bug: %q is not on the management network", lb))
}
