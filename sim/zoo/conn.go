package zoo

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"

	"exazk/sim/vclock"
	"exazk/zkstate"
)

// kind is what a request is about.
type kind uint8

const (
	ask     kind = iota // a call that writes
	look                // a call that reads
	flush               // OpSync
	rewatch             // SetWatches
	open                // a new session
	resume              // an old session at a new connection
	bye                 // closeSession
)

// request is one message of a client, until it is answered.
type request struct {
	kind    kind
	k       *conn
	sess    *session
	call    zkstate.Call
	epoch   int64         // of the leader that it was handed on to
	id      int64         // of resume
	timeout time.Duration // asked for, of open and resume
	seen    int64         // zxid that the client has seen, of open, resume and rewatch
	watches []watcher     // of rewatch
	result  zkstate.Result
	done    bool
}

// request takes a free one.
func (e *Ensemble) request() *request {
	n := len(e.requests)
	if n == 0 {
		return &request{}
	}
	req := e.requests[n-1]
	e.requests = e.requests[:n-1]
	*req = request{}
	return req
}

// recycle takes back a read that was answered: nobody else knows of it. A write may still be in the log.
func (e *Ensemble) recycle(req *request) {
	if req.kind == look {
		e.requests = append(e.requests, req)
	}
}

// pipe is one direction of a connection. What is in it keeps its order.
type pipe struct {
	last  time.Time // arrival of the newest
	sent  int       // messages that were sent
	come  int       // messages that have arrived
	limit int       // later ones get lost
	held  []*parcel // what TCP sends again until the cut is mended
}

// conn is a connection between a client and a server. Each end may think that it is open while the other has closed it.
type conn struct {
	e          *Ensemble
	c          *Client
	s          *server
	clientOpen bool
	serverOpen bool
	up         bool // the client has learnt of its session
	toServer   pipe
	toHost     pipe
	sess       *session

	work    []*request // what the server has not answered, in the order of arrival
	pending int        // those of work that a leader must see
	data    []string   // watches at the server, "exists" included
	child   []string   // watches on children at the server

	// Pings go every third of the timeout, from begun on, as long as the server can hear them (reaches), and are answered
	// as long as the client can hear that (hears). What they have told before is kept when that ends.
	begun, told, heard       time.Time
	reaches, hears           bool
	reachesSince, hearsSince time.Time
	giveUp                   *vclock.Timer // the client closes a connection on which it has heard nothing for 2/3 T
}

func newConn(c *Client, s *server) *conn {
	k := &conn{e: c.e, c: c, s: s, clientOpen: true, serverOpen: true, begun: c.e.now()}
	k.toServer.limit, k.toHost.limit = math.MaxInt, math.MaxInt
	s.conns = append(s.conns, k)
	return k
}

// there reports whether the server still has the connection.
func (k *conn) there() bool { return k.serverOpen }

// eachConn calls f for every connection that one end at least takes for open.
func (e *Ensemble) eachConn(f func(*conn)) {
	for _, s := range e.servers {
		for _, k := range slices.Clone(s.conns) {
			f(k)
		}
	}
	for _, c := range e.clients {
		if c.k != nil && !c.k.serverOpen {
			f(c.k)
		}
	}
}

// send sends a parcel on its way, behind what is there already.
func (k *conn) send(p *parcel) {
	cut, way := k.cut(), &k.toHost
	lost := cut.toHost
	if p.letter.toServer() {
		way, lost = &k.toServer, cut.toServer
	}
	if lost || len(way.held) > 0 {
		way.held = append(way.held, p)
		return
	}
	way.last = later(way.last, k.e.now().Add(k.e.delay()))
	k.e.clock.At(way.last, p.come)
}

func (k *conn) cut() lost {
	if len(k.e.cuts) == 0 {
		return lost{}
	}
	return k.e.cuts[wire{k.c.host, k.s.n}]
}

// release sends on what a cut has held up.
func (k *conn) release(after time.Duration) {
	for _, p := range []*pipe{&k.toServer, &k.toHost} {
		for _, held := range p.held {
			p.last = later(p.last, k.e.now().Add(after))
			k.e.clock.At(p.last, held.come)
		}
		p.held = nil
	}
}

// post sends a request to the server.
func (k *conn) post(l letter, req *request) {
	k.toServer.sent++
	p := k.parcel(l)
	p.n, p.req = k.toServer.sent, req
	k.send(p)
}

// touched notes that the server has heard of the session by a request.
func (k *conn) touched() {
	if k.sess == nil {
		return
	}
	k.told = k.e.now()
	if !k.reaches && k.sess.k == k && k.sess.alive {
		k.sess.silent(k.told)
	}
}

