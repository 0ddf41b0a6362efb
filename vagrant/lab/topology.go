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
	// hosts are the namespaces that have a keeper and run processes.
	hosts      = slices.Concat(routers, balancers, []string{"zk", "client"})
	namespaces = append([]string{management}, hosts...)
)

// Hosts are the names of the lab's hosts: routers, load balancers, ZooKeeper and client.
func Hosts() []string { return slices.Clone(hosts) }

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

func links() []link {
	p := netip.MustParsePrefix
	var all []link
	for i := range 3 {
		leaf, lb, net := fmt.Sprintf("r%d", i+1), fmt.Sprintf("lb%d", i+1), 8*i
		all = append(all,
			link{{"r0", leaf, p(fmt.Sprintf("172.16.0.%d/29", net+6))}, {leaf, "r0", p(fmt.Sprintf("172.16.0.%d/29", net+5))}},
			link{{leaf, lb, p(fmt.Sprintf("172.16.1.%d/29", net+6))}, {lb, leaf, p(fmt.Sprintf("172.16.1.%d/29", net+1))}},
			link{{lb, management, p(fmt.Sprintf("192.168.66.%d/24", i+1))}, {management, lb, netip.Prefix{}}})
	}
	return append(all,
		link{{"r0", "client", p("172.16.2.6/29")}, {"client", "r0", p("172.16.2.1/29")}},
		link{{"zk", management, p("192.168.66.10/24")}, {management, "zk", netip.Prefix{}}})
}

// findLink returns the link between two hosts, with a's end first.
func findLink(a, b string) (link, error) {
	for _, l := range links() {
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
	for _, l := range links() {
		if l[1].host == host && slices.Contains(routers, l[0].host) {
			return l[0].addr.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// zkAddr is where ZooKeeper listens.
const zkAddr = "192.168.66.10:2181"

// hostsFile is /etc/hosts of every host.
func hostsFile() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	seen := map[string]bool{}
	for _, l := range links() {
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
