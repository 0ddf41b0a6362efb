package zoo

import (
	"maps"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"
)

// How long things take a server. Measured with 3.8.0 on one host (facts 3e and 6 of the notes on ZooKeeper).
const (
	bootLeast  = 300 * time.Millisecond // from the start of the process to its port
	bootMost   = 600 * time.Millisecond
	voteLeast  = 200 * time.Millisecond // an election, and what follows until it is served
	voteMost   = 400 * time.Millisecond
	joinMost   = 300 * time.Millisecond // until a leader has brought a server up to date that comes later
	resetMost  = 40 * time.Millisecond  // until followers have closed everything when their leader's connection is reset
	pending    = 5 * time.Millisecond   // to work off what waits in a socket
	retransmit = 3 * time.Second        // most that TCP waits before it sends once more
)

// server is one process. What others think of it is in Ensemble.
type server struct {
	lag      time.Duration // most that it is behind while it follows
	e        *Ensemble
	n        int
	running  bool // the process is there, its port answers
	booting  bool
	frozen   bool
	serving  bool  // it believes in a quorum
	joining  bool  // a leader is bringing it up to date
	epoch    int64 // of the leader that it believes in
	leads    bool  // it believes that it leads
	life     int   // number of kills
	freezes  int
	left     time.Time // when it was frozen last as a member: since then it has heard nothing of the others
	tree     tree
	applied  int   // number of the log's entry that it takes next
	zxid     int64 // of the newest that it has taken
	catching bool  // it will take what is in the log
	caught   func()
	conns    []*conn
	forward  time.Time // arrival at the leader of what was sent there last: it keeps its order
	deferred []func()  // what came while it was frozen
}

// expelled is the epoch of a server that the leader has dropped because it was silent.
const expelled = -1

// alive reports whether the process does anything.
func (s *server) alive() bool { return s.running && !s.frozen }

// member reports whether it belongs to the present quorum, asleep or not.
func (s *server) member() bool {
	return s.running && s.serving && s.epoch == s.e.epoch && s.e.leader != nil
}

// do has f happen on the server: now, or when it thaws.
func (s *server) do(f func()) {
	if s.frozen {
		s.deferred = append(s.deferred, f)
		return
	}
	f()
}

// workOff does what came while the server was frozen.
func (s *server) workOff() {
	work := s.deferred
	s.deferred = nil
	for _, f := range work {
		f()
	}
}

// quit closes all connections of clients and serves nobody any more.
func (s *server) quit() {
	s.serving = false
	for len(s.conns) > 0 {
		s.conns[0].shut()
	}
}

// depart has a server that was frozen too long find out that the others have gone on without it. Until then it answers
// from what it knew: a follower frozen or cut off goes on serving reads.
func (s *server) depart() {
	life, epoch := s.life, s.epoch
	s.e.clock.After(s.e.draw(resetMost), func() {
		if s.life == life && s.epoch == epoch {
			s.do(func() {
				s.quit()
				s.e.assess()
			})
		}
	})
}

// join has the leader bring the server up to date.
func (s *server) join() {
	s.joining = true
	life := s.life
	s.e.clock.After(s.e.draw(joinMost), func() {
		s.joining = false
		if s.life == life {
			s.do(s.joined)
		}
	})
}

func (s *server) joined() {
	e := s.e
	if e.leader != nil && e.leader.alive() && !s.serving {
		s.enter()
		e.trim() // it may have been the last
	}
	e.assess()
}

// enter makes the server a member of the present quorum, up to date.
func (s *server) enter() {
	e := s.e
	s.quit()
	s.serving, s.leads, s.epoch = true, s == e.leader, e.epoch
	s.applied, s.zxid = e.base+len(e.log), e.zxid
	if s.tree = e.tree; s != e.leader {
		s.tree = maps.Clone(e.tree)
	}
}

// following is the number of members that are awake.
func (e *Ensemble) following() int {
	n := 0
	for _, s := range e.servers {
		if s.member() && s.alive() {
			n++
		}
	}
	return n
}

