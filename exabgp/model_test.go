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
// and answers slowly, while tables come at random; it may hold routes of a predecessor, and may not tell which. It speaks the
// language of 4.2 or API 6, which the Writer is told or has to find out, and has one neighbor or two. At every
// step: one command in flight where there are replies, what is reported as accepted is what the model holds, and API 6 is
// given no command for a neighbor that it does not have. Without faults no withdraw is written of what it does not hold. When
// the faults stop, the newest table is what it holds within a time.
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
	api6   bool          // what it speaks
	events bool          // it says a word that tells which version it is
	peers  byte          // neighbors: 192.0.2.2 and so on
	single bool          // routes are for single neighbors, some of which it does not have, and have path identifiers
	garble float64       // lines of the list of routes
	hands  bool          // when the faults have stopped, somebody gives it commands by hand
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
	wake  time.Time      // the Writer's
	free  time.Time      // when the model takes its next command
	queue []string       // commands read and not carried out
	rib   map[key]string // the last command for each, without its target
	table Table
	got   map[key]RouteAccepted
	await bool // a route command was written and neither accepted nor refused
	calm  bool // no faults any more
	trace []string
}

func newModel(t *testing.T, seed uint64) *model {
	r := rand.New(rand.NewPCG(seed, 0))
	m := &model{t: t, r: r, w: NewWriter(Options{Track: r.IntN(2) == 0}), now: epochStart, free: epochStart,
		rib: map[key]string{}, got: map[key]RouteAccepted{}}
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
	m.api6, m.events, m.single, m.peers = r.IntN(3) == 0, r.IntN(2) == 0, r.IntN(3) == 0, byte(1+r.IntN(2))
	m.inline = m.inline || m.api6
	opt := Options{Track: m.w.opt.Track}
	if r.IntN(2) == 0 {
		opt.DriftCheck, m.hands = 4*time.Second, !m.silent && !m.noList
	}
	m.w = NewWriter(opt)
	if r.IntN(2) == 0 {
		opt.Dialect = map[bool]Dialect{true: Dialect6, false: Dialect42}[m.api6]
		m.w = NewWriter(opt)
	} else if m.api6 && m.silent {
		m.events = true // a new process that is told nothing can not know
	}
	for i := range byte(4) {
		if route := (Route{Prefix: modelPrefix(i), MED: uint32(100 * r.IntN(3))}); r.IntN(2) == 0 {
			m.put(route.Command())
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
	if m.events {
		m.say(fmt.Sprintf(`{"exabgp": "%s", "type": "open"}`, map[bool]string{true: "6.0.0", false: "4.0.1"}[m.api6]))
	}
	for range 40 {
		m.setTable()
		m.until(m.now.Add(time.Duration(m.r.IntN(3000)) * time.Millisecond))
	}
	m.calm = true
	for i := range m.peers {
		if m.hands {
			m.say(upLine(modelPeer(2 + i)))
		}
	}
	m.until(m.now.Add(3 * time.Minute)) // more than the longest pause, and then some
	m.settled()
	for i := 0; i < 10 && m.hands && !m.t.Failed(); i++ {
		m.byHand()
		m.until(m.now.Add(5 * time.Second))
		m.settled()
	}
}

// byHand is a command that the Writer does not know of: for a route that it has something to say about, or for another one.
func (m *model) byHand() {
	r := Route{Prefix: modelPrefix(byte(m.r.IntN(5))), MED: 7, Withdraw: m.r.IntN(2) == 0}
	if len(m.table.Routes) > 0 {
		one := m.table.Routes[m.r.IntN(len(m.table.Routes))]
		r.Prefix, r.PathID, r.Neighbor = one.Prefix, one.PathID, one.Neighbor
		if m.api6 { // which does not show attributes, nor whose path identifier a route has
			r.Withdraw = !one.Withdraw
			if r.PathID = 0; m.single {
				return
			}
		}
	}
	if !r.Neighbor.IsValid() && m.r.IntN(2) == 0 {
		r.Neighbor = modelPeer(2 + byte(m.r.IntN(int(m.peers))))
	}
	m.note("by hand: %s", r.Command())
	m.put(r.Command())
}

// settled wants the newest table in the model, and what nobody wants as it was.
func (m *model) settled() {
	if m.t.Failed() {
		return
	}
	for _, r := range m.table.Routes {
		got := m.got[r.key()]
		if len(m.targets(r.Neighbor)) == 0 {
			if got.Route == r && !r.Withdraw && !m.silent {
				m.t.Errorf("%q was accepted by nobody", r.Command())
			}
			continue
		}
		if !m.holds(r) || got.Route != r || got.Epoch != m.table.Epoch {
			m.t.Errorf("%v: wanted %q, epoch %d, the model has %v, accepted was %q, epoch %d",
				r.key(), r.Command(), m.table.Epoch, m.rib, got.Route.Prefix, got.Epoch)
		}
	}
}

func modelPrefix(i byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, i}), 32)
}

func modelPeer(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }

// targets are the neighbors that a command for peer goes to.
func (m *model) targets(peer netip.Addr) []netip.Addr {
	var all []netip.Addr
	for i := range m.peers {
		if p := modelPeer(2 + i); !peer.IsValid() || p == peer {
			all = append(all, p)
		}
	}
	return all
}

// put carries out a route command. It is false where it is for nobody.
func (m *model) put(command string) bool {
	words := strings.Fields(command)
	var target netip.Addr
	if words[0] == "neighbor" || words[0] == "peer" {
		target, _ = netip.ParseAddr(words[1]) // * is none
		words = words[2:]
	}
	k := key{prefix: netip.MustParsePrefix(words[2])}
	if at := slices.Index(words, "path-information"); at > 0 {
		fmt.Sscan(words[at+1], &k.path)
	}
	targets := m.targets(target)
	for _, k.neighbor = range targets {
		m.rib[k] = strings.Join(words, " ")
	}
	return len(targets) > 0
}

