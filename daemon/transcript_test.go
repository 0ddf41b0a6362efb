package daemon

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"exazk/exabgp"
	"exazk/health"
	"exazk/link"
	"exazk/zkstate"
)

var update = flag.Bool("update", false, "rewrite the transcripts with what happens now; read the diff before committing")

const storyConfig = `
node = "node1"
[log]
syslog = false
[zookeeper]
hosts = ["zk:2181"]
[[service]]
name = "apex"
authoritative = ["10.20.255.1"]
backup_for = ["10.20.255.2", "10.20.255.3"]
[service.check]
command = "true"
`

// steadyEvents bring node1 into the steady state of a cluster of three; the event "steady" stands for them.
const steadyEvents = `
0s neighbors 172.16.1.6
0.1s zk connected
0.1s claims apex 10.20.255.2 10.20.255.3
0.1s maintenance apex absent
0.1s peers apex
0.4s health apex healthy
0.5s claims apex 10.20.255.1=own 10.20.255.2 10.20.255.3
2s tick
`

// TestTranscripts plays the stories in testdata. A story has the events that the core gets, each with its time, and all
// that changes in its decisions. ExaBGP acknowledges every command at once, unless the story says "acks off".
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			events, config := section(ar, "events"), section(ar, "config")
			if config == "" {
				config = storyConfig
			}
			got := playStory(t, config, events, section(ar, "reload"))
			if *update {
				setSection(ar, "want", got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := section(ar, "want"); got != want {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", ar.Comment, got, want)
			}
		})
	}
}

func section(ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func setSection(ar *txtar.Archive, name, text string) {
	for i := range ar.Files {
		if ar.Files[i].Name == name {
			ar.Files[i].Data = []byte(text)
			return
		}
	}
	ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(text)})
}

// story plays events against a core and writes down what changes.
type story struct {
	t     *testing.T
	core  *Core
	start time.Time
	now   time.Time
	last  Decision
	acks  bool
	table map[exabgp.Route]exabgp.Route // by key: written and acknowledged, for the diff that the real writer makes
	next  string                        // the configuration that a reload finds
	epoch uint64
	out   strings.Builder
}

func playStory(t *testing.T, config, events string, reload ...string) string {
	t.Helper()
	cfg, err := ParseConfig("story.toml", config)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &story{t: t, core: NewCore(cfg, Identity{Node: cfg.Node, Instance: "i1"}), start: start, now: start, acks: true, table: map[exabgp.Route]exabgp.Route{}, next: strings.Join(reload, "")}
	s.step("start", Tick{})
	if rest, ok := strings.CutPrefix(events, "2s steady\n"); ok {
		s.play(steadyEvents)
		s.out.Reset()
		fmt.Fprintln(&s.out, "2s     steady")
		events = rest
	}
	s.play(events)
	return s.out.String()
}

func (s *story) play(events string) {
	s.t.Helper()
	for line := range strings.Lines(events) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at, what, _ := strings.Cut(line, " ")
		d, err := time.ParseDuration(at)
		if err != nil {
			s.t.Fatalf("event %q: %v", line, err)
		}
		what = strings.TrimSpace(what)
		if what != "sleep" {
			s.ticksUntil(s.start.Add(d))
		}
		s.now = s.start.Add(d)
		s.event(what)
		if s.last.Exit != Stay {
			break
		}
	}
}

func (s *story) ticksUntil(until time.Time) {
	for s.last.Exit == Stay && s.last.Wake.Before(until) {
		if !s.last.Wake.After(s.now) {
			s.t.Fatalf("wake %v is not after now %v: the loop would spin", s.last.Wake, s.now)
		}
		s.now = s.last.Wake
		s.step("", Tick{})
	}
}

func (s *story) step(what string, ev Event) {
	d := s.core.Step(s.now, ev)
	changes := s.changes(d)
	if what != "" || len(changes) > 0 {
		if what == "" {
			what = "(time)"
		}
		fmt.Fprintf(&s.out, "%-6s %s\n", s.now.Sub(s.start), what)
	}
	for _, c := range changes {
		fmt.Fprintf(&s.out, "         %s\n", c)
	}
	s.last = d
	if s.acks {
		s.acknowledge(d)
	}
}

// acknowledge plays a quick ExaBGP: every command that the writer would write is accepted at once.
func (s *story) acknowledge(d Decision) {
	if d.Table.Epoch != s.epoch {
		s.epoch = d.Table.Epoch
		clear(s.table)
	}
	for _, r := range d.Table.Routes {
		if have, ok := s.table[key(r)]; !ok || have != r { // another Serial alone is answered without a command
			s.table[key(r)] = r
			s.step("", FromExaBGP{exabgp.RouteAccepted{Route: r, Epoch: d.Table.Epoch}})
			return // that step went on with the rest
		}
	}
}

