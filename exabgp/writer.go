package exabgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// All measured from what ExaBGP 4.2.21 does: an idle one answers in 2 ms, one that is sending a large burst within a second.
const (
	replyTimeout = 3 * time.Second        // from a command to giving up on its reply
	silence      = 2 * time.Second        // without any line, before a query counts as not understood
	statusWait   = time.Second            // for the answer to 3.4's query; with silence, 3 s in all
	patience     = 10 * time.Second       // for the answer to a query behind the replies owed to a predecessor
	ackGrace     = 500 * time.Millisecond // from the summary's last line to asking whether its "done" will ever come
	doubtWait    = time.Second            // for the answer to that
	strayPause   = 200 * time.Millisecond // from a reply that belongs to nothing to going on; its companions come sooner
	strayLog     = time.Minute            // between two lines in the log about such replies
	resyncMin    = time.Second            // pause between two queries that an ExaBGP with replies leaves unanswered ...
	resyncMax    = time.Minute            // ... at most: the pipe takes thousands of them

	// Changes of one prefix that ExaBGP takes up for one neighbor in one round may leave in the wrong order, for good (4.2, 5.0
	// and main, exabgp issue 661 is similar). Waiting for the reply avoids it, but not on main nor where there are no replies.
	// main with API 4 can not be told from 4.2 by its messages, so everybody waits: it delays only what flaps. Each neighbor has
	// buckets of its own, so commands for two of them need not wait for each other.
	spacing = 100 * time.Millisecond

	retryMin = time.Second // pause after a refused command; doubles ...
	retryMax = time.Minute // ... up to this

	pollFast = time.Second      // between two queries while changes of the sessions are not reported, as far as we know
	pollSlow = 30 * time.Second // between two queries as a safety net
	suspect  = 2 * time.Second  // a session seen up without a report for so long was not reported: reports come in the same pipe
)

// Input is what happened. The set is closed.
type Input interface{ input() }

// Begin is the first input, once.
type Begin struct{}

// Told is a new table, as given to Process.Set.
type Told struct{ Table Table }

// Heard is a line from ExaBGP.
type Heard struct{ Verdict Verdict }

// Written is the end of the write of Output.Write. Err is nil where all of it was taken.
type Written struct{ Err error }

// Ended is the end of what ExaBGP says, io.EOF as a rule.
type Ended struct{ Err error }

// Tick is given when Output.Wake is reached. More of them do no harm.
type Tick struct{}

func (Begin) input()   {}
func (Told) input()    {}
func (Heard) input()   {}
func (Written) input() {}
func (Ended) input()   {}
func (Tick) input()    {}

// Output is what follows from one input.
type Output struct {
	Write    []byte     // to be written now, whole; nil means nothing. No other comes before the Written of this one
	Events   []Event    // in order; after a Gone the Writer is at its end
	Notes    []Note     // for the log
	Progress []Progress // of commands, where Options.Progress wants to know
	Wake     time.Time  // a Tick is due no later than this; zero means never
}

// Note is a line for the log.
type Note struct {
	Level  logrus.Level
	Text   string // constant
	Fields logrus.Fields
}

// Writer decides what is written to ExaBGP, and what became of it. See the package comment for how.
// Equal inputs at equal times give equal outputs.
type Writer struct {
	opt Options

	// What is wanted, and what is known to have been taken.
	epoch   uint64
	rows    []row                     // of the newest table, in its order
	entries map[netip.Prefix][]*entry // of every route ever wanted, by prefix

	// The pipe.
	phase      phase
	dialect    Dialect // as far as it is known, else Auto
	mismatched bool    // it was logged that ExaBGP does not speak the one of the options
	acks       acks
	began      time.Time     // of the phase
	quiet      time.Time     // the last line or write that the phase's patience is counted from
	again      time.Time     // of phase unsynced: when to ask again
	pause      time.Duration // before asking again after an unanswered query
	writing    bool          // an Output.Write has not come back
	understood bool          // a header was seen: this ExaBGP knows the query
	unanswered int           // queries whose header was not seen
	guessed    bool          // the queries of other dialects were tried in this handshake ...
	replied    int           // ... and so often answered, but with no list
	greeted    bool          // a reply came before the header
	many       bool          // ExaBGP has more than one neighbor, or it is not known how many
	wedged     int           // handshakes in a row in which headers of older queries came and no more
	late       bool          // a header of an older query came since the newest was written
	whole      bool          // the list that is being proved is
	settled    bool          // a handshake was concluded before ...
	said       acks          // ... and this was found and logged
	flight     *flight       // the route command that was written and not yet answered
	strayed    time.Time     // when a stray reply was last logged
	excuse     string        // why the next Refused comes
	ribOut     ribOut        // the question what ExaBGP holds, where it was asked and not yet answered
	blunt      bool          // that is not asked any more
	look       look          // at the same, now and then

	// The sessions.
	query     query
	poll      time.Time // when the query in flight was sent; zero if none is
	asked     time.Time // when the last one was sent
	list      list
	prev      []netip.Addr             // the last complete list
	listed    bool                     // there was one
	reports   bool                     // a change of a session was reported
	heard     map[netip.Addr]bool      // peers with a reported change since prev
	suspects  map[netip.Addr]time.Time // peers found established without a report, and since when
	known     map[netip.Addr]bool      // peers that were told of; with API 6 all that it has, once it has listed them
	complains bool                     // EventsMissing was said
	untracked bool                     // TrackingUnavailable was said
	polled    bool                     // sessions are known by polling only: EventsMissing, and nothing was reported since

	ended bool
	out   Output
}

