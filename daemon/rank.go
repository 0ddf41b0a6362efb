package daemon

import (
	"slices"
	"time"

	"exazk/health"
	"exazk/zkstate"
)

// comingWait is how long a backup leaves an unclaimed VIP to one that comes before it and could announce it by its record. It takes a
// few tenths of a second; one that stands still must not keep the VIP from the others.
const comingWait = 2 * time.Second

// stepBefore finds out what the nodes do that come before this one, for backups = "first". What cannot be read stays as it was.
func (c *Core) stepBefore(now time.Time, s *service) {
	if s.conf.Backups != BackupsFirst {
		return
	}
	readable := s.peersRead && c.zk.State == zkstate.Connected && !now.Before(c.settle)
	for _, v := range s.vips {
		switch {
		case v.authoritative || v.view != ClaimAbsent:
			v.unclaimed, v.leader, v.ahead = time.Time{}, "", BeforeNone
			continue
		case v.unclaimed.IsZero():
			v.unclaimed = now
		}
		if !readable {
			v.led = time.Time{} // overlap is of what is seen, and its own record has to say first that it is about to stop
		}
		switch {
		case readable:
			c.look(now, s, v)
		case (v.ahead == BeforeComing || v.ahead == BeforeBegins) && !now.Before(v.unclaimed.Add(comingWait)):
			v.ahead = BeforeNone // it cannot be seen that it came, and the time that it has is over
		}
	}
}

func (c *Core) look(now time.Time, s *service, v *vip) {
	leader := s.firstOf(v, func(st zkstate.Status, r zkstate.StatusRoute) bool { return stays(st, r) && !st.LastResort })
	if leader != v.leader || v.led.IsZero() {
		v.leader, v.led = leader, now
	}
	coming := s.firstOf(v, able) != ""
	switch {
	case leader != "" && !now.Before(v.led.Add(s.conf.Overlap)):
		v.ahead = BeforeServes
	case leader != "":
		v.ahead = BeforeBegins
	case coming && now.Before(v.unclaimed.Add(comingWait)):
		v.ahead = BeforeComing
	default:
		v.ahead = BeforeNone
	}
}

// firstOf is the first node before this one whose record of a VIP is as asked for; "" if there is none. It must come before this one
// by its own word, too: while an order is changed node by node, each of two could else leave the VIP to the other.
func (s *service) firstOf(v *vip, is func(zkstate.Status, zkstate.StatusRoute) bool) string {
	for _, name := range v.before {
		st := s.peers[name]
		if slices.ContainsFunc(st.Routes, func(r zkstate.StatusRoute) bool { return r.VIP == v.name && r.Rank > 0 && r.Rank < v.rank && is(st, r) }) {
			return name
		}
	}
	return ""
}

// able says whether a node could announce what it backs up, by its record: it is well, neither drained nor about to end, and heard.
func able(st zkstate.Status, r zkstate.StatusRoute) bool {
	if r.Reason == string(ReasonStopping) || r.Reason == string(ReasonDraining) {
		return false
	}
	heard := len(st.Neighbors) == 0 || slices.ContainsFunc(st.Neighbors, func(n zkstate.StatusNeighbor) bool { return n.State == "up" })
	return heard && st.Health == health.Healthy.String() && st.Maintenance != PresencePresent.String() && !st.LastResort
}
