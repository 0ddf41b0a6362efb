package mutants

// What a mutant is expected to break: the words are the simulator's.
const (
	served     = "served: a VIP that somebody could serve has no announcer for longer than it takes to notice a failure"
	sick       = "sick: a node whose check fails does not announce"
	drained    = "drained: a node that is drained does not announce"
	settled    = "settled: some time after the last fault each VIP has exactly one announcer, and its claim a holder"
	still      = "still: while nothing happens to any node no route moves, whatever happens to ZooKeeper and to exazk's process"
	unrest     = "restless: nodes that go by each other's records come to rest"
	last       = "last: a node does not withdraw the last route of a VIP while nothing happens to any other"
	blind      = "blind: no verdict goes by what was not read, or not since ZooKeeper was away or the process slept"
	handedOver = "handover: before drain_timeout a node gives a VIP up only for one that has announced it for a while, and goes on"
	claim      = "claim: only owners claim, only what a router hears from them, and they delete no claim but their own"
	kept       = "kept: a node that should not serve, or that nobody hears, gives its claim up"
	record     = "record: a status record says that a VIP is announced only where ExaBGP has the route and a neighbor hears it"
	reason     = "reason: what the router has is what was decided, and ExaBGP has acknowledged it"
	ghost      = "ghost: what was withdrawn long ago does not come back"
	exit       = "exit: a process that ends leaves no route behind"
	overdue    = "overdue: a maintenance whose time is over is removed"
	grace      = "grace: after start_grace what is unknown is not waited for"
	fresh      = "fresh: a new session, and a process that slept, know what is true now"
	lost       = "lost: ZooKeeper is lost only after a session timeout, or with the session"
	check      = "check: the results of the check are counted right"
	pipe       = "pipe: one command for ExaBGP is in flight at a time"
	busy       = "busy: no process steps without end at one instant"
	timely     = "timely: a step that comes before Wake, with news that does not matter, decides nothing new"
	idle       = "idle: when nothing has happened for long nothing is written"
	reload     = "reload: a reload moves no route and no claim but those of what changed"
	removed    = "removed: a VIP that was taken out of the configuration is withdrawn"
	first      = "first: with backups = \"first\" one backup announces"
	loss       = "loss: on_zk_loss is obeyed when zk_loss_after has passed"
	drift      = "drift: a route that was changed by hand is what was decided again in time"
	planned    = "planned: nobody notices what operators mean"
)

// All lists the mutants, those of one package next to each other. It is made anew for each caller.
func All() []Mutant {
	var all []Mutant
	for _, some := range [][]Mutant{policy(), knowledge(), timers(), handover(), neighbors(), routes(), writer(), looks(), session(), readings(), checks(), ranks(), reloads()} {
		all = append(all, some...)
	}
	return all
}

