package zkstate

import "time"

// Event is a change of what is known about ZooKeeper. The set is closed.
type Event interface{ event() }

// State is the state of the session, in Apache Curator's words.
type State uint8

const (
	Connecting State = iota // no session yet since the start
	Connected               // a session, and everything was read in it
	Suspended               // the connection is gone; the session may live
	Lost                    // no connection for a whole session timeout, or the server said "expired": our claims are gone
)

func (s State) String() string {
	switch s {
	case Connected:
		return "connected"
	case Suspended:
		return "suspended"
	case Lost:
		return "lost"
	}
	return "connecting"
}

// SessionChanged is a transition of the session. Connected is emitted when everything was read, and is followed at once
// by all those readings; only what an ACL forbids to read is missing among them. A client that is made anew while the
// session is Lost leaves it Lost.
type SessionChanged struct {
	State   State
	ID      int64         // session id; 0 if none
	Timeout time.Duration // as negotiated; 0 before the first session
	// AfterLoss is set on Connected where the session is not the one that was connected before (expired, client made anew),
	// or where it is the same and Lost was emitted in between: other nodes' claims may be missing only because they are still coming back. Not set on the first session.
	AfterLoss bool
}

// Holder says whose a claim is, judged by its ephemeral owner and by its data.
type Holder uint8

const (
	Absent   Holder = iota
	Own             // of this process's session
	Ghost           // this node's name in the data, of a session of an earlier process or of an earlier session
	Foreign         // another node's, an empty one (the Python tool's), or that of a living twin
	Squatted        // nobody's: a persistent node is in its place, which says nothing of any process, and which somebody must delete
)

func (h Holder) String() string {
	switch h {
	case Own:
		return "own"
	case Ghost:
		return "ghost"
	case Foreign:
		return "foreign"
	case Squatted:
		return "squatted"
	}
	return "absent"
}

// Claim is one claim as it was read.
type Claim struct {
	Holder Holder
	Node   string // from the data; empty where the data is empty, not ours or not read
	Detail string // for people: what is wrong with a Squatted claim, or with a Foreign one on a VIP this node is authoritative for
	Czxid  int64  // names one life of the znode; 0 if absent or not read
}

// ClaimsRead is one complete reading of a service's claims: an entry for every configured VIP, Absent ones included.
// For VIPs this node is not authoritative for, a present claim may be reported as Foreign without its data being read.
type ClaimsRead struct {
	Service string
	Session int64
	Began   time.Time        // when the request was sent: what it says was true at some moment after this
	Claims  map[string]Claim // by claim name (the VIP's canonical text)
}

// MaintenanceRead says whether the maintenance node of a service exists.
type MaintenanceRead struct {
	Service string
	Session int64
	Began   time.Time
	Present bool
	Data    []byte // as the operator wrote it; nil for zkCli.sh's "create path"; at most 4 KiB
}

// FailbackRead says whether an operator allows this node to take its VIPs of a service back.
type FailbackRead struct {
	Service string
	Session int64
	Began   time.Time
	Present bool
	Data    []byte // at most 4 KiB
}

// PeersRead is one complete reading of the status records of a service, this node's own left out.
type PeersRead struct {
	Service string
	Session int64
	Began   time.Time
	Peers   map[string]Status // by node name; records that do not decode are left out (and logged)
	Junk    map[string]string // by node name: why what lies in the place of a record is none, or cannot be read; nil where all can
}

func (SessionChanged) event()  {}
func (ClaimsRead) event()      {}
func (MaintenanceRead) event() {}
func (FailbackRead) event()    {}
func (PeersRead) event()       {}
