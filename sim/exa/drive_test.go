package exa

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/sim/vclock"
)

// driver is a process that is an exabgp.Writer with its two pipes. It wants one table, through all of its lives, and makes a
// new epoch of it at each session that comes up, as the daemon does.
type driver struct {
	clock *vclock.Clock
	table exabgp.Table
	pipes *Pipes
	w     *exabgp.Writer
	due   time.Time
	up    bool // some session, as far as it was told
	note  func(format string, args ...any)
	got   map[netip.Prefix]exabgp.RouteAccepted
	lives int
	taken int // commands of the writer
}

func newDriver(clock *vclock.Clock) *driver {
	return &driver{clock: clock, note: func(string, ...any) {}}
}

func (d *driver) Start(p *Pipes) {
	d.lives++
	d.pipes, d.w, d.up, d.due = p, exabgp.NewWriter(exabgp.Options{Track: true}), false, time.Time{}
	d.got = map[netip.Prefix]exabgp.RouteAccepted{}
	d.note("start")
	p.OnLine(func(in exabgp.Input) { d.note("< %v", in.(exabgp.Heard).Verdict); d.step(p, in) })
	p.OnEnd(func(err error) { d.note("end"); d.step(p, exabgp.Ended{Err: err}); d.Kill() })
	d.step(p, exabgp.Begin{})
	d.want(d.table)
}

func (d *driver) Kill() {
	d.note("killed")
	p := d.pipes
	d.pipes, d.w = nil, nil
	if p != nil {
		p.Exited()
	}
}

func (d *driver) want(t exabgp.Table) {
	d.table = t
	if d.pipes != nil {
		d.step(d.pipes, exabgp.Told{Table: t})
	}
}

func (d *driver) step(p *Pipes, in exabgp.Input) {
	if d.pipes != p {
		return
	}
	out := d.w.Step(d.clock.Now(), in)
	renew := false
	for _, ev := range out.Events {
		switch ev := ev.(type) {
		case exabgp.RouteAccepted:
			d.got[ev.Route.Prefix] = ev
		case exabgp.NeighborChanged:
			renew = renew || ev.State == exabgp.NeighborUp
		}
	}
	if out.Write != nil {
		d.taken++
		d.note("> %q", out.Write)
		p.Write(out.Write, func(err error) { d.step(p, exabgp.Written{Err: err}) })
	}
	if !out.Wake.IsZero() && out.Wake != d.due {
		d.due = out.Wake
		d.clock.At(out.Wake, func() {
			if d.pipes == p && d.due == d.clock.Now() {
				d.due = time.Time{}
				d.step(p, exabgp.Tick{})
			}
		})
	}
	if renew {
		d.table.Epoch++
		d.step(p, exabgp.Told{Table: d.table})
	}
}

func host(i byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, i}), 32) }

// storm is one ExaBGP with its Writer and its routers, to which everything happens.
type storm struct {
	t     *testing.T
	clock *vclock.Clock
	r     *rand.Rand
	d     *driver
	x     *ExaBGP
	tors  []*Tor
	cfg   Config
	trace []string
	// single has routes for single neighbors too, and one with a path identifier.
	single bool
}

func newStorm(t *testing.T, seed uint64) *storm {
	r := rand.New(rand.NewPCG(seed, 1))
	s := &storm{t: t, r: r, clock: vclock.New(begin.Add(time.Duration(r.Int64N(int64(time.Minute)))))}
	s.cfg = Config{Acks: r.IntN(4) > 0, Changes: r.IntN(4) > 0, Keepalives: r.IntN(2) == 0, HoldTime: time.Duration(3+r.IntN(7)) * time.Second, Memo: memo}
	if r.IntN(2) == 0 {
		s.cfg.Slow = time.Duration(r.Int64N(int64(300 * time.Millisecond)))
	}
	s.single = r.IntN(3) == 0
	if s.cfg.Acks && r.IntN(4) == 0 { // without replies nobody could know
		s.cfg.Lose = 0.05
	}
	s.d = newDriver(s.clock)
	s.d.note = s.note
	for i := range 1 + r.IntN(2) {
		s.cfg.Peers = append(s.cfg.Peers, testPeer(byte(i)))
		s.tors = append(s.tors, NewTor(s.clock, r, func(tor *Tor, p netip.Prefix) {
			route, ok := tor.Route(p)
			s.note("router %d: %s %t %d", i, p, ok, route.MED)
		}))
	}
	s.x = New(s.clock, r, s.cfg, s.d, s.tors)
	return s
}

