package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"exazk/exabgp"
	"exazk/health"
	"exazk/link"
	"exazk/zkstate"
)

const (
	// heartbeat bounds the time between two Steps, so that a longer gap means that the process slept.
	heartbeat = time.Second
	// sleepLimit is the gap after which what was read from ZooKeeper is not trusted any longer (SIGSTOP, a paused VM).
	// It only costs a reading, so a busy machine that crosses it loses nothing.
	sleepLimit = 3 * time.Second
	// stopBound is the time for a drain after SIGTERM. ExaBGP 5 kills its processes 2 s after SIGTERM (4.2 waits for
	// them), and closing the ZooKeeper session comes out of the same 2 s.
	stopBound = 1300 * time.Millisecond
	// linkTrust is how long after a link came back a session that ExaBGP still shows as established is believed again
	// without a new "up". The router may have closed it meanwhile; ExaBGP learns that with its next keepalive, a third of
	// the hold time later: 60 s with ExaBGP's default of 180 s.
	linkTrust = 60 * time.Second
	// flapMax bounds the hold that grows with the failures of a check.
	flapMax = 10 * time.Minute
	// stopGrace is the time that the withdraws may take after stopBound.
	stopGrace = 200 * time.Millisecond
)

// Identity names this life of the process in status records.
type Identity struct {
	Node, Instance, Version string
	Since                   time.Time // wall clock, for people
}

// Core is everything that is known and the policy that follows from it. It is not safe for concurrent use; see doc.go for
// the duties of its caller.
type Core struct {
	id       Identity
	track    bool         // neighbor_tracking = "auto"
	only     []netip.Addr // the neighbors that count; none means all
	tracking bool         // false: nothing is known of neighbors, and everything is written as if one were up
	started  time.Time    // of the first Step
	last     time.Time    // of the Step before

	epoch     uint64
	neighbors []neighbor              // sorted by peer, then local address
	heard     time.Time               // since when a neighbor is up; zero while none is
	links     map[string]link.Changed // by interface; looked up, never walked
	listed    bool                    // something is known about neighbors

	zk       zkstate.SessionChanged
	everRead bool      // a session was connected in this life
	settle   time.Time // absences of claims do not count before
	fresh    time.Time // readings that began before are ignored: the process slept since

	stopping *time.Time // since when
	signal   string
	gone     bool // ExaBGP ended or is ending

	services []*service
}

type neighbor struct {
	id     exabgp.Neighbor
	state  exabgp.NeighborState
	reason string
	on     string    // the interface that leads to it; empty where that is not known
	cut    bool      // its link is down, or was down since the session came up
	trust  time.Time // when a session that was cut is believed again; zero while the link is down
	young  bool      // the session came up after the link was last seen to go down
}

// usable says whether what is announced now reaches the neighbor.
func (n *neighbor) usable() bool { return n.state == exabgp.NeighborUp && !n.cut }

// word is the neighbor's state for people: one more than ExaBGP knows.
func (n *neighbor) word() string {
	if n.state == exabgp.NeighborUp && n.cut {
		return "link-down"
	}
	return n.state.String()
}

type service struct {
	conf        *Service
	health      health.Changed
	passing     time.Time // since when the check passes
	failures    int       // of the check, that came close together
	failed      time.Time // when the last of them came
	maintenance Presence  // a node whose time is over is absent
	flag        Flag      // what the operator wrote into the maintenance node
	failback    []byte    // an operator's word to take the VIPs back, to be removed; nil if there is none
	peers       map[string]zkstate.Status
	peersRead   bool // since the process last slept and since ZooKeeper was last away
	current     bool // the claims were read since the process last slept and since ZooKeeper was last away
	drainSince  *time.Time
	vips        []*vip // in NLRI order
}

