package exa

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"exazk/sim/vclock"
)

// Config is what stands in ExaBGP's configuration and environment, and how well it goes.
type Config struct {
	Acks       bool          // exabgp.api.ack: it replies to commands
	Changes    bool          // neighbor-changes: it tells when sessions come and go
	Keepalives bool          // receive { parsed; keepalive; }: it tells of each KEEPALIVE
	HoldTime   time.Duration // negotiated, whole seconds, at least 3 s; keepalives go at a third of it
	Peers      []Peer        // one for each Tor
	Slow       time.Duration // upper bound of what a turn of its reactor takes; 2 ms if zero
	// Lose is the part of the route commands whose handler fails: they do nothing and are not answered. 4.2 does so with what
	// it can not parse (a bad octet, say), and was not seen to do it with anything else.
	Lose float64
	Memo *Memo // of lines, shared with earlier runs; nil for one of its own
}

// Peer is the two addresses of a neighbor's session.
type Peer struct{ Local, Peer netip.Addr }

// Program is how ExaBGP runs its process.
type Program interface {
	// Start starts it, at ExaBGP's start and each time it ended. It is to set the callbacks of p.
	Start(p *Pipes)
	// Kill is SIGTERM from ExaBGP: 0.1 s after the shutdown line, or because the standard output was closed. ExaBGP 4.2 then
	// waits without a bound for the process to end.
	Kill()
}

// Route is a route in the Adj-RIB-Out, or in the table of a router. NextHop is zero in the former where it is "self".
type Route struct {
	Prefix      netip.Prefix
	PathID      uint32 // 0 for none; a router of the model knows none
	MED         uint32
	Communities string
	NextHop     netip.Addr
	// The rest is text, as it was written: "65001 65001", empty where ExaBGP fills it in; "65001:1:2"; "target:65001:5".
	ASPath, LargeCommunities, ExtendedCommunities string
}

// ExaBGP is one ExaBGP and its end of everything.
type ExaBGP struct {
	clock   *vclock.Clock
	r       *rand.Rand
	cfg     Config
	slow    time.Duration
	memo    *Memo
	program Program
	peers   []*peer

	held    []func()  // what is to be done when it does not stand still any more
	stood   time.Time // since when it does
	life    int       // grows at each end: what was put down before does not count any more
	running bool
	frozen  bool
	blocked bool // it stands in a write to its process, whose pipe is full
	term    bool // it is to shut down
	crashed bool // it ends for a fault of its own
	closing bool // it shut down and waits for its process to end

	pipes  *Pipes
	buffer string // the unfinished line; it outlives the process that wrote it
	queue  []job
	table  table
	slot   int64 // of 64 s ...
	starts int   // ... and the starts of the process in it

	due   time.Time // of the next turn of the reactor; zero if none is needed
	round func()
}

// Times that are ExaBGP's own.
const (
	bootMin    = 300 * time.Millisecond // until the interpreter has started the process
	bootMax    = 700 * time.Millisecond
	spawnMin   = 5 * time.Millisecond // from fork to main; about 30 ms were measured until it writes
	spawnMax   = 40 * time.Millisecond
	idle       = 10 * time.Millisecond  // sleep of the reactor between two turns that have nothing to do but queued commands
	killAfter  = 100 * time.Millisecond // from the shutdown line to SIGTERM for the process
	startLimit = 5                      // in a slot of 64 s
	normalLag  = 2 * time.Millisecond
)

// New makes an ExaBGP that is not running. tors are the other ends of cfg.Peers.
func New(clock *vclock.Clock, r *rand.Rand, cfg Config, proc Program, tors []*Tor) *ExaBGP {
	if len(tors) != len(cfg.Peers) || cfg.HoldTime < 3*time.Second || cfg.HoldTime%time.Second != 0 {
		panic(fmt.Sprintf("bug: exabgp with %+v and %d routers", cfg, len(tors)))
	}
	x := &ExaBGP{clock: clock, r: r, cfg: cfg, memo: cfg.Memo, program: proc}
	x.Slow(cfg.Slow)
	if x.memo == nil {
		x.memo = NewMemo()
	}
	x.round = x.turn
	for i, tor := range tors {
		x.peers = append(x.peers, newPeer(x, cfg.Peers[i], tor))
	}
	return x
}