// drop closes the client's end. What was sent may get lost from some message on; unless the host has no power any more,
// the server is told.
func (k *conn) drop(tell bool) {
	k.clientOpen = false
	k.e.clock.Stop(k.giveUp)
	if p := &k.toServer; p.sent > p.come && k.e.chance(2) {
		p.limit = p.come + k.e.r.IntN(p.sent-p.come+1)
	}
	if tell {
		k.send(k.parcel(theEnd))
	} else {
		k.toServer.held = nil
	}
	k.review()
}

// shut closes the server's end and tells the client. Requests that the leader has go on.
func (k *conn) shut() {
	k.serverOpen = false
	k.s.conns = slices.DeleteFunc(k.s.conns, func(o *conn) bool { return o == k })
	k.work, k.data, k.child = nil, nil, nil
	if k.clientOpen {
		k.send(k.parcel(theClosing))
	}
	k.review()
}

// review works out whether pings arrive and are answered, after something has happened that may change it.
func (k *conn) review() {
	if k.sess == nil {
		return
	}
	cut := k.cut()
	reaches := k.clientOpen && k.serverOpen && !k.c.paused && k.s.alive() && !cut.toServer
	if reaches != k.reaches {
		k.reaches = reaches
		k.reachChanged()
	}
	if !k.up || !k.clientOpen {
		return
	}
	// A write that waits holds back what comes behind it, the answers to pings too (§1.4).
	hears := reaches && !cut.toHost && (k.pending == 0 || k.e.Quorum())
	if hears != k.hears {
		k.hears = hears
		k.hearChanged()
	}
}

func (k *conn) reachChanged() {
	now := k.e.now()
	if !k.reaches {
		k.told = later(k.told, k.lastPing(k.reachesSince))
		if k.sess.k == k && k.sess.alive {
			k.sess.silent(k.told)
		}
		return
	}
	k.reachesSince = now
	k.e.clock.After(k.e.draw(k.e.again), func() {
		if k.reaches && k.reachesSince.Equal(now) {
			k.told = k.e.now()
			if k.sess.k == k {
				k.sess.stop()
			}
		}
	})
}

func (k *conn) hearChanged() {
	now := k.e.now()
	if !k.hears {
		k.heard = later(k.heard, k.lastPing(k.hearsSince))
		k.watchSilence()
		return
	}
	k.hearsSince = now
	k.e.clock.After(k.e.draw(k.e.again), func() {
		if k.hears && k.hearsSince.Equal(now) {
			k.heard = k.e.now()
			k.e.clock.Stop(k.giveUp)
		}
	})
}

// lastPing is when the newest ping was sent; the zero time if none was since a moment.
func (k *conn) lastPing(since time.Time) time.Time {
	period := k.sess.timeout / 3
	t := k.begun.Add(k.e.now().Sub(k.begun) / period * period)
	if t.Before(since) {
		return time.Time{}
	}
	return t
}

// silence is when the client gives up.
func (k *conn) silence() time.Time { return k.heard.Add(k.sess.timeout * 2 / 3) }

func (k *conn) watchSilence() {
	k.e.clock.Stop(k.giveUp)
	k.giveUp = k.e.clock.Timer(k.silence(), func() {
		if !k.c.paused { // else Resume sees to it
			k.c.lose(k)
		}
	})
}

// hello begins a session, or brings one back.
func (k *conn) hello(req *request) {
	s := k.s
	switch {
	case !s.serving: // "ZooKeeperServer not running"
		k.shut()
		return
	case req.seen > s.zxid: // a session never sees an older state than it has seen
		k.shut()
		return
	case !s.member(): // it does not know yet, and closes the connection when it does
		if s.leads && req.kind == resume {
			k.mislead(req)
		}
		return
	}
	if req.kind == resume {
		for _, o := range slices.Clone(s.conns) {
			if o != k && o.sess != nil && o.sess.id == req.id {
				o.shut()
			}
		}
	}
	s.handOn(req)
}

// mislead is the answer of a leader that has slept through its reign's end. By its own clock the sessions have expired, and
// it says so although the quorum keeps them, with their nodes; after a shorter sleep it takes the session for its own.
func (k *conn) mislead(req *request) {
	req.sess = k.e.session(req.id)
	switch {
	case req.sess == nil:
	case k.e.now().Sub(k.s.left) < req.sess.timeout:
		k.sess = req.sess
		k.reaches, k.reachesSince = true, k.e.now()
	case k.e.chance(4): // it stops before it answers
		return
	default:
		req.sess = nil
	}
	k.welcome(req)
}

