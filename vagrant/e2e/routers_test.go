package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the speaker announces to the routers: over eBGP from local AS 65001 and 192.0.2.1, over iBGP from AS 65010, which is the
// routers', and 192.0.2.2.
const (
	external, internal = "192.0.2.1", "192.0.2.2"

	attributes = `
med = 77
next_hop = ["self", "2001:db8::1"]
as_path_prepend = [65001, 4200000001]
local_preference = 250
communities = ["65001:100", "no-export", "graceful-shutdown"]
large_communities = ["65001:1:2", "4294967295:0:4294967295"]
extended_communities = ["target:65001:5", "origin:192.0.2.1:6"]
`
)

var (
	routed4 = netip.MustParsePrefix("203.0.113.1/32")
	routed6 = netip.MustParsePrefix("2001:db8:f::1/128")
)

// heard is a route as a router has it from a neighbor, in exazk's words. What has no order is sorted.
type heard struct {
	NextHop                      string
	MED, LocalPref               int
	Path                         []int
	Communities, Large, Extended []string
}

// asWritten is what attributes says. LOCAL_PREF does not cross an AS boundary (RFC 4271 section 5.1.5).
func asWritten(from string, prefix netip.Prefix) heard {
	h := heard{NextHop: from, MED: 77, Path: []int{65001, 65001, 4200000001}, Communities: []string{"65001:100", "65535:0", "65535:65281"},
		Large: []string{"4294967295:0:4294967295", "65001:1:2"}, Extended: []string{"origin:192.0.2.1:6", "target:65001:5"}}
	if prefix.Addr().Is6() {
		h.NextHop = "2001:db8::1"
	}
	if from == internal {
		h.LocalPref = 250
	}
	return h
}

// router is one of those that hear the speaker.
type router struct {
	name, pkg string
	programs  []string
	number    int // of its addresses: 192.0.2.N1 for eBGP and 192.0.2.N2 for iBGP
	conf      string
	argv      func(w *wire) []string
	// heard is what it has from a neighbor.
	heard func(w *wire, from string, prefix netip.Prefix) ([]heard, error)
}

var heardRouters = []router{
	{name: "BIRD 2", pkg: "bird2", programs: []string{"bird", "birdc"}, number: 1, conf: birdConf, argv: birdArgs, heard: birdHeard},
	{name: "FRR", pkg: "frr", programs: []string{"/usr/lib/frr/bgpd", "vtysh"}, number: 2, conf: frrConf, argv: frrArgs, heard: frrHeard},
	{name: "GoBGP", pkg: "gobgpd", programs: []string{"gobgpd", "gobgp"}, number: 3, conf: gobgpConf, argv: gobgpArgs, heard: gobgpHeard},
}

// TestRouters has every attribute arrive as it is written at BIRD, FRR and GoBGP, over eBGP and iBGP, for IPv4 and IPv6, and the
// routes go when the check fails.
func TestRouters(t *testing.T) {
	if place.missing != "" {
		t.Skip(place.missing)
	}
	onBoth(t, testRouters)
}

