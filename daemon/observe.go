package daemon

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

// What says what kind of thing a Transition is about. The words are stable: they are in metrics, in histories and in the
// environment of hooks.
type What string

const (
	WhatProcess     What = "process"     // To is started, reloaded, slept, stopping or ended
	WhatMaintenance What = "maintenance" // From and To are unknown, absent or present
	WhatHealth      What = "health"      // From and To are unknown, healthy or unhealthy
	WhatZooKeeper   What = "zookeeper"   // From and To are connecting, connected, suspended or lost
	WhatNeighbor    What = "neighbor"    // From and To are those of zkstate.StatusNeighbor
	WhatVerdict     What = "verdict"     // From and To are none, hold, announce or withdraw
	WhatDrift       What = "drift"       // To is drifted or repaired; Reason is what is wanted: announce or withdraw; Detail what ExaBGP holds instead
)

// Drifted is where a drift goes To that begins: ExaBGP holds something else than what is wanted. Repaired is its end.
const (
	Drifted  = "drifted"
	Repaired = "repaired"
)

// Removed is the Reason of a Transition to withdraw of a VIP that left the configuration; no verdict has it.
const Removed Reason = "removed"

// Transition is one change worth a line in a log, a history or a counter.
type Transition struct {
	At      time.Time // of the step that made it
	What    What
	Service string // empty for what is of the whole node
	VIP     string // claim name; only of a verdict and of a drift
	Subject string // what else it is about: the neighbor, the check that decided; empty if nothing
	From    string // empty where What has none
	To      string
	Role    string // of a verdict: the role after it
	Reason  string // a Reason of a verdict; a neighbor's in ExaBGP's words; the signal to stop
	Detail  string // for people: it may be anything, hostile text too
}

// Snapshot is what a node knows and decided after a step that changed something. All in it is shared and never changed any
// more: a reader in another goroutine may keep it and must not write to it.
type Snapshot struct {
	At        time.Time
	Identity  Identity
	Changes   []Transition // since the Snapshot before, in the order of cause and effect
	Why       []VIPVerdict // see Decision
	Want      zkstate.Want // with this node's own records
	Announced int          // routes that are wanted to be announced and that somebody hears, one for each neighbor that has its own
	Neighbors []zkstate.StatusNeighbor
	Heard     int  // neighbors that hear this node
	Tracking  bool // something is known of neighbors; false: all is written as if one heard it
	ZooKeeper zkstate.State
	Stopping  bool
	Services  []ServiceSnapshot // in the order of the configuration
}

// ServiceSnapshot is what is known of one service.
type ServiceSnapshot struct {
	Config      *Service
	Health      health.Changed // the last change; the zero State before the first
	Maintenance Presence
	Flag        Flag                     // what the operator wrote into the maintenance node
	Claims      map[string]zkstate.Claim // by claim name, as last read; nil before
	ClaimsFresh bool                     // they were read since ZooKeeper was last away
	Peers       map[string]zkstate.Status
	PeersFresh  bool              // likewise, of the other nodes' records
	Junk        map[string]string // as PeersRead has it
}

// Observer is told of every change. Observe is called by the loop's goroutine: it must not wait for anything.
type Observer interface{ Observe(Snapshot) }

// ObserveWith has observers told of every change, in their order, after it was passed on to the edges. It is called before Run.
func (l *Loop) ObserveWith(observers ...Observer) { l.observers = append(l.observers, observers...) }

// WatchWaits has f told how long each event waited for the loop, which also calls it: it must not wait. It is called before Run.
func (l *Loop) WatchWaits(f func(time.Duration)) { l.waits = f }

// tell hands a Snapshot to the observers, where the step brought anything.
func (l *Loop) tell(now time.Time, changes []Transition) {
	if len(l.observers) == 0 || len(changes) == 0 && l.core.quiet {
		return
	}
	s := l.core.snapshot(now, l.last)
	s.Changes = changes
	l.observers = slices.DeleteFunc(l.observers, func(o Observer) bool { return !l.observe(o, s) })
}

// observe returns false for an observer that panicked. It is not told any more: no route depends on who looks on.
func (l *Loop) observe(o Observer, s Snapshot) (sound bool) {
	defer func() {
		if p := recover(); p != nil {
			l.log.WithFields(logrus.Fields{"bug": fmt.Sprint(p), "stack": string(debug.Stack())}).Error("observer panicked")
		}
	}()
	o.Observe(s)
	return true
}

