package daemon

import (
	"slices"

	"exazk/exabgp"
	"exazk/zkstate"
)

// adopt makes a verdict the VIP's own and the route that follows from it what is wanted.
func (v *vip) adopt(d Verdict, conf *Service) {
	v.last = d
	want := exabgp.Route{Prefix: v.prefix, Withdraw: true}
	if d.Action == Announce {
		want = exabgp.Route{Prefix: v.prefix, NextHop: conf.Announce.NextHop, MED: conf.Announce.MED}
		switch {
		case d.Reason == ReasonLastResort:
			want.MED = conf.Announce.DrainMED
		case d.Reason == ReasonDraining && conf.DrainStyle == DrainGShut:
			want.MED, want.Communities = conf.Announce.DrainMED, GracefulShutdown
		case d.Role == Backup:
			want.MED = conf.Announce.BackupMED
		}
	}
	want.Serial = v.want.Serial
	if want != v.want { // an older answer to the same command says nothing about this one
		want.Serial++
		v.held = v.held && !want.Withdraw
		v.want, v.refused, v.acked = want, false, false
	}
}

// accept takes an acknowledgement. That of a command that is not wanted any more is of no use, save that an announce with
// other attributes is still heard.
func (v *vip) accept(ev exabgp.RouteAccepted) {
	v.held = !ev.Route.Withdraw && !v.want.Withdraw
	if ev.Route == v.want {
		v.ack, v.acked, v.refused = ev, true, false
	}
}

// accepted says whether ExaBGP acknowledged what is wanted, in a session that still counts.
func (v *vip) accepted() bool {
	return v.last.Action != Hold && v.acked && v.ack.Route == v.want && v.ack.Epoch >= v.needEpoch
}

// announced says whether ExaBGP holds an announcement of the VIP, if perhaps with other attributes than those wanted now.
func (v *vip) announced() bool {
	return v.last.Action == Announce && v.held && v.ack.Epoch >= v.needEpoch
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
	case c.tracking && c.established() < s.conf.MinNeighbors, v.refused:
		return zkstate.Release
	case !v.accepted():
		return zkstate.Leave
	default:
		return zkstate.Hold
	}
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
			if v.last.Action == Withdraw || v.last.Action == Announce && c.audible() {
				routes = append(routes, v.want)
			}
		}
	}
	slices.SortFunc(routes, func(a, b exabgp.Route) int {
		if a.Withdraw != b.Withdraw {
			if a.Withdraw {
				return -1
			}
			return 1
		}
		return comparePrefixes(a.Prefix, b.Prefix)
	})
	return routes
}
