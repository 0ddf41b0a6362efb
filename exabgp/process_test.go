package exabgp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
)

// fake is an ExaBGP 4.2 at the other ends of a Process's pipes. It is strict: it fails the test on a byte that is not
// part of a command, on a command that does not wait for the reply to the one before, on an announce that it has already,
// and on a withdraw of what it does not have.
type fake struct {
	t       *testing.T
	silent  bool          // exabgp.api.ack = false
	latency time.Duration // before each answer
	peers   []string      // established

	toUs   *io.PipeReader // commands
	fromUs *io.PipeWriter // lines

	rib      map[string]string // the last command taken, by prefix
	commands []string          // route commands, in order
	owed     atomic.Int32      // commands without a reply

	serving sync.WaitGroup
	mu      sync.Mutex
	thaw    chan struct{} // closed while ExaBGP runs
}

// runs returns what is closed while ExaBGP runs.
func (f *fake) runs() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.thaw
}

func (f *fake) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thaw = make(chan struct{})
}

// pass lets time pass, and what happens in it.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// run is a test in a bubble: p runs against f, and body plays the outside.
type run struct {
	*fake
	p      *Process
	log    *bytes.Buffer
	events []Event
	block  chan struct{} // emit waits until it is closed; nil means it does not
	err    error         // of Run
	over   chan struct{} // closed when Run has returned
	cancel context.CancelCauseFunc
}

func inBubble(t *testing.T, opt Options, setup func(*run), body func(*run)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		r := &run{fake: &fake{t: t, latency: 2 * time.Millisecond, peers: []string{"192.0.2.2"}, toUs: outR, fromUs: inW,
			rib: map[string]string{}, thaw: make(chan struct{})}, log: &bytes.Buffer{}, over: make(chan struct{})}
		close(r.thaw)
		logger := logrus.New()
		logger.SetOutput(r.log)
		r.p = New(inR, outW, opt, logrus.NewEntry(logger))
		if setup != nil {
			setup(r)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		r.cancel = cancel
		r.serving.Go(r.serve)
		go func() {
			defer close(r.over)
			r.err = r.p.Run(ctx, r.emit)
		}()
		body(r)
		cancel(errors.New("test is over"))
		inW.Close() // ends our reader, which nobody waits for
		outR.Close()
		<-r.over
		r.serving.Wait()
	})
}

func (r *run) emit(ev Event) bool {
	if r.block != nil {
		<-r.block
	}
	r.events = append(r.events, ev)
	return true
}

// serve takes commands one by one and answers each a latency later, in order.
func (f *fake) serve() {
	answers := make(chan string, 1000)
	defer close(answers)
	f.serving.Go(func() {
		for answer := range answers {
			time.Sleep(f.latency)
			<-f.runs()
			f.owed.Add(-1)
			if _, err := io.WriteString(f.fromUs, answer); err != nil {
				return
			}
		}
	})
	in := bufio.NewReader(f.toUs)
	for {
		<-f.runs()
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if f.owed.Add(1) > 1 && !f.silent && line != querySummary+"\n" { // which follows the first newline at once
			f.t.Errorf("command %q before the reply to the one before", line)
		}
		answers <- f.answer(strings.TrimSuffix(line, "\n"))
	}
}

func (f *fake) answer(command string) string {
	done := "done\n"
	if f.silent {
		done = ""
	}
	words := strings.Fields(command)
	switch {
	case command == "":
		return strings.Replace(done, "done", "error", 1)
	case command == querySummary:
		var out strings.Builder
		out.WriteString("Peer            AS        up/down state       |     #sent     #recvd\n")
		for _, peer := range f.peers {
			fmt.Fprintf(&out, "%-15s %-7d %9s %-12s %10d %10d\n", peer, 65002, "0:00:13", "established", 8, 2)
		}
		return out.String() + done
	case command == queryRoutes:
		var out strings.Builder
		for _, prefix := range slices.Sorted(maps.Keys(f.rib)) {
			if strings.HasPrefix(f.rib[prefix], "announce") {
				out.WriteString(heldLine(prefix) + "\n")
			}
		}
		return out.String() + done
	case command == queryConfiguration:
		return "neighbor 192.0.2.2 {\n  adj-rib-in true;\n  adj-rib-out true;\n}\n" + done
	case command == queryStatus:
		return "please specify summary, extensive or configuration\n" + done
	case len(words) >= 3 && (words[0] == "announce" || words[0] == "withdraw") && words[1] == "route":
		f.commands = append(f.commands, command)
		if words[0] == "withdraw" && !strings.HasPrefix(f.rib[words[2]], "announce") && !f.silent {
			f.t.Errorf("%q of what is not there", command)
		}
		if f.rib[words[2]] == command {
			f.t.Errorf("%q again", command)
		}
		f.rib[words[2]] = command
		return done
	}
	f.t.Errorf("%q is no command", command)
	return done
}