// phase is where we are in agreeing with ExaBGP which reply belongs to what.
//
//	unsynced ──ask──▶ greeting ──header──▶ listing ──done──▶ ready (acks on)
//	    ▲                │ silence            │ no done
//	    │                ▼                    ▼
//	    │             guessing             doubting ──header──▶ ready (acks off)
//	    ├── the dialect is found to be another one
//	    └── a reply is missing, or belongs to nothing ── ready
//
// The header is the first line of the summary, or with API 6 the list of the peers, which is one line. It may be that of a
// query of the process before this one. Its newline tells: 4.2, 5.0 and main answer it before
// our header. Where that answer was not seen, listing leads to proving, which waits for it a moment before all is ready.
type phase uint8

const (
	unsynced phase = iota // waits to ask; replies belong to nothing we know
	greeting              // asked for the sessions; replies before the header are not ours
	listing               // the header was seen; the next reply is ours
	proving               // that reply came, and the one to our first newline did not: both may be our predecessor's
	doubting              // the reply did not come: asked again, to see whether a header or a reply is next
	guessing              // the queries of 3.4, and where nothing is known of API 6, were written
	ready                 // route commands are written
	closing               // ExaBGP shuts down: nothing is read any more
)

// acks says whether ExaBGP replies to commands.
type acks uint8

const (
	acksUnknown acks = iota
	acksOn
	acksOff
)

func (a acks) String() string { return [...]string{"unknown", "on", "off"}[a] }

// query is the kind of the command that lists the sessions.
type query uint8

const (
	marked  query = iota // its answer begins with a header
	status               // 3.4's
	noQuery              // refused by this ExaBGP
)

// row is a route of the table.
type row struct {
	route   Route
	command string
	*entry
}

// entry is what is known about one route.
type entry struct {
	key
	taken   string        // the command that ExaBGP holds; empty where that is not known
	gone    bool          // that is a withdraw
	serial  uint64        // of the wish that was last answered with it
	epoch   uint64        // of the table it came from
	ours    bool          // an announce was written, or seen to be held, and no withdraw taken since (see doubtful): one is needed
	last    time.Time     // of the last command's end
	refused string        // the command that was refused last; empty once another was wanted or taken
	words   string        // what was said then
	delay   time.Duration // pause after it
	retry   time.Time     // its end
	spelled spelled       // the last wish in words
	cause   cause         // what it is about
	proven  proven        // what ExaBGP showed of it last that was right ...
	holders []netip.Addr  // ... and the neighbors of which it ever did
}

// spelled is a command with what it follows from: most of a table is what it was before.
type spelled struct {
	route   Route // without its Serial
	dialect Dialect
	command string
}

// spell returns the command for a route.
func (e *entry) spell(d Dialect, r Route) string {
	if r.Serial = 0; e.spelled.command == "" || e.spelled.route != r || e.spelled.dialect != d {
		e.spelled = spelled{r, d, d.Command(r)}
	}
	return e.spelled.command
}

// flight is a command on its way.
type flight struct {
	row
	epoch uint64
	sent  time.Time
	since time.Time // of the cause, as far as it is known
	wrote bool      // the end of its write was told
	blind bool      // there are no replies: taken when written
}

// list is the answer to a query as far as it was read.
type list struct {
	open  bool
	lines int
	peers []netip.Addr
}

// NewWriter returns a Writer that waits for Begin.
func NewWriter(opt Options) *Writer {
	w := &Writer{
		opt:      opt,
		dialect:  opt.Dialect,
		many:     true,
		entries:  map[netip.Prefix][]*entry{},
		heard:    map[netip.Addr]bool{},
		suspects: map[netip.Addr]time.Time{},
		known:    map[netip.Addr]bool{},
		look:     look{reached: map[netip.Addr]bool{}, up: map[netip.Addr]bool{}},
	}
	if opt.Dialect == Auto {
		w.dialect = dialectOfEnviron(opt.Environ)
	}
	return w
}

