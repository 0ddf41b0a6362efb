package main

import (
	"fmt"
	"slices"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
)

// Timers of the lab, from its sample configurations.
const (
	checkEvery     = time.Second
	checkFast      = 200 * time.Millisecond
	checkTimeout   = time.Second
	checkFall      = 2
	holdTime       = 3 * time.Second
	sessionTimeout = 4 * time.Second
	serverTick     = 100 * time.Millisecond
)

// slack is for processes that wait for a processor, and for the way of a word through the network.
const slack = 1500 * time.Millisecond

const (
	// deadBound is how long a node whose check fails at once may announce: the run before has just passed, the next one comes
	// an interval later, and the further ones in quick succession.
	deadBound = checkEvery + checkFall*checkFast + slack
	// hangBound is the same where each run takes its timeout.
	hangBound = checkEvery + checkFall*(checkFast+checkTimeout) + slack

	// restarted is what a process needs until it knows what the one before knew: start (0.1 s), ExaBGP's and ZooKeeper's answers,
	// and, of SIGTERM, the end of the old one (1.3 s).
	restarted = 3*time.Second + slack
	// wokenUp is what a process needs that stood still: it has to read everything again, in a new session if it slept longer
	// than the old one lived.
	wokenUp = 2*time.Second + slack
	// unheard is how long a ToR believes in a silent neighbor; ExaBGP counts in whole seconds, and says so a second later.
	unheard = holdTime + time.Second + slack
	// reconnected is how long exazk needs for a session after its way to ZooKeeper is free: a handshake that fails is given up
	// after a second, and a connection that hears nothing after two thirds of the session timeout.
	reconnected = sessionTimeout + slack
	// elected is how long an ensemble needs to serve again after one of its servers went or came: syncLimit (3 s) until
	// a leader that stands still is given up, an election, and a second one if the first fails.
	elected = 7 * time.Second
	// ensembleBack is when all of a cluster is known again after that: a new leader gives each session its whole timeout again,
	// and after a session was lost, absences are not believed for as long.
	ensembleBack = elected + reconnected + 2*sessionTimeout + serverTick

	// drainBound is how long a drained node may announce: others may not come, then it is drain_timeout.
	drainBound = longestDrainTimeout + slack

	// reaction is how long the others may need to take a VIP over, whatever happened to its owner: the longest of check
	// (hangBound), hold time (unheard) and session timeout, which may go on side by side.
	reaction = max(hangBound, unheard, sessionTimeout+serverTick+slack)

	// moment is how long a claim may be there without its route, or the route be seen later than the claim.
	moment = 2 * time.Second
	// aftermath is how long something unplanned may make a difference to what is planned.
	aftermath = ensembleBack
)

// observed is all that is known of a round: what the driver did, and what was seen from outside.
type observed struct {
	deeds   []deed
	spells  []spell
	routers []routerSight
	zk      []zkSight
	losses  [3][]loss // of the client, by VIP
	lags    []span    // when this process was not run
	end     time.Duration
}

// loss is a row of the client's probes that nobody answered: from the last answered one before to the first one after.
type loss struct {
	span
	probes int
}

// violation is a promise that was broken.
type violation struct {
	At   float64 `json:"at_s"` // of the round
	What string  `json:"what"`
}

// judge checks all promises that hold at every moment. It is a function of its argument alone.
func judge(o observed) []violation {
	var all []violation
	all = append(all, o.sickAnnounce()...)
	all = append(all, o.drainedAnnounce()...)
	all = append(all, o.unanswered()...)
	all = append(all, o.plannedLosses()...)
	all = append(all, o.claimsWithoutRoutes()...)
	return append(all, o.strangers()...)
}