// policy is about what the core decides from what it knows.
func policy() []Mutant {
	const file = "daemon/core.go"
	return []Mutant{
		{
			Name: "unknown-health-is-sick", File: file, Expect: blind,
			What: "a respawned node withdraws what it holds before its check has said anything: each restart is an outage",
			Old:  `case f.Health == health.Unknown && f.StartOver:`,
			New:  `case f.Health == health.Unknown:`,
		},
		{
			Name: "unread-claims-are-held", File: file, Expect: blind,
			What: "a respawned backup withdraws the VIP of a dead owner before it has read the claims",
			Old:  `return Verdict{Hold, Backup, ReasonClaimsUnread}`,
			New:  `return Verdict{Withdraw, Backup, ReasonClaimsUnread}`,
		},
		{
			Name: "unread-claims-are-absent", File: file, Expect: blind,
			What: "a node that starts announces the VIPs of all others until it has read their claims",
			Old:  `return Verdict{Hold, Backup, ReasonClaimsUnread}`,
			New:  `return Verdict{Announce, Backup, ReasonUnclaimed}`,
		},
		{
			Name: "unread-maintenance-is-absent", File: file, Expect: blind,
			What: "a drained node that restarts announces its own VIPs until it has read its maintenance node",
			Old:  `case f.Maintenance == PresenceUnknown && !f.StartOver:`,
			New:  `case f.Maintenance == PresenceUnknown && f.Claim == ClaimUnread && !f.StartOver:`,
		},
		{
			Name: "sick-without-zookeeper", File: file, Expect: sick,
			What: "a node whose check fails goes on announcing while ZooKeeper is lost: a black hole",
			Old:  `case f.Health == health.Unhealthy:`,
			New:  `case f.Health == health.Unhealthy && !f.ZooKeeperLost:`,
		},
		{
			Name: "last-resort-beside-healthy", File: file, Expect: sick,
			What: "a last resort does not end when a healthy node announces: some users go on reaching the sick one",
			Old:  `case OthersLesser:`,
			New:  `case OthersLesser, OthersServe:`,
		},
		{
			Name: "last-resort-blind", File: file, Expect: blind,
			What: "a sick node that cannot see the others believes that it is the last one, and announces",
			Old:  `return f.Last == Announce && f.LastReason == ReasonLastResort`,
			New:  `return true`,
		},
		{
			Name: "failback-waits-for-nobody", File: file, Expect: served,
			What: "a node that was away leaves its VIP alone for failback_delay, although nobody else has it",
			Old:  `return f.Others == OthersServe`,
			New:  `return true`,
		},
		{
			Name: "no-start-without-zookeeper", File: file, Expect: grace,
			What: "a node that starts while ZooKeeper is away never announces its own VIPs",
			Old:  `case f.Claim == ClaimUnread && !f.StartOver:`,
			New:  `case f.Claim == ClaimUnread:`,
		},
		{
			Name: "stale-claim-withdraws", File: file, Expect: blind,
			What: "a backup withdraws because of a claim that it read before ZooKeeper was away, and whose owner may be dead",
			Old:  `case f.Claim == ClaimPresent && f.Stale && f.Last == Announce:`,
			New:  `case f.Claim == ClaimPresent && f.Stale && f.Last == Announce && f.ZooKeeperLost:`,
		},
		{
			Name: "loss-withdraws-backups", File: file, Expect: blind,
			What: "backups withdraw when ZooKeeper is lost, whatever on_zk_loss says: the VIPs of dead owners go",
			Old:  `case f.ZooKeeperLost && f.OnZKLoss == PolicyWithdraw:`,
			New:  `case f.ZooKeeperLost:`,
		},
		{
			Name: "deadline-repeats-decision", File: file, Expect: busy,
			What: "a step without news repeats the decision before, even where a deadline has passed: exazk spins, and a backup that should leave stays",
			Old:  `if c.quiet && !slept && !news && (c.due.IsZero() || now.Before(c.due)) && now.Sub(c.thought) < thinkAgain {`,
			New:  `if c.quiet && !slept && !news {`,
		},
	}
}