// Step applies in at instant now and returns all that follows from it. After a Gone it returns nothing more.
func (w *Writer) Step(now time.Time, in Input) Output {
	w.out = Output{}
	if w.ended {
		return w.out
	}
	switch in := in.(type) {
	case Begin:
		w.begin(now)
	case Told:
		w.told(in.Table)
	case Heard:
		w.hear(now, in.Verdict)
	case Written:
		w.wrote(now, in.Err)
	case Ended:
		w.gone(in.Err)
	case Tick:
	default:
		panic(fmt.Sprintf("bug: input %T", in))
	}
	if !w.ended && w.phase != closing {
		w.expire(now)
		w.confirm()
		w.advance(now)
		w.out.Wake = w.wake()
	}
	return w.out
}

// confirm answers a new wish for what ExaBGP holds already: something else was wanted in between and never written. While
// a command for the prefix is in flight, what ExaBGP will hold is not known.
func (w *Writer) confirm() {
	for i := range w.rows {
		r := &w.rows[i]
		if !w.stands(r) || r.serial == r.route.Serial || w.flight != nil && w.flight.meets(r.key) {
			continue
		}
		r.serial, r.cause.since = r.route.Serial, time.Time{}
		w.emit(RouteAccepted{Route: r.route, Epoch: w.epoch})
	}
}

func (w *Writer) begin(now time.Time) {
	w.began, w.again = now, now
	if w.opt.Interactive {
		w.phase, w.acks, w.query, w.settled = ready, acksOff, noQuery, true
		w.unavailable()
	}
}

// told replaces the table. A route that was refused is tried at once if something else is wanted of it now.
func (w *Writer) told(t Table) {
	renewed := t.Epoch != w.epoch
	w.epoch = t.Epoch
	w.rows = make([]row, 0, len(t.Routes))
	wanted := make(map[*entry]string, len(t.Routes))
	single := map[key]bool{} // whether routes are for single neighbors, by key without one
	for _, route := range t.Routes {
		e := w.entry(route.key())
		if _, twice := wanted[e]; twice {
			panic(fmt.Sprintf("bug: route %q twice in a table", route.Command()))
		}
		all := key{prefix: e.prefix, path: e.path}
		if one, seen := single[all]; seen && one != e.neighbor.IsValid() {
			panic(fmt.Sprintf("bug: route %q is in a table for all neighbors and for one", route.Command()))
		}
		single[all] = e.neighbor.IsValid()
		r := row{route: route, command: e.spell(w.dialect, route), entry: e}
		wanted[e] = r.command
		w.rows = append(w.rows, r)
		e.causedBy(t, route)
	}
	for _, entries := range w.entries { // each by itself: the order does not matter
		for _, e := range entries {
			if e.refused != "" && e.refused != wanted[e] {
				e.forgive()
			}
			if renewed {
				e.retry = time.Time{}
			}
			if _, there := wanted[e]; !there {
				e.cause = cause{} // nobody waits for it
			}
		}
	}
}

// entry returns that of a key, a new one if there is none.
func (w *Writer) entry(k key) *entry {
	for _, e := range w.entries[k.prefix] {
		if e.key == k {
			return e
		}
	}
	e := &entry{key: k}
	for _, o := range w.entries[k.prefix] {
		e.ours = e.ours || o.shadows(k) && o.ours
	}
	w.entries[k.prefix] = append(w.entries[k.prefix], e)
	return e
}

// become finds that ExaBGP speaks d. Where a command reads otherwise in it, what was written before does not stand any more, and
// is written again.
func (w *Writer) become(now time.Time, d Dialect) {
	if d == Auto || d == w.dialect || w.opt.Interactive || w.phase == closing {
		return
	}
	if w.opt.Dialect != Auto {
		if !w.mismatched && (d.sessions() != w.dialect.sessions()) {
			w.mismatched = true
			w.note(logrus.WarnLevel, "exabgp speaks another dialect than the configuration says",
				logrus.Fields{"event": "dialect-mismatch", "dialect": w.dialect.String(), "found": d.String(), "remedy": `write dialect = "auto"`})
		}
		return
	}
	before := w.dialect
	w.dialect = d
	w.note(logrus.InfoLevel, "dialect of exabgp found", logrus.Fields{"event": "dialect", "from": before.String(), "to": d.String()})
	asked := before.sessions()
	if w.query == status {
		asked = queryStatus
	}
	for i := range w.rows {
		r := &w.rows[i]
		r.command = r.spell(d, r.route)
	}
	if asked == d.sessions() {
		return
	}
	w.query, w.acks, w.understood, w.unanswered, w.guessed, w.replied = marked, acksUnknown, false, 0, false, 0
	w.resync(now, 0)
}

