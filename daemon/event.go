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
	// Accepted are acknowledgements that came together: see Join.
	Accepted []exabgp.RouteAccepted
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
func (Accepted) event()      {}
func (FromZooKeeper) event() {}
func (FromHealth) event()    {}
func (FromLink) event()      {}
func (Stop) event()          {}
func (Tick) event()          {}

// Join makes one event of acknowledgements that follow each other. To decide anew after each of a thousand would take seconds, in which
// everything else waits. It works in place.
func Join(events []Event) []Event {
	joined := events[:0]
	for _, ev := range events {
		from, _ := ev.(FromExaBGP)
		answer, ok := from.Event.(exabgp.RouteAccepted)
		if last := len(joined) - 1; ok && last >= 0 {
			switch before := joined[last].(type) {
			case Accepted:
				joined[last] = append(before, answer)
				continue
			case FromExaBGP:
				if first, ok := before.Event.(exabgp.RouteAccepted); ok {
					joined[last] = Accepted{first, answer}
					continue
				}
			}
		}
		joined = append(joined, ev)
	}
	return joined
}