// vip is what is known and decided about one VIP.
type vip struct {
	name          string
	prefix        netip.Prefix
	authoritative bool

	raw      zkstate.Claim // as last read
	readOnce bool
	view     ClaimView // what is made of it: settling and overlap considered
	before   ClaimView // the view before it became ClaimReturns
	returned time.Time // when view became ClaimReturns

	last      Verdict
	want      exabgp.Route // follows from last; meaningless while that is Hold
	ack       exabgp.RouteAccepted
	acked     bool // ack is about want
	held      bool // the last answer was that to an announce, and no withdraw was wanted since
	refused   bool // the last answer to want was "error"
	needEpoch uint64

	away  bool // it was away while another node took over, and has not been announced since
	asked bool // whether it was away before the start is decided

	drain    DrainState
	taker    string // the node that took it over
	taken    time.Time
	timedOut bool // drained by drain_timeout, not by another node
}

// NewCore makes a Core that knows nothing yet. The first Step's time is its start.
func NewCore(cfg *Config, id Identity) *Core {
	c := &Core{id: id, links: map[string]link.Changed{}, track: cfg.ExaBGP.TrackNeighbors, tracking: cfg.ExaBGP.TrackNeighbors, only: cfg.ExaBGP.Neighbors}
	for i := range cfg.Services {
		conf := &cfg.Services[i]
		s := &service{conf: conf, health: health.Changed{Service: conf.Name}}
		for _, p := range conf.Authoritative {
			s.vips = append(s.vips, newVIP(p, true))
		}
		for _, p := range conf.BackupFor {
			s.vips = append(s.vips, newVIP(p, false))
		}
		slices.SortFunc(s.vips, func(a, b *vip) int { return comparePrefixes(a.prefix, b.prefix) })
		c.services = append(c.services, s)
	}
	return c
}