func (e *entry) forgive() {
	e.refused, e.words, e.delay, e.retry = "", "", 0, time.Time{}
}

// hear applies one line.
func (w *Writer) hear(now time.Time, v Verdict) {
	if w.opt.Interactive {
		return // whatever a person types
	}
	if v.Version != "" {
		w.become(now, dialectOfVersion(v.Version))
	}
	switch v.Kind {
	case News:
		w.news(v.Event)
	case Header:
		w.header(now)
	case Peers:
		w.peers(now, v.Sessions)
	case Session:
		w.session(now, v.Sessions[0])
	case Excuse:
		w.excuse = v.Words
	case Done, Refused:
		w.reply(now, v)
		w.excuse = ""
	case Keeps, Held, Text:
		w.learn(now, v)
	}
}

func (w *Writer) news(ev Event) {
	w.emit(ev)
	switch ev := ev.(type) {
	case NeighborHeard:
		w.look.reached[ev.Neighbor.Peer] = true
	case ShuttingDown:
		w.phase, w.flight, w.poll, w.ribOut = closing, nil, time.Time{}, ribOut{}
		w.note(logrus.InfoLevel, "exabgp shuts down", logrus.Fields{"event": "shutdown"})
	case NeighborChanged:
		peer := ev.Neighbor.Peer
		w.reports, w.polled = true, false
		w.heard[peer], w.known[peer] = true, true
		w.look.reached[peer], w.look.up[peer] = true, ev.State == NeighborUp
		delete(w.suspects, peer)
		if w.list.open {
			// The line of this peer, if it was there already, is older than the report.
			w.list.set(peer, ev.State == NeighborUp)
		}
	}
}

func (l *list) set(peer netip.Addr, up bool) {
	i := slices.Index(l.peers, peer)
	switch {
	case up && i < 0:
		l.peers = append(l.peers, peer)
	case !up && i >= 0:
		l.peers = slices.Delete(l.peers, i, i+1)
	}
}

func (w *Writer) session(now time.Time, s Listed) {
	w.known[s.Peer] = true
	if !w.list.open {
		return
	}
	w.quiet = now
	w.list.lines++
	w.list.set(s.Peer, s.Up)
}

// peers applies API 6's list, which is header and sessions in one. It holds all neighbors: a command for any other would go to
// all of them (main branch of August 2026).
func (w *Writer) peers(now time.Time, sessions []Listed) {
	w.become(now, Dialect6)
	if w.dialect != Dialect6 {
		return
	}
	before := w.known
	w.known = map[netip.Addr]bool{}
	w.header(now)
	for _, s := range sessions {
		w.session(now, s)
	}
	for i := range w.rows {
		if r := &w.rows[i]; w.known[r.neighbor] && !before[r.neighbor] {
			r.retry = time.Time{}
		}
	}
}

// header marks a place in ExaBGP's stream: all that comes before it answers commands that are older than the query.
func (w *Writer) header(now time.Time) {
	ours := w.unanswered == 1 // not of an older query that was given up
	w.unanswered = max(0, w.unanswered-1)
	w.quiet, w.understood = now, true
	switch w.phase {
	case unsynced, greeting:
		if !ours {
			w.late = true
			w.awake(now)
			return
		}
		w.enter(listing, now)
		w.query, w.list = marked, list{open: true}
	case listing, proving: // the one before was asked for by our predecessor
		w.greeted = true
		w.enter(listing, now)
		w.list = list{open: true}
	case doubting:
		w.acks = acksOff
		w.settle(now, true)
	case guessing: // slow, not silent: start again, past the answers to all queries
		w.guessed, w.replied = false, 0
		w.resync(now, 0)
	case ready:
		switch {
		case w.poll.IsZero() && w.acks == acksOn: // of a query that was given up: a reply follows it
			w.stray(now)
		case w.poll.IsZero():
		case w.list.open: // the second of the two that are asked for at once where there is no other end
			w.poll = time.Time{}
			w.endList(now, true)
		default:
			w.list = list{open: true}
		}
	}
}

// reply applies a "done" or an "error".
func (w *Writer) reply(now time.Time, v Verdict) {
	switch w.phase {
	case unsynced, greeting: // not ours; but who replies to others replies to us
		w.acks, w.quiet, w.greeted = acksOn, now, true
		w.awake(now)
	case listing:
		w.acks = acksOn
		if !w.greeted && !w.settled {
			w.whole = v.Kind == Done
			w.enter(proving, now)
			return
		}
		w.settle(now, v.Kind == Done)
	case proving: // to our newline: the header comes next
		w.greeted, w.unanswered = true, 1
		w.enter(greeting, now)
	case doubting: // it was only late, and there is one more to come
		w.acks, w.greeted = acksOn, true
		w.enter(greeting, now)
	case guessing:
		w.replyToGuess(now, v)
	case ready:
		if w.acks == acksOn {
			w.paired(now, v)
		} else {
			w.unexpected(now)
		}
	}
}

