package daemon

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

// FuzzZNodes lets a core read any status record of another node, and any word of an operator's. It must never panic; no
// record makes a healthy node that is not drained give up its own VIP, nor a sick one announce; a drain ends in time
// whatever the records say; and nothing that was read gets further than the note for people, in printable form.
func FuzzZNodes(f *testing.F) {
	for how, data := range []string{
		"", "kernel upgrade", `{"reason":"disk","who":"ann","until":"2000-01-01T00:00:03Z"}`, `{"until":"0000-01-01T00:00:00Z"}`, "null", "{}", "\x00\x1b[2J\xff",
		strings.Repeat("ä", 300), `{"reason":5}`, `{"node":"node2","routes":[{"vip":"10.20.255.1","announced":true}]}`,
		`{"node":"node2","routes":[{"vip":"10.20.255.1","role":"authoritative","announced":true},{"vip":"10.20.255.1"}],"last_resort":true}`,
		`{"node":"node2","maintenance":"present","routes":[{"vip":"10.20.255.2","announced":true,"reason":"draining"}]}`,
		`{"node":"node2","routes":[{"vip":"10.20.255.2\nannounce route 0.0.0.0/0","announced":true}],"neighbors":null}`,
	} {
		f.Add([]byte(data), []byte(data), byte(how))
		f.Add([]byte(`{"node":"node2","routes":[{"vip":"10.20.255.1","announced":true},{"vip":"10.20.255.2","announced":true}]}`), []byte(data), byte(how|0x80))
	}
	configs := make([]*Config, len(fuzzOptions))
	for i, options := range fuzzOptions {
		cfg, err := ParseConfig("fuzz.toml", strings.Replace(storyConfig, "[service.check]", options+"[service.check]", 1))
		if err != nil {
			f.Fatal(err)
		}
		configs[i] = cfg
	}
	f.Fuzz(func(t *testing.T, record, word []byte, how byte) {
		r := &reader{t: t, now: epoch, core: NewCore(configs[how&3], Identity{Node: "node1", Instance: "i1"})}
		r.play(record, word, how)
	})
}

var fuzzOptions = [4]string{"", "failback = \"manual\"\ndrain_style = \"gshut\"\n", "last_resort = true\n", "failback_delay = \"5s\"\n"}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// reader is a core whose ExaBGP acknowledges everything at once.
type reader struct {
	t    *testing.T
	core *Core
	now  time.Time
	last Decision
}

// play brings a node into the steady state and shows it what lies in ZooKeeper. Bits of how say what else happens.
func (r *reader) play(record, word []byte, how byte) {
	var st zkstate.Status
	peers := map[string]zkstate.Status{}
	if json.Unmarshal(record, &st) == nil {
		peers["node2"] = st
	}
	r.step(FromExaBGP{exabgp.NeighborsListed{Established: []netip.Addr{netip.MustParseAddr("172.16.1.6")}}})
	r.step(FromZooKeeper{zkstate.SessionChanged{State: zkstate.Connected, Timeout: 4 * time.Second}})
	r.step(FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Began: r.now, Claims: map[string]zkstate.Claim{"10.20.255.1": {Holder: zkstate.Own}, "10.20.255.3": {Holder: zkstate.Foreign}}}})
	r.step(FromZooKeeper{zkstate.MaintenanceRead{Service: "apex", Began: r.now}})
	r.step(FromZooKeeper{zkstate.PeersRead{Service: "apex", Began: r.now}})
	r.step(FromHealth{health.Changed{Service: "apex", State: health.Healthy}})
	r.pass(3 * time.Second)
	r.announces("10.20.255.1", true)

	r.step(FromZooKeeper{zkstate.PeersRead{Service: "apex", Began: r.now, Peers: peers}})
	if how&0x10 != 0 {
		r.step(FromZooKeeper{zkstate.FailbackRead{Service: "apex", Began: r.now, Present: true, Data: word}})
		r.removed(zkstate.Failback, word)
	}
	r.pass(3 * time.Second)
	r.announces("10.20.255.1", true)
	r.announces("10.20.255.2", true)

	if how&0x20 != 0 {
		r.step(FromHealth{health.Changed{Service: "apex", State: health.Unhealthy}})
		if how&3 != 2 {
			r.announces("", false)
		}
		r.pass(time.Second)
	}
	if how&0x40 != 0 {
		r.step(FromZooKeeper{zkstate.MaintenanceRead{Service: "apex", Began: r.now, Present: true, Data: word}})
		r.pass(11 * time.Second) // drain_timeout, and one more
		if f := ParseFlag(word); !f.over(r.now) {
			r.announces("", false)
		} else {
			r.removed(zkstate.Maintenance, word)
		}
	}
	if how&0x80 != 0 {
		r.step(Stop{})
		r.pass(stopBound + stopGrace)
		if r.last.Exit != Leave {
			r.t.Error("it does not end")
		}
	}
}

// pass lets time pass, as the loop does.
func (r *reader) pass(d time.Duration) {
	for end := r.now.Add(d); r.now.Before(end) && !r.t.Failed(); {
		r.now = r.last.Wake
		r.step(Tick{})
	}
}

// step gives an event, and then the acknowledgements of what follows.
func (r *reader) step(ev Event) {
	r.check(r.core.Step(r.now, ev))
	for _, route := range r.last.Table.Routes {
		r.check(r.core.Step(r.now, FromExaBGP{exabgp.RouteAccepted{Route: route, Epoch: r.last.Table.Epoch}}))
	}
}

func (r *reader) check(d Decision) {
	r.last = d
	if !d.Wake.After(r.now) {
		r.t.Fatalf("wakes at %v at once again", r.now)
	}
	for _, route := range d.Table.Routes {
		if r.core.advert(route) == nil || strings.ContainsAny(route.Command(), "\n;") {
			r.t.Errorf("route %q", route.Command())
		}
	}
	st := d.Want.Statuses["apex"]
	if _, err := json.Marshal(st); err != nil {
		r.t.Error(err)
	}
	texts := []string{st.Note}
	for _, route := range st.Routes {
		texts = append(texts, route.Detail)
	}
	for _, text := range texts {
		if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) || !utf8.ValidString(text) || len(text) > 3*maxNote {
			r.t.Errorf("note %q", text)
		}
	}
}

// announces fails where a VIP, or with "" any, is announced although it should not be, or the other way round.
func (r *reader) announces(vip string, want bool) {
	r.t.Helper()
	for _, why := range r.last.Why {
		if (vip == "" || why.VIP == vip) && (why.Action == Announce) != want {
			r.t.Errorf("%s: %s", why.VIP, why.Verdict)
		}
	}
}

// removed fails where an operator's word that has done its duty is not to be removed as it was read.
func (r *reader) removed(flag zkstate.Flag, word []byte) {
	r.t.Helper()
	if data, wished := r.last.Want.Remove[zkstate.FlagKey{Service: "apex", Flag: flag}]; !wished || string(data) != string(word) {
		r.t.Errorf("flag %d, %q, is to be removed: %t, as %q", flag, word, wished, data)
	}
}