func (f *fake) say(line string) {
	if _, err := io.WriteString(f.fromUs, line+"\n"); err != nil {
		f.t.Error(err)
	}
}

func heldLine(prefix string) string {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	return "neighbor 192.0.2.2 local-ip 192.0.2.1 local-as 65001 peer-as 65002 router-id 192.0.2.1 family-allowed in-open " +
		family + " unicast " + prefix + " next-hop self med 100"
}

func stateLine(peer, state string) string {
	return `{ "exabgp": "4.0.1", "type": "state", "neighbor": { "address": { "local": "192.0.2.1", "peer": "` + peer + `" }, "state": "` + state + `" } }`
}

func table(epoch uint64, med uint32, n int) Table {
	t := Table{Epoch: epoch}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{203, 0, byte(113 + i/256), byte(i)})
		t.Routes = append(t.Routes, Route{Prefix: netip.PrefixFrom(addr, 32), MED: med, Withdraw: med == 0})
	}
	return t
}

// kinds counts the events by their type.
func (r *run) kinds() map[string]int {
	n := map[string]int{}
	for _, ev := range r.events {
		n[strings.TrimPrefix(fmt.Sprintf("%T", ev), "exabgp.")]++
	}
	return n
}

func TestProcess(t *testing.T) {
	tracked := Options{Track: true}

	t.Run("writes a table and tells what became of it", func(t *testing.T) {
		inBubble(t, tracked, nil, func(r *run) {
			routes := table(1, 100, 300)
			r.p.Set(routes)
			routes.Routes[0].MED = 666 // it keeps a copy
			pass(3 * time.Second)
			if n := r.kinds(); n["RouteAccepted"] != 300 || len(r.rib) != 300 || n["RouteRefused"]+n["Gone"] != 0 {
				t.Errorf("%v, %d routes", n, len(r.rib))
			}
			if want := table(1, 100, 300).Routes[0].Command(); r.commands[0] != want {
				t.Errorf("first command %q, want %q", r.commands[0], want)
			}
			listed, ok := r.events[0].(NeighborsListed)
			if !ok || !slices.Equal(listed.Established, []netip.Addr{netip.MustParseAddr("192.0.2.2")}) {
				t.Errorf("first event %v", r.events[0])
			}
			r.p.Set(table(2, 0, 300))
			pass(3 * time.Second)
			if got := r.rib["203.0.113.7/32"]; got != "withdraw route 203.0.113.7/32" || len(r.rib) != 300 {
				t.Errorf("%q, %d routes", got, len(r.rib))
			}
		})
	})

	t.Run("a new process writes only what is needed", func(t *testing.T) {
		inBubble(t, Options{}, func(r *run) {
			r.rib["203.0.113.1/32"] = "announce route 203.0.113.1/32 next-hop self med 300" // of a predecessor
		}, func(r *run) {
			for epoch := range uint64(3) {
				r.p.Set(table(epoch, 0, 100))
				pass(2 * time.Second)
				if n := r.kinds(); n["RouteAccepted"] != 100*int(epoch+1) {
					t.Errorf("%v", n)
				}
			}
			if want := []string{"withdraw route 203.0.113.1/32"}; !slices.Equal(r.commands, want) {
				t.Errorf("commands %q, want %q", r.commands, want)
			}
		})
	})

	t.Run("without acknowledgements", func(t *testing.T) {
		inBubble(t, tracked, func(r *run) { r.silent = true }, func(r *run) {
			r.p.Set(table(1, 100, 50))
			pass(time.Second)
			if n := r.kinds(); n["RouteAccepted"] != 50 || len(r.rib) != 50 || n["NeighborsListed"] == 0 {
				t.Errorf("%v, %d routes", n, len(r.rib))
			}
		})
	})

	t.Run("a blocked emit delays neither reading nor writing", func(t *testing.T) {
		inBubble(t, tracked, func(r *run) { r.block = make(chan struct{}) }, func(r *run) {
			const flaps = 20000 // ten times what a pipe holds
			r.p.Set(table(1, 100, 10))
			start := time.Now()
			for i := range flaps {
				r.say(stateLine("192.0.2.3", []string{"up", "down"}[i%2]))
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("ExaBGP's pipe was full for %s", d)
			}
			pass(90 * time.Second) // several lists meanwhile
			if len(r.rib) != 10 || len(r.events) != 0 {
				t.Errorf("%d routes, %d events", len(r.rib), len(r.events))
			}
			close(r.block)
			synctest.Wait()
			n := r.kinds()
			if n["NeighborChanged"] != flaps || n["RouteAccepted"] != 10 {
				t.Errorf("%v", n)
			}
			if n["NeighborsListed"] > 3 {
				t.Errorf("lists were not put together: %v", n)
			}
			up := true
			for _, ev := range r.events {
				if ev, ok := ev.(NeighborChanged); ok {
					if (ev.State == NeighborUp) != up {
						t.Fatal("changes out of order")
					}
					up = !up
				}
			}
		})
	})

	t.Run("an ExaBGP that stands still gets the newest table when it wakes", func(t *testing.T) {
		inBubble(t, Options{}, nil, func(r *run) {
			pass(100 * time.Millisecond)
			r.freeze()
			r.p.Set(table(1, 100, 3)) // the fake is in its read: one command goes through
			pass(time.Second)
			start := time.Now()
			for med := range uint32(100) {
				r.p.Set(table(1, 200+med, 3))
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("Set took %s", d)
			}
			pass(time.Minute)
			if n := r.kinds(); n["RouteRefused"] == 0 || n["RouteAccepted"] != 0 {
				t.Errorf("while it stands: %v", n)
			}
			r.owed.Store(-10) // what the queries of that minute are owed
			close(r.thaw)
			pass(2 * time.Minute)
			for prefix, command := range r.rib {
				if !strings.HasSuffix(command, "med 299") {
					t.Errorf("%s: %q", prefix, command)
				}
			}
			if len(r.rib) != 3 || len(r.commands) > 4 {
				t.Errorf("%d routes, commands %q", len(r.rib), r.commands)
			}
		})
	})

	t.Run("stops although a write is stuck", func(t *testing.T) {
		inBubble(t, Options{}, func(r *run) { r.thaw = make(chan struct{}) }, func(r *run) {
			r.p.Set(table(1, 100, 1))
			pass(time.Second)
			cause := errors.New("enough")
			r.cancel(cause)
			<-r.over
			if !errors.Is(r.err, cause) {
				t.Errorf("Run returned %v", r.err)
			}
			close(r.thaw)
		})
	})

	t.Run("end of file", func(t *testing.T) {
		inBubble(t, tracked, nil, func(r *run) {
			pass(time.Second)
			r.say(stateLine("192.0.2.2", "down"))
			r.say(`{ "exabgp": "4.0.1", "type": "notification", "notification": "shutdown" }`)
			r.fromUs.Close()
			<-r.over
			var got []string
			for _, ev := range r.events[len(r.events)-3:] {
				got = append(got, describe(ev))
			}
			want := []string{`neighbor 192.0.2.2 local=192.0.2.1 state=1 ""`, "shuttingdown", "gone EOF"}
			if !slices.Equal(got, want) || !errors.Is(r.err, ErrGone) {
				t.Errorf("%v, events %q", r.err, got)
			}
		})
	})

	t.Run("broken output", func(t *testing.T) {
		inBubble(t, tracked, nil, func(r *run) {
			pass(100 * time.Millisecond)
			r.toUs.CloseWithError(io.ErrClosedPipe)
			r.p.Set(table(1, 100, 1))
			<-r.over
			gone, ok := r.events[len(r.events)-1].(Gone)
			if !ok || !errors.Is(gone.Err, io.ErrClosedPipe) || !errors.Is(r.err, ErrGone) {
				t.Errorf("%v, %v", r.err, r.events)
			}
		})
	})

	t.Run("events not wanted any more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			inR, inW := io.Pipe()
			log := logrus.New()
			log.SetOutput(io.Discard)
			p := New(inR, io.Discard, Options{Track: true, Interactive: true}, logrus.NewEntry(log))
			if err := p.Run(t.Context(), func(Event) bool { return false }); err == nil || errors.Is(err, ErrGone) {
				t.Errorf("Run returned %v", err)
			}
			inW.Close()
		})
	})

	t.Run("lines that can not be read", func(t *testing.T) {
		inBubble(t, Options{}, nil, func(r *run) {
			pass(100 * time.Millisecond)
			for range 1000 {
				r.say("{ \"exabgp\": \xff\x00 ")
			}
			r.say(strings.Repeat("x", 3<<20))
			r.say("")
			r.say("garbage")
			r.say(stateLine("192.0.2.2", "up"))
			pass(2 * time.Minute)
			r.say("{")
			synctest.Wait()
			if n := r.kinds(); n["NeighborChanged"] != 1 {
				t.Errorf("%v: what follows bad lines was not read", n)
			}
			if n := strings.Count(r.log.String(), "line from exabgp skipped"); n != 2 {
				t.Errorf("%d lines in the log, want 2:\n%s", n, r.log)
			}
			if !strings.Contains(r.log.String(), "lines=1001") {
				t.Errorf("they are not counted:\n%s", r.log)
			}
		})
	})

	t.Run("at a terminal", func(t *testing.T) {
		inBubble(t, Options{Interactive: true}, func(r *run) { r.silent = true }, func(r *run) {
			r.p.Set(table(1, 100, 2))
			pass(time.Minute)
			r.say("what is this?")
			if n := r.kinds(); n["RouteAccepted"] != 2 || len(r.commands) != 2 {
				t.Errorf("%v, commands %q", n, r.commands)
			}
			r.fromUs.Close() // ctrl-D
			<-r.over
			if !errors.Is(r.err, ErrGone) {
				t.Errorf("Run returned %v", r.err)
			}
		})
	})
}
