package exabgp

import (
	"net/netip"
	"time"
)

// Route is one verdict about one prefix, to be written to ExaBGP.
type Route struct {
	Prefix netip.Prefix // masked; no host bits
	// PathID is the path identifier of RFC 7911, ExaBGP's path-information; 0 means none. With the prefix it says which route it is.
	PathID uint32
	// Neighbor is the only peer that the route is for; the zero Addr means every neighbor of the process. Of one prefix and path
	// identifier there are either routes for single neighbors or one for all: a table with both is a bug.
	Neighbor netip.Addr
	Withdraw bool       // false: announce
	NextHop  netip.Addr // zero means "self", the session's local address; else of the prefix's family
	MED      uint32     // MULTI_EXIT_DISC, RFC 4271 section 5.1.4; not used by a withdraw
	// Communities are RFC 1997 communities, "65535:0" and the like, sorted and separated by one space; empty means none.
	// They are one string so that routes can be compared. Not used by a withdraw.
	Communities string
	// LargeCommunities (RFC 8092, "65001:1:2") and ExtendedCommunities (RFC 4360 as ExaBGP writes them, "target:65001:5") likewise.
	LargeCommunities, ExtendedCommunities string
	// ASPath is the whole AS_PATH as it is sent, the local AS included, "65001 65001 65001"; empty leaves it to ExaBGP, which
	// sends the local AS over eBGP and nothing over iBGP.
	ASPath string
	// LocalPreference is LOCAL_PREF (RFC 4271 section 5.1.5) where HasLocalPreference is set; else ExaBGP's default, 100 over iBGP.
	LocalPreference    uint32
	HasLocalPreference bool
	// Left is of a withdraw of what is ours no more: once it is acknowledged the route may be another process's, so it is not looked
	// whether it stays withdrawn (drift.go).
	Left bool
	// Serial grows whenever something else becomes wanted for the prefix. It is not written: it only says in a RouteAccepted
	// which wish was answered, where the same command was wanted before, was not for a while, and is again.
	Serial uint64
}

// Table is what should stand in ExaBGP's Adj-RIB-Out as far as we are concerned. A route that is not in it is left as it is.
type Table struct {
	// Epoch grows whenever everything is due again, because what was written before may be lost: a session came up.
	Epoch uint64
	// Since is when that happened which led to this table: what is told of a command's progress counts from it. Zero means that it
	// is not known.
	Since  time.Time
	Routes []Route // at most one per prefix, path identifier and neighbor; the order is the order of writing
}

// key says which route it is: of a prefix and a path identifier each neighbor has one.
type key struct {
	prefix   netip.Prefix
	path     uint32
	neighbor netip.Addr // zero: every one
}

func (r Route) key() key { return key{r.Prefix, r.PathID, r.Neighbor.WithZone("")} }

// meets says whether the routes of two keys lie in the Adj-RIB-Out of the same neighbor, under the same prefix.
func (k key) meets(o key) bool {
	return k.prefix == o.prefix && (k.neighbor == o.neighbor || !k.neighbor.IsValid() || !o.neighbor.IsValid())
}

// shadows says whether they are the same route there.
func (k key) shadows(o key) bool { return k.path == o.path && k.meets(o) }
