package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

const (
	// heartbeat bounds the time between two Steps, so that a longer gap means that the process slept.
	heartbeat = time.Second
	// thinkAgain bounds how long a decision is repeated. A deadline by the wall clock, which may be set back, can hide the
	// others behind it.
	thinkAgain = 10 * time.Second
	// sleepLimit is the gap after which what was read from ZooKeeper is not trusted any longer (SIGSTOP, a paused VM).
	// It only costs a reading, so a busy machine that crosses it loses nothing.
	sleepLimit = 3 * time.Second
	// lateSession is how long after the start the first session is one after a loss: ZooKeeper was away, and the other nodes'
	// claims may be on their way back. It comes within milliseconds else, or half a second where a server of several is down.
	lateSession = time.Second
	// stopBound is the time for a drain after SIGTERM. ExaBGP 5 kills its processes 2 s after SIGTERM (4.2 waits for
	// them), and closing the ZooKeeper session comes out of the same 2 s.
	stopBound = 1300 * time.Millisecond
	// linkTrust is how long after a link came back a session that ExaBGP still shows as established is believed again
	// without a new "up". The router may have closed it meanwhile; ExaBGP learns that with its next keepalive, a third of
	// the hold time later: 60 s with ExaBGP's default of 180 s.
	linkTrust = 60 * time.Second
	// linkNews is how much later than ExaBGP's word of a session the kernel's word of its link may come.
	linkNews = 300 * time.Millisecond
	// brief is how short a single failure of a check must be to be forgiven at once: the restart of a service, say.
	brief = 3 * time.Second
	// flapMax bounds the hold that grows with the failures of a check.
	flapMax = 10 * time.Minute
	// recordDelay is how long it may take until another node's answer to a change here shows in its status record: it reads a
	// follower that lags a bit, and so do we; a tenth of a second for each of writing and reading at most (zkstate), and the way.
	recordDelay = time.Second
	// followerLag is what is allowed for a server that is behind the leader.
	followerLag = time.Second
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
	track    bool          // neighbor_tracking = "auto"
	holdTime time.Duration // how long a neighbor may be silent; 0 means for ever
	only     []netip.Addr  // the neighbors that count; none means all
	tracking bool          // false: nothing is known of neighbors, and everything is written as if one were up
	started  time.Time     // of the first Step
	last     time.Time     // of the Step before

	epoch     uint64
	neighbors []neighbor      // sorted by peer, then local address
	links     map[string]wire // by interface; see linkDown for why their order does not matter
	listed    bool            // something is known about neighbors

	zk        zkstate.SessionChanged
	everRead  bool      // a session was connected in this life
	lostAt    time.Time // when the last one was lost; zero while there is one
	settle    time.Time // absences of claims do not count before
	unsettled bool      // ZooKeeper went away again before that
	fresh     time.Time // readings that began before are ignored: the process slept since

	stopping *time.Time // since when
	signal   string
	gone     bool // ExaBGP ended or is ending

	services []*service
	former   []advert       // what was announced by a configuration before this one, and is withdrawn
	wide     []exabgp.Route // what went to every neighbor and goes to chosen ones now: withdraws, but for whom they are for
	serials  uint64         // where those of routes begin that are new in this configuration: greater than any before
	keys     []exabgp.Route // what may be announced: see Decision.Keys
	drifts   []exabgp.Drift // what ExaBGP held otherwise than wanted when it was last looked at

	// While nothing happens and no deadline passes, a Step only repeats the decision before: a node with many VIPs must
	// not think about each of them every second.
	decided Decision
	spare   Decision  // one that was not handed out, as it only repeated decided: its slices and maps serve for the next
	due     time.Time // when the passing of time alone may change it; zero means never
	quiet   bool      // it followed from decided without any news
	thought time.Time // when that was
}

type service struct {
	conf        *Service
	started     time.Time // when this process began to serve it
	fresh       time.Time // readings that began before are ignored: they are of what the service was then
	health      health.Changed
	said        string        // the detail of health
	judged      zkstate.Stamp // since when health is what it is; for people. Empty while it is unknown
	passing     time.Time     // since when the check passes
	failing     time.Time     // when the check began to fail, the last time
	lasted      time.Duration // how long it failed, the last time
	failures    int           // of the check, that came close together
	failed      time.Time     // when the last of them came
	maintenance Presence      // a node whose time is over is absent
	flag        Flag          // what the operator wrote into the maintenance node
	entered     zkstate.Stamp // since when it is there; for people. Empty while it is not
	failback    []byte        // an operator's word to take the VIPs back, to be removed; nil if there is none
	forgiven    bool          // it came while too few neighbors were up: that they are is no absence until enough were
	peers       map[string]zkstate.Status
	junk        map[string]string        // by other node: why its record is none, for people
	peersBegan  time.Time                // when what is known of them was asked for
	look        time.Time                // after a failure of the check: when the others' records are worth a look; see others
	looked      bool                     // Resync was asked for at look
	peersRead   bool                     // since the process last slept and since ZooKeeper was last away
	claims      map[string]zkstate.Claim // as last read, for people; nil before
	current     bool                     // the claims were read since the process last slept and since ZooKeeper was last away
	drainSince  *time.Time
	blind       bool      // the others could not be seen or believed in the step before
	heard       time.Time // since when a neighbor is up; zero while none is
	vips        []*vip    // in NLRI order
}

