package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
)

// Files on a load balancer that make its check fail, and hang, whatever the web server does. They outlive a loss of power.
const (
	sick = "/run/sick"
	hang = "/run/hang"
)

// nobody is a hardware address that no interface of the lab has.
const nobody = "02:00:00:00:de:ad"

// node carries faults out on one load balancer. What concerns its processes is done one after the other by its worker; what
// concerns its network, at once.
type node struct {
	lab    *lab.Lab
	name   string
	index  int
	worker worker // of its processes
	wire   worker // of its network
	conf   string // exazk's configuration as it was at first
	story  *story
	diary  *diary

	flapping, slowing *toggle
	paused            []int // process ids of exazk that were stopped

	mu      sync.Mutex // of what follows
	power   bool
	webDown int // reasons for the web server to be dead
	down    int // reasons for the link to the ToR to be down
	lost    map[entry]int
	applied map[entry]bool
}

// entry is an entry of a host's table of neighbors that leads nowhere: all that the host sends to that neighbor is lost.
type entry struct{ host, ifc, addr string }

func newNode(l *lab.Lab, index int, conf string, s *story, y *diary) *node {
	return &node{lab: l, name: lab.Balancers()[index], index: index, conf: conf, story: s, diary: y, power: true, lost: map[entry]int{}, applied: map[entry]bool{}}
}

// settings are the nodes' configurations as they were at first.
type settings [3]string

func readSettings(l *lab.Lab) (*settings, error) {
	var s settings
	for i := range s {
		n := newNode(l, i, "", nil, nil)
		conf, err := os.ReadFile(n.host().Path(n.confPath()))
		if err != nil {
			return nil, err
		}
		s[i] = string(conf)
	}
	return &s, nil
}

func (n *node) host() *lab.Host  { return n.lab.Host(n.name) }
func (n *node) leaf() string     { return lab.Leaf(n.name) }
func (n *node) confPath() string { return fmt.Sprintf("/etc/exazk/apex-node%d.toml", n.index+1) }

// workerOf is who carries a fault out: what is of the network need not wait for what is done to processes.
func (n *node) workerOf(k fault.Kind) *worker {
	switch k {
	case fault.LinkDown, fault.SilentLink, fault.ResetSession, fault.CutZK, fault.CutServer, fault.SeverZK, fault.Isolate:
		return &n.wire
	}
	return &n.worker
}

// do has a fault begin (change is 1) or end (-1).
func (n *node) do(ctx context.Context, f fault.Fault, change int) error {
	if change > 0 {
		return n.begin(ctx, f)
	}
	return n.end(ctx, f)
}

// begin has a fault begin, or happen if it is a moment.
func (n *node) begin(ctx context.Context, f fault.Fault) error {
	switch f.Kind {
	case fault.Crash:
		return n.crash()
	case fault.KillExazk:
		return n.lab.SignalExazk(n.name, syscall.SIGKILL)
	case fault.TermExazk:
		return n.lab.SignalExazk(n.name, syscall.SIGTERM)
	case fault.PauseExazk:
		return n.pauseExazk()
	case fault.Reconfigure:
		return n.reconfigure(f)
	case fault.KillExaBGP:
		return n.lab.KillExaBGP(n.name, syscall.SIGKILL)
	case fault.RestartExaBGP:
		return n.lab.StopUnit(ctx, n.name)
	case fault.PauseExaBGP:
		return n.lab.KillExaBGP(n.name, syscall.SIGSTOP)
	case fault.SlowExaBGP:
		n.slowing = n.slow()
	case fault.SickCheck:
		return n.web(ctx, 1)
	case fault.HangCheck:
		return n.host().WriteFile(hang, nil, 0o644)
	case fault.FlapCheck:
		n.flapping = n.flap(f)
	default:
		return n.network(ctx, f, 1)
	}
	return nil
}

// end ends what begin began.
func (n *node) end(ctx context.Context, f fault.Fault) error {
	switch f.Kind {
	case fault.Crash:
		return n.boot(ctx)
	case fault.PauseExazk:
		return n.resumeExazk()
	case fault.KillExaBGP:
		return n.lab.StartExaBGP(n.name)
	case fault.RestartExaBGP:
		return n.lab.StartUnit(ctx, n.name)
	case fault.PauseExaBGP:
		return n.lab.KillExaBGP(n.name, syscall.SIGCONT)
	case fault.SlowExaBGP:
		return n.slowing.stop()
	case fault.SickCheck:
		return n.web(ctx, -1)
	case fault.HangCheck:
		return os.Remove(n.host().Path(hang))
	case fault.FlapCheck:
		return n.flapping.stop()
	default:
		return n.network(ctx, f, -1)
	}
}

