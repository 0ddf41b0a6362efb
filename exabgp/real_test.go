package exabgp

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// childDir is the variable that makes the test binary a process of ExaBGP. Its value is the directory of the lab.
const childDir = "EXAZK_TEST_CHILD"

// childDialect is the variable with the dialect of that process.
const childDialect = "EXAZK_TEST_DIALECT"

// driftCheck is the default of the daemon.
const driftCheck = 4 * time.Second

// version is an ExaBGP that may be on this machine.
type version struct {
	name    string   // as it calls itself
	command string   // that runs a configuration file
	ask     []string // to know which version it is
	dialect Dialect
}

// versions are the system's ExaBGP, and Debian sid's where vagrant/exabgp5.sh put it. EXAZK_EXABGP5 names another place.
func versions() []version {
	five := cmp.Or(os.Getenv("EXAZK_EXABGP5"), "/opt/exazk-lab/exabgp5/exabgp")
	return []version{{"4.2.21", "exabgp", []string{"--version"}, Dialect42}, {"5.0", five, []string{"version"}, Dialect5}}
}

// inEach runs a test with every version of ExaBGP that is there, at the same time.
func inEach(t *testing.T, test func(t *testing.T, l *lab)) {
	for _, v := range versions() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			test(t, newLab(t, v))
		})
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

