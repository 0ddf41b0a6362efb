package health

// Quorum makes one state of those of several checks. Like Machine it reads no clock.
type Quorum struct {
	require int
	checks  []State
	state   State
}

// NewQuorum returns a Quorum in state Unknown for so many checks, of which require must be healthy. It panics if that is not
// from 1 to all.
func NewQuorum(checks, require int) *Quorum {
	if require < 1 || require > checks {
		panic("bug: health: of all checks, at least one and at most all must be required")
	}
	return &Quorum{require: require, checks: make([]State, checks)}
}

// Step takes in that a check, counted from 0, is in state s, and returns the state of all before and after.
//
// It is healthy while enough checks are, and unhealthy while so many are unhealthy that the others are too few. In between,
// where checks without a verdict could still decide, it stays as it was.
func (q *Quorum) Step(check int, s State) (from, to State) {
	q.checks[check] = s
	from = q.state
	switch {
	case q.Passing() >= q.require:
		q.state = Healthy
	case len(q.checks)-q.count(Unhealthy) < q.require:
		q.state = Unhealthy
	}
	return from, q.state
}

// State is the present state.
func (q *Quorum) State() State { return q.state }

// Passing is how many checks are healthy.
func (q *Quorum) Passing() int { return q.count(Healthy) }

func (q *Quorum) count(s State) (n int) {
	for _, is := range q.checks {
		if is == s {
			n++
		}
	}
	return n
}
