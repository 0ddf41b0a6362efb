package exabgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// askWait bounds what a withdraw waits for an answer that may spare it. An idle ExaBGP 4.2.21 gives it in 2 ms, in 0.1 s
// where it holds 500 routes, and with 5000 not in time.
const askWait = time.Second

// ribOut is the question which routes ExaBGP holds, on its way. ExaBGP sends a withdraw to its peers whether they know
// the route or not (exabgp issue 1241), while an announce of what it holds already stays with it. So a withdraw that we
// can not know to be needed, of a new process or after a session came up, is written only where ExaBGP holds the route.
//
// What is not in its list is not announced to anybody, save where a neighbor has "adj-rib-out false": ExaBGP announces to
// it and keeps no list. Therefore the configuration is asked for too. (It tells the truth unless that line was changed to
// true by a reload alone: 4.2.21 then goes on without a list until it is restarted.) That comes second, because its lines
// can not be missed: a reply that belongs to nothing would else pass for the end of a list that is yet to come.
//
// Whatever goes wrong, the withdraws are written, and nothing is asked again in this life: better an UPDATE that
// nobody needs than a route that should be gone.
type ribOut struct {
	stage    stage
	look     bool        // no withdraw waits for it: see drift.go
	sent     time.Time   // of the first command
	heard    time.Time   // of a look: the last line of the answer
	keeps    int         // neighbors that keep a list
	keepless bool        // there is one that does not
	faulty   string      // why the answer is worth nothing
	held     []HeldRoute // from the configuration of the neighbors too
}

// stage is the command that is on its way.
type stage uint8

const (
	unasked    stage = iota // none
	askedHeld               // for the routes
	dueKeeps                // the one for the configuration is to be written; the write before it may not have come back
	askedKeeps              // for the configuration
)

// doubtful says whether a route that is due is a withdraw that may not be needed: not one of what we announced.
//
// With several neighbors, what was announced once in this life is never doubtful again. While a session is down, 4.2.21 keeps
// each announcement of a prefix that came with other attributes for it; a withdraw takes back only the last, and ExaBGP's list is
// empty afterwards. The session then begins with the first, and keeps it until a withdraw is written in it. With one neighbor
// nothing is announced while its session is down.
func (w *Writer) doubtful(r *row) bool {
	return r.route.Withdraw && !r.ours && w.acks == acksOn && !w.blunt
}

// inquire asks what ExaBGP holds.
func (w *Writer) inquire(now time.Time) {
	w.ribOut = ribOut{stage: askedHeld, sent: now}
	w.write(w.dialect.routes() + "\n")
}

// inquireFurther asks which neighbors the first answer was about.
func (w *Writer) inquireFurther() {
	w.ribOut.stage = askedKeeps
	w.write(w.dialect.configuration() + "\n")
}

// learn applies a line of the answer.
func (w *Writer) learn(now time.Time, v Verdict) {
	q := &w.ribOut
	q.heard = now
	switch {
	case q.stage == unasked:
	case q.stage == askedHeld && v.Kind == Held:
		q.held = append(q.held, v.Routes...)
	case q.stage == askedHeld, q.stage == dueKeeps, v.Kind == Held: // a line that may have been a route, or one that comes too late
		q.faulty = "line not understood"
	case v.Kind == Keeps && v.Up:
		q.keeps++
	case v.Kind == Keeps:
		q.keepless = true
	}
}

// answered applies the end of the answer to one of the two commands.
func (w *Writer) answered(now time.Time, v Verdict) {
	q := &w.ribOut
	switch {
	case v.Kind == Refused:
		q.faulty = w.reason(v)
	case q.stage == dueKeeps:
		q.faulty = "one reply more than questions"
	case q.stage == askedKeeps && q.keepless && !q.look:
		q.faulty = cmp.Or(q.faulty, "a neighbor has adj-rib-out false")
	case q.stage == askedKeeps && q.keeps == 0 && !q.keepless:
		q.faulty = cmp.Or(q.faulty, "no neighbor is said to have adj-rib-out true")
	}
	switch {
	case q.faulty != "":
		w.despair(now)
	case q.look && (q.stage == askedKeeps || !w.suspicious()):
		w.concludeLook(now)
	case q.stage == askedHeld:
		q.stage = dueKeeps
	default:
		w.conclude(now)
	}
}

// conclude takes those withdraws as accepted that ExaBGP has nothing for. The others are written.
func (w *Writer) conclude(now time.Time) {
	q := w.ribOut
	w.ribOut = ribOut{}
	if w.many = q.keeps > 1; !w.many {
		for _, entries := range w.entries { // each by itself: the order does not matter
			for _, e := range entries {
				e.ours = e.ours && (e.taken == "" || !e.gone)
			}
		}
	}
	held := byPrefix(q.held)
	for i := range w.rows {
		r := &w.rows[i]
		switch {
		case w.stands(r) || !w.doubtful(r):
		case slices.ContainsFunc(held[r.prefix], r.is):
			r.ours = true
		default:
			r.taken, r.gone, r.serial, r.entry.epoch = r.command, true, r.route.Serial, w.epoch
			r.cause.since = time.Time{}
			r.forgive()
			w.note(logrus.DebugLevel, "withdraw not needed", logrus.Fields{"event": "withdraw-spared", "nlri": r.route.Prefix.String()})
			w.emit(RouteAccepted{Route: r.route, Epoch: w.epoch, Took: now.Sub(q.sent)})
		}
	}
}

func byPrefix(routes []HeldRoute) map[netip.Prefix][]HeldRoute {
	held := make(map[netip.Prefix][]HeldRoute, len(routes))
	for _, h := range routes {
		held[h.Prefix] = append(held[h.Prefix], h)
	}
	return held
}

// is says whether a route that ExaBGP holds may be the one of a key.
func (k key) is(h HeldRoute) bool {
	return (h.AnyPath || h.PathID == k.path) && (!k.neighbor.IsValid() || h.Neighbor == k.neighbor)
}

// despair gives up asking for good, save for looks.
func (w *Writer) despair(now time.Time) {
	if w.ribOut.look {
		w.failLook(now)
		return
	}
	w.note(logrus.InfoLevel, "what exabgp holds is not known: withdraws are always written",
		logrus.Fields{"event": "adj-rib-out-unknown", "reason": w.ribOut.faulty})
	w.ribOut, w.blunt = ribOut{}, true
}