func testRouters(t *testing.T, _ exabgp, command []string) {
	w := newWire(t)
	missing := map[string]error{}
	var there []router
	for _, r := range heardRouters {
		for _, p := range r.programs {
			if _, err := exec.LookPath(p); err != nil {
				missing[r.name] = err
			}
		}
		if missing[r.name] == nil {
			w.router(r)
			there = append(there, r)
		}
	}
	w.speaker(command, there)
	off := w.path("off") // makes the check fail
	for _, r := range heardRouters {
		t.Run(r.name, func(t *testing.T) {
			if err := missing[r.name]; err != nil {
				t.Skipf("Debian package %s: %v", r.pkg, err)
			}
			w.each(t, r, func(from string, prefix netip.Prefix) []heard { return []heard{asWritten(from, prefix)} })
		})
	}
	if err := os.WriteFile(off, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, r := range there {
		w.each(t, r, func(string, netip.Prefix) []heard { return nil })
	}
}

// wire is a network with the speaker and its routers, and a directory for what they need. The routers hang on a bridge in the
// speaker's namespace.
type wire struct {
	t   *testing.T
	dir string
	ns  string // begins the names of the namespaces
}

// newWire makes the speaker's network. Everything goes with the test.
func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{t: t, ns: newPrefix()}
	w.dir = filepath.Join(place.dir, w.ns)
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.keepLogs()
		}
	})
	w.namespace(0)
	w.ip("-n", w.netns(0), "link", "add", "br0", "type", "bridge")
	w.ip("-n", w.netns(0), "link", "set", "br0", "up")
	for _, addr := range []string{external + "/24", internal + "/24", "2001:db8::1/64"} {
		w.ip("-n", w.netns(0), "address", "add", addr, "dev", "br0")
	}
	return w
}

func (w *wire) path(name string) string { return filepath.Join(w.dir, name) }

// netns is the name of the namespace of a router by its number, or with 0 of the speaker.
func (w *wire) netns(number int) string { return fmt.Sprintf("%s-%d", w.ns, number) }

func (w *wire) namespace(number int) {
	w.t.Helper()
	name := w.netns(number)
	place.mu.Lock()
	place.namespaces = append(place.namespaces, name)
	place.mu.Unlock()
	w.ip("netns", "add", name)
	w.t.Cleanup(func() {
		if err := dropNamespace(name); err != nil {
			w.t.Error(err)
		}
	})
	w.ip("-n", w.netns(number), "link", "set", "lo", "up")
}

func (w *wire) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (w *wire) write(name, text string) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// start runs a program in a namespace until the test ends, with all that it starts.
func (w *wire) start(number int, log string, env []string, argv ...string) {
	w.t.Helper()
	out, err := os.Create(w.path(log))
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("ip", append([]string{"netns", "exec", w.netns(number)}, argv...)...) // it becomes the program
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left of its group
		<-ended
	})
}

