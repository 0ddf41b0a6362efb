package daemon

import (
	"time"

	"exazk/health"
	"exazk/zkstate"
)

// setHealth counts failures that come close together, so that a check that flaps moves its VIPs ever more rarely.
func (s *service) setHealth(now time.Time, ch health.Changed) {
	s.said = ch.Detail()
	if ch.State == s.health.State { // a check that was configured anew says what the one before said
		s.health = ch
		return
	}
	s.judged = zkstate.StampOf(now)
	switch ch.State {
	case health.Healthy:
		s.passing = now
		if !s.failing.IsZero() {
			s.lasted = now.Sub(s.failing)
		}
	case health.Unhealthy:
		s.passing, s.failing = time.Time{}, now
		s.look, s.looked = now.Add(recordDelay), false
		if now.Sub(s.failed) > 2*max(s.conf.FlapHold, s.hold()) {
			s.failures = 0
		}
		if s.drainSince == nil { // what fails while the node is drained was planned
			s.failures++
			s.failed = now
		}
		for _, v := range s.vips {
			v.away = true
		}
	}
	s.health = ch
}

// hold is how long the check must pass before this node takes a VIP from one that has it. After one failure that is
// nothing if it was brief, else twice as long as it lasted, at most flap_hold: a check that alternates slowly would take
// the VIP back each time. It is flap_hold after a second failure within two flap_hold, and twice as long after each further
// one that comes within two of those, up to flapMax.
func (s *service) hold() time.Duration {
	switch {
	case s.failures == 0, s.failures == 1 && s.lasted < brief:
		return 0
	case s.failures == 1:
		return min(2*s.lasted, s.conf.FlapHold)
	}
	return min(s.conf.FlapHold<<min(s.failures-2, 16), max(flapMax, s.conf.FlapHold))
}

// setFailback obeys an operator's word once. A process that stops leaves it to the one that comes next.
func (c *Core) setFailback(s *service, ev zkstate.FailbackRead) {
	s.failback = nil
	if !ev.Present || c.stopping != nil {
		return
	}
	s.failback = append([]byte{}, ev.Data...)
	s.failures = 0
	s.forgiven = c.tracking && c.established(s) < s.conf.MinNeighbors
	for _, v := range s.vips {
		v.away, v.early, v.asked = false, false, true
	}
}

// wait says why a VIP that was away is left to the node that has it now.
func (c *Core) wait(now time.Time, s *service, v *vip) Reason {
	switch {
	case !v.away:
		return ""
	case v.authoritative && s.conf.Failback == FailbackManual:
		return ReasonFailbackManual
	case v.authoritative && now.Before(c.back(s).Add(s.conf.FailbackDelay)):
		return ReasonFailbackDelay
	case now.Before(s.passing.Add(s.hold())):
		return ReasonFlapping
	}
	return ""
}

// back is since when the node could serve again.
func (c *Core) back(s *service) time.Time {
	t := s.started
	for _, u := range []time.Time{s.passing, s.heard} {
		if u.After(t) {
			t = u
		}
	}
	return t
}

// others sums up what the status records say about a VIP. While absences do not count, only who is there does. Right
// after a failure of the check the records may be older than a failure or a withdraw elsewhere that came just before: with
// last_resort nobody is believed to go on announcing until they were read again.
func (c *Core) others(now time.Time, s *service, v *vip) Others {
	if !s.peersRead || c.zk.State != zkstate.Connected {
		return OthersUnread
	}
	sum := v.recorded
	switch {
	case now.Before(c.settle) && (sum != OthersServe || v.last.Action == Announce): // who serves may be a dead node by its record
		return OthersUnread
	case sum >= OthersPrior && s.conf.LastResort && s.health.State == health.Unhealthy && s.peersBegan.Before(s.look):
		return OthersLesser
	}
	return sum
}

// record sums up what the status records say about a VIP.
func (c *Core) record(s *service, v *vip) Others {
	sum := OthersNone
	for name, st := range s.peers { // a maximum: the order does not matter
		for _, r := range st.Routes {
			if r.VIP != v.name || !stays(st, r) {
				continue
			}
			owner := r.Role == Authoritative.String()
			switch {
			case !st.LastResort:
				sum = OthersServe
			case owner && !v.authoritative, owner == v.authoritative && name < c.id.Node: // of two owners, too, one goes on
				sum = max(sum, OthersPrior)
			default:
				sum = max(sum, OthersLesser)
			}
		}
	}
	return sum
}

// stepOthers returns what the others do about a VIP, and notes since when one serves it. One that was away and believes that nobody
// hears it may be wrong, right after its link was down: it leaves the VIP to the other one when the network knows the way there.
func (c *Core) stepOthers(now time.Time, s *service, v *vip) Others {
	others := c.others(now, s, v)
	switch {
	case others != OthersServe:
		v.served = time.Time{}
	case v.served.IsZero():
		v.served = now
	}
	return others
}

// lookAgain says whether a moment has come at which the others' records are worth a look.
func (c *Core) lookAgain(now time.Time) bool {
	again := false
	for _, s := range c.services {
		if s.conf.LastResort && !s.look.IsZero() && !now.Before(s.look) && !s.looked {
			s.looked, again = true, true
		}
	}
	return again
}
