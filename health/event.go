package health

import (
	"fmt"
	"strings"
	"time"
)

// State is what a check says, or all checks of a service together. Unknown is a value of its own: it starts nothing and stops nothing.
type State uint8

const (
	Unknown State = iota // no verdict yet: of a check, fewer than rise successes and fewer than fall failures in a row since the start
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

// Changed is a change of the state of one service.
type Changed struct {
	Service string
	State   State         // never Unknown
	Check   string        // the check that decided; where several fail, the first of them in the order of the configuration
	Result  Result        // of the run of Check that decided
	Took    time.Duration // of that run
	Checks  []Status      // of all checks of the service, in the order of the configuration
}

// Status is where one check stands.
type Status struct {
	Name   string
	State  State
	Result Result        // of its last run; the zero Result before the first
	Took   time.Duration // of that run
}

// Ran is one run of one check.
type Ran struct {
	Service string
	Status
}

// Detail is what people should know of the change: what the check that decided said and, where there are several, its name
// and how many pass.
func (c Changed) Detail() string {
	if len(c.Checks) < 2 {
		return c.Result.Text()
	}
	passing := 0
	for _, s := range c.Checks {
		if s.State == Healthy {
			passing++
		}
	}
	return strings.TrimSpace(fmt.Sprintf("%s: %s", c.Check, c.Result.Text())) + fmt.Sprintf(" (%d of %d checks pass)", passing, len(c.Checks))
}

// Result is the outcome of one run of a check.
type Result struct {
	OK       bool
	ExitCode int // of a command; -1 where it did not exit by itself or could not be started, and of other checks that fail
	TimedOut bool
	Err      string // why it could not be started or did not come to its end; empty otherwise
	Output   string // a command's last line of output, or what another check found; printable, at most 200 bytes
}

// Text is the result in one line: why the run did not come to its end, and what it said. It is empty if it said nothing.
func (r Result) Text() string {
	switch {
	case r.Err != "" && r.Output != "":
		return r.Err + ": " + r.Output
	case r.Err != "":
		return r.Err
	case r.Output == "" && r.ExitCode > 0:
		return fmt.Sprintf("exit status %d", r.ExitCode)
	}
	return r.Output
}
