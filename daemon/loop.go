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
// changed on to the edges, logs transitions and hands them out (observe.go).
type Loop struct {
	core    *Core
	speaker Speaker
	store   Store
	keeper  Keeper // nil where nothing is kept
	log     *logrus.Entry
	events  chan posted
	waiting []Event       // that are being taken in
	at      []time.Time   // when they were posted
	asked   chan struct{} // see Alive
	last    Decision
	since   time.Time // when the event that is taken in was posted, or the deadline that has come

	observers []Observer
	waits     func(time.Duration) // told how long each event waited; nil where nobody wants to know
	seen      seen
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
		asked:  make(chan struct{}),
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

// Alive says whether the loop was ready for an event before ctx was done: it neither waits for an edge nor stands still.
func (l *Loop) Alive(ctx context.Context) bool {
	select {
	case l.asked <- struct{}{}:
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
	l.since = time.Now()
	l.step(Tick{})
	timer := time.NewTimer(time.Until(l.last.Wake))
	defer timer.Stop()
	for l.last.Exit == Stay {
		select {
		case <-ctx.Done():
			return Stay
		case <-l.asked:
		case p := <-l.events:
			l.take(p)
		case <-timer.C:
			l.since = l.last.Wake
			l.step(Tick{})
		}
		timer.Reset(time.Until(l.last.Wake))
	}
	return l.last.Exit
}

// take steps through an event and those that wait behind it.
func (l *Loop) take(p posted) {
	l.waiting, l.at = append(l.waiting[:0], p.ev), append(l.at[:0], p.at)
	l.waited(p)
	for range len(l.events) { // nobody else takes from it
		p = <-l.events
		l.waiting, l.at = append(l.waiting, p.ev), append(l.at, p.at)
		l.waited(p)
	}
	i := 0
	for _, ev := range Join(l.waiting) {
		l.since = l.at[i]
		if l.step(ev); l.last.Exit != Stay {
			return
		}
		if joined, ok := ev.(Accepted); ok {
			i += len(joined)
		} else {
			i++
		}
	}
}

func (l *Loop) waited(p posted) {
	waited := time.Since(p.at)
	if l.waits != nil {
		l.waits(waited)
	}
	if waited > slowEvent {
		l.log.WithFields(logrus.Fields{"event": eventName(p.ev), "elapsed_ms": waited.Milliseconds()}).Warn("event waited")
	}
}

// step passes on what changed: routes before claims, see doc.go. After a reload all is passed on, since the edges may have been
// configured anew.
func (l *Loop) step(ev Event) {
	now := time.Now()
	d := l.core.Step(now, ev)
	if l.keeper != nil && !slices.Equal(d.Keys, l.last.Keys) {
		l.keeper.Keep(d.Keys)
	}
	r, reloaded := ev.(Reload)
	if reloaded || d.Table.Epoch != l.last.Table.Epoch || !slices.Equal(d.Table.Routes, l.last.Table.Routes) {
		t := d.Table
		t.Since = l.since
		l.speaker.Set(t)
	}
	if reloaded {
		l.store.Reconfigure(r.Config.Store(l.core.id).Services)
	}
	if reloaded || !d.Want.Equal(l.last.Want) {
		l.store.Set(d.Want) // what was about paths that a reload changed was dropped
	}
	if d.Resync {
		l.store.Resync()
	}
	changes := l.changes(now, ev, d)
	for _, t := range changes {
		l.logTransition(t)
	}
	if d.Exit == Leave {
		l.logPending(d)
	}
	l.last = d
	l.tell(now, changes)
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
