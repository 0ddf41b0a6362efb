package zkstate

import (
	"errors"
	"slices"
	"time"
)

// Op is a request to ZooKeeper.
type Op uint8

const (
	OpSync     Op = iota // bring the connected server up to date with the leader
	OpChildren           // names in a directory
	OpGet                // data and metadata
	OpExists             // metadata; answered without any right, and for a missing node
	OpCreate             // world-writable node, persistent or Ephemeral
	OpSet                // data, where Version is the node's
	OpDelete             // whatever its version
	OpRemove             // delete, where Version is the node's
	OpReplace            // delete and create an ephemeral node, as one transaction: nobody ever sees it absent
)

func (o Op) String() string {
	return [...]string{"sync", "children", "get", "exists", "create", "set", "delete", "remove", "replace"}[o]
}

// Tag names one request. Results that come after the Machine stopped waiting are told by it.
type Tag struct {
	Conn    uint64 // number of the client connection
	Session int64
	Attempt uint64 // grows with every call
}

// Call is a request that the Machine wants sent. Each needs exactly one Result, however late.
type Call struct {
	Tag       Tag
	Op        Op
	Path      string
	Watch     bool   // of OpChildren, OpGet, OpExists: also leave a one-shot watch; OpExists leaves one on a missing node too
	Data      []byte // of OpCreate, OpSet, OpReplace
	Ephemeral bool   // of OpCreate
	Version   int32  // of OpSet, OpRemove
}

// Stat is what is used of a znode's metadata.
type Stat struct {
	Czxid    int64 // transaction that created it: names one life of the node
	Mzxid    int64 // transaction that wrote its data last
	Pzxid    int64 // transaction that changed its children last
	Cversion int32 // number of changes of its children
	Version  int32 // number of changes of its data
	Owner    int64 // session of an ephemeral node; 0 for a persistent one
	Length   int32 // of its data, bytes
}

// Result is what became of a Call. Err is one of the client library's errors; look at it first.
type Result struct {
	Tag   Tag
	Err   error
	Found bool // of OpExists
	Names []string
	Data  []byte
	Stat  Stat
}

// errNoAnswer stands for the outcome of a call that was not answered in time: it is not known.
var errNoAnswer = errors.New("no answer in time")

const (
	// maxLive bounds the calls whose result is waited for. The library's queue takes 16 before callers block.
	maxLive = 16
	// maxSent bounds all calls that have not returned, those included that are no longer waited for: each is a goroutine.
	maxSent = 64
)

// pending is a call that waits to be sent, or for its result.
type pending struct {
	of       *service // on whose behalf; nil means the session's
	call     Call
	sent     time.Time
	deadline time.Time
	done     func(*pending, Result)
}

// calls keeps count of the requests on one client connection.
type calls struct {
	attempt uint64
	urgent  []*pending // waiting to be sent: claims, maintenance
	patient []*pending // waiting to be sent: status records; there may be hundreds
	live    []*pending // sent, in order of sending
	// late are the calls that were sent, are no longer waited for, and have not returned: by Attempt, the ephemeral node that
	// one may still make, "" for most.
	late map[uint64]string
}

// call has c sent for s as soon as there is room; done gets its result unless the session changes before, or s does.
func (m *Machine) call(s *service, c Call, done func(*pending, Result)) {
	m.calls.urgent = append(m.calls.urgent, &pending{of: s, call: c, done: done})
}

// callPatiently is call behind everything else.
func (m *Machine) callPatiently(s *service, c Call, done func(*pending, Result)) {
	m.calls.patient = append(m.calls.patient, &pending{of: s, call: c, done: done})
}

// send moves waiting calls into the output while there is room.
func (m *Machine) send() {
	q := &m.calls
	if n := min(maxLive-len(q.live), maxSent-len(q.live)-len(q.late), len(q.urgent)+len(q.patient)); n > 0 {
		m.out.Calls = make([]Call, 0, n)
	}
	for len(q.live) < maxLive && len(q.live)+len(q.late) < maxSent {
		from := &q.urgent
		if len(*from) == 0 {
			from = &q.patient
		}
		if len(*from) == 0 {
			break
		}
		p := (*from)[0]
		*from = (*from)[1:]
		q.attempt++
		p.call.Tag = Tag{Conn: m.conn, Session: m.id, Attempt: q.attempt}
		p.sent, p.deadline = m.now, m.now.Add(m.timeout*2/3+time.Second)
		q.live = append(q.live, p)
		m.out.Calls = append(m.out.Calls, p.call)
	}
	for _, p := range q.live {
		m.later(p.deadline)
	}
}

// returned hands a result to whoever waits for it.
func (m *Machine) returned(res Result) {
	if res.Tag.Conn != m.conn {
		return
	}
	q := &m.calls
	i := slices.IndexFunc(q.live, func(p *pending) bool { return p.call.Tag == res.Tag })
	if i < 0 {
		delete(q.late, res.Tag.Attempt)
		m.log.WithField("attempt", res.Tag.Attempt).Debug("late result is dropped")
		return
	}
	p := q.live[i]
	q.live = slices.Delete(q.live, i, i+1)
	p.done(p, res)
}

// expireCalls gives up waiting for calls that have had no answer until their deadline.
func (m *Machine) expireCalls() {
	q := &m.calls
	for len(q.live) > 0 && !m.now.Before(q.live[0].deadline) {
		p := q.live[0]
		q.live = q.live[1:]
		q.isLate(p)
		m.log.WithField("op", p.call.Op).WithField("path", p.call.Path).Debug("call is not answered in time")
		p.done(p, Result{Tag: p.call.Tag, Err: errNoAnswer})
	}
}

// forgetCalls drops all calls: the connection they were meant for is gone, and everything will be read again.
func (m *Machine) forgetCalls() {
	q := &m.calls
	for _, p := range q.live {
		q.isLate(p)
	}
	q.live, q.urgent, q.patient = nil, nil, nil
}

// forget drops all calls for s. Those that were sent may still take effect.
func (q *calls) forget(s *service) {
	of := func(p *pending) bool { return p.of == s }
	for _, p := range q.live {
		if of(p) {
			q.isLate(p)
		}
	}
	q.live, q.urgent, q.patient = slices.DeleteFunc(q.live, of), slices.DeleteFunc(q.urgent, of), slices.DeleteFunc(q.patient, of)
}

// isLate notes that a call that was sent is no longer waited for.
func (q *calls) isLate(p *pending) {
	made := ""
	if p.call.Ephemeral {
		made = p.call.Path
	}
	q.late[p.call.Tag.Attempt] = made
}

// mayMake reports whether a call that nobody waits for may still make an ephemeral node at path.
func (q *calls) mayMake(path string) bool {
	for _, made := range q.late {
		if made == path {
			return true
		}
	}
	return false
}

// retry spaces out the tries of something that fails.
type retry struct {
	fails int
	at    time.Time // not before; zero means now
}

const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// failed puts the next try off, ever longer.
func (r *retry) failed(now time.Time) {
	r.at = now.Add(min(retryFirst<<min(r.fails, 10), retryMost))
	r.fails++
}

// pause puts the next try off by d without counting a failure.
func (r *retry) pause(now time.Time, d time.Duration) { r.at = now.Add(d) }

func (r *retry) due(now time.Time) bool { return !now.Before(r.at) }
