package sim

import (
	"slices"
	"time"

	"exazk/daemon"
	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

// known is what a core was told, by the simulator's own count: what it may go by.
type known struct {
	health    health.State
	store     zkstate.State
	awake     time.Time   // the process slept until then: what was asked for before does not count
	fresh     time.Time   // when a reload changed what is to be read: what was asked for before does not count either
	ever      bool        // the claims were read in this life
	flag      bool        // and so was the maintenance node
	marked    bool        // which was there
	claims    bool        // the claims were read since ZooKeeper was last away, and since the process last slept
	peers     bool        // and so were the status records
	first     bool        // the next reading of the claims is the first one of a new session
	session   int64       // the newest
	read      []bool      // by VIP: its claim was read since it was configured
	seen      []time.Time // by VIP: since when every reading shows that another node claims it; zero if none does
	blank     bool        // ExaBGP does not tell of its neighbors
	settle    time.Time   // absences may not count before: all sessions may have been lost
	unsettled bool        // ZooKeeper went away again before
	away      time.Time   // since when ZooKeeper is suspended
	lostAt    time.Time   // since when it is lost
	stopped   time.Time   // when it was told to stop
}

func newKnown(vips int) known {
	return known{seen: make([]time.Time, vips), read: make([]bool, vips)}
}

// look is a claim as it was read last. Several readings may be on their way.
type look struct {
	tags [4]zkstate.Tag
	next int // of tags, to be written over
	data []byte
}

// told notes what the core is about to be told.
func (l *life) told(ev daemon.Event) {
	k := &l.known
	switch ev := ev.(type) {
	case daemon.FromHealth:
		k.health = ev.State
	case daemon.Stop:
		if k.stopped.IsZero() {
			k.stopped = l.now()
		}
	case daemon.FromExaBGP:
		switch ev.Event.(type) {
		case exabgp.TrackingUnavailable:
			k.blank = true
		case exabgp.NeighborChanged, exabgp.NeighborsListed:
			k.blank = false
		}
	case daemon.FromZooKeeper:
		l.toldByZooKeeper(ev.Event)
	}
}

func (l *life) toldByZooKeeper(ev zkstate.Event) {
	k := &l.known
	switch ev := ev.(type) {
	case zkstate.SessionChanged:
		if ev.State == zkstate.Suspended {
			k.away = l.now()
			since := k.away
			l.after(ev.Timeout+time.Second, func() {
				if k.store == zkstate.Suspended && k.away.Equal(since) && l.up.Before(since.Add(-time.Second)) && l.resumed.Before(since) {
					l.h.c.violate("timely", "%s has not been told that ZooKeeper is lost, %v after its connection", l.h.conf.Node, ev.Timeout+time.Second)
				}
			})
		}
		slept, away := l.now().Sub(k.awake) < ev.Timeout, l.now().Sub(k.away)
		if l.now().Sub(l.resumed) < ev.Timeout {
			away += l.resumed.Sub(l.halted) // it counts the time for which the process slept, however short
		}
		if ev.State == zkstate.Lost && !slept && l.session == k.session && l.expired != l.session && away < ev.Timeout/2 {
			l.h.c.violate("lost", "%s is told that ZooKeeper is lost, and it has been away for %v only", l.h.conf.Node, away)
		}
		late := k.session == 0 && l.now().Sub(l.began) > 900*time.Millisecond
		if ev.State == zkstate.Connected && (ev.AfterLoss || late || k.unsettled) {
			k.settle = l.now().Add(ev.Timeout + ev.Timeout/2 + 2*time.Second)
		}
		k.unsettled = ev.State != zkstate.Connected && (k.unsettled || l.now().Before(k.settle))
		if k.store = ev.State; k.store == zkstate.Lost {
			l.loses()
		}
		if ev.State != zkstate.Connected {
			k.void()
		}
		if ev.State == zkstate.Connected && ev.ID != k.session {
			k.session, k.first = ev.ID, true
		}
	case zkstate.ClaimsRead:
		if k.first {
			k.first = false
			l.checkFirst(ev)
		}
		if !k.old(ev.Began) {
			l.see(ev)
		}
	case zkstate.MaintenanceRead:
		k.flag = true
		if !k.old(ev.Began) {
			k.marked = ev.Present
		}
	case zkstate.PeersRead:
		k.peers = k.peers || !k.old(ev.Began)
	}
}

// loses has it looked whether on_zk_loss is obeyed, and not before zk_loss_after.
func (l *life) loses() {
	k, s, c := &l.known, &l.conf.Services[0], l.h.c
	k.lostAt = l.now()
	since := k.lostAt
	if s.OnZKLoss == daemon.PolicyHold || s.Backup == daemon.BackupStandby {
		return
	}
	l.after(s.ZKLossAfter+time.Second, func() {
		if k.store != zkstate.Lost || !k.lostAt.Equal(since) || !l.resumed.Before(since) || l.leaving {
			return
		}
		for v, name := range c.names {
			verdict, _ := l.h.verdict(v)
			switch verdict.Reason {
			case daemon.ReasonUnclaimed, daemon.ReasonClaimed, daemon.ReasonOutranked, daemon.ReasonOverlap, daemon.ReasonClaimsStale, daemon.ReasonClaimsUnread:
				if !l.h.owns(v) {
					c.violate("loss", "ZooKeeper is lost for longer than zk_loss_after, on_zk_loss is %s, and %s decided to %v for %s", s.OnZKLoss, l.h.conf.Node, verdict.Verdict, name)
				}
			}
		}
	})
}

// old says whether the core does not count what was asked for then.
func (k *known) old(began time.Time) bool { return began.Before(k.awake) || began.Before(k.fresh) }

// void forgets what may be old by now.
func (k *known) void() {
	k.claims, k.peers = false, false
	clear(k.seen)
}

func (l *life) see(ev zkstate.ClaimsRead) {
	k := &l.known
	k.ever, k.claims = true, true
	for v := range k.seen {
		k.read[v] = true
		holder := ev.Claims[l.h.c.names[v]].Holder
		switch {
		case holder == zkstate.Absent, holder == zkstate.Squatted, l.h.owns(v) && holder != zkstate.Foreign:
			k.seen[v] = time.Time{}
		case k.seen[v].IsZero():
			k.seen[v] = l.now()
		}
	}
}

// checkFirst: what a new session reads first is not older than the session. A server that is behind may say what was true before,
// and the session before may have read something newer from another one.
func (l *life) checkFirst(ev zkstate.ClaimsRead) {
	c := l.h.c
	for v, name := range c.names {
		if _, asked := ev.Claims[name]; !asked {
			continue
		}
		_, _, there := c.zk.Read(claimsPath + "/" + name)
		if said := ev.Claims[name].Holder != zkstate.Absent; said != there && c.claimed[v].Before(l.connected) {
			c.violate("fresh", "the first reading in a new session of %s says %v of the claim on %s, and that has not been so since before the session", l.h.conf.Node, said, name)
		}
	}
}

// hears says whether the core knows of a neighbor that hears it, or that it cannot know.
func (l *life) hears(st *zkstate.Status) bool {
	if l.known.blank {
		return true
	}
	for i := range st.Neighbors {
		if st.Neighbors[i].State == "up" {
			return true
		}
	}
	return false
}

// judge holds a new verdict against what its core was told. A verdict says what it goes by; that must be so.
func (c *cluster) judge(h *host, v int, was, is daemon.Verdict) {
	if lacks := h.life.lacks(v, was, is); lacks != "" {
		c.violate("blind", "%s decided to %v for %s, after %v, and %s", h.conf.Node, is, vipOf(v).Addr(), was, lacks)
	}
	if is.Reason == daemon.ReasonMaintenance && was.Action == daemon.Announce {
		c.checkHandover(h, v)
	}
	if was.Action != is.Action {
		c.checkRestless(h, v)
	}
}

// restless is how often a node may change its mind about a VIP within restlessWithin while nothing happens to anybody.
const (
	restless       = 6
	restlessWithin = 10 * time.Second
)

// checkRestless is asked when a node begins or ends to announce. Nodes that go by each other's records must come to rest.
func (c *cluster) checkRestless(h *host, v int) {
	now := c.clock.Now()
	turns := &h.turns[v]
	*turns = append(*turns, now)
	if len(*turns) < restless {
		return
	}
	first := (*turns)[0]
	*turns = slices.Delete(*turns, 0, 1)
	if now.Sub(first) > restlessWithin || c.broken.zk > 0 || now.Sub(c.broken.lastZK) < restlessWithin {
		return
	}
	for _, o := range c.hosts {
		if !c.calm(o, restlessWithin) {
			return
		}
	}
	c.violate("restless", "%s has changed its mind about %s %d times in %v, and nothing has happened", h.conf.Node, vipOf(v).Addr(), restless, now.Sub(first))
}

// lacks says what a verdict is missing; "" if nothing.
func (l *life) lacks(v int, was, is daemon.Verdict) string {
	k, s := &l.known, &l.conf.Services[0]
	gives := was.Action == daemon.Announce && is.Action == daemon.Withdraw
	late := l.now().Sub(l.began) >= s.StartGrace
	switch is.Reason {
	case daemon.ReasonUnhealthy:
		return unless(k.health == health.Unhealthy, "its check does not fail")
	case daemon.ReasonLastResort:
		begins := was.Action != daemon.Announce || was.Reason != daemon.ReasonLastResort
		return unless(k.health == health.Unhealthy && (k.peers || !begins), "it has not read who else announces it")
	case daemon.ReasonHealthUnknown:
		return unless(is.Action == daemon.Hold || late, "start_grace is not over")
	case daemon.ReasonMaintenanceUnknown, daemon.ReasonClaimsUnread:
		return unless(is.Action == daemon.Hold, "it knows nothing")
	case daemon.ReasonOverlap, daemon.ReasonClaimsStale, daemon.ReasonDraining:
		return unless(is.Action == was.Action, "nothing was to change")
	case daemon.ReasonZooKeeperLost:
		since := k.lostAt
		if k.store == zkstate.Connecting {
			since = l.began.Add(s.StartGrace)
		}
		lost := (k.store == zkstate.Lost || k.store == zkstate.Connecting && late) && l.now().Sub(since) >= s.ZKLossAfter
		return unless(lost && l.h.c.knobs.OnZKLoss == is.Action.String(), "ZooKeeper is not lost for long enough, or that is to change nothing")
	case daemon.ReasonStopping:
		return unless(!k.stopped.IsZero(), "it was not told to stop")
	case daemon.ReasonAuthoritative:
		return unless(was.Action != daemon.Hold || late || k.ever && k.flag, "it does not know yet whether it is drained, and who claims that")
	case daemon.ReasonClaimed, daemon.ReasonConflict:
		if gives { // the shorter overlap, if a reload has made it longer since: what counts by then goes on to count
			return unless(!k.seen[v].IsZero() && !l.now().Before(k.seen[v].Add(min(s.Overlap, l.h.c.knobs.Overlap))), "it has not seen that claimed for overlap since ZooKeeper was last away or it slept")
		}
		return unless(k.read[v] && (k.claims || was.Action != daemon.Hold || was.Reason != daemon.ReasonOverlap), "it has not read the claims, or not since ZooKeeper was last away")
	case daemon.ReasonUnclaimed:
		return unless(k.read[v], "it has never read the claims")
	case daemon.ReasonStandby:
		return unless(k.flag || late, "it does not know yet whether it is drained")
	case daemon.ReasonOutranked:
		return unless(k.read[v] && (!gives || k.peers), "it has not read who claims or announces it")
	case daemon.ReasonMaintenance:
		st := statusOf(&l.last)
		return unless(!gives || k.peers || !l.hears(st), "it has not read who takes over since ZooKeeper was last away or it slept")
	}
	return unless(!gives || k.peers, "it has not read who else announces it since ZooKeeper was last away or it slept")
}

// noStatus is the status record before the first decision.
var noStatus zkstate.Status

// statusOf is the status record that a decision wants.
func statusOf(d *daemon.Decision) *zkstate.Status {
	if st := d.Want.Statuses[serviceName]; st != nil {
		return st
	}
	return &noStatus
}

// routeIn is what a status record says of a VIP.
func routeIn(st *zkstate.Status, v int, name string) zkstate.StatusRoute {
	if i := place(len(st.Routes), v, name, func(i int) string { return st.Routes[i].VIP }); i >= 0 {
		return st.Routes[i]
	}
	return zkstate.StatusRoute{}
}

func unless(ok bool, lacks string) string {
	if ok {
		return ""
	}
	return lacks
}

// checkSick: whoever knows that its check fails announces nothing, save as a last resort.
func (c *cluster) checkSick(h *host, d *daemon.Decision) {
	if h.life.known.health != health.Unhealthy {
		return
	}
	for i := range d.Why {
		if v := &d.Why[i]; v.Action == daemon.Announce && v.Reason != daemon.ReasonLastResort {
			c.violate("sick", "%s knows that its check fails, and decided to %v for %s", h.conf.Node, v.Verdict, v.VIP)
		}
	}
}

// checkHandover is asked when a node that is drained gives a VIP up. Before drain_timeout it may do so only for one that announces
// it, has done so for some time, and is not drained itself. Who took over may have failed since, and its record lives
// as long as its session: so nothing must have happened to any other node for longer than that, save drains, or its record must have gone. Records take a
// moment: a drain of the other that began within the last two seconds may not have been known.
func (c *cluster) checkHandover(h *host, v int) {
	now, s := c.clock.Now(), &h.life.conf.Services[0]
	st := statusOf(&h.life.last)
	if c.broken.zk > 0 || now.Sub(c.broken.lastZK) < c.recovery() || !h.drained() || now.Sub(h.flagged) >= s.DrainTimeout || !h.life.hears(st) || !h.able() || !h.tor.Up() || c.pretended(v) {
		return
	}
	for _, o := range c.hosts {
		if o == h {
			continue
		}
		if o.slow > 0 {
			return // its ExaBGP acknowledges what it sends a second later
		}
		if o.python != nil || now.Sub(c.broken.hurt[o.n]) < c.recovery() && !c.dead(o) {
			return
		}
		_, has := o.tor.Route(vipOf(v))
		if now.Sub(o.dropped[v]) < c.recovery() {
			return // it was taken away from it meanwhile
		}
		if has && !o.broken() && now.Sub(o.routed[v]) >= s.Overlap/2 && !(o.drained() && now.Sub(o.marks) > 2*time.Second) {
			return
		}
	}
	c.violate("handover", "%s is drained and gives %s up before drain_timeout, and no node has announced it for overlap", h.conf.Node, vipOf(v).Addr())
}

// dead says that a node's status record has gone, so long ago that everybody has read so.
func (c *cluster) dead(o *host) bool {
	_, _, there := c.zk.Read(statusPath + "/" + o.conf.Node)
	return !there && c.clock.Now().Sub(o.mourned) > 3*time.Second
}

// recovery is after what time all know of a failure, of ZooKeeper's too, and have done what is to be done about it.
func (c *cluster) recovery() time.Duration { return 2*c.knobs.SessionTimeout + 10*time.Second }

// wants is told when something else should lie in ZooKeeper. A status record says that the node announces a VIP: then ExaBGP has
// acknowledged the route, and some neighbor hears it.
func (c *cluster) wants(h *host, before, d *daemon.Decision) {
	was, is := statusOf(before), statusOf(d)
	c.checkPending(h, is)
	heard := h.life.hears(is)
	for v := range c.names {
		if !routeIn(is, v, c.names[v]).Announced {
			continue
		}
		if !heard {
			c.violate("record", "%s's record says that it announces %s, and it knows that no neighbor hears it", h.conf.Node, vipOf(v).Addr())
		}
		if routeIn(was, v, c.names[v]).Announced || !c.answers(h) || h.holds(v) || c.meddled(h, v) {
			continue
		}
		c.violate("record", "%s's record says that it announces %s before ExaBGP has its route", h.conf.Node, vipOf(v).Addr())
	}
}

// answers says that what a host's ExaBGP has acknowledged it has: it replies, and has not ended without exazk knowing yet.
func (c *cluster) answers(h *host) bool {
	return c.knobs.Acks && h.exabgp.Running() && h.frozen == 0
}

// holds says whether a host's ExaBGP has the route to a VIP.
func (h *host) holds(v int) bool {
	for _, r := range h.exabgp.RIB() {
		if r.Prefix == vipOf(v) {
			return true
		}
	}
	return false
}

// stopLimit is daemon's bound for the withdraws of a process that was told to stop.
const stopLimit = 1500 * time.Millisecond

// leaves is told when a process decides to end. Before stopLimit nothing of what it announced must be left.
func (c *cluster) leaves(h *host, exit daemon.Exit) {
	k := &h.life.known
	if exit != daemon.Leave || k.stopped.IsZero() || c.clock.Now().Sub(k.stopped) >= stopLimit || !c.answers(h) {
		return
	}
	for v := range c.names {
		if h.holds(v) && !c.meddled(h, v) {
			c.violate("exit", "exazk of %s ends, and ExaBGP still has its route to %s", h.conf.Node, vipOf(v).Addr())
		}
	}
}

// checkRelearned is asked some time after the process slept until then: what it read before was void, and must have been read again,
// also where nothing has changed.
func (l *life) checkRelearned(since time.Time) {
	c, k := l.h.c, &l.known
	calm := c.broken.zk == 0 && c.clock.Now().Sub(c.broken.lastZK) > relearns+c.recovery() && !l.leaving && l.resumed.Equal(since)
	if calm && k.store == zkstate.Connected && l.connected.Before(since) && !(k.claims && k.peers) {
		c.violate("fresh", "%s slept, and has not read everything again since", l.h.conf.Node)
	}
}

// checkGrace is asked a moment after start_grace: what is unknown by then is waited for no longer. Save the
// claims of others' VIPs, and what becomes of a VIP while the node is drained.
func (l *life) checkGrace() {
	if l.now().Sub(l.resumed) < graceSlack { // it was stopped, perhaps before its first step, from which the core counts
		l.after(l.conf.Services[0].StartGrace+graceSlack, l.checkGrace)
		return
	}
	for v := range l.h.c.names {
		verdict, decided := l.h.verdict(v)
		if !decided || verdict.Action != daemon.Hold || l.leaving || !l.known.stopped.IsZero() {
			continue
		}
		switch verdict.Reason {
		case daemon.ReasonMaintenanceUnknown, daemon.ReasonClaimsUnread:
			if !l.h.owns(v) {
				continue
			}
		case daemon.ReasonHealthUnknown:
		default:
			continue
		}
		l.h.c.violate("grace", "%s still does not know what to do with %s after start_grace: %v", l.h.conf.Node, l.h.c.names[v], verdict.Verdict)
	}
}
