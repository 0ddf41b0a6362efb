package exabgp

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzWriter gives a Writer any sequence of lines, ticks, tables and ends of writes, in any time. It must never panic, never
// have two route commands in flight, and never call a route accepted whose command was not written and answered.
//
// A program is a sequence of bytes, each with its operands behind it: see fuzzer.run. The seeds are the first moments with
// an ExaBGP that replies, one that does not, one of 3.4, and what goes wrong with each.
func FuzzWriter(f *testing.F) {
	greeting := "\x00\x02\x03\x01\x03\x0a\x03\x0b\x03\x00" // begin, written, error, header, a session, done
	held := "\x02\x03\x04\x03\x00\x02\x03\x05\x03\x00"     // written, a route is held, done, written, a list is kept, done
	for _, program := range []string{
		greeting,
		"\x01\x01\x01\x02" + greeting + held + "\x02\x03\x00\x01\x02\x02\x00\x02\x03\x00",
		"\x01\x01\x02\x00" + greeting + held + "\x02\x03\x01\x05\x05\x02\x03\x00",
		"\x01\x01\x07\x07" + greeting + held + "\x05\x04\x05\x02\x05\x05\x05\x05",
		"\x01\x01\x01\x01\x00\x02\x05\x02\x05\x02\x03\x0c\x03\x00\x02\x01\x00\x02\x02\x05\x05\x02",
		"\x01\x01\x01\x01\x00\x02\x05\x02\x05\x05\x02\x01\x00\x02\x02\x05\x02\x03\x0a\x03\x0a\x05",
		"\x01\x01\x01\x01" + greeting + "\x03\x06\x03\x07\x03\x08\x03\x09\x03\x00\x03\x00\x05\x05\x05",
		greeting + "\x01\x02\x05\x05\x06\x05\x03\x0e\x05",
		greeting + "\x01\x01\x04\x04\x02\x02\x03\x00\x01\x04\x00\x00\x07",
		"\x80\x01\x01\x01\x01\x02\x02\x01\x01\x02\x02\x01\x01\x01",
		"\x40\x01\x01\x01\x01" + greeting + held + "\x02\x03\x00",
	} {
		f.Add([]byte(program))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 2000 {
			return // nothing new comes so late
		}
		newFuzzer(t, program).run(program)
	})
}

// fuzzLines are what ExaBGP may say, by the operand of "heard".
var fuzzLines = [...]string{
	"done", "error", "error: no neighbor matches", "shutdown",
	heldLine("203.0.113.1/32"), "  adj-rib-out true;", "  adj-rib-out false;", heldLine("203.0.113.2/32"),
	stateText("up"), stateText("down"),
	"Peer            AS        up/down state       |     #sent     #recvd",
	"192.0.2.2       65002     0:00:13 established           8          2",
	"neighbor 192.0.2.2 local-ip 192.0.2.1 state Established",
	"192.0.2.3       None         down idle                  0          0",
	"any text", `{"type": "keepalive", "neighbor": {"address": {"peer": "192.0.2.2"}, "direction": "received"}}`,
	// From here on the operands are newer than the seeds that were found before.
	`{"exabgp": "6.0.0", "type": "open"}`, `{"exabgp": "4.0.1", "type": "open"}`, `{"exabgp": "3.4.8", "type": "open"}`,
	`[{"peer-address": "192.0.2.2", "state": "ESTABLISHED"}]`, `[{"peer-address": "192.0.2.2", "state": "IDLE"}, {"peer-address": "192.0.2.3", "state": "ESTABLISHED"}]`,
	`{"192.0.2.2": {"routes": [{"family": "ipv4 unicast", "prefix": "203.0.113.1/32"}]}}`,
	heldLine("203.0.113.1/32 path-information 0.0.0.7"), strings.ReplaceAll(heldLine("203.0.113.1/32"), "neighbor 192.0.2.2", "neighbor 192.0.2.3"),
	"please specify summary, extensive or configuration",
}

func stateText(state string) string {
	return `{"type": "state", "neighbor": {"address": {"local": "192.0.2.1", "peer": "192.0.2.2"}, "state": "` + state + `"}}`
}

