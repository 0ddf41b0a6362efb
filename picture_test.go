package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"exazk/cluster"
	"exazk/daemon"
	"exazk/zkstate"
)

// recordOf is a status record of a node with one VIP.
func recordOf(edit func(*zkstate.Status)) zkstate.Status {
	st := zkstate.Status{Node: "node2", Instance: "one", Version: "v1", Health: "healthy", Maintenance: "absent",
		Routes:    []zkstate.StatusRoute{{VIP: "10.20.255.2", Verdict: "announce", Role: "authoritative", Reason: "authoritative", Announced: true, Own: true, Claim: true, MED: 100}},
		Neighbors: []zkstate.StatusNeighbor{{Peer: "172.16.1.14", State: "up"}}}
	if edit != nil {
		edit(&st)
	}
	return st
}

func TestChangesOfOtherNodes(t *testing.T) {
	for name, tt := range map[string]struct {
		now  func(*zkstate.Status)
		want []string
	}{
		"nothing":     {func(*zkstate.Status) {}, nil},
		"detail only": {func(st *zkstate.Status) { st.Routes[0].Detail = "x" }, nil},
		"check":       {func(st *zkstate.Status) { st.Health, st.HealthDetail = "unhealthy", "exit status 1" }, []string{"health healthy → unhealthy: exit status 1"}},
		"maintenance": {func(st *zkstate.Status) { st.Maintenance, st.Note = "present", "new disk" }, []string{"maintenance absent → present: new disk"}},
		"verdict":     {func(st *zkstate.Status) { st.Routes[0].Verdict, st.Routes[0].Reason = "withdraw", "unhealthy" }, []string{"verdict 10.20.255.2 announce → withdraw (unhealthy)"}},
		"reason":      {func(st *zkstate.Status) { st.Routes[0].Reason = "draining" }, []string{"verdict 10.20.255.2 announce → announce as authoritative (draining)"}},
		"session":     {func(st *zkstate.Status) { st.Neighbors[0].State = "down" }, []string{"neighbor 172.16.1.14 up → down"}},
		"tries of a session": {func(st *zkstate.Status) {
			st.Neighbors = append(st.Neighbors, zkstate.StatusNeighbor{Peer: "172.16.1.15", State: "connected"})
		}, nil},
		"another process": {func(st *zkstate.Status) { st.Instance, st.Version = "two", "v2" }, []string{"process started: v2"}},
		"causes come first": {func(st *zkstate.Status) {
			st.Health, st.Routes[0].Verdict, st.Routes[0].Reason = "unhealthy", "withdraw", "unhealthy"
		},
			[]string{"health healthy → unhealthy", "verdict 10.20.255.2 announce → withdraw (unhealthy)"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range peerChanges(time.Unix(1, 0), "apex", map[string]zkstate.Status{"node2": recordOf(nil)}, map[string]zkstate.Status{"node2": recordOf(tt.now)}) {
				if c.Node != "node2" || c.Service != "apex" || !c.At.Equal(time.Unix(1, 0)) {
					t.Errorf("got %+v", c)
				}
				got = append(got, cluster.Tell(c))
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestChangesHaveTheTimeOfTheirNode unless its clock is another.
func TestChangesHaveTheTimeOfTheirNode(t *testing.T) {
	read := time.Unix(1000, 0)
	for name, tt := range map[string]struct{ said, want time.Time }{
		"a moment ago":  {read.Add(-200 * time.Millisecond), read.Add(-200 * time.Millisecond)},
		"just now":      {read, read},
		"not said":      {time.Time{}, read},
		"in the future": {read.Add(time.Millisecond), read},
		"long ago":      {read.Add(-sameClock), read},
	} {
		now := recordOf(func(st *zkstate.Status) {
			st.Health, st.HealthSince = "unhealthy", zkstate.StampOf(tt.said)
			st.Maintenance, st.MaintenanceSince = "present", zkstate.StampOf(tt.said)
			st.Routes[0].Reason, st.Routes[0].Since = "unhealthy", zkstate.StampOf(tt.said)
		})
		got := peerChanges(read, "apex", map[string]zkstate.Status{"node2": recordOf(nil)}, map[string]zkstate.Status{"node2": now})
		if len(got) != 3 {
			t.Fatalf("got %v", got)
		}
		for _, c := range got {
			if !c.At.Equal(tt.want) {
				t.Errorf("%s: %s at %v, want %v", name, c.What, c.At, tt.want)
			}
		}
	}
}

// look is a Snapshot of node1 that sees the records of others.
func look(at time.Time, peers map[string]zkstate.Status, changes ...daemon.Transition) daemon.Snapshot {
	own := recordOf(func(st *zkstate.Status) {
		st.Node, st.Routes[0].VIP = "node1", "10.20.255.1"
	})
	cfg, err := daemon.ParseConfig("picture.toml", "node = \"node1\"\nzookeeper.hosts = [\"zk\"]\n[[service]]\nname = \"apex\"\nauthoritative = [\"10.20.255.1\"]\nbackup_for = [\"10.20.255.2\"]\ncheck.command = \"true\"\n")
	if err != nil {
		panic(err)
	}
	return daemon.Snapshot{At: at, Identity: daemon.Identity{Node: "node1", Instance: "one"}, ZooKeeper: zkstate.Connected, Changes: changes,
		Want: zkstate.Want{Statuses: map[string]*zkstate.Status{"apex": &own}},
		Services: []daemon.ServiceSnapshot{{Config: &cfg.Services[0], Peers: peers, PeersFresh: peers != nil,
			Claims: map[string]zkstate.Claim{"10.20.255.1": {Holder: zkstate.Own}, "10.20.255.2": {Holder: zkstate.Foreign}}}}}
}

// TestPictureOfALife follows another node from its first record to its end.
func TestPictureOfALife(t *testing.T) {
	p := newPicture(daemon.Identity{Node: "node1"})
	first, changed := p.View()
	if first.Observer != "node1" || len(first.Services) != 0 {
		t.Errorf("got %+v", first)
	}
	begin := time.Unix(1e9, 0)
	step := 0
	observe := func(peers map[string]zkstate.Status, changes ...daemon.Transition) cluster.View {
		t.Helper()
		step++
		p.Observe(look(begin.Add(time.Duration(step)*time.Second), peers, changes...))
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
		var v cluster.View
		v, changed = p.View()
		return v
	}
	observe(nil, daemon.Transition{At: begin, What: daemon.WhatProcess, To: "started"})
	v := observe(map[string]zkstate.Status{"node2": recordOf(nil)})
	if v.Level != cluster.Nominal || len(v.Services) != 1 || len(v.Services[0].VIPs) != 2 || fmt.Sprint(v.Services[0].VIPs[1].Announcers, v.Services[0].VIPs[1].Claim) != "[node2]node2" {
		t.Errorf("got %+v", v)
	}
	v = observe(map[string]zkstate.Status{"node2": recordOf(func(st *zkstate.Status) { st.Health = "unhealthy" })})
	if v.Level != cluster.Degraded || len(v.Changes) != 2 || cluster.Tell(v.Changes[0]) != "health healthy → unhealthy" || v.Changes[1].To != "started" {
		t.Errorf("got %+v", v)
	}
	v = observe(map[string]zkstate.Status{})
	if n := v.Services[0].Nodes; len(n) != 2 || n[1].Node != "node2" || n[1].Present || v.Changes[0].To != "absent" {
		t.Errorf("it is not missed: %+v", v)
	}
	v = observe(map[string]zkstate.Status{"node2": recordOf(nil)})
	if !v.Services[0].Nodes[1].Present || cluster.Tell(v.Changes[0]) != "verdict 10.20.255.2 none → announce as authoritative (authoritative)" || v.Changes[3].To != "present" {
		t.Errorf("it is not back: %+v", v)
	}
}

// TestPictureOfJunk says what lies in the place of another node's record.
func TestPictureOfJunk(t *testing.T) {
	p := newPicture(daemon.Identity{Node: "node1"})
	s := look(time.Unix(1e9, 0), map[string]zkstate.Status{})
	s.Services[0].Junk = map[string]string{"node2": "no JSON"}
	p.Observe(s)
	v, _ := p.View()
	if !slices.ContainsFunc(v.Services[0].Findings, func(f cluster.Finding) bool {
		return f.Node == "node2" && strings.Contains(f.Text, "what lies in the place of node2's status record is none: no JSON")
	}) {
		t.Errorf("got %+v", v.Services[0].Findings)
	}
}

// TestPictureKeepsAFewChanges has more changes than anybody reads.
func TestPictureKeepsAFewChanges(t *testing.T) {
	p := newPicture(daemon.Identity{Node: "node1"})
	for i := range 3 * maxChanges {
		p.Observe(look(time.Unix(int64(i), 0), nil, daemon.Transition{At: time.Unix(int64(i), 0), What: daemon.WhatProcess, To: "reloaded"}))
	}
	if v, _ := p.View(); len(v.Changes) != maxChanges || !v.Changes[0].At.Equal(time.Unix(3*maxChanges-1, 0)) {
		t.Errorf("%d changes, the newest %+v", len(v.Changes), v.Changes[0])
	}
}

// TestPictureRecalls takes what was written down before the process began, and nothing that it has seen itself.
func TestPictureRecalls(t *testing.T) {
	begin := time.Unix(1000, 0)
	p := newPicture(daemon.Identity{Node: "node1", Since: begin})
	_, changed := p.View()
	var past []cluster.Change
	for i := range 2 * maxChanges { // newest first, and up to the other half of the process's life
		past = append(past, cluster.Change{At: begin.Add(time.Duration(maxChanges-i) * time.Second), Node: "node2", What: "verdict", Service: "apex", VIP: "10.20.255.2", To: "announce"})
	}
	p.prepend(past)
	<-changed
	v, _ := p.View()
	if len(v.Changes) != maxChanges-1 || !v.Changes[0].At.Equal(begin.Add(-time.Second)) {
		t.Errorf("%d changes, the newest %+v", len(v.Changes), v.Changes[0])
	}
}
