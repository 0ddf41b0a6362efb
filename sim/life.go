package sim

import (
	"slices"
	"time"

	"github.com/go-zookeeper/zk"

	"exazk/daemon"
	"exazk/exabgp"
	"exazk/health"
	"exazk/link"
	"exazk/sim/exa"
	"exazk/sim/vclock"
	"exazk/sim/zoo"
	"exazk/zkstate"
)

// life is one process of exazk: its machines, and in the place of their goroutines what the shells around them do
// (daemon.Loop, exabgp.Process, zkstate.Session, health.Checker).
type life struct {
	h    *host
	conf *daemon.Config

	core   *daemon.Core
	writer *exabgp.Writer
	store  *zkstate.Machine
	check  *health.Machine
	pipes  *exa.Pipes
	client *zoo.Client
	last   daemon.Decision

	unanswered bool      // a command was written and no reply came
	commanded  time.Time // when
	row        int       // results of the check in a row, below 0 for failures
	healthy    health.State
	known      known
	looks      []look    // by VIP
	session    int64     // with ZooKeeper, the newest
	connected  time.Time // when it began
	up         time.Time // when there was a connection again, the last time
	expired    int64     // the session that a server called expired last
	resumed    time.Time // when the process went on after it was stopped
	halted     time.Time // when it was stopped
	steps      int       // of all machines, in this second
	second     time.Time
	ticks      int // of all alarms

	dead, paused bool
	stops        int      // faults that stop it
	backlog      []func() // what waits for the end of a pause

	events   inbox[daemon.Event]
	heard    inbox[exabgp.Input]
	read     inbox[zkstate.Input]
	table    *exabgp.Table
	want     *zkstate.Want
	services []zkstate.Service // to be taken over; nil if there are none
	resync   bool
	reloads  reloads
	loopWake alarm
	exaWake  alarm
	zkWake   alarm

	wroteAll     func(error)
	examineAgain func()
	examinedThen func()

	started bool // it has begun to check
	series  int  // of the check: a reload begins another one
	leaving bool // the loop has ended
	closed  bool // the store has ended
	began   time.Time
	checked time.Time // when the check that runs began
	hangs   bool      // it will run into its timeout
}

// inbox is a queue with a goroutine behind it that takes a moment to wake up.
type inbox[T any] struct {
	l      *life
	queue  []T
	spare  []T
	posted bool
	take   func(T)
	join   func([]T) []T // what the goroutine makes of those that wait; nil if it takes each by itself
	wake   func()        // made once
}

// serve has every value that is put in handed to take.
func (in *inbox[T]) serve(l *life, take func(T)) {
	in.l, in.take = l, take
	drain := in.drain
	in.wake = func() { l.do(drain) }
}

// put puts v in and wakes the goroutine.
func (in *inbox[T]) put(v T) {
	in.queue = append(in.queue, v)
	if !in.posted {
		in.posted = true
		in.l.h.c.clock.After(in.l.wait(), in.wake)
	}
}

func (in *inbox[T]) drain() {
	in.posted = false
	queue := in.queue
	in.queue, in.spare = in.spare[:0], nil
	all := queue
	if in.join != nil {
		queue = in.join(queue)
	}
	for _, v := range queue {
		if !in.l.dead {
			in.take(v)
		}
	}
	clear(all)
	in.spare = all[:0]
}

func (l *life) now() time.Time { return l.h.c.clock.Now() }

