package web

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"exazk/cluster"
)

// stage is a Source whose picture the test sets.
type stage struct {
	mu      sync.Mutex
	view    cluster.View
	changed chan struct{}
}

func newStage(v cluster.View) *stage { return &stage{view: v, changed: make(chan struct{})} }

func (s *stage) View() (cluster.View, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view, s.changed
}

func (s *stage) show(v cluster.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = v
	close(s.changed)
	s.changed = make(chan struct{})
}

// epoch is when everything in the pictures begins.
var epoch = time.Date(2026, 3, 14, 3, 0, 0, 0, time.UTC)

// scene makes a picture of one service on three nodes, each of which owns one VIP.
func scene(edit func(*cluster.View, *cluster.Service)) cluster.View {
	s := cluster.Service{Name: "apex"}
	for i := range 3 {
		owner := fmt.Sprintf("node%d", i+1)
		v := cluster.VIP{VIP: fmt.Sprintf("10.20.255.%d", i+1), Owner: owner, Claim: owner, Announcers: []string{owner}}
		for j := range 3 {
			r := cluster.Route{Node: fmt.Sprintf("node%d", j+1), Verdict: "withdraw", Role: "backup", Reason: "claimed", Since: epoch}
			if i == j {
				r.Verdict, r.Role, r.Reason, r.MED, r.Announced = "announce", "authoritative", "authoritative", 100, true
			}
			v.Routes = append(v.Routes, r)
		}
		s.VIPs = append(s.VIPs, v)
		s.Nodes = append(s.Nodes, cluster.Node{Node: owner, Present: true, Version: "v1.4.0", Since: epoch, Health: "healthy", HealthSince: epoch,
			Maintenance: "absent", Neighbors: []cluster.Neighbor{{Peer: netip.AddrFrom4([4]byte{172, 16, 1, byte(8*i + 6)}).String(), State: "up"}}})
	}
	v := cluster.View{At: epoch.Add(time.Hour), Observer: "node1", ZooKeeper: "connected", Services: []cluster.Service{s},
		Changes: []cluster.Change{{At: epoch, Node: "node1", What: "verdict", Service: "apex", VIP: "10.20.255.1", From: "withdraw", To: "announce", Role: "authoritative", Reason: "authoritative"}}}
	if edit != nil {
		edit(&v, &v.Services[0])
	}
	return v
}

func nominal() cluster.View { return scene(nil) }

// degraded is after the check of node1 failed: the two others have its VIP.
func degraded() cluster.View {
	return scene(func(v *cluster.View, s *cluster.Service) {
		failed := epoch.Add(30 * time.Minute)
		v.Level, s.Level = cluster.Degraded, cluster.Degraded
		s.Findings = []cluster.Finding{{Level: cluster.Degraded, Word: "unhealthy", Node: "node1", Text: "the check of node1 fails: exit status 7: curl: (7) Failed to connect to 127.0.0.1 port 80"}}
		s.Nodes[0].Health, s.Nodes[0].HealthDetail, s.Nodes[0].HealthSince = "unhealthy", "command: exit status 7: curl: (7) Failed to connect to 127.0.0.1 port 80", failed
		vip := &s.VIPs[0]
		vip.Level, vip.Claim, vip.Announcers = cluster.Degraded, "", []string{"node2", "node3"}
		vip.Routes[0].Verdict, vip.Routes[0].Reason, vip.Routes[0].Detail, vip.Routes[0].Announced, vip.Routes[0].MED = "withdraw", "unhealthy", "command: exit status 7", false, 0
		changes := []cluster.Change{{At: failed, Node: "node1", What: "health", Service: "apex", From: "healthy", To: "unhealthy", Detail: "command: exit status 7"},
			{At: failed, Node: "node1", What: "verdict", Service: "apex", VIP: vip.VIP, From: "announce", To: "withdraw", Role: "authoritative", Reason: "unhealthy"}}
		for _, r := range vip.Routes[1:] {
			changes = append(changes, cluster.Change{At: failed.Add(40 * time.Millisecond), Node: r.Node, What: "verdict", Service: "apex", VIP: vip.VIP, From: "withdraw", To: "announce", Role: "backup", Reason: "unclaimed"})
		}
		for i := range vip.Routes[1:] {
			r := &vip.Routes[i+1]
			r.Verdict, r.Reason, r.MED, r.Announced = "announce", "unclaimed", 200, true
		}
		for _, c := range changes {
			v.Changes = append([]cluster.Change{c}, v.Changes...)
		}
	})
}