func newVIP(p netip.Prefix, authoritative bool) *vip {
	role := Backup
	if authoritative {
		role = Authoritative
	}
	return &vip{name: ClaimName(p), prefix: p, authoritative: authoritative, last: Verdict{Action: Hold, Role: role}}
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// noticeSleep compares the clock with the last Step's. After a sleep the claims may have changed hands: what is already
// on its way to us is as old as what we know, so only readings that begin from now on count.
func (c *Core) noticeSleep(now time.Time) bool {
	if c.started.IsZero() {
		c.started, c.last = now, now
	}
	// The monotonic clock stands still while a machine is suspended, the wall clock does not. A wall clock that was set
	// looks the same, and costs a reading.
	slept := max(now.Sub(c.last), now.Round(0).Sub(c.last.Round(0))) > sleepLimit
	c.last = now
	if slept {
		c.fresh = now
		c.outdate()
	}
	return slept
}

// outdate notes that what was read from ZooKeeper may be old.
func (c *Core) outdate() {
	for _, s := range c.services {
		s.current, s.peersRead = false, false
	}
}

func (c *Core) apply(now time.Time, ev Event) {
	switch ev := ev.(type) {
	case Tick:
	case Stop:
		if c.stopping == nil {
			c.stopping, c.signal = &now, ev.Signal
		}
	case FromHealth:
		if s := c.service(ev.Service); s != nil {
			s.setHealth(now, ev.Changed)
		}
	case FromLink:
		c.setLink(now, ev.Changed)
	case FromExaBGP:
		c.applyExaBGP(now, ev.Event)
	case FromZooKeeper:
		c.applyZooKeeper(now, ev.Event)
	default:
		panic(fmt.Sprintf("bug: unknown event %T", ev))
	}
}

func (c *Core) applyExaBGP(now time.Time, ev exabgp.Event) {
	switch ev := ev.(type) {
	case exabgp.NeighborChanged:
		c.setNeighbor(now, ev)
	case exabgp.NeighborsListed:
		c.setNeighbors(now, ev.Established)
	case exabgp.TrackingUnavailable:
		c.tracking = false // until ExaBGP tells something after all
	case exabgp.EventsMissing: // the neighbors are polled from now on; the log has the remedy
	case exabgp.RouteAccepted:
		if v := c.vip(ev.Route.Prefix); v != nil {
			v.accept(ev)
		}
	case exabgp.RouteRefused:
		if v := c.vip(ev.Route.Prefix); v != nil && ev.Route == v.want {
			v.acked, v.held, v.refused = false, false, true
		}
	case exabgp.ShuttingDown, exabgp.Gone:
		c.gone = true
	default:
		panic(fmt.Sprintf("bug: unknown event %T", ev))
	}
}

func (c *Core) applyZooKeeper(now time.Time, ev zkstate.Event) {
	switch ev := ev.(type) {
	case zkstate.SessionChanged:
		if ev.State == zkstate.Connected {
			c.everRead = true
			if ev.AfterLoss {
				c.settle = now.Add(ev.Timeout)
			}
		} else {
			c.outdate()
		}
		c.zk = ev
	case zkstate.ClaimsRead:
		if s := c.service(ev.Service); s != nil && !ev.Began.Before(c.fresh) {
			for _, v := range s.vips {
				v.raw, v.readOnce = ev.Claims[v.name], true
				if !s.current && v.last.Action == Announce && (v.view == ClaimPresent || v.view == ClaimReturns) {
					v.view = ClaimAbsent // the overlap begins anew: its owner may have been away all the time
				}
			}
			s.current = true
		}
	case zkstate.MaintenanceRead:
		if s := c.service(ev.Service); s != nil && !ev.Began.Before(c.fresh) {
			s.maintenance, s.flag = PresenceAbsent, Flag{}
			if ev.Present {
				s.maintenance, s.flag = PresencePresent, ParseFlag(ev.Data)
			}
		}
	case zkstate.FailbackRead:
		if s := c.service(ev.Service); s != nil && !ev.Began.Before(c.fresh) {
			s.setFailback(ev)
		}
	case zkstate.PeersRead:
		if s := c.service(ev.Service); s != nil && !ev.Began.Before(c.fresh) {
			s.peers, s.peersRead = ev.Peers, true
		}
	default:
		panic(fmt.Sprintf("bug: unknown event %T", ev))
	}
}

// setHealth counts failures that come close together, so that a check that flaps moves its VIPs ever more rarely.
func (s *service) setHealth(now time.Time, ch health.Changed) {
	switch ch.State {
	case health.Healthy:
		s.passing = now
	case health.Unhealthy:
		s.passing = time.Time{}
		if now.Sub(s.failed) > 2*max(s.conf.FlapHold, s.hold()) {
			s.failures = 0
		}
		s.failures++
		s.failed = now
		for _, v := range s.vips {
			v.away = true
		}
	}
	s.health = ch
}

// hold is how long the check must pass before this node takes a VIP from one that has it: nothing after one failure,
// flap_hold after a second one within two flap_hold, and twice as long after each further one that comes within two of
// those, up to flapMax.
func (s *service) hold() time.Duration {
	if s.failures < 2 {
		return 0
	}
	return min(s.conf.FlapHold<<min(s.failures-2, 16), max(flapMax, s.conf.FlapHold))
}

// setFailback obeys an operator's word once.
func (s *service) setFailback(ev zkstate.FailbackRead) {
	s.failback = nil
	if !ev.Present {
		return
	}
	s.failback = append([]byte{}, ev.Data...)
	s.failures = 0
	for _, v := range s.vips {
		v.away = false
	}
}

// wait says why a VIP that was away is left to the node that has it now.
func (c *Core) wait(now time.Time, s *service, v *vip) Reason {
	flapping := s.failures >= 2 && now.Before(s.passing.Add(s.hold()))
	switch {
	case !v.away:
		return ""
	case v.authoritative && s.conf.Failback == FailbackManual:
		return ReasonFailbackManual
	case flapping:
		return ReasonFlapping
	case v.authoritative && now.Before(c.back(s).Add(s.conf.FailbackDelay)):
		return ReasonFailbackDelay
	}
	return ""
}

// back is since when the node could serve again.
func (c *Core) back(s *service) time.Time {
	t := c.started
	for _, u := range []time.Time{s.passing, c.heard} {
		if u.After(t) {
			t = u
		}
	}
	return t
}

// others sums up what the status records say about a VIP.
func (c *Core) others(s *service, v *vip) Others {
	if !s.peersRead || c.zk.State != zkstate.Connected {
		return OthersUnread
	}
	sum := OthersNone
	for name, st := range s.peers { // a maximum: the order does not matter
		for _, r := range st.Routes {
			if r.VIP != v.name || !stays(st, r) {
				continue
			}
			switch {
			case !st.LastResort:
				return OthersServe
			case r.Role == Authoritative.String() || !v.authoritative && name < c.id.Node:
				sum = OthersPrior
			default:
				sum = max(sum, OthersLesser)
			}
		}
	}
	return sum
}

// stepMaintenance ends a maintenance whose time is over, and asks for what has done its duty to be removed.
func (c *Core) stepMaintenance(now time.Time, s *service, want *zkstate.Want) {
	if s.maintenance == PresencePresent && s.flag.over(now) {
		s.maintenance = PresenceAbsent
	}
	if s.flag.over(now) {
		want.Remove[zkstate.FlagKey{Service: s.conf.Name, Flag: zkstate.Maintenance}] = s.flag.Data
	}
	if s.failback != nil {
		want.Remove[zkstate.FlagKey{Service: s.conf.Name, Flag: zkstate.Failback}] = s.failback
	}
}

func (c *Core) service(name string) *service {
	for _, s := range c.services {
		if s.conf.Name == name {
			return s
		}
	}
	return nil
}

func (c *Core) vip(p netip.Prefix) *vip {
	for _, s := range c.services {
		for _, v := range s.vips {
			if v.prefix == p {
				return v
			}
		}
	}
	return nil
}

// setNeighbor takes one "state" line. Every "up" is a new session, whose peer has nothing from us yet.
func (c *Core) setNeighbor(now time.Time, ev exabgp.NeighborChanged) {
	if !c.counts(ev.Neighbor.Peer) {
		return
	}
	n := c.neighbor(ev.Neighbor)
	n.state, n.reason, n.cut, n.trust = ev.State, ev.Reason, false, time.Time{}
	if n.state == exabgp.NeighborUp { // ExaBGP's word may have waited in the pipe while the link went down
		n.cut, n.young = c.linkDown(n), true
	}
	c.listed, c.tracking = true, c.track
	if ev.State == exabgp.NeighborUp {
		c.epoch++
	}
	c.afterNeighbors(now)
}

// setNeighbors takes a complete list of the peers that are established; all others are not.
func (c *Core) setNeighbors(now time.Time, peers []netip.Addr) {
	c.listed, c.tracking = true, c.track
	cameUp := false
	for _, p := range peers {
		if c.counts(p) && !slices.ContainsFunc(c.neighbors, func(n neighbor) bool { return n.id.Peer == p }) {
			c.neighbor(exabgp.Neighbor{Peer: p})
		}
	}
	for i := range c.neighbors {
		n := &c.neighbors[i]
		up := slices.Contains(peers, n.id.Peer)
		switch {
		case up && n.state != exabgp.NeighborUp:
			n.state, n.reason, n.cut, n.trust = exabgp.NeighborUp, "", c.linkDown(n), time.Time{}
			cameUp = true
		case !up && (n.state == exabgp.NeighborUp || n.state == exabgp.NeighborUnknown):
			n.state, n.reason = exabgp.NeighborDown, "not in ExaBGP's list of established sessions"
		}
	}
	if cameUp {
		c.epoch++
	}
	c.afterNeighbors(now)
}

// counts says whether a neighbor hears exazk. ExaBGP lists every session, also of neighbors whose "api" does not name the
// process.
func (c *Core) counts(peer netip.Addr) bool { return len(c.only) == 0 || slices.Contains(c.only, peer) }

// afterNeighbors voids the acknowledgements of a node without its audience: it may claim its VIPs only once their routes
// were acknowledged for the session that comes next.
func (c *Core) afterNeighbors(now time.Time) {
	if !c.tracking {
		return
	}
	n := c.established()
	if n == 0 {
		c.heard = time.Time{}
	} else if c.heard.IsZero() {
		c.heard = now
	}
	for _, s := range c.services {
		if n < s.conf.MinNeighbors {
			for _, v := range s.vips {
				v.needEpoch = c.epoch + 1
				v.away = v.away || v.authoritative && v.raw.Holder == zkstate.Own
			}
		}
	}
}

// setLink takes the state of an interface. ExaBGP notices a dead link only when the hold timer runs out, so a session over
// it counts as down at once. When the link is back, the router may have closed the session without ExaBGP knowing: it
// counts again with ExaBGP's next "up", or when ExaBGP has had the time to find out.
func (c *Core) setLink(now time.Time, l link.Changed) {
	if c.links[l.Interface] = l; l.Removed {
		defer delete(c.links, l.Interface)
	}
	for i := range c.neighbors {
		n := &c.neighbors[i]
		if n.state != exabgp.NeighborUp || !n.over(l) {
			continue
		}
		if !l.Up {
			n.cut, n.trust, n.young = true, time.Time{}, false
			n.reason = "link " + l.Interface + " is down"
		} else if n.cut && n.trust.IsZero() {
			if n.trust = now.Add(linkTrust); n.young {
				n.trust = now
			}
		}
	}
	c.afterNeighbors(now)
}

// over says whether the session to the neighbor goes over the interface, and remembers it: an interface that is removed
// has no addresses any more.
func (n *neighbor) over(l link.Changed) bool {
	if n.carries(l) {
		n.on = l.Interface
	}
	return n.on == l.Interface
}

// carries says whether the interface has the address that the session goes out from.
func (n *neighbor) carries(l link.Changed) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
		return p.Addr() == n.id.Local || !n.id.Local.IsValid() && p.Contains(n.id.Peer)
	})
}

