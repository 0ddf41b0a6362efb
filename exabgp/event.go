package exabgp

import (
	"net/netip"
	"time"
)

// Event is what ExaBGP told us, or what became of a command we gave it. The set is closed.
type Event interface{ event() }

// NeighborState is the state of a BGP session as ExaBGP reports it. Unknown is a value of its own: after a respawn
// ExaBGP says nothing about sessions that are already up.
type NeighborState uint8

const (
	NeighborUnknown   NeighborState = iota // nothing was said yet
	NeighborDown                           // "down"
	NeighborConnected                      // "connected": a TCP attempt, refused ones included (4.2, 5.0); no session
	NeighborUp                             // "up": Established (RFC 4271 section 8.2.2); the only state that carries routes
)

// Neighbor identifies one BGP neighbor by the addresses of its session.
type Neighbor struct {
	Local netip.Addr // zero while ExaBGP does not know it, or where only the peer's address was told
	Peer  netip.Addr
}

// NeighborChanged is one "state" line.
type NeighborChanged struct {
	Neighbor Neighbor
	State    NeighborState // never NeighborUnknown
	Reason   string        // ExaBGP's free text on down; differs between versions, may be empty; for people only
}

// NeighborHeard says that a KEEPALIVE (RFC 4271 section 4.4) came from a neighbor. ExaBGP tells of them where the "api" block
// has "receive { parsed; keepalive; }".
type NeighborHeard struct {
	Neighbor Neighbor
}

// NeighborsListed is the whole answer to a query for the sessions: the peers established at that moment, in ExaBGP's
// order. A neighbor that is not in it is not established.
type NeighborsListed struct {
	Established []netip.Addr
}

// TrackingUnavailable says that ExaBGP neither reports changes nor answers queries about its sessions.
type TrackingUnavailable struct{}

// EventsMissing says that a session changed and ExaBGP did not report it: "neighbor-changes;" is missing from its
// configuration. The state of the neighbors is then known by polling only.
type EventsMissing struct{ Neighbor Neighbor }

// RouteAccepted says that ExaBGP acknowledged a command, or that it was written where acknowledgements are off.
// Acknowledged means queued by ExaBGP, not yet sent to a peer. Of a withdraw it may also say that ExaBGP was asked and
// does not hold the route: then nothing was written.
type RouteAccepted struct {
	Route Route
	Epoch uint64        // of the Table that the command came from
	Took  time.Duration // from the write, or from the question, to the answer; 0 where acknowledgements are off
}

// RouteRefused says that ExaBGP answered "error" or did not answer, or that the route is for a neighbor that it does not have.
// The writer tries again by itself after Retry.
type RouteRefused struct {
	Route Route
	Epoch uint64
	Words string        // what ExaBGP said, and what to do about a neighbor that it does not know; empty when it said nothing
	Retry time.Duration // the pause before the next try
}

// Drifted is what a look at ExaBGP's Adj-RIB-Out found: all routes that are not as ExaBGP has acknowledged them, because an operator
// gave it a command by hand, say. It comes when that is not what the look before found; none means that all is as it should be
// again. The writer has made the routes due, which need not help: what else changes them may do so again.
type Drifted struct{ Routes []Drift }

// Drift is a route that ExaBGP does not hold as it has acknowledged it.
type Drift struct {
	Route    Route      // as it is wanted
	Neighbor netip.Addr // whose Adj-RIB-Out differs; zero where none has the route
	Have     string     // its attributes there, as ExaBGP writes them; empty where there is no such route, or they were not told
	Held     bool       // there is one
}

// Text is what ExaBGP has instead of the route, for people.
func (d Drift) Text() string {
	switch {
	case !d.Held:
		return "no route"
	case d.Have == "":
		return "a route"
	}
	return clip(d.Have)
}

// ShuttingDown is ExaBGP's "shutdown" line: its sessions are closed already and no command is read any more.
// The main branch after 5.0 does not send it.
type ShuttingDown struct{}

// Gone says that ExaBGP ended: end of file on our stdin, or our stdout is broken. Nothing follows it.
type Gone struct{ Err error }

func (NeighborChanged) event()     {}
func (NeighborHeard) event()       {}
func (NeighborsListed) event()     {}
func (TrackingUnavailable) event() {}
func (EventsMissing) event()       {}
func (RouteAccepted) event()       {}
func (RouteRefused) event()        {}
func (Drifted) event()             {}
func (ShuttingDown) event()        {}
func (Gone) event()                {}

func (s NeighborState) String() string {
	return [...]string{"unknown", "down", "connected", "up"}[s]
}