// knowledge is about what the core takes for known.
func knowledge() []Mutant {
	const file = "daemon/state.go"
	return []Mutant{
		{
			Name: "sleep-unnoticed", File: file, Expect: fresh,
			What: "a process that was stopped acts on what it read before, as if no time had passed: it withdraws for an owner that has died since",
			Old:  `sleepLimit = 3 * time.Second`,
			New:  `sleepLimit = 3 * time.Hour`,
		},
		{
			Name: "no-settle", File: file, Expect: still,
			What: "after ZooKeeper lost all sessions every backup announces everything, because the owners' claims are not back yet",
			Old:  `c.settle = now.Add(settleTime(ev.Timeout))`,
			New:  `c.settle = now`,
		},
		{
			Name: "suspended-is-lost", File: file, Expect: blind,
			What: "on_zk_loss is obeyed at each blink of the connection: backups for dead owners withdraw",
			Old:  `case c.zk.State == zkstate.Lost, c.zk.State`,
			New:  "case c.zk.State == zkstate.Suspended:\n\t\treturn c.last\n\tcase c.zk.State == zkstate.Lost, c.zk.State",
		},
		{
			Name: "maintenance-never-ends", File: file, Expect: settled,
			What: "a node goes on being drained after the operator has removed its maintenance node",
			Old:  `s.maintenance, s.flag = PresenceAbsent, Flag{}`,
			New: `if s.maintenance == PresenceUnknown {
				s.maintenance, s.flag = PresenceAbsent, Flag{}
			}`,
		},
		{
			Name: "dead-records-kept", File: file, Expect: served,
			What: "the status record of a node that is gone still counts: a drain hands its VIPs to a dead node",
			Old:  `s.peers, s.peersRead, s.peersBegan = ev.Peers, true, ev.Began`,
			New: `if s.peers == nil {
				s.peers = make(map[string]zkstate.Status)
			}
			for name, st := range ev.Peers {
				s.peers[name] = st
			}
			s.peersRead, s.peersBegan = true, ev.Began`,
		},
		{
			Name: "suspended-readings-trusted", File: file, Expect: blind,
			What: "what was read before the connection to ZooKeeper broke counts as current: overlaps end and drains finish on old news",
			Old: `			c.outdate()
		}
		c.zk = ev`,
			New: `			if ev.State == zkstate.Lost {
				c.outdate()
			}
		}
		c.zk = ev`,
		},
		{
			Name: "overlap-not-anew", File: file, Expect: blind,
			What: "a backup that announced while ZooKeeper was away withdraws at its return without an overlap",
			Old:  `v.view = ClaimAbsent //`,
			New:  `v.earlier = ClaimAbsent //`,
		},
		{
			Name: "overlap-ends-unread", File: file, Expect: blind,
			What: "a backup withdraws at the end of the overlap although ZooKeeper is away and the owner may have died since",
			Old:  `if v.view == ClaimReturns && s.current && `,
			New:  `if v.view == ClaimReturns && `,
		},
		{
			Name: "no-overlap", File: file, Expect: blind,
			What: "a backup withdraws as soon as it sees the owner's claim, before the routers know the owner's route",
			Old:  `if v.view == ClaimReturns && s.current && !settling && !now.Before(v.returned.Add(s.conf.Overlap)) {`,
			New:  `if v.view == ClaimReturns && s.current {`,
		},
	}
}

// timers are deadlines that the core does not ask to be woken for.
func timers() []Mutant {
	lost := func(name, expect, what, deadline string) Mutant {
		return Mutant{
			Name: name, File: "daemon/state.go", Expect: expect, What: what,
			Old: "consider(" + deadline + ")", New: "consider(now)",
		}
	}
	return []Mutant{
		lost("no-wake-settle", settled, "a backup does not take over the VIP of an owner that did not come back with ZooKeeper, until something else happens", "c.settle"),
		lost("no-wake-start-grace", grace, "a node that starts without ZooKeeper announces nothing until something else happens", "s.started.Add(s.conf.StartGrace)"),
		lost("no-wake-drain", drained, "a node that nobody takes over from announces beyond drain_timeout", "c.drainDeadline(s)"),
		lost("no-wake-overlap", timely, "a backup goes on announcing after its owner is back", "v.returned.Add(s.conf.Overlap)"),
		lost("no-wake-taken", timely, "a drained node goes on announcing after another has taken over, until drain_timeout", "v.taken.Add(s.conf.Overlap)"),
		lost("no-wake-until", timely, "a maintenance with an end goes on after it", "s.flag.Until"),
		lost("no-wake-flapping", timely, "a node whose check flapped does not take its VIPs back", "s.passing.Add(s.hold())"),
		lost("no-wake-failback", timely, "a node that was away does not take its VIPs back after failback_delay", "c.back(s).Add(s.conf.FailbackDelay)"),
		lost("no-wake-silence", timely, "hold_time has no effect: a node whose ExaBGP or router stands still keeps its claims", "n.spoke.Add(c.holdTime)"),
	}
}

