// Package cluster is what the nodes of a service look like together: who owns each VIP, who announces it as what, and what is not
// as it should be. It is made of what lies in ZooKeeper, by one pure function, for everybody who shows it: exazk status and why, the
// HTTP server's page and its JSON.
//
// It reads nothing itself and decides nothing: no route depends on it.
package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"exazk/zkstate"
)

// Level is how bad something is. The worst of its parts is that of a whole.
type Level uint8

const (
	Nominal  Level = iota // every VIP is announced by its owner alone (with standby: by its owner as owner), and nothing is drained or sick
	Degraded              // every VIP is announced, but not as it should be; or it cannot be seen whether it is
	Down                  // a VIP without announcer
)

// View is all services at one instant, as one observer sees them.
type View struct {
	At        time.Time `json:"at"`
	Observer  string    `json:"observer"`  // the node that sees it; empty for a command
	ZooKeeper string    `json:"zookeeper"` // connecting | connected | suspended | lost: while it is not connected, the rest is as last read
	Level     Level     `json:"level"`
	Services  []Service `json:"services"` // sorted by name
	Changes   []Change  `json:"changes"`  // the last ones of all nodes, newest first
}

// Service is one service.
type Service struct {
	Name     string    `json:"name"`
	Level    Level     `json:"level"`
	Findings []Finding `json:"findings"` // what is not as it should be, worst first
	VIPs     []VIP     `json:"vips"`     // in NLRI order
	Nodes    []Node    `json:"nodes"`    // sorted by name
}

// Finding is one thing that is not as it should be.
type Finding struct {
	Level Level  `json:"level"`
	Word  string `json:"word"` // stable: one of the constants below
	Node  string `json:"node,omitempty"`
	VIP   string `json:"vip,omitempty"`
	Text  string `json:"text"` // a sentence for people
}

// Words of findings.
const (
	NoAnnouncer      = "no-announcer"      // nobody announces a VIP: the only one that is Down
	Unseen           = "unseen"            // whether a VIP is announced cannot be seen: who claims it has no status record
	Conflict         = "conflict"          // somebody else claims a node's own VIP, two nodes call it theirs, or a persistent node keeps all from claiming it
	Twin             = "twin"              // two living processes have the same node's name
	LastResort       = "last-resort"       // a sick node announces, since nobody else does
	Drift            = "drift"             // ExaBGP holds something else than what is wanted
	Refused          = "refused"           // ExaBGP refuses a route, or its VIP is not on the host
	Pending          = "pending"           // ExaBGP has not acknowledged a withdraw for longer than that takes
	ForeignAnnouncer = "foreign-announcer" // others announce a VIP than its owner alone
	Absent           = "absent"            // a node has no status record
	Unhealthy        = "unhealthy"         // a node's check fails, or has no verdict yet
	Maintenance      = "maintenance"       // a node is drained
	NeighborDown     = "neighbor"          // a BGP session of a node is not up
	ZooKeeper        = "zookeeper"         // the observer does not see ZooKeeper
)

// words are all of them, in the order in which findings of one level are listed.
var words = []string{NoAnnouncer, Unseen, Conflict, Twin, LastResort, Drift, Refused, Pending, ForeignAnnouncer, ZooKeeper, Absent, Unhealthy, Maintenance, NeighborDown}

// VIP is one VIP of a service.
type VIP struct {
	VIP        string   `json:"vip"`                // claim name
	Owner      string   `json:"owner,omitempty"`    // the node that is authoritative by its record or its claim; empty if that is not known
	Claim      string   `json:"claim,omitempty"`    // the node that holds the claim; "?" for a claim that does not say; empty if there is none
	Squatted   bool     `json:"squatted,omitempty"` // a persistent node is in the claim's place, so that nobody can claim it
	Announcers []string `json:"announcers"`         // the nodes that announce it and are heard, best first
	Level      Level    `json:"level"`
	Routes     []Route  `json:"routes"` // one for each node that has the VIP, sorted by node
}

// Route is what one node makes of one VIP.
type Route struct {
	Node      string    `json:"node"`
	Verdict   string    `json:"verdict"` // announce | withdraw | hold
	Role      string    `json:"role"`    // authoritative | backup
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail,omitempty"`
	MED       uint32    `json:"med,omitempty"`
	Announced bool      `json:"announced"`         // ExaBGP has acknowledged it and a neighbor hears it
	Own       bool      `json:"own,omitempty"`     // the node is authoritative for it, whatever its role is now
	Claim     bool      `json:"claim,omitempty"`   // the node holds the claim
	Pending   bool      `json:"pending,omitempty"` // withdrawn, not acknowledged yet
	Refused   bool      `json:"refused,omitempty"` // ExaBGP refuses it, for one neighbor at least, or the VIP is not on the host
	Refusal   string    `json:"refusal,omitempty"` // why, where that is known
	Unheard   bool      `json:"unheard,omitempty"` // to be announced, and no neighbor that it is for is up
	Drift     bool      `json:"drift,omitempty"`   // ExaBGP holds something else than what is wanted
	Since     time.Time `json:"since,omitzero"`    // of this verdict
}

// Node is one node as its status record shows it; or as its absence does.
type Node struct {
	Node         string     `json:"node"`
	Present      bool       `json:"present"`           // it has a status record
	Absence      string     `json:"absence,omitempty"` // what is known of it where it has none, in a sentence
	Version      string     `json:"version,omitempty"`
	Instance     string     `json:"instance,omitempty"`
	Since        time.Time  `json:"since,omitzero"` // start of its process
	Health       string     `json:"health,omitempty"`
	HealthDetail string     `json:"health_detail,omitempty"`
	HealthSince  time.Time  `json:"health_since,omitzero"`
	Maintenance  string     `json:"maintenance,omitempty"` // unknown | absent | present
	Note         string     `json:"note,omitempty"`        // reason, who, until
	Entered      time.Time  `json:"entered,omitzero"`      // when the maintenance node was made
	LastResort   bool       `json:"last_resort,omitempty"`
	Neighbors    []Neighbor `json:"neighbors"`
}

// Neighbor is one BGP neighbor of a node.
type Neighbor struct {
	Peer  string `json:"peer"`
	State string `json:"state"`
}

// Change is one transition of a node, as its history has it.
type Change = zkstate.Change

func (l Level) String() string { return [...]string{"nominal", "degraded", "down"}[l] }

// MarshalText writes the word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalJSON reads the word.
func (l *Level) UnmarshalJSON(data []byte) error {
	var word string
	if err := json.Unmarshal(data, &word); err != nil {
		return err
	}
	i := slices.IndexFunc([]Level{Nominal, Degraded, Down}, func(l Level) bool { return l.String() == word })
	if i < 0 {
		return fmt.Errorf("%q is no level", word)
	}
	*l = Level(i)
	return nil
}
