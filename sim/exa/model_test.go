package exa

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/sim/vclock"
)

// establishedModel makes a world with a session that is up, and waits so long after it.
func establishedModel(t *testing.T, seed uint64, wait time.Duration, with ...func(*Config)) *model {
	cfg := Config{Acks: true, Changes: true, HoldTime: 9 * time.Second, Peers: []Peer{testPeer(0)}}
	for _, f := range with {
		f(&cfg)
	}
	w := newModel(t, cfg, seed)
	w.x.Slow(0)
	w.start()
	w.until("a session", func() bool { return w.up() && (!cfg.Changes || slices.Contains(w.lines, "up")) })
	w.sleep(wait)
	return w
}

// when says how long it takes until ok, to a millisecond.
func (w *model) when(what string, ok func() bool) time.Duration {
	since := w.now()
	for ; !ok(); w.sleep(time.Millisecond) {
		if w.now().Sub(since) > 5*time.Minute {
			w.t.Fatalf("never: %s", what)
		}
	}
	return w.now().Sub(since)
}

func (w *model) count(line string) (n int) {
	for _, l := range w.lines {
		if l == line {
			n++
		}
	}
	return n
}

// TestPauses has the link gone for an hour. The pauses between two attempts grow as 4.2's do, and a session does not make them
// shorter.
func TestPauses(t *testing.T) {
	w := establishedModel(t, 1, time.Second)
	w.link(false)
	w.when("down", func() bool { return w.count("down") == 1 })
	for n, want := range []int{0, 1, 2, 3, 4, 5, 7, 9, 11, 14, 17, 21, 26, 32, 39, 47, 57, 60, 60} {
		got := w.when("down", func() bool { return w.count("down") == n+2 }) - arpFails
		if want := time.Duration(want) * time.Second; got < want || got > want+100*time.Millisecond {
			t.Errorf("pause %d is %s, want %s", n, got, want)
		}
	}
	w.link(true)
	w.when("up", func() bool { return w.count("up") == 2 })
	w.sleep(time.Minute)
	w.reset()
	if got := w.when("connected", func() bool { return w.up() }); got < time.Minute {
		t.Errorf("after a session the pause is %s", got)
	}
}

// TestHoldTimers bounds when each end gives up, over what stops what it hears.
func TestHoldTimers(t *testing.T) {
	const hold, interval = 9 * time.Second, 3 * time.Second
	early := hold*3/4 - interval // BIRD's timer runs out up to a quarter early, and the last message is up to an interval old
	bounds := map[string]struct {
		do                     func(w *model)
		tor, torMost, exa, max time.Duration
	}{
		"the link goes":                 {func(w *model) { w.link(false) }, 0, 0, hold - interval, hold + time.Second},
		"nothing gets through":          {func(w *model) { w.silence(Both) }, early, hold, hold - interval, hold + time.Second},
		"nothing gets to the router":    {func(w *model) { w.silence(ToTor) }, early, hold, early, hold + 10*time.Millisecond},
		"nothing gets to the host":      {func(w *model) { w.silence(ToHost) }, hold - interval, hold + interval, hold - interval, hold + time.Second},
		"ExaBGP stands still":           {func(w *model) { w.freeze() }, early, hold, -1, 0},
		"ExaBGP is killed in a silence": {func(w *model) { w.silence(Both); w.killExaBGP() }, early, hold, -1, 0},
		"ExaBGP is killed":              {func(w *model) { w.killExaBGP() }, 0, 10 * time.Millisecond, -1, 0},
	}
	for name, b := range bounds {
		t.Run(name, func(t *testing.T) {
			var least, most time.Duration
			for seed := uint64(1); seed <= 100; seed++ {
				w := establishedModel(t, seed, time.Duration(seed)*100*time.Millisecond)
				b.do(w)
				var tor, host time.Duration
				w.when("both ends give up", func() bool {
					if w.tor.conn != nil {
						tor += time.Millisecond
					}
					down := w.count("down") > 0 || b.exa < 0
					if !down {
						host += time.Millisecond
					}
					return w.tor.conn == nil && down
				})
				if tor < b.tor || tor > b.torMost+time.Millisecond || b.exa >= 0 && (host < b.exa || host > b.max+time.Millisecond) {
					t.Errorf("seed %d: the router gives up after %s, ExaBGP after %s", seed, tor, host)
				}
				if least == 0 || tor < least {
					least = tor
				}
				most = max(most, tor)
			}
			if b.torMost > time.Second && most-least < time.Second {
				t.Errorf("all seeds between %s and %s", least, most)
			}
		})
	}
}

