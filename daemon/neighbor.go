package daemon

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"exazk/exabgp"
	"exazk/link"
)

type neighbor struct {
	id     exabgp.Neighbor
	apart  bool // it does not hear exazk: followed, as a reload may let it count, and of no effect
	state  exabgp.NeighborState
	reason string
	on     string    // the interface that leads to it; empty where that is not known
	cut    bool      // its link is down, or was down since the session came up
	trust  time.Time // when a session that was cut is believed again; zero while the link is down
	spoke  time.Time // when its last keepalive came; zero until one came in this session
	silent bool      // it was cut because nothing was heard for the hold time
	young  time.Time // when the session came up, as ExaBGP told it; zero once its link is seen to go down, and where it was not told
	tells  bool      // ExaBGP tells of its keepalives
	missed time.Time // when ExaBGP's list of sessions did not have it, the last time
}

// usable says whether what is announced now reaches the neighbor.
func (n *neighbor) usable() bool { return n.state == exabgp.NeighborUp && !n.cut && !n.apart }

// word is the neighbor's state for people: two more than ExaBGP knows.
func (n *neighbor) word() string {
	if n.apart {
		return exabgp.NeighborUnknown.String()
	}
	if n.state == exabgp.NeighborUp && n.cut {
		if n.silent {
			return "silent"
		}
		return "link-down"
	}
	return n.state.String()
}

// become starts a state anew: what was known of the session before it is void.
func (n *neighbor) become(state exabgp.NeighborState, reason string) {
	*n = neighbor{id: n.id, apart: n.apart, on: n.on, state: state, reason: reason, tells: n.tells, missed: n.missed}
}

// begin starts the hold time of a session that came up, where its keepalives are told. ExaBGP may stand still before the first one.
func (n *neighbor) begin(now time.Time) {
	if n.tells {
		n.spoke = now
	}
}

// setNeighbor takes one "state" line. Every "up" is a new session, whose peer has nothing from us yet.
func (c *Core) setNeighbor(now time.Time, ev exabgp.NeighborChanged) {
	n := c.neighbor(ev.Neighbor)
	n.become(ev.State, ev.Reason)
	if n.state == exabgp.NeighborUp { // ExaBGP's word may have waited in the pipe while the link went down
		n.cut, n.young = c.linkDown(n), now
		n.begin(now)
	}
	if n.apart {
		return
	}
	c.listed, c.tracking = true, c.track
	if ev.State == exabgp.NeighborUp {
		c.epoch++
	}
	c.afterNeighbors(now)
}

// setNeighbors takes a complete list of the peers that are established; all others are not. It returns whether that is news.
func (c *Core) setNeighbors(now time.Time, peers []netip.Addr) bool {
	news := !c.listed || c.tracking != c.track
	c.listed, c.tracking = true, c.track
	cameUp := false
	for _, p := range peers {
		if !slices.ContainsFunc(c.neighbors, func(n neighbor) bool { return n.id.Peer == p }) {
			news = !c.neighbor(exabgp.Neighbor{Peer: p}).apart || news
		}
	}
	for i := range c.neighbors {
		n := &c.neighbors[i]
		up := slices.Contains(peers, n.id.Peer)
		if !up {
			n.missed = now
		}
		switch {
		case up && n.state != exabgp.NeighborUp:
			n.become(exabgp.NeighborUp, "")
			n.cut = c.linkDown(n)
			n.begin(now)
			c.doubt(n)
			cameUp = cameUp || !n.apart
		case !up && (n.state == exabgp.NeighborUp || n.state == exabgp.NeighborUnknown):
			n.become(exabgp.NeighborDown, "not in ExaBGP's list of established sessions")
		default:
			continue
		}
		news = news || !n.apart
	}
	if cameUp {
		c.epoch++
	}
	return c.afterNeighbors(now) || news
}

// counts says whether a neighbor hears exazk. ExaBGP lists every session, also of neighbors whose "api" does not name the
// process.
func (c *Core) counts(peer netip.Addr) bool { return len(c.only) == 0 || slices.Contains(c.only, peer) }