func (s *storm) note(format string, args ...any) {
	s.trace = append(s.trace, s.clock.Now().Sub(begin).String()+" "+fmt.Sprintf(format, args...))
}

// table wants something else.
func (s *storm) table() {
	t := exabgp.Table{Epoch: s.d.table.Epoch}
	wish := func(r exabgp.Route) {
		switch s.r.IntN(3) {
		case 0:
			r.Withdraw = true
			t.Routes = append(t.Routes, r)
		case 1:
			r.MED = uint32(100 * s.r.IntN(3))
			t.Routes = append(t.Routes, r)
		}
	}
	for i := range byte(4) {
		r := exabgp.Route{Prefix: host(i)}
		if !s.single {
			wish(r)
			continue
		}
		if i == 3 {
			r.PathID = 7
		}
		if s.r.IntN(3) == 0 {
			wish(r)
			continue
		}
		for _, p := range s.cfg.Peers {
			r.Neighbor = p.Peer
			wish(r)
		}
	}
	s.note("table %+v", t)
	s.d.want(t)
}

// fault does something to somebody.
func (s *storm) fault() {
	tor := s.tors[s.r.IntN(len(s.tors))]
	switch n := s.r.IntN(20); {
	case n < 8:
		s.table()
	case n < 10:
		up := s.r.IntN(2) == 0
		s.note("link %t", up)
		tor.Link(up)
	case n < 12:
		way := Way(s.r.IntN(4))
		s.note("silence %d", way)
		tor.Silence(way)
	case n == 12:
		s.note("reset")
		tor.Reset()
	case n == 13:
		s.note("freeze")
		s.x.Freeze()
	case n == 14:
		s.note("thaw")
		s.x.Thaw()
	case n == 15 && s.d.pipes != nil:
		s.note("the process stops")
		s.d.pipes.Stop()
	case n == 16 && s.d.pipes != nil:
		s.note("the process goes on")
		s.d.pipes.Resume()
	case n == 17:
		s.d.Kill()
	case n == 18 && s.r.IntN(3) == 0:
		s.note("SIGTERM")
		s.x.Term()
	case n == 19 && s.r.IntN(3) == 0:
		s.note("SIGKILL")
		s.x.Kill()
	}
}

// calm ends all faults.
func (s *storm) calm() {
	s.note("calm")
	for _, tor := range s.tors {
		tor.Link(true)
		tor.Silence(None)
	}
	s.x.Thaw()
	if s.d.pipes != nil {
		s.d.pipes.Resume()
	}
	s.x.cfg.Lose = 0
	s.x.Slow(0)
}

// pass lets time pass. An ExaBGP that ended is started again.
func (s *storm) pass(d time.Duration) {
	for end := s.clock.Now().Add(d); s.clock.Now().Before(end); {
		s.clock.Run(s.clock.Now().Add(min(time.Second, end.Sub(s.clock.Now()))))
		if !s.x.Running() {
			s.note("exabgp starts")
			s.x.Start()
		}
		s.check()
	}
}

// check looks for what must hold at every time: a router has no route that ExaBGP did not get a command for.
func (s *storm) check() {
	for i, tor := range s.tors {
		for _, route := range tor.Routes() {
			if tor.conn == nil || route.NextHop != s.cfg.Peers[i].Local {
				s.t.Errorf("router %d has %+v, its session is %t", i, route, tor.conn != nil)
			}
		}
	}
}

// wanted says what ExaBGP does not hold as the table wants it.
func (s *storm) wanted() string {
	for n, p := range s.cfg.Peers {
		rib := s.x.RIBOf(n)
		for _, r := range s.d.table.Routes {
			if r.Neighbor.IsValid() && r.Neighbor != p.Peer {
				continue
			}
			i := slices.IndexFunc(rib, func(have Route) bool { return have.Prefix == r.Prefix && have.PathID == r.PathID })
			if i >= 0 == r.Withdraw || i >= 0 && rib[i].MED != r.MED {
				return fmt.Sprintf("adj-rib-out of %s %v, table %+v", p.Peer, rib, s.d.table.Routes)
			}
		}
	}
	return ""
}

