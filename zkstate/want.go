package zkstate

import (
	"bytes"
	"maps"
	"slices"
	"time"
)

// Service is what a Session has to know of a configured service.
type Service struct {
	Name            string
	ClaimsPath      string   // directory of the claims, "/exabgp/service/apex"
	MaintenancePath string   // this node's maintenance node, "/exabgp/maintenance/apex/node1"
	FailbackPath    string   // an operator's word that this node may take its VIPs back, "/exabgp/failback/apex/node1"
	StatusPath      string   // this node's status record, "/exabgp/status/apex/node1"; its parent holds the other nodes'
	VIPs            []string // claim names of all configured VIPs; nothing else is looked up in the directory
	Authoritative   []string // those of VIPs that this node may claim
}

// Wish is what should become of one claim.
type Wish uint8

const (
	Leave   Wish = iota // neither create nor delete: nothing is decided yet, a ghost stays
	Hold                // create it, taking over our own ghost; never remove a Foreign one
	Release             // delete it where it is Own or Ghost
)

func (w Wish) String() string {
	switch w {
	case Hold:
		return "hold"
	case Release:
		return "release"
	}
	return "leave"
}

// Want is all that should lie in ZooKeeper on behalf of this node. It is state, not a queue: a newer one replaces an
// older one that is not carried out yet.
type Want struct {
	Claims   map[ClaimKey]Wish  // a missing key means Leave
	Statuses map[string]*Status // by service name, not to be changed any more; a missing one leaves the record as it is
	// Remove names persistent nodes of this node that have done their duty: a maintenance node whose time is over, a
	// failback node that was obeyed. Each is deleted only while its data is still what was read.
	Remove map[FlagKey][]byte
}

// Equal says whether two wishes are for the same.
func (w Want) Equal(o Want) bool {
	return maps.Equal(w.Claims, o.Claims) && maps.EqualFunc(w.Statuses, o.Statuses, sameStatus) && maps.EqualFunc(w.Remove, o.Remove, bytes.Equal)
}

func sameStatus(a, b *Status) bool { return a == b || a.Equal(*b) }

// Flag is a kind of persistent node by which an operator speaks to one node about one service.
type Flag uint8

const (
	Maintenance Flag = iota
	Failback
)

// FlagKey names such a node.
type FlagKey struct {
	Service string
	Flag    Flag
}

// ClaimKey names a claim of a service.
type ClaimKey struct{ Service, VIP string }

// Status is a node's status record for one service, kept as JSON in an ephemeral znode. Fields are only ever added;
// readers ignore those that they do not know.
type Status struct {
	Node        string           `json:"node"`
	Instance    string           `json:"instance"` // one life of the process
	Version     string           `json:"version"`
	Since       time.Time        `json:"since"`                 // start of the process
	Health      string           `json:"health"`                // unknown | healthy | unhealthy
	Maintenance string           `json:"maintenance"`           // unknown | absent | present
	Note        string           `json:"note,omitempty"`        // what the operator wrote into the maintenance node: reason, who, until
	Failures    int              `json:"failures,omitempty"`    // of the check, that came close together: what the hold grows with
	HoldMS      int64            `json:"hold_ms,omitempty"`     // how long the check must pass now before the node takes VIPs from others
	LastResort  bool             `json:"last_resort,omitempty"` // it announces although its check fails, because nobody else does
	Routes      []StatusRoute    `json:"routes"`                // sorted by VIP
	Neighbors   []StatusNeighbor `json:"neighbors"`             // sorted by peer

	// For people; nobody decides by it. The times are by the node's wall clock.
	HealthSince      Stamp  `json:"health_since,omitempty"`
	HealthDetail     string `json:"health_detail,omitempty"`     // what the check said that decided about Health; printable, bounded
	MaintenanceSince Stamp  `json:"maintenance_since,omitempty"` // as the maintenance node says, or when this process saw it first
}

