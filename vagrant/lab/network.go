package lab

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ip runs commands of ip(8), one a line, in one of the lab's namespaces or, for "", in that of the machine.
func (l *Lab) ip(ctx context.Context, host string, lines ...string) error {
	args := []string{"-batch", "-"}
	if host != "" {
		args = append([]string{"-netns", l.opt.netns(host)}, args...)
	}
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip on %q: %w: %s", host, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// makeNetwork makes the namespaces and all that is in them. The ends of a link are born in their namespaces: the machine
// itself never has an interface of the lab.
func (l *Lab) makeNetwork(ctx context.Context) error {
	var lines []string
	for _, name := range namespacesOf(l.opt.ZKServers) {
		lines = append(lines, "netns add "+l.opt.netns(name))
	}
	if err := l.ip(ctx, "", lines...); err != nil {
		return err
	}
	for _, name := range namespacesOf(l.opt.ZKServers) {
		if err := l.setSysctls(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	lines = nil
	for _, k := range links(l.opt.ZKServers) {
		lines = append(lines, fmt.Sprintf("link add %s netns %s type veth peer name %s netns %s",
			k[0].ifc, l.opt.netns(k[0].host), k[1].ifc, l.opt.netns(k[1].host)))
	}
	if err := l.ip(ctx, "", lines...); err != nil {
		return err
	}
	for _, name := range namespacesOf(l.opt.ZKServers) {
		if err := l.ip(ctx, name, addressing(l.opt.ZKServers, name)...); err != nil {
			return err
		}
	}
	return nil
}

// setSysctls must come before the interfaces, which copy what "default" says when they are made.
func (l *Lab) setSysctls(host string) error {
	values := map[string]string{
		// Not to judge packets by the way they came: after a change of path the way back may differ for a moment.
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
	}
	if slices.Contains(routers, host) {
		values["net/ipv4/ip_forward"] = "1"
	}
	return inNamespace(netnsPath(l.opt.netns(host)), func() error {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			// /proc/sys/net shows the network namespace of the thread that opens it.
			if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(values[key]), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// addressing lists the ip commands that give a namespace its addresses and routes.
func addressing(zk int, host string) []string {
	lines := []string{"link set dev lo up"}
	if host == management {
		lines = append(lines, "link add br0 type bridge", "link set dev br0 up")
	}
	if slices.Contains(balancers, host) {
		for _, vip := range VIPs() {
			lines = append(lines, fmt.Sprintf("address add %s/32 dev lo", vip))
		}
	}
	for _, k := range links(zk) {
		for _, e := range k {
			switch {
			case e.host != host:
			case host == management:
				lines = append(lines, fmt.Sprintf("link set dev %s master br0 up", e.ifc))
			default:
				lines = append(lines, fmt.Sprintf("address add %s dev %s", e.addr, e.ifc), "link set dev "+e.ifc+" up")
			}
		}
	}
	if gw, ok := gateway(host); ok {
		lines = append(lines, fmt.Sprintf("route add default via %s", gw))
	}
	return lines
}

// setLink takes one end of a link up or down. The kernel drops the routes through an interface that goes down, so the
// default route has to be set again; BIRD sees to its own.
func (l *Lab) setLink(ctx context.Context, e end, up bool) error {
	if !up {
		return l.ip(ctx, e.host, "link set dev "+e.ifc+" down")
	}
	lines := []string{"link set dev " + e.ifc + " up"}
	if gw, ok := gateway(e.host); ok && e.addr.Contains(gw) {
		lines = append(lines, fmt.Sprintf("route replace default via %s", gw))
	}
	return l.ip(ctx, e.host, lines...)
}

// LinkDown takes both ends of the link between two hosts down, as if the cable were pulled: both sides notice at once.
// Hosts may be "mgmt", the management network.
func (l *Lab) LinkDown(a, b string) error { return l.setBothEnds(a, b, false) }

// LinkUp is the reverse of LinkDown.
func (l *Lab) LinkUp(a, b string) error { return l.setBothEnds(a, b, true) }

func (l *Lab) setBothEnds(a, b string, up bool) error {
	k, err := findLink(l.opt.ZKServers, a, b)
	if err != nil {
		return err
	}
	for _, e := range k {
		if err := l.setLink(context.Background(), e, up); err != nil {
			return err
		}
	}
	return nil
}

// nobody is a hardware address that no interface of the lab has.
const nobody = "02:00:00:00:de:ad"

// Blackhole loses everything between two neighboring hosts, in both directions, without a sign: the links stay up, but each
// side believes the other's hardware address to be one that nobody has.
func (l *Lab) Blackhole(a, b string) error {
	return l.eachDirection(a, b, func(from, to end) string {
		return fmt.Sprintf("neighbor replace %s lladdr %s dev %s nud permanent", to.addr.Addr(), nobody, from.ifc)
	})
}

// Heal is the reverse of Blackhole.
func (l *Lab) Heal(a, b string) error {
	return l.eachDirection(a, b, func(from, to end) string {
		return fmt.Sprintf("neighbor delete %s dev %s", to.addr.Addr(), from.ifc)
	})
}

func (l *Lab) eachDirection(a, b string, line func(from, to end) string) error {
	k, err := findLink(l.opt.ZKServers, a, b)
	if err != nil {
		return err
	}
	if !k[0].addr.IsValid() || !k[1].addr.IsValid() {
		return fmt.Errorf("%s and %s are connected by a bridge; cut the bridge port instead", a, b)
	}
	if err := l.ip(context.Background(), k[0].host, line(k[0], k[1])); err != nil {
		return err
	}
	return l.ip(context.Background(), k[1].host, line(k[1], k[0]))
}

// CutZK takes a host off the management network without a sign: its link stays up, but leads nowhere.
func (l *Lab) CutZK(host string) error {
	return l.ip(context.Background(), management, "link set dev "+host+" nomaster")
}

// JoinZK is the reverse of CutZK.
func (l *Lab) JoinZK(host string) error {
	return l.ip(context.Background(), management, "link set dev "+host+" master br0")
}

// CrashHost is the loss of a host's power: its links go down first, so that no word of its dying processes gets out, then
// all of them are killed. What is at the other ends sees its carrier go.
func (l *Lab) CrashHost(host string) error {
	for _, e := range dyingOrder(l.ownEnds(host)) {
		if err := l.setLink(context.Background(), e, false); err != nil {
			return err
		}
	}
	id, err := namespaceOf(netnsPath(l.opt.netns(host)))
	if err != nil {
		return err
	}
	return killAll(map[nsID]bool{id: true}, l.Host(host).keeper.PID)
}

// dyingOrder puts the management network first: exazk watches its links, and would give its claims up over the last one.
func dyingOrder(ends []end) []end {
	var first, rest []end
	for _, e := range ends {
		if e.ifc == management {
			first = append(first, e)
		} else {
			rest = append(rest, e)
		}
	}
	return slices.Concat(first, rest)
}

// BootHost brings a host back after CrashHost, with its links and daemons. It does not wait for BGP sessions.
func (l *Lab) BootHost(ctx context.Context, host string) error {
	for _, e := range l.ownEnds(host) {
		if err := l.setLink(ctx, e, true); err != nil {
			return err
		}
	}
	return l.startHost(ctx, l.Host(host))
}

// ownEnds lists a host's ends of its links.
func (l *Lab) ownEnds(host string) []end {
	var ends []end
	for _, k := range links(l.opt.ZKServers) {
		for _, e := range k {
			if e.host == host {
				ends = append(ends, e)
			}
		}
	}
	return ends
}
