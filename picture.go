package main

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"exazk/cluster"
	"exazk/daemon"
	"exazk/health"
	"exazk/zkstate"
)

// maxChanges is how many changes of all nodes the page shows: an evening of a cluster that has a bad day.
const maxChanges = 200

const (
	recallWithin = 10 * time.Second
	recallAgain  = 30 * time.Second
	// sameClock is how much older than its reading a change may be: a record takes a second at worst.
	sameClock = 5 * time.Second
)

// picture is what the page shows: the newest Snapshot of this node, and the last changes of all nodes. It takes Snapshots from the loop and gives pictures to the HTTP server.
type picture struct {
	mu      sync.Mutex
	last    daemon.Snapshot
	nodes   map[string][]string // by service, of all nodes that had a record; a list is replaced, never changed
	changes []cluster.Change    // oldest first; appended to and cut at the front, never changed in place
	changed chan struct{}

	shown chan *daemon.Config // of room one: the first configuration by which anybody can see the page
}

func newPicture(id daemon.Identity) *picture {
	return &picture{last: daemon.Snapshot{Identity: id}, nodes: map[string][]string{}, changed: make(chan struct{}), shown: make(chan *daemon.Config, 1)}
}

// Observe implements daemon.Observer.
func (p *picture) Observe(s daemon.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range s.Changes {
		p.changes = append(p.changes, changeOf(s.Identity.Node, t))
	}
	for i := range s.Services {
		now := &s.Services[i]
		j := slices.IndexFunc(p.last.Services, func(was daemon.ServiceSnapshot) bool { return was.Config.Name == now.Config.Name })
		if j >= 0 && sameReading(p.last.Services[j].Peers, now.Peers) {
			continue
		}
		p.meet(now)
		if j >= 0 && now.PeersFresh && p.last.Services[j].Peers != nil {
			p.changes = append(p.changes, peerChanges(s.At, now.Config.Name, p.last.Services[j].Peers, now.Peers)...)
		}
	}
	p.last = s
	p.tell()
}

// sameReading says whether nothing was read between two Snapshots: most of them are about something else, and the loop waits.
func sameReading(a, b map[string]zkstate.Status) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// meet remembers the nodes of a service: one that is gone is missed.
func (p *picture) meet(s *daemon.ServiceSnapshot) {
	known := p.nodes[s.Config.Name]
	for name := range s.Peers {
		if !slices.Contains(known, name) {
			known = append(slices.Clip(known), name)
		}
	}
	p.nodes[s.Config.Name] = known
}

// show is told each configuration. It never waits.
func (p *picture) show(cfg *daemon.Config) {
	if len(cfg.HTTP.Listen) == 0 {
		return
	}
	select {
	case p.shown <- cfg:
	default:
	}
}

// recall puts what the nodes have written down before this process began in front of what it sees itself, once there is a page. It
// tries until ZooKeeper answers, by a session of its own, and then waits for the end.
func (p *picture) recall(ctx context.Context) error {
	var cfg *daemon.Config
	select {
	case <-ctx.Done():
		return nil
	case cfg = <-p.shown:
	}
	for {
		if past, err := readPast(ctx, cfg); err == nil {
			p.prepend(past)
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(recallAgain):
		}
	}
}

func readPast(ctx context.Context, cfg *daemon.Config) ([]cluster.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	zk, err := zkstate.Dial(ctx, cfg.ZooKeeper.Hosts)
	if err != nil {
		return nil, err
	}
	defer zk.Close()
	var all []cluster.Change
	for i := range cfg.Services {
		past, _, err := (&admin{zk: zk}).histories(ctx, &cfg.Services[i])
		if err != nil {
			return nil, err
		}
		all = append(all, past...)
	}
	return all, nil
}

// prepend takes changes from before this process. The later ones it has seen itself, if anybody is to know of them.
func (p *picture) prepend(past []cluster.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	past = slices.DeleteFunc(past, func(c cluster.Change) bool { return !c.At.Before(p.last.Identity.Since) })
	slices.SortStableFunc(past, func(a, b cluster.Change) int { return a.At.Compare(b.At) })
	p.changes = slices.Concat(past, p.changes)
	p.tell()
}

// tell keeps the last changes and wakes who waits for one.
func (p *picture) tell() {
	p.changes = p.changes[max(0, len(p.changes)-maxChanges):]
	close(p.changed)
	p.changed = make(chan struct{})
}

// View implements web.Source.
func (p *picture) View() (cluster.View, <-chan struct{}) {
	p.mu.Lock()
	last, changes, changed := p.last, p.changes, p.changed
	nodes := maps.Clone(p.nodes)
	p.mu.Unlock()
	in := cluster.Input{At: time.Now(), Observer: last.Identity.Node, ZooKeeper: last.ZooKeeper.String(), Changes: changes}
	for i := range last.Services {
		s := serviceOf(&last, &last.Services[i])
		s.Nodes = slices.Concat(s.Nodes, nodes[s.Name])
		in.Services = append(in.Services, s)
	}
	return cluster.Of(in), changed
}