func (c *Core) linkDown(n *neighbor) bool {
	down := false
	for _, l := range c.links { // an address that moved may be on two; one that is up decides: the order does not matter
		if !n.carries(l) {
			continue
		}
		if l.Up {
			return false
		}
		down = true
	}
	return down
}

// trustSessions ends the distrust of sessions whose link was down. What was written meanwhile is due again.
func (c *Core) trustSessions(now time.Time) {
	for i := range c.neighbors {
		if n := &c.neighbors[i]; n.cut && !n.trust.IsZero() && !now.Before(n.trust) {
			n.cut, n.trust, n.reason = false, time.Time{}, ""
			c.epoch++
		}
	}
}

// neighbor finds or makes the entry of a neighbor. One known by its peer's address only gets its local address as soon
// as ExaBGP tells it.
func (c *Core) neighbor(id exabgp.Neighbor) *neighbor {
	for i := range c.neighbors {
		n := &c.neighbors[i]
		if n.id == id {
			return n
		}
		if n.id.Peer == id.Peer && (!n.id.Local.IsValid() || !id.Local.IsValid()) {
			if id.Local.IsValid() {
				n.id = id
			}
			return n
		}
	}
	c.neighbors = append(c.neighbors, neighbor{id: id})
	slices.SortFunc(c.neighbors, func(a, b neighbor) int {
		return cmp.Or(a.id.Peer.Compare(b.id.Peer), a.id.Local.Compare(b.id.Local))
	})
	return c.neighbor(id)
}

