package daemon

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"exazk/exabgp"
	"exazk/zkstate"
)

// advert is a VIP's announcement to one neighbor, or to all.
type advert struct {
	to    netip.Addr // the zero Addr means every neighbor
	attrs roles

	want    exabgp.Route // follows from the verdict; meaningless while that is Hold
	ack     exabgp.RouteAccepted
	acked   bool   // ack is about want
	held    bool   // the last answer was that to an announce, and no withdraw was wanted since
	refused bool   // the last answer to want was "error"
	words   string // what came with it
}

// roles are the path attributes of one VIP for one neighbor, in every role that it can be announced in.
type roles struct{ own, backup, drain, gshut Attributes }

// newRoles gives a VIP its attributes. As a backup of a higher rank it looks worse by a step for each rank before it.
func newRoles(a *Announcement, rank int, localAS uint32) roles {
	r := roles{own: a.Own, backup: a.Backup, drain: a.Drain, gshut: a.Drain}
	if steps := uint64(max(0, rank-1)); steps > 0 {
		r.backup.MED = uint32(min(maxMED, uint64(r.backup.MED)+steps*uint64(a.StepMED)))
		r.backup.ASPath = prepend(r.backup.ASPath, localAS, int(steps)*a.StepPrepend)
	}
	r.gshut.Communities, _ = withGracefulShutdown(a.Drain.Communities) // the configuration was refused where that is one too many
	return r
}

// withGracefulShutdown adds that community to others.
func withGracefulShutdown(communities string) (string, error) {
	return exabgp.ParseCommunities(append(strings.Fields(communities), GracefulShutdown))
}

// prepend puts n more of an AS in front of a path. An empty one is what ExaBGP sends by itself: that AS, once.
func prepend(path string, as uint32, n int) string {
	if n == 0 {
		return path
	}
	word := strconv.FormatUint(uint64(as), 10)
	if path == "" {
		path = word
	}
	return strings.Repeat(word+" ", n) + path
}

// of picks those that a verdict is announced with.
func (r *roles) of(d Verdict, style DrainStyle) *Attributes {
	switch {
	case d.Reason == ReasonLastResort:
		return &r.drain
	case d.Reason == ReasonDraining && style == DrainGShut:
		return &r.gshut
	case d.Role == Backup:
		return &r.backup
	}
	return &r.own
}

// route is an announcement of a VIP with these attributes.
func (a *Attributes) route(vip netip.Prefix, to netip.Addr) exabgp.Route {
	return exabgp.Route{
		Prefix: vip, PathID: a.PathID, Neighbor: to, NextHop: a.NextHop(vip), MED: a.MED, ASPath: a.ASPath,
		Communities: a.Communities, LargeCommunities: a.LargeCommunities, ExtendedCommunities: a.ExtCommunities,
		LocalPreference: a.LocalPreference, HasLocalPreference: a.HasLocalPreference,
	}
}

// adopt makes a verdict the VIP's own and the routes that follow from it what is wanted.
func (v *vip) adopt(d Verdict, conf *Service) {
	v.last = d
	for i := range v.adverts {
		a := &v.adverts[i]
		want := exabgp.Route{Prefix: v.prefix, PathID: a.attrs.own.PathID, Neighbor: a.to, Withdraw: true}
		if d.Action == Announce {
			want = a.attrs.of(d, conf.DrainStyle).route(v.prefix, a.to)
		}
		want.Serial = a.want.Serial
		if want != a.want { // an older answer to the same command says nothing about this one
			want.Serial++
			a.held = a.held && !want.Withdraw
			a.want, a.refused, a.acked = want, false, false
		}
	}
}

// advert finds the one that a route is of.
func (v *vip) advert(r exabgp.Route) *advert {
	for i := range v.adverts {
		if a := &v.adverts[i]; a.to == r.Neighbor && a.attrs.own.PathID == r.PathID {
			return a
		}
	}
	return nil
}

// accept takes an acknowledgement. That of a command that is not wanted any more is of no use, save that an announce with
// other attributes is still heard.
func (a *advert) accept(ev exabgp.RouteAccepted) {
	a.held = !ev.Route.Withdraw && !a.want.Withdraw
	if ev.Route == a.want {
		a.ack, a.acked, a.refused = ev, true, false
	}
}

func (a *advert) refuse(ev exabgp.RouteRefused) {
	if ev.Route == a.want {
		a.acked, a.held, a.refused, a.words = false, false, true, ev.Words
	}
}