// Running says whether the process of ExaBGP exists: it may be frozen, or waiting for its process to end.
func (x *ExaBGP) Running() bool { return x.running }

// Slow sets the upper bound of what a turn of the reactor takes, from now on.
func (x *ExaBGP) Slow(d time.Duration) {
	x.slow = d
	if d <= 0 {
		x.slow = normalLag
	}
}

// Start starts it, with empty tables.
func (x *ExaBGP) Start() {
	if x.running {
		panic("bug: exabgp started twice")
	}
	x.running, x.frozen, x.blocked, x.term, x.closing, x.crashed = true, false, false, false, false, false
	x.slot, x.starts, x.buffer, x.queue, x.due = 0, 0, "", nil, time.Time{}
	x.after(x.between(bootMin, bootMax), x.boot)
}

func (x *ExaBGP) boot() {
	x.spawn()
	for _, p := range x.peers {
		p.start()
	}
	x.wake(0)
}

// RIB is the Adj-RIB-Out of the first neighbor, sorted by prefix and path identifier. Without commands for single neighbors all
// have the same.
func (x *ExaBGP) RIB() []Route { return x.RIBOf(0) }

// RIBOf is that of a neighbor, by its place in the configuration.
func (x *ExaBGP) RIBOf(neighbor int) []Route {
	table := x.peers[neighbor].table
	routes := make([]Route, 0, len(table))
	for _, r := range table {
		routes = append(routes, r.public())
	}
	slices.SortFunc(routes, func(a, b Route) int { return cmp.Or(a.Prefix.Compare(b.Prefix), cmp.Compare(a.PathID, b.PathID)) })
	return routes
}

func (r route) public() Route {
	return Route{Prefix: r.prefix, PathID: r.path, MED: r.med, Communities: r.communities, NextHop: r.hop,
		ASPath: r.asPath, LargeCommunities: r.large, ExtendedCommunities: r.extended}
}

// after is for what belongs to this life.
func (x *ExaBGP) after(d time.Duration, f func()) {
	life := x.life
	x.clock.After(d, func() {
		if x.life == life {
			x.do(f)
		}
	})
}

// do does f, or leaves it for when ExaBGP goes on.
func (x *ExaBGP) do(f func()) {
	if x.stalled() {
		x.held = append(x.held, f)
		return
	}
	f()
}

func (x *ExaBGP) between(low, high time.Duration) time.Duration {
	return low + time.Duration(x.r.Int64N(int64(high-low)))
}

func (x *ExaBGP) stalled() bool { return x.frozen || x.blocked }

// wake wants a turn of the reactor in d at the latest.
func (x *ExaBGP) wake(d time.Duration) {
	at := x.clock.Now().Add(d)
	if !x.running || x.stalled() || !x.due.IsZero() && !x.due.After(at) {
		return
	}
	x.due = at
	x.clock.At(at, x.round)
}

// turn is one turn of the reactor: the neighbors, then what the process wrote, then 50 steps of what it asked for.
func (x *ExaBGP) turn() {
	if !x.running || x.due != x.clock.Now() || x.stalled() {
		return
	}
	x.due = time.Time{}
	if x.term || x.closing {
		x.shutdown()
		return
	}
	busy := false
	for _, p := range x.peers {
		busy = p.send() || busy
	}
	busy = x.read() || busy
	x.async()
	switch {
	case x.stalled():
	case busy, x.term:
		x.wake(x.lag())
	case len(x.queue) > 0, x.pending():
		x.wake(idle + x.lag())
	}
}

// pending says whether a neighbor has something to send.
func (x *ExaBGP) pending() bool {
	return slices.ContainsFunc(x.peers, func(p *peer) bool { return p.state == established && p.out.pending() })
}

// read takes up to 16 KiB of what the process wrote. The rest of one that ended is lost, save an unfinished line.
func (x *ExaBGP) read() bool {
	p := x.pipes
	if p == nil {
		return false
	}
	text := p.drain(readSize)
	if len(text) > 0 {
		rest := x.buffer + string(text)
		for {
			line, more, found := strings.Cut(rest, "\n")
			if !found {
				break
			}
			rest = more
			x.command(line)
		}
		x.buffer = rest
	}
	switch {
	case x.crashed:
		return false
	case p.unseen:
		p.unseen = false
		return true
	case p.exited || p.closed && len(p.out) == 0:
		x.respawn()
		return true
	}
	p.refill()
	return len(text) > 0
}