// TestNagle has the acknowledgements lost. One packet gets to the router, be it a route or a keepalive, and no more.
func TestNagle(t *testing.T) {
	for _, wait := range []time.Duration{0, 3500 * time.Millisecond} { // for a keepalive
		w := establishedModel(t, 1, time.Second)
		w.silence(ToHost)
		w.sleep(wait)
		w.say(a(1, 100))
		w.sleep(500 * time.Millisecond)
		w.say(a(2, 100))
		w.sleep(500 * time.Millisecond)
		want := "203.0.113.1/32 192.0.2.1 100"
		if wait > 0 {
			want = ""
		}
		if got := w.routes(); got != want {
			t.Errorf("after %s: the router has %q", wait, got)
		}
		w.silence(None)
		since := w.when("both routes", func() bool { return len(w.tor.Routes()) == 2 })
		if since > 5*time.Second || w.count("down") > 0 {
			t.Errorf("after %s: %s until the router had both, lines %q", wait, since, w.lines)
		}
	}
}

// TestWholeSeconds: ExaBGP's hold timer looks at whole seconds of the clock.
func TestWholeSeconds(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w := establishedModel(t, seed, time.Duration(seed)*77*time.Millisecond)
		w.silence(Both)
		w.when("down", func() bool { return w.count("down") > 0 })
		if off := w.now().Sub(w.now().Truncate(time.Second)); off > 10*time.Millisecond {
			t.Errorf("seed %d: %s off", seed, off)
		}
	}
}

func TestJitter(t *testing.T) {
	tor := NewTor(nil, rand.New(rand.NewPCG(1, 1)), nil)
	least, most := time.Hour, time.Duration(0)
	for range 1000 {
		d := tor.jitter(8 * time.Second)
		least, most = min(least, d), max(most, d)
	}
	if least < 6*time.Second || least > 6100*time.Millisecond || most > 8*time.Second || most < 7900*time.Millisecond {
		t.Errorf("8 s are between %s and %s", least, most)
	}
}

// TestLateDown: an ExaBGP that stood still and hears nothing gives up as soon as it goes on, and one that finds something to
// read does not.
func TestLateDown(t *testing.T) {
	for _, way := range []Way{ToHost, None} {
		w := establishedModel(t, 1, time.Second)
		w.freeze()
		w.silence(way)
		w.sleep(15 * time.Second)
		w.thaw()
		w.sleep(50 * time.Millisecond)
		if got := w.count("down"); got != 1 { // told by the router in the second case
			t.Errorf("silence %d: %d times down", way, got)
		}
	}
	w := establishedModel(t, 1, time.Second)
	w.freeze()
	w.sleep(3500 * time.Millisecond) // less than the router waits
	w.silence(ToHost)
	w.thaw()
	if got := w.when("down", func() bool { return w.count("down") > 0 }); got < 9*time.Second {
		t.Errorf("what came while it stood still was read %s before the end", got)
	}
}

// TestReset: after the link was gone, the router's end of the session shows when TCP sends its last packet again, or when ExaBGP
// says something itself.
func TestReset(t *testing.T) {
	var soon int
	for seed := uint64(1); seed <= 50; seed++ {
		w := establishedModel(t, seed, time.Duration(seed)*200*time.Millisecond, func(c *Config) { c.HoldTime = 30 * time.Second })
		w.link(false)
		w.sleep(3500 * time.Millisecond)
		w.link(true)
		switch got := w.when("down", func() bool { return w.count("down") > 0 }) + 3500*time.Millisecond; {
		case got > 32*resend+10*time.Millisecond:
			t.Errorf("seed %d: after %s", seed, got)
		case got < 32*resend-10*time.Millisecond:
			soon++
		}
	}
	if soon < 5 || soon > 30 {
		t.Errorf("%d of 50 before TCP sent again", soon)
	}
}

