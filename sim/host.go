package sim

import (
	"net/netip"
	"slices"
	"time"

	"exazk/daemon"
	"exazk/exabgp"
	"exazk/sim/exa"
)

// host is a load balancer with its ToR.
type host struct {
	c      *cluster
	n      int
	conf   *daemon.Config
	exabgp *exa.ExaBGP
	tor    *exa.Tor
	life   *life // the process of exazk, or the last one that there was
	python *python

	lives    int // of exazk
	variants int // of its configuration

	on        bool
	linkUp    bool
	silent    exa.Way
	sick      bool        // what the check looks at is broken, and so is what users get
	hanging   bool        // the check does not end, and what users get is broken too
	thawed    time.Time   // when ExaBGP went on after it was stopped
	ends      []time.Time // of exazk, by faults
	ending    bool        // ExaBGP got SIGTERM
	born      int         // how often ExaBGP was started
	frozen    int         // faults that stop the ExaBGP that runs now
	unplugged int         // faults that pull the link
	down      int         // faults that keep ExaBGP down
	off       int         // faults that keep the power off
	breaking  int         // faults that break the check
	stalling  int         // faults that make it hang
	flags     int         // operators that want it drained
	squats    int         // operators that keep its claim from being made
	lostOut   int         // faults that lose what it sends to its ToR
	lostIn    int         // and what it should get
	unheard   time.Time   // when that ended, the last time
	prefixes  []netip.Prefix
	record    []exabgp.Route // what the next process is told of this one's routes

	marked   bool           // the maintenance node is there
	slow     int            // faults that make ExaBGP slow
	refused  [9]int         // by VIP: how often ExaBGP has refused it in a row
	flagged  time.Time      // when it came, the last time, save after it was away for a moment
	marks    time.Time      // and also after that
	unmarked time.Time      // when it went, the last time
	mourned  time.Time      // when its status record went, the last time
	until    []byte         // a maintenance node with an end, as an operator wrote it ...
	overdue  time.Time      // ... and the end
	pulled   time.Time      // when its link went down, the last time
	torDown  time.Time      // since when its ToR has no session; zero while it has one
	routed   []time.Time    // by VIP: since when its ToR has a route; zero while it has none
	idled    []time.Time    // by VIP: since when exazk has decided to withdraw it, and could; zero while it has not
	dropped  []time.Time    // by VIP: when an operator took it out of the configuration, the last time
	hands    [9]time.Time   // by VIP: when an operator changed its route by hand, the last time; zero once that is mended
	turns    [9][]time.Time // by VIP: when a process of it began or ended to announce, the last times
	monitors hostMonitors
}

func newHost(c *cluster, n int) *host {
	h := &host{c: c, n: n, linkUp: true, conf: c.knobs.config(n, 0), monitors: newHostMonitors(c.knobs.Nodes), routed: make([]time.Time, c.knobs.Nodes), idled: make([]time.Time, c.knobs.Nodes), dropped: make([]time.Time, c.knobs.Nodes)}
	h.prefixes = []netip.Prefix{netip.PrefixFrom(localOf(n), 29)}
	h.tor = exa.NewTor(c.clock, c.rand, func(_ *exa.Tor, p netip.Prefix) { c.fabric.told(h, p) })
	k := &c.knobs
	h.exabgp = exa.New(c.clock, c.rand, exa.Config{
		Acks: k.Acks, Changes: k.Changes, Keepalives: k.Keepalives, HoldTime: k.HoldTime,
		Peers: []exa.Peer{{Local: localOf(n), Peer: peerOf(n)}}, Slow: k.Slow, Memo: c.lines,
	}, h, []*exa.Tor{h.tor})
	return h
}

// Start is ExaBGP starting its process.
func (h *host) Start(p *exa.Pipes) {
	h.c.note(h, "exazk starts")
	if h.python != nil {
		h.python.begin(p)
		return
	}
	h.life = begin(h, h.conf, p)
	h.changed()
}