// respawn starts the process again. The sixth start in a slot of 64 s of the clock ends ExaBGP, after that start.
func (x *ExaBGP) respawn() {
	if !x.pipes.exited {
		x.program.Kill()
	}
	x.spawn()
	x.term = x.term || x.starts > startLimit
}

// spawn starts the process. What is written to it until it reads waits in the pipe.
func (x *ExaBGP) spawn() {
	if slot := x.clock.Now().Unix() >> 6; slot != x.slot {
		x.slot, x.starts = slot, 0
	}
	x.starts++
	p := newPipes(x)
	x.pipes = p
	x.clock.After(x.between(spawnMin, spawnMax), func() {
		if !p.ended {
			p.started = true
			x.program.Start(p)
			p.schedule()
		}
	})
}

// exited is called when the process ended or closed its standard output. A write that waits for it fails.
func (x *ExaBGP) exited(p *Pipes) {
	switch {
	case x.pipes != p || !x.running:
	case x.closing && p.exited:
		x.end()
	default:
		if p.exited {
			x.unblock()
		}
		x.wake(x.lag())
	}
}

// unblock lets ExaBGP go on after a write.
func (x *ExaBGP) unblock() {
	if x.blocked {
		x.blocked = false
		x.resume()
	}
}

// Freeze is SIGSTOP.
func (x *ExaBGP) Freeze() {
	if x.running && !x.frozen {
		still := x.stalled()
		x.frozen = true
		if !still {
			x.stall()
		}
	}
}

// Thaw is SIGCONT.
func (x *ExaBGP) Thaw() {
	if x.frozen {
		x.frozen = false
		x.resume()
	}
}

// stall stops what ExaBGP does by itself.
func (x *ExaBGP) stall() {
	x.due, x.stood = time.Time{}, x.clock.Now()
	for _, p := range x.peers {
		p.refresh()
	}
}

// resume begins with a turn of the reactor. What came from the network follows, for a neighbor takes one message in a turn,
// and the keepalives before what matters were many.
func (x *ExaBGP) resume() {
	if !x.running || x.stalled() {
		return
	}
	for _, p := range x.peers {
		p.refresh()
	}
	x.wake(0)
	held, stood := x.held, x.stood
	x.held = nil
	x.after(0, func() {
		for _, f := range held {
			x.do(f)
		}
		for _, p := range x.peers {
			p.thawed(stood)
		}
	})
}

// Term is SIGTERM, or a stop by the init system. ExaBGP closes its sessions, tells its process, and waits for it.
func (x *ExaBGP) Term() {
	switch {
	case !x.running:
	case x.pipes == nil: // an interpreter that starts has no handler yet
		x.end()
	default:
		x.term = true
		x.wake(idle)
	}
}

// shutdown closes the sessions first, without a NOTIFICATION, and only then tells the process: what that would still like to
// withdraw nobody hears. What it asked for is forgotten.
func (x *ExaBGP) shutdown() {
	if x.closing {
		return
	}
	x.closing = true
	for _, p := range x.peers {
		p.shutdown()
	}
	x.say(x.memo.line(lineEnd))
	x.after(killAfter, func() {
		if x.pipes.exited {
			x.end()
		} else {
			x.program.Kill()
		}
	})
}

// Kill is SIGKILL: the kernel closes the connections and the pipes. The process is left alone.
func (x *ExaBGP) Kill() {
	if x.running {
		x.end()
	}
}

// crash ends ExaBGP as soon as what it does is over.
func (x *ExaBGP) crash() {
	if !x.crashed {
		x.crashed = true
		x.after(0, x.end)
	}
}

func (x *ExaBGP) end() {
	x.running, x.frozen, x.blocked = false, false, false
	x.life++
	for _, p := range x.peers {
		p.kill()
	}
	if x.pipes != nil {
		x.pipes.end()
		x.pipes = nil
	}
	x.queue, x.buffer, x.held, x.due = nil, "", nil, time.Time{}
}
