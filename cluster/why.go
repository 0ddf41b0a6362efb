package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"exazk/daemon"
)

// Explanation is why one VIP is, or is not, announced.
type Explanation struct {
	Service  string    `json:"service"`
	VIP      string    `json:"vip"`
	Level    Level     `json:"level"`
	Findings []Finding `json:"findings"` // those of the VIP; see View for those of its nodes
	Nodes    []Cause   `json:"nodes"`    // its owner first, then who announces it, then the others
}

// Cause is why one node announces a VIP, or does not.
type Cause struct {
	Node    string    `json:"node"`
	Owner   bool      `json:"owner,omitempty"`
	Verdict string    `json:"verdict"` // as in Route; empty for a node without a status record
	Since   time.Time `json:"since,omitzero"`
	Heard   bool      `json:"heard,omitempty"` // as Route.Announced; where it is false, announce is only what the node wants
	Word    string    `json:"word"`            // the deciding fact in a word: a reason, or absent, "no neighbor", refused, "not acknowledged"
	Because string    `json:"because"`         // the deciding fact in a sentence
	Facts   []string  `json:"facts"`           // what else the verdict follows from
	Changes []Change  `json:"changes"`         // what has led to it, newest first
}

// maxStory bounds Cause.Changes.
const maxStory = 12

// Why explains a VIP of a service. It returns false where the picture does not have it.
func Why(v *View, service, vip string) (Explanation, bool) {
	for i := range v.Services {
		s := &v.Services[i]
		for j := range s.VIPs {
			if s.Name == service && s.VIPs[j].VIP == vip {
				return explain(v, s, &s.VIPs[j]), true
			}
		}
	}
	return Explanation{}, false
}

func explain(v *View, s *Service, vip *VIP) Explanation {
	e := Explanation{Service: s.Name, VIP: vip.VIP, Level: vip.Level, Findings: []Finding{}, Nodes: []Cause{}}
	for _, f := range s.Findings {
		if f.VIP == vip.VIP {
			e.Findings = append(e.Findings, f)
		}
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		j := slices.IndexFunc(vip.Routes, func(r Route) bool { return r.Node == n.Node })
		switch {
		case j >= 0:
			c := teller{v, s, vip, n, &vip.Routes[j]}
			e.Nodes = append(e.Nodes, c.cause())
		case !n.Present || n.Node == vip.Owner:
			e.Nodes = append(e.Nodes, missing(v, s, vip, n))
		}
	}
	slices.SortStableFunc(e.Nodes, func(a, b Cause) int { return cmp.Compare(place(vip, a.Node), place(vip, b.Node)) })
	return e
}

// place is where a node stands in an explanation.
func place(vip *VIP, node string) int {
	switch i := slices.Index(vip.Announcers, node); {
	case node == vip.Owner:
		return -1
	case i >= 0:
		return i
	}
	return len(vip.Announcers)
}

// missing is the cause of a node of which there is no route.
func missing(v *View, s *Service, vip *VIP, n *Node) Cause {
	c := Cause{Node: n.Node, Owner: n.Node == vip.Owner, Word: Absent, Because: n.Absence, Facts: []string{}, Changes: story(v, s, vip, n.Node)}
	if n.Present {
		c.Word, c.Because = "not configured", fmt.Sprintf("the configuration of %s does not have this VIP any more", n.Node)
	}
	if n.Maintenance == daemon.PresencePresent.String() {
		c.Facts = append(c.Facts, "it is in maintenance"+since(v.At, n.Entered)+colon(n.Note))
	}
	return c
}

// story are the changes that concern a VIP on a node, newest first.
func story(v *View, s *Service, vip *VIP, node string) []Change {
	changes := []Change{}
	for _, c := range v.Changes {
		mine := c.Node == node && (c.Service == "" || c.Service == s.Name) && (c.VIP == "" || c.VIP == vip.VIP)
		if mine && len(changes) < maxStory {
			changes = append(changes, c)
		}
	}
	return changes
}

// teller tells why one node announces one VIP, or does not.
type teller struct {
	view *View
	s    *Service
	vip  *VIP
	n    *Node
	r    *Route
}

