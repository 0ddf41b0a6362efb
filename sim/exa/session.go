package exa

import (
	"time"

	"exazk/sim/vclock"
)

// state is that of a neighbor's session as ExaBGP sees it.
type state uint8

const (
	idling      state = iota // waits to connect
	connecting               // a TCP connection or an OPEN is on its way
	established              // RFC 4271 section 8.2.2
)

// Times of an attempt to connect.
const (
	synRetry  = time.Second            // between the first two SYN, and between two ARP requests
	arpFails  = 3 * time.Second        // from the first ARP request until the kernel says that the host can not be reached
	arpKnows  = 40 * time.Second       // for about so long it remembers the last answer (neigh/base_reachable_time_ms)
	openMin   = time.Millisecond       // from the TCP connection to the session
	openMax   = 4 * time.Millisecond   //
	openWait  = 60 * time.Second       // for the router's OPEN (bgp.openwait)
	pauseMin  = 10 * time.Millisecond  // from the end of a pause to the attempt: some turns of the reactor
	pauseMax  = 40 * time.Millisecond  //
	pauseMost = 60                     // seconds
	hop       = 200 * time.Microsecond // least time of a packet
	hopMore   = 800 * time.Microsecond
	resend    = 208 * time.Millisecond // until TCP sends again what was lost
	ackDelay  = 40 * time.Millisecond  // most that a receiver waits with an acknowledgement
	turnMost  = 25                     // messages that a neighbor sends in one turn of the reactor
)

// peer is one neighbor of ExaBGP.
type peer struct {
	x     *ExaBGP
	lines *lines
	addr  Peer
	tor   *Tor

	state state
	since time.Time     // established
	conn  *conn         // nil unless established
	next  int           // seconds: the pause after the attempt or the session that ends next
	begun time.Time     // of the attempt
	wait  time.Duration // until its next SYN

	table     table
	out       outgoing
	fresh     bool // the session came up, and nothing was sent yet
	withdraws bool // a batch was sent: from then on withdraws are, too (include_withdraw)
	sending   [][]route
}

func newPeer(x *ExaBGP, addr Peer, tor *Tor) *peer {
	p := &peer{x: x, addr: addr, tor: tor, lines: x.memo.of(addr, x.cfg)}
	tor.peer = p
	return p
}

func (p *peer) start() {
	p.state, p.conn, p.next, p.sending = idling, nil, 0, nil
	p.after(p.x.between(pauseMin, pauseMax), p.attempt)
}

// after is for steps of an attempt, which end when ExaBGP does.
func (p *peer) after(d time.Duration, f func()) {
	p.x.after(d, func() {
		if !p.x.closing {
			f()
		}
	})
}

func (p *peer) attempt() {
	p.state, p.begun, p.wait = connecting, p.x.clock.Now(), synRetry
	p.syn()
}

// syn looks whether the router is reached. The kernel sends its SYN again after 1, 3, 7, 15 s and so on (Linux 6.1; later ones
// a little more often), and gives up when the router's address is not resolved: soon after the link went, for that makes it
// forget, and much later where packets are only lost.
func (p *peer) syn() {
	now, cut := p.x.clock.Now(), p.tor.cut
	limit := p.begun.Add(arpFails)
	if known := p.tor.silent.Add(arpKnows); !cut && known.After(limit) {
		limit = known
	}
	switch {
	case p.tor.reached():
		p.after(p.x.between(hop, hop+hopMore), p.connected)
	case !now.Before(limit):
		p.say(p.lines.connected) // 4.2 says so of a failed attempt, too
		p.down(reasonRefused)
	case cut:
		p.after(synRetry, p.syn)
	default:
		p.after(min(p.wait, limit.Sub(now)), p.syn)
		p.wait *= 2
	}
}

// connected is the end of the TCP handshake. A router that does not want the session accepts and closes.
func (p *peer) connected() {
	p.say(p.lines.connected)
	if p.tor.refuses() {
		p.down(reasonRefused)
		return
	}
	deadline := p.x.clock.Now().Add(openWait)
	p.after(p.x.between(openMin, openMax), func() { p.open(deadline) })
}

// open ends the exchange of OPEN and KEEPALIVE. What is lost of it is sent again.
func (p *peer) open(deadline time.Time) {
	now := p.x.clock.Now()
	switch {
	case p.tor.reached() && p.tor.refuses():
		p.down(reasonClosed)
	case p.tor.reached():
		p.state, p.since = established, now
		p.fresh, p.withdraws, p.sending = true, false, nil
		p.conn = newConn(p)
		if p.x.cfg.Keepalives {
			p.x.say(p.lines.keepalive)
		}
		p.say(p.lines.up)
		p.x.wake(p.x.lag())
	case now.After(deadline):
		p.down(reasonNoOpen)
	default:
		p.after(synRetry, func() { p.open(deadline) })
	}
}

