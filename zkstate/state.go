package zkstate

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

// Config is what a Session has to know. It is read-only after New.
type Config struct {
	Servers        []string      // "host:port", one server each; the port defaults to 2181
	SessionTimeout time.Duration // asked for; the server may give another
	Node           string        // this node's name, written into claims and status records
	Instance       string        // random id of this life of the process
	Services       []Service
	Resync         time.Duration // between two plain readings of everything; 0 means 30 s
	Memo           *Memo         // of the status records that were read; nil means none
}

const (
	defaultResync = 30 * time.Second
	// A client that has had no session for so long is made anew: its server list may be another by now, and a rebuilt
	// ensemble with older transactions refuses it for ever.
	anewAfter         = 60 * time.Second
	anewAfterTimeouts = 5
	// closeWithin bounds giving up what is held at the end; closing the client gets what is left of stopWithin.
	closeWithin = time.Second
)

// Input is what happened. The set is closed.
type Input interface{ input() }

// Tick says that time has passed; the first one starts the Machine.
type Tick struct{}

// SetWant replaces the wish.
type SetWant struct{ Want Want }

// Reconfigured replaces the services; neither the slice nor what it holds may change afterwards. One that is Equal to that
// of its name before stays as it is: nothing is read or emitted for it. Any other is read from the start and its readings
// are emitted, what is no longer its own is deleted where it is ours, and of the wish before only that holds which is about
// the same claims and the same status record. Nothing is emitted any more for one that is gone.
type Reconfigured struct{ Services []Service }

// ResyncAsked asks for everything to be read again and emitted.
type ResyncAsked struct{}

// Stop begins the end. With Abandon nothing is deleted first.
type Stop struct{ Abandon bool }

// SessionUp says that the client has a session, new or resumed.
type SessionUp struct {
	Conn    uint64
	ID      int64
	Timeout time.Duration // negotiated
}

// SessionDown says that the client has lost its connection.
type SessionDown struct{ Conn uint64 }

// SessionExpired says that a server declared the session expired.
type SessionExpired struct{ Conn uint64 }

// NodeChanged says that the watches on a path have fired.
type NodeChanged struct {
	Conn uint64
	Path string
}

func (Tick) input()           {}
func (SetWant) input()        {}
func (Reconfigured) input()   {}
func (ResyncAsked) input()    {}
func (Stop) input()           {}
func (SessionUp) input()      {}
func (SessionDown) input()    {}
func (SessionExpired) input() {}
func (NodeChanged) input()    {}
func (Result) input()         {}

// Output is what must be done after a Step, in the order of its fields.
type Output struct {
	Open   uint64    // make a client connection of this number, closing the one before; 0 means keep it
	Calls  []Call    // to be sent at once; they may overtake each other
	Events []Event   // to be emitted, in this order
	Wake   time.Time // call Step with a Tick no later than this; zero means no deadline
	Done   bool      // close the client connection and end; no Step after this
}

// Machine takes all decisions of a Session. One goroutine may use it.
type Machine struct {
	cfg      Config
	log      *logrus.Entry
	services []*service
	want     Want

	now time.Time // of this Step
	out Output    // of this Step

	conn     uint64        // number of the client connection; 0 before the first
	up       bool          // it has a session
	id       int64         // the newest session; 0 before the first
	timeout  time.Duration // negotiated; asked for before the first session
	flushed  bool          // Sync was answered in this session
	flushing bool          // Sync is on its way
	flush    retry
	synced   bool // everything was read since the session came up, and Connected was emitted
	state    State
	loss     bool // other claims may be missing because they are on their way back
	calls    calls
	denied   map[string]bool // what ACLs forbid and was logged: path and right

	lostAt   time.Time // zero while there is a session, and after Lost
	anewAt   time.Time // zero while there is a session
	resyncAt time.Time

	leaving []*held            // what may be ours and has no service any more, in the order of giving it up
	orphans map[watchKey]watch // armed in this session, for what has no service any more

	closing *closing // set by Stop
}

// NewMachine makes a Machine. It logs to log and otherwise touches nothing.
func NewMachine(cfg Config, log *logrus.Entry) *Machine {
	if cfg.Resync <= 0 {
		cfg.Resync = defaultResync
	}
	m := &Machine{cfg: cfg, log: log, timeout: cfg.SessionTimeout, denied: make(map[string]bool), orphans: make(map[watchKey]watch)}
	m.reconfigure(cfg.Services)
	return m
}

// Step applies in at instant now and returns what must be done.
func (m *Machine) Step(now time.Time, in Input) Output {
	m.now, m.out = now, Output{}
	if m.conn == 0 {
		m.open()
	}
	m.timers()
	m.apply(in)
	switch {
	case m.closing != nil:
		m.pumpClosing()
	case m.up:
		m.pumpSession()
	}
	m.send()
	if m.closing == nil {
		m.later(m.lostAt)
		m.later(m.anewAt)
	}
	return m.out
}