// reached says which router does not have what ExaBGP holds.
func (s *storm) reached() string {
	for i, tor := range s.tors {
		rib := s.x.RIBOf(i)
		for n := range rib {
			rib[n].NextHop, rib[n].PathID = s.cfg.Peers[i].Local, 0
		}
		if have := tor.Routes(); !slices.Equal(have, rib) {
			return fmt.Sprintf("router %d (session %t) has %v, adj-rib-out is %v", i, tor.Up(), have, rib)
		}
	}
	return ""
}

var seeds = flag.Uint64("seeds", 400, "run TestStorm with so many seeds")

// TestStorm drives a real Writer through random tables and faults of everything. Some time after they end, the newest table
// is what ExaBGP holds, and what it holds is what the routers have, where the Writer waits for replies.
func TestStorm(t *testing.T) {
	for seed := uint64(1); seed <= *seeds && !t.Failed(); seed++ {
		s := newStorm(t, seed)
		s.x.Start()
		for range 60 {
			s.pass(time.Duration(s.r.Int64N(int64(4 * time.Second))))
			s.fault()
		}
		s.calm()
		s.pass(5 * time.Minute)
		if fault := s.wanted(); fault != "" {
			t.Errorf("seed %d: %s", seed, fault)
		}
		for _, tor := range s.tors { // changes while a session was down may have changed places for good
			s.note("reset")
			tor.Reset()
		}
		s.pass(2 * time.Minute)
		if fault := s.wanted() + s.reached(); fault != "" {
			t.Errorf("seed %d: %s", seed, fault)
		}
		if t.Failed() {
			t.Logf("%+v\n%s", s.cfg, strings.Join(s.trace[max(0, len(s.trace)-1000):], "\n"))
		}
	}
}

// TestEqualSeeds plays storms twice and compares all that happened.
func TestEqualSeeds(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var traces [2][]string
		for i := range traces {
			s := newStorm(t, seed)
			s.x.Start()
			for range 40 {
				s.pass(time.Duration(s.r.Int64N(int64(4 * time.Second))))
				s.fault()
			}
			traces[i] = s.trace
		}
		if !slices.Equal(traces[0], traces[1]) || len(traces[0]) < 50 {
			t.Errorf("seed %d: two runs differ, of %d and %d lines", seed, len(traces[0]), len(traces[1]))
		}
	}
}

// BenchmarkIdle is 300 s of an ExaBGP with one neighbor, from its start, with a process that says nothing.
func BenchmarkIdle(b *testing.B) {
	for _, keepalives := range []bool{false, true} {
		b.Run(fmt.Sprintf("keepalives=%t", keepalives), func(b *testing.B) {
			b.ReportAllocs()
			memo := NewMemo()
			for i := range b.N {
				clock := vclock.New(begin)
				r := rand.New(rand.NewPCG(uint64(i), 0))
				cfg := Config{Acks: true, Changes: true, Keepalives: keepalives, HoldTime: 3 * time.Second, Peers: []Peer{testPeer(0)}, Memo: memo}
				x := New(clock, r, cfg, mute{}, []*Tor{NewTor(clock, r, nil)})
				x.Start()
				clock.Run(begin.Add(5 * time.Minute))
			}
		})
	}
}

type mute struct{}

func (mute) Start(p *Pipes) { p.OnLine(func(exabgp.Input) {}) }
func (mute) Kill()          {}

// BenchmarkWriter is the same with a Writer, which asks now and then, and a table that changes every ten seconds.
func BenchmarkWriter(b *testing.B) {
	b.ReportAllocs()
	memo := NewMemo()
	for i := range b.N {
		clock := vclock.New(begin)
		r := rand.New(rand.NewPCG(uint64(i), 0))
		d := newDriver(clock)
		cfg := Config{Acks: true, Changes: true, Keepalives: true, HoldTime: 3 * time.Second, Peers: []Peer{testPeer(0)}, Memo: memo}
		x := New(clock, r, cfg, d, []*Tor{NewTor(clock, r, nil)})
		x.Start()
		for n := range 30 {
			clock.Run(begin.Add(time.Duration(n) * 10 * time.Second))
			d.want(exabgp.Table{Epoch: d.table.Epoch, Routes: []exabgp.Route{{Prefix: host(1), MED: uint32(n % 2)}, {Prefix: host(2), Withdraw: n%2 == 0}}})
		}
	}
}