// handover is about drains, failbacks, and what the nodes tell each other in their status records.
func handover() []Mutant {
	const file = "daemon/drain.go"
	return []Mutant{
		{
			Name: "drain-does-not-wait", File: file, Expect: handedOver,
			What: "a drained node withdraws at once, before another one announces: each maintenance is an outage",
			Old:  `case !now.Before(c.drainDeadline(s)):`,
			New:  `case !now.Before(*s.drainSince):`,
		},
		{
			Name: "taker-is-trusted-at-once", File: file, Expect: handedOver,
			What: "a drained node withdraws as soon as another one says that it announces, before the routers know that route",
			Old:  `case taken && !now.Before(v.taken.Add(s.conf.Overlap)):`,
			New:  `case taken:`,
		},
		{
			Name: "taker-is-drained-too", File: file, Expect: handedOver,
			What: "two nodes that are drained at once take each other for the one that takes over, and both withdraw",
			Old:  `return r.Announced && !leaves && st.Maintenance != PresencePresent.String()`,
			New:  `return r.Announced && (leaves || true)`,
		},
		{
			Name: "taker-is-not-seen", File: file, Expect: blind,
			What: "a drained node trusts the status records that it read before ZooKeeper was away",
			Old:  `taken = taken && s.peersRead`,
			New:  `taken = taken && s.peers != nil`,
		},
		{
			Name: "drain-times-out-blindly", File: file, Expect: blind,
			What: "drain_timeout runs while ZooKeeper is away and nobody could take over",
			Old:  `if c.stopping == nil && (s.blind || blind) {`,
			New:  `if c.stopping == nil && s.drainSince.IsZero() {`,
		},
		{
			Name: "exit-before-withdraws", File: file, Expect: exit,
			What: "exazk ends before ExaBGP has acknowledged its withdraws: routes stay with nobody in charge of them",
			Old:  `if v.last.Action != Withdraw || !v.acked() {`,
			New:  `if v.last.Action != Withdraw {`,
		},
		{
			Name: "announced-means-decided", File: "daemon/status.go", Expect: record,
			What: "a node that no router hears says that it announces: a drain hands its VIPs to it",
			Old:  `Announced: c.announced(v),`,
			New:  `Announced: v.last.Action == Announce,`,
		},
		{
			Name: "until-is-ignored", File: "daemon/flag.go", Expect: overdue,
			What: "a maintenance does not end at the time that the operator wrote into it",
			Old:  `return !f.Until.IsZero() && !now.Before(f.Until)`,
			New:  `return false`,
		},
		{
			Name: "failback-word-is-ignored", File: "daemon/failback.go", Expect: settled,
			What: "with failback = \"manual\" an operator's word does not bring the VIPs back",
			Old:  `v.away, v.early, v.asked = false, false, true`,
			New:  `v.early, v.asked = false, true`,
		},
		{
			Name: "last-resort-tie", File: "daemon/failback.go", Expect: unrest,
			What: "of two sick nodes each believes that the other has more right to be the last resort, and both withdraw",
			Old:  `case owner && !v.authoritative, owner == v.authoritative && name < c.id.Node:`,
			New:  `case owner || name != c.id.Node:`,
		},
	}
}

// neighbors is about who hears the node.
func neighbors() []Mutant {
	const file = "daemon/neighbor.go"
	return []Mutant{
		{
			Name: "no-new-epoch", File: file, Expect: settled,
			What: "a session that comes up makes nothing due again: the node never claims its VIPs, and the backups stay",
			Old: `if ev.State == exabgp.NeighborUp {
		c.epoch++
	}`,
		},
		{
			Name: "link-back-is-trusted", File: file, Expect: claim,
			What: "a session that the router closed while the link was down counts as soon as the link is back: the VIP is claimed and nobody announces it",
			Old:  `if n.trust = now.Add(linkTrust); !n.young.IsZero() && now.Sub(n.young) < linkNews {`,
			New:  `if n.trust = now; !n.young.IsZero() && now.Sub(n.young) < linkNews {`,
		},
		{
			Name: "link-down-is-ignored", File: file, Expect: kept,
			What: "a node whose link is down keeps its claims until the hold timer runs out",
			Old:  `n.cut, n.silent, n.trust, n.young = true, false, time.Time{}, time.Time{}`,
			New:  `n.young = time.Time{}`,
		},
		{
			Name: "attempt-is-a-session", File: "exabgp/decode.go", Expect: claim,
			What: "ExaBGP's tries to connect count as sessions: a node whose router is gone claims its VIPs",
			Old:  `changed.State = NeighborConnected`,
			New:  `changed.State = NeighborUp`,
		},
	}
}

