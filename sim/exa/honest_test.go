package exa

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/sim/vclock"
)

var (
	script = flag.String("script", "", "play only the scripts of TestHonest whose name contains this")
	update = flag.Bool("update", false, "rewrite testdata/honest with what came of the scripts with the real programs")
)

// TestHonest plays each script with the model, under a hundred seeds, and with ExaBGP 4.2.21 and BIRD. What the process hears
// and what the router holds must be the same in all of them, and lies in testdata/honest, written by the real programs. Times
// are compared by bounds, which the scripts give.
func TestHonest(t *testing.T) {
	for _, s := range scripts {
		if strings.Contains(s.name, *script) {
			t.Run("model/"+s.name, func(t *testing.T) {
				for seed := uint64(1); seed <= 100 && !t.Failed(); seed++ {
					s.compare(t, s.play(t, newModel(t, s.config(), seed)), fmt.Sprintf("seed %d", seed))
				}
			})
		}
	}
	t.Run("real", func(t *testing.T) {
		needReal(t)
		turn := make(chan struct{}, 12) // they wait most of the time
		var all sync.WaitGroup
		defer all.Wait()
		for _, s := range scripts {
			if strings.Contains(s.name, *script) {
				all.Go(func() {
					turn <- struct{}{}
					defer func() { <-turn }()
					t.Run(s.name, func(t *testing.T) { s.compare(t, s.play(t, newReal(t, s.config())), "real") })
				})
			}
		}
	})
}

// world is ExaBGP, a process that does what the script says, and a router.
type world interface {
	start()
	running() bool
	term()
	killExaBGP()
	freeze()
	thaw()

	say(text string) // of the process
	heard() []string // by all of its lives, with marks
	closeOutput()    // of the process
	kill()           // it
	stop()           // it
	resume()         // it
	link(up bool)    //
	silence(way Way) //
	reset()          // the session, by the router
	up() bool        // the session, as the router sees it
	routes() string  // of the router
	updates() int    // routes announced and withdrawn to the router in this session
	now() time.Time  //
	sleep(time.Duration)
	until(what string, ok func() bool) // fails the test after 30 s
}

// stage is a world with what a script needs.
type stage struct {
	world
	t    *testing.T
	text []string // what came of the script
	read int      // of what was heard

	session, alive bool // as of what was noted
}

// play runs a script and returns what is to be the same in all worlds.
func (s *honesty) play(t *testing.T, w world) string {
	st := &stage{world: w, t: t}
	w.start()
	st.until("the process starts", func() bool { return slices.Contains(w.heard(), markStart) })
	s.run(st)
	st.listen()
	return strings.Join(st.text, "\n")
}