func (t *teller) cause() Cause {
	return Cause{
		Node: t.n.Node, Owner: t.n.Node == t.vip.Owner, Verdict: t.r.Verdict, Since: t.r.Since, Heard: t.r.Announced, Word: Word(t.r),
		Because: t.because(), Facts: t.facts(), Changes: story(t.view, t.s, t.vip, t.n.Node),
	}
}

// because is the deciding fact: what comes after the verdict, where that keeps the route from being heard, else its reason.
func (t *teller) because() string {
	verdict := t.reason()
	switch {
	case t.r.Verdict != daemon.Announce.String() || t.r.Announced:
		return verdict
	case t.r.Unheard:
		return "no neighbor that it is for is up (" + t.neighbors() + "); it would be announced: " + verdict
	case t.r.Refused:
		return "the route is refused" + refusal(t.r) + "; it would be announced: " + verdict
	}
	return "ExaBGP has not acknowledged the route yet; it is to be announced: " + verdict
}

// neighbors are the BGP sessions in words.
func (t *teller) neighbors() string {
	var all []string
	for _, b := range t.n.Neighbors {
		all = append(all, b.Peer+" is "+b.State)
	}
	if len(all) == 0 {
		return "ExaBGP has told of none"
	}
	return strings.Join(all, ", ")
}

// sentences say what each reason means, as the deciding fact about one VIP of one node.
var sentences = map[daemon.Reason]func(*teller) string{
	daemon.ReasonAuthoritative: func(t *teller) string {
		return "it is the node's own, the check passes, and the node is not drained" + t.squatted()
	},
	daemon.ReasonUnclaimed: func(t *teller) string {
		return "nobody claims it" + t.ofOwner() + cmp.Or(t.squatted(), t.detail())
	},
	daemon.ReasonStandby: func(t *teller) string {
		return `backups announce it all the time (backup = "standby"); routers prefer the owner while it does`
	},
	daemon.ReasonOutranked: func(t *teller) string {
		text := "nobody claims it, and a node that comes before this one takes it over" + t.detail()
		if t.r.Verdict == daemon.Announce.String() {
			text += "; until that was so for overlap, this node goes on"
		}
		return text
	},
	daemon.ReasonClaimed: func(t *teller) string {
		if t.vip.Claim == "" {
			return "its owner claims it" + t.detail()
		}
		return "it is claimed by " + t.claimant() + t.detail()
	},
	daemon.ReasonConflict: func(t *teller) string {
		return "it is the node's own, but somebody else claims it" + cmp.Or(t.detail(), ": "+t.claimant())
	},
	daemon.ReasonFailbackManual: func(t *teller) string {
		return fmt.Sprintf(`this node was away and another one has it (%s); failback = "manual": "exazk failback %s" gives it back`, t.servers(), t.n.Node)
	},
	daemon.ReasonFailbackDelay: func(t *teller) string {
		return fmt.Sprintf("this node was away and another one has it (%s); failback_delay is not over%s", t.servers(), t.detail())
	},
	daemon.ReasonFlapping: func(t *teller) string {
		return fmt.Sprintf(`its check flaps: it passes again, not for long enough yet to take the VIP from who has it (%s)%s; "exazk failback %s" ends the wait`, t.servers(), t.detail(), t.n.Node)
	},
	daemon.ReasonLastResort: func(t *teller) string {
		return "its check fails, and it announces all the same, since nobody else does" + t.checked()
	},
	daemon.ReasonOverlap: func(t *teller) string {
		who := "its owner claims it again"
		if t.r.Own {
			who = "it is the node's own, but somebody else claims it now"
		}
		return who + "; until that was so for overlap, this node stays as it was"
	},
	daemon.ReasonUnhealthy: func(t *teller) string { return "its check fails" + t.checked() },
	daemon.ReasonHealthUnknown: func(t *teller) string {
		if t.r.Verdict == daemon.Hold.String() {
			return "its check has no verdict yet; until start_grace is over, ExaBGP keeps what it has"
		}
		return "its check has had no verdict for start_grace"
	},
	daemon.ReasonMaintenance: func(t *teller) string { return "the node is in maintenance" + t.drained() },
	daemon.ReasonStopping:    func(t *teller) string { return "its exazk is about to end" + t.detail() },
	daemon.ReasonDraining: func(t *teller) string {
		if t.n.Maintenance == daemon.PresencePresent.String() {
			return "the node is being drained for maintenance, and goes on until another one has it or drain_timeout is over" + t.drained()
		}
		return "its exazk is about to end, and goes on until another node has it or the time is over"
	},
	daemon.ReasonMaintenanceUnknown: func(t *teller) string {
		return "its exazk has not read from ZooKeeper yet whether the node is in maintenance; until then ExaBGP keeps what it has"
	},
	daemon.ReasonClaimsUnread: func(t *teller) string {
		return "its exazk has not read the claims in ZooKeeper yet; until then ExaBGP keeps what it has"
	},
	daemon.ReasonClaimsStale: func(t *teller) string {
		return "its exazk lost ZooKeeper and has not read the claims since; it stays as it was"
	},
	daemon.ReasonZooKeeperLost: func(t *teller) string { return "its exazk has lost ZooKeeper" + t.detail() },
}