// child runs a Process on standard input and output. It wants the table that lies in the file "table", with a new epoch at
// every session that comes up, and writes a line to "events" for every event. If there is a file "burst", it
// removes it, floods ExaBGP with that instead and dies in the middle of a line.
func child(dir string) int {
	if burst, err := os.ReadFile(filepath.Join(dir, "burst")); err == nil {
		os.Remove(filepath.Join(dir, "burst"))
		os.Stdout.Write(burst)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	events, err := os.OpenFile(filepath.Join(dir, "events"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer events.Close()
	fmt.Fprintln(events, "start", os.Getpid())
	logger := logrus.New() // to stderr, ExaBGP's log
	logger.SetLevel(logrus.DebugLevel)
	dialect, err := ParseDialect(cmp.Or(os.Getenv(childDialect), "auto"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	p := New(os.Stdin, os.Stdout, Options{Track: true, Dialect: dialect, DriftCheck: driftCheck, Environ: os.Environ()}, logrus.NewEntry(logger))
	ups := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go want(ctx, p, filepath.Join(dir, "table"), ups)
	err = p.Run(ctx, func(ev Event) bool {
		if ev, ok := ev.(NeighborChanged); ok && ev.State == NeighborUp {
			ups <- struct{}{}
		}
		fmt.Fprintln(events, describe(ev))
		return true
	})
	fmt.Fprintln(events, "end", err)
	return 0
}

// want gives p the table in a file whenever it changes.
func want(ctx context.Context, p *Process, file string, ups <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last []byte
	epoch := uint64(1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ups:
			epoch++
			last = nil
		case <-tick.C:
		}
		text, err := os.ReadFile(file)
		if err != nil || bytes.Equal(text, last) {
			continue
		}
		last = text
		t := Table{Epoch: epoch}
		if json.Unmarshal(text, &t.Routes) == nil {
			p.Set(t)
		}
	}
}

// lab is ExaBGP and BIRD in two network namespaces with a wire between them.
type lab struct {
	t *testing.T
	version
	dir    string
	ns     [2]string // ExaBGP's, BIRD's
	extra  string    // of ExaBGP's neighbor
	second bool      // it has another neighbor: iBGP, with path identifiers
	hands  bool      // it has another process, which passes on what byHand is given, and a route in its configuration
	exabgp *exec.Cmd
	ended  chan error // of exabgp
}

const birdConf = `
router id 192.0.2.2;
protocol device { }
protocol bgp exa {
	local 192.0.2.2 as 65002;
	neighbor 192.0.2.1 as 65001;
	hold time 60;
	connect delay time 1;
	connect retry time 1;
	error wait time 1, 2;
	ipv4 { import all; export none; };
	ipv6 { import all; export none; };
}
`

func exabgpConf(program, changes, extra string) string {
	return `
process exazk { run ` + program + `; encoder json; }
neighbor 192.0.2.2 {
	router-id 192.0.2.1; local-address 192.0.2.1; local-as 65001; peer-as 65002; hold-time 60;
	family { ipv4 unicast; ipv6 unicast; }
	api { processes [ exazk ]; ` + changes + ` }
	` + extra + `
}
`
}

// secondBird and secondExaBGP are the two ends of an iBGP session to another address.
const secondBird = `
protocol bgp second {
	local 192.0.2.3 as 65001;
	neighbor 192.0.2.4 as 65001;
	allow local as 10;
	hold time 60;
	connect delay time 1;
	error wait time 1, 2;
	ipv4 { import all; export none; add paths rx; };
	ipv6 { import all; export none; };
}
`

const secondExaBGP = `
neighbor 192.0.2.3 {
	router-id 192.0.2.1; local-address 192.0.2.4; local-as 65001; peer-as 65001; hold-time 60;
	family { ipv4 unicast; ipv6 unicast; }
	capability { add-path send; }
	api { processes [ exazk ]; neighbor-changes; }
}
`

// newLab starts BIRD. Everything ends with the test.
func newLab(t *testing.T, v version) *lab {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real ExaBGP, not with -short")
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"ip", v.command, "bird", "birdc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("a real ExaBGP and a peer are needed: %v", err)
		}
	}
	if out, err := exec.Command(v.command, v.ask...).CombinedOutput(); !strings.Contains(string(out), "ExaBGP : "+v.name) {
		t.Skipf("%s is not %s: %v\n%s", v.command, v.name, err, out)
	}
	// In /tmp: the path of a control socket has 108 bytes, and ExaBGP's tokeniser does not like all that t.TempDir may hold.
	dir, err := os.MkdirTemp("/tmp", "exazk")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, version: v, dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			l.keep("events", "exabgp.log", "bird.log")
		}
		os.RemoveAll(dir)
	})
	id := filepath.Base(dir)
	l.ns = [2]string{id + "-exa", id + "-bird"}
	for i, ns := range l.ns {
		l.must("ip", "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		l.must("ip", "-n", ns, "link", "set", "lo", "up")
		if i == 1 {
			l.must("ip", "link", "add", "v0", "netns", l.ns[0], "type", "veth", "peer", "name", "v1", "netns", ns)
		}
	}
	for i, ns := range l.ns {
		dev := fmt.Sprintf("v%d", i)
		l.must("ip", "-n", ns, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", dev)
		l.must("ip", "-n", ns, "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", dev, "nodad")
		l.must("ip", "-n", ns, "link", "set", dev, "up")
	}
	l.write("bird.conf", birdConf)
	l.start(l.ns[1], "bird.log", nil, "bird", "-f", "-c", l.path("bird.conf"), "-s", l.path("bird.ctl"), "-P", l.path("bird.pid"))
	l.eventually("bird answers", func() bool { return strings.Contains(l.birdc("show", "status"), "up and running") })
	return l
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// keep copies files to where "go test -artifacts" collects them.
func (l *lab) keep(names ...string) {
	for _, name := range names {
		if content, err := os.ReadFile(l.path(name)); err == nil {
			os.WriteFile(filepath.Join(l.t.ArtifactDir(), name), content, 0o644)
			l.t.Logf("end of %s:\n%s", name, content[max(0, len(content)-3000):])
		}
	}
}

func (l *lab) must(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// write replaces a file at once, so that nobody reads half of it.
func (l *lab) write(name, content string) {
	l.t.Helper()
	if err := os.WriteFile(l.path(name)+".new", []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(l.path(name)+".new", l.path(name)); err != nil {
		l.t.Fatal(err)
	}
}

// start runs a program in a namespace until the test ends.
func (l *lab) start(ns, log string, env []string, args ...string) (*exec.Cmd, chan error) {
	l.t.Helper()
	out, err := os.Create(l.path(log))
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...) // which becomes the program: same pid
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		out.Close()
		close(ended)
	}()
	l.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill() // its children see the end of their stdin
		<-ended
	})
	return cmd, ended
}

// run starts ExaBGP with the test binary as its process.
func (l *lab) run(changes string, env ...string) {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	conf := exabgpConf(self, changes, l.extra)
	if l.second {
		conf += secondExaBGP
		l.must("ip", "-n", l.ns[0], "addr", "add", "192.0.2.4/24", "dev", "v0")
		l.must("ip", "-n", l.ns[1], "addr", "add", "192.0.2.3/24", "dev", "v1")
		l.write("bird.conf", birdConf+secondBird)
		l.birdc("configure")
	}
	if l.hands {
		conf = strings.Replace(conf, "	api {", "	static { route "+static+" next-hop self; }\n	api hand { processes [ hand ]; }\n	api {", 1) +
			"process hand { run " + l.path("hand.sh") + "; encoder json; }\n"
		l.must("mkfifo", l.path("hand"))
		l.write("hand.sh", "#!/bin/sh\nwhile cat "+l.path("hand")+"; do :; done\n")
		l.must("chmod", "755", l.path("hand.sh"))
	}
	l.write("exabgp.conf", conf)
	env = append(env, childDir+"="+l.dir, "exabgp_daemon_user=root", "exabgp_daemon_drop=false", "exabgp_api_cli=false")
	l.exabgp, l.ended = l.start(l.ns[0], "exabgp.log", env, l.command, l.path("exabgp.conf"))
}

