package exa

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"exazk/exabgp"
)

// childSocket is the variable that makes the test binary a process of ExaBGP. Its value is the socket of the test.
const childSocket = "EXAZK_TEST_CHILD"

func TestMain(m *testing.M) {
	if socket := os.Getenv(childSocket); socket != "" {
		os.Exit(child(socket))
	}
	os.Exit(m.Run())
}

// Marks of the child, beside the lines that it passes on.
const (
	markStart = "** start"
	markTerm  = "** term"
	markEnd   = "** end"
)

// child passes on what ExaBGP says to the test, and what the test says to ExaBGP. It ends at SIGTERM and at the end of its
// standard input, and closes its standard output where the test closes its side.
func child(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(conn, markStart, os.Getpid())
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		fmt.Fprintln(conn, markTerm)
		os.Exit(0)
	}()
	go func() {
		io.Copy(os.Stdout, conn)
		os.Stdout.Close()
	}()
	io.Copy(conn, os.Stdin)
	fmt.Fprintln(conn, markEnd)
	return 0
}

// real is a world of ExaBGP and BIRD in two network namespaces with a wire between them.
type real struct {
	t      *testing.T
	dir    string
	ns     [2]string // ExaBGP's, BIRD's
	cfg    Config
	exabgp *exec.Cmd
	gone   chan struct{} // of exabgp

	mu   sync.Mutex
	said []string // by ExaBGP to its processes, with marks
	pid  int      // of the newest
	conn net.Conn // to it
}

const birdConf = `
router id 192.0.2.2;
protocol device { scan time 1; }
protocol bgp tor {
	local 192.0.2.2 as 65002;
	neighbor 192.0.2.1 as 65001;
	hold time %d;
	connect delay time 1;
	connect retry time 1;
	error wait time 1, 2;
	ipv4 { import all; export none; };
	ipv6 { import all; export none; };
}
`

const exabgpConf = `
process exazk { run %s; encoder json; }
neighbor 192.0.2.2 {
	router-id 192.0.2.1; local-address 192.0.2.1; local-as 65001; peer-as 65002; hold-time %d;
	family { ipv4 unicast; ipv6 unicast; }
	api { processes [ exazk ]; %s }
}
`

// newReal starts BIRD. All ends with the test.
func newReal(t *testing.T, cfg Config) *real {
	// In /tmp: the path of a socket has 108 bytes, and ExaBGP's tokeniser does not like all that t.TempDir may hold.
	dir, err := os.MkdirTemp("/tmp", "exa")
	if err != nil {
		t.Fatal(err)
	}
	w := &real{t: t, dir: dir, cfg: cfg}
	t.Cleanup(func() {
		if t.Failed() {
			w.keep("exabgp.log", "bird.log")
		}
		os.RemoveAll(dir)
	})
	id := filepath.Base(dir)
	w.ns = [2]string{id + "-h", id + "-t"}
	for i, ns := range w.ns {
		w.must("ip", "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		if i == 1 {
			w.must("ip", "link", "add", "v0", "netns", w.ns[0], "type", "veth", "peer", "name", "v1", "netns", ns)
		}
	}
	for i, ns := range w.ns {
		dev := fmt.Sprintf("v%d", i)
		w.must("ip", "-n", ns, "link", "set", "lo", "up") // over which the kernel tells a socket that ARP failed
		w.must("ip", "-n", ns, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", dev)
		w.must("ip", "-n", ns, "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", dev, "nodad")
		w.must("ip", "-n", ns, "link", "set", dev, "up")
	}
	w.write("bird.conf", fmt.Sprintf(birdConf, cfg.HoldTime/time.Second))
	w.run(w.ns[1], "bird.log", nil, "bird", "-f", "-c", w.path("bird.conf"), "-s", w.path("bird.ctl"), "-P", w.path("bird.pid"))
	w.until("bird answers", func() bool { return strings.Contains(w.birdc("show", "status"), "up and running") })
	w.listen()
	return w
}

func needReal(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a real ExaBGP, not with -short")
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"ip", "nft", "exabgp", "bird", "birdc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("a real ExaBGP and a router are needed: %v", err)
		}
	}
	if out, _ := exec.Command("exabgp", "--version").CombinedOutput(); !strings.Contains(string(out), "4.2.21") {
		t.Skipf("the model is of 4.2.21, not of %s", out)
	}
}