// Equal says whether two records say the same.
func (s Status) Equal(o Status) bool {
	return s.Node == o.Node && s.Instance == o.Instance && s.Version == o.Version && s.Since.Equal(o.Since) &&
		s.Health == o.Health && s.Maintenance == o.Maintenance && s.Note == o.Note && s.Failures == o.Failures &&
		s.HoldMS == o.HoldMS && s.LastResort == o.LastResort && slices.Equal(s.Routes, o.Routes) && slices.Equal(s.Neighbors, o.Neighbors) &&
		s.HealthSince == o.HealthSince && s.HealthDetail == o.HealthDetail && s.MaintenanceSince == o.MaintenanceSince
}

// StatusRoute is a node's verdict about one VIP.
type StatusRoute struct {
	VIP       string `json:"vip"`                 // claim name
	Verdict   string `json:"verdict"`             // announce | withdraw | hold
	Role      string `json:"role"`                // authoritative | backup
	MED       uint32 `json:"med,omitempty"`       // of an announced route
	Community string `json:"community,omitempty"` // of an announced route
	Reason    string `json:"reason"`
	Detail    string `json:"detail,omitempty"`  // for people
	Announced bool   `json:"announced"`         // announced, acknowledged by ExaBGP, and enough neighbors are up to hear it
	Pending   bool   `json:"pending,omitempty"` // withdrawn, and ExaBGP has not acknowledged that yet
	Claim     bool   `json:"claim"`             // this node holds the claim
	Rank      int    `json:"rank,omitempty"`    // its place in the order of the VIP's backups, as it sees it: 1 is the first; 0 if it has none

	// For people; nobody decides by it.
	Own bool `json:"own,omitempty"` // the node is authoritative for it by its configuration, whatever its role is now
	// Since is when Verdict, Role or Reason changed last, by the node's wall clock. It is empty where it is that of the route
	// before: with many VIPs it would be a third of a record, which must not have more than 64 KiB.
	Since   Stamp `json:"since,omitempty"`
	Refused bool  `json:"refused,omitempty"` // ExaBGP refuses what is wanted, for one neighbor at least, or the VIP is not on the host
	// Refusal is why, in ExaBGP's words or with the remedy, where that is known. It is empty where it is that of the refused route before.
	Refusal string `json:"refusal,omitempty"`
	Unheard bool   `json:"unheard,omitempty"` // it is to be announced, and no neighbor that it is for is up
	Drift   bool   `json:"drift,omitempty"`   // ExaBGP holds something else than what is wanted
}

// RouteSince is the time of Routes[i], see StatusRoute.Since.
func (s *Status) RouteSince(i int) Stamp {
	for i > 0 && s.Routes[i].Since == "" {
		i--
	}
	return s.Routes[i].Since
}

// RouteRefusal is why Routes[i] is refused, see StatusRoute.Refusal; empty if it is not, or that is not known.
func (s *Status) RouteRefusal(i int) string {
	if !s.Routes[i].Refused {
		return ""
	}
	for ; i > 0 && s.Routes[i].Refusal == ""; i-- {
	}
	return s.Routes[i].Refusal
}

// Stamp is an instant as text, RFC 3339 in UTC. Records are compared and written far more often than anybody looks at their
// times, and one that does not parse must not make a whole record useless.
type Stamp string

// StampOf is an instant to the millisecond; the zero Time is the empty Stamp.
func StampOf(t time.Time) Stamp {
	if t.IsZero() {
		return ""
	}
	return Stamp(t.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}

// Instant is a time that was read, in a form that can be written again: encoding/json reads an offset of 24 hours and refuses to write
// it, as it does a year beyond 9999, which another offset hides. The latter is the zero Time.
func Instant(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// Time is the instant; the zero Time where it does not say one.
func (s Stamp) Time() time.Time {
	t, err := time.Parse(time.RFC3339, string(s))
	if err != nil {
		return time.Time{}
	}
	return Instant(t)
}

// StatusNeighbor is one BGP neighbor of a node.
type StatusNeighbor struct {
	Peer  string `json:"peer"`
	State string `json:"state"` // unknown | down | connected | up | link-down | silent (the last two: ExaBGP says up, but the link is or was down, or nothing was heard for hold_time)
}