// say tells the process of a change, where it is told of those.
func (p *peer) say(l *line) {
	if p.x.cfg.Changes {
		p.x.say(l)
	}
}

// down ends a session or an attempt. What is not sent is forgotten: the table has it, and the next session begins with the
// table. The pauses are 0, 1, 2, 3, 4, 5, 7, 9 ... 60 s; a session that came up does not make them shorter (Delay.increase).
func (p *peer) down(reason string) {
	p.say(p.lines.down[reason])
	p.leave()
	pause := time.Duration(p.next) * time.Second
	p.next = min(int(1+float64(p.next)*1.2), pauseMost)
	p.after(pause+p.x.between(pauseMin, pauseMax), p.attempt)
}

// leave forgets the session.
func (p *peer) leave() {
	p.state, p.conn = idling, nil
	p.out.clear()
	p.sending = nil
}

// send is what a neighbor does in a turn of the reactor: up to 25 messages. It is true where there is more to
// do at once.
func (p *peer) send() bool {
	if p.state != established {
		return false
	}
	if p.fresh { // the whole table, behind what was changed since the last attempt (resend)
		p.fresh = false
		for _, r := range p.table {
			p.out.put(r)
		}
	}
	begun := len(p.sending) > 0
	if !begun && p.out.pending() {
		p.sending, begun = p.out.take(p.withdraws), true
	}
	if !begun {
		return false
	}
	n := min(turnMost, len(p.sending))
	for _, routes := range p.sending[:n] {
		p.conn.toTor.send(packet{routes: routes})
	}
	p.sending = p.sending[n:]
	if len(p.sending) == 0 {
		p.sending, p.withdraws = nil, true
	}
	return p.sending != nil
}

// shutdown closes the session as ExaBGP does when it ends.
func (p *peer) shutdown() {
	if p.state == established {
		c := p.conn
		p.say(p.lines.down[reasonShutdown])
		p.leave()
		c.closeHost("")
		return
	}
	p.leave()
}

// kill has the kernel close the connection.
func (p *peer) kill() {
	c := p.conn
	p.leave()
	p.table = nil
	if c != nil {
		c.closeHost("")
	}
}

// ended is the end of the session by the router.
func (p *peer) ended(c *conn, reason string) {
	if p.conn == c {
		c.closeHost("")
		p.down(reason)
	}
}

// expired is the end of the session by the hold timer: ExaBGP sends a NOTIFICATION.
func (p *peer) expired(c *conn) {
	if p.conn == c {
		c.closeHost(reasonHold)
		p.down(reasonHold)
	}
}

// refresh is called when ExaBGP begins and ends to stand still: its keepalives stop and go on.
func (p *peer) refresh() {
	if p.conn != nil {
		p.conn.refresh()
	}
}

// thawed looks at the hold timer after ExaBGP stood still. What arrived meanwhile was read first.
func (p *peer) thawed(since time.Time) {
	c := p.conn
	if c == nil {
		return
	}
	s := &c.toHost
	switch {
	case c.overdue:
		c.overdue = false
		p.expired(c)
	case !s.flows && s.heard.After(since):
		s.heard = s.clock().Now()
		s.arm()
	}
}

// conn is a TCP connection that carries a session, with both of its ends.
type conn struct {
	peer        *peer
	tor         *Tor
	host, there bool // the end at ExaBGP, that at the router: open
	toTor       stream
	toHost      stream
	overdue     bool // ExaBGP's hold timer ran out while it stood still
}

// stream is one direction of a connection.
//
// Keepalives that nobody is told of do not happen. While a stream flows one is sent at base and every interval after it,
// and arrives at once. When it stops to flow, when the last one was is computed, and the hold timer of the receiver is set.
//
// The stream to the router also stops when nothing comes back: ExaBGP leaves Nagle's algorithm on (it never calls its own
// function for that), so after the first packet that is not acknowledged the kernel keeps all others.
type stream struct {
	c        *conn
	toHost   bool
	interval time.Duration // between two keepalives
	base     time.Time     // one was sent then
	flows    bool          // keepalives are sent and arrive
	resuming bool          // the path is there again, and what was lost is not yet sent again
	heard    time.Time     // of the last other message that arrived, or of the last one before it stopped to flow
	stopped  time.Time     // when it stopped to flow
	lossy    bool          // since then the path was gone for a while
	queue    []packet      // sent and lost
	stuck    time.Time     // when the first one was sent that did not arrive; zero if none
	first    bool          // Nagle's algorithm lets one packet through
	sent     time.Time     // when the last packet was
	arrival  time.Time     // of it: they keep their order
	hold     *vclock.Timer // of the receiver
	again    *vclock.Timer // resuming ends
	tick     time.Time     // the next keepalive of which the process is told
	ticking  func()
}