// routes is about what is written to ExaBGP and claimed in ZooKeeper.
func routes() []Mutant {
	const file = "daemon/rib.go"
	return []Mutant{
		{
			Name: "claim-before-route", File: file, Expect: claim,
			What: "a node claims its VIP before ExaBGP has acknowledged the route: the backups leave too early",
			Old:  `case !c.accepted(v):`,
			New:  `case v.last.Action == Hold:`,
		},
		{
			Name: "claim-unheard", File: file, Expect: kept,
			What: "a node that no router hears, or whose route is refused, keeps its claim: nobody takes over",
			Old:  `case c.tracking && c.established(s) < s.conf.MinNeighbors, c.refused(v):`,
			New:  `case false:`,
		},
		{
			Name: "claim-of-a-sick-node", File: file, Expect: kept,
			What: "a node whose check fails withdraws and keeps its claim: nobody takes over",
			Old:  `case s.drainSince != nil, d.Action == Withdraw:`,
			New:  `case s.drainSince != nil:`,
		},
		{
			Name: "claim-of-a-drained-node", File: file, Expect: kept,
			What: "a drained node keeps its claim until it has withdrawn: nobody takes over before",
			Old:  `case s.drainSince != nil, d.Action == Withdraw:`,
			New:  `case d.Action == Withdraw:`,
		},
		{
			Name: "ghost-is-released", File: file, Expect: still,
			What: "a respawned node deletes the claim of its last life before it knows anything: every restart moves its VIPs",
			Old:  `return zkstate.Leave // a ghost`,
			New:  `return zkstate.Release // a ghost`,
		},
		{
			Name: "withdraws-wait-for-a-session", File: file, Expect: ghost,
			What: "a node that became sick while its session was down announces for a moment when the session is back",
			Old:  `if a := &v.adverts[i]; v.last.Action == Withdraw || v.last.Action == Announce && c.hears(a.to) {`,
			New:  `if a := &v.adverts[i]; v.last.Action != Hold && c.hears(a.to) {`,
		},
		{
			Name: "backup-looks-like-owner", File: file, Expect: reason,
			What: "a backup announces with the owner's MED: while both announce, users are sent to either",
			Old:  `return &r.backup`,
			New:  `return &r.own`,
		},
	}
}

// looks is about what was changed behind exazk's back.
func looks() []Mutant {
	const file = "exabgp/drift.go"
	return []Mutant{
		{
			Name: "drift-looked-for-once", File: file, Expect: drift,
			What: "after the first look there is no other for an hour: what is changed by hand stays",
			Old:  `w.look.at, w.look.failed = now.Add(pause), 0`,
			New:  `w.look.at, w.look.failed = now.Add(pause+time.Hour), 0`,
		},
		{
			Name: "drift-not-repaired", File: file, Expect: reason,
			What: "drift is told and not repaired",
			Old:  `e.taken, e.ours = "", true`,
			New:  `e.ours = true`,
		},
		{
			Name: "drift-of-med", File: file, Expect: reason,
			What: "a route that was announced by hand with another MED passes for ours",
			Old:  `got["med"] == strconv.FormatUint(uint64(r.MED), 10) && `,
			New:  ``,
		},
		{
			Name: "drift-of-withdraws", File: file, Expect: reason,
			What: "a route that was announced by hand and is wanted by nobody stays",
			Old:  `case r.route.Withdraw, !r.shows(h):`,
			New:  `case !r.route.Withdraw && !r.shows(h):`,
		},
	}
}

