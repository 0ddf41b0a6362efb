package exa

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"exazk/sim/vclock"
)

// Way says in which directions packets are lost without a word.
type Way uint8

const (
	None   Way = iota
	Both       // nothing gets through
	ToTor      // nothing gets to the router
	ToHost     // nothing gets to the host
)

// errorWait is how long a router does not want a session after one that ended in an error (BIRD's "error wait time 1, 2").
const (
	errorWaitMin = time.Second
	errorWaitMax = 2 * time.Second
)

// Tor is one router and the link to one host. It is like BIRD 2 with "check link" (the default of a direct session): it
// notices at once that the link went down. It never connects by itself, for ExaBGP does not listen.
type Tor struct {
	clock   *vclock.Clock
	r       *rand.Rand
	changed func(*Tor, netip.Prefix)
	peer    *peer
	cut     bool
	way     Way
	silent  time.Time // since when
	conn    *conn     // the session; nil if there is none
	dropped time.Time // when the last session ended
	busy    time.Time // until when it refuses connections
	routes  []Route   // by prefix
	updates int
	before  int // this session
}

// NewTor makes one whose link is up. changed is called for every change of a route; it may be nil.
func NewTor(clock *vclock.Clock, r *rand.Rand, changed func(t *Tor, prefix netip.Prefix)) *Tor {
	return &Tor{clock: clock, r: r, changed: changed}
}

func (t *Tor) find(p netip.Prefix) (int, bool) {
	return slices.BinarySearchFunc(t.routes, p, func(r Route, p netip.Prefix) int { return r.Prefix.Compare(p) })
}

// Route is what the router has for a prefix. Announced routes live as long as the session.
func (t *Tor) Route(p netip.Prefix) (Route, bool) {
	if i, ok := t.find(p); ok {
		return t.routes[i], true
	}
	return Route{}, false
}

// Routes are all of them, sorted by prefix.
func (t *Tor) Routes() []Route { return slices.Clone(t.routes) }

// Updates is the number of routes that were announced and withdrawn to it so far, those included that changed nothing.
func (t *Tor) Updates() int { return t.updates }

// Up says whether the router has a session.
func (t *Tor) Up() bool { return t.conn != nil }

// Ended is when the last session ended; zero if none has.
func (t *Tor) Ended() time.Time { return t.dropped }

// Link pulls the cable or plugs it in. The router ends the session at once; ExaBGP does not look at links.
func (t *Tor) Link(up bool) {
	if t.cut == !up {
		return
	}
	t.cut = !up
	if c := t.conn; c != nil && t.cut {
		t.drop(false) // BIRD does not wait after that
		c.closeThere(reasonClosed)
	}
	t.refresh()
}

// Silence has packets lost from now on, which nobody notices.
func (t *Tor) Silence(way Way) {
	if t.way == None {
		t.silent = t.clock.Now()
	}
	t.way = way
	t.refresh()
}

// Reset ends the session by an operator's word: Cease, Administrative Reset. A new one is welcome at once.
func (t *Tor) Reset() {
	if c := t.conn; c != nil {
		t.drop(false)
		c.closeThere(reasonReset)
	}
}

// refresh tells the connection that the path changed. One that the router has closed may still be there for ExaBGP.
func (t *Tor) refresh() {
	if t.conn != nil {
		t.conn.refresh()
	}
	if p := t.peer; p != nil && p.conn != nil && p.conn != t.conn {
		p.conn.refresh()
	}
}

func (t *Tor) passes(toHost bool) bool {
	switch t.way {
	case None:
		return !t.cut
	case ToTor:
		return !t.cut && toHost
	case ToHost:
		return !t.cut && !toHost
	}
	return false
}

// reached says whether packets pass both ways.
func (t *Tor) reached() bool { return !t.cut && t.way == None }

// jitter is what BIRD makes of its timers: three quarters of them to all (RFC 4271 section 10), the hold timer included, which
// was measured with 2.0.12.
func (t *Tor) jitter(d time.Duration) time.Duration {
	return d - time.Duration(t.r.Int64N(int64(d/4)+1))
}

// refuses says whether the router closes a new connection at once: after an error, and while it has a session.
func (t *Tor) refuses() bool { return t.conn != nil || t.clock.Now().Before(t.busy) }

func (t *Tor) up(c *conn) { t.conn, t.before = c, t.updates }

// drop forgets the session and its routes.
func (t *Tor) drop(failed bool) {
	t.conn, t.dropped = nil, t.clock.Now()
	if failed {
		t.busy = t.clock.Now().Add(errorWaitMin + time.Duration(t.r.Int64N(int64(errorWaitMax-errorWaitMin))))
	}
	gone := t.routes
	t.routes = nil
	for _, r := range gone {
		t.tell(r.Prefix)
	}
}

func (t *Tor) tell(p netip.Prefix) {
	if t.changed != nil {
		t.changed(t, p)
	}
}

// expired ends the session by the hold timer.
func (t *Tor) expired(c *conn) {
	if t.conn == c {
		t.drop(true)
		c.closeThere(reasonTheirs)
	}
}

// ended is the end of the session by the host. After a NOTIFICATION the router waits.
func (t *Tor) ended(c *conn, reason string) {
	if t.conn == c {
		t.drop(reason != "")
		c.closeThere("")
	}
}

// update takes routes.
func (t *Tor) update(c *conn, routes []route) {
	for _, r := range routes {
		t.updates++
		i, found := t.find(r.prefix)
		switch {
		case r.withdraw && found:
			t.routes = slices.Delete(t.routes, i, i+1)
		case r.withdraw:
			continue
		default:
			route := r.public()
			route.PathID = 0 // not sent: ADD-PATH (RFC 7911) is not negotiated
			if !r.hop.IsValid() {
				route.NextHop = c.peer.addr.Local
			}
			if found && t.routes[i] == route {
				continue
			}
			if found {
				t.routes[i] = route
			} else {
				t.routes = slices.Insert(t.routes, i, route)
			}
		}
		t.tell(r.prefix)
	}
}