func (c *Core) established() int {
	n := 0
	for i := range c.neighbors {
		if c.neighbors[i].usable() {
			n++
		}
	}
	return n
}

// audible says whether a route that is written now reaches anybody.
func (c *Core) audible() bool { return !c.tracking || c.established() > 0 }

// lost says whether ZooKeeper has been away for so long that our claims must be assumed gone.
func (c *Core) lost(now time.Time, s *service) bool {
	switch c.zk.State {
	case zkstate.Lost:
		return true
	case zkstate.Connecting:
		return c.everRead || c.startOver(now, s)
	}
	return false
}

func (c *Core) startOver(now time.Time, s *service) bool {
	return now.Sub(c.started) >= s.conf.StartGrace
}

func (c *Core) facts(now time.Time, s *service, v *vip) Facts {
	return Facts{
		Authoritative: v.authoritative,
		Health:        s.health.State,
		Maintenance:   s.maintenance,
		Claim:         v.view,
		Stale:         !s.current,
		Others:        c.others(s, v),
		Wait:          c.wait(now, s, v),
		LastResort:    s.conf.LastResort,
		Drain:         v.drain,
		Stopping:      c.stopping != nil,
		StartOver:     c.startOver(now, s),
		ZooKeeperLost: c.lost(now, s),
		OnZKLoss:      s.conf.OnZKLoss,
		Last:          v.last.Action,
		LastRole:      v.last.Role,
	}
}