// begin starts the process.
func begin(h *host, conf *daemon.Config, pipes *exa.Pipes) *life {
	h.lives++
	id := daemon.Identity{Node: conf.Node, Instance: instanceName(h.lives), Version: "sim", Since: h.c.clock.Now()}
	l := &life{h: h, conf: conf, pipes: pipes, began: h.c.clock.Now(), known: newKnown(h.c.knobs.Nodes), looks: make([]look, h.c.knobs.Nodes)}
	l.reloads.quiet = make([]bool, h.c.knobs.Nodes)
	l.core = daemon.NewCore(conf, id, h.record...)
	l.writer = exabgp.NewWriter(exabgp.Options{Track: conf.ExaBGP.TrackNeighbors, DriftCheck: conf.ExaBGP.DriftCheck})
	store := conf.Store(id)
	store.Memo = h.c.memo
	l.store = zkstate.NewMachine(store, discard)
	l.events.serve(l, l.step)
	l.events.join = daemon.Join
	l.heard.serve(l, l.write)
	l.read.serve(l, l.keep)
	l.wroteAll = func(err error) { l.heard.put(exabgp.Written{Err: err}) }
	l.newCheck()
	tick := func() { l.early(); l.step(daemon.Tick{}) }
	l.loopWake.serve(h.c.clock, func() { l.do(tick) })
	look := func() { l.earlyWrite(); l.write(exabgp.Tick{}) }
	l.exaWake.serve(h.c.clock, func() { l.do(look) })
	mind := func() { l.earlyKeep(); l.keep(zkstate.Tick{}) }
	l.zkWake.serve(h.c.clock, func() { l.do(mind) })
	pipes.OnLine(l.hear)
	pipes.OnEnd(func(err error) { l.heard.put(exabgp.Ended{Err: err}) })
	l.after(l.wait(), func() {
		l.write(exabgp.Begin{})
		l.keep(zkstate.Tick{})
		l.step(daemon.Tick{})
		if h.c.knobs.Links {
			l.carrier(h.linkUp)
		}
		l.started = true
		l.examine()
	})
	l.after(conf.Services[0].StartGrace+graceSlack, l.checkGrace)
	return l
}

// do runs f as the process would: not at all when it is dead, later when it is stopped.
func (l *life) do(f func()) {
	switch {
	case l.dead, l.h.c.result.Violation != nil:
	case l.paused:
		l.backlog = append(l.backlog, f)
	default:
		f()
	}
}

func (l *life) after(d time.Duration, f func()) { l.h.c.clock.After(d, func() { l.do(f) }) }

// wait is how long a goroutine waits for its turn.
func (l *life) wait() time.Duration { return l.h.c.upTo(l.h.c.knobs.Delay) }

func (l *life) post(ev daemon.Event) { l.events.put(ev) }

// step is daemon.Loop's.
func (l *life) step(ev daemon.Event) {
	if l.leaving {
		return
	}
	if r, ok := ev.(daemon.Reload); ok && !l.reloads.on {
		l.reload(r)
		return
	}
	l.count()
	l.told(ev)
	d := l.core.Step(l.now(), ev)
	if !slices.Equal(d.Keys, l.last.Keys) {
		keys := d.Keys
		l.after(time.Millisecond, func() { l.h.record = keys })
	}
	if d.Table.Epoch != l.last.Table.Epoch || !slices.Equal(d.Table.Routes, l.last.Table.Routes) {
		table := d.Table
		l.reloads.moved(l.now())
		first := l.table == nil
		if l.table = &table; first {
			l.after(l.wait(), l.tell)
		}
	}
	if r, ok := ev.(daemon.Reload); ok {
		l.services = r.Config.Store(daemon.Identity{Node: l.conf.Node}).Services
		l.nudge()
	}
	if !repeats(&d, &l.last) && !d.Want.Equal(l.last.Want) {
		want := d.Want
		l.want = &want
		l.nudge()
	}
	if d.Resync {
		l.resync = true
		l.nudge()
	}
	before := l.last
	l.last = d
	l.reloads.wants(d.Want.Claims[l.h.ownKey()])
	if !l.orphaned() {
		if l.want != nil {
			l.h.c.wants(l.h, &before, &d)
		}
		l.h.c.decided(l.h, ev, before, d)
	}
	l.loopWake.set(d.Wake)
	if d.Exit != daemon.Stay {
		l.leaving = true
		if !l.orphaned() {
			l.h.c.leaves(l.h, d.Exit)
		}
		l.loopWake.set(time.Time{})
		abandon := d.Exit == daemon.Abandon
		l.read.put(zkstate.Stop{Abandon: abandon})
		l.after(stopWithin, l.end)
	}
}

