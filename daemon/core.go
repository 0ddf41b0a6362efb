package daemon

import (
	"fmt"
	"slices"
	"time"

	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

// Action is what should become of a VIP's route.
type Action uint8

const (
	// Hold leaves the route as it is in ExaBGP, whatever that is. ExaBGP keeps the routes of a process that died, so a
	// process that does not know yet must not withdraw "to be clean": that would make an outage out of a restart.
	Hold Action = iota
	Announce
	Withdraw
)

// Role says as what a VIP is announced, and with it which MED it gets.
type Role uint8

const (
	Authoritative Role = iota
	Backup
)

// Reason says why a verdict is what it is. The words are stable: they are in logs, in status records and in the docs.
type Reason string

const (
	ReasonAuthoritative      Reason = "authoritative"       // announced: it is ours and we are serviceable
	ReasonUnclaimed          Reason = "unclaimed"           // announced: it is another node's, and nobody claims it
	ReasonStandby            Reason = "standby"             // announced: it is another node's, and backups are announced all the time
	ReasonOutranked          Reason = "outranked"           // withdrawn, or kept for overlap: nobody claims it, and a node that comes before this one takes it over
	ReasonClaimed            Reason = "claimed"             // withdrawn: its owner claims it
	ReasonFailbackManual     Reason = "failback-manual"     // withdrawn: another node has it, until an operator gives it back
	ReasonFailbackDelay      Reason = "failback-delay"      // withdrawn: another node has it, for failback_delay
	ReasonFlapping           Reason = "flapping"            // withdrawn: another node has it, until the check has passed for long enough
	ReasonLastResort         Reason = "last-resort"         // announced although the check fails: nobody else announces it
	ReasonOverlap            Reason = "overlap"             // kept: its owner is back, for less than overlap
	ReasonConflict           Reason = "conflict"            // withdrawn: it is ours, and somebody else claims it
	ReasonUnhealthy          Reason = "unhealthy"           // withdrawn: the check fails
	ReasonHealthUnknown      Reason = "health-unknown"      // held, and withdrawn after start_grace: no verdict of the check yet
	ReasonMaintenance        Reason = "maintenance"         // withdrawn: this node is drained
	ReasonStopping           Reason = "stopping"            // withdrawn: the process is about to end
	ReasonDraining           Reason = "draining"            // kept: until another node has it or drain_timeout
	ReasonMaintenanceUnknown Reason = "maintenance-unknown" // held: the maintenance node was never read
	ReasonClaimsUnread       Reason = "claims-unread"       // held: the claims were never read
	ReasonClaimsStale        Reason = "claims-stale"        // kept: its owner claimed it when the claims were last read
	ReasonZooKeeperLost      Reason = "zookeeper-lost"      // as on_zk_loss says
)

// Presence is what is known of a znode's existence.
type Presence uint8

const (
	PresenceUnknown Presence = iota
	PresenceAbsent
	PresencePresent
)

// ClaimView is what a node makes of the claim of one VIP.
type ClaimView uint8

const (
	ClaimUnread  ClaimView = iota // never read in this life of the process
	ClaimAbsent                   // nobody claims it or can, or this node itself does
	ClaimReturns                  // another node claims it, for less than overlap
	ClaimPresent                  // another node claims it
)

// DrainState is how far a drain of one VIP has come.
type DrainState uint8

const (
	NotDraining DrainState = iota
	Draining               // announced until another node has taken it over
	Drained                // taken over, or waited for long enough, or never announced
)

// Others is what the status records of the other nodes say about a VIP.
type Others uint8

const (
	OthersUnread Others = iota // not read since ZooKeeper was away
	OthersNone                 // nobody else announces it
	OthersLesser               // only nodes announce it as a last resort that have less right to than this one
	OthersPrior                // only nodes announce it as a last resort, one of which has more right to
	OthersServe                // a healthy node announces it
)

// Before says what the nodes do that come before this one in the order of a VIP's backups.
type Before uint8

const (
	BeforeNone   Before = iota // there is none that could announce it, or it has had the time and does not
	BeforeComing               // one could announce it by its record, and is about to
	BeforeBegins               // one announces it, for less than overlap
	BeforeServes               // one has announced it for overlap
)

// Facts is everything that the verdict about one VIP depends on.
type Facts struct {
	Authoritative bool
	Health        health.State
	Maintenance   Presence
	Claim         ClaimView
	Stale         bool // ZooKeeper is or was away, and the claims were not read again since
	Others        Others
	Served        bool   // when the status records were last read, a healthy node announced it
	Wait          Reason // why this node lets another one keep the VIP for now; empty if it does not
	LastResort    bool   // last_resort is on
	Standby       bool   // backup = "standby": backups are announced all the time
	Before        Before // with backups = "first"
	Drain         DrainState
	Stopping      bool   // the drain is that of the process, not of the operator
	StartOver     bool   // start_grace has passed: what is still unknown is not waited for any longer
	ZooKeeperLost bool   // no session for a session timeout, or none since the start for start_grace
	OnZKLoss      Policy // what that means for a backup
	Unheard       bool   // no neighbor hears this node, and a healthy one has announced the VIP for overlap
	LastReason    Reason // of the verdict before this one
	Last          Action // the verdict before this one; what "kept" means
	LastRole      Role
}

// Verdict is the decision about one VIP and its reason.
type Verdict struct {
	Action Action
	Role   Role
	Reason Reason
}

// Decide is the whole policy: the one place where it is decided whether a VIP is announced. It is a function of its
// argument alone. The order of its questions is the order of trust: own check, maintenance, claims.
func Decide(f Facts) Verdict {
	role := Backup
	if f.Authoritative {
		role = Authoritative
	}
	withdraw := func(r Reason) Verdict { return Verdict{Withdraw, role, r} }
	keep := func(r Reason) Verdict { return Verdict{f.Last, f.LastRole, r} }

	switch {
	case f.Health == health.Unhealthy && f.LastResort && f.Drain == NotDraining && needed(f):
		return Verdict{Announce, role, ReasonLastResort}
	case f.Health == health.Unhealthy:
		return withdraw(ReasonUnhealthy) // a sick announcer is a black hole: nothing else outranks this
	case f.Drain == Draining:
		return keep(ReasonDraining)
	case f.Drain == Drained && f.Stopping:
		return withdraw(ReasonStopping)
	case f.Drain == Drained:
		return withdraw(ReasonMaintenance)
	case f.Health == health.Unknown && f.StartOver:
		return withdraw(ReasonHealthUnknown)
	case f.Health == health.Unknown:
		return Verdict{Hold, role, ReasonHealthUnknown}
	case f.Authoritative:
		return decideOwn(f, keep)
	default:
		return decideBackup(f, keep)
	}
}

// needed says whether a sick node must announce a VIP as a last resort. One that announces it already goes on until a
// healthy node has it, or one with more right to be the last, or until its owner, of which there may be no record, claims
// it; one that does not begins only where nobody does. So two sick nodes never withdraw because of each other. What
// cannot be seen is no reason to begin, and none to end.
func needed(f Facts) bool {
	owned := f.Claim == ClaimReturns || f.Claim == ClaimPresent
	switch f.Others {
	case OthersUnread:
		return f.Last == Announce && f.LastReason == ReasonLastResort
	case OthersNone:
		return f.Claim != ClaimPresent && (f.Last == Announce || !owned)
	case OthersLesser:
		return f.Last == Announce
	}
	return false
}

// yields says whether a node that was away, or whose check flaps, leaves a VIP to the node that has it now. It never
// makes a node withdraw what somebody hears from it. While ZooKeeper is away, it goes on where another node announced the
// VIP when that was last seen; it does not begin where nobody could have taken the VIP over.
func yields(f Facts) bool {
	switch {
	case f.Wait == "" || f.Last == Announce && !f.Unheard:
		return false
	case f.Others == OthersUnread:
		return f.Last == Withdraw && f.Served && !(f.ZooKeeperLost && f.OnZKLoss == PolicyAnnounce)
	}
	return f.Others == OthersServe
}

// decideOwn is the verdict of a healthy, undrained node about a VIP that it is authoritative for. Without ZooKeeper it
// is announced all the same: two announcers are harmless, none is an outage.
func decideOwn(f Facts, keep func(Reason) Verdict) Verdict {
	switch {
	case f.Claim == ClaimReturns, f.Claim == ClaimPresent: // somebody else claims it: as a backup
		v := decideBackup(f, keep)
		if v.Reason == ReasonClaimed {
			v.Reason = ReasonConflict
		}
		return v
	case f.Maintenance == PresenceUnknown && !f.StartOver:
		return Verdict{Hold, Authoritative, ReasonMaintenanceUnknown}
	case f.Claim == ClaimUnread && !f.StartOver:
		return Verdict{Hold, Authoritative, ReasonClaimsUnread}
	case yields(f):
		return Verdict{Withdraw, Authoritative, f.Wait}
	default:
		return Verdict{Announce, Authoritative, ReasonAuthoritative}
	}
}

// decideBackup is the verdict of a healthy, undrained node about another node's VIP. With on_zk_loss = "hold" nothing
// special happens while ZooKeeper is lost: the claims stay as they were last read, and so do the verdicts.
func decideBackup(f Facts, keep func(Reason) Verdict) Verdict {
	switch {
	case f.Standby && f.Maintenance == PresenceUnknown && !f.StartOver:
		return Verdict{Hold, Backup, ReasonMaintenanceUnknown}
	case f.Standby && !f.Authoritative:
		return Verdict{Announce, Backup, ReasonStandby} // the fabric chooses, with ZooKeeper or without
	case f.ZooKeeperLost && f.OnZKLoss == PolicyWithdraw:
		return Verdict{Withdraw, Backup, ReasonZooKeeperLost}
	case f.ZooKeeperLost && f.OnZKLoss == PolicyAnnounce:
		return Verdict{Announce, Backup, ReasonZooKeeperLost}
	case f.Claim == ClaimUnread:
		return Verdict{Hold, Backup, ReasonClaimsUnread}
	case f.Maintenance == PresenceUnknown:
		return Verdict{Hold, Backup, ReasonMaintenanceUnknown}
	case f.Claim == ClaimReturns:
		return keep(ReasonOverlap)
	case f.Claim == ClaimAbsent && f.Stale && (f.LastReason == ReasonZooKeeperLost || f.LastReason == ReasonClaimsStale):
		return keep(ReasonClaimsStale) // what was read before ZooKeeper was away begins nothing
	case f.Claim == ClaimPresent && f.Stale && f.Last == Announce:
		return keep(ReasonClaimsStale) // while we cannot read, nothing that we announce goes
	case f.Claim == ClaimPresent:
		return Verdict{Withdraw, Backup, ReasonClaimed}
	case yields(f):
		return Verdict{Withdraw, Backup, f.Wait}
	case f.Before == BeforeServes && !(f.Last == Announce && f.Others == OthersUnread):
		return Verdict{Withdraw, Backup, ReasonOutranked}
	case f.Before >= BeforeComing && f.Last == Withdraw:
		return Verdict{Withdraw, Backup, ReasonOutranked}
	case f.Before == BeforeBegins, f.Before == BeforeComing && f.Last == Hold: // what is held may be announced, and goes no sooner
		return keep(ReasonOutranked) // it says so in its record: a node that is drained must not count on one that is about to stop
	default:
		return Verdict{Announce, Backup, ReasonUnclaimed}
	}
}

// Exit says whether the process should end, and how.
type Exit uint8

const (
	Stay    Exit = iota
	Leave        // everything is drained: give up what is left in ZooKeeper, then end
	Abandon      // ExaBGP is gone and our routes with it: close the ZooKeeper session at once, then end
)

// Decision is everything that must hold after a Step.
type Decision struct {
	Why    []VIPVerdict // one per configured VIP, in the order of the services and of the NLRI: for logs and people
	Table  exabgp.Table // what is to be written to ExaBGP; held routes and those that nobody could hear are not in it
	Want   zkstate.Want // what should lie in ZooKeeper
	Resync bool         // what was read from ZooKeeper may be old: read it again now
	Slept  bool         // that is because the process stood still
	Exit   Exit
	Wake   time.Time // Step must be called again no later than this
	// Keys are all routes that ExaBGP may hold of this process, now or later. They are to be kept for the process after this
	// one, which withdraws what it is not configured with. A change is always in another slice.
	Keys []exabgp.Route
}

// VIPVerdict is a verdict with the VIP that it is about.
type VIPVerdict struct {
	Service string
	VIP     string // claim name
	Verdict
	Detail string // for people: the check's output, who else claims it, which node took over
}

// Step applies ev at the instant now and returns all that must hold afterwards. It does no I/O, reads no clock and
// follows no map's order: equal inputs give equal output.
func (c *Core) Step(now time.Time, ev Event) Decision {
	slept := c.noticeSleep(now)
	news := c.apply(now, ev)
	if c.quiet && !slept && !news && (c.due.IsZero() || now.Before(c.due)) && now.Sub(c.thought) < thinkAgain {
		if _, tick := ev.(Tick); !tick {
			c.due = c.deadline(now) // a keepalive puts it off
		}
		d := c.decided
		d.Resync, d.Slept, d.Wake = false, false, c.wake(now)
		return d
	}
	d := c.decide(now, slept)
	c.due, c.thought = c.deadline(now), now
	same := d.same(c.decided)
	c.quiet = !slept && !news && same
	c.keep(&d, same)
	d.Wake = c.wake(now)
	return d
}

// decide makes all decisions anew.
func (c *Core) decide(now time.Time, slept bool) Decision {
	c.trustSessions(now)
	d := c.blank()
	d.Resync, d.Slept = slept || c.lookAgain(now), slept
	for _, s := range c.services {
		if d.Why == nil {
			d.Why = make([]VIPVerdict, 0, len(s.vips))
		}
		c.stepClaims(now, s)
		c.stepBefore(now, s)
		c.stepMaintenance(now, s, &d.Want)
		d.Resync = c.stepDrain(now, s) || d.Resync
		for _, v := range s.vips {
			verdict := Decide(c.facts(now, s, v, c.stepOthers(now, s, v)))
			if verdict != v.last || v.since == "" {
				v.since = zkstate.StampOf(now)
			}
			v.adopt(verdict, s.conf)
			if s.health.State == health.Healthy && c.announced(v) {
				v.away = false // it serves again
			}
			d.Why = append(d.Why, VIPVerdict{s.conf.Name, v.name, verdict, c.detail(s, v, verdict)})
			if v.authoritative {
				wish := c.wish(s, v, verdict)
				d.Want.Claims[zkstate.ClaimKey{Service: s.conf.Name, VIP: v.name}] = wish
				v.noteWish(now, wish)
			}
		}
		d.Want.Statuses[s.conf.Name] = c.status(s)
	}
	d.Table = exabgp.Table{Epoch: c.epoch, Routes: c.routes()}
	d.Keys = c.keys
	d.Exit = c.exit(now)
	return d
}

// same says whether two decisions ask for the same.
func (d Decision) same(o Decision) bool {
	return d.Exit == o.Exit && d.Table.Epoch == o.Table.Epoch && slices.Equal(d.Table.Routes, o.Table.Routes) &&
		slices.Equal(d.Why, o.Why) && slices.Equal(d.Keys, o.Keys) && d.Want.Equal(o.Want)
}

func (a Action) String() string { return [...]string{"hold", "announce", "withdraw"}[a] }
func (r Role) String() string   { return [...]string{"authoritative", "backup"}[r] }
func (p Presence) String() string {
	return [...]string{"unknown", "absent", "present"}[p]
}
func (e Exit) String() string { return [...]string{"stay", "leave", "abandon"}[e] }

func (v Verdict) String() string {
	if v.Action == Announce {
		return fmt.Sprintf("%s as %s (%s)", v.Action, v.Role, v.Reason)
	}
	return fmt.Sprintf("%s (%s)", v.Action, v.Reason)
}