func (m *Machine) apply(in Input) {
	switch in := in.(type) {
	case Tick:
	case SetWant:
		m.setWant(in.Want)
	case Reconfigured:
		if m.closing == nil { // else what is given up stays given up
			m.reconfigure(in.Services)
		}
	case ResyncAsked:
		m.dirtyAll(true)
	case Stop:
		m.stop(in.Abandon)
	case SessionUp:
		if in.Conn == m.conn {
			m.sessionUp(in)
		}
	case SessionDown:
		if in.Conn == m.conn && m.up {
			m.sessionDown()
		}
	case SessionExpired:
		if in.Conn == m.conn {
			m.sessionExpired()
		}
	case NodeChanged:
		if in.Conn == m.conn {
			m.nodeChanged(in.Path)
		}
	case Result:
		m.returned(in)
	default:
		panic(fmt.Sprintf("bug: input %T", in))
	}
}

// later asks for a Step no later than t.
func (m *Machine) later(t time.Time) {
	if !t.IsZero() && (m.out.Wake.IsZero() || t.Before(m.out.Wake)) {
		m.out.Wake = t
	}
}

// timers acts on every deadline that has passed.
func (m *Machine) timers() {
	m.expireCalls()
	if m.passed(m.lostAt) {
		m.lostAt = time.Time{}
		m.change(Lost, "no connection for a session timeout")
	}
	if m.closing == nil && (m.passed(m.anewAt) || len(m.calls.late) > maxSent-maxLive) {
		m.log.WithField("session", hex(m.id)).Warn("ZooKeeper client is made anew: it gets no session, or no answers")
		m.open()
	}
	if m.passed(m.resyncAt) {
		m.dirtyAll(false)
	}
}

func (m *Machine) passed(t time.Time) bool { return !t.IsZero() && !m.now.Before(t) }

// open has the client connection made anew; whatever is known of the old one no longer counts.
func (m *Machine) open() {
	if m.up {
		m.sessionDown()
	}
	m.conn++
	m.forgetCalls()
	m.calls.late = make(map[uint64]string)
	m.out.Open = m.conn
	m.anewAt = m.now.Add(max(anewAfter, anewAfterTimeouts*m.timeout))
}

// sessionUp begins reading everything. A session that is not the one before has no watches and no claims.
func (m *Machine) sessionUp(in SessionUp) {
	if m.up {
		m.sessionDown()
	}
	log := m.log.WithFields(logrus.Fields{"session": hex(in.ID), "timeout": in.Timeout.String(), "asked": m.cfg.SessionTimeout.String()})
	if in.ID == m.id {
		log.Info("ZooKeeper session is resumed")
	} else {
		log.Info("ZooKeeper session is new")
		if in.Timeout != m.cfg.SessionTimeout {
			log.Warn("ZooKeeper gave another session timeout than asked for")
		}
		m.newSession(in.ID)
	}
	m.timeout = in.Timeout
	m.up, m.synced = true, false
	m.lostAt, m.anewAt, m.resyncAt = time.Time{}, time.Time{}, time.Time{}
	m.flush = retry{}
	for _, s := range m.services {
		s.begin()
	}
	for _, h := range m.leaving {
		*h = held{path: h.path}
	}
}

// newSession forgets what belonged to the session before.
func (m *Machine) newSession(id int64) {
	m.loss = m.state != Connecting
	m.change(Lost, "another session")
	m.id, m.flushed = id, false
	for _, s := range m.services {
		s.unwatch()
	}
	clear(m.orphans)
}

// sessionDown freezes what is known; nothing is sent until there is a session again.
func (m *Machine) sessionDown() {
	m.up, m.synced, m.flushing = false, false, false
	m.forgetCalls()
	m.anewAt = m.now.Add(max(anewAfter, anewAfterTimeouts*m.timeout))
	m.resyncAt = time.Time{}
	if m.closing != nil {
		m.closing.interrupted()
	}
	if m.state == Connected {
		m.change(Suspended, "disconnected")
	}
	if m.state == Suspended {
		m.lostAt = m.now.Add(m.timeout)
	}
}

func (m *Machine) sessionExpired() {
	if m.up {
		m.sessionDown()
	}
	m.lostAt = time.Time{}
	m.change(Lost, "expired")
}

// change emits a transition to a state in which nothing is read. Before the first picture of ZooKeeper there is nothing
// to lose.
func (m *Machine) change(to State, reason string) {
	if m.state == to || m.state == Connecting || m.closing != nil {
		return
	}
	if to == Lost {
		m.loss = true
	}
	m.transition(SessionChanged{State: to, ID: m.id, Timeout: m.timeout}, reason)
}