// packet is a message or the end of the connection.
type packet struct {
	routes []route
	fin    bool
	reason string // of the end: what the receiver may say of it
}

func newConn(p *peer) *conn {
	now := p.x.clock.Now()
	c := &conn{peer: p, tor: p.tor, host: true, there: true}
	interval := (p.x.cfg.HoldTime / 3).Truncate(time.Second)
	c.toTor = stream{c: c, interval: interval, base: now.Truncate(time.Second), heard: now, flows: true} // SendTimer: whole seconds
	c.toHost = stream{c: c, interval: p.tor.jitter(interval), base: now, heard: now, flows: true, toHost: true}
	p.tor.up(c)
	if p.x.cfg.Keepalives {
		c.toHost.ticking = c.toHost.keepalive
		c.toHost.schedule()
	}
	c.refresh()
	return c
}

// closeHost closes ExaBGP's end.
func (c *conn) closeHost(reason string) {
	c.host = false
	c.refresh()
	c.toHost.deafen()
	if c.there {
		c.toTor.send(packet{fin: true, reason: reason})
	}
}

// closeThere closes the router's end.
func (c *conn) closeThere(reason string) {
	c.there = false
	c.refresh()
	c.toTor.deafen()
	if c.host {
		c.toHost.send(packet{fin: true, reason: reason})
	}
}

// refresh is called whenever something changes that a stream depends on.
func (c *conn) refresh() {
	c.toTor.refresh(c.host && !c.peer.x.stalled())
	c.toHost.refresh(c.there)
}

func (s *stream) clock() *vclock.Clock { return s.c.peer.x.clock }

// passes says whether packets get through.
func (s *stream) passes() bool { return s.c.tor.passes(s.toHost) }

// held says whether Nagle's algorithm stops what would pass.
func (s *stream) held() bool { return !s.toHost && !s.c.tor.passes(true) }

// last is when the last keepalive was sent, until t.
func (s *stream) last(t time.Time) time.Time {
	return s.base.Add(t.Sub(s.base) / s.interval * s.interval)
}

// next is when the first one is sent after t.
func (s *stream) next(t time.Time) time.Time { return s.last(t).Add(s.interval) }

// refresh is given whether the sender sends keepalives.
func (s *stream) refresh(sends bool) {
	now := s.clock().Now()
	passes, held := s.passes(), s.held()
	free := passes && !held
	if !free {
		s.lossy, s.resuming = true, s.resuming && s.flows
		s.clock().Stop(s.again)
	}
	switch flows := sends && free; {
	case s.flows && !flows:
		s.flows, s.stopped = false, now
		switch last := s.last(now); {
		case s.resuming:
		case sends && passes && held: // one more packet gets through
			s.heard, s.first = s.next(now), true
		case last.After(s.heard):
			s.heard = last
		}
		s.resuming = false
		s.arm()
	case !s.flows && flows:
		s.flows = true
		s.resume(now)
	case !flows && free && len(s.queue) > 0 && !s.resuming: // the last words of a sender that is gone
		s.resume(now)
	}
}

// arm sets the hold timer of the receiver. ExaBGP counts whole seconds, and waits until there are more of them than the hold
// time (ReceiveTimer).
func (s *stream) arm() {
	s.clock().Stop(s.hold)
	if s.toHost && !s.c.host || !s.toHost && !s.c.there {
		return
	}
	at := s.heard.Add(s.c.peer.x.cfg.HoldTime).Truncate(time.Second).Add(time.Second)
	if !s.toHost {
		at = s.heard.Add(s.c.tor.jitter(s.c.peer.x.cfg.HoldTime))
	}
	s.hold = s.clock().Timer(at, s.expire)
}

// deafen is the end of the receiver.
func (s *stream) deafen() {
	s.clock().Stop(s.hold)
}

func (s *stream) expire() {
	c := s.c
	switch {
	case !s.toHost:
		c.tor.expired(c)
	case c.peer.x.stalled():
		c.overdue = true
	default:
		c.peer.expired(c)
	}
}