// stepClaims turns what was read into what counts. A claim that is there counts at once. One that is missing counts only
// after the settle time: after an ensemble lost every session, living nodes need a moment to come back. A claim that
// came back counts as present only after overlap, and only in a connected session: while we cannot read, nothing
// that we announce goes.
func (c *Core) stepClaims(now time.Time, s *service) {
	if !slices.ContainsFunc(s.vips, func(v *vip) bool { return v.readOnce }) {
		return
	}
	settling := now.Before(c.settle)
	for _, v := range s.vips {
		there := v.raw.Holder == zkstate.Foreign
		if !v.authoritative {
			there = v.raw.Holder != zkstate.Absent
		}
		switch {
		case there && (v.view == ClaimUnread || v.view == ClaimAbsent):
			v.before, v.view, v.returned = v.view, ClaimReturns, now
		case !there && (!settling || v.authoritative): // who else claims our own VIP need not come back
			v.view = ClaimAbsent
		case !there && v.view == ClaimReturns:
			v.view = v.before
		}
		if !v.asked && s.current && s.peersRead {
			// A process that starts while another node serves its VIP was away; one that finds its ghost was not.
			v.asked = true
			v.away = v.away || v.authoritative && v.raw.Holder == zkstate.Absent && c.others(s, v) == OthersServe
		}
		if v.view == ClaimReturns && s.current && !now.Before(v.returned.Add(s.conf.Overlap)) {
			v.view = ClaimPresent
		}
	}
}

// stepDrain moves every VIP of a service that is to be drained, by the operator or because the process stops, from
// "announced" over "another node announces it" to "withdrawn".
func (c *Core) stepDrain(now time.Time, s *service) {
	if c.stopping == nil && s.maintenance != PresencePresent {
		ended := s.drainSince != nil
		s.drainSince = nil
		for _, v := range s.vips {
			v.away = v.away && !ended // what was planned is no failure
			v.drain, v.taker, v.taken, v.timedOut = NotDraining, "", time.Time{}, false
		}
		return
	}
	if s.drainSince == nil {
		s.drainSince = &now
	}
	for _, v := range s.vips {
		if v.drain != Drained {
			c.stepHandover(now, s, v)
		}
	}
}

func (c *Core) stepHandover(now time.Time, s *service, v *vip) {
	v.drain = Draining
	node, taken := s.announcedBy(v.name)
	taken = taken && s.peersRead
	switch {
	case !taken:
		v.taker, v.taken = "", time.Time{}
	case v.taken.IsZero():
		v.taker, v.taken = node, now
	}
	switch {
	case v.last.Action == Withdraw, c.listed && !c.audible():
		v.drain = Drained // nobody hears it from us
	case taken && !now.Before(v.taken.Add(s.conf.Overlap)):
		v.drain = Drained
	case !now.Before(c.drainDeadline(s)):
		v.drain, v.timedOut = Drained, true
	}
}

func (c *Core) drainDeadline(s *service) time.Time {
	d := s.drainSince.Add(s.conf.DrainTimeout)
	if c.stopping != nil {
		if b := c.stopping.Add(stopBound); b.Before(d) {
			return b
		}
	}
	return d
}

// stays says whether a node announces a route and has no plan to give it up. Two nodes that are drained at once must not
// take each other for the one that takes over.
func stays(st zkstate.Status, r zkstate.StatusRoute) bool {
	return r.Announced && r.Reason != string(ReasonDraining) && st.Maintenance != PresencePresent.String()
}