func (w *real) path(name string) string { return filepath.Join(w.dir, name) }

func (w *real) keep(names ...string) {
	for _, name := range names {
		if content, err := os.ReadFile(w.path(name)); err == nil {
			w.t.Logf("end of %s:\n%s", name, content[max(0, len(content)-3000):])
		}
	}
}

func (w *real) must(name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func (w *real) write(name, content string) {
	if err := os.WriteFile(w.path(name), []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// run starts a program in a namespace until the test ends. gone is closed when it has.
func (w *real) run(ns, log string, env []string, args ...string) (*exec.Cmd, chan struct{}) {
	out, err := os.Create(w.path(log))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...) // which becomes the program: same pid
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		cmd.Wait()
		out.Close()
		close(gone)
	}()
	w.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		<-gone
	})
	return cmd, gone
}

// listen takes the children's connections, one after the other.
func (w *real) listen() {
	l, err := net.Listen("unix", w.path("socket"))
	if err != nil {
		w.t.Fatal(err)
	}
	var all sync.WaitGroup
	w.t.Cleanup(func() {
		l.Close()
		w.mu.Lock()
		pid := w.pid
		w.mu.Unlock()
		if pid != 0 {
			syscall.Kill(pid, syscall.SIGCONT) // it sees the end of its standard input
		}
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.hear(conn) })
		}
	})
}

// hear notes what one child passes on.
func (w *real) hear(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		text, err := in.ReadString('\n')
		if err != nil {
			return
		}
		text = strings.TrimSuffix(text, "\n")
		w.mu.Lock()
		if fields := strings.Fields(text); strings.HasPrefix(text, markStart) {
			fmt.Sscan(fields[2], &w.pid)
			w.conn = conn
			text = markStart
		}
		w.said = append(w.said, text)
		w.mu.Unlock()
	}
}

func (w *real) birdc(args ...string) string {
	out, err := exec.Command("birdc", append([]string{"-s", w.path("bird.ctl")}, args...)...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func (w *real) start() {
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	api := ""
	if w.cfg.Changes {
		api += "neighbor-changes; "
	}
	if w.cfg.Keepalives {
		api += "receive { parsed; keepalive; } "
	}
	w.write("exabgp.conf", fmt.Sprintf(exabgpConf, self, w.cfg.HoldTime/time.Second, api))
	env := []string{childSocket + "=" + w.path("socket"), "exabgp_daemon_user=root", "exabgp_daemon_drop=false", "exabgp_api_cli=false",
		fmt.Sprintf("exabgp_api_ack=%t", w.cfg.Acks)}
	w.exabgp, w.gone = w.run(w.ns[0], "exabgp.log", env, "exabgp", w.path("exabgp.conf"))
}

func (w *real) signal(s syscall.Signal)      { w.exabgp.Process.Signal(s) }
func (w *real) signalChild(s syscall.Signal) { syscall.Kill(w.childPid(), s) }

func (w *real) childPid() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pid
}

func (w *real) say(text string) {
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	if _, err := io.WriteString(conn, text); err != nil {
		w.t.Errorf("child: %v", err)
	}
}

func (w *real) heard() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, text := range w.said {
		if strings.HasPrefix(text, "** ") {
			lines = append(lines, text)
		} else {
			lines = append(lines, describe(exabgp.Decode([]byte(text))))
		}
	}
	return lines
}

// kill kills the process and waits until it is gone, but for its parent's knowledge.
func (w *real) kill() {
	pid := w.childPid()
	syscall.Kill(pid, syscall.SIGKILL)
	w.until("a dead process", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// halt stops a process and waits until it stands.
func (w *real) halt(pid int) {
	syscall.Kill(pid, syscall.SIGSTOP)
	w.until("a stopped process", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(stat), ") T ")
	})
}

func (w *real) closeOutput() {
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	conn.(*net.UnixConn).CloseWrite()
}

