package exabgp

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// Now and then the Writer looks whether ExaBGP still holds what it has acknowledged, and makes due again what it does not. Whoever
// may use exabgpcli can withdraw a route, announce another one for the same prefix, or clear all, and so can another process. Nothing
// of it is told to us.
//
// A look is the question of ribOut. It is asked while nothing else is to be written, and what becomes due meanwhile waits for the
// answer. What is held and should not be, or is held with other attributes, is certain. That a route is missing is believed only after the
// second question, whose answer cannot be taken for the end of the first: a neighbor may keep no list, and the list may have been cut short.
//
// ExaBGP's neighbors are not all ours, and of a command for all of them only those take notice whose "api" block names this
// process. Those count that ExaBGP has told us of, that hold a route of ours as we announced it, or that are the only one. What others hold
// under our prefixes is not touched, nor is any other prefix.
//
// What cannot be seen so: an update that ExaBGP lost on the way to its neighbor, and where there are no replies, since then nothing
// tells where the list ends.
const (
	// lookAgain is from a repair to the look that shows whether it helped.
	lookAgain = time.Second
	// lookShare keeps looks to a tenth of the time: 4.2.21 gives 50 routes, then sleeps for 10 ms, and a withdraw may have to wait.
	lookShare = 10
	lookMax   = 30 * time.Second // between two looks, where they fail or take long
	// lookMany is a list so long, of other processes' routes as a rule, that the next one will be as long: 4.2.21 needs a second for it,
	// minutes for a full table, and what a failed check withdraws meanwhile waits. Then looks get a 600th of the time.
	lookMany = 5000
	lookRare = 600
)

// look is what is known of looks.
type look struct {
	at      time.Time           // the next one; zero before the first handshake
	failed  time.Duration       // the pause after one without an answer that is of use; 0 after one with
	found   []Drift             // by the last one
	rare    bool                // it was logged that there are too many routes to look often
	reached map[netip.Addr]bool // neighbors that take notice of us
	up      map[netip.Addr]bool // neighbors with a session, as far as we know
}

// proven is a command with the attributes that ExaBGP shows of it: most routes look as they did.
type proven struct{ command, attributes string }

// lookDue is when to look; zero means never.
func (w *Writer) lookDue() time.Time {
	if w.opt.DriftCheck <= 0 || w.acks != acksOn || w.dialect == Dialect34 || len(w.rows) == 0 {
		return time.Time{}
	}
	return w.look.at
}

// lookNow asks what ExaBGP holds. Where the answer is lost with the step between its lines, the next look comes all the same.
func (w *Writer) lookNow(now time.Time) {
	w.look.at = now.Add(w.opt.DriftCheck)
	w.inquire(now)
	w.ribOut.look, w.ribOut.heard = true, now
}

// settleLook begins with looks, or ends with them where this ExaBGP has no replies any more: what was found last is not known to be
// so any longer.
func (w *Writer) settleLook(now time.Time) {
	if w.look.at.IsZero() {
		w.look.at = now.Add(w.opt.DriftCheck)
	}
	if w.acks != acksOn {
		w.tellDrift(nil)
	}
}

// failLook is the end of a look whose answer is missing or not beyond doubt.
func (w *Writer) failLook(now time.Time) {
	level := logrus.DebugLevel
	if w.look.failed == 0 {
		level = logrus.InfoLevel
	}
	w.look.failed = min(max(2*w.look.failed, w.opt.DriftCheck), max(lookMax, w.opt.DriftCheck))
	w.look.at = now.Add(w.rest(now, w.look.failed))
	w.note(level, "what exabgp holds could not be seen", logrus.Fields{"event": "drift-unknown", "reason": w.ribOut.faulty, "retry_ms": w.look.at.Sub(now).Milliseconds()})
	w.ribOut = ribOut{}
}

// suspicious says that the list is not as it should be, if it is whole and all neighbors are ours. It notes who holds what we announced.
func (w *Writer) suspicious() bool {
	held := byPrefix(w.ribOut.held)
	for i := range w.rows {
		if r := &w.rows[i]; !r.route.Withdraw && w.stands(r) {
			w.meet(r, held[r.prefix])
		}
	}
	return len(w.differences(true, func(netip.Addr) bool { return true })) > 0
}

// meet notes which neighbors hold a route as we announced it.
func (w *Writer) meet(r *row, held []HeldRoute) {
	for _, h := range held {
		if r.is(h) && r.shows(h) && !slices.Contains(r.holders, h.Neighbor) {
			r.holders = append(r.holders, h.Neighbor)
			w.look.reached[h.Neighbor] = true
		}
	}
}

// concludeLook makes due what ExaBGP does not hold as it should.
func (w *Writer) concludeLook(now time.Time) {
	q := &w.ribOut
	var found []Drift
	if q.stage == askedKeeps { // else nothing was suspicious
		alone := q.keeps == 1 && !q.keepless
		found = w.differences(!q.keepless, func(peer netip.Addr) bool { return alone || w.look.reached[peer] })
	}
	pause := w.rest(now, max(w.opt.DriftCheck, min(lookShare*now.Sub(q.sent), lookMax)))
	for _, d := range found {
		e := w.entry(d.Route.key())
		e.taken, e.ours = "", true
		if !slices.Contains(w.look.found, d) {
			pause = min(pause, lookAgain)
		}
	}
	w.look.at, w.look.failed = now.Add(pause), 0
	w.ribOut = ribOut{}
	w.tellDrift(found)
}