// launch starts ExaBGP, as soon as the one before has ended. It may be told to more than once.
func (h *host) launch() {
	switch {
	case h.on && h.exabgp.Running() && h.ending:
		h.c.clock.After(50*time.Millisecond, func() {
			if h.on && h.down == 0 {
				h.launch()
			}
		})
		return
	case h.exabgp.Running():
		return
	}
	h.ending = false
	h.born++
	h.frozen, h.record = 0, nil // the run-time directory went with its routes
	h.exabgp.Start()
	h.changed()
}

// Kill is ExaBGP's SIGTERM to its process, whose end it waits for.
func (h *host) Kill() {
	if l := h.life; h.python == nil && l != nil && !l.dead {
		l.do(func() { l.post(daemon.Stop{Signal: "terminated"}) })
		return
	}
	h.c.killExazk(h)
}

// tend is systemd's: an ExaBGP that ended by itself, because its process was started too often, is started again.
func (h *host) tend() {
	if h.on && h.down == 0 && !h.exabgp.Running() {
		h.c.note(h, "ExaBGP had ended and is started again")
		h.launch()
	}
	h.c.clock.After(5*time.Second, h.tend)
}

// boot starts what systemd starts.
func (h *host) boot() {
	h.on = true
	h.c.note(h, "boots")
	if h.down == 0 {
		h.launch()
	}
	h.plug()
	h.changed()
}

// lose is a loss of power: nobody is told.
func (h *host) lose() {
	h.on = false
	if h.life != nil && !h.life.dead {
		h.life.dead = true
		if h.life.client != nil {
			h.life.client.Lose()
		}
	}
	if h.python != nil {
		h.python.lose()
	}
	h.exabgp.Kill()
	h.plug()
	h.changed()
}

// plug puts the link into the state that follows from all that happens to it. A host without power has no carrier.
func (h *host) plug() {
	up := h.on && h.unplugged == 0
	if up == h.linkUp {
		return
	}
	if h.linkUp = up; !up {
		h.pulled = h.c.clock.Now()
	}
	h.tor.Link(up)
	if h.life != nil && h.c.knobs.Links {
		h.c.clock.After(h.c.upTo(20*time.Millisecond), func() {
			if l := h.life; l != nil {
				l.do(func() { l.carrier(h.linkUp) })
			}
		})
	}
	h.changed()
}

// alive says that exazk runs and can act.
func (h *host) alive() bool {
	return h.on && h.life != nil && !h.life.dead && !h.life.paused && h.exabgp.Running() && h.frozen == 0
}

// able says that what exazk decides reaches the ToR.
func (h *host) able() bool { return h.alive() && h.linkUp && h.silent == exa.None }

// broken says that users get no answer from it.
func (h *host) broken() bool { return h.sick || h.hanging }

// drained says that an operator's maintenance node is there.
func (h *host) drained() bool {
	_, _, ok := h.c.zk.Read(maintenancePath + "/" + h.conf.Node)
	return ok
}

// owns says that it is configured as the owner of a VIP.
func (h *host) owns(v int) bool { return h.c.knobs.owns(h.n, v) }

// verdict is what exazk decided about a VIP.
func (h *host) verdict(v int) (daemon.VIPVerdict, bool) {
	if h.life == nil {
		return daemon.VIPVerdict{}, false
	}
	why := h.life.last.Why
	if i := place(len(why), v, h.c.names[v], func(i int) string { return why[i].VIP }); i >= 0 {
		return why[i], true
	}
	return daemon.VIPVerdict{}, false
}

// place is where a VIP is in a list of the n that are configured: at its number, or before that where others are not; -1 if it is not.
func place(n, v int, name string, at func(int) string) int {
	for i := min(v, n-1); i >= 0; i-- {
		if at(i) == name {
			return i
		}
	}
	return -1
}

// serves says that its process is configured with a VIP, its own or another's.
func (h *host) serves(v int) bool {
	if h.owns(v) {
		return true
	}
	return h.life != nil && slices.Contains(h.life.conf.Services[0].BackupFor, vipOf(v))
}

// configured says that the newest configuration has a VIP, whether the process has taken it over yet or not.
func (h *host) configured(v int) bool { return configured(&h.conf.Services[0], v) }

func (h *host) changed() { h.c.changed(h) }