// snapshot shares what the core replaces and never changes: decisions, readings, configurations.
func (c *Core) snapshot(now time.Time, d Decision) Snapshot {
	s := Snapshot{
		At: now, Identity: c.id, Why: d.Why, Want: d.Want,
		Heard: c.up(), Tracking: c.tracking && c.listed, ZooKeeper: c.zk.State, Stopping: c.stopping != nil,
	}
	for _, r := range d.Table.Routes {
		if !r.Withdraw {
			s.Announced++
		}
	}
	for i := range c.neighbors {
		n := &c.neighbors[i]
		s.Neighbors = append(s.Neighbors, zkstate.StatusNeighbor{Peer: n.id.Peer.String(), State: n.word()})
	}
	for _, v := range c.services {
		s.Services = append(s.Services, ServiceSnapshot{
			Config: v.conf, Health: v.health, Maintenance: v.maintenance, Flag: v.flag,
			Claims: v.claims, ClaimsFresh: v.current, Peers: v.peers, PeersFresh: v.peersRead, Junk: v.junk,
		})
	}
	return s
}

// seen is what the step before left behind, as far as it is needed to find transitions.
type seen struct {
	started   bool
	stopping  bool
	zk        zkstate.State
	neighbors []neighbor
	services  []seenService
	drifts    []exabgp.Drift
}

type seenService struct {
	name        string
	health      health.State
	maintenance Presence
}

// changes finds the transitions of a step: causes first.
func (l *Loop) changes(now time.Time, ev Event, d Decision) []Transition {
	var all []Transition
	add := func(t Transition) {
		t.At = now
		all = append(all, t)
	}
	l.processChanges(ev, d, add)
	l.inputChanges(add)
	l.neighborChanges(add)
	l.removedChanges(ev, d, add)
	l.verdictChanges(d, add)
	l.driftChanges(add)
	if d.Exit != Stay {
		add(Transition{What: WhatProcess, To: "ended", Reason: d.Exit.String()})
	}
	return all
}

func (l *Loop) processChanges(ev Event, d Decision, add func(Transition)) {
	if !l.seen.started {
		l.seen.started = true
		add(Transition{What: WhatProcess, To: "started", Detail: l.core.id.Version})
	}
	if stopping := l.core.stopping != nil; stopping && !l.seen.stopping {
		l.seen.stopping = true
		add(Transition{What: WhatProcess, To: "stopping", Reason: l.core.signal})
	}
	if _, ok := ev.(Reload); ok {
		add(Transition{What: WhatProcess, To: "reloaded"})
	}
	if d.Slept {
		add(Transition{What: WhatProcess, To: "slept"})
	}
}

// inputChanges finds what is new of the session to ZooKeeper and of the services.
func (l *Loop) inputChanges(add func(Transition)) {
	if from, to := l.seen.zk, l.core.zk.State; from != to {
		add(Transition{What: WhatZooKeeper, From: from.String(), To: to.String()})
	}
	l.seen.zk = l.core.zk.State
	for i, s := range l.core.services {
		was := l.seenService(i, s.conf.Name)
		if was.maintenance != s.maintenance {
			add(Transition{What: WhatMaintenance, Service: s.conf.Name, From: was.maintenance.String(), To: s.maintenance.String(), Detail: s.flag.String()})
		}
		if was.health != s.health.State {
			add(Transition{What: WhatHealth, Service: s.conf.Name, Subject: s.health.Check, From: was.health.String(), To: s.health.State.String(), Detail: s.health.Detail()})
		}
	}
	l.seen.services = l.seen.services[:0]
	for _, s := range l.core.services {
		l.seen.services = append(l.seen.services, seenService{s.conf.Name, s.health.State, s.maintenance})
	}
}

// seenService is the one of the name, which is at the same place unless the configuration was changed.
func (l *Loop) seenService(i int, name string) seenService {
	if i >= len(l.seen.services) || l.seen.services[i].name != name {
		i = slices.IndexFunc(l.seen.services, func(s seenService) bool { return s.name == name })
	}
	if i < 0 {
		return seenService{}
	}
	return l.seen.services[i]
}

// neighborChanges finds every neighbor whose session came up or went down. ExaBGP's tries to connect in between are not
// transitions.
func (l *Loop) neighborChanges(add func(Transition)) {
	for i := range l.core.neighbors {
		n, from := &l.core.neighbors[i], neighbor{}
		if i := slices.IndexFunc(l.seen.neighbors, func(b neighbor) bool { return b.id.Peer == n.id.Peer }); i >= 0 {
			from = l.seen.neighbors[i]
		}
		if from.usable() != n.usable() {
			add(Transition{What: WhatNeighbor, Subject: n.id.Peer.String(), From: from.word(), To: n.word(), Reason: n.reason})
		}
	}
	l.seen.neighbors = append(l.seen.neighbors[:0], l.core.neighbors...)
}

// removedChanges finds every VIP that left the configuration.
func (l *Loop) removedChanges(ev Event, d Decision, add func(Transition)) {
	if _, ok := ev.(Reload); !ok {
		return
	}
	for _, was := range l.last.Why {
		if !slices.ContainsFunc(d.Why, func(w VIPVerdict) bool { return w.VIP == was.VIP }) {
			add(Transition{What: WhatVerdict, Service: was.Service, VIP: was.VIP, From: was.Action.String(), To: Withdraw.String(), Role: was.Role.String(), Reason: string(Removed)})
		}
	}
}