// accepted says whether ExaBGP acknowledged what is wanted, in a session that still counts: for every neighbor that hears
// this node, save those for which it refused, and for one at least.
func (c *Core) accepted(v *vip) bool {
	some := false
	for i := range v.adverts {
		a := &v.adverts[i]
		if a.refused || !c.hears(a.to) {
			continue
		}
		if !a.acked || a.ack.Route != a.want || a.ack.Epoch < v.needEpoch {
			return false
		}
		some = true
	}
	return some && v.last.Action != Hold
}

// announced says whether ExaBGP holds an announcement of the VIP, if perhaps with other attributes than those wanted now, for a
// neighbor that hears it.
func (c *Core) announced(v *vip) bool {
	return v.last.Action == Announce && slices.ContainsFunc(v.adverts, func(a advert) bool {
		return a.held && a.ack.Epoch >= v.needEpoch && c.hears(a.to)
	})
}

// refused says whether ExaBGP takes none of the VIP's announcements for those who hear this node.
func (c *Core) refused(v *vip) bool {
	return !slices.ContainsFunc(v.adverts, func(a advert) bool { return !a.refused && c.hears(a.to) })
}

// acked says whether ExaBGP has acknowledged all that is wanted.
func (v *vip) acked() bool {
	return !slices.ContainsFunc(v.adverts, func(a advert) bool { return !a.acked })
}

// wish is what should become of the claim of a VIP that this node is authoritative for. It is held exactly while the
// node announces the VIP as its own, ExaBGP has acknowledged that, and enough neighbors hear it.
func (c *Core) wish(s *service, v *vip, d Verdict) zkstate.Wish {
	switch {
	case s.drainSince != nil, d.Action == Withdraw:
		return zkstate.Release
	case d.Action == Hold:
		return zkstate.Leave // a ghost of our last life keeps the others quiet until we know
	case d.Role != Authoritative, d.Reason == ReasonLastResort:
		return zkstate.Release
	case c.tracking && !c.listed:
		return zkstate.Leave
	case c.tracking && c.established(s) < s.conf.MinNeighbors, c.refused(v):
		return zkstate.Release
	case !c.accepted(v):
		return zkstate.Leave
	default:
		return zkstate.Hold
	}
}

// noteWish keeps track of whether a claim of ours may be there: what was asked for before a reading began, it shows.
func (v *vip) noteWish(now time.Time, wish zkstate.Wish) {
	if v.wished && wish != zkstate.Hold {
		v.released = now
	}
	v.wished = wish == zkstate.Hold
	v.holding = v.holding || v.wished
}

// routes is what is to be written: withdraws always, and first; announces only while somebody hears them, since the rest
// may be lost in ExaBGP and becomes due again with the next session anyway. A withdraw is not kept back, because ExaBGP
// would send the route again by itself as soon as the session is back.
func (c *Core) routes() []exabgp.Route {
	routes := c.spare.Table.Routes[:0]
	if routes == nil {
		routes = make([]exabgp.Route, 0, len(c.decided.Table.Routes)+1)
	}
	for _, s := range c.services {
		for _, v := range s.vips {
			for i := range v.adverts {
				if a := &v.adverts[i]; v.last.Action == Withdraw || v.last.Action == Announce && c.hears(a.to) {
					routes = append(routes, a.want)
				}
			}
		}
	}
	for i := range c.former {
		routes = append(routes, c.former[i].want)
	}
	routes = c.narrowed(routes)
	slices.SortFunc(routes, compareRoutes)
	return routes
}

// narrowed adds the withdraws of what went to every neighbor, for those that are not chosen any more. A route for all and one for
// a single neighbor must not be in one table.
func (c *Core) narrowed(routes []exabgp.Route) []exabgp.Route {
	for _, wide := range c.wide {
		for i := range c.neighbors {
			r := wide
			if r.Neighbor = c.neighbors[i].id.Peer; !c.neighbors[i].apart && c.advert(r) == nil {
				routes = append(routes, r)
			}
		}
	}
	return routes
}

func compareRoutes(a, b exabgp.Route) int {
	if a.Withdraw != b.Withdraw {
		if a.Withdraw {
			return -1
		}
		return 1
	}
	return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), a.Neighbor.Compare(b.Neighbor), cmp.Compare(a.PathID, b.PathID))
}