func (n *node) crash() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.power = false
	n.flushed(func(e entry) bool { return e.host == n.name })
	return n.lab.CrashHost(n.name)
}

// boot brings the host back, and on it and its network whatever else is wrong with it at the moment.
func (n *node) boot(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.lab.BootHost(ctx, n.name)
	n.power = true
	if n.down > 0 {
		n.flushed(func(e entry) bool { return e.ifc == n.leaf() || e.ifc == n.name })
		err = errors.Join(err, n.lab.LinkDown(n.name, n.leaf()))
	}
	if n.webDown > 0 {
		err = errors.Join(err, n.lab.StopWeb(n.name))
	}
	return errors.Join(err, n.apply(ctx))
}

// web has one reason more, or one less, for the web server to be dead.
func (n *node) web(ctx context.Context, change int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.webDown > 0
	n.webDown += change
	switch is := n.webDown > 0; {
	case !n.power || is == was:
		return nil
	case is:
		return n.lab.StopWeb(n.name)
	default:
		return n.lab.StartWeb(ctx, n.name)
	}
}

func (n *node) pauseExazk() error {
	pid, err := n.lab.ExazkPID(n.name)
	if err != nil {
		return err
	}
	n.paused = append(n.paused, pid)
	return syscall.Kill(pid, syscall.SIGSTOP)
}