// writer is about the commands for ExaBGP.
func writer() []Mutant {
	const file = "exabgp/writer.go"
	return []Mutant{
		{
			Name: "two-in-flight", File: file, Expect: pipe,
			What: "a table for a new session does not wait for the reply to the command before: ExaBGP reorders the two, and their replies are mixed up",
			Old:  `return w.flight != nil || `,
			New:  `return w.flight != nil && w.flight.epoch == w.epoch || `,
		},
		{
			Name: "diff-against-wanted", File: file, Expect: reason,
			What: "a reply counts for what is wanted by then, not for what was written: a change during a command is never written",
			Old:  `f.taken, f.gone, f.entry.epoch, f.last = f.command, f.route.Withdraw, f.epoch, now`,
			New: `for _, r := range w.rows {
		if r.entry == f.entry {
			f.row, f.epoch = r, w.epoch
		}
	}
	f.taken, f.gone, f.entry.epoch, f.last = f.command, f.route.Withdraw, f.epoch, now`,
		},
		{
			Name: "refused-is-taken", File: file, Expect: record,
			What: "a command that was refused or not answered counts as carried out: it is never written again",
			Old: `f.taken, f.last = "", now
	f.refused, f.words = f.command, words`,
			New: `f.taken, f.entry.epoch, f.last = f.command, f.epoch, now
	f.refused, f.words = f.command, words`,
		},
		{
			Name: "refused-is-not-retried", File: file, Expect: reason,
			What: "a command that was refused is not written again while nothing else is wanted",
			Old:  `at = r.retry`,
			New:  `continue`,
		},
		{
			Name: "last-life-is-forgotten", File: file, Expect: reason,
			What: "only what this process announced is withdrawn: routes of its last life stay in ExaBGP",
			Old:  `return r.taken == r.command && r.entry.epoch == w.epoch`,
			New:  `return r.taken == r.command && r.entry.epoch == w.epoch || r.route.Withdraw && !r.ours`,
		},
		{
			Name: "epoch-makes-nothing-due", File: file, Expect: settled,
			What: "after a new session nothing is acknowledged for it: the node never claims its VIPs again",
			Old:  `return r.taken == r.command && r.entry.epoch == w.epoch`,
			New:  `return r.taken == r.command`,
		},
		{
			Name: "adj-rib-out-first-route", File: "exabgp/ribout.go", Expect: reason,
			What: "of the routes that ExaBGP says it holds only the first counts: the others of the last life are not withdrawn",
			Old:  `q.held = append(q.held, v.Routes...)`,
			New: `if len(q.held) == 0 {
			q.held = append(q.held, v.Routes...)
		}`,
		},
	}
}

// session is about the session with ZooKeeper and the requests in it.
func session() []Mutant {
	const file = "zkstate/state.go"
	return []Mutant{
		{
			Name: "no-sync", File: file, Expect: fresh,
			What: "a new session reads from a server that is behind: a claim that is gone, a record of a dead node",
			Old:  `m.id, m.flushed = id, false`,
			New:  `m.id, m.flushed = id, true`,
		},
		{
			Name: "new-session-is-resumed", File: file, Expect: idle,
			What: "a new session counts as the one before: its own claims look foreign, and watches that ended with the other are waited for",
			Old:  `if in.ID == m.id {`,
			New:  `if m.id != 0 {`,
		},
		{
			Name: "resumed-session-is-new", File: file, Expect: lost,
			What: "each broken connection counts as a loss: on_zk_loss is obeyed and all wait for claims that never went",
			Old:  `if in.ID == m.id {`,
			New:  `if in.ID == m.id && m.state == Connecting {`,
		},
		{
			Name: "old-connection-is-heard", File: file, Expect: lost,
			What: "the end of a client that was replaced ends the session of its successor: ZooKeeper looks lost for a minute",
			Old:  `if in.Conn == m.conn && m.up {`,
			New:  `if m.up {`,
		},
		{
			Name: "resync-says-nothing", File: file, Expect: fresh,
			What: "a process that slept is told nothing where nothing has changed, and waits for it: its overlaps never end",
			Old:  `m.dirtyAll(true)`,
			New:  `m.dirtyAll(false)`,
		},
		{
			Name: "no-wake-lost", File: file, Expect: timely,
			What: "on_zk_loss is obeyed only when something else happens",
			Old:  `m.later(m.lostAt)`,
			New:  `m.later(m.anewAt)`,
		},
	}
}