// reason is the sentence of the verdict.
func (t *teller) reason() string {
	if tell, known := sentences[daemon.Reason(t.r.Reason)]; known {
		return tell(t)
	}
	return fmt.Sprintf("%q, a reason that this version does not know%s", t.r.Reason, t.detail())
}

func (t *teller) detail() string { return colon(t.r.Detail) }

// squatted says where that is so that nobody can claim the VIP.
func (t *teller) squatted() string {
	if !t.vip.Squatted {
		return ""
	}
	return "; nobody can claim it, for a persistent node is in its claim's place"
}

// ofOwner says what the owner is about, where it is known.
func (t *teller) ofOwner() string {
	if t.vip.Owner == "" || t.vip.Owner == t.n.Node {
		return ""
	}
	i := slices.IndexFunc(t.vip.Routes, func(r Route) bool { return r.Node == t.vip.Owner })
	if i < 0 {
		return fmt.Sprintf("; its owner %s is absent", t.vip.Owner)
	}
	return fmt.Sprintf("; its owner %s: %s", t.vip.Owner, Word(&t.vip.Routes[i]))
}

func (t *teller) claimant() string {
	if t.vip.Claim == unknown {
		return "somebody who does not say who: the Python tool, or a person"
	}
	return cmp.Or(t.vip.Claim, "a node that the picture does not show")
}

func (t *teller) servers() string {
	return cmp.Or(list(slices.DeleteFunc(slices.Clone(t.vip.Announcers), func(n string) bool { return n == t.n.Node })), "nobody, by the records")
}

func (t *teller) checked() string {
	return since(t.view.At, t.n.HealthSince) + colon(cmp.Or(t.n.HealthDetail, t.r.Detail))
}

func (t *teller) drained() string {
	text := since(t.view.At, t.n.Entered) + colon(t.n.Note)
	if t.r.Detail != "" && t.r.Detail != t.n.Note {
		text += "; " + t.r.Detail
	}
	return text
}

// facts are what the verdict follows from besides the deciding one.
func (t *teller) facts() []string {
	health := "check " + t.n.Health + since(t.view.At, t.n.HealthSince) + colon(t.n.HealthDetail)
	maintenance := "maintenance " + t.n.Maintenance + since(t.view.At, t.n.Entered) + colon(t.n.Note)
	facts := []string{health, maintenance, "neighbors: " + t.neighbors()}
	switch t.vip.Claim {
	case "":
		none := "claim: none"
		if t.vip.Squatted {
			none += ", for a persistent node is in its place"
		}
		facts = append(facts, none)
	case unknown:
		facts = append(facts, "claim: of somebody who does not say who")
	default:
		facts = append(facts, "claim: of "+t.vip.Claim)
	}
	for _, f := range []struct {
		is   bool
		text string
	}{
		{t.r.Refused, "what is wanted is refused, for one neighbor at least"},
		{t.r.Pending, "ExaBGP has not acknowledged the withdraw: it may still be announced"},
		{t.r.Drift, "ExaBGP holds something else than what is wanted"},
		{t.view.ZooKeeper != "connected", "ZooKeeper is " + t.view.ZooKeeper + ": all of this is as last read"},
	} {
		if f.is {
			facts = append(facts, f.text)
		}
	}
	return facts
}