func (s *story) changes(d Decision) []string {
	var out []string
	for _, v := range d.Why {
		same := func(w VIPVerdict) bool { return w.Service == v.Service && w.VIP == v.VIP && w.Verdict == v.Verdict }
		if !slices.ContainsFunc(s.last.Why, same) {
			detail := ""
			if v.Detail != "" {
				detail = ": " + v.Detail
			}
			out = append(out, fmt.Sprintf("%s %s%s", v.VIP, v.Verdict, detail))
		}
	}
	if d.Table.Epoch != s.last.Table.Epoch || !slices.Equal(d.Table.Routes, s.last.Table.Routes) {
		out = append(out, fmt.Sprintf("table %d: %s", d.Table.Epoch, renderRoutes(d.Table.Routes)))
	}
	for _, v := range d.Why {
		key := zkstate.ClaimKey{Service: v.Service, VIP: v.VIP}
		if w, ok := d.Want.Claims[key]; ok && w != s.last.Want.Claims[key] {
			out = append(out, fmt.Sprintf("claim %s: %s", v.VIP, w))
		}
	}
	for i, word := range []string{"maintenance", "failback"} {
		key := zkstate.FlagKey{Service: "apex", Flag: zkstate.Flag(i)}
		if data, ok := d.Want.Remove[key]; ok && s.last.Want.Remove[key] == nil {
			out = append(out, fmt.Sprintf("remove %s node %q", word, data))
		}
	}
	if d.Resync {
		out = append(out, "read ZooKeeper again")
	}
	if d.Exit != Stay {
		out = append(out, "exit: "+d.Exit.String())
	}
	return out
}

func renderRoutes(routes []exabgp.Route) string {
	var out []string
	for _, r := range routes {
		to := ""
		if r.Neighbor.IsValid() {
			to = " to " + r.Neighbor.String()
		}
		if r.Withdraw {
			out = append(out, "-"+r.Prefix.Addr().String()+to)
		} else {
			text := fmt.Sprintf("+%s med %d", r.Prefix.Addr(), r.MED)
			if r.ASPath != "" {
				text += " as-path " + r.ASPath
			}
			if r.Communities != "" {
				text += " community " + r.Communities
			}
			out = append(out, text+to)
		}
	}
	return strings.Join(out, ", ")
}

// event parses and plays one event of a story.
func (s *story) event(what string) {
	s.t.Helper()
	w := strings.Fields(what)
	if ev := s.parse(w); ev != nil {
		s.step(what, ev)
		return
	}
	switch w[0] {
	case "reload":
		cfg, err := ParseConfig("reload.toml", s.next)
		if err != nil {
			s.t.Fatal(err)
		}
		s.step(what, Reload{Config: cfg})
	case "acks":
		s.acks = w[1] == "on"
		s.step(what, Tick{})
	case "end":
	default:
		s.t.Fatalf("unknown event %q", what)
	}
}

func (s *story) parse(w []string) Event {
	switch w[0] {
	case "tick", "sleep":
		return Tick{}
	case "signal":
		return Stop{Signal: w[1]}
	case "health":
		state := map[string]health.State{"healthy": health.Healthy, "unhealthy": health.Unhealthy}[w[2]]
		result := health.Result{OK: state == health.Healthy, Output: strings.Join(w[3:], " ")}
		if why, timeout := strings.CutPrefix(result.Output, "timeout: "); timeout { // what a run says that does not come to its end
			result = health.Result{ExitCode: -1, TimedOut: true, Err: why}
		}
		return FromHealth{health.Changed{Service: w[1], State: state, Result: result}}
	case "neighbor":
		state := map[string]exabgp.NeighborState{"up": exabgp.NeighborUp, "down": exabgp.NeighborDown, "connected": exabgp.NeighborConnected}[w[2]]
		return FromExaBGP{exabgp.NeighborChanged{Neighbor: exabgp.Neighbor{Local: netip.MustParseAddr("172.16.1.1"), Peer: netip.MustParseAddr(w[1])}, State: state}}
	case "keepalive":
		return FromExaBGP{exabgp.NeighborHeard{Neighbor: exabgp.Neighbor{Local: netip.MustParseAddr("172.16.1.1"), Peer: netip.MustParseAddr(w[1])}}}
	case "neighbors":
		var l exabgp.NeighborsListed
		for _, a := range w[1:] {
			l.Established = append(l.Established, netip.MustParseAddr(a))
		}
		return FromExaBGP{l}
	case "no-tracking":
		return FromExaBGP{exabgp.TrackingUnavailable{}}
	case "events-missing":
		return FromExaBGP{exabgp.EventsMissing{}}
	case "accepted":
		for _, r := range s.last.Table.Routes {
			if r.Prefix.Addr().String() == w[1] {
				return FromExaBGP{exabgp.RouteAccepted{Route: r, Epoch: s.last.Table.Epoch}}
			}
		}
		s.t.Fatalf("accepted %s: it was not written", w[1])
	case "refused":
		for _, r := range s.last.Table.Routes {
			if r.Prefix.Addr().String() == w[1] {
				return FromExaBGP{exabgp.RouteRefused{Route: r, Epoch: s.last.Table.Epoch, Words: "error"}}
			}
		}
		s.t.Fatalf("refused %s: it was not written", w[1])
	case "link":
		prefix := map[string]string{"eth0": "172.16.1.1/29", "mgmt": "192.168.66.1/24"}[w[1]]
		return FromLink{link.Changed{Interface: w[1], Up: w[2] == "up", Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}}
	case "shutdown":
		return FromExaBGP{exabgp.ShuttingDown{}}
	case "gone":
		return FromExaBGP{exabgp.Gone{}}
	}
	return s.parseZooKeeper(w)
}