// repeats says that a core has only repeated its decision: it has handed out the very same slices and maps.
func repeats(d, before *daemon.Decision) bool {
	return len(d.Why) > 0 && len(before.Why) > 0 && &d.Why[0] == &before.Why[0]
}

// stopWithin is zkstate.Session's bound for its end.
const stopWithin = 1200 * time.Millisecond

// end closes what is open, and the process ends.
func (l *life) end() {
	if l.closed {
		return
	}
	l.closed = true
	if l.client != nil {
		l.client.Close()
	}
	l.after(l.h.c.knobs.Packet*3+time.Millisecond, func() {
		l.dead = true
		l.h.c.note(l.h, "exazk has ended")
		l.pipes.Exited()
		l.h.changed()
	})
}

// kill is SIGKILL.
func (l *life) kill() {
	if l.dead {
		return
	}
	l.dead = true
	if l.client != nil {
		l.client.Die()
	}
}

func (l *life) stop() {
	l.paused, l.halted = true, l.now()
	l.pipes.Stop()
	if l.client != nil {
		l.client.Pause()
	}
}

func (l *life) cont() {
	l.paused, l.resumed = false, l.now()
	if l.now().Sub(l.halted) > sleeps {
		l.known.awake = l.now()
		l.known.void()
		since := l.resumed
		l.after(relearns, func() { l.checkRelearned(since) })
	}
	backlog := l.backlog
	l.backlog = nil
	for _, f := range backlog {
		l.do(f)
	}
	l.pipes.Resume()
	if l.client != nil {
		l.client.Resume()
	}
}

// sleeps is for how long a process must have been stopped to know that what it read may be old (daemon.sleepLimit).
const sleeps = 3 * time.Second

// relearns is within what time after that it must have read everything again.
const relearns = 8 * time.Second

// graceSlack is when after start_grace a core has looked at the clock again for certain.
const graceSlack = 1500 * time.Millisecond

// orphaned says that the process was stopped while its ExaBGP ended, and goes on beside the process of the next one: nobody reads
// what it writes, and what it decides is of no account.
func (l *life) orphaned() bool { return l.h.life != nil && l.h.life != l }

// tell is what exabgp.Process does with a table.
func (l *life) tell() {
	t := l.table
	l.table = nil
	l.write(exabgp.Told{Table: *t})
}

func (l *life) hear(in exabgp.Input) {
	switch in.(exabgp.Heard).Verdict.Kind {
	case exabgp.Blank, exabgp.Other, exabgp.Bad:
		return
	}
	l.heard.put(in)
}

// write is exabgp.Process's loop.
func (l *life) write(in exabgp.Input) {
	l.count()
	if heard, ok := in.(exabgp.Heard); ok {
		v := &heard.Verdict
		if v.Kind == exabgp.Done || v.Kind == exabgp.Refused {
			l.unanswered = false
		}
		if l.h.c.telling && v.Kind != exabgp.News {
			l.h.c.note(l.h, "< %v %s", v.Kind, v.Words)
		}
	}
	out := l.writer.Step(l.now(), in)
	for _, ev := range out.Events {
		l.post(daemon.FromExaBGP{Event: ev})
	}
	if out.Write != nil {
		if !l.orphaned() {
			l.h.c.wrote(l.h, out.Write)
		}
		l.pipes.Write(l.h.c.garble(l.h, out.Write), l.wroteAll)
	}
	l.exaWake.set(out.Wake)
}

// nudge wakes zkstate.Session's loop.
func (l *life) nudge() { l.read.put(zkstate.Tick{}) }

// keep is zkstate.Session's loop.
func (l *life) keep(in zkstate.Input) {
	if l.closed {
		return
	}
	if services := l.services; services != nil {
		l.services = nil
		l.act(l.store.Step(l.now(), zkstate.Reconfigured{Services: services}))
	}
	if want := l.want; want != nil {
		l.want = nil
		l.act(l.store.Step(l.now(), zkstate.SetWant{Want: *want}))
	}
	if l.resync {
		l.resync = false
		l.act(l.store.Step(l.now(), zkstate.ResyncAsked{}))
	}
	if !l.closed {
		l.count()
		l.act(l.store.Step(l.now(), in))
	}
}

