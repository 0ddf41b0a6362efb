package daemon

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/exabgp"
	"exazk/health"
	"exazk/link"
	"exazk/zkstate"
)

// Speaker takes the routes that should stand in ExaBGP. Set never waits.
type Speaker interface{ Set(exabgp.Table) }

// Store takes what should lie in ZooKeeper. Neither call waits.
type Store interface {
	Set(zkstate.Want)
	Reconfigure([]zkstate.Service)
	Resync()
}

// Keeper keeps for the next process what this one may have announced. Keep never waits.
type Keeper interface{ Keep([]exabgp.Route) }

// slowEvent is how long an event may wait for the loop before the log says so: a hint of a machine under pressure.
const slowEvent = 250 * time.Millisecond

// Loop is the one goroutine that owns the Core. It adds nothing to the decisions: it keeps the time, passes what
// changed on to the edges, and logs transitions.
type Loop struct {
	core    *Core
	speaker Speaker
	store   Store
	keeper  Keeper // nil where nothing is kept
	log     *logrus.Entry
	events  chan posted
	last    Decision
}

type posted struct {
	ev Event
	at time.Time
}

// NewLoop makes a Loop. Events may be posted before Run is called.
func NewLoop(core *Core, speaker Speaker, store Store, log *logrus.Entry) *Loop {
	return &Loop{
		core: core, speaker: speaker, store: store, log: log,
		// A Step takes microseconds; the buffer lets an edge that has just read many routes' acknowledgements go on
		// without a switch of goroutines for each. Senders wait when it is full: a transition is never dropped.
		events: make(chan posted, 256),
	}
}

// KeepWith has a Keeper told of what may be announced, from the next step on. It is called before Run.
func (l *Loop) KeepWith(k Keeper) { l.keeper = k }

// Post hands an event to the loop and waits until it is taken in. It returns false once ctx is done.
func (l *Loop) Post(ctx context.Context, ev Event) bool {
	select {
	case l.events <- posted{ev, time.Now()}:
		return true
	case <-ctx.Done():
		return false
	}
}

// ExaBGP, ZooKeeper, Link and Health return the emit functions of the edges.
func (l *Loop) ExaBGP(ctx context.Context) func(exabgp.Event) bool {
	return func(ev exabgp.Event) bool { return l.Post(ctx, FromExaBGP{ev}) }
}

func (l *Loop) ZooKeeper(ctx context.Context) func(zkstate.Event) bool {
	return func(ev zkstate.Event) bool { return l.Post(ctx, FromZooKeeper{ev}) }
}

func (l *Loop) Link(ctx context.Context) func(link.Changed) bool {
	return func(ev link.Changed) bool { return l.Post(ctx, FromLink{ev}) }
}

func (l *Loop) Health(ctx context.Context) func(health.Changed) bool {
	return func(ev health.Changed) bool { return l.Post(ctx, FromHealth{ev}) }
}

// Run steps the core until it wants to end, and says how; or until ctx is done, and then says Stay.
func (l *Loop) Run(ctx context.Context) Exit {
	l.step(Tick{})
	timer := time.NewTimer(time.Until(l.last.Wake))
	defer timer.Stop()
	for l.last.Exit == Stay {
		select {
		case <-ctx.Done():
			return Stay
		case p := <-l.events:
			if waited := time.Since(p.at); waited > slowEvent {
				l.log.WithFields(logrus.Fields{"event": eventName(p.ev), "elapsed_ms": waited.Milliseconds()}).Warn("event waited")
			}
			l.step(p.ev)
		case <-timer.C:
			l.step(Tick{})
		}
		timer.Reset(time.Until(l.last.Wake))
	}
	return l.last.Exit
}

// step passes on what changed: routes before claims, see doc.go.
func (l *Loop) step(ev Event) {
	l.logEvent(ev)
	before := slices.Clone(l.core.neighbors)
	d := l.core.Step(time.Now(), ev)
	l.logNeighbors(before)
	if l.keeper != nil && !slices.Equal(d.Keys, l.last.Keys) {
		l.keeper.Keep(d.Keys)
	}
	if d.Table.Epoch != l.last.Table.Epoch || !slices.Equal(d.Table.Routes, l.last.Table.Routes) {
		l.speaker.Set(d.Table)
	}
	if r, ok := ev.(Reload); ok {
		l.store.Reconfigure(r.Config.Store(l.core.id).Services)
		l.logRemoved(d)
	}
	if _, reloaded := ev.(Reload); reloaded || !d.Want.Equal(l.last.Want) {
		l.store.Set(d.Want) // after a reload in any case: what is about paths that changed was dropped
	}
	if d.Slept {
		l.log.WithField("event", "slept").Warn("process slept, reading ZooKeeper again")
	}
	if d.Resync {
		l.store.Resync()
	}
	l.logVerdicts(d)
	if d.Exit == Leave {
		l.logPending(d)
	}
	l.last = d
}