func (s *story) parseZooKeeper(w []string) Event {
	switch w[0] {
	case "zk":
		state := map[string]zkstate.State{"connecting": zkstate.Connecting, "connected": zkstate.Connected, "suspended": zkstate.Suspended, "lost": zkstate.Lost}[w[1]]
		return FromZooKeeper{zkstate.SessionChanged{State: state, ID: 1, Timeout: 10 * time.Second, AfterLoss: slices.Contains(w, "after-loss")}}
	case "claims":
		claims := map[string]zkstate.Claim{}
		began := s.now
		for _, item := range w[2:] {
			if item == "(late)" { // the request was sent before the process slept
				began = s.start
				continue
			}
			vip, holder, _ := strings.Cut(item, "=")
			claims[vip] = map[string]zkstate.Claim{
				"":         {Holder: zkstate.Foreign},
				"own":      {Holder: zkstate.Own, Node: "node1"},
				"ghost":    {Holder: zkstate.Ghost, Node: "node1"},
				"stranger": {Holder: zkstate.Foreign, Node: "node9", Detail: "claimed by node9"},
				"squatted": {Holder: zkstate.Squatted, Detail: "a persistent node is in its place"},
			}[holder]
		}
		return FromZooKeeper{zkstate.ClaimsRead{Service: w[1], Session: 1, Began: began, Claims: claims}}
	case "maintenance":
		return FromZooKeeper{zkstate.MaintenanceRead{Service: w[1], Began: s.now, Present: w[2] == "present", Data: []byte(strings.Join(w[3:], " "))}}
	case "failback":
		return FromZooKeeper{zkstate.FailbackRead{Service: w[1], Began: s.now, Present: w[2] == "present", Data: []byte("{}")}}
	case "peers": // peers apex node2:10.20.255.1,10.20.255.2 node3: node4!10.20.255.3 (as a last resort) node5~10.20.255.3 (drained) node6+10.20.255.3 (could) node7%10.20.255.3 (about to end) node8^10.20.255.3 (overlap) node8<10.20.255.3 (outranked) node9:10.20.255.3#2 (of rank 2, else 1)
		peers := map[string]zkstate.Status{}
		for _, item := range w[2:] {
			at := strings.IndexAny(item, ":!~+%^<")
			node, kind, vips := item[:at], item[at], item[at+1:]
			st := zkstate.Status{Node: node, LastResort: kind == '!', Health: "healthy"}
			if kind == '~' {
				st.Maintenance = PresencePresent.String()
			}
			for _, vip := range strings.Split(vips, ",") {
				vip, place, given := strings.Cut(vip, "#")
				rank, err := strconv.Atoi(place)
				if !given {
					rank = 1
				} else if err != nil {
					s.t.Fatalf("rank in %q: %v", item, err)
				}
				role := Backup
				if strings.TrimPrefix(node, "node") == strings.TrimPrefix(vip, "10.20.255.") {
					role = Authoritative
				}
				r := zkstate.StatusRoute{VIP: vip, Announced: vip != "" && kind != '+' && kind != '%', Role: role.String(), Rank: rank}
				if kind == '%' {
					r.Reason = string(ReasonStopping)
				}
				if kind == '^' {
					r.Reason = string(ReasonOverlap)
				}
				if kind == '<' {
					r.Reason = string(ReasonOutranked)
				}
				st.Routes = append(st.Routes, r)
			}
			peers[node] = st
		}
		return FromZooKeeper{zkstate.PeersRead{Service: w[1], Began: s.now, Peers: peers}}
	}
	return nil
}