// vip is what is known and decided about one VIP.
type vip struct {
	name          string
	prefix        netip.Prefix
	authoritative bool
	before        []string // the nodes that back it up and come before this one
	rank          int      // this one's place among them, from 1; 0 if it has none

	unclaimed time.Time // since when nobody claims it, where before counts
	leader    string    // the first node of before that announces it by its record
	led       time.Time // since when
	ahead     Before    // what follows from that

	raw      zkstate.Claim // as last read
	readOnce bool
	view     ClaimView // what is made of it: settling and overlap considered
	earlier  ClaimView // the view before it became ClaimReturns
	returned time.Time // when view became ClaimReturns

	wished   bool      // a claim of ours is wanted
	released time.Time // when that ended, the last time
	holding  bool      // a claim of ours is there, or may be

	recorded Others // what the status records said when they were last read, whenever that was; OthersUnread before

	last      Verdict
	since     zkstate.Stamp // of last; for people
	adverts   []advert      // one for each neighbor that is chosen, or one for all
	needEpoch uint64        // acknowledgements of an older epoch do not count

	away  bool // it was away while another node took over, and has not been announced since
	asked bool // whether it was away before the start is decided
	early bool // it was away before the drain that is going on

	served   time.Time // since when a healthy node announces it by its record; zero while none does
	drain    DrainState
	taker    string // the node that took it over
	taken    time.Time
	timedOut bool // drained by drain_timeout, not by another node
}

// NewCore makes a Core that knows nothing yet. The first Step's time is its start. What the process before this one may have
// announced (its last Decision.Keys) is withdrawn where it is not configured any more.
func NewCore(cfg *Config, id Identity, before ...exabgp.Route) *Core {
	c := &Core{id: id, links: map[string]wire{}, track: cfg.ExaBGP.TrackNeighbors, tracking: cfg.ExaBGP.TrackNeighbors, only: cfg.ExaBGP.Neighbors, holdTime: cfg.ExaBGP.HoldTime}
	for i := range cfg.Services {
		c.services = append(c.services, newService(cfg, &cfg.Services[i]))
	}
	c.serials = serialStep
	c.remember(before)
	return c
}

func newService(cfg *Config, conf *Service) *service {
	s := &service{conf: conf, health: health.Changed{Service: conf.Name}}
	for _, p := range conf.Authoritative {
		s.vips = append(s.vips, newVIP(cfg, conf, p, true))
	}
	for _, p := range conf.BackupFor {
		s.vips = append(s.vips, newVIP(cfg, conf, p, false))
	}
	slices.SortFunc(s.vips, func(a, b *vip) int { return comparePrefixes(a.prefix, b.prefix) })
	return s
}