// awake asks again soon where a pause was kept because ExaBGP stood still: it says something.
func (w *Writer) awake(now time.Time) {
	w.pause = 0
	if soon := now.Add(strayPause); w.phase == unsynced && soon.Before(w.again) {
		w.again = soon
	}
}

// replyToGuess applies the end of the answer to 3.4's query. Only 3.4 answers it with a list; it never replies to routes.
// Any other reply comes from an ExaBGP that does not know it, or that was slow: then the header is close behind.
func (w *Writer) replyToGuess(now time.Time, v Verdict) {
	if v.Kind == Done && w.list.lines > 0 {
		w.acks, w.query = acksOff, status
		w.settle(now, true)
		return
	}
	if w.dialect == Dialect34 { // of that one it is known
		return
	}
	w.acks, w.quiet, w.replied = acksOn, now, w.replied+1
}

// paired applies a reply where each command has one.
func (w *Writer) paired(now time.Time, v Verdict) {
	switch {
	case w.flight != nil && v.Kind == Done:
		w.accept(now, now.Sub(w.flight.sent))
	case w.flight != nil:
		w.refuse(now, w.reason(v))
	case w.ribOut.stage != unasked:
		w.answered(now, v)
	case !w.poll.IsZero() && w.list.open:
		w.poll = time.Time{}
		w.endList(now, v.Kind == Done)
	default:
		w.stray(now)
	}
}

// stray starts again because of a line that belongs to nothing that was asked.
func (w *Writer) stray(now time.Time) {
	level := logrus.DebugLevel
	if w.strayed.IsZero() || now.Sub(w.strayed) >= strayLog {
		level, w.strayed = logrus.WarnLevel, now
	}
	w.note(level, "reply from exabgp without a command", logrus.Fields{"event": "stray-reply"})
	w.resync(now, strayPause)
}

// reason says why a command was refused, in ExaBGP's words: main gives some, the others only say "error". What is written is
// never refused for its form, so a neighbor that was never told of is not there.
func (w *Writer) reason(v Verdict) string {
	for _, words := range []string{v.Words, w.excuse} {
		if words != "" {
			return words
		}
	}
	if f := w.flight; f != nil && f.neighbor.IsValid() && !w.known[f.neighbor] {
		return w.unknown(f.neighbor)
	}
	return "error"
}

func (w *Writer) unknown(peer netip.Addr) string {
	return fmt.Sprintf("exabgp has no neighbor %s for this process; remedy: name the process in the api block of that neighbor, "+
		"or write the same address in both configurations", peer)
}

// unexpected applies a reply where there should be none, save the end of 3.4's list.
func (w *Writer) unexpected(now time.Time) {
	if w.query == status && !w.poll.IsZero() {
		w.poll = time.Time{}
		w.endList(now, true)
		return
	}
	if w.dialect == Dialect34 { // it has no replies that could be one's own
		return
	}
	w.acks = acksUnknown
	w.resync(now, 0)
}

// wrote applies the end of a write.
func (w *Writer) wrote(now time.Time, err error) {
	w.writing = false
	if err != nil {
		w.gone(fmt.Errorf("write to exabgp: %w", err))
		return
	}
	w.quiet = now
	w.progress(now, CommandWritten)
	if w.flight != nil && w.flight.blind {
		w.accept(now, 0)
	}
}

func (w *Writer) gone(err error) {
	w.ended = true
	w.note(logrus.InfoLevel, "exabgp is gone", logrus.Fields{"event": "gone", "reason": fmt.Sprint(err)})
	w.emit(Gone{Err: err})
}

// accept ends the command in flight: ExaBGP holds it now.
func (w *Writer) accept(now time.Time, took time.Duration) {
	f := w.flight
	w.progress(now, CommandAccepted)
	w.flight = nil
	w.overwrite(f.entry)
	f.taken, f.gone, f.entry.epoch, f.last = f.command, f.route.Withdraw, f.epoch, now
	f.serial = f.route.Serial
	if f.route.Withdraw && !w.many {
		for _, e := range w.entries[f.prefix] {
			e.ours = e.ours && e.path != f.path
		}
	}
	f.forgive()
	w.emit(RouteAccepted{Route: f.route, Epoch: f.epoch, Took: took})
}

// overwrite forgets what ExaBGP was known to hold where the command of e went too: under another key of the same route.
func (w *Writer) overwrite(e *entry) {
	for _, o := range w.entries[e.prefix] {
		if o != e && o.shadows(e.key) {
			o.taken = ""
			o.ours = o.ours || e.ours
		}
	}
}

