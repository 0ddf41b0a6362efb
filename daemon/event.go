package daemon

import (
	"exazk/exabgp"
	"exazk/health"
	"exazk/link"
	"exazk/zkstate"
)

// Event is anything that can change a decision. The set is closed.
type Event interface{ event() }

type (
	// FromExaBGP is what ExaBGP told us or what became of a command.
	FromExaBGP struct{ exabgp.Event }
	// FromZooKeeper is what was read from ZooKeeper or what became of the session.
	FromZooKeeper struct{ zkstate.Event }
	// FromHealth is a change of the state of a service's check.
	FromHealth struct{ health.Changed }
	// FromLink is a change of a network interface.
	FromLink struct{ link.Changed }
	// Stop asks for a drain of everything and then the end. A second one asks for nothing more.
	Stop struct{ Signal string }
	// Tick says that the time in Decision.Wake has come.
	Tick struct{}
)

func (FromExaBGP) event()    {}
func (FromZooKeeper) event() {}
func (FromHealth) event()    {}
func (FromLink) event()      {}
func (Stop) event()          {}
func (Tick) event()          {}
