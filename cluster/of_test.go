package cluster

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"exazk/daemon"
	"exazk/zkstate"
)

const vip1, vip2 = "192.0.2.1", "192.0.2.2"

var (
	noon  = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	began = noon.Add(-time.Hour)
)

func ago(d time.Duration) zkstate.Stamp { return zkstate.StampOf(noon.Add(-d)) }

// play is a service of two nodes, each of which owns a VIP and backs the other's up, and all is well. Tests edit it.
type play struct {
	*Input
	*ServiceInput
}

func well() play {
	in := &Input{At: noon, ZooKeeper: "connected", Services: []ServiceInput{{
		Name: "web", VIPs: []string{vip1, vip2}, Records: map[string]zkstate.Status{}, Claims: map[string]Claim{}, Maintenance: map[string]Entry{},
	}}}
	s := play{in, &in.Services[0]}
	for i, vip := range s.VIPs {
		name := fmt.Sprintf("n%d", i+1)
		st := zkstate.Status{Node: name, Instance: "i" + name, Version: "v1", Since: began, Health: "healthy", Maintenance: "absent", HealthSince: ago(time.Hour),
			Neighbors: []zkstate.StatusNeighbor{{Peer: "198.51.100.1", State: "up"}}}
		for _, each := range s.VIPs {
			r := zkstate.StatusRoute{VIP: each, Verdict: "withdraw", Role: "backup", Reason: "claimed", Since: ago(time.Hour)}
			if each == vip {
				r = zkstate.StatusRoute{VIP: each, Verdict: "announce", Role: "authoritative", MED: 100, Reason: "authoritative", Announced: true, Claim: true, Own: true, Since: ago(time.Hour)}
			}
			st.Routes = append(st.Routes, r)
		}
		s.Records[name] = st
		s.Claims[vip] = Claim{Node: name, Instance: "i" + name, Since: began}
	}
	return s
}

// record edits a node's record.
func (s play) record(node string, edit func(*zkstate.Status)) {
	st := s.Records[node]
	st.Routes, st.Neighbors = slices.Clone(st.Routes), slices.Clone(st.Neighbors)
	edit(&st)
	s.Records[node] = st
}

// route edits what a node makes of a VIP.
func (s play) route(node, vip string, edit func(*zkstate.StatusRoute)) {
	s.record(node, func(st *zkstate.Status) {
		edit(&st.Routes[slices.IndexFunc(st.Routes, func(r zkstate.StatusRoute) bool { return r.VIP == vip })])
	})
}

// verdict replaces what a node makes of a VIP.
func (s play) verdict(node, vip, verdict, role, reason string) {
	s.route(node, vip, func(r *zkstate.StatusRoute) {
		r.Verdict, r.Role, r.Reason, r.Announced, r.Claim, r.MED, r.Since = verdict, role, reason, verdict == "announce", reason == "authoritative", 200, ago(time.Minute)
	})
	if s.Claims[vip].Node == node && reason != "authoritative" {
		delete(s.Claims, vip)
	}
}

// gone removes a node with its record and claims.
func (s play) gone(node string) {
	delete(s.Records, node)
	for vip, c := range s.Claims {
		if c.Node == node {
			delete(s.Claims, vip)
		}
	}
}

func (s play) view() View { return Of(*s.Input) }

// unwell is n1 with a check that fails, and n2 in its place.
func (s play) unwell() {
	s.record("n1", func(st *zkstate.Status) {
		st.Health, st.HealthSince, st.HealthDetail = "unhealthy", ago(time.Minute), "exit status 1: no database"
	})
	s.verdict("n1", vip1, "withdraw", "authoritative", "unhealthy")
	s.verdict("n1", vip2, "withdraw", "backup", "unhealthy")
	s.verdict("n2", vip1, "announce", "backup", "unclaimed")
}