// handOn gives a request to the leader.
func (s *server) handOn(req *request) {
	req.epoch = s.epoch
	if s == s.e.leader {
		s.e.lead(req)
		return
	}
	s.forward = later(s.forward, s.e.now().Add(s.e.delay()))
	s.e.clock.At(s.forward, func() { s.e.lead(req) })
}

// welcome answers a hello: with a session, or with the news that it has expired.
func (k *conn) welcome(req *request) {
	if !k.serverOpen {
		return
	}
	s := req.sess
	if s == nil {
		k.send(k.parcel(theExpiry))
		k.shut()
		return
	}
	p := k.parcel(theWelcome)
	p.sess = s
	k.send(p)
}

// serve takes a request. Writes go to the leader as they come; reads wait for what the same client has asked before.
func (k *conn) serve(req *request) {
	req.sess = k.sess
	k.work = append(k.work, req)
	switch req.kind {
	case look, rewatch:
		k.pump()
		return
	}
	k.pending++
	switch {
	case k.s.member():
		k.s.handOn(req)
	case req.kind == flush && k.s.leads: // a deposed leader answers for a while: sync asks no quorum (§2)
		k.settle(req, nil)
	}
}

// settle takes the outcome of a request that the leader has carried out, as far as the log.
func (k *conn) settle(req *request, err error) {
	if req.kind == open {
		k.welcome(req)
		return
	}
	if errors.Is(err, zk.ErrSessionMoved) && k.serverOpen {
		// The leader took the client's way here for older than its way to another server. No answer: the connection is torn
		// down, and the client comes anew (FinalRequestProcessor, ZOOKEEPER-710).
		k.shut()
		return
	}
	k.pending--
	req.done = true
	req.result = zkstate.Result{Tag: req.call.Tag, Err: err}
	k.pump()
}

// pump answers what can be answered, in order.
func (k *conn) pump() {
	for len(k.work) > 0 {
		req := k.work[0]
		switch {
		case req.kind == look:
			req.result = k.s.tree.read(req.call)
			k.arm(req)
		case req.kind == rewatch:
			k.rearm(req)
		case !req.done:
			return
		}
		k.work = slices.Delete(k.work, 0, 1)
		p := k.parcel(theAnswer)
		p.req, p.zxid = req, k.s.zxid
		k.send(p)
	}
}

// arm leaves the watch that a read asks for, if it was answered.
func (k *conn) arm(req *request) {
	if !req.call.Watch || req.result.Err != nil {
		return
	}
	if req.call.Op == zkstate.OpChildren {
		addTo(&k.child, req.call.Path)
	} else {
		addTo(&k.data, req.call.Path)
	}
}

// rearm sets the watches of a session again after a reconnect; those that have missed something fire at once
// (DataTree.setWatches).
func (k *conn) rearm(req *request) {
	for _, w := range req.watches {
		n := k.s.tree[w.path]
		switch {
		case w.want == existWatch && n != nil:
			k.event(w.path, nodeCreated)
		case w.want == existWatch:
			addTo(&k.data, w.path)
		case n == nil:
			k.event(w.path, nodeDeleted)
		case w.want == dataWatch && n.stat.Mzxid > req.seen:
			k.event(w.path, nodeWritten)
		case w.want == dataWatch:
			addTo(&k.data, w.path)
		case n.stat.Pzxid > req.seen:
			k.event(w.path, childrenChanged)
		default:
			addTo(&k.child, w.path)
		}
	}
}

// fire tells the client of a change that it watches; every watch fires once. One that watches a node and its children
// hears once of its end.
func (k *conn) fire(c change) {
	if len(k.data)+len(k.child) == 0 || c.deed == unseen {
		return
	}
	switch c.deed {
	case created:
		if take(&k.data, c.path) {
			k.event(c.path, nodeCreated)
		}
	case written:
		if take(&k.data, c.path) {
			k.event(c.path, nodeWritten)
		}
		return
	case deleted:
		data, child := take(&k.data, c.path), take(&k.child, c.path)
		if data || child {
			k.event(c.path, nodeDeleted)
		}
	}
	if take(&k.child, c.dir) {
		k.event(c.dir, childrenChanged)
	}
}

func (k *conn) event(path string, what event) {
	p := k.parcel(theEvent)
	p.path, p.event = path, what
	k.send(p)
}

// addTo adds a path to a set.
func addTo(set *[]string, p string) {
	if !slices.Contains(*set, p) {
		*set = append(*set, p)
	}
}

// take removes a path from a set and reports whether it was there.
func take(set *[]string, p string) bool {
	i := slices.Index(*set, p)
	if i < 0 {
		return false
	}
	*set = slices.Delete(*set, i, i+1)
	return true
}