// down is a VIP that nobody announces, as one node sees it that has lost ZooKeeper.
func down() cluster.View {
	return scene(func(v *cluster.View, s *cluster.Service) {
		v.Level, s.Level, v.ZooKeeper = cluster.Down, cluster.Down, "lost"
		v.Changes = append([]cluster.Change{{At: epoch.Add(50 * time.Minute), Node: "node1", What: "zookeeper", From: "suspended", To: "lost"}}, v.Changes...)
		s.Findings = []cluster.Finding{{Level: cluster.Down, Word: "no-announcer", VIP: "10.20.255.3", Text: "nobody announces 10.20.255.3"}, {Level: cluster.Degraded, Word: "absent", Node: "node3", Text: "node3 has no status record"}}
		s.Nodes[2] = cluster.Node{Node: "node3"}
		s.Nodes[1].Maintenance, s.Nodes[1].Note, s.Nodes[1].Entered = "present", "new kernel, by ops@jump1", epoch.Add(20*time.Minute)
		vip := &s.VIPs[2]
		vip.Level, vip.Owner, vip.Claim, vip.Announcers, vip.Routes = cluster.Down, "", "", nil, vip.Routes[:2]
	})
}

// standby has every backup announce, worse by its rank.
func standby() cluster.View {
	return scene(func(_ *cluster.View, s *cluster.Service) {
		for i := range s.VIPs {
			for j := range s.VIPs[i].Routes {
				if r := &s.VIPs[i].Routes[j]; r.Role == "backup" {
					r.Verdict, r.Reason, r.MED, r.Announced = "announce", "standby", uint32(200+100*j), true
					s.VIPs[i].Announcers = append(s.VIPs[i].Announcers, r.Node)
				}
			}
		}
	})
}

// many is forty VIPs of two services on six nodes, in both families.
func many() cluster.View {
	v := scene(func(_ *cluster.View, s *cluster.Service) {
		template := s.VIPs[0]
		for n := 4; n <= 6; n++ {
			node := s.Nodes[0]
			node.Node = fmt.Sprintf("node%d", n)
			s.Nodes = append(s.Nodes, node)
			template.Routes = append(template.Routes, cluster.Route{Node: node.Node, Verdict: "withdraw", Role: "backup", Reason: "claimed"})
		}
		s.VIPs = nil
		for i := range 40 {
			vip := template
			vip.VIP = fmt.Sprintf("2001:db8:ffff:ffff:ffff:ffff:ffff:%x", 0xf000+i)
			s.VIPs = append(s.VIPs, vip)
		}
	})
	other := nominal().Services[0]
	other.Name = "dns"
	v.Services = append(v.Services, other)
	return v
}

// hostile has markup wherever text of others gets into the picture: znodes and the output of checks.
func hostile() cluster.View {
	const bad = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"'&` + "\u2028\r\n\ndata: x"
	return scene(func(v *cluster.View, s *cluster.Service) {
		v.Observer = bad
		s.Name = "apex" + bad
		s.Findings = []cluster.Finding{{Level: cluster.Degraded, Word: "conflict", Text: bad}}
		s.VIPs[0].Claim, s.VIPs[0].Announcers = bad, []string{bad}
		s.VIPs[0].Routes[0].Detail, s.VIPs[0].Routes[0].Reason, s.VIPs[0].Routes[0].Node = bad, bad, bad
		s.Nodes[0].Note, s.Nodes[0].HealthDetail, s.Nodes[0].Version, s.Nodes[0].Node = bad, bad, bad, bad
		s.Nodes[0].Maintenance = "present"
		s.Nodes[0].Neighbors = []cluster.Neighbor{{Peer: bad, State: bad}}
		v.Changes = []cluster.Change{{At: epoch, Node: bad, What: bad, VIP: bad, From: bad, To: bad, Reason: bad, Detail: bad}}
	})
}
