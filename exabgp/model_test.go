package exabgp

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("seed", 0, "run TestWriterModel with this seed only")
	seeds = flag.Uint64("seeds", 300, "run TestWriterModel with so many seeds")
)

// TestWriterModel plays a Writer against a model of ExaBGP that loses replies, stands still, owes replies to a predecessor
// and answers slowly, while tables come at random; it may hold routes of a predecessor, and may not tell which. At every
// step: one command in flight where there are replies, and what is reported as accepted is what the model holds. Without
// faults no withdraw is written of what it does not hold. When the faults stop, the newest table is what it holds within a
// time.
func TestWriterModel(t *testing.T) {
	first, n := uint64(1), *seeds
	if *seed != 0 {
		first, n = *seed, 1
	}
	for s := first; s < first+n; s++ {
		m := newModel(t, s)
		m.play()
		m.tell(s)
	}
}

// options of a model are drawn from the seed.
type options struct {
	silent bool          // no replies
	inline bool          // an empty line is answered in its turn, with done (main), not at once with error (4.2, 5.0)
	slow   time.Duration // up to this for each command
	lose   float64       // replies
	refuse float64       // commands
	stop   float64       // chance that it stands still after a command
	debts  int           // replies owed to a predecessor
	noList bool          // adj-rib-out false
	garble float64       // lines of the list of routes
}

// faultless says that ExaBGP answers everything, in time.
func (o options) faultless() bool {
	return !o.silent && o.lose == 0 && o.refuse == 0 && o.stop == 0 && !o.noList && o.garble == 0
}

// model is an ExaBGP on a virtual clock.
type model struct {
	options
	t     *testing.T
	r     *rand.Rand
	w     *Writer
	now   time.Time
	wake  time.Time // the Writer's
	free  time.Time // when the model takes its next command
	queue []string  // commands read and not carried out
	rib   map[string]string
	table Table
	got   map[netip.Prefix]RouteAccepted
	await bool // a route command was written and neither accepted nor refused
	calm  bool // no faults any more
	trace []string
}

func newModel(t *testing.T, seed uint64) *model {
	r := rand.New(rand.NewPCG(seed, 0))
	m := &model{t: t, r: r, w: NewWriter(Options{Track: r.IntN(2) == 0}), now: epochStart, free: epochStart,
		rib: map[string]string{}, got: map[netip.Prefix]RouteAccepted{}}
	m.options = options{
		silent: r.IntN(4) == 0, inline: r.IntN(3) == 0, slow: time.Duration(1+r.IntN(300)) * time.Millisecond,
		lose: float64(r.IntN(3)) * 0.05, refuse: float64(r.IntN(3)) * 0.1, stop: float64(r.IntN(3)) * 0.02, debts: r.IntN(4) * 10,
	}
	if m.silent {
		m.refuse = 0 // nobody could know
	}
	m.noList, m.garble = r.IntN(4) == 0, float64(r.IntN(3))*0.1
	if r.IntN(4) == 0 {
		m.options = options{slow: m.slow, inline: m.inline, debts: m.debts}
	}
	for i := range byte(4) {
		if route := (Route{Prefix: modelPrefix(i), MED: uint32(100 * r.IntN(3))}); r.IntN(2) == 0 {
			m.rib[route.Prefix.String()] = route.Command()
		}
	}
	return m
}

// tell ends the test where it failed.
func (m *model) tell(seed uint64) {
	if m.t.Failed() {
		m.t.Fatalf("-seed %d: %+v\n%s", seed, m.options, strings.Join(m.trace[max(0, len(m.trace)-60):], "\n"))
	}
}

func (m *model) play() {
	for range m.debts {
		m.queue = append(m.queue, "announce route 198.18.0.1/32 next-hop self")
	}
	m.step(Begin{})
	for range 40 {
		m.setTable()
		m.until(m.now.Add(time.Duration(m.r.IntN(3000)) * time.Millisecond))
	}
	m.calm = true
	m.until(m.now.Add(3 * time.Minute)) // more than the longest pause, and then some
	if m.t.Failed() {
		return
	}
	for _, r := range m.table.Routes {
		if got := m.got[r.Prefix]; !m.holds(r) || got.Route != r || got.Epoch != m.table.Epoch {
			m.t.Errorf("%s: wanted %q, epoch %d, the model has %q, accepted was %q, epoch %d",
				r.Prefix, r.Command(), m.table.Epoch, m.rib[r.Prefix.String()], got.Route.Command(), got.Epoch)
		}
	}
}

func modelPrefix(i byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, i}), 32)
}

// holds says whether the model has what a route wants.
func (m *model) holds(r Route) bool {
	have := m.rib[r.Prefix.String()]
	return have == r.Command() || r.Withdraw && have == ""
}

