package zoo

import (
	"errors"
	"slices"
	"time"

	"exazk/sim/vclock"
	"exazk/zkstate"

	"github.com/go-zookeeper/zk"
)

// Client is one client connection as zkstate opens it, until Close, Die or Lose. It keeps a session as long as it can and
// makes a new one when that has expired.
type Client struct {
	e       *Ensemble
	host    int
	number  uint64 // of the connection, for the tags
	push    func(zkstate.Input)
	asked   time.Duration // session timeout that is asked for
	timeout time.Duration // that was given
	limit   time.Duration // of a dial, and of a handshake

	order  []int       // of the servers
	turn   int         // of order: where to go next
	tried  []time.Time // when each server was tried last
	tries  int         // since there was a session
	parked bool        // no server would have it: it waits until that changes

	session int64
	seen    int64 // newest zxid in an answer
	k       *conn // nil between two connections
	shaking *vclock.Timer
	up      bool // the client has a session on k

	out      []*request // calls of this instant
	spare    []*request // room for those of the next
	launch   func()     // sends them
	queue    []*request // calls that wait for a session
	sent     []*request // calls that wait for their answers
	watches  []watcher
	paused   bool
	waking   bool     // Resume was called at this instant
	deferred []func() // what came while the process was stopped
	closing  bool     // Close was called
	parting  bool     // the server was asked to end the session
	ended    bool     // it tries no more
	gone     bool     // no more is pushed
}

// watcher is a watch that the client knows of.
type watcher struct {
	path string
	want watchKind
}

type watchKind uint8

const (
	dataWatch watchKind = iota
	existWatch
	childWatch
)

// event is the kind of a watch's event.
type event uint8

const (
	nodeCreated event = iota
	nodeDeleted
	nodeWritten
	childrenChanged
)

const (
	// pace is the least time between two tries of one server (zkstate's dialer).
	pace = 100 * time.Millisecond
	// closeWithin is how long Close waits for the server (zk.Conn.Close).
	closeWithin = time.Second
	// resultDelay is the most that a result takes to come out of the goroutine that waits for it; events overtake it.
	resultDelay = time.Millisecond
)

// handshakeLimit is zkstate's: how long a server may take to accept a connection, and then to answer the first request.
func handshakeLimit(timeout time.Duration) time.Duration {
	if timeout <= 2*time.Second {
		return 500 * time.Millisecond
	}
	return time.Second
}

var errBroken = errors.New("write: broken pipe")

// Connect makes a client that runs on a host and asks for a session timeout. What happens is handed to push, from the clock
// and never from within a call of this package.
func (e *Ensemble) Connect(host int, conn uint64, timeout time.Duration, push func(zkstate.Input)) *Client {
	c := &Client{e: e, host: host, number: conn, push: push, asked: timeout, timeout: timeout, limit: handshakeLimit(timeout),
		order: e.r.Perm(len(e.servers)), tried: make([]time.Time, len(e.servers))}
	c.launch = func() { c.do(c.sendOut) }
	e.clients = append(e.clients, c)
	e.clock.After(0, func() { c.do(c.dial) })
	return c
}

// Session is the id of the session that the client has, or believes to have; 0 before the first and after it was told of
// its end.
func (c *Client) Session() int64 { return c.session }

// do has f happen in the client's process: now, or when it goes on, or never.
func (c *Client) do(f func()) {
	switch {
	case c.gone:
	case c.paused:
		c.deferred = append(c.deferred, f)
	default:
		f()
	}
}

// tellUser hands an input on.
func (c *Client) tellUser(in zkstate.Input) {
	if !c.gone {
		c.push(in)
	}
}

// dial goes to the next server. The host provider never says that a round has failed, so there is no pause but the pace.
func (c *Client) dial() {
	if c.closing {
		c.quit()
		return
	}
	if c.tries >= len(c.order) && c.hopeless() {
		c.parked = true
		return
	}
	s := c.e.servers[c.order[c.turn]]
	c.turn = (c.turn + 1) % len(c.order)
	at := c.e.now()
	if t := c.tried[s.n]; !t.IsZero() {
		at = later(at, t.Add(pace))
	}
	c.e.clock.At(at, func() { c.do(func() { c.try(s) }) })
}

// hopeless reports whether every server would turn the client away at once. Trying on, thirty times a second, would show it
// nothing but the same.
func (c *Client) hopeless() bool {
	for _, s := range c.e.servers {
		if _, cut := c.e.cuts[wire{c.host, s.n}]; cut || s.frozen || s.serving && s.running {
			return false
		}
	}
	return true
}

// wake has clients that gave up for a while try again.
func (e *Ensemble) wake() {
	for _, c := range e.clients {
		if c.parked && !c.hopeless() {
			c.parked = false
			e.clock.After(e.draw(pace), func() { c.do(c.dial) })
		}
	}
}

