package daemon

import (
	"slices"
	"time"

	"exazk/zkstate"
)

// stepMaintenance ends a maintenance whose time is over, and asks for what has done its duty to be removed.
func (c *Core) stepMaintenance(now time.Time, s *service, want *zkstate.Want) {
	if s.maintenance == PresencePresent && s.flag.over(now) {
		s.maintenance = PresenceAbsent
	}
	if s.flag.over(now) {
		want.Remove[zkstate.FlagKey{Service: s.conf.Name, Flag: zkstate.Maintenance}] = s.flag.Data
	}
	if s.failback != nil {
		want.Remove[zkstate.FlagKey{Service: s.conf.Name, Flag: zkstate.Failback}] = s.failback
	}
}

// stepDrain moves every VIP of a service that is to be drained, by the operator or because the process stops, from
// "announced" over "another node announces it" to "withdrawn". It returns true if it must be read whether our claims are gone.
func (c *Core) stepDrain(now time.Time, s *service) (look bool) {
	if c.stopping == nil && s.maintenance != PresencePresent {
		ended := s.drainSince != nil
		s.drainSince = nil
		for _, v := range s.vips {
			if ended { // what was planned is no failure
				v.away = v.early
			}
			v.drain, v.taker, v.taken, v.timedOut = NotDraining, "", time.Time{}, false
		}
		return false
	}
	since := now
	if s.drainSince == nil {
		s.drainSince = &since
		for _, v := range s.vips {
			v.early = v.away
			look = look || v.authoritative && v.holding
		}
	}
	blind := !s.peersRead || now.Before(c.settle)
	if c.stopping == nil && (s.blind || blind) {
		s.drainSince = &since // drain_timeout is for others that do not come, not for those that cannot be seen
	}
	s.blind = blind
	for _, v := range s.vips {
		if v.drain != Drained {
			c.stepHandover(now, s, v)
		}
	}
	return look
}

// stepHandover moves one of them. Who announces a VIP beside our claim may be about to stop because of it, and its record may not
// say so yet: it counts as the one that takes the VIP over from when our claim was read to be gone.
func (c *Core) stepHandover(now time.Time, s *service, v *vip) {
	v.drain = Draining
	node, taken := s.announcedBy(v.name, v.taker)
	taken = taken && s.peersRead && !now.Before(c.settle) // right after a loss the record may be that of a dead node
	taken = taken && !(v.authoritative && v.holding)
	switch {
	case !taken:
		v.taker, v.taken = "", time.Time{}
	case node != v.taker:
		v.taker, v.taken = node, now
	}
	switch {
	case v.last.Action == Withdraw, c.listed && !c.audible(s):
		v.drain = Drained // nobody hears it from us
	case taken && !now.Before(v.taken.Add(s.conf.Overlap)):
		v.drain = Drained
	case !now.Before(c.drainDeadline(s)):
		v.drain, v.timedOut = Drained, true
	}
}

func (c *Core) drainDeadline(s *service) time.Time {
	d := s.drainSince.Add(s.conf.DrainTimeout)
	if c.stopping != nil {
		if b := c.stopping.Add(stopBound); b.Before(d) {
			return b
		}
	}
	return d
}

// stays says whether a node announces a route and has no plan to give it up. Two nodes that are drained at once must not
// take each other for the one that takes over, nor a node that is drained just after it came back one that is about to leave
// the VIP to it, as its owner or as the one that comes before.
func stays(st zkstate.Status, r zkstate.StatusRoute) bool {
	leaves := r.Reason == string(ReasonDraining) || r.Reason == string(ReasonOverlap) || r.Reason == string(ReasonOutranked)
	return r.Announced && !leaves && st.Maintenance != PresencePresent.String()
}

// announcedBy finds a node whose status record says that it announces a VIP, is heard, and means to go on: the given one
// if it does, else the first by name.
func (s *service) announcedBy(vip, prefer string) (node string, found bool) {
	for name, st := range s.peers { // the preferred or the least name: the order does not matter
		for _, r := range st.Routes {
			if r.VIP == vip && stays(st, r) && !st.LastResort && (!found || name == prefer || node != prefer && name < node) {
				node, found = name, true
			}
		}
	}
	return node, found
}

// exit says whether the process is done: at once where ExaBGP is gone, else when every withdraw of the last drain was
// acknowledged, or could not be within the bound.
func (c *Core) exit(now time.Time) Exit {
	switch {
	case c.gone:
		return Abandon
	case c.stopping == nil:
		return Stay
	case !now.Before(c.stopping.Add(stopBound + stopGrace)):
		return Leave
	}
	for _, s := range c.services {
		for _, v := range s.vips {
			if v.last.Action != Withdraw || !v.acked() {
				return Stay
			}
		}
	}
	if slices.ContainsFunc(c.former, func(f advert) bool { return !f.acked }) {
		return Stay
	}
	return Leave
}