// assess draws the conclusions from what has happened to servers and wires. It may be called at any time.
func (e *Ensemble) assess() {
	e.assessLeader()
	if e.leader != nil && e.leader.alive() {
		for _, s := range e.servers {
			if s.alive() && !s.serving && !s.joining {
				s.join()
			}
		}
	}
	if e.Quorum() {
		e.expireOverdue()
		e.resumeStalled()
	}
	e.eachConn((*conn).review)
	e.wake()
}

// assessLeader starts the wait for a leader, or for its quorum, where one is missing.
func (e *Ensemble) assessLeader() {
	if e.leader == nil {
		e.vote()
		return
	}
	if e.Quorum() {
		e.clock.Stop(e.trouble)
		e.trouble = nil
		return
	}
	if !e.leader.running { // its followers' connections are reset; it replaces a longer wait
		if !e.orphaned {
			e.orphaned = true
			e.clock.Stop(e.trouble)
			e.trouble = e.clock.Timer(e.now().Add(e.draw(resetMost)), e.depose)
		}
		return
	}
	if e.trouble != nil {
		return
	}
	patience := time.Duration(e.cfg.SyncLimit)*e.cfg.Tick - e.draw(e.cfg.Tick/2) // since the last ping among servers
	if e.leader.alive() && e.reachable() {
		patience = e.draw(e.cfg.Tick / 2) // it has heard of the others' ends, and looks every half tick
	}
	e.trouble = e.clock.Timer(e.now().Add(patience), e.depose)
}

// reachable reports whether no server is frozen: what is missing has closed its connections.
func (e *Ensemble) reachable() bool {
	return !slices.ContainsFunc(e.servers, func(s *server) bool { return s.frozen })
}

// depose ends the reign of a leader that is gone, or has lost its quorum. A frozen one does not know.
func (e *Ensemble) depose() {
	e.trouble, e.orphaned = nil, false
	old := e.leader
	if old.frozen && e.following() == 0 {
		return // nobody is awake to notice
	}
	awake := make([]*server, 0, len(e.servers))
	for _, s := range e.servers {
		if s.member() && s.alive() {
			awake = append(awake, s)
		}
	}
	if old.frozen {
		old.tree = maps.Clone(e.tree) // it knows what was, and nothing that comes
	}
	proposed := old.alive()
	e.leader = nil
	for _, s := range awake {
		s.quit()
	}
	e.forsake(proposed)
	e.log, e.base = e.log[:0:0], e.base+len(e.log)
	e.assess()
}

// forsake decides about the requests that no leader could carry out. What a leader had proposed may be in the log of the
// next one; nobody else knows of the rest.
func (e *Ensemble) forsake(proposed bool) {
	keep := 0
	if proposed {
		keep = e.r.IntN(len(e.stalled) + 1)
	}
	e.stalled = e.stalled[:keep]
}

// vote begins an election, if enough servers are there.
func (e *Ensemble) vote() {
	if e.voting || !e.electable() {
		return
	}
	e.voting = true
	d := e.span(voteLeast, voteMost)
	if len(e.servers) == 1 {
		d = 0 // included in its start
	}
	e.clock.After(d, func() {
		e.voting = false
		if e.leader == nil && e.electable() {
			e.elect()
			e.assess()
		}
	})
}

func (e *Ensemble) electable() bool {
	n := 0
	for _, s := range e.servers {
		if s.alive() {
			n++
		}
	}
	return 2*n > len(e.servers)
}

// elect makes the best of the servers that are awake the leader: the one that has the newest transaction, then the one
// with the highest number. What is committed is known to it. Every session gets its whole timeout anew (fact 5, §2).
func (e *Ensemble) elect() {
	for _, s := range e.servers {
		if s.alive() && (e.leader == nil || s.zxid >= e.leader.zxid) {
			e.leader = s
		}
	}
	e.epoch++
	e.zxid = e.epoch << 32
	e.phase = e.draw(e.cfg.Tick)
	for _, s := range e.servers {
		if s.alive() {
			s.enter()
		}
	}
	for _, s := range e.sessions {
		s.anew()
	}
}