// resume finds when the first packet gets through again. A sender that only stood still sends the keepalive that is due. What
// was lost TCP sends again at growing intervals (RFC 6298), and until then all that comes after it waits.
func (s *stream) resume(now time.Time) {
	at := s.next(s.stopped) // the first keepalive that did not arrive, or the next one
	switch {
	case s.stuck.IsZero() && at.After(now): // nothing was lost
	case !s.lossy:
		s.base = now.Truncate(time.Second)
		at = now.Add(hop)
	default:
		if s.stuck.IsZero() || at.Before(s.stuck) {
			s.stuck = at
		}
		at = resent(s.stuck, now)
		if next := s.other().next(now); s.closed() && at.After(next) { // which is answered with a reset
			at = next
		}
		s.resuming = true
	}
	s.clock().Stop(s.again)
	s.again = s.clock().Timer(at, s.resumed)
}

func (s *stream) other() *stream {
	if s.toHost {
		return &s.c.toTor
	}
	return &s.c.toHost
}

// closed says whether the sender's end is.
func (s *stream) closed() bool { return s.toHost && !s.c.there || !s.toHost && !s.c.host }

// resent is when TCP sends a lost packet again for the first time from now on: 0.2, 0.4, 0.8 ... s after the first time, as
// measured on Linux.
func resent(lost, now time.Time) time.Time {
	for timeout := resend; ; timeout *= 2 {
		if at := lost.Add(timeout); !at.Before(now) {
			return at
		}
	}
}

// resumed is when the first packet gets through.
func (s *stream) resumed() {
	now := s.clock().Now()
	lost := s.resuming
	s.resuming, s.stuck, s.lossy = false, time.Time{}, false
	if s.flows {
		s.arrived(now)
	}
	if s.toHost && s.ticking != nil && s.c.there {
		for t := s.next(s.stopped); lost && !t.After(now); t = t.Add(s.interval) {
			s.c.told()
		}
		s.schedule()
	}
	queue := s.queue
	s.queue = nil
	for _, p := range queue {
		s.send(p)
	}
}

// arrived is any message: the hold timer of the receiver starts again.
func (s *stream) arrived(now time.Time) {
	s.heard = now
	if s.toHost {
		s.c.overdue = false
	}
	if s.flows {
		s.clock().Stop(s.hold)
	} else {
		s.arm()
	}
}

// send sends a packet, after all that were sent before. The end of a connection takes along what Nagle's algorithm holds.
func (s *stream) send(p packet) {
	now := s.clock().Now()
	switch {
	case s.passes() && s.held() && p.fin:
		for _, q := range s.queue {
			s.hand(now, q)
		}
		s.queue = nil
		s.hand(now, p)
	case s.passes() && s.held() && s.first && len(s.queue) == 0 && now.Before(s.next(s.stopped)):
		s.first, s.stuck = false, now
		s.hand(now, p)
	case !s.passes(), s.held(), s.resuming, len(s.queue) > 0:
		if s.stuck.IsZero() {
			s.stuck = now
		}
		s.queue = append(s.queue, p)
	default:
		s.hand(now, p)
	}
}

// hand has a packet arrive. One that follows another may wait for the acknowledgement of that (Nagle's algorithm again).
func (s *stream) hand(now time.Time, p packet) {
	delay := s.c.peer.x.between(hop, hop+hopMore)
	if !p.fin && now.Sub(s.sent) < ackDelay && s.c.peer.x.r.IntN(2) == 0 {
		delay += s.c.peer.x.between(0, ackDelay)
	}
	s.sent = now
	at := now.Add(delay)
	if at.Before(s.arrival) {
		at = s.arrival
	}
	s.arrival = at
	s.clock().At(at, func() { s.deliver(p) })
}

func (s *stream) deliver(p packet) {
	c := s.c
	switch {
	case s.toHost:
		c.peer.x.do(func() { c.peer.ended(c, p.reason) }) // nothing else comes from the router
	case !c.there:
	case p.fin:
		c.tor.ended(c, p.reason)
	default:
		s.arrived(s.clock().Now())
		c.tor.update(c, p.routes)
	}
}

// schedule puts down the next keepalive of which the process is told.
func (s *stream) schedule() {
	at := s.next(s.clock().Now())
	if s.tick != at {
		s.tick = at
		s.clock().At(at, s.ticking)
	}
}

func (s *stream) keepalive() {
	if s.tick != s.clock().Now() {
		return
	}
	if s.flows && !s.resuming && s.c.there && s.c.host {
		s.c.told()
		s.schedule()
	}
}

// told tells the process of a KEEPALIVE.
func (c *conn) told() {
	switch x := c.peer.x; {
	case !x.stalled():
		c.tell()
	default:
		x.held = append(x.held, c.tell)
	}
}

func (c *conn) tell() {
	if c.host {
		c.peer.x.say(c.peer.lines.keepalive)
	}
}