func (s *honesty) compare(t *testing.T, got, by string) {
	file := filepath.Join("testdata", "honest", strings.ReplaceAll(s.name, " ", "-")+".txt")
	if *update && by == "real" {
		if err := os.WriteFile(file, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got+"\n" != string(want) {
		t.Errorf("%s: %v, got\n%s\nwant\n%s", by, err, got, want)
	}
}

func (s *honesty) config() Config {
	c := Config{Acks: true, Changes: true, HoldTime: 60 * time.Second, Peers: []Peer{testPeer(0)}}
	if s.with != nil {
		s.with(&c)
	}
	return c
}

// listen notes what was heard since the last time. How often ExaBGP tries to connect in vain is a matter of time: that, and
// every keepalive but the first, is left out.
func (s *stage) listen() {
	lines := s.heard()
	for _, line := range lines[s.read:] {
		switch {
		case line == "connected", line == "down" && !s.session, line == "keepalive" && s.alive:
			continue
		case line == "up", line == "down":
			s.session, s.alive = line == "up", false
		}
		s.alive = s.alive || line == "keepalive"
		s.text = append(s.text, "< "+line)
	}
	s.read = len(lines)
}

// forget leaves out what was heard and noted since.
func (s *stage) forget() {
	s.listen()
	s.text = nil
}

// note has something compared.
func (s *stage) note(format string, args ...any) {
	s.listen()
	s.text = append(s.text, fmt.Sprintf(format, args...))
}

// count is how many lines of a kind were heard so far.
func (s *stage) count(line string) (n int) {
	for _, l := range s.heard() {
		if l == line {
			n++
		}
	}
	return n
}

// ask writes a command and waits for so many more replies.
func (s *stage) ask(text string, replies int) {
	before := s.count("done") + s.count("error")
	s.say(text)
	s.until(fmt.Sprintf("%d replies to %q", replies, text), func() bool { return s.count("done")+s.count("error") >= before+replies })
}

// connect waits for the first session.
func (s *stage) connect() { s.await("up", 1) }

// await waits for the nth line of a kind.
func (s *stage) await(line string, n int) {
	s.until(fmt.Sprintf("line %d %q", n, line), func() bool { return s.count(line) >= n })
}

// has waits until the router has these routes, and notes them.
func (s *stage) has(routes string) {
	s.until(fmt.Sprintf("routes %q", routes), func() bool { return s.routes() == routes })
	s.note("router: %s", routes)
}

// settles waits until nothing more comes of what was done, and notes what the router has.
func (s *stage) settles() {
	s.sleep(300 * time.Millisecond)
	s.note("router: %s", s.routes())
}

// took checks that something took between low and high. Real programs, on a machine that does other things too, may take more.
func (s *stage) took(what string, since time.Time, low, high time.Duration) {
	if _, ok := s.world.(*real); ok {
		high += 2 * time.Second
	}
	if d := s.now().Sub(since); d < low || d > high {
		s.t.Errorf("%s: after %s, not between %s and %s", what, d, low, high)
	}
}

// describe is a verdict as it is compared.
func describe(v exabgp.Verdict) string {
	switch v.Kind {
	case exabgp.News:
		switch ev := v.Event.(type) {
		case exabgp.NeighborChanged:
			return ev.State.String()
		case exabgp.NeighborHeard:
			return "keepalive"
		case exabgp.ShuttingDown:
			return "shutdown"
		}
	case exabgp.Done:
		return "done"
	case exabgp.Refused:
		return "error"
	case exabgp.Session:
		return fmt.Sprintf("session %s %t", v.Sessions[0].Peer, v.Sessions[0].Up)
	case exabgp.Keeps:
		return fmt.Sprintf("keeps %t", v.Up)
	case exabgp.Held:
		r := v.Routes[0]
		if r.PathID != 0 {
			return fmt.Sprintf("held %s path %d", r.Prefix, r.PathID)
		}
		return "held " + r.Prefix.String()
	}
	return v.Kind.String()
}

// model is a world of the model.
type model struct {
	t     *testing.T
	clock *vclock.Clock
	x     *ExaBGP
	tor   *Tor
	pipes *Pipes
	lines []string
}

func newModel(t *testing.T, cfg Config, seed uint64) *model {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &model{t: t, clock: vclock.New(begin.Add(time.Duration(r.Int64N(int64(64 * time.Second)))))}
	if cfg.Memo = memo; r.IntN(2) == 0 {
		cfg.Slow = time.Duration(r.Int64N(int64(50 * time.Millisecond)))
	}
	w.tor = NewTor(w.clock, r, nil)
	w.x = New(w.clock, r, cfg, w, []*Tor{w.tor})
	return w
}

var memo = NewMemo()

func (w *model) Start(p *Pipes) {
	w.pipes = p
	w.lines = append(w.lines, markStart)
	p.OnLine(func(in exabgp.Input) { w.lines = append(w.lines, describe(in.(exabgp.Heard).Verdict)) })
	p.OnEnd(func(error) { w.lines = append(w.lines, markEnd); p.Exited() })
}

func (w *model) Kill() {
	w.lines = append(w.lines, markTerm)
	w.pipes.Exited()
}

func (w *model) start()                { w.x.Start() }
func (w *model) running() bool         { return w.x.Running() }
func (w *model) term()                 { w.x.Term() }
func (w *model) killExaBGP()           { w.x.Kill() }
func (w *model) freeze()               { w.x.Freeze() }
func (w *model) thaw()                 { w.x.Thaw() }
func (w *model) say(text string)       { w.pipes.Write([]byte(text), func(error) {}) }
func (w *model) heard() []string       { return w.lines }
func (w *model) closeOutput()          { w.pipes.Close() }
func (w *model) kill()                 { w.pipes.Exited() }
func (w *model) stop()                 { w.pipes.Stop() }
func (w *model) resume()               { w.pipes.Resume() }
func (w *model) link(up bool)          { w.tor.Link(up) }
func (w *model) silence(way Way)       { w.tor.Silence(way) }
func (w *model) reset()                { w.tor.Reset() }
func (w *model) up() bool              { return w.tor.Up() }
func (w *model) updates() int          { return w.tor.updates - w.tor.before }
func (w *model) now() time.Time        { return w.clock.Now() }
func (w *model) sleep(d time.Duration) { w.clock.Run(w.clock.Now().Add(d)) }

func (w *model) routes() string {
	var lines []string
	for _, r := range w.tor.Routes() {
		line := strings.TrimSpace(fmt.Sprintf("%s %s %d %s", r.Prefix, r.NextHop, r.MED, r.Communities))
		if !strings.Contains(r.ASPath, " ") { // what ExaBGP writes by itself has one
			r.ASPath = ""
		}
		for _, a := range []struct{ name, values string }{{"path", r.ASPath}, {"large", r.LargeCommunities}, {"ext", strings.ReplaceAll(r.ExtendedCommunities, "0x0002fde90000000", "target:65001:")}} {
			if a.values != "" {
				line += " " + a.name + " " + a.values
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

func (w *model) until(what string, ok func() bool) {
	for deadline := w.clock.Now().Add(30 * time.Second); !ok(); w.sleep(10 * time.Millisecond) {
		if w.clock.Now().After(deadline) {
			w.t.Fatalf("never: %s\nroutes %q\nsaid %q", what, w.routes(), w.lines)
		}
	}
}

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testPeer(i byte) Peer {
	return Peer{Local: netip.AddrFrom4([4]byte{192, 0, 2 + i, 1}), Peer: netip.AddrFrom4([4]byte{192, 0, 2 + i, 2})}
}
