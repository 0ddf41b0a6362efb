package sim

import (
	"net/netip"
	"time"
)

// fabric is the network between users and ToRs. What a ToR hears from its load balancer reaches everybody else a moment
// later. Users' packets go to the best ToR as the network knows it; one whose load balancer has withdrawn sends them on to the
// best of the others.
type fabric struct {
	c     *cluster
	views [][]view    // by VIP and ToR
	last  []time.Time // by ToR: when its last change arrives
	vips  []vipState
}

// view is what the network knows of a ToR's route.
type view struct {
	has bool
	med uint32
}

type vipState struct {
	server int       // who answers; -1 if nobody does
	since  time.Time // since when nobody answers
}

func newFabric(c *cluster) *fabric {
	n := c.knobs.Nodes
	f := &fabric{c: c, views: make([][]view, n), last: make([]time.Time, n), vips: make([]vipState, n)}
	for v := range f.views {
		f.views[v] = make([]view, n)
		f.vips[v] = vipState{server: -1, since: c.clock.Now()}
	}
	return f
}

// vipAt is the number of a configured VIP; false for any other prefix.
func (c *cluster) vipAt(p netip.Prefix) (int, bool) {
	if a := p.Addr(); a.Is4() && p.Bits() == 32 {
		b := a.As4()
		if v := int(b[3]) - 1; b[0] == 10 && b[1] == 20 && b[2] == 255 && v >= 0 && v < c.knobs.Nodes {
			return v, true
		}
	}
	return 0, false
}

// told is a ToR hearing something of its load balancer.
func (f *fabric) told(h *host, p netip.Prefix) {
	v, ok := f.c.vipAt(p)
	if !ok {
		f.c.violate("configured-only", "%s's ToR has a route to %s, which nobody configured", h.conf.Node, p)
		return
	}
	r, has := h.tor.Route(p)
	f.c.moved(h, v, has, r.MED)
	at := f.c.clock.Now().Add(time.Millisecond + f.c.upTo(f.c.knobs.Propagation))
	if at.Before(f.last[h.n]) {
		at = f.last[h.n]
	}
	f.last[h.n] = at
	f.c.clock.At(at, func() {
		f.views[v][h.n] = view{has, r.MED}
		f.look(v)
	})
	h.changed()
}

// best is the ToR that the network sends a VIP's packets to, some of them left out; -1 if there is none.
func (f *fabric) best(v int, without uint) int {
	best := -1
	for n, view := range f.views[v] {
		if without>>n&1 == 0 && view.has && (best < 0 || view.med < f.views[v][best].med) {
			best = n
		}
	}
	return best
}

// answers is the load balancer that answers a user of a VIP; -1 if none does. A ToR whose load balancer has withdrawn knows that
// before the others do and sends packets on. Where several withdrew at once, real ones might send them to each other for a moment.
func (f *fabric) answers(v int) int {
	passed := uint(0)
	for {
		at := f.best(v, passed)
		if at < 0 {
			return -1
		}
		h := f.c.hosts[at]
		if _, has := h.tor.Route(vipOf(v)); has {
			if h.on && h.linkUp && h.silent == 0 && !h.broken() {
				return at
			}
			return -1
		}
		passed |= 1 << at
	}
}

// look finds out who answers now.
func (f *fabric) look(v int) {
	s := &f.vips[v]
	server := f.answers(v)
	if server == s.server {
		return
	}
	was := *s
	s.server = server
	if server < 0 {
		s.since = f.c.clock.Now()
	}
	f.c.served(v, was)
}

func (f *fabric) lookAll() {
	for v := range f.vips {
		f.look(v)
	}
}