// run runs a command in a namespace and returns what it prints.
func (w *wire) run(number int, argv ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("ip", append([]string{"netns", "exec", w.netns(number)}, argv...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", strings.Join(argv, " "), err, stderr.Bytes(), out)
	}
	return out, nil
}

func (w *wire) keepLogs() {
	logs, _ := filepath.Glob(w.path("*.log")) // the pattern is well-formed
	for _, log := range logs {
		data, err := os.ReadFile(log)
		if err == nil {
			err = os.WriteFile(filepath.Join(w.t.ArtifactDir(), filepath.Base(log)), data, 0o644)
		}
		w.t.Logf("end of %s (%v):\n%s", filepath.Base(log), err, data[max(0, len(data)-3000):])
	}
}

// router connects a router and starts it.
func (w *wire) router(r router) {
	w.t.Helper()
	w.namespace(r.number)
	port := fmt.Sprintf("port%d", r.number)
	w.ip("link", "add", port, "netns", w.netns(0), "type", "veth", "peer", "name", "eth0", "netns", w.netns(r.number))
	w.ip("-n", w.netns(0), "link", "set", port, "master", "br0", "up")
	for _, addr := range []string{r.address(1) + "/24", r.address(2) + "/24", fmt.Sprintf("2001:db8::%d1/64", r.number)} {
		w.ip("-n", w.netns(r.number), "address", "add", addr, "dev", "eth0")
	}
	w.ip("-n", w.netns(r.number), "link", "set", "eth0", "up")
	w.write(r.pkg+".conf", strings.NewReplacer("ADDR1", r.address(1), "ADDR2", r.address(2)).Replace(r.conf))
	w.start(r.number, r.pkg+".log", nil, r.argv(w)...)
}

func (r router) address(n int) string { return fmt.Sprintf("192.0.2.%d%d", r.number, n) }

// speaker starts exazk under ExaBGP. There is no ZooKeeper: nobody answers at its address, and a healthy node announces what it
// owns all the same, once start_grace is over.
func (w *wire) speaker(exabgp []string, to []router) {
	w.t.Helper()
	toml := w.write("exazk.toml", fmt.Sprintf(`node = "node1"
[zookeeper]
hosts = ["127.0.0.1:2181"]
[exabgp]
local_as = 65001
[[service]]
name = "routers"
authoritative = [%q, %q]
start_grace = "2s"
[service.check]
file = {path = %q, state = "absent"}
rise = 1
timeout = "1s"
fast_interval = "200ms"
[service.announce]
%s`, routed4.Addr(), routed6.Addr(), w.path("off"), attributes))
	conf := fmt.Sprintf("process exazk {\n\trun %s -f %s;\n\tencoder json;\n}\n", program("exazk"), toml)
	for _, r := range to {
		conf += neighbor(r.address(1), external, 65001) + neighbor(r.address(2), internal, 65010)
	}
	env := []string{"exabgp_daemon_user=root", "exabgp_daemon_drop=false", "exabgp_daemon_daemonize=false", "exabgp_api_cli=false"}
	w.start(0, "exabgp.log", env, append(slices.Clone(exabgp), w.write("exabgp.conf", conf))...)
}

func neighbor(address, local string, as int) string {
	return fmt.Sprintf(`neighbor %s {
	router-id 192.0.2.1; local-address %s; local-as %d; peer-as 65010; hold-time 60;
	family { ipv4 unicast; ipv6 unicast; }
	api { processes [ exazk ]; neighbor-changes; }
}
`, address, local, as)
}

// each waits until a router has exactly those routes from each neighbor.
func (w *wire) each(t *testing.T, r router, want func(from string, prefix netip.Prefix) []heard) {
	t.Helper()
	for _, from := range []string{external, internal} {
		for _, prefix := range []netip.Prefix{routed4, routed6} {
			var got []heard
			var err error
			for end := time.Now().Add(20 * time.Second); ; <-time.After(5 * pause) {
				if got, err = r.heard(w, from, prefix); err == nil && reflect.DeepEqual(got, want(from, prefix)) {
					break
				}
				if time.Now().After(end) {
					t.Errorf("%s has %s from %s as %+v (%v), not as %+v", r.name, prefix, from, got, err, want(from, prefix))
					break
				}
			}
		}
	}
}

const birdConf = `
router id ADDR1;
protocol device { }
template bgp speaker {
	passive on;
	ipv4 { import all; export none; };
	ipv6 { import all; export none; };
}
protocol bgp over_ebgp from speaker { local ADDR1 as 65010; neighbor 192.0.2.1 as 65001; }
protocol bgp over_ibgp from speaker { local ADDR2 as 65010; neighbor 192.0.2.2 as 65010; }
`

func birdArgs(w *wire) []string {
	return []string{"bird", "-f", "-c", w.path("bird2.conf"), "-s", w.path("bird.ctl"), "-P", w.path("bird.pid")}
}

func birdHeard(w *wire, from string, prefix netip.Prefix) ([]heard, error) {
	protocol := map[string]string{external: "over_ebgp", internal: "over_ibgp"}[from]
	out, err := w.run(1, "birdc", "-s", w.path("bird.ctl"), "show", "route", "all", "protocol", protocol)
	if err != nil {
		return nil, err
	}
	var routes []heard
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "["+protocol+" ") { // "203.0.113.1/32  unicast [over_ebgp 12:00:00.123 from ...", for each family one
			if strings.HasPrefix(line, prefix.String()+" ") {
				routes = append(routes, heard{})
			} else if len(routes) > 0 {
				break
			}
			continue
		}
		if len(routes) == 0 {
			continue
		}
		if err := routes[len(routes)-1].fromBIRD(strings.TrimSpace(line), from); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return routes, nil
}