// resumeExazk lets the process go on that was stopped, which is not ExaBGP's any more if that was started anew.
func (n *node) resumeExazk() error {
	var errs []error
	for _, pid := range n.paused {
		if err := syscall.Kill(pid, syscall.SIGCONT); !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	n.paused = nil
	return errors.Join(errs...)
}

var overlapLine = regexp.MustCompile(`(?m)^#?overlap = .*$`)

// Longest settings that reconfigure gives; the bounds are made of them.
const (
	longestOverlap       = 2 * time.Second
	longestDrainTimeout  = 10 * time.Second
	longestFailbackDelay = 3 * time.Second
)

// reconfigure gives exazk other settings, which follow from the instant, and kills it.
func (n *node) reconfigure(f fault.Fault) error {
	i := int(f.At / time.Millisecond)
	overlap := []string{"1s", "500ms", longestOverlap.String()}[i%3]
	timeout := []string{longestDrainTimeout.String(), "5s"}[i/3%2]
	delay := []string{"0s", longestFailbackDelay.String()}[i/6%2]
	lines := fmt.Sprintf("overlap = %q\ndrain_timeout = %q\nfailback_delay = %q", overlap, timeout, delay)
	conf := overlapLine.ReplaceAllLiteralString(n.conf, lines)
	if conf == n.conf {
		return errors.New("the sample configuration has no line for overlap")
	}
	if err := n.host().WriteFile(n.confPath(), []byte(conf), 0o644); err != nil {
		return err
	}
	return n.lab.SignalExazk(n.name, syscall.SIGKILL)
}

// network has one reason more, or one less, for packets to be lost, or does what takes a moment only.
func (n *node) network(ctx context.Context, f fault.Fault, change int) error {
	switch f.Kind {
	case fault.ResetSession:
		_, err := n.lab.Birdc(n.leaf(), "restart "+n.name)
		return err
	case fault.SeverZK:
		return n.sever(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.entries(f) {
		n.lost[e] += change
	}
	if f.Kind == fault.LinkDown || f.Kind == fault.Isolate {
		n.down += change
		if err := n.setLink(change); err != nil {
			return err
		}
	}
	return n.apply(ctx)
}

// setLink follows n.down. Without power the link is down anyway.
func (n *node) setLink(change int) error {
	switch {
	case !n.power:
		return nil
	case change > 0 && n.down == 1:
		n.flushed(func(e entry) bool { return e.ifc == n.leaf() || e.ifc == n.name })
		return n.lab.LinkDown(n.name, n.leaf())
	case change < 0 && n.down == 0:
		return n.lab.LinkUp(n.name, n.leaf())
	}
	return nil
}

// flushed notes that the kernel has dropped the entries of interfaces that were taken down.
func (n *node) flushed(which func(entry) bool) {
	maps.DeleteFunc(n.applied, func(e entry, _ bool) bool { return which(e) })
}

// sever resets the node's connections to ZooKeeper.
func (n *node) sever(ctx context.Context) error {
	out, err := n.host().Run(ctx, "ss", "-K", "-H", "-t", "dport", "=", "2181")
	if err == nil && strings.TrimSpace(out) == "" {
		err = errors.New("it has no connection to ZooKeeper")
	}
	return err
}

// entries lists what a fault makes lead nowhere.
func (n *node) entries(f fault.Fault) []entry {
	var all []entry
	both := func(out, in entry) {
		if f.Way != fault.In {
			all = append(all, out)
		}
		if f.Way != fault.Out {
			all = append(all, in)
		}
	}
	switch f.Kind {
	case fault.SilentLink:
		both(entry{n.name, n.leaf(), fmt.Sprintf("172.16.1.%d", 8*n.index+6)}, entry{n.leaf(), n.name, fmt.Sprintf("172.16.1.%d", 8*n.index+1)})
	case fault.CutServer, fault.CutZK, fault.Isolate:
		for i, server := range n.lab.ZKServers() {
			if f.Kind != fault.CutServer || i == f.Server {
				both(entry{n.name, "mgmt", zkAddr(i)}, entry{server, "mgmt", fmt.Sprintf("192.168.66.%d", n.index+1)})
			}
		}
	}
	return all
}

// apply has the tables of neighbors follow n.lost. Entries on an interface that is down wait until it is up.
func (n *node) apply(ctx context.Context) error {
	lines := map[string][]string{}
	for e, reasons := range n.lost {
		dead := e.ifc == n.leaf() || e.ifc == n.name
		if !n.power || dead && n.down > 0 {
			continue
		}
		switch {
		case reasons > 0 && !n.applied[e]:
			lines[e.host] = append(lines[e.host], fmt.Sprintf("neighbor replace %s lladdr %s dev %s nud permanent", e.addr, nobody, e.ifc))
			n.applied[e] = true
		case reasons == 0 && n.applied[e]:
			lines[e.host] = append(lines[e.host], fmt.Sprintf("neighbor delete %s dev %s", e.addr, e.ifc))
			delete(n.applied, e)
		}
	}
	var errs []error
	for host, batch := range lines {
		slices.Sort(batch)
		errs = append(errs, ipBatch(ctx, n.lab.Host(host), batch))
	}
	return errors.Join(errs...)
}

func ipBatch(ctx context.Context, h *lab.Host, lines []string) error {
	cmd := h.Command(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: ip: %w: %s", h.Name, err, out)
	}
	return nil
}

// slow has ExaBGP stand still for most of the time, so that each command takes it up to 0.7 s.
func (n *node) slow() *toggle {
	return startToggle(700*time.Millisecond, 300*time.Millisecond,
		func() error { return n.lab.KillExaBGP(n.name, syscall.SIGSTOP) },
		func() error { return n.lab.KillExaBGP(n.name, syscall.SIGCONT) })
}

// flap has the check fail and pass by turns, and notes when it failed.
func (n *node) flap(f fault.Fault) *toggle {
	var since time.Duration
	return startToggle(f.Turn, f.Turn,
		func() error {
			err := n.host().WriteFile(sick, nil, 0o644)
			since = n.story.now()
			return err
		},
		func() error {
			if until := n.story.now(); until > since {
				n.diary.spell(spell{n.index, false, span{since, until}})
			}
			return os.Remove(n.host().Path(sick))
		})
}

// toggle switches something on and off by turns until it is stopped.
type toggle struct {
	quit chan struct{}
	done chan error
}

func startToggle(onFor, offFor time.Duration, on, off func() error) *toggle {
	t := &toggle{make(chan struct{}), make(chan error, 1)}
	go func() { // ends with stop
		var errs []error
		for {
			errs = append(errs, on())
			more := t.wait(onFor)
			errs = append(errs, off())
			if !more || !t.wait(offFor) {
				t.done <- errors.Join(errs...)
				return
			}
		}
	}()
	return t
}

func (t *toggle) wait(d time.Duration) bool {
	select {
	case <-t.quit:
		return false
	case <-time.After(d):
		return true
	}
}

// stop leaves it off, and returns what went wrong.
func (t *toggle) stop() error {
	if t == nil {
		return nil
	}
	close(t.quit)
	return <-t.done
}

// worker does one thing after the other.
type worker struct {
	mu   sync.Mutex
	jobs []func()
	busy bool
	wait sync.WaitGroup
}

// do has f done when all that came before it is.
func (w *worker) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs = append(w.jobs, f)
	if !w.busy {
		w.busy = true
		w.wait.Go(w.work)
	}
}

func (w *worker) work() {
	for {
		w.mu.Lock()
		if len(w.jobs) == 0 {
			w.busy = false
			w.mu.Unlock()
			return
		}
		f := w.jobs[0]
		w.jobs = w.jobs[1:]
		w.mu.Unlock()
		f()
	}
}