func (m *Machine) transition(ev SessionChanged, reason string) {
	level := logrus.InfoLevel
	if ev.State == Suspended || ev.State == Lost {
		level = logrus.WarnLevel // degraded, but safe
	}
	m.log.WithFields(logrus.Fields{"from": m.state.String(), "to": ev.State.String(), "session": hex(ev.ID), "reason": reason}).
		Log(level, "ZooKeeper session changed")
	m.state = ev.State
	m.emit(ev)
}

func (m *Machine) emit(ev Event) {
	if m.closing == nil {
		m.out.Events = append(m.out.Events, ev)
	}
}

// pumpSession starts whatever is due in a session.
func (m *Machine) pumpSession() {
	if !m.flushed {
		m.pumpFlush()
		return
	}
	m.pumpLeaving()
	for _, s := range m.services {
		m.pumpReads(s)
	}
	if !m.synced && !slices.ContainsFunc(m.services, func(s *service) bool { return !s.complete() }) {
		m.connected()
	}
	if !m.synced {
		return
	}
	for _, s := range m.services {
		m.pumpClaims(s)
		m.pumpRemovals(s)
		m.pumpRecord(s)
	}
	m.later(m.resyncAt)
}

// pumpFlush sends a Sync, without which a new session may see an older state than the one before did.
func (m *Machine) pumpFlush() {
	if m.flushing {
		return
	}
	if !m.flush.due(m.now) {
		m.later(m.flush.at)
		return
	}
	m.flushing = true
	m.call(nil, Call{Op: OpSync, Path: "/"}, func(_ *pending, res Result) {
		m.flushing = false
		m.flushed = res.Err == nil
		if res.Err != nil {
			m.complain(m.flush.fails, "/", "sync", res.Err)
			m.flush.failed(m.now)
		}
	})
}

// connected emits the complete picture.
func (m *Machine) connected() {
	m.synced = true
	m.resyncAt = m.now.Add(m.cfg.Resync)
	m.transition(SessionChanged{State: Connected, ID: m.id, Timeout: m.timeout, AfterLoss: m.loss}, "everything is read")
	m.loss = false
	for _, s := range m.services {
		for _, r := range s.reads {
			if r.result != nil {
				m.emit(r.result)
			}
		}
	}
}

// dirtyAll has everything read again; loud readings are emitted even if they say what is known already.
func (m *Machine) dirtyAll(loud bool) {
	m.resyncAt = time.Time{}
	if m.up {
		m.resyncAt = m.now.Add(m.cfg.Resync)
	}
	for _, s := range m.services {
		for _, r := range s.reads {
			r.soil(loud)
		}
		s.record.check = true
	}
}

func (m *Machine) nodeChanged(changed string) {
	for _, s := range m.services {
		s.nodeChanged(changed)
	}
	delete(m.orphans, watchKey{changed, false})
	delete(m.orphans, watchKey{changed, true})
	for _, h := range m.leaving {
		if path.Dir(h.path) == changed {
			h.at = time.Time{} // it may be another's by now
		}
	}
}

// sameReading reports whether two readings say the same.
func sameReading(a, b Event) bool {
	switch a := a.(type) {
	case ClaimsRead:
		b, ok := b.(ClaimsRead)
		return ok && maps.Equal(a.Claims, b.Claims)
	case MaintenanceRead:
		b, ok := b.(MaintenanceRead)
		return ok && sameFlag(a.Present, b.Present, a.Data, b.Data)
	case FailbackRead:
		b, ok := b.(FailbackRead)
		return ok && sameFlag(a.Present, b.Present, a.Data, b.Data)
	case PeersRead:
		b, ok := b.(PeersRead)
		return ok && maps.EqualFunc(a.Peers, b.Peers, Status.Equal) && maps.Equal(a.Junk, b.Junk)
	}
	return false
}

func sameFlag(a, b bool, dataA, dataB []byte) bool {
	return a == b && bytes.Equal(dataA, dataB) && (dataA == nil) == (dataB == nil)
}

// deny logs once that an ACL forbids something.
func (m *Machine) deny(path, right string) {
	if key := right + " " + path; !m.denied[key] {
		m.denied[key] = true
		m.log.WithFields(logrus.Fields{"path": path, "right": right}).Error("ZooKeeper's ACL refuses a right that is needed")
	}
}

// allow forgets that an ACL forbade something, so that it is logged should it be forbidden again.
func (m *Machine) allow(path, right string) { delete(m.denied, right+" "+path) }

// complain logs a failure: the first in a row for people, the others for debugging. A lost connection is told elsewhere.
func (m *Machine) complain(fails int, path, op string, err error) {
	log := m.log.WithError(err).WithFields(logrus.Fields{"path": path, "op": op})
	if fails > 0 || errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrSessionExpired) {
		log.Debug("ZooKeeper call went wrong")
		return
	}
	log.Warn("ZooKeeper call went wrong, it is tried again")
}

// hex prints a session id as ZooKeeper's own tools do.
func hex(id int64) string { return fmt.Sprintf("%#x", uint64(id)) }
