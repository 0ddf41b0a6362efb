package sim

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"time"

	"exazk/daemon"
	"exazk/sim/vclock"
	"exazk/zkstate"
)

// monitor watches a state of affairs that may last only so long.
type monitor struct {
	on    bool
	timer *vclock.Timer
}

// begins tells whether the state holds, and is true where it has just begun to: then limit is to be called. They are two, because
// a look at everything is frequent, and hardly anything begins.
func (m *monitor) begins(c *cluster, holds bool) bool {
	if holds == m.on {
		return false
	}
	m.on = holds
	if !holds {
		c.clock.Stop(m.timer)
		m.timer = nil
	}
	return holds
}

// limit has late called unless the state ends within bound.
func (m *monitor) limit(c *cluster, bound time.Duration, late func()) {
	m.timer = c.clock.Timer(c.clock.Now().Add(bound), late)
}

// hostMonitors are what is watched of one node, each for every VIP.
type hostMonitors struct {
	sick    []monitor // a route of a node whose check fails
	drained []monitor // a route of a node that is drained
	stray   []monitor // a route at the ToR that was decided to be withdrawn
	missing []monitor // none at the ToR that was decided to be announced, or another
	waits   []monitor // a VIP that nobody serves and this node could
	void    []monitor // a VIP that nobody announces and this node should as a last resort
	second  []monitor // a VIP that a node announces that comes after another one who does
	gone    []monitor // a route to a VIP that the node is not configured with
	beside  []monitor // a last resort beside a node that is well
	kept    []monitor // a claim of a node that should have given it up
	deaf    []monitor // a claim of a node whose ToR has no session
	cut     []monitor // a claim of a node that sees that its link is down
	pending []monitor // a withdraw without an acknowledgement
	polite  []monitor // a VIP that nobody announces, and that this node leaves to another
	overdue monitor   // a maintenance node whose time is over
}

func newHostMonitors(n int) hostMonitors {
	m := func() []monitor { return make([]monitor, n) }
	return hostMonitors{sick: m(), drained: m(), stray: m(), missing: m(), deaf: m(), waits: m(), void: m(), beside: m(), kept: m(), cut: m(), pending: m(), polite: m(), second: m(), gone: m()}
}

// calm says that nothing has happened to a node for so long.
func (c *cluster) calm(h *host, d time.Duration) bool {
	return c.clock.Now().Sub(c.broken.lastNode[h.n]) >= d
}

