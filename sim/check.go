package sim

import (
	"bytes"
	"net/netip"
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

// set tells whether the state holds. It may for at most bound; then late is called.
func (m *monitor) set(c *cluster, holds bool, bound time.Duration, late func()) {
	if holds == m.on {
		return
	}
	m.on = holds
	if !holds {
		c.clock.Stop(m.timer)
		m.timer = nil
		return
	}
	m.timer = c.clock.Timer(c.clock.Now().Add(bound), late)
}

// hostMonitors are what is watched of one node, each for every VIP.
type hostMonitors struct {
	sick    []monitor // a route of a node whose check fails
	drained []monitor // a route of a node that is drained
	stray   []monitor // a route at the ToR that is not what was decided, or none where one was
	waits   []monitor // a VIP that nobody serves and this node could
	void    []monitor // a VIP that nobody announces and this node should as a last resort
}

func newHostMonitors(n int) hostMonitors {
	return hostMonitors{make([]monitor, n), make([]monitor, n), make([]monitor, n), make([]monitor, n), make([]monitor, n)}
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
	able := h.able() && h.tor.Up() && c.clock.Now().After(h.life.began)
	drained := able && c.broken.zk == 0 && h.drained()
	for v := range c.knobs.Nodes {
		route, has := h.tor.Route(vipOf(v))
		verdict, decided := h.verdict(v)
		m := &h.monitors
		lastResort := decided && verdict.Reason == daemon.ReasonLastResort
		m.sick[v].set(c, able && has && h.broken() && !lastResort, c.knobs.detection()+c.writing(h), func() {
			c.violate("sick", "%s's check fails, and it still announces %s (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
		})
		m.drained[v].set(c, drained && has, c.knobs.draining()+c.writing(h), func() {
			c.violate("drained", "%s is drained, and it still announces %s (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
		})
		stray := able && decided && !h.life.leaving && (verdict.Action == daemon.Withdraw && has || verdict.Action == daemon.Announce && (!has || route.MED != h.med(verdict)))
		m.stray[v].set(c, stray, c.hearing()+c.writing(h), func() {
			verdict, _ := h.verdict(v)
			route, has := h.tor.Route(vipOf(v))
			c.violate("reason", "%s decided to %v for %s, and its ToR has route %v, MED %d", h.conf.Node, verdict.Verdict, vipOf(v).Addr(), has, route.MED)
		})
		c.checkWaiting(h, v)
		c.checkVoid(h, v)
	}
}

// checkVoid watches a VIP that nobody announces while there is a node that could as a last resort, sick or not.
func (c *cluster) checkVoid(h *host, v int) {
	void := c.knobs.LastResort && h.able() && h.tor.Up() && c.broken.zk == 0 && c.at() > faultsFrom && !h.drained() && !c.announced(v) && !c.excused(v)
	h.monitors.void[v].set(c, void, c.bound(), func() {
		verdict, _ := h.verdict(v)
		c.violate("last-resort", "nobody announces %s, and %s could as a last resort (%v)", vipOf(v).Addr(), h.conf.Node, verdict.Verdict)
	})
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
func (h *host) med(v daemon.VIPVerdict) uint32 {
	a := h.life.conf.Services[0].Announce
	switch {
	case v.Reason == daemon.ReasonLastResort, v.Reason == daemon.ReasonDraining && h.life.conf.Services[0].DrainStyle == daemon.DrainGShut:
		return a.DrainMED
	case v.Role == daemon.Backup:
		return a.BackupMED
	}
	return a.MED
}

// detection is how long a check may take to find out.
func (k *Knobs) detection() time.Duration {
	return 2*time.Second + time.Duration(k.Fall+1)*(1200*time.Millisecond)
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
	if c.broken.isolated || c.calm(h, time.Minute) {
		return time.Second + slow
	}
	return 20*time.Second + slow + time.Duration(c.knobs.Nodes+4)*time.Second
}

// hearing is how long exazk may take to learn that its session is up or down: where that is not told, by polling, and where the
// link is not watched or distrusted, up to linkTrust.
func (c *cluster) hearing() time.Duration { return 65*time.Second + c.knobs.HoldTime }

// checkWaiting watches a VIP without an answer while there is a node that could give one.
func (c *cluster) checkWaiting(h *host, v int) {
	waits := c.fabric.vips[v].server < 0 && c.at() > faultsFrom && c.could(h, v)
	h.monitors.waits[v].set(c, waits, c.bound(), func() {
		verdict, _ := h.verdict(v)
		c.violate("served", "nobody has answered for %s for %v, and %s could (%v)", vipOf(v).Addr(), c.clock.Now().Sub(c.fabric.vips[v].since), h.conf.Node, verdict.Verdict)
	})
}

// could says that a node is as it should be, and ZooKeeper with it. What another node may do without being found out is no
// fault of it: a load balancer that claims a VIP and does not serve it, because ExaBGP stands still and nobody counts
// keepalives.
func (c *cluster) could(h *host, v int) bool {
	if !h.able() || h.broken() || !h.tor.Up() || c.broken.zk > 0 || h.drained() {
		return false
	}
	return !c.excused(v)
}

// excused says that somebody keeps a VIP for itself and is not to be found out.
func (c *cluster) excused(v int) bool {
	for _, o := range c.hosts {
		if o.python != nil && o.owns(v) {
			return true
		}
		if o.owns(v) && o.frozen > 0 && !c.knobs.Keepalives {
			return true
		}
		if _, has := o.tor.Route(vipOf(v)); has && o.broken() && !o.able() {
			return true // nobody can withdraw it for a process that stands still
		}
	}
	return false
}

// bound is how long a VIP may go unserved while a node could serve it. A session to end and be noticed, absences to count, the
// hold time, and ZooKeeper's client finding a server that works.
func (c *cluster) bound() time.Duration {
	k := &c.knobs
	if c.broken.isolated { // one thing happened, and nothing for long before it
		return max(k.SessionTimeout+2*k.ServerTick, k.HoldTime+2*time.Second, k.detection()) + 3*time.Second + time.Duration(k.Nodes+4)*(k.Slow+4*k.Delay) + k.Propagation
	}
	return 3*k.SessionTimeout + 2*k.ServerTick + k.HoldTime + k.StartGrace + 20*time.Second + time.Duration(k.Nodes+4)*(k.Slow+time.Second)
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
		if h.python == nil && c.calm(h, 30*time.Second) && h.able() && h.tor.Up() && !h.broken() && !h.drained() {
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
	if !has {
		c.checkLast(h, v)
	}
	for _, o := range c.hosts {
		if o.python == nil {
			c.checkVoid(o, v)
		}
	}
	switch {
	case c.knobs.Still && c.at() > faultsFrom && !(c.clock.Now().Sub(h.life.began) < 2*time.Second && c.clock.Now().Sub(c.broken.lastZK) < 2*time.Second):
		c.violate("still", "the route of %s to %s moved, and nothing happened to any node", h.conf.Node, vipOf(v).Addr())
	case c.at() > settledBy:
		c.violate("steady", "the route of %s to %s moved, and nothing has happened for long", h.conf.Node, vipOf(v).Addr())
	}
}

// checkLast is asked when a ToR has lost a route. A node that is as it should be must not withdraw the last one of a VIP while
// nothing happens to anybody else: who it withdraws for must be there.
func (c *cluster) checkLast(h *host, v int) {
	verdict, ok := h.verdict(v)
	if !ok || !h.able() || h.broken() || h.drained() || h.life.leaving || verdict.Action != daemon.Withdraw || verdict.Reason == daemon.ReasonZooKeeperLost || verdict.Reason == daemon.ReasonUnhealthy || verdict.Reason == daemon.ReasonStopping || c.at() < faultsFrom {
		return
	}
	for _, o := range c.hosts {
		if _, has := o.tor.Route(vipOf(v)); has {
			return
		}
		if o != h && (o.python != nil || !c.calm(o, 2*c.knobs.SessionTimeout+10*time.Second)) {
			return
		}
	}
	c.violate("last", "%s withdrew the last route to %s (%v), and nothing happened to any other node", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
}

// decided is told of every step of a core.
func (c *cluster) decided(h *host, ev daemon.Event, before, d daemon.Decision) {
	c.result.Steps++
	differs := len(before.Why) != len(d.Why)
	for i := range d.Why {
		if !differs && before.Why[i].Verdict == d.Why[i].Verdict {
			continue
		}
		differs = true
		if c.telling {
			c.note(h, "%s: %v", d.Why[i].VIP, d.Why[i].Verdict)
		}
	}
	if c.telling {
		c.tellEvent(h, ev)
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
		if _, ok := c.vipAt(p); !ok {
			c.violate("configured-only", "%s wrote %q, which nobody configured", h.conf.Node, line)
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
	name, isClaim := strings.CutPrefix(call.Path, claimsPath+"/")
	if !isClaim || call.Op != zkstate.OpCreate && call.Op != zkstate.OpReplace {
		return
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		c.violate("claim", "%s claims %q", l.h.conf.Node, name)
		return
	}
	v, ok := c.vipAt(netip.PrefixFrom(addr, 32))
	if !ok || !l.h.owns(v) {
		c.violate("claim", "%s claims %s, which it does not own", l.h.conf.Node, name)
		return
	}
	if !c.knobs.Acks || !l.h.exabgp.Running() || l.h.frozen > 0 {
		return // accepted once written, and it may not have been read; or its end was not heard of yet
	}
	for _, r := range l.h.exabgp.RIB() {
		if r.Prefix == vipOf(v) {
			return
		}
	}
	c.violate("claim", "%s claims %s before ExaBGP has its route", l.h.conf.Node, name)
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
	if strings.HasPrefix(path, maintenancePath) {
		for _, h := range c.hosts {
			if strings.HasSuffix(path, "/"+h.conf.Node) {
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
			case !has && h.owns(v) && !(c.knobs.Shared && v == 0):
				c.violate("settled", "%s does not announce its own %s (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
			case has && !h.owns(v):
				c.violate("settled", "%s announces %s, which is not its own (%v)", h.conf.Node, vipOf(v).Addr(), verdict.Verdict)
			case has && r.MED != 100:
				c.violate("settled", "%s announces its own %s with MED %d", h.conf.Node, vipOf(v).Addr(), r.MED)
			}
		}
		if announcers != 1 {
			c.violate("settled", "%s has %d announcers", vipOf(v).Addr(), announcers)
		}
		if _, owner, there := c.zk.Read(claimsPath + "/" + vipOf(v).Addr().String()); !there || owner == 0 {
			c.violate("settled", "nobody claims %s", vipOf(v).Addr())
		}
		if c.fabric.vips[v].server < 0 {
			c.violate("settled", "nobody answers for %s", vipOf(v).Addr())
		}
	}
	for _, h := range c.hosts {
		if _, _, there := c.zk.Read(failbackPath + "/" + h.conf.Node); there && h.python == nil {
			c.violate("settled", "%s has not obeyed the operator's word to take its VIPs back", h.conf.Node)
		}
	}
	c.note(nil, "steady")
}