func (l *lab) birdc(args ...string) string {
	out, err := exec.Command("birdc", append([]string{"-s", l.path("bird.ctl")}, args...)...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// routes is BIRD's table: the MED of each prefix, and its communities where it has any.
func (l *lab) routes() map[string]string {
	routes := map[string]string{}
	var prefix string
	for line := range strings.Lines(l.birdc("show", "route", "all", "protocol", "exa")) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && strings.Contains(fields[0], "/") && line[0] != '\t':
			prefix = fields[0]
			routes[prefix] = ""
		case len(fields) == 2 && fields[0] == "BGP.med:":
			routes[prefix] = fields[1]
		case len(fields) > 1 && fields[0] == "BGP.community:": // it comes after the MED
			routes[prefix] += " " + strings.Join(fields[1:], " ")
		}
	}
	return routes
}

// received is how many routes of UPDATE messages BIRD has counted in this session, with those that changed nothing.
type received struct{ updates, withdraws int }

func (l *lab) received() received {
	l.t.Helper()
	var n received
	lines := 0
	for line := range strings.Lines(l.birdc("show", "protocols", "all", "exa")) {
		var count int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "Import updates: %d", &count); err == nil {
			n.updates += count
			lines++
		}
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "Import withdraws: %d", &count); err == nil {
			n.withdraws += count
			lines++
		}
	}
	if lines != 4 { // of two families
		l.t.Fatalf("%d counters", lines)
	}
	return n
}

// kill ends the newest process by SIGKILL. With routes, the next one finds that they are wanted, and this one does not.
func (l *lab) kill(routes ...Route) {
	l.t.Helper()
	pid := l.pid()
	if len(routes) > 0 {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			l.t.Fatal(err)
		}
		l.want(routes...)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		l.t.Fatal(err)
	}
}

// accepted waits until each of the routes was, after the first skip events.
func (l *lab) accepted(skip int, routes ...Route) {
	l.t.Helper()
	for _, r := range routes {
		l.event(skip, fmt.Sprintf("accepted %q", r.Command()))
	}
}

// want says what the process shall want.
func (l *lab) want(routes ...Route) {
	l.t.Helper()
	text, err := json.Marshal(routes)
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("table", string(text))
}

// byHand gives ExaBGP a command of somebody else, as exabgpcli does: that is a process like any other.
func (l *lab) byHand(command string) {
	l.t.Helper()
	fifo, err := os.OpenFile(l.path("hand"), os.O_RDWR, 0) // both ends: an open must not wait for the reader
	if err != nil {
		l.t.Fatal(err)
	}
	defer fifo.Close()
	if _, err := fifo.WriteString(command + "\n"); err != nil {
		l.t.Fatal(err)
	}
	l.eventually("the command is read", func() bool {
		n, err := unix.IoctlGetInt(int(fifo.Fd()), unix.TIOCINQ)
		return err == nil && n == 0
	})
}

// quiet waits until the process has written all that it has to.
func (l *lab) quiet() {
	l.t.Helper()
	last, since := -1, time.Now()
	l.eventually("nothing happens for a second", func() bool {
		if n := len(l.events(0)); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
}

// drifted says whether a route was found to be another one than was acknowledged, after the first skip events.
func (l *lab) drifted(skip int) bool {
	return slices.ContainsFunc(l.events(skip), func(line string) bool { return strings.HasPrefix(line, "drifted") })
}

func announce(prefix string, med uint32) Route {
	return Route{Prefix: netip.MustParsePrefix(prefix), MED: med}
}

func withdraw(prefix string) Route {
	return Route{Prefix: netip.MustParsePrefix(prefix), Withdraw: true}
}

// events returns the lines that the processes wrote, without the first skip.
func (l *lab) events(skip int) []string {
	file, err := os.Open(l.path("events"))
	if err != nil {
		return nil
	}
	defer file.Close()
	var lines []string
	for in := bufio.NewScanner(file); in.Scan(); {
		lines = append(lines, in.Text())
	}
	return lines[min(skip, len(lines)):]
}

// event waits for a line that begins so, after the first skip, and returns how many there are up to it.
func (l *lab) event(skip int, prefix string) int {
	l.t.Helper()
	found := 0
	l.eventually("event "+prefix, func() bool {
		i := slices.IndexFunc(l.events(skip), func(line string) bool { return strings.HasPrefix(line, prefix) })
		found = skip + i + 1
		return i >= 0
	})
	return found
}

// peerHas waits until BIRD has these routes and no other.
func (l *lab) peerHas(want map[string]string) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("bird has %v", want), func() bool { return maps.Equal(l.routes(), want) })
}