// TestPace announces a thousand routes, which took 0.56 s with 4.2.21, and looks for packets that waited for an
// acknowledgement.
func TestPace(t *testing.T) {
	w := establishedModel(t, 1, time.Second)
	var burst strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&burst, "announce route 198.18.%d.%d/32 next-hop self med 1\n", i/250, i%250)
	}
	w.say(burst.String())
	if got := w.when("all routes", func() bool { return len(w.tor.Routes()) == 1000 }); got < 400*time.Millisecond || got > 800*time.Millisecond {
		t.Errorf("took %s", got)
	}
	late := 0
	for i := range byte(50) {
		w.sleep(time.Second)
		w.say(a(i, 1))
		w.sleep(10 * time.Millisecond)
		w.say(a(i+50, 1))
		if w.when("both", func() bool { return len(w.tor.Routes()) == 1002+2*int(i) }) > 10*time.Millisecond {
			late++
		}
	}
	if late < 10 || late > 40 {
		t.Errorf("%d of 50 waited", late)
	}
}

func TestResent(t *testing.T) {
	for now, want := range map[time.Duration]time.Duration{
		0: 208, time.Millisecond: 208, 208 * time.Millisecond: 208, 209 * time.Millisecond: 416, time.Second: 1664, 2 * time.Second: 3328,
	} {
		if got := resent(begin, begin.Add(now)).Sub(begin); got != want*time.Millisecond {
			t.Errorf("from %s on: %s", now, got)
		}
	}
}

// TestSlots kills the process often, but not in one slot of 64 s.
func TestSlots(t *testing.T) {
	w := establishedModel(t, 1, time.Second)
	for w.now().Unix()%64 != 0 {
		w.sleep(time.Second)
	}
	for n := range 20 {
		w.kill()
		w.until("a start", func() bool { return w.count(markStart) == n+2 })
		w.sleep(13 * time.Second)
	}
	if !w.running() {
		t.Fatal("ExaBGP ended")
	}
	for w.now().Unix()%64 != 0 {
		w.sleep(time.Second)
	}
	before := w.count(markStart)
	for w.running() {
		w.kill()
		w.sleep(500 * time.Millisecond)
	}
	if got := w.count(markStart) - before; got != startLimit+1 {
		t.Errorf("ended after %d starts", got)
	}
}

// TestWrites fills the pipe of an ExaBGP that stands still.
func TestWrites(t *testing.T) {
	w := establishedModel(t, 1, time.Second)
	w.freeze()
	var got []string
	write := func(name string, text string) {
		w.pipes.Write([]byte(text), func(err error) { got = append(got, fmt.Sprint(name, " ", err)) })
	}
	comment := "# " + strings.Repeat("x", 100-3) + "\n"
	write("some", strings.Repeat(comment, 650)) // 65000 of 65536 bytes
	write("most", strings.Repeat(comment, 6))   // not taken in part: it has less than PIPE_BUF
	write("one", comment)
	if len(got) > 0 {
		t.Error("told before the write returned")
	}
	w.sleep(time.Second)
	if want := []string{"some <nil>"}; !slices.Equal(got, want) {
		t.Errorf("while it stands still: %q", got)
	}
	w.stop()
	w.thaw()
	w.sleep(time.Second)
	if len(got) > 1 {
		t.Errorf("a process that is stopped was told %q", got)
	}
	w.resume()
	w.sleep(time.Second)
	if want := []string{"some <nil>", "most <nil>", "one <nil>"}; !slices.Equal(got, want) || w.count("done") != 657 {
		t.Errorf("%d replies, writes %q", w.count("done"), got)
	}

	got = nil
	pipes := w.pipes
	w.x.program = mute{} // which does not end with it
	pipes.OnEnd(func(err error) { got = append(got, "end "+err.Error()) })
	w.killExaBGP()
	pipes.Write([]byte("version\n"), func(err error) {
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write without a reader: %v", err)
		}
		got = append(got, "write")
	})
	w.sleep(time.Second)
	slices.Sort(got)
	if want := []string{"end EOF", "write"}; !slices.Equal(got, want) {
		t.Errorf("after the end: %q", got)
	}
}