// recount takes other neighbors for those that count. Nothing was written to one that did not before.
func (c *Core) recount(only []netip.Addr) {
	c.only = only
	for i := range c.neighbors {
		n := &c.neighbors[i]
		was := n.usable()
		if n.apart = !c.counts(n.id.Peer); n.usable() && !was {
			c.epoch++
		}
	}
}

// afterNeighbors voids the acknowledgements of a node without its audience: it may claim its VIPs only once their routes
// were acknowledged for the session that comes next. It returns whether anything changed.
func (c *Core) afterNeighbors(now time.Time) (changed bool) {
	if !c.tracking {
		return false
	}
	for _, s := range c.services {
		n := c.established(s)
		if n == 0 {
			changed = changed || !s.heard.IsZero()
			s.heard = time.Time{}
		} else if s.heard.IsZero() {
			s.heard, changed = now, true
		}
		if n >= s.conf.MinNeighbors {
			s.forgiven = false
			continue
		}
		for _, v := range s.vips {
			away := v.away || v.authoritative && v.serving() && !s.forgiven
			changed = changed || away != v.away || v.needEpoch != c.epoch+1
			v.needEpoch, v.away = c.epoch+1, away
		}
	}
	return changed
}

// setLink takes the state of an interface. ExaBGP notices a dead link only when the hold timer runs out, so a session over
// it counts as down at once. When the link is back, the router may have closed the session without ExaBGP knowing: it
// counts again with ExaBGP's next "up", or when ExaBGP has had the time to find out.
func (c *Core) setLink(now time.Time, l link.Changed) {
	was := c.links[l.Interface]
	next := wire{Changed: l, back: was.back}
	if l.Up && was.Interface != "" && !was.Up {
		next.back = now
	}
	if c.links[l.Interface] = next; l.Removed {
		defer delete(c.links, l.Interface)
	}
	for i := range c.neighbors {
		n := &c.neighbors[i]
		if n.state != exabgp.NeighborUp || !n.over(l) {
			continue
		}
		if !l.Up {
			n.cut, n.silent, n.trust, n.young = true, false, time.Time{}, time.Time{}
			n.reason = "link " + l.Interface + " is down"
		} else if n.cut && n.trust.IsZero() {
			// No session comes up over a dead link: where ExaBGP told of one while the link was still down as far as we knew, either
			// the kernel's word is late, by a moment, or the link went down since.
			if n.trust = now.Add(linkTrust); !n.young.IsZero() && now.Sub(n.young) < linkNews {
				n.trust = now
			}
		}
	}
	c.afterNeighbors(now)
}

// wire is an interface.
type wire struct {
	link.Changed
	back time.Time // when it came up again, the last time in this life; zero if it was never down
}

// doubt distrusts a session of which nothing is known but that ExaBGP has it, where its link was down since ExaBGP had none, or in
// this life: the session may be older than that, and the router may have closed it.
func (c *Core) doubt(n *neighbor) {
	for _, l := range c.links { // the latest counts: the order does not matter
		if l.Up && l.back.After(n.missed) && n.carries(l.Changed) && n.trust.Before(l.back.Add(linkTrust)) {
			n.cut, n.trust, n.reason = true, l.back.Add(linkTrust), "link "+l.Interface+" was down"
		}
	}
}

// over says whether the session to the neighbor goes over the interface, and remembers it: an interface that is removed
// has no addresses any more.
func (n *neighbor) over(l link.Changed) bool {
	if n.carries(l) {
		n.on = l.Interface
	}
	return n.on == l.Interface
}

// carries says whether the interface has the address that the session goes out from.
func (n *neighbor) carries(l link.Changed) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
		return p.Addr() == n.id.Local || !n.id.Local.IsValid() && p.Contains(n.id.Peer)
	})
}

