package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"exazk/exabgp"
	"exazk/zkstate"
)

// status is this node's record for the other nodes and for people.
func (c *Core) status(s *service) *zkstate.Status {
	st := c.spare.Want.Statuses[s.conf.Name]
	if st == nil {
		st = &zkstate.Status{Routes: make([]zkstate.StatusRoute, 0, len(s.vips)), Neighbors: make([]zkstate.StatusNeighbor, 0, len(c.neighbors))}
	}
	*st = zkstate.Status{
		Node: c.id.Node, Instance: c.id.Instance, Version: c.id.Version, Since: c.id.Since,
		Health:      s.health.State.String(),
		Maintenance: s.maintenance.String(),
		Note:        s.flag.String(),
		Failures:    s.failures,
		HoldMS:      s.hold().Milliseconds(),
		Routes:      st.Routes[:0],
		Neighbors:   st.Neighbors[:0],

		HealthSince: s.judged, HealthDetail: s.said,
	}
	if s.maintenance == PresencePresent {
		st.MaintenanceSince = s.entered
	}
	var since zkstate.Stamp
	refusal := ""
	for _, v := range s.vips {
		r := zkstate.StatusRoute{
			VIP: v.name, Verdict: v.last.Action.String(), Role: v.last.Role.String(), Reason: string(v.last.Reason),
			Detail:    c.detail(s, v, v.last),
			Announced: c.announced(v),
			Pending:   v.last.Action == Withdraw && !v.acked(),
			Rank:      v.rank,
			Drift:     c.drifted(v.prefix),
			Claim:     v.raw.Holder == zkstate.Own,
			Own:       v.authoritative,
		}
		if i := slices.IndexFunc(v.adverts, func(a advert) bool { return a.refused }); i >= 0 {
			r.Refused = true
			if words := cmp.Or(v.adverts[i].words, "exabgp does not answer"); words != refusal {
				r.Refusal, refusal = words, words
			}
		}
		if v.since != since {
			r.Since, since = v.since, v.since
		}
		if v.last.Action == Announce {
			r.MED, r.Community = v.adverts[0].want.MED, v.adverts[0].want.Communities
			r.Unheard = !r.Announced && !slices.ContainsFunc(v.adverts, func(a advert) bool { return c.hears(a.to) })
		}
		st.LastResort = st.LastResort || v.last.Reason == ReasonLastResort
		st.Routes = append(st.Routes, r)
	}
	for i := range c.neighbors {
		if n := &c.neighbors[i]; !n.apart {
			st.Neighbors = append(st.Neighbors, zkstate.StatusNeighbor{Peer: n.id.Peer.String(), State: n.word()})
		}
	}
	return st
}

// drifted says whether ExaBGP held a route to a VIP otherwise than wanted when it was last looked at.
func (c *Core) drifted(vip netip.Prefix) bool {
	return slices.ContainsFunc(c.drifts, func(d exabgp.Drift) bool { return d.Route.Prefix == vip })
}

// detail is the part of a reason that only people need.
func (c *Core) detail(s *service, v *vip, d Verdict) string {
	switch d.Reason {
	case ReasonUnhealthy, ReasonLastResort:
		return s.said
	case ReasonConflict:
		return v.raw.Detail
	case ReasonAuthoritative, ReasonStandby:
		if v.raw.Holder == zkstate.Squatted {
			return v.raw.Detail
		}
	case ReasonMaintenance, ReasonStopping:
		switch {
		case v.timedOut:
			return "no other node took it over in time"
		case v.taker != "":
			return "taken over by " + v.taker
		}
		return s.flag.String()
	case ReasonFlapping:
		if s.failures == 1 {
			return fmt.Sprintf("the check failed for %v; it must pass for %v", s.lasted.Round(time.Second), s.hold().Round(time.Second))
		}
		return fmt.Sprintf("the check failed %d times; it must pass for %v", s.failures, s.hold())
	case ReasonFailbackDelay:
		return "until " + c.back(s).Add(s.conf.FailbackDelay).UTC().Format(time.RFC3339)
	case ReasonOutranked:
		if v.leader != "" {
			return v.leader + " announces it"
		}
	case ReasonZooKeeperLost:
		return fmt.Sprintf("on_zk_loss = %q", s.conf.OnZKLoss)
	case ReasonUnclaimed, ReasonClaimed:
		switch {
		case c.zk.State != zkstate.Connected:
			return "as last read; ZooKeeper is away"
		case d.Reason == ReasonUnclaimed:
			return v.raw.Detail
		}
	}
	return ""
}
