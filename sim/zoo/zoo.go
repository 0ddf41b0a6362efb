package zoo

import (
	"math/rand/v2"
	"path"
	"time"

	"exazk/sim/vclock"
	"exazk/zkstate"

	"github.com/go-zookeeper/zk"
)

// Config describes an ensemble.
type Config struct {
	Servers    int           // 0 means 1
	Tick       time.Duration // tickTime; 0 means 2 s
	MinTimeout time.Duration // least session timeout; 0 means 2 ticks
	MaxTimeout time.Duration // greatest session timeout; 0 means 20 ticks
	SyncLimit  int           // ticks after which a silent server is given up by the others; 0 means 5
	Delay      time.Duration // most that a message is on its way, between any two machines
	Lag        time.Duration // most that a follower is behind the leader, beside Delay; well below a third of the session timeout
}

// Way says in which directions packets between a host and a server are lost.
type Way uint8

const (
	Both Way = iota
	ToServer
	ToHost
)

// Ensemble is all servers together. Its servers are numbered from 0 and start in quorum.
type Ensemble struct {
	clock   *vclock.Clock
	r       *rand.Rand
	cfg     Config
	began   time.Time     // ticks are counted from here, less phase
	phase   time.Duration // of the ticks of the present leader
	servers []*server
	leader  *server // nil while none leads; a frozen or killed one leads until it is given up
	epoch   int64   // of the present leader, or of the last one
	zxid    int64   // of the newest transaction
	tree    tree    // what is committed
	log     []*txn  // what some follower has not taken yet
	base    int     // number of the first of log

	sessions []*session // alive, in the order of their beginning
	births   int64      // sessions so far
	stalled  []*request // what no leader can carry out at present
	clients  []*Client  // that have not ended, in the order of Connect
	cuts     map[wire]lost
	again    time.Duration // most until pings are heard again when what kept them back has ended
	trouble  *vclock.Timer // the leader, or its quorum, is waited for until then
	orphaned bool          // that is because the leader's process is gone
	voting   bool          // an election is under way
	changed  func(path string)
	parcels  []*parcel  // free
	requests []*request // free
}

// wire names what lies between a host and a server.
type wire struct{ host, server int }

// lost says which packets are.
type lost struct {
	toServer, toHost bool
	since            time.Time
}

// New makes an ensemble whose servers are up and have elected a leader.
func New(clock *vclock.Clock, r *rand.Rand, cfg Config) *Ensemble {
	if cfg.Servers == 0 {
		cfg.Servers = 1
	}
	if cfg.Tick == 0 {
		cfg.Tick = 2 * time.Second
	}
	if cfg.MinTimeout == 0 {
		cfg.MinTimeout = 2 * cfg.Tick
	}
	if cfg.MaxTimeout == 0 {
		cfg.MaxTimeout = 20 * cfg.Tick
	}
	if cfg.SyncLimit == 0 {
		cfg.SyncLimit = 5
	}
	e := &Ensemble{clock: clock, r: r, cfg: cfg, began: clock.Now(), tree: newTree(), cuts: make(map[wire]lost), again: pending}
	for n := range cfg.Servers {
		s := &server{e: e, n: n, running: true, lag: cfg.Lag}
		s.caught = func() {
			s.catching = false
			s.do(s.catchUp)
		}
		e.servers = append(e.servers, s)
	}
	e.elect()
	return e
}

// draw is a duration from nothing to most.
func (e *Ensemble) draw(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return time.Duration(e.r.Int64N(int64(most) + 1))
}

// span is a duration from least to most.
func (e *Ensemble) span(least, most time.Duration) time.Duration { return least + e.draw(most-least) }

// chance is true once in n times.
func (e *Ensemble) chance(n int) bool { return e.r.IntN(n) == 0 }

func (e *Ensemble) delay() time.Duration { return e.draw(e.cfg.Delay) }

func (e *Ensemble) now() time.Time { return e.clock.Now() }

// later is the later of two instants.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Kill ends a server's process: its connections are reset, its data is on disk. It has no effect on one that is down.
func (e *Ensemble) Kill(server int) {
	s := e.servers[server]
	if !s.running && !s.booting {
		return
	}
	s.life++
	s.running, s.booting, s.frozen, s.deferred = false, false, false, nil
	s.quit()
	e.assess()
}

// Start starts a server that was killed. It has no effect on one that runs.
func (e *Ensemble) Start(server int) {
	s := e.servers[server]
	if s.running || s.booting {
		return
	}
	s.booting = true
	life := s.life
	e.clock.After(e.span(bootLeast, bootMost), func() {
		if s.life != life {
			return
		}
		s.running, s.booting = true, false
		e.assess()
	})
}

// Freeze stops a server's process (SIGSTOP): its port accepts, its connections stay, and nothing is answered.
func (e *Ensemble) Freeze(server int) {
	s := e.servers[server]
	if !s.running || s.frozen {
		return
	}
	s.frozen = true
	if s.member() {
		s.left = e.now()
	}
	s.freezes++
	freeze := s.freezes
	e.clock.After(time.Duration(e.cfg.SyncLimit)*e.cfg.Tick, func() {
		if s.frozen && s.freezes == freeze && s != e.leader && e.leader != nil && e.leader.alive() {
			s.epoch = expelled
		}
	})
	e.assess()
}