// rest is how long ExaBGP is left alone after a look: for pause, unless its list was long.
func (w *Writer) rest(now time.Time, pause time.Duration) time.Duration {
	if len(w.ribOut.held) < lookMany {
		return pause
	}
	took := now.Sub(w.ribOut.sent)
	pause = max(pause, lookRare*took)
	if !w.look.rare {
		w.look.rare = true
		w.note(logrus.WarnLevel, "exabgp holds so many routes that it is seldom looked whether ours are among them",
			logrus.Fields{"event": "drift-rare", "routes": len(w.ribOut.held), "elapsed_ms": took.Milliseconds(), "retry_ms": pause.Milliseconds()})
	}
	return pause
}

// tellDrift passes on what a look found, where that is news.
func (w *Writer) tellDrift(found []Drift) {
	if !slices.Equal(found, w.look.found) {
		w.look.found = found
		w.emit(Drifted{Routes: slices.Clone(found)})
	}
}

// differences are the routes that stand and are not held as they should be, by neighbors that are ours. Without whole nothing is
// taken for missing.
func (w *Writer) differences(whole bool, ours func(netip.Addr) bool) []Drift {
	var found []Drift
	held := byPrefix(w.ribOut.held)
	for i := range w.rows {
		r := &w.rows[i]
		if !w.stands(r) || r.route.Left {
			continue
		}
		if d, differs := w.difference(r, held[r.prefix], whole, ours); differs {
			found = append(found, d)
		}
	}
	return found
}

func (w *Writer) difference(r *row, held []HeldRoute, whole bool, ours func(netip.Addr) bool) (d Drift, differs bool) {
	d.Route = r.route
	there := 0
	for _, h := range held {
		switch {
		case !r.is(h), !r.neighbor.IsValid() && !ours(h.Neighbor), r.route.Withdraw && h.AnyPath && w.announces(r):
		case r.route.Withdraw, !r.shows(h):
			d.Neighbor, d.Have, d.Held = h.Neighbor, h.Attributes, true
			return d, true
		default:
			there++
		}
	}
	if r.route.Withdraw || !whole {
		return d, false
	}
	if there == 0 {
		d.Neighbor = r.neighbor
		return d, true
	}
	for _, peer := range r.holders {
		if w.look.up[peer] && !slices.ContainsFunc(held, func(h HeldRoute) bool { return h.Neighbor == peer && r.is(h) }) {
			d.Neighbor = peer
			return d, true
		}
	}
	return d, false
}

// announces says that another path of a route's prefix is announced.
func (w *Writer) announces(r *row) bool {
	return slices.ContainsFunc(w.entries[r.prefix], func(e *entry) bool {
		return e != r.entry && e.meets(r.key) && e.taken != "" && !e.gone
	})
}

// shows says whether what ExaBGP holds for a route has the attributes that it was announced with.
func (r *row) shows(h HeldRoute) bool {
	if h.AnyPath || r.proven == (proven{r.command, h.Attributes}) {
		return true
	}
	same := r.route.like(h)
	if same {
		r.proven = proven{r.command, h.Attributes}
	}
	return same
}

// like compares the attributes of an announced route with those that ExaBGP shows. What cannot be read passes for equal. Of extended
// communities only the number is compared: 4.2.21 shows other ones than it was given ("target:192.0.2.1:7" as "target:49152:33619975").
func (r Route) like(h HeldRoute) bool {
	got, ok := shown(h.Attributes)
	if !ok {
		return true
	}
	hop := got["next-hop"]
	switch addr, err := netip.ParseAddr(hop); {
	case r.NextHop.IsValid() && (err != nil || addr != r.NextHop.WithZone("")):
		return false
	case !r.NextHop.IsValid() && hop != "self" && (err != nil || h.Local.IsValid() && addr != h.Local && addr.Is4() == h.Local.Is4()):
		return false // 4.2.21 shows the word, later ones the address; for IPv4 over an IPv6 session that is another one than the session's
	}
	localPreference := ""
	if r.HasLocalPreference {
		localPreference = strconv.FormatUint(uint64(r.LocalPreference), 10)
	}
	communities, errC := ParseCommunities(strings.Fields(got["community"])) // it shows some by their names
	large, errL := ParseLargeCommunities(strings.Fields(got["large-community"]))
	known := len(strings.Fields(got["extended-community"])) == len(strings.Fields(r.ExtendedCommunities)) &&
		(errC != nil || communities == r.Communities) && (errL != nil || large == r.LargeCommunities) &&
		got["med"] == strconv.FormatUint(uint64(r.MED), 10) && got["as-path"] == r.ASPath && got["local-preference"] == localPreference &&
		(got["origin"] == "" || strings.EqualFold(got["origin"], "igp"))
	for _, name := range []string{"next-hop", "extended-community", "community", "large-community", "med", "as-path", "local-preference", "origin"} {
		delete(got, name)
	}
	return known && len(got) == 0
}

// shown reads attributes as ExaBGP writes them, "next-hop self as-path [ 65001 65001 ] med 100", by their names. 5.0 has ( ) around
// an AS path. It is false for what is not in that form.
func shown(text string) (map[string]string, bool) {
	got := map[string]string{}
	for words := strings.Fields(text); len(words) > 0; {
		name, rest := words[0], words[1:]
		end := 1
		switch {
		case name == "atomic-aggregate": // the only one without a value
			got[name], words = name, rest
			continue
		case len(rest) == 0:
			return nil, false
		case rest[0] == "[", rest[0] == "(":
			if end = slices.IndexFunc(rest, func(word string) bool { return word == "]" || word == ")" }); end < 0 {
				return nil, false
			}
			got[name], words = strings.Join(rest[1:end], " "), rest[end+1:]
			continue
		}
		got[name], words = rest[0], rest[end:]
	}
	return got, true
}