// announcedBy finds the first node, by name, whose status record says that it announces a VIP and is heard.
func (s *service) announcedBy(vip string) (node string, found bool) {
	for name, st := range s.peers { // the least name: the order does not matter
		for _, r := range st.Routes {
			if r.VIP == vip && stays(st, r) && !st.LastResort && (!found || name < node) {
				node, found = name, true
			}
		}
	}
	return node, found
}

// adopt makes a verdict the VIP's own and the route that follows from it what is wanted.
func (v *vip) adopt(d Verdict, conf *Service) {
	v.last = d
	want := exabgp.Route{Prefix: v.prefix, Withdraw: true}
	if d.Action == Announce {
		v.away = false
		want = exabgp.Route{Prefix: v.prefix, NextHop: conf.Announce.NextHop, MED: conf.Announce.MED}
		switch {
		case d.Reason == ReasonLastResort:
			want.MED = conf.Announce.DrainMED
		case d.Reason == ReasonDraining && conf.DrainStyle == DrainGShut:
			want.MED, want.Communities = conf.Announce.DrainMED, GracefulShutdown
		case d.Role == Backup:
			want.MED = conf.Announce.BackupMED
		}
	}
	want.Serial = v.want.Serial
	if want != v.want { // an older answer to the same command says nothing about this one
		want.Serial++
		v.held = v.held && !want.Withdraw
		v.want, v.refused, v.acked = want, false, false
	}
}

// accept takes an acknowledgement. That of a command that is not wanted any more is of no use, save that an announce with
// other attributes is still heard.
func (v *vip) accept(ev exabgp.RouteAccepted) {
	v.held = !ev.Route.Withdraw && !v.want.Withdraw
	if ev.Route == v.want {
		v.ack, v.acked, v.refused = ev, true, false
	}
}

// accepted says whether ExaBGP acknowledged what is wanted, in a session that still counts.
func (v *vip) accepted() bool {
	return v.last.Action != Hold && v.acked && v.ack.Route == v.want && v.ack.Epoch >= v.needEpoch
}

// announced says whether ExaBGP holds an announcement of the VIP, if perhaps with other attributes than those wanted now.
func (v *vip) announced() bool {
	return v.last.Action == Announce && v.held && v.ack.Epoch >= v.needEpoch
}

// wish is what should become of the claim of a VIP that this node is authoritative for. It is held exactly while the
// node announces the VIP as its own, ExaBGP has acknowledged that, and enough neighbors hear it.
func (c *Core) wish(s *service, v *vip, d Verdict) zkstate.Wish {
	switch {
	case s.drainSince != nil, d.Action == Withdraw:
		return zkstate.Release
	case d.Action == Hold:
		return zkstate.Leave // a ghost of our last life keeps the others quiet until we know
	case d.Role != Authoritative, d.Reason == ReasonLastResort:
		return zkstate.Release
	case c.tracking && !c.listed:
		return zkstate.Leave
	case c.tracking && c.established() < s.conf.MinNeighbors, v.refused:
		return zkstate.Release
	case !v.accepted():
		return zkstate.Leave
	default:
		return zkstate.Hold
	}
}

// routes is what is to be written: withdraws always, and first; announces only while somebody hears them, since the rest
// may be lost in ExaBGP and becomes due again with the next session anyway. A withdraw is not kept back, because ExaBGP
// would send the route again by itself as soon as the session is back.
func (c *Core) routes() []exabgp.Route {
	var routes []exabgp.Route
	for _, s := range c.services {
		for _, v := range s.vips {
			if v.last.Action == Withdraw || v.last.Action == Announce && c.audible() {
				routes = append(routes, v.want)
			}
		}
	}
	slices.SortFunc(routes, func(a, b exabgp.Route) int {
		if a.Withdraw != b.Withdraw {
			if a.Withdraw {
				return -1
			}
			return 1
		}
		return comparePrefixes(a.Prefix, b.Prefix)
	})
	return routes
}