// Thaw lets a frozen server go on. What came meanwhile lies in its sockets and is worked off at once.
func (e *Ensemble) Thaw(server int) {
	s := e.servers[server]
	if !s.frozen {
		return
	}
	s.frozen = false
	// Its expirer runs beside its connections and is mostly first (fact 5): a reconnect that waits in a socket is rarely
	// served before the session's end.
	if e.Quorum() && !e.chance(4) {
		e.expireOverdue()
	}
	s.workOff()
	if s.serving && !s.member() {
		s.depart()
	}
	e.assess()
}

// Cut has packets between a host and a server lost silently, in one direction or both. It adds to what is cut already.
func (e *Ensemble) Cut(host, server int, way Way) {
	w := wire{host, server}
	l := e.cuts[w]
	if !l.toServer && !l.toHost {
		l.since = e.now()
	}
	l.toServer = l.toServer || way != ToHost
	l.toHost = l.toHost || way != ToServer
	e.cuts[w] = l
	e.assess()
}

// Mend ends what Cut did. What was held up arrives when TCP sends it again, at most once more the time of the cut later.
func (e *Ensemble) Mend(host, server int) {
	w := wire{host, server}
	l, cut := e.cuts[w]
	if !cut {
		return
	}
	delete(e.cuts, w)
	e.again = min(e.now().Sub(l.since), retransmit) + e.cfg.Delay
	after := e.draw(e.again)
	e.eachConn(func(k *conn) {
		if k.c.host == host && k.s.n == server {
			k.release(after)
		}
	})
	e.assess()
	e.again = pending
}

// Sever resets the connections of a host. What is on its way arrives, or not.
func (e *Ensemble) Sever(host int) {
	for _, c := range e.clients {
		if c.host == host && c.k != nil {
			k := c.k
			e.clock.After(0, func() { c.do(func() { c.lose(k) }) })
		}
	}
}

// ExpireAll ends every session at once, as servers do that were frozen together for longer than T + tick (fact 5). It has
// no effect while there is no quorum.
func (e *Ensemble) ExpireAll() {
	if !e.Quorum() {
		return
	}
	for len(e.sessions) > 0 {
		e.end(e.sessions[0], nil)
	}
}

// Quorum reports whether a leader serves and writes can be committed.
func (e *Ensemble) Quorum() bool {
	return e.leader != nil && e.leader.alive() && 2*e.following() > len(e.servers)
}

// Leader is the number of the server that leads, -1 while there is none. A leader that is frozen or dead leads until the
// others give it up.
func (e *Ensemble) Leader() int {
	if e.leader == nil {
		return -1
	}
	return e.leader.n
}

// Put writes a node as an operator would, and makes what is missing above it. The error is zk.ErrNoServer without a
// quorum, else the server's.
func (e *Ensemble) Put(p string, data []byte) error {
	if !e.Quorum() {
		return zk.ErrNoServer
	}
	if e.tree[p] != nil {
		return e.operate(zkstate.Call{Op: zkstate.OpSet, Path: p, Data: data, Version: anyVersion})
	}
	if dir := path.Dir(p); e.tree[dir] == nil {
		if err := e.Put(dir, nil); err != nil {
			return err
		}
	}
	return e.operate(zkstate.Call{Op: zkstate.OpCreate, Path: p, Data: data})
}

// Remove deletes a node as an operator would. The error is zk.ErrNoServer without a quorum, else the server's.
func (e *Ensemble) Remove(p string) error {
	if !e.Quorum() {
		return zk.ErrNoServer
	}
	return e.operate(zkstate.Call{Op: zkstate.OpDelete, Path: p})
}

func (e *Ensemble) operate(c zkstate.Call) error {
	d := e.draft(nil)
	d.txn.err = d.call(c, 0)
	e.commit(d.txn)
	return d.txn.err
}

// Read returns the committed state of a node. The data must not be changed.
func (e *Ensemble) Read(p string) (data []byte, owner int64, ok bool) {
	n := e.tree[p]
	if n == nil {
		return nil, 0, false
	}
	return n.data, n.stat.Owner, true
}

// Names returns the committed children of a node, sorted. They must not be changed.
func (e *Ensemble) Names(dir string) []string {
	if n := e.tree[dir]; n != nil {
		return n.names
	}
	return nil
}

// Alive reports whether a session has not ended.
func (e *Ensemble) Alive(id int64) bool { return e.session(id) != nil }

// Lag sets the most that a server is behind the leader, from now on, while it follows.
func (e *Ensemble) Lag(server int, most time.Duration) { e.servers[server].lag = most }

// OnChange has f called for each node that came, went or was written, when that is committed. f must change nothing.
func (e *Ensemble) OnChange(f func(path string)) { e.changed = f }