// serviceOf is what a Snapshot has of a service.
func serviceOf(s *daemon.Snapshot, service *daemon.ServiceSnapshot) cluster.ServiceInput {
	in := cluster.Configured(s.Identity.Node, service.Config)
	in.Records = maps.Clone(service.Peers)
	if in.Records == nil {
		in.Records = map[string]zkstate.Status{}
	}
	if own := s.Want.Statuses[in.Name]; own != nil {
		in.Records[s.Identity.Node] = *own
	}
	in.Junk = service.Junk
	in.Claims = map[string]cluster.Claim{}
	for vip, c := range service.Claims {
		switch c.Holder {
		case zkstate.Own:
			in.Claims[vip] = cluster.Claim{Node: s.Identity.Node, Instance: s.Identity.Instance}
		case zkstate.Ghost, zkstate.Foreign:
			in.Claims[vip] = cluster.Claim{Node: c.Node}
		case zkstate.Squatted:
			in.Claims[vip] = cluster.Claim{Persistent: true}
		}
	}
	return in
}

func changeOf(node string, t daemon.Transition) cluster.Change {
	return cluster.Change{At: t.At, Node: node, What: string(t.What), Service: t.Service, VIP: t.VIP, Subject: t.Subject,
		From: t.From, To: t.To, Role: t.Role, Reason: t.Reason, Detail: t.Detail}
}

// peerChanges finds what changed on the other nodes between two readings of their records. The words are those of this node's own
// transitions.
func peerChanges(at time.Time, service string, was, now map[string]zkstate.Status) []cluster.Change {
	var all []cluster.Change
	for _, name := range union(was, now) {
		before, wasThere := was[name]
		after, isThere := now[name]
		add := func(what daemon.What, c cluster.Change) {
			c.At, c.Node, c.What, c.Service = cmp.Or(c.At, at), name, string(what), service
			all = append(all, c)
		}
		switch {
		case !isThere:
			add(daemon.WhatProcess, cluster.Change{To: "absent", Detail: "its status record is gone"})
			continue
		case !wasThere:
			add(daemon.WhatProcess, cluster.Change{To: "present", Detail: after.Version})
			before = zkstate.Status{Health: health.Unknown.String(), Maintenance: daemon.PresenceAbsent.String()}
		case before.Instance != after.Instance:
			add(daemon.WhatProcess, cluster.Change{To: "started", Detail: after.Version})
		case before.Equal(after):
			continue
		}
		recordChanges(at, before, after, add)
	}
	return all
}

// when is the time of a change by its own node's clock, without which effects would come before what is read a moment later; or of
// this node's, at which it was read, where the two clocks cannot be compared.
func when(read time.Time, said zkstate.Stamp) time.Time {
	if t := said.Time(); !t.After(read) && read.Sub(t) < sameClock {
		return t
	}
	return read
}

// recordChanges finds what changed between two records of a node, causes first.
func recordChanges(at time.Time, before, after zkstate.Status, add func(daemon.What, cluster.Change)) {
	if before.Maintenance != after.Maintenance {
		add(daemon.WhatMaintenance, cluster.Change{At: when(at, after.MaintenanceSince), From: before.Maintenance, To: after.Maintenance, Detail: after.Note})
	}
	if before.Health != after.Health {
		add(daemon.WhatHealth, cluster.Change{At: when(at, after.HealthSince), From: before.Health, To: after.Health, Detail: after.HealthDetail})
	}
	for _, n := range after.Neighbors {
		from := zkstate.StatusNeighbor{State: "unknown"}
		if i := slices.IndexFunc(before.Neighbors, func(b zkstate.StatusNeighbor) bool { return b.Peer == n.Peer }); i >= 0 {
			from = before.Neighbors[i]
		}
		if (from.State == "up") != (n.State == "up") {
			add(daemon.WhatNeighbor, cluster.Change{Subject: n.Peer, From: from.State, To: n.State})
		}
	}
	for i, r := range after.Routes {
		from := zkstate.StatusRoute{Verdict: "none"}
		if i < len(before.Routes) && before.Routes[i].VIP == r.VIP { // unless the node was reloaded; the loop waits
			from = before.Routes[i]
		} else if j := slices.IndexFunc(before.Routes, func(b zkstate.StatusRoute) bool { return b.VIP == r.VIP }); j >= 0 {
			from = before.Routes[j]
		}
		if from.Verdict != r.Verdict || from.Role != r.Role || from.Reason != r.Reason {
			add(daemon.WhatVerdict, cluster.Change{At: when(at, after.RouteSince(i)), VIP: r.VIP, From: from.Verdict, To: r.Verdict, Role: r.Role, Reason: r.Reason, Detail: r.Detail})
		}
	}
}

// union has the names of both, sorted.
func union(a, b map[string]zkstate.Status) []string {
	var names []string
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
