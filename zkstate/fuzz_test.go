package zkstate

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzZNodes puts any data into the znodes that a Machine reads. It must never panic nor go on for ever, never remove what is
// not this node's, and tell what is there: a claim is a ghost only where it is ephemeral and names this node, a long or
// unreadable flag is there and says nothing, and a record counts only where it names the node that its path does.
func FuzzZNodes(f *testing.F) {
	for how, data := range []string{
		"", `{"node":"n1","instance":"i0","since":"2026-01-01T00:00:00Z"}`, `{"node":"n1","instance":"i1"}`, `{"node":"n2","instance":"i9"}`,
		`{"NODE":"n1"}`, `{"node":"n1","node":"n2"}`, `{"node":1}`, "null", "[]", "{", "\xff\x00", `{"node":"\ud800n1"}`,
		`{"node":"n2","instance":"i9","health":"healthy","routes":[{"vip":"192.0.2.1","announced":true}],"neighbors":null,"later":1}`,
		`{"node":"n2","since":"never"}`, `{"node":"n2","hold_ms":1e99}`, `{"until":"2026-01-01T00:00:00Z"}`, string(bytes.Repeat([]byte("x"), maxFlag+1)),
	} {
		f.Add([]byte(data), []byte(data), []byte(data), byte(how))
		f.Add([]byte(data), []byte{}, []byte(`{"node":"n2"}`), byte(0xff-how))
	}
	f.Fuzz(func(t *testing.T, claim, flag, record []byte, how byte) {
		newZNodes(claim, flag, record, how).run(t)
	})
}

// znodes is a Machine before a tree with given data.
type znodes struct {
	*player
	claim, flag, record []byte
	owner               int64 // of the claim
	wish                Wish
	denied              bool // to read the flags
	at                  time.Duration
}

// newZNodes takes the owner of the claim, the wish and a right from the bits of how.
func newZNodes(claim, flag, record []byte, how byte) *znodes {
	cfg := testConfig()
	cfg.Services[0].FailbackPath = "/x/failback/web/n1"
	z := &znodes{player: newPlayer(cfg), claim: claim, flag: flag, record: record}
	z.owner = []int64{0, 0x99, 0x99, 0x98}[how&3]
	z.wish = Wish(how >> 2 & 3 % 3)
	z.denied = how&0x10 != 0
	z.tree.put("/x/service/web/192.0.2.1", z.owner, string(claim))
	z.tree.put("/x/service/web/192.0.2.2", z.owner, string(claim))
	for _, p := range []string{"/x/maintenance/web/n1", "/x/failback/web/n1"} {
		z.tree.put(p, 0, string(flag))
		z.tree.deny["READ "+p] = z.denied
	}
	z.tree.put("/x/status/web/n1", 0x99, string(record))
	z.tree.put("/x/status/web/n2", 0x98, string(record))
	return z
}

// run lets the Machine read all, wish for something, and come to rest.
func (z *znodes) run(t *testing.T) {
	z.session, z.conn = 0x100, 1
	z.step(0, Tick{})
	z.settle(t, SessionUp{Conn: 1, ID: 0x100, Timeout: 4 * time.Second})
	if want := z.holder(); z.m.services[0].own[0].seen.Holder != want {
		t.Errorf("claim %q of %#x is %v, want %v", z.claim, z.owner, z.m.services[0].own[0].seen, want)
	}
	z.checkFlags(t)
	z.checkPeers(t)
	z.settle(t, SetWant{Want{
		Claims:   map[ClaimKey]Wish{{"web", "192.0.2.1"}: z.wish},
		Statuses: map[string]*Status{"web": {Node: "n1", Instance: "i1"}},
		Remove:   map[FlagKey][]byte{{"web", Maintenance}: z.flag, {"web", Failback}: []byte("other")},
	}})
	z.checkOutcome(t)
	for _, fault := range z.tree.faults {
		t.Error(fault)
	}
}

// settle gives an input and answers all that is asked, for two seconds.
func (z *znodes) settle(t *testing.T, in Input) {
	z.step(z.at, in)
	for range 10 {
		z.at += 200 * time.Millisecond
		if z.serve(z.at, 1000); len(z.sent) > 0 {
			t.Fatalf("no end of calls: %v", z.sent)
		}
	}
}

// holder is whose the claim is.
func (z *znodes) holder() Holder {
	var data struct{ Node, Instance string }
	if z.owner == 0 {
		return Squatted
	}
	if len(z.claim) <= maxRecord && json.Unmarshal(z.claim, &data) == nil && data.Node == "n1" {
		return Ghost
	}
	return Foreign
}

func (z *znodes) checkFlags(t *testing.T) {
	s := z.m.services[0]
	for _, f := range []Flag{Maintenance, Failback} {
		want := z.flag
		if z.denied || len(want) > maxFlag {
			want = nil
		}
		if _, present, data := s.flag(f); !present || !bytes.Equal(data, want) {
			t.Errorf("flag %d is there: %t, and says %q, want %q", f, present, data, want)
		}
	}
}

func (z *znodes) checkPeers(t *testing.T) {
	ev, ok := z.m.services[0].peers.result.(PeersRead)
	if _, own := ev.Peers["n1"]; !ok || own {
		t.Fatalf("peers %+v", ev)
	}
	var named struct{ Node string }
	st, there := ev.Peers["n2"]
	switch err := json.Unmarshal(z.record, &named); {
	case there && (err != nil || named.Node != "n2" || st.Node != "n2"):
		t.Errorf("record %q counts as n2's", z.record)
	case there && !utf8.Valid(mustJSON(st)):
		t.Errorf("record %q is passed on as %q", z.record, mustJSON(st))
	case !there && slices.Equal(z.record, []byte(`{"node":"n2"}`)):
		t.Errorf("record %q is left out", z.record)
	}
}

func (z *znodes) checkOutcome(t *testing.T) {
	own, other := z.tree.nodes["/x/service/web/192.0.2.1"], z.tree.nodes["/x/service/web/192.0.2.2"]
	if other == nil || other.stat.Owner != z.owner {
		t.Errorf("the claim of another node's VIP is %+v", other)
	}
	switch ghost := z.holder() == Ghost; {
	case ghost && z.wish == Hold && (own == nil || own.stat.Owner != z.session):
		t.Errorf("the ghost is not taken over: %+v", own)
	case ghost && z.wish == Release && own != nil:
		t.Errorf("the ghost stays: %+v", own)
	case (!ghost || z.wish == Leave) && (own == nil || own.stat.Owner != z.owner || !bytes.Equal(own.data, z.claim)):
		t.Errorf("claim %q of %#x became %+v", z.claim, z.owner, own)
	}
	if st := z.tree.nodes["/x/status/web/n1"]; st == nil || st.stat.Owner != z.session {
		t.Errorf("the own record is %+v", st)
	}
	maintenance, failback := z.tree.nodes["/x/maintenance/web/n1"], z.tree.nodes["/x/failback/web/n1"]
	if gone := !z.denied && len(z.flag) <= maxFlag; (maintenance == nil) != gone {
		t.Errorf("maintenance %q became %+v", z.flag, maintenance)
	}
	if (failback == nil) != (string(z.flag) == "other" && !z.denied) {
		t.Errorf("failback %q became %+v", z.flag, failback)
	}
}