// try connects to a server. A frozen one's port accepts.
func (c *Client) try(s *server) {
	if c.closing {
		c.quit()
		return
	}
	e := c.e
	c.tries++
	c.tried[s.n] = e.now()
	if _, cut := e.cuts[wire{c.host, s.n}]; cut {
		e.clock.After(c.limit, func() { c.do(c.dial) })
		return
	}
	e.clock.After(e.delay()+e.delay(), func() {
		c.do(func() {
			if !s.running || c.closing {
				c.dial()
				return
			}
			c.connected(s)
		})
	})
}

// connected begins the handshake. The guard bounds it (§1.5).
func (c *Client) connected(s *server) {
	k := newConn(c, s)
	c.k = k
	c.shaking = c.e.clock.Timer(c.e.now().Add(c.limit), func() { c.do(func() { c.lose(k) }) })
	req := &request{kind: open, k: k, timeout: c.timeout, seen: c.seen}
	if c.session != 0 {
		req.kind, req.id = resume, c.session
	}
	k.post(theHello, req)
}

// welcomed takes a session that has begun or was resumed. Watches are set again, before or after what has waited (§1.4).
// What has waited may have been asked for in another session: it crosses over.
func (c *Client) welcomed(k *conn, s *session) {
	e := c.e
	e.clock.Stop(c.shaking)
	c.session, c.timeout, c.up, c.tries = s.id, s.timeout, true, 0
	k.up, k.begun, k.heard = true, e.now(), e.now()
	k.hears, k.hearsSince = true, e.now()
	k.review()
	c.tellUser(zkstate.SessionUp{Conn: c.number, ID: s.id, Timeout: s.timeout})
	first := e.chance(2)
	if first {
		c.rewatch(k)
	}
	queue := c.queue
	c.queue = nil
	for _, req := range queue {
		c.transmit(req)
	}
	if !first {
		c.rewatch(k)
	}
	if c.closing {
		c.bye(k)
	}
}

func (c *Client) rewatch(k *conn) {
	if len(c.watches) == 0 {
		return
	}
	req := &request{kind: rewatch, k: k, watches: slices.Clone(c.watches), seen: c.seen}
	k.post(theRequest, req)
}

// expired takes the news that the session has ended. It comes on a reconnect only (fact 4); the watches are gone, and a
// new session may see an older state.
func (c *Client) expired(k *conn) {
	c.session, c.seen, c.watches = 0, 0, nil
	c.tellUser(zkstate.SessionExpired{Conn: c.number})
	c.lose(k)
}

// lose ends a connection. First that is told, then what was sent on it fails; whether it was carried out is not known
// (fact 6).
func (c *Client) lose(k *conn) {
	if c.k != k || !k.clientOpen || c.gone {
		return
	}
	c.e.clock.Stop(c.shaking)
	c.k, c.up = nil, false
	k.drop(true)
	c.tellUser(zkstate.SessionDown{Conn: c.number})
	failed := c.sent
	c.sent = nil
	c.fail(failed)
	if c.closing {
		c.remove()
		return
	}
	c.dial()
}

// fail has calls return without an answer.
func (c *Client) fail(calls []*request) {
	if len(calls) == 0 {
		return
	}
	c.e.clock.After(0, func() {
		c.do(func() {
			for _, req := range calls {
				err := zk.ErrConnectionClosed
				if !c.closing && c.e.chance(8) {
					err = errBroken
				}
				c.tellUser(zkstate.Result{Tag: req.call.Tag, Err: err})
			}
		})
	})
}

// Send asks for a call to be carried out. Its one Result comes through push, however late.
func (c *Client) Send(call zkstate.Call) {
	req := c.e.request()
	req.call = call
	switch call.Op {
	case zkstate.OpSync:
		req.kind = flush
	case zkstate.OpChildren, zkstate.OpGet, zkstate.OpExists:
		req.kind = look
	}
	if c.closing {
		c.fail([]*request{req})
		return
	}
	if c.out = append(c.out, req); len(c.out) == 1 {
		c.e.clock.After(0, c.launch)
	}
}

