package exabgp

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestQueryWithoutHeader has one query answered with nothing, or with an error: what is wanted afterwards is written all the
// same, in time.
func TestQueryWithoutHeader(t *testing.T) {
	for name, answer := range map[string][]string{"nothing": nil, "error": {"error"}} {
		t.Run(name, func(t *testing.T) {
			r := &rig{w: NewWriter(Options{Track: true}), now: epochStart}
			prefix := netip.MustParsePrefix("10.20.255.1/32")
			r.step(Begin{})
			r.step(Told{Table{Epoch: 1, Routes: []Route{{Prefix: prefix, MED: 100}}}})
			r.run(200 * time.Millisecond)
			r.once, r.odd = true, answer
			r.run(2 * time.Second)
			if r.once {
				t.Fatal("no query was written")
			}
			r.step(Told{Table{Epoch: 1, Routes: []Route{{Prefix: prefix, Withdraw: true, Serial: 1}}}})
			r.run(30 * time.Second)
			if !slices.Contains(r.written, "withdraw route 10.20.255.1/32\n") {
				t.Errorf("the withdraw was not written within 30 s: %q", r.written)
			}
		})
	}
}

// rig is an ExaBGP that answers every command at once, save one query for the sessions.
type rig struct {
	w       *Writer
	now     time.Time
	wake    time.Time
	written []string
	once    bool // the next query is answered with odd
	odd     []string
}

func (r *rig) step(in Input) {
	out := r.w.Step(r.now, in)
	r.wake = out.Wake
	if out.Write == nil {
		return
	}
	command := string(out.Write)
	r.written = append(r.written, command)
	r.step(Written{})
	for _, l := range r.answer(command) {
		r.now = r.now.Add(time.Millisecond)
		r.step(Heard{Decode([]byte(l))})
	}
}

func (r *rig) answer(command string) []string {
	list := []string{"Peer            AS        up/down state       |     #sent     #recvd", "172.16.1.6 65001 0:00:13 established 8 2", "done"}
	switch {
	case command == "\n"+querySummary+"\n":
		return append([]string{"error"}, list...)
	case command == querySummary+"\n" && r.once:
		r.once = false
		return r.odd
	case command == querySummary+"\n":
		return list
	}
	return []string{"done"}
}

func (r *rig) run(d time.Duration) {
	end := r.now.Add(d)
	for !r.wake.IsZero() && !r.wake.After(end) {
		if r.wake.After(r.now) {
			r.now = r.wake
		}
		r.step(Tick{})
	}
	r.now = end
}