// refuse ends the command in flight: what ExaBGP holds for its prefix is not known, so whatever is wanted next is due.
func (w *Writer) refuse(now time.Time, words string) {
	f := w.flight
	w.progress(now, CommandRefused)
	w.flight = nil
	level := logrus.WarnLevel
	if f.refused == f.command && f.words == words {
		level = logrus.DebugLevel // said before
	}
	if f.refused != f.command {
		f.delay = 0
	}
	w.overwrite(f.entry)
	f.taken, f.last = "", now
	f.refused, f.words = f.command, words
	f.delay = min(max(2*f.delay, retryMin), retryMax)
	f.retry = now.Add(f.delay)
	text, reason := "route refused by exabgp", words
	if words == "" {
		text, reason = "route not acknowledged by exabgp", "no answer"
	}
	fields := logrus.Fields{
		"event": "route-refused", "nlri": f.route.Prefix.String(), "command": f.command, "reason": reason,
		"retry_ms": f.delay.Milliseconds(), "elapsed_ms": now.Sub(f.sent).Milliseconds(),
	}
	if f.neighbor.IsValid() {
		fields["neighbor"] = f.neighbor.String()
	}
	w.note(level, text, fields)
	w.emit(RouteRefused{Route: f.route, Epoch: f.epoch, Words: words, Retry: f.delay})
}

// enter starts a phase.
func (w *Writer) enter(p phase, now time.Time) {
	w.phase, w.began, w.quiet = p, now, now
}

// resync stops writing routes until it is known again which reply belongs to what. The query is sent after pause.
func (w *Writer) resync(now time.Time, pause time.Duration) {
	if f := w.flight; f != nil && !f.blind { // its reply will not be known from others: written again after this
		w.overwrite(f.entry)
		f.taken, f.last = "", now
		w.flight = nil
	}
	w.enter(unsynced, now)
	w.again = now.Add(pause)
	w.poll, w.ribOut = time.Time{}, ribOut{}
	w.list = list{}
}

// settle ends a handshake. listed says whether the list that came with it is whole.
func (w *Writer) settle(now time.Time, listed bool) {
	level := logrus.DebugLevel
	if !w.settled || w.said != w.acks {
		level = logrus.InfoLevel
	}
	w.note(level, "in step with exabgp", logrus.Fields{"event": "synchronised", "acks": w.acks.String(),
		"elapsed_ms": now.Sub(w.began).Milliseconds()})
	w.enter(ready, now)
	w.settled, w.said = true, w.acks
	w.guessed, w.replied, w.pause, w.unanswered = false, 0, 0, 0
	w.endList(now, listed)
	if !w.listed {
		w.unavailable()
	}
	w.settleLook(now)
}

func (w *Writer) unavailable() {
	if !w.opt.Track || w.untracked {
		return
	}
	w.untracked = true
	w.note(logrus.WarnLevel, "exabgp does not tell about its sessions",
		logrus.Fields{"event": "tracking-unavailable", "line": "neighbor-changes;"})
	w.emit(TrackingUnavailable{})
}

// endList closes the list and passes it on where it is whole.
func (w *Writer) endList(now time.Time, whole bool) {
	peers := w.list.peers
	w.list = list{}
	if whole {
		clear(w.look.up)
		for _, peer := range peers {
			w.look.up[peer] = true
		}
	}
	if !whole || !w.opt.Track {
		return
	}
	w.emit(NeighborsListed{Established: slices.Clone(peers)})
	if w.listed {
		w.compare(now, peers)
	}
	w.prev, w.listed, w.asked = peers, true, now
	clear(w.heard)
}

// compare looks for sessions that came up since the list before without ExaBGP reporting it. The report is in the pipe
// before the list, or just behind it: only a session that is still unreported in a later list was not reported.
func (w *Writer) compare(now time.Time, peers []netip.Addr) {
	for _, peer := range w.prev {
		if !slices.Contains(peers, peer) {
			delete(w.suspects, peer)
		}
	}
	for _, peer := range peers {
		since, ok := w.suspects[peer]
		switch {
		case ok && now.Sub(since) >= suspect:
			delete(w.suspects, peer)
			w.missing(peer)
		case !ok && !w.heard[peer] && !slices.Contains(w.prev, peer):
			w.suspects[peer] = now
		}
	}
}

func (w *Writer) missing(peer netip.Addr) {
	w.polled = true
	if w.complains {
		return
	}
	w.complains = true
	w.note(logrus.WarnLevel, "exabgp does not report session changes: a line is missing in the api block of its neighbors",
		logrus.Fields{"event": "events-missing", "neighbor": peer.String(), "line": "neighbor-changes;"})
	w.emit(EventsMissing{Neighbor: Neighbor{Peer: peer}})
}