func (c *Core) linkDown(n *neighbor) bool {
	down := false
	for _, l := range c.links { // an address that moved may be on two; one that is up decides: the order does not matter
		if !n.carries(l.Changed) {
			continue
		}
		if l.Up {
			return false
		}
		down = true
	}
	return down
}

// trustSessions ends the distrust of sessions whose link was down. What was written meanwhile is due again. And it begins
// that of sessions whose neighbor has been silent for the hold time.
func (c *Core) trustSessions(now time.Time) {
	for i := range c.neighbors {
		n := &c.neighbors[i]
		switch {
		case n.cut && !n.trust.IsZero() && !now.Before(n.trust):
			c.believe(n)
		case n.usable() && c.holdTime > 0 && !n.spoke.IsZero() && !now.Before(n.spoke.Add(c.holdTime)):
			n.cut, n.silent, n.trust, n.young = true, true, time.Time{}, time.Time{}
			n.reason = "nothing heard for " + c.holdTime.String()
			c.afterNeighbors(now)
		}
	}
}

func (c *Core) believe(n *neighbor) {
	n.cut, n.silent, n.trust, n.reason = false, false, time.Time{}, ""
	if !n.apart {
		c.epoch++
	}
}

// hearNeighbor takes a keepalive: the session lives, whatever its link did in between. It returns whether that is news.
func (c *Core) hearNeighbor(now time.Time, id exabgp.Neighbor) bool {
	n := c.neighbor(id)
	first := n.spoke.IsZero() && !n.apart
	n.spoke, n.tells = now, true
	if n.cut && n.state == exabgp.NeighborUp && !c.linkDown(n) {
		c.believe(n)
		c.afterNeighbors(now)
		return !n.apart
	}
	return first
}

// forgiveSilence starts the hold times anew: it was this process that did not hear.
func (c *Core) forgiveSilence(now time.Time) {
	for i := range c.neighbors {
		if n := &c.neighbors[i]; !n.spoke.IsZero() {
			n.spoke = now
		}
	}
}

// neighbor finds or makes the entry of a neighbor. One known by its peer's address only gets its local address as soon
// as ExaBGP tells it.
func (c *Core) neighbor(id exabgp.Neighbor) *neighbor {
	for i := range c.neighbors {
		n := &c.neighbors[i]
		if n.id == id {
			return n
		}
		if n.id.Peer == id.Peer && (!n.id.Local.IsValid() || !id.Local.IsValid()) {
			if id.Local.IsValid() {
				n.id = id
			}
			return n
		}
	}
	c.neighbors = append(c.neighbors, neighbor{id: id, apart: !c.counts(id.Peer)})
	slices.SortFunc(c.neighbors, func(a, b neighbor) int {
		return cmp.Or(a.id.Peer.Compare(b.id.Peer), a.id.Local.Compare(b.id.Local))
	})
	return c.neighbor(id)
}

// up counts the sessions that are up.
func (c *Core) up() int {
	n := 0
	for i := range c.neighbors {
		if c.neighbors[i].usable() {
			n++
		}
	}
	return n
}

// established counts the sessions over which a service is heard.
func (c *Core) established(s *service) int {
	n := 0
	for i := range c.neighbors {
		if c.neighbors[i].usable() && s.speaksTo(c.neighbors[i].id.Peer) {
			n++
		}
	}
	return n
}

// speaksTo says whether a service is announced to a peer.
func (s *service) speaksTo(peer netip.Addr) bool {
	return len(s.conf.Neighbors) == 0 || slices.ContainsFunc(s.conf.Neighbors, func(n Neighbor) bool { return n.Address == peer })
}

// audible says whether a route of a service that is written now reaches anybody.
func (c *Core) audible(s *service) bool { return !c.tracking || c.established(s) > 0 }

// hears says whether a route that is written now reaches a neighbor, or any one where to is the zero Addr.
func (c *Core) hears(to netip.Addr) bool {
	return !c.tracking || slices.ContainsFunc(c.neighbors, func(n neighbor) bool {
		return n.usable() && (!to.IsValid() || n.id.Peer == to)
	})
}