// readings is about claims and what is read.
func readings() []Mutant {
	const file = "zkstate/claim.go"
	return []Mutant{
		{
			Name: "ghost-in-two-steps", File: file, Expect: still,
			What: "a respawned node deletes its ghost and then claims anew: in between all backups announce its VIP",
			Old:  `Call{Op: OpReplace, Path: c.path, Data: m.claimData(), Ephemeral: true}`,
			New:  `Call{Op: OpDelete, Path: c.path}`,
		},
		{
			Name: "ghost-is-foreign", File: file, Expect: blind,
			What: "a respawned node takes the claim of its last life for another node's and withdraws its own VIP",
			Old:  `case d.Node != m.cfg.Node:`,
			New:  `case d.Node != m.cfg.Node || d.Instance != m.cfg.Instance:`,
		},
		{
			Name: "ghost-is-own", File: file, Expect: still,
			What: "a claim that is there already counts as held by this session: it goes when the session of the last life expires",
			Old:  `seen.Holder = Ghost`,
			New:  `seen.Holder = Own`,
		},
		{
			Name: "foreign-is-ghost", File: file, Expect: claim,
			What: "another node's claim on a VIP of this node is deleted",
			Old:  `case d.Node != m.cfg.Node:`,
			New:  `case d.Node == m.cfg.Node && d.Instance == "":`,
		},
		{
			Name: "empty-is-ghost", File: file, Expect: claim,
			What: "the claim of a Python tool on a VIP of this node is deleted",
			Old: `	case d.Node == "" && len(data) == 0:
		seen.Detail = "empty, as the Python tool makes them"`,
			New: `	case d.Node == "" && len(data) == 0:
		seen.Holder = Ghost`,
		},
		{
			Name: "squatter-not-looked-for", File: file, Expect: served,
			What: "a persistent node in the place of another's claim counts as a claim: when that owner fails, nobody takes the VIP over",
			Old: `		case res.Stat.Owner == 0:
			delete(s.proven, vip)
			then(squatted(path, res.Stat), nil)
`,
			New: ``,
		},
		{
			Name: "squatter-in-between", File: file, Expect: served,
			What: "a persistent node that takes the place of another's claim between two readings counts as that claim",
			Old:  `int(is.cversion-was.mark.cversion) != differing(was.names, names)`,
			New:  `len(was.names) == 0`,
		},
		{
			Name: "squatter-is-foreign", File: file, Expect: blind,
			What: "a persistent node in the place of this node's claim counts as another's: it waits for a process that does not exist",
			Old:  `return squatted(c.path, st)`,
			New:  `seen.Detail = "persistent"`,
		},
		{
			Name: "squatter-obeyed", File: "daemon/state.go", Expect: served,
			What: "backups take a persistent node for a claim",
			Old:  `return c.Holder == zkstate.Absent || c.Holder == zkstate.Squatted`,
			New:  `return c.Holder == zkstate.Absent`,
		},
		{
			Name: "claim-is-not-retried", File: file, Expect: settled,
			What: "a claim whose making went wrong is not tried again for half a minute: its owner announces and so do the backups",
			Old: `c.need = s.reading + 1
	s.claims.soil(true)`,
			New: `c.need = s.reading + 1`,
		},
		{
			Name: "watch-is-not-rearmed", File: "zkstate/read.go", Expect: still,
			What: "only the first change of anything in ZooKeeper is noticed at once, the next ones up to half a minute later",
			Old:  `return !w.armed`,
			New:  `return w.mark == mark{}`,
		},
		{
			Name: "reading-is-not-retried", File: "zkstate/read.go", Expect: settled,
			What: "a reading that failed is not tried again: the node never learns who claims what",
			Old: `r.busy = false
	r.soil(true)
	if errors.Is(err, zk.ErrNoAuth) {`,
			New: `r.busy = false
	if errors.Is(err, zk.ErrNoAuth) {`,
		},
	}
}

// checks is about the results of the check.
func checks() []Mutant {
	const file = "health/check.go"
	return []Mutant{
		{
			Name: "row-goes-on", File: file, Expect: check,
			What: "a single failure counts as fall of them: the VIP moves because of one lost packet",
			Old:  `m.ok, m.row = r.OK, 0`,
			New:  `m.ok = r.OK`,
		},
		{
			Name: "one-more-failure", File: file, Expect: check,
			What: "a sick node announces for one more run of its check",
			Old:  `case !m.ok && m.row >= m.fall:`,
			New:  `case !m.ok && m.row > m.fall:`,
		},
		{
			Name: "one-success-less", File: file, Expect: check,
			What: "a node whose check passes once by chance announces again",
			Old:  `case m.ok && m.row >= m.rise:`,
			New:  `case m.ok && m.row+1 >= m.rise:`,
		},
	}
}