// resumeStalled carries out what waited for a leader.
func (e *Ensemble) resumeStalled() {
	work := e.stalled
	e.stalled = nil
	for _, req := range work {
		req.epoch = e.epoch
		e.lead(req)
	}
}

// lead has the leader take a request that a server has handed on.
func (e *Ensemble) lead(req *request) {
	if req.epoch != e.epoch || e.leader == nil {
		return // the server that handed it on has stopped, or its leader: nobody knows of it
	}
	if !e.Quorum() {
		e.stalled = append(e.stalled, req)
		req.k.review()
		return
	}
	if req.kind == resume {
		e.revalidate(req)
		return
	}
	d := e.draft(req)
	d.txn.err = e.carryOut(d, req)
	e.commit(d.txn)
}

// draft begins a transaction. Those that fail take a number too.
func (e *Ensemble) draft(req *request) *draft {
	if req == nil || req.kind != flush {
		e.zxid++
	}
	return &draft{e.tree, &txn{zxid: e.zxid, req: req}}
}

// carryOut does what is asked for, unless the session has ended or is at another server by now.
func (e *Ensemble) carryOut(d *draft, req *request) error {
	if req.kind == open {
		if req.k.there() {
			req.sess = e.begin(req)
		}
		return nil
	}
	switch {
	case !req.sess.alive:
		return zk.ErrSessionExpired
	case req.sess.at != req.k.s:
		return zk.ErrSessionMoved
	}
	switch req.kind {
	case ask:
		return d.call(req.call, req.sess.id)
	case bye:
		e.bury(d, req.sess)
	}
	return nil
}

// commit puts a transaction into the log, from which every server takes it, and tells of it.
func (e *Ensemble) commit(t *txn) {
	e.log = append(e.log, t)
	for _, s := range e.servers {
		switch {
		case !s.member():
		case s == e.leader:
			s.catchUp()
		default:
			s.catchUpSoon()
		}
	}
	e.trim()
	if e.changed == nil {
		return
	}
	for _, c := range t.changes {
		if c.deed != unseen {
			e.changed(c.path)
		}
	}
}

// trim forgets what every member has taken.
func (e *Ensemble) trim() {
	for _, s := range e.servers {
		if s.member() && s.applied < e.base+len(e.log) {
			return
		}
	}
	e.base += len(e.log)
	clear(e.log)
	e.log = e.log[:0]
}

// catchUpSoon has a follower take what is in the log, mostly as soon as it can be there, now and then as late as Lag allows.
func (s *server) catchUpSoon() {
	if s.catching {
		return
	}
	s.catching = true
	d := s.e.delay()
	if s.e.chance(4) {
		d += s.e.draw(s.lag)
	}
	s.e.clock.After(d, s.caught)
}

// catchUp takes all that is in the log, one transaction after the other.
func (s *server) catchUp() {
	for s.member() && s.applied < s.e.base+len(s.e.log) {
		t := s.e.log[s.applied-s.e.base]
		s.applied++
		s.apply(t)
	}
	if s != s.e.leader { // commit does so after the leader
		s.e.trim()
	}
}

// apply takes one transaction: first all of it, then the watches, then the answer to who asked for it, and the reads that
// waited behind that.
func (s *server) apply(t *txn) {
	s.zxid = t.zxid
	if s != s.e.leader {
		for _, c := range t.changes {
			s.tree.store(c)
		}
	}
	for _, c := range t.changes {
		for _, k := range s.conns {
			k.fire(c)
		}
	}
	if t.req != nil && t.req.k.s == s {
		t.req.k.settle(t.req, t.err)
	}
	if t.ends != nil {
		s.hangUp(t.ends)
	}
}

// hangUp closes the connections of a session that has ended.
func (s *server) hangUp(sess *session) {
	for _, k := range slices.Clone(s.conns) {
		if k.sess == sess {
			k.shut()
		}
	}
}