// changed looks at a node again.
func (c *cluster) changed(h *host) {
	if h.python != nil || c.result.Violation != nil {
		return
	}
	h.lookAtTor()
	able := h.able() && h.tor.Up() && c.clock.Now().After(h.life.began)
	drained := able && c.broken.zk == 0 && h.drained()
	for v := range c.knobs.Nodes {
		route, has := h.tor.Route(vipOf(v))
		verdict, decided := h.verdict(v)
		m := &h.monitors
		lastResort := decided && verdict.Reason == daemon.ReasonLastResort
		if w := &m.sick[v]; w.begins(c, able && has && h.broken() && !lastResort) {
			w.limit(c, c.detection()+c.writing(h), func() {
				c.unmeddled(h, v, w, func() {
					c.violate("sick", "%s's check fails, and it still announces %s (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
				})
			})
		}
		if w := &m.drained[v]; w.begins(c, drained && has) {
			w.limit(c, c.knobs.draining()+c.writing(h), func() {
				c.unmeddled(h, v, w, func() {
					c.violate("drained", "%s is drained, and it still announces %s (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
				})
			})
		}
		settles := able && decided && !h.life.leaving
		if w := &m.stray[v]; w.begins(c, settles && verdict.Action == daemon.Withdraw && has) { // a withdraw is always written
			w.limit(c, c.writing(h), func() { // ExaBGP may have acknowledged it, and become slow before it sent it
				c.unhindered(h, w, func() { c.unmeddled(h, v, w, func() { c.differs(h, v) }) })
			})
		}
		if w := &m.missing[v]; w.begins(c, settles && verdict.Action == daemon.Announce && (!has || route.MED != h.med(v, verdict))) {
			w.limit(c, c.hearing()+c.writing(h), func() { c.unmeddled(h, v, w, func() { c.differs(h, v) }) })
		}
		if w := &m.gone[v]; w.begins(c, able && !h.serves(v) && has && !h.life.leaving) {
			w.limit(c, c.writing(h), func() {
				c.unhindered(h, w, func() {
					c.unmeddled(h, v, w, func() {
						c.violate("removed", "%s is not configured with %s any more, and its ToR has a route", h.conf.Node, vipOf(v).Addr())
					})
				})
			})
		}
		if since := h.hands[v]; !since.IsZero() && decided && c.clock.Now().Sub(since) > c.knobs.DriftCheck+2*time.Second && has == (verdict.Action == daemon.Announce) && (!has || route.MED == h.med(v, verdict)) {
			h.hands[v] = time.Time{}
		}
		if idle := (decided && verdict.Action == daemon.Withdraw || !h.serves(v)) && h.alive() && !h.life.leaving; !idle {
			h.idled[v] = time.Time{}
		} else if h.idled[v].IsZero() {
			h.idled[v] = c.clock.Now()
		}
		c.checkWaiting(h, v)
		c.checkVoid(h, v)
		c.checkBeside(h, v)
		c.checkSecond(h, v)
	}
	if h.life != nil {
		c.checkPending(h, statusOf(&h.life.last))
	}
	c.checkClaim(h)
	c.checkOverdue(h)
}

// mending is how long it may take exazk to find out that a route was changed by hand, and to write it again: where ExaBGP is slow or was,
// it looks seldom.
func (c *cluster) mending(h *host) time.Duration {
	return c.knobs.DriftCheck + 35*time.Second + c.writing(h)
}

// meddled says that an operator changed the route to a VIP by hand, and that this need not be mended yet.
func (c *cluster) meddled(h *host, v int) bool {
	return !h.hands[v].IsZero() && c.clock.Now().Sub(c.broken.lastNode[h.n]) < c.mending(h)
}

// unmeddled has late called now, or again and again later while somebody changes the route by hand.
func (c *cluster) unmeddled(h *host, v int, w *monitor, late func()) {
	if !c.meddled(h, v) {
		late()
		return
	}
	w.limit(c, c.mending(h), func() { c.unmeddled(h, v, w, late) })
}

// expectMended looks whether a route that was changed by hand is what was decided again, in time. Nothing else has happened for long.
func (c *cluster) expectMended(h *host, v int) {
	k, l, since := &c.knobs, h.life, c.clock.Now()
	before, decided := h.verdict(v)
	bound := k.DriftCheck + time.Second
	if k.Slow > 2*time.Millisecond || k.Delay > 5*time.Millisecond || k.Refusals > 0 {
		bound = 4*k.DriftCheck + c.writing(h)
	}
	if !decided || before.Action == daemon.Hold || !h.able() || !h.tor.Up() {
		return
	}
	c.clock.After(bound, func() {
		now, _ := h.verdict(v)
		if c.broken.lastAny != since || h.life != l || l.leaving || !h.able() || !h.tor.Up() || now.Verdict != before.Verdict {
			return
		}
		route, has := h.tor.Route(vipOf(v))
		if has != (now.Action == daemon.Announce) || has && route.MED != h.med(v, now) {
			c.violate("drift", "the route of %s to %s was changed by hand %v ago, and its ToR has %v, MED %d, after %v", h.conf.Node, vipOf(v).Addr(), bound, has, route.MED, now.Verdict)
		}
	})
}

// differs ends the run because a ToR has not what was decided.
func (c *cluster) differs(h *host, v int) {
	verdict, _ := h.verdict(v)
	route, has := h.tor.Route(vipOf(v))
	c.violate("reason", "%s decided to %v for %s, and its ToR has route %v, MED %d", h.conf.Node, verdict.Verdict, vipOf(v).Addr(), has, route.MED)
}

// checkPending watches withdraws that ExaBGP has not acknowledged. They are always written; in a new session once more, so without a
// neighbor they are pending.
func (c *cluster) checkPending(h *host, st *zkstate.Status) {
	able := h.able() && h.tor.Up() && !h.life.leaving && h.life.hears(st)
	for v := range c.names {
		if w := &h.monitors.pending[v]; w.begins(c, able && routeIn(st, v, c.names[v]).Pending) {
			w.limit(c, c.writing(h), func() {
				c.unhindered(h, w, func() {
					c.violate("reason", "%s decided to withdraw %s, and ExaBGP has not acknowledged that", h.conf.Node, vipOf(v).Addr())
				})
			})
		}
	}
}

// lookAtTor notes since when the ToR has no session.
func (h *host) lookAtTor() {
	switch {
	case h.tor.Up():
		h.torDown = time.Time{}
	case h.torDown.IsZero():
		h.torDown = h.c.clock.Now()
	case h.tor.Ended().After(h.torDown): // it had one between two looks
		h.torDown = h.tor.Ended()
	}
}

// checkBeside watches a last resort that a node that is well announces beside. That one says so in its record, which the sick
// one reads as soon as it can reach ZooKeeper.
func (c *cluster) checkBeside(h *host, v int) {
	if !c.knobs.LastResort {
		return
	}
	verdict, decided := h.verdict(v)
	beside := decided && verdict.Reason == daemon.ReasonLastResort && verdict.Action == daemon.Announce && h.able() && c.broken.zk == 0
	if beside {
		beside = false
		for _, o := range c.hosts {
			beside = beside || o != h && o.python == nil && o.says(v)
		}
	}
	if w := &h.monitors.beside[v]; w.begins(c, beside) {
		w.limit(c, c.recovery()+c.writing(h), func() {
			c.violate("sick", "%s's check fails, and it still announces %s (%v), as somebody else does who is well", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
		})
	}
}

// checkSecond watches a backup that announces an unclaimed VIP beside one that comes before it and says in its record that it does.
func (c *cluster) checkSecond(h *host, v int) {
	if !c.knobs.First {
		return
	}
	verdict, decided := h.verdict(v)
	second := decided && (verdict.Reason == daemon.ReasonUnclaimed || verdict.Reason == daemon.ReasonOutranked) && verdict.Action == daemon.Announce && h.able() && c.broken.zk == 0
	if second {
		second = false
		for _, o := range c.hosts {
			second = second || o != h && !o.owns(v) && c.knobs.rank(o.n, v) < c.knobs.rank(h.n, v) && o.says(v)
		}
	}
	if w := &h.monitors.second[v]; w.begins(c, second) {
		w.limit(c, c.recovery()+2*c.knobs.Overlap+c.writing(h), func() {
			c.violate("first", "%s announces %s (%v), and so does one that comes before it", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
		})
	}
}

// says says that a node is well and says in its record that it announces a VIP.
func (h *host) says(v int) bool {
	verdict, decided := h.verdict(v)
	if !decided || !h.able() || h.broken() || h.drained() || verdict.Action != daemon.Announce || verdict.Reason == daemon.ReasonLastResort || verdict.Reason == daemon.ReasonDraining {
		return false
	}
	return h.records(v)
}

// records says that a node says in its record that it announces a VIP.
func (h *host) records(v int) bool {
	return routeIn(statusOf(&h.life.last), v, h.c.names[v]).Announced
}

// checkClaim watches the claim on a node's own VIP. Nobody else takes the VIP over while it is there: a node that should not serve,
// or that nobody hears, must give it up.
func (c *cluster) checkClaim(h *host) {
	v, k := h.n, &c.knobs
	if k.Shared {
		return // whose claim it is is not looked at
	}
	_, owner, claimed := c.zk.Read(claimsPath + "/" + c.names[v])
	claims := claimed && owner != 0 && h.alive() && c.broken.zk == 0 && !h.life.leaving && c.clock.Now().After(h.life.began)
	silent := !h.torDown.IsZero()
	bound := 2*k.SessionTimeout + c.detection() + c.writing(h)
	if w := &h.monitors.kept[v]; w.begins(c, claims && (h.broken() || h.drained())) {
		w.limit(c, bound, func() {
			c.violate("kept", "%s keeps its claim on %s: sick %v, drained %v", h.conf.Node, c.names[v], h.broken(), h.drained())
		})
	}
	if w := &h.monitors.deaf[v]; w.begins(c, claims && silent) {
		w.limit(c, bound+k.HoldTime, func() {
			c.violate("kept", "%s keeps its claim on %s, and its ToR has no session", h.conf.Node, c.names[v])
		})
	}
	if w := &h.monitors.cut[v]; w.begins(c, claims && k.Links && !h.linkUp && c.broken.isolated) {
		w.limit(c, 2*time.Second+10*k.Delay+10*k.Packet, func() {
			c.violate("kept", "%s keeps its claim on %s, and sees that its link is down", h.conf.Node, c.names[v])
		})
	}
}

// checkOverdue watches a maintenance node whose time is over: who is drained by it removes it.
func (c *cluster) checkOverdue(h *host) {
	overdue := false
	if h.marked && !h.overdue.IsZero() && !c.clock.Now().Before(h.overdue) {
		data, _, there := c.zk.Read(maintenancePath + "/" + h.conf.Node)
		overdue = there && bytes.Equal(data, h.until) && h.alive() && !h.life.leaving && c.broken.zk == 0
	}
	if w := &h.monitors.overdue; w.begins(c, overdue) {
		w.limit(c, c.recovery()+10*c.knobs.Delay, func() {
			c.violate("overdue", "the maintenance of %s is over, and its node is still there", h.conf.Node)
		})
	}
}

// checkVoid watches a VIP that nobody announces while there is a node that could as a last resort, sick or not, or that is well and
// leaves the VIP to another: the record of one that is dead goes with its session, and one that lives finds out within the hold time
// that nobody hears it.
func (c *cluster) checkVoid(h *host, v int) {
	void := c.knobs.LastResort && h.serves(v) && h.able() && h.tor.Up() && c.broken.zk == 0 && c.at() > faultsFrom && !h.drained() && !c.announced(v) && !c.excused(v) && !c.pretended(v)
	if w := &h.monitors.void[v]; w.begins(c, void) {
		leaves := slices.ContainsFunc(c.hosts, func(o *host) bool { return o.leaves(v) }) // its record says why, and who is sick waits for that
		w.limit(c, c.bound(leaves), func() {
			verdict, _ := h.verdict(v)
			c.violate("last-resort", "nobody announces %s, and %s could as a last resort (%v)", vipOf(v).Addr(), h.conf.Node, verdict.Verdict)
		})
	}
	waits := h.leaves(v) && h.able() && h.tor.Up() && c.broken.zk == 0 && !c.announced(v) && !c.excused(v) && !c.pretended(v)
	k := &c.knobs
	if w := &h.monitors.polite[v]; w.begins(c, waits) {
		w.limit(c, 2*k.SessionTimeout+2*k.ServerTick+k.HoldTime+5*time.Second, func() {
			verdict, _ := h.verdict(v)
			c.violate("served", "nobody announces %s, and %s leaves it to somebody (%v)", vipOf(v).Addr(), h.conf.Node, verdict.Verdict)
		})
	}
}

// leaves says that a node that is well leaves a VIP to another, by the record of that one.
func (h *host) leaves(v int) bool {
	verdict, decided := h.verdict(v)
	return decided && slices.Contains([]daemon.Reason{daemon.ReasonFailbackManual, daemon.ReasonFailbackDelay, daemon.ReasonFlapping, daemon.ReasonOutranked}, verdict.Reason)
}

// announced says whether any ToR has a route to a VIP.
func (c *cluster) announced(v int) bool {
	for _, h := range c.hosts {
		if _, has := h.tor.Route(vipOf(v)); has {
			return true
		}
	}
	return false
}

// med is what a verdict is announced with.
func (h *host) med(vip int, v daemon.VIPVerdict) uint32 {
	a := h.life.conf.Services[0].Announce
	switch {
	case v.Reason == daemon.ReasonLastResort, v.Reason == daemon.ReasonDraining && h.life.conf.Services[0].DrainStyle == daemon.DrainGShut:
		return a.Drain.MED
	case v.Role == daemon.Backup:
		return a.Backup.MED + uint32(h.c.knobs.rank(h.n, vip))*a.StepMED
	}
	return a.Own.MED
}

// detection is how long a check may take to find out.
func (c *cluster) detection() time.Duration {
	fall := c.knobs.Fall
	if c.changes {
		fall = 3
	}
	return 2*time.Second + time.Duration(fall+1)*(1200*time.Millisecond)
}

// draining is how long a drain may take while ZooKeeper can be reached: what was read of the others may be void for a
// session timeout after a loss.
func (k *Knobs) draining() time.Duration {
	return 2*k.SessionTimeout + k.DrainTimeout + time.Second + 2*k.Overlap + 2*time.Second
}

// writing is how long a decision may take to become a route: seconds where a command's reply is missing or where ExaBGP owes
// replies to a process that is gone (exabgp.Writer: 3 s for a reply, 10 s behind others), else a moment.
func (c *cluster) writing(h *host) time.Duration {
	slow := time.Duration(c.knobs.Nodes+4) * (c.knobs.Slow + 4*c.knobs.Delay)
	if c.knobs.Refusals > 0 { // each is tried again, after one second, two, four
		slow += 7 * time.Second
	}
	if (c.broken.isolated || c.calm(h, time.Minute)) && !h.hindered() {
		return time.Second + slow
	}
	return 20*time.Second + slow + time.Duration(c.knobs.Nodes+4)*slowest
}

// hindered says that ExaBGP is slow, or that packets on the way to the ToR are lost, or were and TCP has yet to send them again.
func (h *host) hindered() bool {
	return h.slow > 0 || h.lostOut > 0 || h.lostIn > 0 || h.c.clock.Now().Sub(h.unheard) < 20*time.Second
}

// unhindered has late called now, or later where the way to the ToR has become slow or lossy just then.
func (c *cluster) unhindered(h *host, w *monitor, late func()) {
	if !h.hindered() {
		late()
		return
	}
	w.limit(c, 20*time.Second, late)
}

// hearing is how long exazk may take to learn that its session is up or down: where that is not told, by polling, and where the
// link is not watched or distrusted, up to linkTrust.
func (c *cluster) hearing() time.Duration { return 65*time.Second + c.knobs.HoldTime }

// checkWaiting watches a VIP without an answer while there is a node that could give one.
func (c *cluster) checkWaiting(h *host, v int) {
	waits := c.fabric.vips[v].server < 0 && c.at() > faultsFrom && c.could(h, v)
	if w := &h.monitors.waits[v]; w.begins(c, waits) {
		w.limit(c, c.bound(h.leaves(v)), func() {
			verdict, _ := h.verdict(v)
			c.violate("served", "nobody has answered for %s for %v, and %s could (%v)", vipOf(v).Addr(), c.clock.Now().Sub(c.fabric.vips[v].since), h.conf.Node, verdict.Verdict)
		})
	}
}

// could says that a node is as it should be, and ZooKeeper with it. What another node may do without being found out is no
// fault of it: a load balancer that claims a VIP and does not serve it, because ExaBGP stands still and nobody counts
// keepalives.
func (c *cluster) could(h *host, v int) bool {
	if !h.able() || h.broken() || !h.tor.Up() || h.drained() || !h.serves(v) {
		return false
	}
	if c.broken.zk > 0 { // a standby needs no ZooKeeper, save to learn that it is drained no longer
		verdict, _ := h.verdict(v)
		if !c.knobs.Standby || h.owns(v) || verdict.Reason == daemon.ReasonMaintenance || verdict.Reason == daemon.ReasonDraining {
			return false
		}
	}
	return !c.excused(v) && !(c.knobs.First && c.pretended(v))
}

// excused says that somebody keeps a VIP for itself and is not to be found out.
func (c *cluster) excused(v int) bool {
	for _, o := range c.hosts {
		if o.python != nil && o.owns(v) || c.meddled(o, v) {
			return true
		}
		if o.owns(v) && o.frozen > 0 && !c.knobs.Keepalives && !c.knobs.Standby {
			return true
		}
		if _, has := o.tor.Route(vipOf(v)); has && o.broken() && !o.able() {
			return true // nobody can withdraw it for a process that stands still
		}
	}
	return false
}

// pretended says that the record of a node whose ExaBGP stands still says that it announces a VIP, where nobody counts keepalives.
func (c *cluster) pretended(v int) bool {
	for _, o := range c.hosts {
		if o.python == nil && o.frozen > 0 && !c.knobs.Keepalives && o.life != nil && o.records(v) {
			return true
		}
	}
	return false
}

// bound is how long a VIP may go unserved while a node could serve it. A session to end and be noticed, absences to count, the
// hold time, and ZooKeeper's client finding a server that works. One that leaves the VIP to another is no standby.
func (c *cluster) bound(leaves bool) time.Duration {
	k := &c.knobs
	if c.broken.isolated && k.Refusals == 0 { // one thing happened, and nothing for long before it
		session := k.SessionTimeout + 2*k.ServerTick
		if k.Standby && !leaves {
			session = 0 // the others announce it already
		}
		return max(session, k.HoldTime+2*time.Second, c.detection()) + 3*time.Second + time.Duration(k.Nodes+4)*(k.Slow+4*k.Delay) + k.Propagation
	}
	return 3*k.SessionTimeout + 2*k.ServerTick + k.HoldTime + k.StartGrace + 20*time.Second + time.Duration(k.Nodes+4)*(k.Slow+slowest)
}

// served is told when another node answers for a VIP, or none.
func (c *cluster) served(v int, was vipState) {
	s := c.fabric.vips[v]
	if c.telling {
		switch {
		case s.server >= 0 && was.server < 0:
			c.note(nil, "%s is answered by %s again, after %v", vipOf(v).Addr(), nodeName(s.server), c.clock.Now().Sub(was.since))
		case s.server >= 0:
			c.note(nil, "%s is answered by %s", vipOf(v).Addr(), nodeName(s.server))
		default:
			c.note(nil, "%s is answered by nobody", vipOf(v).Addr())
		}
	}
	if s.server < 0 && c.knobs.Planned && c.at() > faultsFrom && was.server >= 0 {
		c.checkPlanned(v)
	}
	for _, h := range c.hosts {
		if h.python == nil {
			c.checkWaiting(h, v)
		}
	}
}

// checkPlanned is asked when nobody answers for a VIP although nothing happened but what operators meant. Where there is a node
// that nothing happened to for a while, that must not be.
func (c *cluster) checkPlanned(v int) {
	for _, h := range c.hosts {
		if h.python != nil && h.owns(v) {
			return // it claims before its route is heard
		}
		if h.on && h.down == 0 && !h.exabgp.Running() {
			return // it ended because its process was ended too often
		}
	}
	for _, h := range c.hosts {
		if c.clock.Now().Sub(h.dropped[v]) < c.recovery() {
			return // an operator took it away from one that may have announced it
		}
	}
	if at := 0; c.knobs.First { // SIGTERM has 1.3 s, and the first to take over may end as well just then
		for _, h := range c.hosts {
			if !c.calm(h, 3*time.Second) {
				at++
			}
		}
		if at > 1 {
			return
		}
	}
	for _, h := range c.hosts {
		if h.python == nil && c.calm(h, 30*time.Second) && h.serves(v) && h.able() && h.tor.Up() && !h.broken() && !h.drained() {
			c.violate("planned", "nobody answers for %s, nothing happened but what was planned, and nothing to %s", vipOf(v).Addr(), h.conf.Node)
			return
		}
	}
}

// moved is told of every route that a ToR hears of or loses.
func (c *cluster) moved(h *host, v int, has bool, med uint32) {
	if c.telling {
		if has {
			c.note(h, "its ToR has %s with MED %d", vipOf(v).Addr(), med)
		} else {
			c.note(h, "its ToR has no %s", vipOf(v).Addr())
		}
	}
	if has {
		if h.routed[v].IsZero() {
			h.routed[v] = c.clock.Now()
		}
		c.checkGhost(h, v)
	} else {
		h.routed[v] = time.Time{}
		c.checkLast(h, v)
	}
	for _, o := range c.hosts {
		if o.python == nil {
			c.checkVoid(o, v)
			c.checkBeside(o, v)
			c.checkSecond(o, v)
		}
	}
	// One that starts while all come back may begin what it ends after overlap, in which ZooKeeper may be away once more.
	young := c.knobs.Overlap + 3*time.Second
	switch {
	case c.knobs.Still && c.at() > faultsFrom && !(c.broken.lastZK.Sub(h.life.began) < young && c.clock.Now().Sub(c.broken.lastZK) < young):
		c.violate("still", "the route of %s to %s moved, and nothing happened to any node", h.conf.Node, vipOf(v).Addr())
	case c.at() > settledBy:
		c.violate("steady", "the route of %s to %s moved, and nothing has happened for long", h.conf.Node, vipOf(v).Addr())
	}
}

// checkLast is asked when a ToR has lost a route. A node that is as it should be must not withdraw the last one of a VIP while
// nothing happens to anybody else: who it withdraws for must be there.
func (c *cluster) checkLast(h *host, v int) {
	verdict, ok := h.verdict(v)
	if !ok || !h.able() || h.drained() || h.life.leaving || !h.life.known.stopped.IsZero() || verdict.Action != daemon.Withdraw || verdict.Reason == daemon.ReasonZooKeeperLost || verdict.Reason == daemon.ReasonStopping || c.at() < faultsFrom {
		return
	}
	if h.broken() || verdict.Reason == daemon.ReasonUnhealthy {
		// As a last resort it would go on, if it has read what the others do, and long enough after a loss for absences to count.
		// Without replies these may say that they announce what their ExaBGP has not read yet.
		if !c.knobs.LastResort || !c.knobs.Acks || c.clock.Now().Before(h.life.known.settle) || !h.life.known.peers || c.broken.zk > 0 || c.clock.Now().Sub(c.broken.lastZK) < c.recovery() {
			return
		}
	}
	if c.excused(v) || c.pretended(v) || c.clock.Now().Sub(h.unmarked) < 2*time.Second {
		return
	}
	if verdict.Reason == daemon.ReasonMaintenance && h.life.known.marked && (c.broken.zk > 0 || c.clock.Now().Sub(c.broken.lastZK) < c.recovery()) {
		return // it may not have heard that its drain is over, and it may not know that it hears nothing
	}
	for _, o := range c.hosts {
		if _, has := o.tor.Route(vipOf(v)); has {
			return
		}
		if o != h && (o.python != nil || o.slow > 0 || !c.calm(o, 2*c.knobs.SessionTimeout+10*time.Second)) {
			return // a slow ExaBGP acknowledges what it sends a second later
		}
		if o != h && !c.knobs.Acks && o.says(v) {
			return // without replies what it says may not have been read by its ExaBGP yet
		}
	}
	c.violate("last", "%s withdrew the last route to %s (%v), and nothing happened to any other node", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
}

// checkGhost is asked when a ToR has heard of a route. What was withdrawn long ago must not come back, with a new session say.
func (c *cluster) checkGhost(h *host, v int) {
	if since := h.idled[v]; h.python == nil && !since.IsZero() && !c.meddled(h, v) && h.alive() && c.clock.Now().Sub(since) > c.writing(h) {
		c.violate("ghost", "the ToR of %s hears of %s, which exazk decided to withdraw %v ago", h.conf.Node, vipOf(v).Addr(), c.clock.Now().Sub(since))
	}
}

// decided is told of every step of a core.
func (c *cluster) decided(h *host, ev daemon.Event, before, d daemon.Decision) {
	c.result.Steps++
	differs := len(before.Why) != len(d.Why)
	for i := range d.Why {
		if i < len(before.Why) && before.Why[i].VIP == d.Why[i].VIP && before.Why[i].Verdict == d.Why[i].Verdict {
			continue
		}
		differs = true
		v := slices.Index(c.names, d.Why[i].VIP)
		was, _ := verdictOf(&before, v, d.Why[i].VIP)
		if was == d.Why[i].Verdict {
			continue // the VIP before it came or went
		}
		c.judge(h, v, was, d.Why[i].Verdict)
		if c.telling {
			c.note(h, "%s: %v", d.Why[i].VIP, d.Why[i].Verdict)
		}
	}
	if c.telling {
		c.tellEvent(h, ev)
	}
	if _, told := ev.(daemon.FromHealth); differs || told {
		c.checkSick(h, &d)
	}
	if differs {
		h.changed()
	}
}

func (c *cluster) tellEvent(h *host, ev daemon.Event) {
	switch ev := ev.(type) {
	case daemon.FromHealth:
		c.note(h, "check: %v", ev.State)
	case daemon.FromZooKeeper:
		if s, ok := ev.Event.(zkstate.SessionChanged); ok {
			c.note(h, "ZooKeeper: %v%s", s.State, map[bool]string{true: " after a loss"}[s.AfterLoss])
		}
	case daemon.FromExaBGP, daemon.FromLink, daemon.Stop:
		c.note(h, "%T %+v", ev, ev)
	}
}

// wrote is told of every text that is written to ExaBGP.
func (c *cluster) wrote(h *host, text []byte) {
	if c.telling {
		c.note(h, "> %s", strings.TrimSpace(string(text)))
	}
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		if len(words) < 3 || string(words[1]) != "route" {
			continue
		}
		c.checkPipe(h, line)
		p, err := netip.ParsePrefix(string(words[2]))
		if err != nil {
			c.violate("configured-only", "%s wrote %q", h.conf.Node, line)
			continue
		}
		v, ok := c.vipAt(p)
		if !ok {
			c.violate("configured-only", "%s wrote %q, which nobody configured", h.conf.Node, line)
		} else if h.life.reloads.quiet[v] && !c.meddled(h, v) {
			c.violate("reload", "%s wrote %q after a reload that did not change it", h.conf.Node, line)
		}
	}
}

// replyTimeout is how long exabgp.Writer waits for a reply before it gives one up.
const replyTimeout = 3 * time.Second

// checkPipe: one command is in flight at a time where ExaBGP answers, and none is needed when nothing has happened for long.
func (c *cluster) checkPipe(h *host, line []byte) {
	l := h.life
	now := c.clock.Now()
	frozen := h.frozen > 0 || now.Sub(h.thawed) < 15*time.Second // one that is silent for long is taken for 3.4, which never answers
	if c.knobs.Acks && !frozen && l.unanswered && now.Sub(l.commanded) < replyTimeout {
		c.violate("pipe", "%s wrote %q while another command was in flight", h.conf.Node, line)
	}
	l.unanswered, l.commanded = true, now
	if c.at() > settledBy {
		c.violate("idle", "%s wrote %q, and nothing has happened for long", h.conf.Node, line)
	}
}

// called is told of every request to ZooKeeper: a claim must not precede its route.
func (c *cluster) called(l *life, call zkstate.Call) {
	if c.telling {
		c.note(l.h, "zk %v %s %s", call.Op, call.Path, clip(call.Data))
	}
	switch call.Op {
	case zkstate.OpCreate, zkstate.OpSet, zkstate.OpDelete, zkstate.OpRemove, zkstate.OpReplace:
		if c.at() > settledBy {
			c.violate("idle", "%s asked ZooKeeper to %v %s, and nothing has happened for long", l.h.conf.Node, call.Op, call.Path)
		}
	}
	l.h.lookAtTor()
	name, isClaim := strings.CutPrefix(call.Path, claimsPath+"/")
	if !isClaim {
		return
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		c.violate("claim", "%s claims %q", l.h.conf.Node, name)
		return
	}
	v, ok := c.vipAt(netip.PrefixFrom(addr, 32))
	if ok && call.Op == zkstate.OpExists {
		return // it only looks
	}
	if !ok || !l.h.owns(v) {
		c.violate("claim", "%s claims %s, which it does not own", l.h.conf.Node, name)
		return
	}
	if r := &l.reloads; r.claim != 0 && r.claim == l.session && v == l.h.n && call.Op != zkstate.OpGet && call.Op != zkstate.OpExists && c.broken.zk == 0 {
		if _, owner, there := c.zk.Read(call.Path); there && owner == r.claim { // else it was given up before, and that took its time
			c.violate("reload", "%s asked ZooKeeper to %v its claim, which it held, after a reload", l.h.conf.Node, call.Op)
		}
	}
	switch call.Op {
	case zkstate.OpGet:
		k := &l.looks[v]
		k.tags[k.next%len(k.tags)] = call.Tag
		k.next++
		return
	case zkstate.OpDelete:
		c.checkTaken(l, v)
		return
	case zkstate.OpReplace:
		c.checkTaken(l, v)
	case zkstate.OpCreate:
	default:
		return
	}
	if l.orphaned() {
		return // it finds the end of its ExaBGP in a moment, and its session goes with it
	}
	c.checkClaimHeard(l.h, name)
	if !c.answers(l.h) || l.h.holds(v) || c.meddled(l.h, v) {
		return // accepted once written, and it may not have been read; or its end was not heard of yet
	}
	c.violate("claim", "%s claims %s before ExaBGP has its route", l.h.conf.Node, name)
}

// checkTaken is asked before a node deletes a claim: it has looked, and that look said that the claim is its own, or its last life's.
func (c *cluster) checkTaken(l *life, v int) {
	if data := l.looks[v].data; !bytes.Contains(data, []byte(`"`+l.h.conf.Node+`"`)) {
		c.violate("claim", "%s deletes the claim on %s, which is another's: %q", l.h.conf.Node, c.names[v], clip(data))
	}
}

// checkClaimHeard: ExaBGP, or exazk itself where it sees the link or counts keepalives, finds out within the hold time that there
// is no session, and tells or is asked each second. A claim later than that is not heard by anybody.
func (c *cluster) checkClaimHeard(h *host, name string) {
	down := c.clock.Now().Sub(h.torDown)
	bound := c.knobs.HoldTime + 3*time.Second
	if !c.knobs.Changes {
		bound += c.writing(h)
	}
	if c.knobs.Links && h.torDown.Equal(h.pulled) && h.life.began.Before(h.pulled) && h.life.resumed.Before(h.pulled) && h.thawed.Before(h.pulled) && h.frozen == 0 && down > 100*time.Millisecond {
		c.violate("claim", "%s claims %s, and its link has been down since its session came up", h.conf.Node, name)
	}
	if !h.torDown.IsZero() && down > bound && c.clock.Now().Sub(h.life.resumed) > bound && c.clock.Now().Sub(h.thawed) > bound && h.frozen == 0 {
		c.violate("claim", "%s claims %s, and its ToR has had no session for %v", h.conf.Node, name, down)
	}
}

func clip(b []byte) string {
	if len(b) > 60 {
		return string(b[:60]) + "..."
	}
	return string(b)
}

// treeChanged is told of every change in ZooKeeper.
func (c *cluster) treeChanged(path string) {
	if c.telling && !strings.HasPrefix(path, statusPath) {
		_, owner, there := c.zk.Read(path)
		c.note(nil, "znode %s: there %v, owner %#x", path, there, owner)
	}
	if name, ok := strings.CutPrefix(path, claimsPath+"/"); ok {
		for v := range c.names {
			if c.names[v] == name {
				c.claimed[v] = c.clock.Now()
				if h := c.hosts[v]; h.python == nil && h.life != nil {
					c.checkClaim(h)
				}
			}
		}
	}
	if name, ok := strings.CutPrefix(path, statusPath+"/"); ok {
		if _, _, there := c.zk.Read(path); !there {
			for _, h := range c.hosts {
				if h.conf.Node == name {
					h.mourned = c.clock.Now()
				}
			}
		}
	}
	if strings.HasPrefix(path, maintenancePath) {
		for _, h := range c.hosts {
			if strings.HasSuffix(path, "/"+h.conf.Node) {
				if there := h.drained(); there != h.marked {
					h.marked = there
					switch now := c.clock.Now(); {
					case !there:
						h.unmarked = now
					case now.Sub(h.unmarked) > 2*time.Second: // else the node may not have seen that it was away
						h.flagged, h.marks = now, now
					default:
						h.marks = now
					}
				}
				c.broken.lastNode[h.n] = c.clock.Now()
				h.changed()
			}
		}
	}
}

// checkSteady is asked when nothing has happened for long: every owner announces and claims its VIP, and nobody else does.
func (c *cluster) checkSteady() {
	for v := range c.knobs.Nodes {
		announcers := 0
		for _, h := range c.hosts {
			r, has := h.tor.Route(vipOf(v))
			if has {
				announcers++
			}
			verdict, _ := h.verdict(v)
			switch {
			case !has && h.owns(v) && !c.knobs.shared(v):
				c.violate("settled", "%s does not announce its own %s (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
			case has && !h.owns(v) && h.python != nil: // a route of its last life, of which it knows nothing
				announcers--
			case !h.owns(v) && c.knobs.Standby && h.serves(v):
				announcers--
				if want := h.med(v, verdict); !has || r.MED != want || verdict.Reason != daemon.ReasonStandby {
					c.violate("settled", "%s is a standby of %s, and its ToR has route %v, MED %d, not %d (%v)", h.conf.Node, vipOf(v).Addr(), has, r.MED, want, verdict.Verdict)
				}
			case has && !h.owns(v):
				c.violate("settled", "%s announces %s, which is not its own (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
			case has && r.MED != 100:
				c.violate("settled", "%s announces its own %s with MED %d", h.conf.Node, vipOf(v).Addr(), r.MED)
			}
		}
		if announcers != 1 && !(c.knobs.Python && c.knobs.shared(v)) { // the Python tool asks nobody
			c.violate("settled", "%s has %d announcers", vipOf(v).Addr(), announcers)
		}
		if _, owner, there := c.zk.Read(claimsPath + "/" + vipOf(v).Addr().String()); !there || owner == 0 {
			c.violate("settled", "nobody claims %s", vipOf(v).Addr())
		}
		if server := c.fabric.vips[v].server; server < 0 {
			c.violate("settled", "nobody answers for %s", vipOf(v).Addr())
		} else if !c.knobs.owns(server, v) && !c.knobs.Python {
			c.violate("settled", "%s is answered by %s, which does not own it", vipOf(v).Addr(), nodeName(server))
		}
	}
	for _, h := range c.hosts {
		if _, _, there := c.zk.Read(failbackPath + "/" + h.conf.Node); there && h.python == nil {
			c.violate("settled", "%s has not obeyed the operator's word to take its VIPs back", h.conf.Node)
		}
	}
	c.note(nil, "steady")
}