func violated(at time.Duration, format string, args ...any) violation {
	return violation{at.Seconds(), fmt.Sprintf(format, args...)}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// late says whether this machine was too busy within a span, or shortly before, for what was seen in it to mean anything: it
// let this process wait for long, or again and again.
func (o *observed) late(s span) bool {
	s.from -= 5 * time.Second
	total := time.Duration(0)
	for _, l := range o.lags {
		if l.meets(s) {
			if l.length() >= lagging {
				return true
			}
			total += l.length()
		}
	}
	return total > max(2*lagging, s.length()/10)
}

// sickAnnounce: a node whose check fails, or hangs, announces nothing for longer than it takes to notice. What disturbs its
// processes, or keeps its word from the ToR, gives it that time again, and the time that the disturbance takes to pass.
func (o *observed) sickAnnounce() []violation {
	var all []violation
	for _, s := range o.spells {
		i := slices.IndexFunc(o.routers, func(r routerSight) bool {
			return r.at > s.from && r.at+r.took < s.to && r.leaf[s.node] != 0 && r.at > o.sickDeadline(s, r.at) && !o.late(span{o.sickDeadline(s, r.at), r.at})
		})
		if i >= 0 {
			r := o.routers[i]
			all = append(all, violated(r.at, "%s announces %s, sick since %s; it had until %s", lab.Balancers()[s.node], names(r.leaf[s.node]), seconds(s.from), seconds(o.sickDeadline(s, r.at))))
		}
	}
	return all
}

// sickDeadline is until when a node may announce by what happened before at.
func (o *observed) sickDeadline(s spell, at time.Duration) time.Duration {
	bound := deadBound
	if s.hangs || o.hung(s.node, span{s.from - checkTimeout, at}) {
		bound = hangBound
	}
	deadline := s.from + bound
	for _, d := range o.deeds {
		if d.began > at || d.ended < s.from-restarted || d.Kind.OfEnsemble() || d.Node != s.node {
			continue
		}
		switch d.Kind {
		case fault.Crash, fault.KillExaBGP, fault.RestartExaBGP, fault.KillExazk, fault.TermExazk, fault.Reconfigure, fault.PauseExazk:
			deadline = max(deadline, plus(d.ended, restarted+bound))
		case fault.PauseExaBGP, fault.SlowExaBGP, fault.LinkDown, fault.SilentLink, fault.ResetSession, fault.Isolate:
			deadline = max(deadline, plus(d.ended, unheard+bound))
		}
	}
	return deadline
}

// hung says whether a node's check may have hung within a span.
func (o *observed) hung(node int, s span) bool {
	return slices.ContainsFunc(o.deeds, func(d deed) bool { return d.Kind == fault.HangCheck && d.Node == node && d.all().meets(s) })
}

// drainedAnnounce: a node that is drained announces nothing after drain_timeout. What keeps it from knowing, or from seeing the
// others, for whom drain_timeout waits, gives it the whole time again.
func (o *observed) drainedAnnounce() []violation {
	var all []violation
	for _, d := range o.deeds {
		s := d.sure()
		if d.Kind != fault.Maintenance && d.Kind != fault.Until || s.length() <= 0 {
			continue
		}
		i := slices.IndexFunc(o.routers, func(r routerSight) bool {
			deadline := o.drainDeadline(d.Node, s, r.at)
			return r.at > s.from && r.at+r.took < s.to && r.leaf[d.Node] != 0 && r.at > deadline && !o.late(span{deadline, r.at})
		})
		if i >= 0 {
			r := o.routers[i]
			all = append(all, violated(r.at, "%s announces %s, drained since %s; it had until %s", lab.Balancers()[d.Node], names(r.leaf[d.Node]), seconds(s.from), seconds(o.drainDeadline(d.Node, s, r.at))))
		}
	}
	return all
}

func (o *observed) drainDeadline(node int, s span, at time.Duration) time.Duration {
	deadline := s.from + drainBound
	for _, d := range o.deeds {
		if d.began <= at && d.ended > s.from-ensembleBack && !asAsked(d.Kind) {
			if r, touched := recovery(d, node); touched {
				deadline = max(deadline, plus(d.ended, r+drainBound))
			}
		}
	}
	return deadline
}

// recovery is how long after the end of a deed a node may need to be as good as before, and whether it touches that node at
// all. BGP sessions are not in it: how long ExaBGP waits before it connects again is its own affair, and is looked at instead.
func recovery(d deed, node int) (time.Duration, bool) {
	switch {
	case d.Kind.OfEnsemble():
		return ensembleBack, true
	case d.Node != node:
		return 0, false
	}
	switch d.Kind {
	case fault.Failback:
		return 0, false
	case fault.Maintenance, fault.Until:
		return slack, true
	case fault.SickCheck, fault.HangCheck, fault.FlapCheck:
		return checkTimeout + checkEvery + 3*checkFast + slack, true // rise is 3
	case fault.LinkDown, fault.SilentLink, fault.ResetSession:
		return unheard, true
	case fault.CutZK, fault.CutServer, fault.SeverZK, fault.Isolate:
		return reconnected + sessionTimeout + slack, true
	case fault.PauseExazk:
		return wokenUp + sessionTimeout, true
	}
	return restarted + reconnected + checkEvery, true
}

// useless are the spans in which a node need not take over a VIP: something is, or was lately, wrong with it, it is drained,
// it cannot see ZooKeeper, or its ToR does not hear it.
func (o *observed) useless(node int) []span {
	var all []span
	for i, d := range o.deeds {
		switch r, touched := recovery(d, node); {
		case !touched:
		case oneOfMany(d.Kind): // the two others are a quorum, once they have found each other
			for _, c := range d.changes() {
				all = append(all, span{c.from, plus(c.to, r)})
			}
			for _, e := range o.deeds[:i] {
				if oneOfMany(e.Kind) && e.Server != d.Server && e.all().meets(d.all()) {
					all = append(all, span{max(d.began, e.began), plus(min(d.ended, e.ended), r)})
				}
			}
		case d.Kind == fault.RestartExaBGP && o.undoMayFail(d):
			all = append(all, span{d.began, never})
		default:
			all = append(all, span{d.began, plus(d.ended, r)})
		}
	}
	before := time.Duration(0)
	for _, r := range o.routers {
		if !r.up[node] {
			all = append(all, span{before, r.at + r.took + slack})
		}
		before = r.at
	}
	return all
}

func oneOfMany(k fault.Kind) bool { return k == fault.KillServer || k == fault.PauseServer }

// undoMayFail says whether the drain of a stop of ExaBGP may outlast its start: "exazk drain --undo" needs ZooKeeper.
func (o *observed) undoMayFail(d deed) bool {
	return slices.ContainsFunc(o.deeds, func(e deed) bool {
		if !e.Kind.OfEnsemble() {
			switch e.Kind {
			case fault.CutZK, fault.CutServer, fault.SeverZK, fault.Isolate:
			default:
				return false
			}
		}
		return (e.Kind.OfEnsemble() || e.Node == d.Node) && span{e.began, plus(e.ended, ensembleBack)}.meets(d.all())
	})
}

// unanswered: no VIP goes unanswered for longer than reaction while a node could take it over and nothing changes. Each change
// begins the time anew, for the cluster may have to find out about it from the beginning.
func (o *observed) unanswered() []violation {
	var excused []span
	for _, d := range o.deeds {
		excused = append(excused, d.changes()...)
	}
	excused = append(excused, o.blackHoles()...)
	var all []violation
	for vip, losses := range o.losses {
		for _, l := range losses {
			for node, lb := range lab.Balancers() {
				calm := l.without(slices.Concat(excused, o.useless(node)))
				i := slices.IndexFunc(calm, func(s span) bool { return s.length() > reaction && !o.late(s) })
				if i >= 0 {
					all = append(all, violated(l.from, "%s is not answered from %s to %s, although nothing changed and %s could have it from %s to %s",
						lab.VIPs()[vip], seconds(l.from), seconds(l.to), lb, seconds(calm[i].from), seconds(calm[i].to)))
					break
				}
			}
		}
	}
	return all
}

// blackHoles are the spans in which a node announces what it does not serve, and nobody can do anything about it: its
// web server is dead, and its exazk stands still.
func (o *observed) blackHoles() []span {
	var all []span
	for _, d := range o.deeds {
		for _, e := range o.deeds {
			if d.Kind == fault.SickCheck && e.Kind == fault.PauseExazk && d.Node == e.Node && d.all().meets(e.all()) {
				all = append(all, span{max(d.began, e.began), min(d.ended, e.ended)})
			}
		}
	}
	return all
}

// plannedLosses: what is planned costs nothing, as long as there is one node at every moment that nothing was done to: two
// nodes that are drained at once have nobody else to give their VIPs to. A loss near to something unplanned is not judged here.
func (o *observed) plannedLosses() []violation {
	var all []violation
	for vip, losses := range o.losses {
		for _, l := range losses {
			if near := o.near(l.span); o.allPlanned(near) && o.untouched(l.span) && !o.late(l.span) {
				all = append(all, violated(l.from, "%s lost %d probes from %s to %s although all was planned: %v", lab.VIPs()[vip], l.probes, seconds(l.from), seconds(l.to), near))
			}
		}
	}
	return all
}

// near lists the deeds that may have to do with something.
func (o *observed) near(s span) []string {
	var all []string
	for _, d := range o.deeds {
		if (span{d.began, plus(d.ended, aftermath)}).meets(s) {
			all = append(all, d.String())
		}
	}
	return all
}

func (o *observed) allPlanned(near []string) bool {
	return !slices.ContainsFunc(o.deeds, func(d deed) bool { return !d.Kind.Planned() && slices.Contains(near, d.String()) })
}

// untouched says whether one node was of use all the time, and for a while before.
func (o *observed) untouched(s span) bool {
	s.from -= longestOverlap
	return slices.ContainsFunc([]int{0, 1, 2}, func(node int) bool {
		return !slices.ContainsFunc(o.useless(node), s.meets)
	})
}

// claimsWithoutRoutes: a claim says that its route is announced and heard. Where a node can see ZooKeeper, ExaBGP and its ToR,
// that is wrong for a moment at most.
func (o *observed) claimsWithoutRoutes() []violation {
	var all []violation
	for node, lb := range lab.Balancers() {
		since, r := never, 0
		for _, z := range o.zk {
			for r+1 < len(o.routers) && o.routers[r+1].at <= z.at {
				r++
			}
			if r >= len(o.routers) || z.claimed>>node&1 == 0 || o.routers[r].leaf[node]>>node&1 == 1 {
				since = never
				continue
			}
			since = min(since, z.at)
			if s := (span{z.at - moment, z.at}); since < s.from && o.inTouch(node, s) && !o.late(s) {
				all = append(all, violated(z.at, "%s claims its VIP since %s without a route of it at its ToR", lb, seconds(since)))
				break
			}
		}
	}
	return all
}

// inTouch says that nothing came between a node and its ZooKeeper, ExaBGP and ToR, nor has just gone.
func (o *observed) inTouch(node int, s span) bool {
	return !slices.ContainsFunc(o.deeds, func(d deed) bool {
		r, touched := recovery(d, node)
		return touched && !asAsked(d.Kind) && s.meets(span{d.began, plus(d.ended, r)})
	})
}

// asAsked says that a fault takes nothing from a node but its right to announce: it withdraws, and gives its claim up.
func asAsked(k fault.Kind) bool {
	switch k {
	case fault.SickCheck, fault.HangCheck, fault.FlapCheck, fault.Maintenance, fault.Until:
		return true
	}
	return false
}

// strangers: nothing but VIPs is announced.
func (o *observed) strangers() []violation {
	for _, r := range o.routers {
		if len(r.strange) > 0 {
			return []violation{violated(r.at, "%s", r.strange[0])}
		}
	}
	return nil
}