// eventually polls until ok, for 30 s.
func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			l.t.Fatalf("never: %s\nroutes %v\nevents %q", what, l.routes(), l.events(0))
		}
	}
}

// throughout polls for d and fails when not ok.
func (l *lab) throughout(d time.Duration, what string, ok func() bool) {
	l.t.Helper()
	over := time.NewTimer(d)
	defer over.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !ok() {
				l.t.Fatalf("not any more: %s\nroutes %v\nevents %q", what, l.routes(), l.events(0))
			}
		case <-over.C:
			return
		}
	}
}

// pid is that of the newest process.
func (l *lab) pid() int {
	l.t.Helper()
	pid := 0
	for _, line := range l.events(0) {
		fmt.Sscanf(line, "start %d", &pid)
	}
	if pid == 0 {
		l.t.Fatal("no process")
	}
	return pid
}

const (
	vip1 = "203.0.113.1/32"
	vip2 = "203.0.113.2/32"
	vip6 = "2001:db8:f::1/128"

	static   = "198.51.100.1/32" // in ExaBGP's configuration
	stranger = "198.51.100.2/32" // of another process
)

func TestRealExaBGP(t *testing.T) { inEach(t, testRealExaBGP) }

func testRealExaBGP(t *testing.T, l *lab) {
	v6 := Route{Prefix: netip.MustParsePrefix(vip6), MED: 100, NextHop: netip.MustParseAddr("2001:db8::1")}
	l.want(announce(vip1, 100), withdraw(vip2), v6)
	l.run("neighbor-changes;")
	at := l.event(0, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.peerHas(map[string]string{vip1: "100", vip6: "100"})

	l.want(announce(vip1, 200), announce(vip2, 100), v6)
	l.peerHas(map[string]string{vip1: "200", vip2: "100", vip6: "100"})
	for _, line := range l.events(0) {
		if strings.HasPrefix(line, "accepted") && strings.HasSuffix(line, "took=0s") {
			t.Errorf("without a reply: %s", line)
		}
	}

	// Another process after a kill: the routes stay, the session is found by asking, the whole table is written again.
	if err := syscall.Kill(l.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{vip1: "200", vip2: "100", vip6: "100"}
	at = l.event(at, "start")
	at = l.event(at, "listed [192.0.2.2]")
	l.event(at, `accepted "announce route 203.0.113.2/32`)
	l.throughout(500*time.Millisecond, "routes stay", func() bool { return maps.Equal(l.routes(), all) })

	// A session that goes and comes back is reported, and the routes are there again.
	l.birdc("disable", "exa")
	at = l.event(at, "neighbor 192.0.2.2 local=192.0.2.1 state=1")
	l.want(announce(vip1, 100), withdraw(vip2), v6)
	l.birdc("enable", "exa")
	at = l.event(at, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.peerHas(map[string]string{vip1: "100", vip6: "100"})

	if err := l.exabgp.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	l.event(at, "shuttingdown")
	// 4.2 sends SIGTERM 0.1 s after that, which ends this process: it does not handle it.
	<-l.ended
	l.peerHas(map[string]string{})
}

// TestRealDrift changes our routes behind our back: they are as they should be within 5 s, each time, and nobody else's is touched.
func TestRealDrift(t *testing.T) { inEach(t, testRealDrift) }

func testRealDrift(t *testing.T, l *lab) {
	l.hands = true
	own := announce(vip1, 100)
	own.Communities = "65001:20 65535:0 65535:65281"
	routes := []Route{own, withdraw(vip2), {Prefix: netip.MustParsePrefix(vip6), MED: 100, NextHop: netip.MustParseAddr("2001:db8::1")}}
	l.want(routes...)
	l.run("neighbor-changes;")
	at := l.event(0, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.accepted(at, routes...) // written anew, now that the session is up
	l.byHand("announce route " + stranger + " next-hop self med 7")
	right := map[string]string{vip1: "100 (65001,20) (65535,0) (65535,65281)", vip6: "100", static: "", stranger: "7"}
	l.peerHas(right)
	l.quiet()
	for _, test := range []struct {
		command string
		prefix  string
		wrong   string // what BIRD has of the prefix then; "none" for no route
	}{
		{"withdraw route " + vip1, vip1, "none"},
		{"announce route " + vip1 + " next-hop self med 100 community [ 65001:20 65535:0 ]", vip1, "100 (65001,20) (65535,0)"},
		{"announce route " + vip1 + " next-hop self med 7", vip1, "7"},
		{"announce route " + vip2 + " next-hop self med 7", vip2, "7"},
		{"withdraw route " + vip6, vip6, "none"},
		{"withdraw route " + vip1, vip1, "none"},
	} {
		at = len(l.events(0))
		began := time.Now()
		l.byHand(test.command)
		l.eventually("bird has what was done by hand: "+test.command, func() bool {
			has, there := l.routes()[test.prefix]
			return has == test.wrong || !there && test.wrong == "none"
		})
		l.peerHas(right)
		took := time.Since(began)
		if t.Logf("%s: mended after %v", test.command, took.Round(time.Millisecond)); took > 5*time.Second {
			t.Errorf("%s: mended after %v", test.command, took)
		}
		at = l.event(at, "drifted [")
		l.eventually("seen to be mended", func() bool { return slices.Contains(l.events(at), "drifted") })
	}
	before := l.received()
	at = len(l.events(0))
	l.throughout(2*driftCheck+time.Second, "nothing is found where nothing was done", func() bool { return !l.drifted(at) })
	if now := l.received(); now != before {
		t.Errorf("bird has heard %+v, and before %+v", now, before)
	}
}

func TestRealExaBGPRespawn(t *testing.T) { inEach(t, testRealExaBGPRespawn) }

func testRealExaBGPRespawn(t *testing.T, l *lab) {
	own := announce(vip1, 100)
	own.Communities = "65001:20 65535:0"
	routes := []Route{withdraw(vip2), withdraw(vip6), own}
	l.want(routes...)
	l.run("neighbor-changes;")
	at := l.event(0, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.accepted(at, routes...)
	l.peerHas(map[string]string{vip1: "100 (65001,20) (65535,0)"})
	if got, want := l.received(), (received{updates: 1}); got != want {
		t.Errorf("after the start: %+v, want %+v", got, want)
	}
	for range 3 {
		at = len(l.events(0))
		l.kill()
		l.accepted(l.event(at, "start"), routes...)
	}
	// A change comes after whatever those three may have sent.
	routes[0] = announce(vip2, 200)
	l.want(routes...)
	l.peerHas(map[string]string{vip1: "100 (65001,20) (65535,0)", vip2: "200"})
	if got, want := l.received(), (received{updates: 2}); got != want {
		t.Errorf("after three respawns and a change: %+v, want %+v", got, want)
	}

	// What a predecessor announced and is not wanted any more goes.
	at = len(l.events(0))
	routes[0] = withdraw(vip2)
	l.kill(routes...)
	l.accepted(l.event(at, "start"), routes...)
	l.peerHas(map[string]string{vip1: "100 (65001,20) (65535,0)"})
	if got, want := l.received(), (received{updates: 2, withdraws: 1}); got != want {
		t.Errorf("after a respawn with a change: %+v, want %+v", got, want)
	}

	// A new session starts with what ExaBGP holds, and the withdraws are not repeated.
	at = len(l.events(0))
	l.birdc("disable", "exa")
	l.birdc("enable", "exa")
	l.accepted(l.event(at, "neighbor 192.0.2.2 local=192.0.2.1 state=3"), routes...)
	l.peerHas(map[string]string{vip1: "100 (65001,20) (65535,0)"})
	routes[2] = withdraw(vip1)
	l.want(routes...)
	l.peerHas(map[string]string{})
	if got, want := l.received(), (received{updates: 1, withdraws: 1}); got != want {
		t.Errorf("in the new session: %+v, want %+v", got, want)
	}
}

// TestRealExaBGPWithoutList has an ExaBGP that announces routes without keeping a list of them.
func TestRealExaBGPWithoutList(t *testing.T) { inEach(t, testRealExaBGPWithoutList) }

func testRealExaBGPWithoutList(t *testing.T, l *lab) {
	l.extra = "adj-rib-out false;"
	l.want(announce(vip1, 100), announce(vip2, 100))
	l.run("neighbor-changes;")
	l.peerHas(map[string]string{vip1: "100", vip2: "100"})
	at := len(l.events(0))
	l.kill(withdraw(vip1), announce(vip2, 100))
	l.accepted(l.event(at, "start"), withdraw(vip1), announce(vip2, 100))
	l.peerHas(map[string]string{vip2: "100"})
	before := l.received()
	at = len(l.events(0))
	l.kill()
	l.accepted(l.event(at, "start"), withdraw(vip1), announce(vip2, 100))
	l.eventually("bird counts a withdraw that nobody needs", func() bool { return l.received().withdraws == before.withdraws+1 })
}

func TestRealExaBGPKilled(t *testing.T) { inEach(t, testRealExaBGPKilled) }

func testRealExaBGPKilled(t *testing.T, l *lab) {
	l.run("neighbor-changes;")
	at := l.event(0, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	if err := l.exabgp.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	l.event(at, "gone")
	l.event(at, "end "+ErrGone.Error())
}

func TestRealExaBGPWithoutAcks(t *testing.T) { inEach(t, testRealExaBGPWithoutAcks) }

func testRealExaBGPWithoutAcks(t *testing.T, l *lab) {
	l.want(announce(vip1, 100), announce(vip2, 100))
	l.run("neighbor-changes;", "exabgp_api_ack=false")
	at := l.event(0, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.peerHas(map[string]string{vip1: "100", vip2: "100"})
	l.want(announce(vip1, 200), withdraw(vip2))
	l.peerHas(map[string]string{vip1: "200"})

	if err := syscall.Kill(l.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	at = l.event(at, "start")
	l.event(at, "listed [192.0.2.2]")
	l.event(at, `accepted "withdraw route 203.0.113.2/32" epoch=1 took=0s`)
	l.throughout(500*time.Millisecond, "the route stays", func() bool { return maps.Equal(l.routes(), map[string]string{vip1: "200"}) })
}

func TestRealExaBGPWithoutEvents(t *testing.T) { inEach(t, testRealExaBGPWithoutEvents) }

func testRealExaBGPWithoutEvents(t *testing.T, l *lab) {
	l.birdc("disable", "exa")
	l.want(announce(vip1, 100))
	l.run("")
	at := l.event(0, "listed []")
	l.birdc("enable", "exa")
	at = l.event(at, "listed [192.0.2.2]")
	at = l.event(at, "events-missing 192.0.2.2")
	l.birdc("disable", "exa")
	l.event(at, "listed []")
}

func TestRealExaBGPPredecessor(t *testing.T) { inEach(t, testRealExaBGPPredecessor) }

func testRealExaBGPPredecessor(t *testing.T, l *lab) {
	// Commands in the thousands, whose replies come to the next process, and half of one: glued to what comes next.
	var burst strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&burst, "announce route 198.18.%d.%d/32 next-hop self med %d\n", i/250, i%250, i)
	}
	l.write("burst", burst.String()+"announce route "+vip2+" next-hop se")
	l.want(announce(vip1, 100), withdraw(vip2))
	l.run("neighbor-changes;")
	at := l.event(0, "listed")
	l.event(at, `accepted "announce route 203.0.113.1/32`)
	l.event(at, `accepted "withdraw route 203.0.113.2/32`)
	l.eventually("bird has the route", func() bool { return l.routes()[vip1] == "100" })
	for _, line := range l.events(0) {
		if strings.HasPrefix(line, "refused") || strings.HasSuffix(line, "took=0s") {
			t.Errorf("replies were taken for those of others: %s", line)
		}
	}
}

func TestRealExaBGPFrozen(t *testing.T) { inEach(t, testRealExaBGPFrozen) }

func testRealExaBGPFrozen(t *testing.T, l *lab) {
	l.want(announce(vip1, 100), announce(vip2, 100))
	l.run("neighbor-changes;")
	l.peerHas(map[string]string{vip1: "100", vip2: "100"})
	at := len(l.events(0))
	if err := l.exabgp.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	l.want(announce(vip1, 200), announce(vip2, 200))
	at = l.event(at, "refused")
	l.want(withdraw(vip1), announce(vip2, 150))
	l.throughout(time.Second, "nothing is accepted", func() bool { return len(l.events(at)) == 0 })
	if err := l.exabgp.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.event(at, `accepted "withdraw route 203.0.113.1/32`)
	l.peerHas(map[string]string{vip2: "150"})
	if slices.ContainsFunc(l.events(at), func(line string) bool {
		return strings.Contains(line, `"announce route 203.0.113.2/32 next-hop self med 200"`)
	}) {
		t.Errorf("a table that was replaced was written: %q", l.events(at))
	}
}

// TestChildWithoutExaBGP keeps the child honest: it ends when its standard input does.
func TestChildWithoutExaBGP(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	out, err := io.ReadAll(stdout)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != "" && got != querySummary {
		t.Errorf("standard output: %q", out)
	}
}

// TestRealDialect has the dialect found out, and set.
func TestRealDialect(t *testing.T) { inEach(t, testRealDialect) }

func testRealDialect(t *testing.T, l *lab) {
	l.want(announce(vip1, 100))
	l.run("neighbor-changes;")
	at := l.event(0, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.peerHas(map[string]string{vip1: "100"})
	found := fmt.Sprintf(`msg="dialect of exabgp found" event=dialect from=auto to=%s`, l.dialect)
	if log, err := os.ReadFile(l.path("exabgp.log")); err != nil || strings.Count(string(log), found) != 1 {
		t.Errorf("not once in the log: %s (%v)", found, err)
	}
	if err := l.exabgp.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	at = l.event(at, "gone")
	<-l.ended

	l.run("neighbor-changes;", childDialect+"="+l.dialect.String())
	at = l.event(at, "start")
	l.event(at, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.peerHas(map[string]string{vip1: "100"})
	l.event(at, `accepted "announce route 203.0.113.1/32 next-hop self med 100"`)
	if log, err := os.ReadFile(l.path("exabgp.log")); err != nil || strings.Contains(string(log), "event=dialect") {
		t.Errorf("the dialect was found or does not match although it was set (%v)", err)
	}
}

// attributes is what BIRD has of each route of a protocol, by attribute, in BIRD's words. A prefix with several paths has
// several, in no order.
func (l *lab) attributes(protocol string) map[string][]map[string]string {
	routes := map[string][]map[string]string{}
	var prefix string
	var now map[string]string
	for line := range strings.Lines(l.birdc("show", "route", "all", "protocol", protocol)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && strings.HasPrefix(fields[0], "BGP."):
			now[strings.TrimSuffix(strings.TrimPrefix(fields[0], "BGP."), ":")] = strings.Join(fields[1:], " ")
		case strings.Contains(line, "["+protocol+" "):
			if line[0] != ' ' && line[0] != '\t' {
				prefix = fields[0]
			}
			now = map[string]string{}
			routes[prefix] = append(routes[prefix], now)
		}
	}
	return routes
}

// arrives waits until a protocol of BIRD has exactly one route for a prefix, with these attributes among others; "" is for one
// that must not be there.
func (l *lab) arrives(protocol, prefix string, want map[string]string) {
	l.t.Helper()
	var got []map[string]string
	defer func() {
		if l.t.Failed() {
			l.t.Logf("%s has %s with %v", protocol, prefix, got)
		}
	}()
	l.eventually(fmt.Sprintf("%s has %s with %v", protocol, prefix, want), func() bool {
		got = l.attributes(protocol)[prefix]
		return len(got) == 1 && carries(got[0], want)
	})
}

func carries(got, want map[string]string) bool {
	for name, value := range want {
		if got[name] != value {
			return false
		}
	}
	return true
}

// TestRealAttributes has every attribute arrive at a router as it was written, over eBGP and iBGP, IPv4 and IPv6, and go again.
func TestRealAttributes(t *testing.T) { inEach(t, testRealAttributes) }

func testRealAttributes(t *testing.T, l *lab) {
	l.second = true
	full := Route{Prefix: netip.MustParsePrefix(vip1), NextHop: netip.MustParseAddr("192.0.2.77"), MED: 4294967295, HasLocalPreference: true,
		LocalPreference: 250, ASPath: "65001 65001 4200000001", Communities: "65001:20 65535:0 65535:666", LargeCommunities: "65001:1:2 4294967295:0:4294967295",
		ExtendedCommunities: "target:65001:5 origin:65001:6 target:192.0.2.1:7 origin:4200000001:8 bandwidth:65001:125000000 0x4300000000000001"}
	full6 := full
	full6.Prefix, full6.NextHop = netip.MustParsePrefix("2001:db8:f::/48"), netip.MustParseAddr("2001:db8::77")
	plain := announce(vip2, 0)
	l.want(full, full6, plain)
	l.run("neighbor-changes;")
	common := map[string]string{
		"origin": "IGP", "as_path": "65001 65001 4200000001", "med": "4294967295", "community": "(65001,20) (65535,0) (65535,666)",
		"large_community": "(65001, 1, 2) (4294967295, 0, 4294967295)",
		"ext_community":   "(rt, 65001, 5) (ro, 65001, 6) (rt, 192.0.2.1, 7) (ro, 4200000001, 8) (unknown 0x4004, 65001, 1290693416) (generic, 0x43000000, 0x1)",
	}
	for _, protocol := range []string{"exa", "second"} {
		for prefix, hop := range map[string]string{vip1: "192.0.2.77", "2001:db8:f::/48": "2001:db8::77"} {
			want := maps.Clone(common)
			want["next_hop"] = hop
			if protocol == "second" { // over eBGP nobody listens to it
				want["local_pref"] = "250"
			}
			l.arrives(protocol, prefix, want)
		}
	}
	l.arrives("exa", vip2, map[string]string{"as_path": "65001", "med": "0", "next_hop": "192.0.2.1", "community": "", "large_community": "", "ext_community": ""})
	l.arrives("second", vip2, map[string]string{"as_path": "", "med": "0", "next_hop": "192.0.2.4", "local_pref": "100"})
	l.throughout(driftCheck+time.Second, "no attribute passes for another", func() bool { return !l.drifted(0) })

	full.Withdraw, full6.Withdraw, plain.Withdraw = true, true, true
	l.want(full, full6, plain)
	for _, protocol := range []string{"exa", "second"} {
		l.eventually(protocol+" has nothing", func() bool { return len(l.attributes(protocol)) == 0 })
	}
}

// TestRealNeighbors has routes for single neighbors, with path identifiers where the neighbor knows those, and one for a
// neighbor that is not there.
func TestRealNeighbors(t *testing.T) { inEach(t, testRealNeighbors) }

func testRealNeighbors(t *testing.T, l *lab) {
	l.second = true
	to := func(r Route, neighbor string, path uint32) Route {
		r.Neighbor, r.PathID = netip.MustParseAddr(neighbor), path
		return r
	}
	routes := []Route{
		to(announce(vip1, 9), "192.0.2.9", 0), to(announce(vip1, 100), "192.0.2.2", 0), to(announce(vip1, 200), "192.0.2.3", 0),
		to(announce(vip2, 301), "192.0.2.3", 1), to(announce(vip2, 302), "192.0.2.3", 2),
	}
	l.want(routes...)
	l.run("neighbor-changes;")
	at := l.event(0, "neighbor 192.0.2.2 local=192.0.2.1 state=3")
	l.event(0, "neighbor 192.0.2.3 local=192.0.2.4 state=3")
	l.arrives("exa", vip1, map[string]string{"med": "100"})
	l.arrives("second", vip1, map[string]string{"med": "200"})
	paths := func(meds ...string) {
		t.Helper()
		l.eventually(fmt.Sprintf("paths with %v", meds), func() bool {
			var got []string
			for _, r := range l.attributes("second")[vip2] {
				got = append(got, r["med"])
			}
			slices.Sort(got)
			return slices.Equal(got, meds)
		})
	}
	paths("301", "302")
	if got := l.attributes("exa")[vip2]; got != nil {
		t.Errorf("the other neighbor has %v", got)
	}
	l.event(0, `refused "neighbor 192.0.2.9 announce route 203.0.113.1/32 next-hop self med 9"`)
	if !slices.ContainsFunc(l.events(0), func(line string) bool { return strings.Contains(line, "no neighbor 192.0.2.9") }) {
		t.Errorf("the refusal does not name the neighbor: %q", l.events(0))
	}

	// Another process finds out which neighbor holds what: only what is there and not wanted any more goes.
	for i := range routes {
		routes[i].Withdraw = i != 2 && i != 4
	}
	l.accepted(at-1, routes[2], routes[4])
	before := [2]received{l.received(), {}}
	at = len(l.events(0))
	l.kill(append(routes, to(withdraw(vip1), "192.0.2.3", 7))...)
	l.accepted(l.event(at, "start"), routes...)
	l.eventually("the route for one neighbor goes", func() bool { return len(l.attributes("exa")) == 0 })
	l.arrives("second", vip1, map[string]string{"med": "200"})
	paths("302")
	if got := l.received(); got.withdraws != before[0].withdraws+1 {
		t.Errorf("%d withdraws, %d before", got.withdraws, before[0].withdraws)
	}

	// A route for all of them, and then none.
	l.want(announce(vip1, 50), to(withdraw(vip2), "192.0.2.3", 2))
	l.arrives("exa", vip1, map[string]string{"med": "50"})
	l.arrives("second", vip1, map[string]string{"med": "50"})
	l.want(to(withdraw(vip1), "192.0.2.2", 0), to(announce(vip1, 60), "192.0.2.3", 0))
	l.arrives("second", vip1, map[string]string{"med": "60"})
	l.eventually("one neighbor has nothing", func() bool { return len(l.attributes("exa")) == 0 })
	l.throughout(driftCheck+time.Second, "nothing passes for what was done by hand", func() bool { return !l.drifted(0) })
}