// expire gives up on what did not come in time.
func (w *Writer) expire(now time.Time) {
	if d := w.replyDeadline(); !d.IsZero() && !now.Before(d) {
		w.unreplied(now)
	}
	if d := w.phaseDeadline(); d.IsZero() || now.Before(d) {
		return
	}
	switch w.phase {
	case greeting:
		if w.guessed || w.understood || w.dialect == Dialect42 || w.dialect == Dialect5 || w.dialect == Dialect6 {
			w.giveUp(now)
			return
		}
		w.guess(now)
	case guessing:
		if w.replied > 0 { // to no query with a list
			w.query = noQuery
			w.settle(now, false)
			return
		}
		w.giveUp(now)
	case listing:
		w.enter(doubting, now)
		w.write(w.dialect.sessions() + "\n")
		w.unanswered++
	case proving:
		w.settle(now, w.whole)
	case doubting:
		if w.acks == acksUnknown {
			w.acks = acksOff
		}
		w.settle(now, false)
	}
}

// guess asks in the words of other dialects. Of the answers to both, one at most is a list.
func (w *Writer) guess(now time.Time) {
	w.guessed = true
	w.enter(guessing, now)
	w.list = list{open: true}
	w.write(queryStatus + "\n" + queryPeers + "\n")
}

// unreplied gives up on the reply to the command in flight, or on the answer to a query.
func (w *Writer) unreplied(now time.Time) {
	if w.flight != nil && !w.flight.blind {
		w.refuse(now, w.excuse)
		w.excuse = ""
		w.resync(now, 0)
		return
	}
	if w.ribOut.stage != unasked {
		w.ribOut.faulty = "no answer in time"
		w.despair(now)
		w.resync(now, 0)
		return
	}
	w.poll = time.Time{}
	w.list = list{}
	if w.acks == acksOn {
		w.resync(now, 0)
		return
	}
	w.unanswered = 0
}

// giveUp ends a handshake that nothing was answered to. An ExaBGP that replied before is not one without replies, but one
// that stands still.
func (w *Writer) giveUp(now time.Time) {
	if w.wedged++; !w.late {
		w.wedged = 0
	} else if w.wedged >= 3 { // headers come, and one too few: a query was never answered, or not with a header
		w.unanswered, w.wedged = 0, 0
	}
	if w.acks == acksOn && w.dialect != Dialect34 {
		w.pause = min(max(2*w.pause, resyncMin), resyncMax)
		w.resync(now, w.pause)
		return
	}
	w.acks = acksOff
	w.settle(now, false)
}

// replyDeadline is when a missing reply becomes a failure; zero if none is waited for.
func (w *Writer) replyDeadline() time.Time {
	switch {
	case w.flight != nil && !w.flight.blind:
		return w.flight.sent.Add(replyTimeout)
	case w.ribOut.look:
		return w.ribOut.heard.Add(replyTimeout)
	case w.ribOut.stage != unasked:
		return w.ribOut.sent.Add(askWait)
	case !w.poll.IsZero():
		return w.poll.Add(replyTimeout)
	}
	return time.Time{}
}

// phaseDeadline is when the handshake goes on without an answer; zero if it does not: no clock runs for an answer to
// what is not yet written, and what the phase writes next could not be.
func (w *Writer) phaseDeadline() time.Time {
	if w.writing {
		return time.Time{}
	}
	switch w.phase {
	case greeting:
		return earliest(w.quiet.Add(silence), w.began.Add(patience))
	case guessing:
		switch {
		case w.replied >= 2: // to both queries
			return w.quiet.Add(strayPause)
		case w.dialect == Dialect34: // nothing else was asked before
			return w.quiet.Add(silence + statusWait)
		}
		return w.quiet.Add(statusWait)
	case listing:
		if w.acks == acksOn {
			return w.quiet.Add(replyTimeout)
		}
		return w.quiet.Add(ackGrace)
	case doubting:
		return w.quiet.Add(doubtWait)
	case proving:
		return w.quiet.Add(strayPause)
	}
	return time.Time{}
}