// group is one value of a list of BIRD: "(65001,100)", "(rt, 65001, 5)".
var group = regexp.MustCompile(`\(([^)]*)\)`)

func (h *heard) fromBIRD(line, from string) (err error) {
	key, value, _ := strings.Cut(line, ": ")
	var list []string
	for _, m := range group.FindAllStringSubmatch(value, -1) {
		list = append(list, strings.ReplaceAll(strings.ReplaceAll(m[1], " ", ""), ",", ":"))
	}
	slices.Sort(list)
	switch key {
	case "BGP.next_hop":
		h.NextHop, _, _ = strings.Cut(value, " ") // a link-local one may follow
	case "BGP.med":
		h.MED, err = strconv.Atoi(value)
	case "BGP.local_pref":
		if from == internal { // over eBGP it is BIRD's own
			h.LocalPref, err = strconv.Atoi(value)
		}
	case "BGP.as_path":
		for _, f := range strings.Fields(value) {
			as, err := strconv.Atoi(f)
			if err != nil {
				return err
			}
			h.Path = append(h.Path, as)
		}
	case "BGP.community":
		h.Communities = list
	case "BGP.large_community":
		h.Large = list
	case "BGP.ext_community":
		h.Extended = renamed(list, "rt:", "target:", "ro:", "origin:")
	}
	return err
}

// renamed replaces the words of a router by exazk's, and sorts.
func renamed(list []string, words ...string) []string {
	renamer := strings.NewReplacer(words...)
	for i := range list {
		list[i] = renamer.Replace(list[i])
	}
	slices.Sort(list)
	return list
}

// FRR refuses what an eBGP neighbor says unless a policy lets it in (RFC 8212).
const frrConf = `
route-map all permit 10
router bgp 65010
 bgp router-id ADDR1
 no bgp default ipv4-unicast
 neighbor 192.0.2.1 remote-as 65001
 neighbor 192.0.2.1 passive
 neighbor 192.0.2.2 remote-as 65010
 neighbor 192.0.2.2 passive
 neighbor 192.0.2.2 update-source ADDR2
 address-family ipv4 unicast
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map all in
  neighbor 192.0.2.2 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map all in
  neighbor 192.0.2.2 activate
 exit-address-family
`

// frrArgs: without zebra, for nothing is to be forwarded, and as the user that runs it.
func frrArgs(w *wire) []string {
	return []string{"/usr/lib/frr/bgpd", "--no_zebra", "--skip_runas", "--vty_port", "0", "--config_file", w.path("frr.conf"),
		"--pid_file", w.path("bgpd.pid"), "--vty_socket", w.dir, "--log", "stdout"}
}

func frrHeard(w *wire, from string, prefix netip.Prefix) ([]heard, error) {
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	out, err := w.run(2, "vtysh", "--vty_socket", w.dir, "-d", "bgpd", "-c", fmt.Sprintf("show bgp %s unicast %s json", family, prefix))
	if err != nil {
		return nil, err
	}
	var found struct {
		Paths []struct {
			ASPath struct {
				Segments []struct{ List []int }
			}
			Metric, LocPrf                    int
			Community                         struct{ List []string }
			ExtendedCommunity, LargeCommunity struct{ String string }
			Nexthops                          []struct{ IP string }
			Peer                              struct{ PeerID string }
		}
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return nil, fmt.Errorf("%q: %w", out, err)
	}
	var routes []heard
	for _, p := range found.Paths {
		if p.Peer.PeerID != from {
			continue
		}
		h := heard{MED: p.Metric, LocalPref: p.LocPrf,
			Communities: renamed(p.Community.List, "noExport", "65535:65281", "gracefulShutdown", "65535:0", "graceful-shutdown", "65535:0"),
			Large:       renamed(strings.Fields(p.LargeCommunity.String)),
			Extended:    renamed(strings.Fields(p.ExtendedCommunity.String), "RT:", "target:", "SoO:", "origin:")}
		for _, s := range p.ASPath.Segments {
			h.Path = append(h.Path, s.List...)
		}
		for _, n := range p.Nexthops {
			h.NextHop = n.IP
		}
		routes = append(routes, h)
	}
	return routes, nil
}