// logVerdicts writes one line for every VIP whose verdict changed.
func (l *Loop) logVerdicts(d Decision) {
	for i, now := range d.Why {
		from := "none"
		if was, there := l.verdict(i, now); there {
			if was == now.Verdict {
				continue
			}
			from = was.Action.String()
		}
		log := l.log.WithFields(logrus.Fields{
			"service": now.Service, "vip": now.VIP, "from": from, "to": now.Action.String(), "role": now.Role.String(), "reason": string(now.Reason),
		})
		if now.Detail != "" {
			log = log.WithField("detail", now.Detail)
		}
		switch now.Reason {
		case ReasonConflict, ReasonLastResort:
			log.Error("verdict changed")
		case ReasonUnhealthy, ReasonZooKeeperLost, ReasonFlapping:
			log.Warn("verdict changed")
		default:
			log.Info("verdict changed")
		}
	}
}

// logRemoved writes one line for every VIP that left the configuration.
func (l *Loop) logRemoved(d Decision) {
	for _, was := range l.last.Why {
		if !slices.ContainsFunc(d.Why, func(w VIPVerdict) bool { return w.VIP == was.VIP }) {
			l.log.WithFields(logrus.Fields{"service": was.Service, "vip": was.VIP, "from": was.Action.String(), "to": Withdraw.String()}).Info("vip left the configuration")
		}
	}
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

// logNeighbors writes one line for every neighbor whose session came up or went down. ExaBGP's tries to connect in
// between are not transitions.
func (l *Loop) logNeighbors(before []neighbor) {
	for i := range l.core.neighbors {
		n, from := &l.core.neighbors[i], neighbor{}
		if i := slices.IndexFunc(before, func(b neighbor) bool { return b.id.Peer == n.id.Peer }); i >= 0 {
			from = before[i]
		}
		if from.usable() == n.usable() {
			continue
		}
		log := l.log.WithFields(logrus.Fields{"event": "neighbor", "neighbor": n.id.Peer.String(), "from": from.word(), "to": n.word(), "established": l.core.up()})
		if n.usable() {
			log.Info("neighbor changed")
		} else {
			log.WithField("reason", n.reason).Warn("neighbor changed")
		}
	}
}

// logPending names what is left behind: a route that ExaBGP goes on announcing with nobody in charge of it.
func (l *Loop) logPending(d Decision) {
	for service, st := range d.Want.Statuses {
		for _, r := range st.Routes {
			if r.Pending {
				l.log.WithFields(logrus.Fields{"service": service, "vip": r.VIP}).Error("stopping, and exabgp has not acknowledged the withdraw")
			}
		}
	}
}

// logEvent writes one line for an event that is a transition and is not logged by the edge that saw it.
func (l *Loop) logEvent(ev Event) {
	switch ev := ev.(type) {
	case Stop:
		l.log.WithFields(logrus.Fields{"event": "stop", "signal": ev.Signal}).Info("draining before the end")
	case FromExaBGP:
		if d, ok := ev.Event.(exabgp.Drifted); ok {
			l.logDrift(d)
		}
	case FromZooKeeper:
		if m, ok := ev.Event.(zkstate.MaintenanceRead); ok {
			l.logMaintenance(m)
		}
	}
}

// logDrift writes one line for every route that ExaBGP begins or ends to hold otherwise than wanted. One that is wanted otherwise
// meanwhile is the same.
func (l *Loop) logDrift(now exabgp.Drifted) {
	among := func(drifts []exabgp.Drift, d exabgp.Drift) bool {
		return slices.ContainsFunc(drifts, func(o exabgp.Drift) bool { return key(o.Route) == key(d.Route) })
	}
	for _, d := range now.Routes {
		if !among(l.core.drifts, d) {
			l.driftFields(d).WithField("have", d.Text()).Warn("exabgp does not hold what it acknowledged: written again")
		}
	}
	for _, d := range l.core.drifts {
		if !among(now.Routes, d) {
			l.driftFields(d).Info("exabgp holds what it acknowledged")
		}
	}
}

func (l *Loop) driftFields(d exabgp.Drift) *logrus.Entry {
	want := Announce
	if d.Route.Withdraw {
		want = Withdraw
	}
	log := l.log.WithFields(logrus.Fields{"event": "drift", "vip": ClaimName(d.Route.Prefix), "want": want.String()})
	if d.Neighbor.IsValid() {
		log = log.WithField("neighbor", d.Neighbor.String())
	}
	return log
}

func (l *Loop) logMaintenance(m zkstate.MaintenanceRead) {
	s := l.core.service(m.Service)
	if s == nil {
		return
	}
	to := PresenceAbsent
	if m.Present {
		to = PresencePresent
	}
	if s.maintenance == to {
		return
	}
	l.log.WithFields(logrus.Fields{"service": m.Service, "from": s.maintenance.String(), "to": to.String(), "note": string(m.Data)}).Info("maintenance changed")
}

func eventName(ev Event) string {
	switch ev := ev.(type) {
	case FromExaBGP:
		return reflect.TypeOf(ev.Event).Name()
	case FromZooKeeper:
		return reflect.TypeOf(ev.Event).Name()
	default:
		return reflect.TypeOf(ev).Name()
	}
}