// holds says whether the model has what a route wants.
func (m *model) holds(r Route) bool {
	k, want := r.key(), r
	want.Neighbor = netip.Addr{}
	for _, k.neighbor = range m.targets(r.Neighbor) {
		have := m.rib[k]
		if have != want.Command() && !(r.Withdraw && !strings.HasPrefix(have, "announce")) {
			return false
		}
	}
	return true
}

// setTable wants something of some of four prefixes.
func (m *model) setTable() {
	if m.r.IntN(4) == 0 {
		m.table.Epoch++
	}
	m.table.Routes = nil
	for i := range byte(4) {
		r := Route{Prefix: modelPrefix(i)}
		if m.single {
			r = Route{Prefix: modelPrefix(i / 2), PathID: uint32(i % 2 * 7)}
			if m.r.IntN(3) > 0 {
				for n := range byte(3) {
					r.Neighbor = modelPeer(2 + n)
					m.wish(r)
				}
				continue
			}
		}
		m.wish(r)
	}
	m.step(Told{Table: Table{Epoch: m.table.Epoch, Routes: slices.Clone(m.table.Routes)}})
}

// wish wants something of a route, or nothing.
func (m *model) wish(r Route) {
	switch m.r.IntN(4) {
	case 0:
		r.Withdraw = true
	case 1, 2:
		r.MED = uint32(100 * m.r.IntN(3))
	default:
		return
	}
	m.table.Routes = append(m.table.Routes, r)
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
	lang := Dialect42
	if m.api6 {
		lang = Dialect6
	}
	switch {
	case command == queryPeers && m.api6:
		var rows []string
		for _, p := range m.targets(netip.Addr{}) {
			rows = append(rows, fmt.Sprintf(`{"peer-address": "%s", "peer-as": 65002, "state": "ESTABLISHED"}`, p))
		}
		m.say("[" + strings.Join(rows, ", ") + "]")
		m.reply("done")
	case command == querySummary && !m.api6:
		m.say("Peer            AS        up/down state       |     #sent     #recvd")
		for _, p := range m.targets(netip.Addr{}) {
			m.say(p.String() + "       65002     0:00:13 established           8          2")
		}
		m.reply("done")
	case command == lang.routes() && fault(m.refuse):
		m.reply("error")
	case command == lang.routes():
		m.list(fault)
		if !fault(m.lose) {
			m.reply("done")
		}
	case command == lang.configuration():
		for range m.peers {
			m.say("neighbor 192.0.2.2 {")
			m.say(fmt.Sprintf("  adj-rib-out %t;", !m.noList))
		}
		m.reply("done")
	case command == queryStatus && !m.api6:
		m.say("please specify summary, extensive or configuration")
		m.reply("done")
	case command == "":
		m.reply("done")
	case !strings.Contains(command, " route "), strings.HasPrefix(command, "peer") != m.api6:
		m.reply("error")
	case fault(m.refuse):
		m.reply("error")
	default:
		m.change(command, fault(m.lose))
	}
}

func (m *model) change(command string, lost bool) {
	before := maps.Clone(m.rib)
	if !m.put(command) {
		if m.api6 {
			m.t.Errorf("%q goes to every neighbor", command)
		}
		m.reply("error")
		return
	}
	if strings.Contains(command, "withdraw") && m.faultless() && m.peers == 1 && !m.single && !m.w.many { // it writes withdraws of all that it announced once
		needed := false // until it knows that there is one neighbor only
		for k, now := range m.rib {
			needed = needed || strings.HasPrefix(now, "withdraw") && strings.HasPrefix(before[k], "announce")
		}
		if !needed {
			m.t.Errorf("%q is not needed", command)
		}
	}
	if !lost {
		m.reply("done")
	}
}

// list says which routes there are.
func (m *model) list(fault func(float64) bool) {
	held := slices.SortedFunc(maps.Keys(m.rib), func(a, b key) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for _, k := range held {
		if !strings.HasPrefix(m.rib[k], "announce") || m.noList {
			continue
		}
		prefix, attributes := k.prefix.String(), m.rib[k][strings.Index(m.rib[k], "next-hop"):]
		if at := strings.Index(attributes, " path-information"); at > 0 {
			attributes = attributes[:at] + attributes[strings.Index(attributes, " med"):]
		}
		if fault(m.garble) {
			prefix = strings.ReplaceAll(prefix, "/", " /")
		}
		if m.api6 {
			m.say(fmt.Sprintf(`{"%s": {"routes": [{"family": "ipv4 unicast", "prefix": "%s"}]}}`, k.neighbor, prefix))
			continue
		}
		if k.path != 0 {
			prefix += fmt.Sprintf(" path-information 0.0.0.%d", k.path)
		}
		m.say(fmt.Sprintf("neighbor %s local-ip 192.0.2.1 local-as 65001 peer-as 65002 router-id 192.0.2.1 family-allowed in-open ipv4 unicast %s %s", k.neighbor, prefix, attributes))
	}
}

func upLine(peer netip.Addr) string {
	return fmt.Sprintf(`{ "type": "state", "neighbor": { "address": { "local": "192.0.2.1", "peer": "%s" }, "state": "up" } }`, peer)
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
			m.got[ev.Route.key()] = ev
			if !m.silent && !m.holds(ev.Route) {
				m.t.Errorf("%q is said to be accepted, the model has %v", ev.Route.Command(), m.rib)
			}
		case RouteRefused:
			m.await = false
			delete(m.got, ev.Route.key())
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