func (w *real) stop()          { w.halt(w.childPid()) }
func (w *real) resume()        { w.signalChild(syscall.SIGCONT) }
func (w *real) term()          { w.signal(syscall.SIGTERM) }
func (w *real) killExaBGP()    { w.signal(syscall.SIGKILL) }
func (w *real) freeze()        { w.halt(w.exabgp.Process.Pid) }
func (w *real) thaw()          { w.signal(syscall.SIGCONT) }
func (w *real) reset()         { w.birdc("restart", "tor") }
func (w *real) now() time.Time { return time.Now() }

func (w *real) running() bool {
	select {
	case <-w.gone:
		return false
	default:
		return true
	}
}

// link pulls the plug at the router's end, which takes the carrier from both. IPv4 addresses stay.
func (w *real) link(up bool) {
	w.must("ip", "-n", w.ns[1], "link", "set", "v1", map[bool]string{true: "up", false: "down"}[up])
}

// silence drops all that comes in at one or both ends, ARP too.
func (w *real) silence(way Way) {
	for i, ns := range w.ns {
		exec.Command("ip", "netns", "exec", ns, "nft", "delete", "table", "netdev", "silence").Run()
		if way == Both || way == ToHost && i == 0 || way == ToTor && i == 1 {
			w.must("ip", "netns", "exec", ns, "nft", fmt.Sprintf(
				"add table netdev silence; add chain netdev silence in { type filter hook ingress device v%d priority 0; policy drop; }", i))
		}
	}
}

// routes are those of BIRD: "203.0.113.1/32 192.0.2.1 100 65001:1 path 65001 65001", sorted. A path of one AS is what ExaBGP writes by
// itself.
func (w *real) routes() string {
	type found struct{ prefix, hop, med, communities, path, large, extended string }
	var routes []found
	for text := range strings.Lines(w.birdc("show", "route", "all", "protocol", "tor")) {
		fields := strings.Fields(text)
		if len(fields) > 1 && strings.Contains(fields[0], "/") && text[0] != '\t' && text[0] != ' ' {
			routes = append(routes, found{prefix: " " + fields[0]})
		}
		if len(fields) < 2 || len(routes) == 0 {
			continue
		}
		r := &routes[len(routes)-1]
		switch fields[0] {
		case "BGP.next_hop:":
			r.hop = " " + fields[1]
		case "BGP.med:":
			r.med = " " + fields[1]
		case "BGP.community:":
			r.communities = " " + strings.ReplaceAll(strings.NewReplacer("(", "", ")", "").Replace(strings.Join(fields[1:], " ")), ",", ":")
		case "BGP.as_path:":
			if len(fields) > 2 {
				r.path = " path " + strings.Join(fields[1:], " ")
			}
		case "BGP.large_community:":
			r.large = " large " + colons(fields[1:])
		case "BGP.ext_community:":
			r.extended = " ext " + strings.NewReplacer("rt:", "target:", "ro:", "origin:").Replace(colons(fields[1:]))
		}
	}
	var lines []string
	for _, r := range routes {
		lines = append(lines, strings.TrimPrefix(r.prefix+r.hop+r.med+r.communities+r.path+r.large+r.extended, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// colons makes "65001:1:2 65001:1:3" of BIRD's "(65001, 1, 2) (65001, 1, 3)".
func colons(fields []string) string {
	return strings.NewReplacer("(", "", ")", "", ", ", ":").Replace(strings.Join(fields, " "))
}

func (w *real) updates() int {
	sum := 0
	for line := range strings.Lines(w.birdc("show", "protocols", "all", "tor")) {
		for _, form := range []string{"Import updates: %d", "Import withdraws: %d"} {
			var n int
			if _, err := fmt.Sscanf(strings.TrimSpace(line), form, &n); err == nil {
				sum += n
			}
		}
	}
	return sum
}

func (w *real) up() bool { return strings.Contains(w.birdc("show", "protocols", "tor"), "Established") }

func (w *real) sleep(d time.Duration) { time.Sleep(d) }

func (w *real) until(what string, ok func() bool) {
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("never: %s\nroutes %q\nsaid %q", what, w.routes(), w.heard())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
