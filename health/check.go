package health

import "time"

const (
	// minPause lies between the end of a run and the start of the next one, where the run took longer than the interval.
	minPause = 20 * time.Millisecond

	// reportEvery bounds how often a failure that changes nothing gets a line of its own in the log: a check whose output
	// holds a time or a process id fails differently each time.
	reportEvery = time.Minute
)

// Machine counts the results of one check. It reads no clock, and equal calls in equal order give equal outcomes.
type Machine struct {
	rise, fall     int
	interval, fast time.Duration

	state State
	ok    bool // what the last result said
	row   int  // results in a row that said so; 0 before the first

	failed     bool      // there is one, in the present row of failures, that was logged
	reported   Result    // the last such
	reportedAt time.Time // when the last report was due; zero before the first
	unreported int       // failures since then that should have been reported
}

// NewMachine returns a Machine in state Unknown. It panics if Rise, Fall, Interval or FastInterval is not positive.
func NewMachine(cfg Check) *Machine {
	if cfg.Rise < 1 || cfg.Fall < 1 || cfg.Interval <= 0 || cfg.FastInterval <= 0 {
		panic("bug: health: rise, fall and both intervals must be positive")
	}
	return &Machine{rise: cfg.Rise, fall: cfg.Fall, interval: cfg.Interval, fast: cfg.FastInterval}
}

// State is the present state.
func (m *Machine) State() State { return m.state }

// Outcome is what one result led to.
type Outcome struct {
	From, To State     // equal if the state did not change
	Next     time.Time // when the next run is due; may have passed by the time it is looked at

	// Report says that a failure which changed nothing should be logged, because it differs from the one logged before.
	Report     bool
	Unreported int // with Report: further such failures since the last report, which had no line of their own
}

// Step counts r, the result of the run from began to now.
func (m *Machine) Step(began, now time.Time, r Result) Outcome {
	if r.OK != m.ok {
		m.ok, m.row = r.OK, 0
	}
	m.row++
	o := Outcome{From: m.state}
	m.state = m.count()
	o.To = m.state
	o.Next = m.next(began, now)
	o.Report, o.Unreported = m.report(now, r, o.From != o.To)
	return o
}

// count is the state that the results in a row make.
func (m *Machine) count() State {
	switch {
	case m.ok && m.row >= m.rise:
		return Healthy
	case !m.ok && m.row >= m.fall:
		return Unhealthy
	}
	return m.state
}

// next keeps the interval from start to start. Runs that should have begun meanwhile are left out, not made up for.
func (m *Machine) next(began, now time.Time) time.Time {
	interval := m.interval
	if m.state == Unknown || m.ok != (m.state == Healthy) {
		interval = m.fast
	}
	due, soonest := began.Add(interval), now.Add(min(minPause, interval))
	if due.Before(soonest) {
		return soonest
	}
	return due
}

// report says whether r needs a line in the log, given that a change of state gets one anyway.
func (m *Machine) report(now time.Time, r Result, changed bool) (due bool, unreported int) {
	switch {
	case r.OK:
		m.failed = false
		return false, 0
	case changed:
		m.failed, m.reported = true, r
		return false, 0
	case m.failed && m.reported == r:
		return false, 0
	case !m.reportedAt.IsZero() && now.Before(m.reportedAt.Add(reportEvery)):
		m.unreported++
		return false, 0
	}
	unreported, m.unreported = m.unreported, 0
	m.failed, m.reported, m.reportedAt = true, r, now
	return true, unreported
}