// TestFullPipe stops the process until ExaBGP stands in its write: the pipe takes 64 KiB, and not a line is lost.
func TestFullPipe(t *testing.T) {
	w := establishedModel(t, 1, time.Second)
	w.stop()
	for range 100 {
		w.say(strings.Repeat("version\n", 100)) // 19 bytes each
		w.sleep(100 * time.Millisecond)
	}
	if got := w.pipes.size; !w.x.blocked || got > pipeSize || got < pipeSize-20 {
		t.Errorf("the pipe has %d bytes, blocked is %t", got, w.x.blocked)
	}
	w.when("the router gives up", func() bool { return !w.up() })
	w.resume()
	w.sleep(5 * time.Second)
	if got := w.count("done"); got != 10000 || w.x.blocked {
		t.Errorf("%d replies, blocked is %t", got, w.x.blocked)
	}
	w.when("the session is back", w.up)
}

// TestKeepalivesAfterAFreeze: what the kernel took in for ExaBGP is told late, and only what was sent.
func TestKeepalivesAfterAFreeze(t *testing.T) {
	w := establishedModel(t, 1, 10*time.Second, func(c *Config) { c.Keepalives = true })
	before := w.count("keepalive")
	w.freeze()
	w.sleep(6 * time.Second)
	if got := w.count("keepalive"); got != before {
		t.Errorf("%d keepalives while it stood still", got-before)
	}
	w.thaw()
	w.sleep(100 * time.Millisecond)
	if got := w.count("keepalive") - before; got < 2 || got > 3 {
		t.Errorf("%d keepalives after 6 s with one each 3 s or less", got)
	}
}

// TestWaitingLines: what is written before the process reads is not lost.
func TestWaitingLines(t *testing.T) {
	w := establishedModel(t, 1, time.Second)
	w.say(strings.Repeat(a(1, 100), 300))
	w.until("the first replies", func() bool { return w.count("done") > 0 })
	w.kill()
	w.sleep(5 * time.Second)
	start := slices.Index(w.lines[1:], markStart) + 1
	if got := len(w.lines) - start - 1; got < 10 || w.count("done") > 300 {
		t.Errorf("%d lines to the successor, %q", got, w.lines)
	}
}

// TestLose loses commands as a fault of the handler does: neither reply nor effect.
func TestLose(t *testing.T) {
	w := establishedModel(t, 1, time.Second, func(c *Config) { c.Lose = 0.5 })
	for i := range byte(100) {
		w.say(a(i, 1))
		w.sleep(20 * time.Millisecond)
	}
	n := len(w.x.RIB())
	if n < 30 || n > 70 || w.count("done") != n || w.count("error") > 0 || len(w.tor.Routes()) != n {
		t.Errorf("%d routes, %d replies, the router has %d", n, w.count("done"), len(w.tor.Routes()))
	}
}

func TestMisuse(t *testing.T) {
	clock, r := vclock.New(begin), rand.New(rand.NewPCG(1, 1))
	good := Config{HoldTime: 3 * time.Second, Peers: []Peer{testPeer(0)}}
	for name, f := range map[string]func(){
		"no router":     func() { New(clock, r, good, mute{}, nil) },
		"no hold time":  func() { New(clock, r, Config{Peers: good.Peers}, mute{}, []*Tor{NewTor(clock, r, nil)}) },
		"started twice": func() { x := New(clock, r, good, mute{}, []*Tor{NewTor(clock, r, nil)}); x.Start(); x.Start() },
		"not modelled":  func() { establishedModel(t, 1, 0).x.command("flush adj-rib out") },
		"with a selector": func() {
			w := establishedModel(t, 1, 0)
			w.say("neighbor 192.0.2.2 , neighbor 192.0.2.3 " + a(1, 1))
			w.sleep(time.Second)
		},
		"another question": func() { w := establishedModel(t, 1, 0); w.say("show neighbor extensive\n"); w.sleep(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "bug: ") {
					t.Errorf("recovered %s", got)
				}
			}()
			f()
		})
	}
}

// TestMemo fills it beyond its bound: lines are read as before.
func TestMemo(t *testing.T) {
	m := NewMemo()
	for i := range 3 * memoLimit {
		text := fmt.Sprintf("neighbor 192.0.2.2 family-allowed in-open ipv4 unicast 10.%d.%d.%d/32", i>>16, i>>8&255, i&255)
		if l := m.line(text); l.heard.(exabgp.Heard).Verdict.Kind != exabgp.Held || l.size != len(text)+1 {
			t.Fatalf("%q is %+v", text, l)
		}
	}
	if len(m.lines) > memoLimit {
		t.Errorf("%d lines are kept", len(m.lines))
	}
}