// setTable wants something of some of four prefixes.
func (m *model) setTable() {
	if m.r.IntN(4) == 0 {
		m.table.Epoch++
	}
	m.table.Routes = nil
	for i := range byte(4) {
		r := Route{Prefix: modelPrefix(i)}
		switch m.r.IntN(4) {
		case 0:
			r.Withdraw = true
		case 1, 2:
			r.MED = uint32(100 * m.r.IntN(3))
		default:
			continue
		}
		m.table.Routes = append(m.table.Routes, r)
	}
	m.step(Told{Table: Table{Epoch: m.table.Epoch, Routes: slices.Clone(m.table.Routes)}})
}

// until lets the Writer and the model run.
func (m *model) until(t time.Time) {
	for steps := 0; ; steps++ {
		if steps > 100000 {
			m.t.Fatal("no end of steps")
		}
		if m.t.Failed() {
			return
		}
		next := t
		ours := !m.wake.IsZero() && m.wake.Before(next)
		if ours {
			next = m.wake
		}
		theirs := len(m.queue) > 0 && m.free.Before(next)
		switch {
		case theirs:
			m.now = latest(m.now, m.free)
			m.execute()
		case ours:
			m.now = latest(m.now, m.wake)
			m.step(Tick{})
		default:
			m.now = t
			return
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// execute carries out one command and answers it.
func (m *model) execute() {
	command := m.queue[0]
	m.queue = m.queue[1:]
	m.free = m.now.Add(time.Millisecond)
	if !m.calm {
		m.free = m.now.Add(time.Duration(m.r.Int64N(int64(m.slow))))
		if m.r.Float64() < m.stop && m.w.settled { // who stands still at our start is taken for 3.4
			m.free = m.now.Add(time.Duration(m.r.IntN(20)) * time.Second)
		}
	}
	fault := func(p float64) bool { return !m.calm && m.r.Float64() < p }
	words := strings.Fields(command)
	switch {
	case command == querySummary:
		m.say("Peer            AS        up/down state       |     #sent     #recvd")
		m.say("192.0.2.2       65002     0:00:13 established           8          2")
		m.reply("done")
	case command == queryRoutes && fault(m.refuse):
		m.reply("error")
	case command == queryRoutes:
		m.list(fault)
		if !fault(m.lose) {
			m.reply("done")
		}
	case command == queryConfiguration:
		m.say("neighbor 192.0.2.2 {")
		m.say(fmt.Sprintf("  adj-rib-out %t;", !m.noList))
		m.reply("done")
	case command == queryStatus:
		m.say("please specify summary, extensive or configuration")
		m.reply("done")
	case command == "":
		m.reply("done")
	case fault(m.refuse):
		m.reply("error")
	default:
		several := m.w.many // until it knows that there is one neighbor only, it writes withdraws of all that it announced once
		if words[0] == "withdraw" && !strings.HasPrefix(m.rib[words[2]], "announce") && m.faultless() && !several {
			m.t.Errorf("%q is not needed", command)
		}
		m.rib[words[2]] = command
		if !fault(m.lose) {
			m.reply("done")
		}
	}
}

// list says which routes there are.
func (m *model) list(fault func(float64) bool) {
	for _, prefix := range slices.Sorted(maps.Keys(m.rib)) {
		if !strings.HasPrefix(m.rib[prefix], "announce") || m.noList {
			continue
		}
		if fault(m.garble) {
			prefix = strings.ReplaceAll(prefix, "/", " /")
		}
		m.say(heldLine(prefix))
	}
}

func (m *model) reply(line string) {
	if !m.silent {
		m.say(line)
	}
}

func (m *model) say(line string) { m.step(Heard{Verdict: Decode([]byte(line))}) }

func (m *model) step(in Input) {
	out := m.w.Step(m.now, in)
	m.wake = out.Wake
	m.note("%T %+v -> %q wake %s", in, in, out.Write, out.Wake.Sub(epochStart))
	for _, ev := range out.Events {
		m.note("! %s", describe(ev))
		switch ev := ev.(type) {
		case RouteAccepted:
			m.await = false
			m.got[ev.Route.Prefix] = ev
			if !m.silent && !m.holds(ev.Route) {
				m.t.Errorf("%q is said to be accepted, the model has %q", ev.Route.Command(), m.rib[ev.Route.Prefix.String()])
			}
		case RouteRefused:
			m.await = false
			delete(m.got, ev.Route.Prefix)
		}
	}
	if out.Write == nil {
		return
	}
	for line := range strings.Lines(string(out.Write)) {
		m.read(strings.TrimSuffix(line, "\n"))
	}
	m.step(Written{})
}

// read takes a command in. 4.2 and 5.0 answer what they do not know at once.
func (m *model) read(command string) {
	if command == "" && !m.inline {
		m.reply("error")
		return
	}
	if strings.Contains(command, " route ") {
		if m.await {
			m.t.Errorf("%q before the reply to the one before", command)
		}
		m.await = true
	}
	m.queue = append(m.queue, command)
}

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%-10s ", m.now.Sub(epochStart))+fmt.Sprintf(format, args...))
}