// fuzzer drives one Writer and knows by itself what may be accepted.
type fuzzer struct {
	t       *testing.T
	w       *Writer
	now     time.Time
	wake    time.Time
	writing bool // an Output.Write has not come back
	ended   bool
	table   Table

	flight  *sentRoute    // the route command that was written, and neither answered nor given up
	certain map[key]known // what ExaBGP is known to hold
	listed  []HeldRoute   // routes that were told since they were asked for
	asked   bool          // the routes were asked for, and nothing but that was written since
}

type sentRoute struct {
	key
	command string // in 4.2's language, whatever was spoken
	blind   bool   // there are no replies
}

type known struct {
	command string
	epoch   uint64
}

func newFuzzer(t *testing.T, program []byte) *fuzzer {
	opt := Options{Track: true}
	if len(program) > 0 {
		opt = Options{Track: program[0]&0x40 == 0, Interactive: program[0]&0x80 != 0}
		if program[0]&0x20 != 0 {
			opt.DriftCheck = 4 * time.Second
		}
	}
	return &fuzzer{t: t, w: NewWriter(opt), now: epochStart, certain: map[key]known{}}
}

// run plays a program. The first operation is always Begin or a table, as the shell has it.
func (z *fuzzer) run(program []byte) {
	operand := func() byte {
		if len(program) == 0 {
			return 0
		}
		b := program[0]
		program = program[1:]
		return b
	}
	begun := false
	for len(program) > 0 && !z.ended {
		switch op := operand() & 0x3f % 9; {
		case op == 0 && !begun:
			begun = true
			z.step(Begin{})
		case op == 1:
			z.tell(operand(), operand())
		case !begun: // nothing happens before
		case op == 2 && z.writing:
			z.writing = false
			z.step(Written{})
		case op == 3:
			z.step(Heard{Verdict: Decode([]byte(fuzzLines[int(operand())%len(fuzzLines)]))})
		case op == 4:
			z.now = z.now.Add(time.Duration(operand()) * 20 * time.Millisecond)
			z.step(Tick{})
		case op == 5:
			z.sleep()
		case op == 6:
			z.step(Ended{Err: errors.New("EOF")})
		case op == 7 && z.writing:
			z.writing = false
			z.step(Written{Err: errors.New("broken pipe")})
		case op == 8: // any line
			n := min(int(operand()), len(program))
			z.step(Heard{Verdict: Decode(program[:n])})
			program = program[n:]
		}
	}
}

// tell wants of each of four routes what two bits of wishes say: nothing, a withdraw or an announce with one of two MEDs. They
// are of four prefixes or, by two bits of how, of one prefix and two path identifiers, neighbors or both.
func (z *fuzzer) tell(wishes, how byte) {
	if how&1 != 0 {
		z.table.Epoch++
	}
	z.table.Routes = nil
	for i := range byte(4) {
		r := Route{Prefix: modelPrefix(i + 1), Serial: uint64(how >> 1 & 3)}
		if split := how >> 3 & 3; split != 0 {
			r.Prefix = modelPrefix(1 + i/4)
			if split&1 != 0 {
				r.PathID = uint32(7 * (i & 1))
			}
			if split&2 != 0 {
				r.Neighbor = modelPeer(2 + i>>1&1)
			}
			if split != 3 && i>>(split&1)&1 != 0 { // would be the same route again
				continue
			}
		}
		switch wish := wishes >> (2 * i) & 3; wish {
		case 0:
			continue
		case 1:
			r.Withdraw = true
		default:
			r.MED = uint32(wish) * 100
		}
		z.table.Routes = append(z.table.Routes, r)
	}
	z.step(Told{Table: Table{Epoch: z.table.Epoch, Routes: slices.Clone(z.table.Routes)}})
}