// exit says whether the process is done: at once where ExaBGP is gone, else when every withdraw of the last drain was
// acknowledged, or could not be within the bound.
func (c *Core) exit(now time.Time) Exit {
	switch {
	case c.gone:
		return Abandon
	case c.stopping == nil:
		return Stay
	case !now.Before(c.stopping.Add(stopBound + stopGrace)):
		return Leave
	}
	for _, s := range c.services {
		for _, v := range s.vips {
			if v.last.Action != Withdraw || !v.accepted() {
				return Stay
			}
		}
	}
	return Leave
}

// wake is the earliest instant at which the passing of time alone changes a decision.
func (c *Core) wake(now time.Time) time.Time {
	w := now.Add(heartbeat)
	consider := func(t time.Time) {
		if t.After(now) && t.Before(w) {
			w = t
		}
	}
	consider(c.settle)
	for _, n := range c.neighbors {
		consider(n.trust)
	}
	if c.stopping != nil {
		consider(c.stopping.Add(stopBound))
		consider(c.stopping.Add(stopBound + stopGrace))
	}
	for _, s := range c.services {
		consider(c.started.Add(s.conf.StartGrace))
		if s.drainSince != nil {
			consider(c.drainDeadline(s))
		}
		consider(s.flag.Until)
		consider(s.passing.Add(s.hold()))
		consider(c.back(s).Add(s.conf.FailbackDelay))
		for _, v := range s.vips {
			if v.view == ClaimReturns {
				consider(v.returned.Add(s.conf.Overlap))
			}
			if !v.taken.IsZero() {
				consider(v.taken.Add(s.conf.Overlap))
			}
		}
	}
	return w
}

func newWant() zkstate.Want {
	return zkstate.Want{
		Claims: map[zkstate.ClaimKey]zkstate.Wish{}, Statuses: map[string]zkstate.Status{}, Remove: map[zkstate.FlagKey][]byte{},
	}
}

// status is this node's record for the other nodes and for people.
func (c *Core) status(now time.Time, s *service) zkstate.Status {
	st := zkstate.Status{
		Node: c.id.Node, Instance: c.id.Instance, Version: c.id.Version, Since: c.id.Since,
		Health:      s.health.State.String(),
		Maintenance: s.maintenance.String(),
		Note:        s.flag.String(),
		Failures:    s.failures,
		HoldMS:      s.hold().Milliseconds(),
		Routes:      []zkstate.StatusRoute{},
		Neighbors:   []zkstate.StatusNeighbor{},
	}
	for _, v := range s.vips {
		r := zkstate.StatusRoute{
			VIP: v.name, Verdict: v.last.Action.String(), Role: v.last.Role.String(), Reason: string(v.last.Reason),
			Detail:    c.detail(s, v, v.last),
			Announced: v.announced() && c.audible(),
			Claim:     v.raw.Holder == zkstate.Own,
		}
		if v.last.Action == Announce {
			r.MED, r.Community = v.want.MED, v.want.Communities
		}
		st.LastResort = st.LastResort || v.last.Reason == ReasonLastResort
		st.Routes = append(st.Routes, r)
	}
	for i := range c.neighbors {
		n := &c.neighbors[i]
		st.Neighbors = append(st.Neighbors, zkstate.StatusNeighbor{Peer: n.id.Peer.String(), State: n.word()})
	}
	return st
}

// detail is the part of a reason that only people need.
func (c *Core) detail(s *service, v *vip, d Verdict) string {
	switch d.Reason {
	case ReasonUnhealthy, ReasonLastResort:
		return s.health.Result.Output
	case ReasonConflict:
		return v.raw.Detail
	case ReasonMaintenance, ReasonStopping:
		switch {
		case v.timedOut:
			return "no other node took it over in time"
		case v.taker != "":
			return "taken over by " + v.taker
		}
		return s.flag.String()
	case ReasonFlapping:
		return fmt.Sprintf("the check failed %d times; it must pass for %v", s.failures, s.hold())
	case ReasonUnclaimed, ReasonClaimed:
		if c.zk.State != zkstate.Connected {
			return "as last read; ZooKeeper is away"
		}
	}
	return ""
}