// ranks is about standby backups, the order of backups, and zk_loss_after.
func ranks() []Mutant {
	return []Mutant{
		{
			Name: "rank-ignored", File: "daemon/state.go", Expect: reason,
			What: "all standby backups look the same: the fabric sends users to any of them",
			Old:  `rank := len(v.before) + 1`,
			New:  `rank := min(1, len(v.before)+1)`,
		},
		{
			Name: "standby-withdrawn-on-claim", File: "daemon/core.go", Expect: settled,
			What: "a standby backup withdraws when the owner claims, and the fabric has nothing to fail over to",
			Old:  `case f.Standby && !f.Authoritative:`,
			New:  `case f.Standby && !f.Authoritative && f.Claim != ClaimPresent:`,
		},
		{
			Name: "outranked-never", File: "daemon/rank.go", Expect: first,
			What: "a backup does not leave an unclaimed VIP to the one that comes before it: more and more of them announce",
			Old:  `v.ahead = BeforeServes`,
			New:  `v.ahead = BeforeNone`,
		},
		{
			Name: "outranked-at-once", File: "daemon/rank.go", Expect: planned,
			What: "a backup leaves an unclaimed VIP to one whose route the network does not know yet",
			Old:  `case leader != "" && !now.Before(v.led.Add(s.conf.Overlap)):`,
			New:  `case leader != "":`,
		},
		{
			Name: "outranked-by-old-records", File: "daemon/core.go", Expect: blind,
			What: "a backup withdraws because of a record that it read before ZooKeeper was away",
			Old:  `case f.Before == BeforeServes && !(f.Last == Announce && f.Others == OthersUnread):`,
			New:  `case f.Before == BeforeServes:`,
		},
		{
			Name: "zk-loss-after-ignored", File: "daemon/state.go", Expect: blind,
			What: "on_zk_loss is obeyed as soon as ZooKeeper is lost",
			Old:  `return !since.IsZero() && !now.Before(since.Add(s.conf.ZKLossAfter))`,
			New:  `return !since.IsZero() && !now.Before(since)`,
		},
		{
			Name: "zk-loss-after-forgotten", File: "daemon/state.go", Expect: loss,
			What: "nothing wakes the core when zk_loss_after has passed",
			Old:  `consider(since.Add(s.conf.ZKLossAfter))`,
			New:  `consider(since)`,
		},
	}
}

// reloads is about another configuration while the process runs, or between two.
func reloads() []Mutant {
	const file = "daemon/reload.go"
	return []Mutant{
		{
			Name: "reload-forgets-removed", File: file, Expect: removed,
			What: "a VIP that a reload takes out of the configuration is announced for as long as ExaBGP lives",
			Old:  `c.remember(gone)`,
			New:  `_ = gone`,
		},
		{
			Name: "restart-forgets-removed", File: "daemon/state.go", Expect: removed,
			What: "the same where the configuration changed while no process ran",
			Old:  `c.remember(before)`,
			New:  `c.remember(nil)`,
		},
		{
			Name: "reload-forgets-claims", File: file, Expect: reload,
			What: "a reload makes of every claim one that was never read: own VIPs and backups hold",
			Old:  `if next.authoritative != o.authoritative || !sameClaim {`,
			New:  `if next.authoritative == o.authoritative || !sameClaim {`,
		},
		{
			Name: "reload-forgets-routes", File: file, Expect: reload,
			What: "a reload knows of no route what ExaBGP acknowledged: it writes all of them again, and gives claims up",
			Old:  `*a = b`,
			New:  `a.want.Serial = b.want.Serial`,
		},
		{
			Name: "reload-keeps-attributes", File: file, Expect: reason,
			What: "another MED counts for VIPs only that are new",
			Old:  `a.attrs = attrs`,
			New:  `_ = attrs`,
		},
		{
			Name: "reload-keeps-serials", File: file, Expect: reason,
			What: "a VIP that goes and comes back wants a route that ExaBGP has acknowledged before, and waits for that for ever",
			Old:  `if a := &v.adverts[i]; a.want == (exabgp.Route{}) {`,
			New:  `if a := &v.adverts[i]; a.want == (exabgp.Route{}) && serial == 0 {`,
		},
		{
			Name: "reload-reads-nothing", File: "zkstate/state.go", Expect: settled,
			What: "a VIP that a reload adds is never looked up in ZooKeeper, and this node never takes it over",
			Old:  `m.reconfigure(in.Services)`,
			New:  `_ = in`,
		},
	}
}