// count finds a machine that does the same again and again.
func (l *life) count() {
	if now := l.now(); now.Sub(l.second) >= time.Second {
		l.second, l.steps = now, 0
	}
	if l.steps++; l.steps > 3000 {
		l.h.c.violate("busy", "the machines of %s made %d steps within a second", l.h.conf.Node, l.steps)
	}
}

// soon says whether a machine is to be asked a nanosecond before its alarm what it would do: nothing, or the alarm was
// set too late, and only luck would have woken it in time.
func (l *life) soon(a *alarm) bool {
	l.ticks++
	return l.ticks%16 == 0 && a.rang.Equal(l.now()) // else the process was stopped then
}

// nothing is news of something that does not matter.
var nothing = daemon.FromLink{Changed: link.Changed{Interface: "none", Up: true}}

// early asks the core.
func (l *life) early() {
	if l.leaving || !l.soon(&l.loopWake) {
		return
	}
	// A link that leads nowhere is news: the core thinks again, and does not only look at its deadlines.
	d := l.core.Step(l.now().Add(-1), nothing)
	if d.Exit != l.last.Exit || d.Table.Epoch != l.last.Table.Epoch || !slices.Equal(d.Table.Routes, l.last.Table.Routes) || !d.Want.Equal(l.last.Want) {
		l.h.c.violate("timely", "the core of %s decided something else before it was to be asked again", l.h.conf.Node)
	}
}

func (l *life) earlyWrite() {
	if !l.soon(&l.exaWake) {
		return
	}
	if out := l.writer.Step(l.now().Add(-1), exabgp.Tick{}); out.Write != nil || len(out.Events) > 0 {
		l.h.c.violate("timely", "the writer of %s wrote %q before it was to be asked again", l.h.conf.Node, out.Write)
	}
}

func (l *life) earlyKeep() {
	if l.closed || !l.soon(&l.zkWake) {
		return
	}
	if out := l.store.Step(l.now().Add(-1), zkstate.Tick{}); out.Open != 0 || len(out.Calls) > 0 || len(out.Events) > 0 {
		l.h.c.violate("timely", "the ZooKeeper machine of %s acted before it was to be asked again: %+v", l.h.conf.Node, out)
	}
}

func (l *life) act(out zkstate.Output) {
	if out.Open != 0 {
		if l.client != nil {
			l.client.Close()
			l.bury(out.Open - 1)
		}
		l.client = l.h.c.zk.Connect(l.h.n, out.Open, l.conf.ZooKeeper.SessionTimeout, l.fromStore)
	}
	for _, call := range out.Calls {
		l.h.c.called(l, call)
		l.client.Send(call)
	}
	for _, ev := range out.Events {
		l.post(daemon.FromZooKeeper{Event: ev})
	}
	if out.Done {
		l.end()
		return
	}
	l.zkWake.set(out.Wake)
}

// bury has the client that was replaced tell once more that its connection has ended: closing takes the library up to three seconds,
// and it tells so of every connection, also of one that never got a session.
func (l *life) bury(conn uint64) {
	l.after(l.h.c.upTo(3*time.Second), func() { l.read.put(zkstate.SessionDown{Conn: conn}) })
}

// looked notes what a claim says.
func (l *life) looked(r zkstate.Result) {
	for v := range l.looks {
		if k := &l.looks[v]; k.next > 0 && r.Err == nil && slices.Contains(k.tags[:], r.Tag) {
			k.data = r.Data
		}
	}
}

// fromStore is the client library's word.
func (l *life) fromStore(in zkstate.Input) {
	switch got := in.(type) {
	case zkstate.SessionUp:
		l.up = l.now()
		if got.ID != l.session {
			l.session, l.connected = got.ID, l.now()
		}
	case zkstate.SessionExpired:
		l.expired = l.session
	case zkstate.Result:
		l.looked(got)
		if got.Err == nil && l.h.c.fails(l.h.c.knobs.Errors) {
			in = zkstate.Result{Tag: got.Tag, Err: zk.ErrAPIError} // of what was carried out all the same
		}
	}
	l.read.put(in)
}

