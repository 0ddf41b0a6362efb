package exabgp

import "time"

// Stage is how far a command has come.
type Stage uint8

const (
	CommandWritten  Stage = iota // all of it is in the pipe
	CommandAccepted              // ExaBGP acknowledged it; not told where acknowledgements are off
	CommandRefused               // ExaBGP answered "error" or not at all; it is written again
)

func (s Stage) String() string { return [...]string{"written", "accepted", "refused"}[s] }

// Progress is a step of one command for a route.
type Progress struct {
	Stage    Stage
	Withdraw bool
	Since    time.Time // Table.Since of the wish; zero where it is not known, and once ExaBGP has taken it
	At       time.Time
}

// cause is when that happened which led to a wish. It is void once the wish is answered: what is written after that, to repair
// it, say, has a cause of its own.
type cause struct {
	serial, epoch uint64 // of the wish
	since         time.Time
}

// causedBy notes what a wish that is new is about. One that is not answered when all is due anew is as old as it was.
func (e *entry) causedBy(t Table, r Route) {
	switch c := &e.cause; {
	case c.serial != r.Serial, c.epoch != t.Epoch && c.since.IsZero():
		*c = cause{r.Serial, t.Epoch, t.Since}
	case c.epoch != t.Epoch:
		c.epoch = t.Epoch
	}
}

// progress tells how far the command in flight has come, if there is one. Its reply may be read before the end of its write is.
func (w *Writer) progress(now time.Time, to Stage) {
	f := w.flight
	if f == nil || f.wrote && to == CommandWritten {
		return
	}
	if to == CommandAccepted && !f.blind {
		w.progress(now, CommandWritten)
	}
	if to == CommandAccepted && f.cause.since == f.since && f.cause.epoch == f.epoch {
		f.cause.since = time.Time{}
	}
	f.wrote = f.wrote || to == CommandWritten
	if w.opt.Progress != nil && !(f.blind && to == CommandAccepted) {
		w.out.Progress = append(w.out.Progress, Progress{to, f.route.Withdraw, f.since, now})
	}
}