func newVIP(cfg *Config, conf *Service, p netip.Prefix, authoritative bool) *vip {
	role := Backup
	if authoritative {
		role = Authoritative
	}
	v := &vip{name: ClaimName(p), prefix: p, authoritative: authoritative, last: Verdict{Action: Hold, Role: role}}
	v.before = conf.Order[p]
	if i := slices.Index(v.before, cfg.Node); i >= 0 {
		v.before, v.rank = v.before[:i], i+1
	}
	rank := len(v.before) + 1
	if len(conf.Neighbors) == 0 {
		v.adverts = []advert{{attrs: newRoles(&conf.Announce, rank, cfg.ExaBGP.LocalAS)}}
	}
	for i := range conf.Neighbors {
		n := &conf.Neighbors[i]
		v.adverts = append(v.adverts, advert{to: n.Address, attrs: newRoles(&n.Announce, rank, cfg.ExaBGP.LocalAS)})
	}
	return v
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// noticeSleep compares the clock with the last Step's. After a sleep the claims may have changed hands: what is already
// on its way to us is as old as what we know, so only readings that begin from now on count.
func (c *Core) noticeSleep(now time.Time) bool {
	if c.started.IsZero() {
		c.started, c.last = now, now
		for _, s := range c.services {
			s.started = now
		}
	}
	// The monotonic clock stands still while a machine is suspended, the wall clock does not. A wall clock that was set
	// looks the same, and costs a reading.
	slept := max(now.Sub(c.last), now.Round(0).Sub(c.last.Round(0))) > sleepLimit
	c.last = now
	if slept {
		c.fresh = now
		c.outdate()
		c.forgiveSilence(now)
	}
	return slept
}

// outdate notes that what was read from ZooKeeper may be old.
func (c *Core) outdate() {
	for _, s := range c.services {
		s.current, s.peersRead = false, false
	}
}

// apply takes an event in. It returns false where nothing that counts is new.
func (c *Core) apply(now time.Time, ev Event) (news bool) {
	switch ev := ev.(type) {
	case Tick:
		return false
	case Stop:
		if c.stopping == nil {
			since := now
			c.stopping, c.signal = &since, ev.Signal
		}
	case FromHealth:
		if s := c.service(ev.Service); s != nil {
			s.setHealth(now, ev.Changed)
		}
	case FromLink:
		c.setLink(now, ev.Changed)
	case Reload:
		c.reload(now, ev.Config)
	case Accepted:
		for _, answer := range ev {
			c.accept(answer)
		}
	case FromExaBGP:
		switch ev := ev.Event.(type) {
		case exabgp.NeighborHeard:
			return c.hearNeighbor(now, ev.Neighbor)
		case exabgp.NeighborsListed:
			return c.setNeighbors(now, ev.Established)
		}
		c.applyExaBGP(now, ev.Event)
	case FromZooKeeper:
		c.applyZooKeeper(now, ev.Event)
	default:
		panic(fmt.Sprintf("bug: unknown event %T", ev))
	}
	return true
}

func (c *Core) applyExaBGP(now time.Time, ev exabgp.Event) {
	switch ev := ev.(type) {
	case exabgp.NeighborChanged:
		c.setNeighbor(now, ev)
	case exabgp.TrackingUnavailable:
		c.tracking = false // until ExaBGP tells something after all
	case exabgp.EventsMissing: // the neighbors are polled from now on; the log has the remedy
	case exabgp.RouteAccepted:
		c.accept(ev)
	case exabgp.RouteRefused:
		if a := c.advert(ev.Route); a != nil {
			a.refuse(ev)
		}
	case exabgp.Drifted:
		c.drifts = ev.Routes
	case exabgp.ShuttingDown, exabgp.Gone:
		c.gone = true
	default:
		panic(fmt.Sprintf("bug: unknown event %T", ev))
	}
}

func (c *Core) accept(ev exabgp.RouteAccepted) {
	if a := c.advert(ev.Route); a != nil {
		a.accept(ev)
	}
	c.acceptFormer(ev)
}

func (c *Core) applyZooKeeper(now time.Time, ev zkstate.Event) {
	switch ev := ev.(type) {
	case zkstate.SessionChanged:
		if ev.State == zkstate.Connected {
			if ev.AfterLoss || c.unsettled || !c.everRead && now.Sub(c.started) >= lateSession {
				c.settle = now.Add(settleTime(ev.Timeout))
			}
			c.everRead, c.unsettled = true, false
		} else {
			c.unsettled = c.unsettled || now.Before(c.settle) // the others could not come back either
			c.outdate()
		}
		c.zk = ev
		switch {
		case ev.State == zkstate.Connected, ev.State == zkstate.Suspended:
			c.lostAt = time.Time{}
		case c.lostAt.IsZero():
			c.lostAt = now
		}
	case zkstate.ClaimsRead:
		if s := c.service(ev.Service); s != nil && !c.old(s, ev.Began) {
			for _, v := range s.vips {
				v.raw, v.readOnce = ev.Claims[v.name], true
				v.holding = v.raw.Holder == zkstate.Own || v.raw.Holder == zkstate.Ghost || v.wished || ev.Began.Before(v.released)
				if !s.current && v.last.Action == Announce && (v.view == ClaimPresent || v.view == ClaimReturns) {
					v.view = ClaimAbsent // the overlap begins anew: its owner may have been away all the time
				}
			}
			s.claims, s.current = ev.Claims, true
			c.afterNeighbors(now) // a claim that was made just before the last neighbor went is of this node, too
		}
	case zkstate.MaintenanceRead:
		if s := c.service(ev.Service); s != nil && !c.old(s, ev.Began) {
			s.setMaintenance(now, ev)
		}
	case zkstate.FailbackRead:
		if s := c.service(ev.Service); s != nil && !c.old(s, ev.Began) {
			c.setFailback(s, ev)
		}
	case zkstate.PeersRead:
		if s := c.service(ev.Service); s != nil && !c.old(s, ev.Began) {
			s.peers, s.peersRead, s.peersBegan = ev.Peers, true, ev.Began
			s.junk = ev.Junk
			for _, v := range s.vips {
				v.recorded = c.record(s, v)
			}
		}
	default:
		panic(fmt.Sprintf("bug: unknown event %T", ev))
	}
}

// setMaintenance takes a reading of the maintenance node.
func (s *service) setMaintenance(now time.Time, ev zkstate.MaintenanceRead) {
	entered := s.entered
	s.maintenance, s.flag = PresenceAbsent, Flag{}
	s.entered = ""
	if !ev.Present {
		return
	}
	s.maintenance, s.flag = PresencePresent, ParseFlag(ev.Data)
	switch {
	case !s.flag.Since.IsZero():
		s.entered = zkstate.StampOf(s.flag.Since)
	case entered == "":
		s.entered = zkstate.StampOf(now)
	default:
		s.entered = entered
	}
}

// settleTime is how long after a loss the claim and the status record of a node that died meanwhile may still be there: a
// server that was started anew gives every session its whole timeout, and rounds its end up to a tick, which is half the
// timeout at most (ZooKeeper's default minSessionTimeout). A follower tells of it a moment later.
func settleTime(timeout time.Duration) time.Duration { return timeout + timeout/2 + followerLag }

// old says whether a reading began before what it is of was changed, or before the process slept.
func (c *Core) old(s *service, began time.Time) bool {
	return began.Before(c.fresh) || began.Before(s.fresh)
}

func (c *Core) service(name string) *service {
	for _, s := range c.services {
		if s.conf.Name == name {
			return s
		}
	}
	return nil
}

// advert finds the one that a route is of; nil if it belongs to no configured VIP.
func (c *Core) advert(r exabgp.Route) *advert {
	for _, s := range c.services {
		for _, v := range s.vips {
			if v.prefix == r.Prefix {
				return v.advert(r)
			}
		}
	}
	return nil
}

// lost says whether ZooKeeper has been away for so long that our claims must be assumed gone, and zk_loss_after longer.
func (c *Core) lost(now time.Time, s *service) bool {
	since := c.lostSince(s)
	return !since.IsZero() && !now.Before(since.Add(s.conf.ZKLossAfter))
}

// lostSince is when ZooKeeper was lost: zero while it is not, and in the future where a process that has just started may yet reach it.
func (c *Core) lostSince(s *service) time.Time {
	switch {
	case c.zk.State == zkstate.Lost, c.zk.State == zkstate.Connecting && c.everRead:
		return c.lostAt
	case c.zk.State == zkstate.Connecting:
		return s.started.Add(s.conf.StartGrace)
	}
	return time.Time{}
}

func (c *Core) startOver(now time.Time, s *service) bool {
	return now.Sub(s.started) >= s.conf.StartGrace
}

// claimOf is the view of a VIP's claim. That of a node's own VIP counts as unread until it is known whether the node was
// away, where that makes a difference.
func (c *Core) claimOf(s *service, v *vip) ClaimView {
	if v.authoritative && !v.asked && (s.conf.Failback == FailbackManual || s.conf.FailbackDelay > 0) {
		return ClaimUnread
	}
	return v.view
}

func (c *Core) facts(now time.Time, s *service, v *vip, others Others) Facts {
	return Facts{
		Authoritative: v.authoritative,
		Health:        s.health.State,
		Maintenance:   s.maintenance,
		Claim:         c.claimOf(s, v),
		Stale:         !s.current,
		Others:        others,
		Served:        v.recorded == OthersServe,
		Wait:          c.wait(now, s, v),
		LastResort:    s.conf.LastResort,
		Standby:       s.conf.Backup == BackupStandby,
		Before:        v.ahead,
		Drain:         v.drain,
		Stopping:      c.stopping != nil,
		StartOver:     c.startOver(now, s),
		ZooKeeperLost: c.lost(now, s),
		OnZKLoss:      s.conf.OnZKLoss,
		Unheard:       c.tracking && c.listed && c.established(s) == 0 && !v.served.IsZero() && !now.Before(v.served.Add(s.conf.Overlap)),
		LastReason:    v.last.Reason,
		Last:          v.last.Action,
		LastRole:      v.last.Role,
	}
}

// stepClaims turns what was read into what counts. A claim that is there counts at once. One that is missing counts only
// after the settle time: after an ensemble lost every session, living nodes need a moment to come back. A claim that
// came back counts as present only after overlap, and only in a connected session: while we cannot read, nothing
// that we announce goes.
func (c *Core) stepClaims(now time.Time, s *service) {
	settling := now.Before(c.settle)
	for _, v := range s.vips {
		if !v.readOnce {
			continue
		}
		there := v.raw.Holder == zkstate.Foreign
		if !v.authoritative {
			there = !nobodys(v.raw)
		}
		switch {
		case there && (v.view == ClaimUnread || v.view == ClaimAbsent):
			v.earlier, v.view, v.returned = v.view, ClaimReturns, now
		case !there && (v.authoritative || s.current && !settling): // who else claims our own VIP need not come back
			v.view = ClaimAbsent
		case !there && v.view == ClaimReturns:
			v.view = v.earlier
		}
		if !v.asked && s.current && s.peersRead {
			// A process that starts while another node serves its VIP was away; one that finds its ghost was not.
			v.asked = true
			v.away = v.away || v.authoritative && v.raw.Holder == zkstate.Absent && c.others(now, s, v) == OthersServe
		}
		// Right after a loss the claim may be one that a dead node left behind: a new leader gives its session a whole timeout.
		if v.view == ClaimReturns && s.current && !settling && !now.Before(v.returned.Add(s.conf.Overlap)) {
			v.view = ClaimPresent
		}
	}
}

// nobodys reports whether no process holds a claim: it is not there, or what is in its place is none.
func nobodys(c zkstate.Claim) bool { return c.Holder == zkstate.Absent || c.Holder == zkstate.Squatted }

// serving reports whether the node has its own VIP as far as the others know: it claims it, or nobody can and it announces it.
func (v *vip) serving() bool {
	return v.raw.Holder == zkstate.Own || v.raw.Holder == zkstate.Squatted && v.last.Action == Announce
}

// wake is when Step must be called again.
func (c *Core) wake(now time.Time) time.Time {
	w := now.Add(heartbeat)
	if !c.due.IsZero() && c.due.Before(w) {
		return c.due
	}
	return w
}

// deadline is the earliest instant at which the passing of time alone may change a decision; zero if there is none.
func (c *Core) deadline(now time.Time) time.Time {
	var w time.Time
	consider := func(t time.Time) {
		if t.After(now) && (w.IsZero() || t.Before(w)) {
			w = t
		}
	}
	consider(c.settle)
	for _, n := range c.neighbors {
		consider(n.trust)
		if c.holdTime > 0 && !n.spoke.IsZero() {
			consider(n.spoke.Add(c.holdTime))
		}
	}
	if c.stopping != nil {
		consider(c.stopping.Add(stopBound))
		consider(c.stopping.Add(stopBound + stopGrace))
	}
	for _, s := range c.services {
		consider(s.started.Add(s.conf.StartGrace))
		if since := c.lostSince(s); !since.IsZero() && s.conf.ZKLossAfter > 0 {
			consider(since.Add(s.conf.ZKLossAfter))
		}
		if s.drainSince != nil {
			consider(c.drainDeadline(s))
		}
		consider(s.flag.Until)
		if s.conf.LastResort {
			consider(s.look)
		}
		consider(s.passing.Add(s.hold()))
		consider(c.back(s).Add(s.conf.FailbackDelay))
		for _, v := range s.vips {
			if v.view == ClaimReturns {
				consider(v.returned.Add(s.conf.Overlap))
			}
			if !v.taken.IsZero() {
				consider(v.taken.Add(s.conf.Overlap))
			}
			if !v.served.IsZero() {
				consider(v.served.Add(s.conf.Overlap))
			}
			if !v.unclaimed.IsZero() {
				consider(v.unclaimed.Add(comingWait))
				consider(v.led.Add(s.conf.Overlap))
			}
		}
	}
	return w
}

// blank is a Decision to be filled in.
func (c *Core) blank() Decision {
	if w := c.spare.Want; w.Claims != nil {
		clear(w.Claims)
		clear(w.Remove) // every decision has all Statuses
		return Decision{Why: c.spare.Why[:0], Want: w}
	}
	return Decision{Want: zkstate.Want{
		Claims: map[zkstate.ClaimKey]zkstate.Wish{}, Statuses: map[string]*zkstate.Status{}, Remove: map[zkstate.FlagKey][]byte{},
	}}
}

// keep notes a decision that is about to be handed out. One that is the same as the one before is replaced by that.
func (c *Core) keep(d *Decision, same bool) {
	if !same {
		c.decided, c.spare = *d, Decision{}
		return
	}
	c.spare = *d
	d.Why, d.Table, d.Want = c.decided.Why, c.decided.Table, c.decided.Want
}
