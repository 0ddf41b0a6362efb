package health

import "time"

// State is what the check of a service says. Unknown is a value of its own: it starts nothing and stops nothing.
type State uint8

const (
	Unknown State = iota // no verdict yet: fewer than rise successes and fewer than fall failures in a row since the start
	Healthy
	Unhealthy
)

func (s State) String() string {
	switch s {
	case Healthy:
		return "healthy"
	case Unhealthy:
		return "unhealthy"
	}
	return "unknown"
}

// Changed is a change of the state of one service's check.
type Changed struct {
	Service string
	State   State         // never Unknown
	Result  Result        // of the run that decided
	Took    time.Duration // of that run
}

// Result is the outcome of one run of a check.
type Result struct {
	OK       bool
	ExitCode int // -1 where it did not exit by itself or could not be started
	TimedOut bool
	Err      string // why it could not be started or was killed; empty otherwise
	Output   string // its last line of output, printable, at most 200 bytes
}