// TestFindings has what is found of each state of a cluster, as "level word node vip".
func TestFindings(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(play)
		want []string
	}{
		"all is well":                             {func(play) {}, nil},
		"nodes that the configuration has":        {func(s play) { s.Nodes = []string{"n1", "n2"} }, nil},
		"the owner is back for less than overlap": {func(s play) { s.verdict("n2", vip1, "announce", "backup", "overlap") }, nil},
		"backups announce all the time":           {func(s play) { s.verdict("n2", vip1, "announce", "backup", "standby") }, nil},
		"no node's record tells of neighbors":     {func(s play) { s.record("n1", func(st *zkstate.Status) { st.Neighbors = nil }) }, nil},
		"a check fails":                           {play.unwell, []string{"degraded foreign-announcer n1 192.0.2.1", "degraded unhealthy n1 "}},
		"a check fails on both": {func(s play) {
			s.unwell()
			s.record("n2", func(st *zkstate.Status) { st.Health = "unhealthy" })
			s.verdict("n2", vip1, "withdraw", "backup", "unhealthy")
			s.verdict("n2", vip2, "withdraw", "authoritative", "unhealthy")
		}, []string{"down no-announcer  192.0.2.1", "down no-announcer  192.0.2.2", "degraded unhealthy n1 ", "degraded unhealthy n2 "}},
		"standby, and the owner is sick": {func(s play) {
			s.unwell()
			s.verdict("n2", vip1, "announce", "backup", "standby")
		}, []string{"degraded foreign-announcer n1 192.0.2.1", "degraded unhealthy n1 "}},
		"last resort": {func(s play) {
			s.unwell()
			s.verdict("n1", vip1, "announce", "authoritative", "last-resort")
			s.verdict("n2", vip1, "withdraw", "backup", "claimed")
		}, []string{"degraded last-resort n1 192.0.2.1", "degraded unhealthy n1 "}},
		"no verdict of the check yet": {func(s play) {
			s.record("n1", func(st *zkstate.Status) { st.Health = "unknown" })
			s.verdict("n1", vip1, "hold", "authoritative", "health-unknown")
		}, []string{"degraded unseen n1 192.0.2.1", "degraded unhealthy n1 "}},
		"drained": {func(s play) {
			s.record("n1", func(st *zkstate.Status) { st.Maintenance = "present" })
			s.verdict("n1", vip1, "withdraw", "authoritative", "maintenance")
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
		}, []string{"degraded foreign-announcer n1 192.0.2.1", "degraded maintenance n1 "}},
		"drained everywhere": {func(s play) {
			for _, n := range []string{"n1", "n2"} {
				s.Maintenance[n] = Entry{Since: began}
				s.record(n, func(st *zkstate.Status) { st.Maintenance = "present" })
				s.verdict(n, vip1, "withdraw", "backup", "maintenance")
				s.verdict(n, vip2, "withdraw", "backup", "maintenance")
			}
		}, []string{"down no-announcer  192.0.2.1", "down no-announcer  192.0.2.2", "degraded maintenance n1 ", "degraded maintenance n2 "}},
		"maintenance that is not obeyed":         {func(s play) { s.Maintenance["n1"] = Entry{} }, []string{"degraded maintenance n1 "}},
		"maintenance of a node without a record": {func(s play) { s.Maintenance["n9"] = Entry{} }, []string{"degraded maintenance n9 "}},
		"a node has gone": {func(s play) {
			s.gone("n1")
			s.Nodes = []string{"n1", "n2"}
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
		}, []string{"degraded foreign-announcer  192.0.2.1", "degraded absent n1 "}},
		"a node has gone, and the configuration has its VIP": {func(s play) {
			s.gone("n1")
			s.Nodes, s.Owners = []string{"n1", "n2"}, map[string]string{vip1: "n1"}
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
		}, []string{"degraded foreign-announcer n1 192.0.2.1", "degraded absent n1 "}},
		"a node has gone, and its history has its VIP": {func(s play) {
			s.gone("n1")
			s.Changes = []Change{{At: began, Node: "n1", Service: "web", What: "verdict", VIP: vip1, To: "announce", Role: "authoritative"}}
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
		}, []string{"degraded foreign-announcer n1 192.0.2.1", "degraded absent n1 "}},
		"all nodes have gone": {func(s play) {
			s.gone("n1")
			s.gone("n2")
		}, []string{"down no-announcer  192.0.2.1", "down no-announcer  192.0.2.2"}},
		"zookeeper has been emptied": {func(s play) {
			s.gone("n1")
			s.gone("n2")
			s.Void = true
		}, []string{"degraded unseen  192.0.2.1", "degraded unseen  192.0.2.2"}},
		"a node of the Python tool": {func(s play) {
			s.gone("n1")
			s.Claims[vip1] = Claim{}
		}, []string{"degraded unseen  192.0.2.1"}},
		"nodes of the Python tool alone": {func(s play) {
			s.gone("n1")
			s.gone("n2")
			s.Claims[vip1], s.Claims[vip2] = Claim{}, Claim{}
		}, []string{"degraded unseen  192.0.2.1", "degraded unseen  192.0.2.2"}},
		"a node claims and has no record": {func(s play) { delete(s.Records, "n1") }, []string{"degraded unseen  192.0.2.1", "degraded absent n1 "}},
		"a claim of a stranger": {func(s play) {
			s.verdict("n1", vip1, "withdraw", "backup", "conflict")
			s.Claims[vip1] = Claim{}
		}, []string{"degraded unseen  192.0.2.1", "degraded conflict n1 192.0.2.1"}},
		"a claim of a stranger, just now": {func(s play) {
			s.verdict("n1", vip1, "announce", "authoritative", "overlap")
			s.Claims[vip1] = Claim{}
		}, []string{"degraded conflict n1 192.0.2.1"}},
		"a persistent claim": {func(s play) {
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Claim = false })
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
			s.Claims[vip1] = Claim{Persistent: true}
		}, []string{"degraded conflict n1 192.0.2.1"}},
		"a persistent claim, and its owner is gone": {func(s play) {
			s.gone("n1")
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
			s.Claims[vip1] = Claim{Node: "n1", Persistent: true}
		}, []string{"degraded conflict  192.0.2.1", "degraded foreign-announcer  192.0.2.1"}},
		"two owners": {func(s play) {
			s.verdict("n2", vip1, "withdraw", "backup", "conflict")
		}, []string{"degraded conflict  192.0.2.1", "degraded conflict n2 192.0.2.1"}},
		"two processes of one name": {func(s play) {
			s.verdict("n1", vip1, "withdraw", "backup", "conflict")
			s.Claims[vip1] = Claim{Node: "n1", Instance: "another"}
		}, []string{"degraded unseen n1 192.0.2.1", "degraded twin n1 192.0.2.1"}},
		"two processes of one name, and the silent one has the record": {func(s play) {
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Announced, r.Claim = false, false })
			s.Claims[vip1] = Claim{Node: "n1", Instance: "another"}
		}, []string{"degraded unseen n1 192.0.2.1"}},
		"a persistent claim of a VIP that nobody has": {func(s play) {
			s.Claims["192.0.2.77"] = Claim{Persistent: true}
		}, []string{"degraded conflict  192.0.2.77"}},
		"no neighbor is up": {func(s play) {
			s.record("n1", func(st *zkstate.Status) { st.Neighbors[0].State = "link-down" })
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Announced, r.Claim, r.Unheard = false, false, true })
			delete(s.Claims, vip1)
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
		}, []string{"degraded foreign-announcer n1 192.0.2.1", "degraded neighbor n1 "}},
		"one of two neighbors is down": {func(s play) {
			s.record("n1", func(st *zkstate.Status) {
				st.Neighbors = append(st.Neighbors, zkstate.StatusNeighbor{Peer: "198.51.100.2", State: "silent"})
			})
		}, []string{"degraded neighbor n1 "}},
		"a route is refused": {func(s play) {
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Announced, r.Claim, r.Refused = false, false, true })
			delete(s.Claims, vip1)
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
		}, []string{"degraded refused n1 192.0.2.1", "degraded foreign-announcer n1 192.0.2.1"}},
		"drift": {func(s play) { s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Drift = true }) }, []string{"degraded drift n1 192.0.2.1"}},
		"a withdraw that was just asked for": {func(s play) {
			s.route("n2", vip1, func(r *zkstate.StatusRoute) { r.Pending, r.Since = true, ago(time.Second) })
		}, nil},
		"a withdraw that nobody answers": {func(s play) {
			s.route("n2", vip1, func(r *zkstate.StatusRoute) { r.Pending, r.Since = true, ago(time.Minute) })
		}, []string{"degraded pending n2 192.0.2.1"}},
		"the owner waits": {func(s play) {
			s.verdict("n1", vip1, "withdraw", "authoritative", "failback-manual")
			s.verdict("n2", vip1, "announce", "backup", "unclaimed")
		}, []string{"degraded foreign-announcer n1 192.0.2.1"}},
		"a backup goes on beside the owner": {func(s play) { s.verdict("n2", vip1, "announce", "backup", "claims-stale") },
			[]string{"degraded foreign-announcer n1 192.0.2.1"}},
		"the observer has lost ZooKeeper": {func(s play) { s.ZooKeeper = "lost" }, []string{"degraded zookeeper  "}},
		"a record of an older version": {func(s play) {
			for _, n := range []string{"n1", "n2"} {
				s.record(n, func(st *zkstate.Status) {
					st.HealthSince = ""
					for i := range st.Routes {
						st.Routes[i].Own, st.Routes[i].Since = false, ""
					}
				})
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := well()
			tt.edit(s)
			v := s.view()
			var got []string
			level := Nominal
			for _, f := range v.Services[0].Findings {
				got = append(got, fmt.Sprintf("%s %s %s %s", f.Level, f.Word, f.Node, f.VIP))
				level = max(level, f.Level)
				if f.Text == "" || strings.Contains(f.Text, "%!") || !slices.Contains(words, f.Word) {
					t.Errorf("finding %+v", f)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if v.Level != level || v.Services[0].Level != level {
				t.Errorf("levels %v, %v, want %v", v.Level, v.Services[0].Level, level)
			}
		})
	}
}

func TestPictureOfAVIP(t *testing.T) {
	s := well()
	s.unwell()
	v := s.view().Services[0].VIPs[0]
	if v.VIP != vip1 || v.Owner != "n1" || v.Claim != "" || !slices.Equal(v.Announcers, []string{"n2"}) || v.Level != Degraded || len(v.Routes) != 2 ||
		!v.Routes[0].Since.Equal(noon.Add(-time.Minute)) {
		t.Errorf("got %+v", v)
	}
}

// TestSinceOfTheRouteBefore: a record has it once where several routes share it.
func TestSinceOfTheRouteBefore(t *testing.T) {
	s := well()
	s.route("n1", vip2, func(r *zkstate.StatusRoute) { r.Since = "" })
	if got := s.view().Services[0].VIPs[1].Routes[0].Since; !got.Equal(began) {
		t.Errorf("got %v", got)
	}
}

// TestServicesAreApart: what is wrong with one says nothing of another.
func TestServicesAreApart(t *testing.T) {
	a, b := well(), well()
	b.unwell()
	b.ServiceInput.Name = "dns"
	v := Of(Input{At: noon, ZooKeeper: "connected", Services: []ServiceInput{*a.ServiceInput, *b.ServiceInput}})
	if v.Services[0].Name != "dns" || v.Services[0].Level != Degraded || v.Services[1].Level != Nominal || v.Level != Degraded {
		t.Errorf("got %v: %v, %v", v.Level, v.Services[0].Level, v.Services[1].Level)
	}
}

// TestStrangersAmongTheClaims: only what is named like a VIP is one, and VIPs are in NLRI order.
func TestStrangersAmongTheClaims(t *testing.T) {
	s := well()
	for _, name := range []string{"lock", "10.0.0.0_8", "192.0.2.10", "2001:db8::1", "\x1b[31m"} {
		s.Claims[name] = Claim{}
	}
	var got []string
	for _, v := range s.view().Services[0].VIPs {
		got = append(got, v.VIP)
	}
	if want := []string{"10.0.0.0_8", vip1, vip2, "192.0.2.10", "2001:db8::1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestChangesAreSortedAndOnce(t *testing.T) {
	process, health := Change{At: noon, Node: "n1", What: "process", To: "started"}, Change{At: noon, Node: "n1", What: "health", To: "healthy"}
	verdict := Change{At: began, Node: "n2", What: "verdict", Service: "web", VIP: vip1, To: "announce"}
	got := Newest([]Change{verdict, process, health, process, health})
	if !slices.EqualFunc(got, []Change{health, process, verdict}, Change.Equal) {
		t.Errorf("got %+v", got)
	}
	s := well()
	for range 3 * maxChanges {
		verdict.At = verdict.At.Add(time.Second)
		s.Changes = append(s.Changes, verdict)
	}
	if v := s.view(); len(v.Changes) != maxChanges || !v.Changes[0].At.Equal(verdict.At) {
		t.Errorf("%d changes, from %v", len(v.Changes), v.Changes[0].At)
	}
}

// TestAbsenceTellsTheEnd: the last words of a node are the best that is known of it.
func TestAbsenceTellsTheEnd(t *testing.T) {
	for reason, want := range map[string]string{"abandon": "its exazk has ended since 2026-01-02 11:00:00Z (1h0m), as ExaBGP had ended", "leave": "as it was told to", "": "stands still or is cut off"} {
		s := well()
		s.gone("n1")
		last := Change{At: began, Node: "n1", Service: "web", What: "process", To: "ended", Reason: reason}
		if reason == "" {
			last = Change{At: began, Node: "n1", Service: "web", What: "health", To: "healthy"}
		}
		s.Changes = []Change{last}
		found := slices.ContainsFunc(s.view().Services[0].Findings, func(f Finding) bool { return f.Word == Absent && strings.Contains(f.Text, want) })
		if !found {
			t.Errorf("%q: %+v", want, s.view().Services[0].Findings)
		}
	}
}

func TestConfigured(t *testing.T) {
	cfg, err := daemon.ParseConfig("a.toml", "node = \"n1\"\n[zookeeper]\nhosts = [\"zk\"]\n[exabgp]\nlocal_as = 65101\n[[service]]\nname = \"web\"\nauthoritative = [\"192.0.2.1\"]\nbackup_for = [\"192.0.2.2\", \"198.51.100.0/24\"]\n"+
		"backup = \"standby\"\nnodes = [\"n1\", \"n2\"]\nowners = {\"192.0.2.2\" = \"n2\", \"198.51.100.0/24\" = \"n2\"}\ncheck.command = \"true\"\n")
	if err != nil {
		t.Fatal(err)
	}
	in := Configured("n1", &cfg.Services[0])
	if !slices.Equal(in.VIPs, []string{vip1, vip2, "198.51.100.0_24"}) || !slices.Equal(in.Nodes, []string{"n1", "n2"}) ||
		in.Owners[vip1] != "n1" || in.Owners["198.51.100.0_24"] != "n2" {
		t.Errorf("got %+v", in)
	}
}

// TestOfIsPure: however the maps are laid out, and whatever is in them, equal inputs give equal pictures, and they go through
// JSON unchanged.
func TestOfIsPure(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(all ...string) string { return all[rnd.IntN(len(all))] }
	for range 500 {
		s := well()
		for range rnd.IntN(6) {
			node, vip := pick("n1", "n2"), pick(vip1, vip2)
			if _, there := s.Records[node]; !there {
				continue
			}
			switch rnd.IntN(5) {
			case 0:
				s.verdict(node, vip, pick("announce", "withdraw", "hold", "?"), pick("authoritative", "backup", ""), pick("claimed", "conflict", "maintenance", "?", "last-resort"))
			case 1:
				s.gone(node)
			case 2:
				s.Claims[vip] = Claim{Node: pick("", "n1", "n3"), Persistent: rnd.IntN(2) == 0}
			case 3:
				s.Maintenance[pick("n1", "n4")] = Entry{Note: "x"}
			default:
				s.record(node, func(st *zkstate.Status) {
					st.Health, st.Maintenance = pick("unknown", "unhealthy", ""), pick("unknown", "present", "")
				})
			}
		}
		a, err := json.Marshal(s.view())
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(s.view())
		var back View
		if err := json.Unmarshal(a, &back); err != nil {
			t.Fatal(err)
		}
		c, _ := json.Marshal(back)
		if string(a) != string(b) || string(a) != string(c) {
			t.Fatalf("%s\n%s\n%s", a, b, c)
		}
		for _, vip := range []string{vip1, vip2} {
			v := s.view()
			if e, found := Why(&v, "web", vip); !found || e.VIP != vip {
				t.Fatalf("%s is not explained", vip)
			}
		}
	}
}
