package zoo

import (
	"slices"
	"time"

	"exazk/sim/vclock"
)

// session is what the leader knows of a session.
type session struct {
	e       *Ensemble
	id      int64
	timeout time.Duration // negotiated
	alive   bool
	at      *server       // to which the client came last: others' requests in its name are refused
	k       *conn         // by which it came
	timer   *vclock.Timer // expiry; nil while pings arrive
	overdue bool          // its time is up, and no leader could end it
}

// begin makes a session for a client that came to a server.
func (e *Ensemble) begin(req *request) *session {
	e.births++
	s := &session{e: e, id: int64(req.k.s.n+1)<<56 | e.births, timeout: e.negotiate(req.timeout), alive: true}
	e.sessions = append(e.sessions, s)
	s.touch(req.k)
	return s
}

// negotiate clamps a session timeout as servers do (§2).
func (e *Ensemble) negotiate(asked time.Duration) time.Duration {
	return min(max(asked.Truncate(time.Millisecond), e.cfg.MinTimeout), e.cfg.MaxTimeout)
}

// session returns the session of an id, nil if it has ended.
func (e *Ensemble) session(id int64) *session {
	for _, s := range e.sessions {
		if s.id == id {
			return s
		}
	}
	return nil
}

// touch notes that the client came to a server by a new connection, whose pings keep the session from now on.
func (s *session) touch(k *conn) {
	s.stop()
	s.at, s.k = k.s, k
	k.sess = s
	k.reaches, k.told, k.reachesSince = true, s.e.now(), s.e.now()
	k.review()
}

func (s *session) stop() {
	s.e.clock.Stop(s.timer)
	s.timer, s.overdue = nil, false
}

// silent starts the time that is left after the last sign of life. The leader rounds it up to a tick; what a follower has
// heard it hears with the follower's answer to its ping, every half tick (fact 1).
func (s *session) silent(told time.Time) {
	e := s.e
	if s.at != e.leader {
		told = e.round(told, e.cfg.Tick/2)
	}
	s.stop()
	s.timer = e.clock.Timer(e.round(told.Add(s.timeout), e.cfg.Tick), s.expire)
}

// anew gives the whole timeout to a session whose leader is new.
func (s *session) anew() {
	if !s.k.reaches {
		s.stop()
		s.timer = s.e.clock.Timer(s.e.round(s.e.now().Add(s.timeout), s.e.cfg.Tick), s.expire)
	}
}

// round returns the next boundary of an interval after t (ExpiryQueue.roundToNextInterval).
func (e *Ensemble) round(t time.Time, interval time.Duration) time.Time {
	d := t.Sub(e.began) + e.phase
	return t.Add(interval - d%interval)
}

// expire ends a session whose time is up. That is a transaction: there is none without a quorum (fact 5).
func (s *session) expire() {
	s.timer = nil
	if !s.e.Quorum() {
		s.overdue = true
		return
	}
	s.e.end(s, nil)
}

// expireOverdue ends the sessions that should have ended while nobody could.
func (e *Ensemble) expireOverdue() {
	for _, s := range slices.Clone(e.sessions) {
		if s.overdue && s.alive {
			e.end(s, nil)
		}
	}
}

// end ends a session and removes what is its own, in one transaction.
func (e *Ensemble) end(s *session, req *request) {
	d := e.draft(req)
	e.bury(d, s)
	e.commit(d.txn)
}

func (e *Ensemble) bury(d *draft, s *session) {
	s.stop()
	s.alive = false
	e.sessions = slices.DeleteFunc(e.sessions, func(o *session) bool { return o == s })
	d.txn.ends = s
	for _, p := range e.owned(s.id) {
		d.remove(p)
	}
}

// owned returns the paths of a session's ephemeral nodes, in the order of their creation, then by name.
func (e *Ensemble) owned(id int64) []string {
	var paths []string
	for p, n := range e.tree { // sorted below
		if n.stat.Owner == id {
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		if d := e.tree[a].stat.Czxid - e.tree[b].stat.Czxid; d != 0 {
			return int(d)
		}
		if a < b {
			return -1
		}
		return 1
	})
	return paths
}

// revalidate answers a client that comes back with a session. It needs the leader and no quorum's vote; the server that
// asked may still be behind.
func (e *Ensemble) revalidate(req *request) {
	if !req.k.there() {
		return
	}
	s := e.session(req.id)
	if s != nil {
		s.touch(req.k)
		req.sess = s
	}
	k := req.k
	if k.s == e.leader {
		k.welcome(req)
		return
	}
	e.clock.After(e.delay(), func() { k.s.do(func() { k.welcome(req) }) })
}