// sleep lets the time pass until the Writer wants to be woken, and wakes it. It may not want that at once again and again.
func (z *fuzzer) sleep() {
	if z.wake.IsZero() {
		return
	}
	for range 4 {
		z.now = latest(z.now, z.wake)
		if z.step(Tick{}); z.ended || z.wake.IsZero() || z.wake.After(z.now) {
			return
		}
	}
	z.t.Fatalf("wakes without end in phase %d", z.w.phase)
}

func (z *fuzzer) step(in Input) {
	acks := z.w.acks
	if h, ok := in.(Heard); ok {
		z.listed = append(z.listed, h.Verdict.Routes...)
	}
	out := z.w.Step(z.now, in)
	z.wake = out.Wake
	for _, ev := range out.Events {
		z.event(in, acks, ev)
	}
	if out.Write != nil {
		z.wrote(string(out.Write))
	}
}

func (z *fuzzer) event(in Input, acks acks, ev Event) {
	if z.ended {
		z.t.Fatalf("%s after the end", describe(ev))
	}
	switch ev := ev.(type) {
	case RouteAccepted:
		z.accepted(in, acks, ev)
	case RouteRefused:
		if ev.Route.Neighbor.IsValid() && z.w.dialect == Dialect6 && strings.Contains(ev.Words, "remedy") && (z.flight == nil || z.flight.key != ev.Route.key()) {
			return // not written: it would have gone to others
		}
		if z.flight == nil || z.flight.command != ev.Route.Command() {
			z.t.Fatalf("%s without having been written", describe(ev))
		}
		z.flight = nil
	case ShuttingDown:
		z.flight = nil
	case Gone:
		z.ended = true
	}
}

// accepted looks for the reason why a route may be called accepted.
func (z *fuzzer) accepted(in Input, acks acks, ev RouteAccepted) {
	heard, _ := in.(Heard)
	_, written := in.(Written)
	done := heard.Verdict.Kind == Done
	command, id := ev.Route.Command(), ev.Route.key()
	busy := z.flight != nil && z.flight.meets(id)
	switch k := z.certain[id]; {
	case busy && z.flight.command == command && (done && acks == acksOn || written && z.flight.blind):
		z.flight = nil
	case !busy && k.command == command && k.epoch == ev.Epoch: // it stands; the wish is another one
	case !busy && ev.Route.Withdraw && done && acks == acksOn && z.asked && !slices.ContainsFunc(z.listed, id.is):
	default:
		z.t.Fatalf("%s after %+v; in flight %+v, known %+v, asked %t", describe(ev), in, z.flight, k, z.asked)
	}
	z.certain[id] = known{command, ev.Epoch}
}

func (z *fuzzer) wrote(text string) {
	switch {
	case z.writing:
		z.t.Fatalf("%q while a write is on its way", text)
	case !strings.HasSuffix(text, "\n"):
		z.t.Fatalf("%q is no line", text)
	case z.w.phase == closing:
		z.t.Fatalf("%q to an ExaBGP that shuts down", text)
	}
	z.writing = true
	switch command := strings.TrimSuffix(text, "\n"); command {
	case queryRoutes, queryRoutes6:
		z.asked, z.listed = false, nil
	case queryConfiguration, queryConfiguration6:
		z.asked = true // both questions
	default:
		z.asked = false
		if !strings.Contains(command, " route ") {
			z.flight = nil // given up: nothing is written before the answer to this query, or its absence, is known
			return
		}
		z.route(command)
	}
}

func (z *fuzzer) route(command string) {
	if z.flight != nil {
		z.t.Fatalf("%q while %q is in flight", command, z.flight.command)
	}
	i := slices.IndexFunc(z.table.Routes, func(r Route) bool { return z.w.dialect.Command(r) == command })
	if i < 0 {
		z.t.Fatalf("%q is not wanted", command)
	}
	r := z.table.Routes[i]
	if strings.HasPrefix(command, "peer 192") && !z.w.known[r.Neighbor] {
		z.t.Fatalf("%q would go to every neighbor", command)
	}
	z.flight = &sentRoute{r.key(), r.Command(), z.w.acks == acksOff}
	for id := range z.certain {
		if id.shadows(z.flight.key) {
			delete(z.certain, id)
		}
	}
}