// verdictChanges finds every VIP whose verdict changed.
func (l *Loop) verdictChanges(d Decision, add func(Transition)) {
	for i, now := range d.Why {
		from := "none"
		if was, there := l.verdict(i, now); there {
			if was == now.Verdict {
				continue
			}
			from = was.Action.String()
		}
		add(Transition{
			What: WhatVerdict, Service: now.Service, VIP: now.VIP, From: from, To: now.Action.String(), Role: now.Role.String(),
			Reason: string(now.Reason), Detail: now.Detail,
		})
	}
}

// driftChanges finds every route that ExaBGP begins or ends to hold otherwise than wanted. One that is wanted otherwise meanwhile
// is the same.
func (l *Loop) driftChanges(add func(Transition)) {
	change := func(d exabgp.Drift, among []exabgp.Drift, t Transition) {
		if slices.ContainsFunc(among, func(o exabgp.Drift) bool { return key(o.Route) == key(d.Route) }) {
			return
		}
		t.What, t.VIP = WhatDrift, ClaimName(d.Route.Prefix)
		if d.Neighbor.IsValid() {
			t.Subject = d.Neighbor.String()
		}
		if i := slices.IndexFunc(l.core.services, func(s *service) bool {
			return slices.ContainsFunc(s.vips, func(v *vip) bool { return v.prefix == d.Route.Prefix })
		}); i >= 0 {
			t.Service = l.core.services[i].conf.Name
		}
		if t.Reason = Announce.String(); d.Route.Withdraw {
			t.Reason = Withdraw.String()
		}
		add(t)
	}
	for _, d := range l.core.drifts {
		change(d, l.seen.drifts, Transition{To: Drifted, Detail: d.Text()})
	}
	for _, d := range l.seen.drifts {
		change(d, l.core.drifts, Transition{To: Repaired})
	}
	l.seen.drifts = l.core.drifts
}

// verdict is the one before about the same VIP, which is at the same place unless the configuration was changed.
func (l *Loop) verdict(i int, now VIPVerdict) (was Verdict, there bool) {
	same := func(w VIPVerdict) bool { return w.Service == now.Service && w.VIP == now.VIP }
	if i >= len(l.last.Why) || !same(l.last.Why[i]) {
		i = slices.IndexFunc(l.last.Why, same)
	}
	if i < 0 {
		return Verdict{}, false
	}
	return l.last.Why[i].Verdict, true
}

// logTransition writes one line, unless the edge that saw it has.
func (l *Loop) logTransition(t Transition) {
	switch t.What {
	case WhatProcess:
		l.logProcess(t)
	case WhatMaintenance:
		note := ""
		if s := l.core.service(t.Service); s != nil {
			note = string(s.flag.Data) // as it was written
		}
		l.log.WithFields(logrus.Fields{"service": t.Service, "from": t.From, "to": t.To, "note": note}).Info("maintenance changed")
	case WhatNeighbor:
		log := l.log.WithFields(logrus.Fields{"event": "neighbor", "neighbor": t.Subject, "from": t.From, "to": t.To, "established": l.core.up()})
		if t.To == "up" {
			log.Info("neighbor changed")
		} else {
			log.WithField("reason", t.Reason).Warn("neighbor changed")
		}
	case WhatVerdict:
		l.logVerdict(t)
	case WhatDrift:
		log := l.log.WithFields(logrus.Fields{"event": "drift", "vip": t.VIP, "want": t.Reason})
		if t.Subject != "" {
			log = log.WithField("neighbor", t.Subject)
		}
		if t.To == Drifted {
			log.WithField("have", t.Detail).Warn("exabgp does not hold what it acknowledged: written again")
		} else {
			log.Info("exabgp holds what it acknowledged")
		}
	}
}

func (l *Loop) logProcess(t Transition) {
	switch t.To {
	case "stopping":
		l.log.WithFields(logrus.Fields{"event": "stop", "signal": t.Reason}).Info("draining before the end")
	case "slept":
		l.log.WithField("event", "slept").Warn("process slept, reading ZooKeeper again")
	}
}

func (l *Loop) logVerdict(t Transition) {
	log := l.log.WithFields(logrus.Fields{"service": t.Service, "vip": t.VIP, "from": t.From, "to": t.To})
	if t.Reason == string(Removed) {
		log.Info("vip left the configuration")
		return
	}
	log = log.WithFields(logrus.Fields{"role": t.Role, "reason": t.Reason})
	if t.Detail != "" {
		log = log.WithField("detail", t.Detail)
	}
	switch Reason(t.Reason) {
	case ReasonConflict, ReasonLastResort:
		log.Error("verdict changed")
	case ReasonUnhealthy, ReasonZooKeeperLost, ReasonFlapping:
		log.Warn("verdict changed")
	default:
		log.Info("verdict changed")
	}
}