// advance writes what is due, if anything may be written now.
func (w *Writer) advance(now time.Time) {
	if w.writing {
		return
	}
	if w.phase == unsynced && !now.Before(w.again) {
		w.greet(now)
	}
	if w.phase == ready && w.ribOut.stage == dueKeeps {
		w.inquireFurther()
		return
	}
	if w.phase != ready || w.waiting() {
		return
	}
	r, _ := w.due(now)
	for r != nil && w.stranger(r.route.Neighbor) {
		w.flight = &flight{row: *r, epoch: w.epoch, sent: now}
		w.refuse(now, w.unknown(r.route.Neighbor))
		r, _ = w.due(now)
	}
	if r != nil && w.doubtful(r) {
		w.inquire(now)
		return
	}
	if r != nil {
		if !r.route.Withdraw {
			r.ours = true
		}
		w.flight = &flight{row: *r, epoch: w.epoch, sent: now, since: r.cause.since, blind: w.acks == acksOff}
		w.excuse = ""
		w.write(r.command + "\n")
		return
	}
	if d := w.pollDue(); !d.IsZero() && !now.Before(d) {
		w.ask(now)
		return
	}
	if d := w.lookDue(); !d.IsZero() && !now.Before(d) {
		w.lookNow(now)
	}
}

// waiting says whether a reply must come before the next command.
func (w *Writer) waiting() bool {
	return w.flight != nil || w.ribOut.stage != unasked || !w.poll.IsZero() && w.acks == acksOn
}

// stranger says that a route can not be written to a neighbor: API 6 would send it to all others instead.
func (w *Writer) stranger(peer netip.Addr) bool {
	return w.dialect == Dialect6 && peer.IsValid() && !w.known[peer.WithZone("")]
}

// greet asks for the sessions. The first time, a newline comes before: 4.2 keeps the half line of a process that died
// and puts our first line behind it. It is answered with "error" (4.2, 5.0) or "done" (main), before the header.
func (w *Writer) greet(now time.Time) {
	query := w.dialect.sessions() + "\n"
	if w.asked.IsZero() {
		query = "\n" + query
	}
	w.asked, w.late = now, false
	if w.dialect == Dialect34 { // whose answer has no header, and only an end
		w.enter(guessing, now)
		w.query, w.list = status, list{open: true}
		w.write(query)
		return
	}
	w.enter(greeting, now)
	w.unanswered++
	w.write(query)
}

// ask sends the query that keeps the list fresh. Without replies the end of a list is not marked; the header of a second
// one does that.
func (w *Writer) ask(now time.Time) {
	w.poll, w.asked = now, now
	switch {
	case w.query == status:
		w.list = list{open: true}
		w.write(queryStatus + "\n")
	case w.acks == acksOn:
		w.unanswered++
		w.write(w.dialect.sessions() + "\n")
	default:
		w.unanswered += 2
		w.write(strings.Repeat(w.dialect.sessions()+"\n", 2))
	}
}

// pollDue is when to ask for the sessions again; zero means never.
func (w *Writer) pollDue() time.Time {
	switch {
	case !w.opt.Track || w.query == noQuery || !w.poll.IsZero():
		return time.Time{}
	case w.listed && (!w.reports || w.polled || len(w.suspects) > 0):
		return w.asked.Add(pollFast)
	}
	return w.asked.Add(pollSlow)
}

// stands says whether ExaBGP has taken what is wanted, in this epoch.
func (w *Writer) stands(r *row) bool { return r.taken == r.command && r.entry.epoch == w.epoch }

// due returns the first route of the table that is to be written now, or nil and when the next one will be.
func (w *Writer) due(now time.Time) (*row, time.Time) {
	var next time.Time
	for i := range w.rows {
		r := &w.rows[i]
		if w.stands(r) {
			continue
		}
		var at time.Time
		if r.refused == r.command {
			at = r.retry
		}
		for _, e := range w.entries[r.prefix] {
			if !e.last.IsZero() && e.meets(r.key) && at.Before(e.last.Add(spacing)) {
				at = e.last.Add(spacing)
			}
		}
		if !now.Before(at) {
			return r, time.Time{}
		}
		next = earliest(next, at)
	}
	return nil, next
}

// wake is when something happens without any input; zero means never. It is called with nothing due any more, and what
// waits for the end of a write is left out.
func (w *Writer) wake() time.Time {
	wake := earliest(w.replyDeadline(), w.phaseDeadline())
	if w.writing {
		return wake
	}
	switch {
	case w.phase == unsynced:
		wake = earliest(wake, w.again)
	case w.phase == ready && !w.waiting():
		_, next := w.due(time.Time{})
		wake = earliest(earliest(wake, next), earliest(w.pollDue(), w.lookDue()))
	}
	return wake
}

// earliest of two instants, of which a zero one does not count.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (w *Writer) write(text string) {
	if w.writing {
		panic(fmt.Sprintf("bug: %q written while a write is on its way", text))
	}
	w.writing = true
	w.out.Write = []byte(text)
}

func (w *Writer) emit(ev Event) { w.out.Events = append(w.out.Events, ev) }

func (w *Writer) note(level logrus.Level, text string, fields logrus.Fields) {
	w.out.Notes = append(w.out.Notes, Note{Level: level, Text: text, Fields: fields})
}