const gobgpConf = `
[global.config]
as = 65010
router-id = "ADDR1"
[[neighbors]]
config = {neighbor-address = "192.0.2.1", peer-as = 65001}
transport.config = {passive-mode = true, local-address = "ADDR1"}
afi-safis = [{config = {afi-safi-name = "ipv4-unicast"}}, {config = {afi-safi-name = "ipv6-unicast"}}]
[[neighbors]]
config = {neighbor-address = "192.0.2.2", peer-as = 65010}
transport.config = {passive-mode = true, local-address = "ADDR2"}
afi-safis = [{config = {afi-safi-name = "ipv4-unicast"}}, {config = {afi-safi-name = "ipv6-unicast"}}]
`

func gobgpArgs(w *wire) []string {
	return []string{"gobgpd", "--config-file", w.path("gobgpd.conf"), "--config-type", "toml", "--api-hosts", "127.0.0.1:50051", "--pprof-disable"}
}

func gobgpHeard(w *wire, from string, prefix netip.Prefix) ([]heard, error) {
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	out, err := w.run(3, "gobgp", "--json", "neighbor", from, "adj-in", "--address-family", family)
	if err != nil {
		return nil, err
	}
	var found map[string][]struct {
		Attrs []json.RawMessage
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return nil, fmt.Errorf("%q: %w", out, err)
	}
	var routes []heard
	for _, path := range found[prefix.String()] {
		var h heard
		for _, attr := range path.Attrs {
			if err := h.fromGoBGP(attr); err != nil {
				return nil, fmt.Errorf("%s: %w", attr, err)
			}
		}
		routes = append(routes, h)
	}
	return routes, nil
}

// fromGoBGP takes one attribute over. Its type is the attribute type code (IANA, BGP Path Attributes).
func (h *heard) fromGoBGP(attr json.RawMessage) error {
	var a struct {
		Type        int
		NextHop     string
		Metric      int
		Value       json.RawMessage
		ASPaths     []struct{ ASNs []int } `json:"as_paths"`
		Communities []uint32
	}
	if err := json.Unmarshal(attr, &a); err != nil {
		return err
	}
	switch a.Type {
	case 2: // AS_PATH
		for _, s := range a.ASPaths {
			h.Path = append(h.Path, s.ASNs...)
		}
	case 3, 14: // NEXT_HOP, MP_REACH_NLRI
		h.NextHop = a.NextHop
	case 4: // MULTI_EXIT_DISC
		h.MED = a.Metric
	case 5: // LOCAL_PREF
		return json.Unmarshal(a.Value, &h.LocalPref)
	case 8: // COMMUNITIES
		for _, c := range a.Communities {
			h.Communities = append(h.Communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
		}
		slices.Sort(h.Communities)
	case 16: // EXTENDED COMMUNITIES; the low octet of the type says what it is (RFC 4360 sections 4 and 5)
		var list []struct {
			Subtype int
			Value   string
		}
		if err := json.Unmarshal(a.Value, &list); err != nil {
			return err
		}
		for _, c := range list {
			word := map[int]string{2: "target", 3: "origin"}[c.Subtype]
			h.Extended = append(h.Extended, word+":"+c.Value)
		}
		slices.Sort(h.Extended)
	case 32: // LARGE_COMMUNITY
		var list []struct{ ASN, LocalData1, LocalData2 uint32 }
		if err := json.Unmarshal(a.Value, &list); err != nil {
			return err
		}
		for _, c := range list {
			h.Large = append(h.Large, fmt.Sprintf("%d:%d:%d", c.ASN, c.LocalData1, c.LocalData2))
		}
		slices.Sort(h.Large)
	}
	return nil
}