// carrier is what link.Watcher sees.
func (l *life) carrier(up bool) {
	l.post(daemon.FromLink{Changed: link.Changed{Interface: "eth0", Up: up, Prefixes: l.h.prefixes}})
}

// newCheck has the check begin anew, without a verdict. What one that runs meanwhile comes to does not count.
func (l *life) newCheck() {
	l.series++
	series := l.series
	mine := func(f func()) func() {
		return func() {
			if l.series == series {
				f()
			}
		}
	}
	examine, examined := mine(l.examine), mine(l.examined)
	l.examineAgain = func() { l.do(examine) }
	l.examinedThen = func() { l.do(examined) }
	l.check = health.NewMachine(l.conf.HealthConfig(&l.conf.Services[0]).Checks[0])
	l.row, l.healthy = 0, health.Unknown
}

// examine is one run of health.Checker: it begins now, and its end is put down.
func (l *life) examine() {
	l.checked, l.hangs = l.now(), l.h.hanging
	takes := time.Millisecond + l.h.c.upTo(l.h.c.knobs.CheckTakes)
	if l.hangs {
		takes = l.conf.Services[0].Checks[0].Timeout
	}
	l.h.c.clock.After(takes, l.examinedThen)
}

func (l *life) examined() {
	r := health.Result{OK: !l.hangs && !l.h.sick}
	if l.hangs {
		r.TimedOut, r.ExitCode, r.Err = true, -1, "timed out"
	} else if !r.OK {
		r.ExitCode = 1
	}
	o := l.check.Step(l.checked, l.now(), r)
	l.recount(r.OK)
	if o.From != o.To {
		l.post(daemon.FromHealth{Changed: health.Changed{Service: serviceName, State: o.To, Result: r, Took: l.now().Sub(l.checked)}})
	}
	if !l.leaving {
		l.h.c.clock.At(o.Next, l.examineAgain)
	}
}

// recount counts the results by itself.
func (l *life) recount(ok bool) {
	k := &l.conf.Services[0].Checks[0]
	switch {
	case ok:
		l.row = max(l.row, 0) + 1
	default:
		l.row = min(l.row, 0) - 1
	}
	switch {
	case l.row >= k.Rise:
		l.healthy = health.Healthy
	case -l.row >= k.Fall:
		l.healthy = health.Unhealthy
	}
	if got := l.check.State(); got != l.healthy {
		l.h.c.violate("check", "the check of %s is %v after %d results of one kind", l.h.conf.Node, got, l.row)
	}
}

// alarm is a timer that is set anew all the time.
type alarm struct {
	clock *vclock.Clock
	want  time.Time // zero while it is off
	armed time.Time // the earliest instant for which something is put down; zero if nothing is
	rang  time.Time // for what it rang last
	ring  func()
	due   func() // made once
}

func (a *alarm) serve(clock *vclock.Clock, ring func()) {
	a.clock, a.ring, a.due = clock, ring, a.check
}

// set has the alarm ring at t, and not at the instant of before; zero means not at all.
func (a *alarm) set(t time.Time) {
	a.want = t
	if !t.IsZero() && (a.armed.IsZero() || t.Before(a.armed)) {
		a.arm(t)
	}
}

func (a *alarm) arm(t time.Time) {
	if now := a.clock.Now(); t.Before(now) {
		t = now
	}
	a.armed = t
	a.clock.At(t, a.due)
}

func (a *alarm) check() {
	now := a.clock.Now()
	if a.armed.Equal(now) {
		a.armed = time.Time{}
	}
	switch {
	case a.want.IsZero():
	case !now.Before(a.want):
		a.rang, a.want = a.want, time.Time{}
		a.ring()
	case a.armed.IsZero():
		a.arm(a.want)
	}
}