// sendOut sends the calls of one instant. Each has a goroutine of its own, so they may overtake each other.
func (c *Client) sendOut() {
	out := c.out
	c.out = c.spare[:0]
	if len(out) > 1 && c.e.chance(2) {
		c.e.r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	for _, req := range out {
		if c.up {
			c.transmit(req)
		} else {
			c.queue = append(c.queue, req)
		}
	}
	c.spare = out
}

func (c *Client) transmit(req *request) {
	k := c.k
	req.k = k
	c.sent = append(c.sent, req)
	k.post(theRequest, req)
}

// answered takes the answer to a request.
func (c *Client) answered(req *request, zxid int64) {
	c.seen = zxid
	switch req.kind {
	case rewatch:
		return
	case bye:
		c.hangUp()
		return
	}
	i := slices.Index(c.sent, req)
	if i < 0 {
		return // Close has answered it
	}
	c.sent = slices.Delete(c.sent, i, i+1)
	c.remember(req)
	var res zkstate.Input = req.result
	c.e.recycle(req)
	if c.e.chance(8) {
		c.e.clock.After(c.e.draw(resultDelay), func() { c.do(func() { c.tellUser(res) }) })
		return
	}
	c.tellUser(res)
}

// remember notes the watch that an answer has left. Which kind "exists" leaves depends on what it found.
func (c *Client) remember(req *request) {
	if !req.call.Watch || req.result.Err != nil {
		return
	}
	w := watcher{req.call.Path, dataWatch}
	switch {
	case req.call.Op == zkstate.OpChildren:
		w.want = childWatch
	case req.call.Op == zkstate.OpExists && !req.result.Found:
		w.want = existWatch
	}
	if !slices.Contains(c.watches, w) {
		c.watches = append(c.watches, w)
	}
}

// fired takes the event of a watch and forgets the watches that it ends (notifyWatches).
func (c *Client) fired(p string, what event) {
	c.watches = slices.DeleteFunc(c.watches, func(w watcher) bool { return w.path == p && ends(what, w.want) })
	c.tellUser(zkstate.NodeChanged{Conn: c.number, Path: p})
}

func ends(what event, want watchKind) bool {
	switch what {
	case nodeCreated:
		return want == existWatch
	case nodeWritten:
		return want != childWatch
	case childrenChanged:
		return want == childWatch
	}
	return true
}

// Close ends the session if the server answers within a second; else the session lives on to its timeout. Calls that have
// no result yet fail at once, carried out or not.
func (c *Client) Close() {
	if c.closing || c.gone {
		return
	}
	c.closing = true
	failed := slices.Concat(c.sent, c.queue, c.out)
	c.sent, c.queue, c.out = nil, nil, nil
	c.fail(failed)
	if c.k == nil {
		c.quit()
		return
	}
	if c.up {
		c.bye(c.k)
	}
	c.e.clock.After(closeWithin, func() { c.do(c.hangUp) })
}

func (c *Client) bye(k *conn) {
	if c.parting {
		return
	}
	c.parting = true
	req := &request{kind: bye, k: k}
	k.post(theRequest, req)
}

// hangUp ends a closing client's connection.
func (c *Client) hangUp() {
	if k := c.k; k != nil {
		c.lose(k)
	}
}

// quit is the end of a client that was closed while it had no connection. Once more it says so.
func (c *Client) quit() {
	if c.ended {
		return
	}
	c.remove()
	c.e.clock.After(0, func() { c.do(func() { c.tellUser(zkstate.SessionDown{Conn: c.number}) }) })
}

func (c *Client) remove() {
	c.ended = true
	c.e.clients = slices.DeleteFunc(c.e.clients, func(o *Client) bool { return o == c })
}

// Die ends the client's process: its connection closes, the session lives on to its timeout, and nothing is pushed.
func (c *Client) Die() { c.end(true) }

// Lose takes the power from the client's host: as Die, and no server hears of it.
func (c *Client) Lose() { c.end(false) }

func (c *Client) end(tell bool) {
	if c.gone {
		return
	}
	c.gone, c.paused, c.waking, c.deferred = true, false, false, nil
	c.remove()
	c.e.clock.Stop(c.shaking)
	if k := c.k; k != nil {
		c.k, c.up = nil, false
		k.drop(tell)
	}
}

// Pause stops the client's process (SIGSTOP): no pings go out, nothing is taken in, no timer of it runs out.
func (c *Client) Pause() {
	c.waking = false
	if c.gone || c.paused {
		return
	}
	c.paused = true
	if c.k != nil {
		c.k.review()
	}
}

// Resume lets a stopped process go on. Where it has slept for longer than it bears silence, it mostly closes its connection
// before it looks at what has come (fact 3f).
func (c *Client) Resume() {
	if !c.paused || c.waking {
		return
	}
	c.waking = true
	c.e.clock.After(0, c.goOn)
}

func (c *Client) goOn() {
	if !c.waking {
		return
	}
	c.waking, c.paused = false, false
	if k := c.k; k != nil {
		k.review()
		if c.up && !c.e.now().Before(k.silence()) && (len(c.deferred) == 0 || !c.e.chance(4)) {
			c.lose(k)
		}
	}
	work := c.deferred
	c.deferred = nil
	for i, f := range work {
		if c.paused { // stopped again by what it was told
			c.deferred = append(slices.Clone(work[i:]), c.deferred...)
			return
		}
		f()
	}
}
