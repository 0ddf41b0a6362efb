package metrics

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"exazk/daemon"
	"exazk/health"
	"exazk/zkstate"
)

// A state is one series for each of its values, of which one is 1: so it can be counted, drawn over time, and waited for.
var (
	vipVerdict   = desc("vip_verdict", "Always 1; what this node decided about a VIP, as what, and why.", "service", "vip", "role", "verdict", "reason")
	vipAnnounced = desc("vip_announced", "Whether this node announces a VIP: acknowledged by ExaBGP, and heard by enough neighbors.", "service", "vip", "role")
	vipClaimed   = desc("vip_claim_held", "Whether this node holds the claim of a VIP that it is authoritative for.", "service", "vip")

	serviceHealth      = desc("service_health", "State of all checks of a service together.", "service", "state")
	serviceMaintenance = desc("service_maintenance", "Whether this node is drained by a maintenance node.", "service")
	serviceLastResort  = desc("service_last_resort", "Whether this node announces although its check fails, because nobody else does.", "service")
	serviceConflicts   = desc("service_conflicts", "VIPs of this node that another node claims, or that nobody can claim.", "service")
	servicePeers       = desc("service_peers", "Other nodes whose status records this node has read.", "service")
	checkState         = desc("check_state", "State of one check.", "service", "check", "state")

	neighborState  = desc("neighbor_state", "State of a BGP neighbor.", "neighbor", "state")
	neighborsUp    = desc("neighbors_up", "BGP neighbors that hear this node.")
	neighborsKnown = desc("neighbors_tracked", "Whether the state of the neighbors is known; if not, all is announced as if one were up.")
	zookeeperState = desc("zookeeper_state", "State of the session to ZooKeeper.", "state")
	routes         = desc("routes_announced", "Routes that are to be announced now, acknowledged or not.")
	stopping       = desc("stopping", "Whether the process drains before its end.")
	nodeInfo       = desc("node_info", "Always 1; the name of the node.", "node")
)

var (
	healthStates    = []string{health.Unknown.String(), health.Healthy.String(), health.Unhealthy.String()}
	zookeeperStates = []string{zkstate.Connecting.String(), zkstate.Connected.String(), zkstate.Suspended.String(), zkstate.Lost.String()}
	neighborStates  = []string{"unknown", "down", "connected", "up", "link-down", "silent"} // see zkstate.StatusNeighbor
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("exazk_"+name, help, labels, nil)
}

// states is the Collector of everything that is a state.
type states struct{ m *Metrics }

// Describe describes nothing: which series there are follows from the configuration.
func (s *states) Describe(chan<- *prometheus.Desc) {}

// Collect runs on a goroutine of the library's: a panic there would end the daemon.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	defer func() {
		if p := recover(); p != nil {
			ch <- prometheus.NewInvalidMetric(nodeInfo, fmt.Errorf("bug: %v", p))
		}
	}()
	last := s.m.last.Load()
	if last == nil {
		return
	}
	g := gauges{ch}
	g.set(nodeInfo, 1, last.Identity.Node)
	g.set(stopping, number(last.Stopping))
	g.set(routes, float64(last.Announced))
	g.set(neighborsUp, float64(last.Heard))
	g.set(neighborsKnown, number(last.Tracking))
	g.state(zookeeperState, zookeeperStates, last.ZooKeeper.String())
	for i, n := range last.Neighbors {
		if i == 0 || last.Neighbors[i-1].Peer != n.Peer { // sorted by peer; of two sessions with one the first is as good
			g.state(neighborState, neighborStates, n.State, n.Peer)
		}
	}
	for i := range last.Services {
		s.service(g, last, &last.Services[i])
	}
}

func (s *states) service(g gauges, last *daemon.Snapshot, v *daemon.ServiceSnapshot) {
	name := v.Config.Name
	g.state(serviceHealth, healthStates, v.Health.State.String(), name)
	g.set(serviceMaintenance, number(v.Maintenance == daemon.PresencePresent), name)
	g.set(servicePeers, float64(len(v.Peers)), name)
	s.checks(g, v.Config)

	record, conflicts := last.Want.Statuses[name], 0
	own := map[string]bool{}
	for _, p := range v.Config.Authoritative {
		own[daemon.ClaimName(p)] = true
	}
	for i := range record.Routes {
		r := &record.Routes[i]
		g.set(vipVerdict, 1, name, r.VIP, r.Role, r.Verdict, r.Reason)
		g.set(vipAnnounced, number(r.Announced), name, r.VIP, r.Role)
		if own[r.VIP] {
			g.set(vipClaimed, number(r.Claim), name, r.VIP)
		}
		if r.Reason == string(daemon.ReasonConflict) || own[r.VIP] && v.Claims[r.VIP].Holder == zkstate.Squatted {
			conflicts++
		}
	}
	g.set(serviceLastResort, number(record.LastResort), name)
	g.set(serviceConflicts, float64(conflicts), name)
}

func (s *states) checks(g gauges, conf *daemon.Service) {
	for i := range conf.Checks {
		c := check{conf.Name, conf.Checks[i].Name}
		s.m.mu.Lock()
		state := s.m.checks[c]
		s.m.mu.Unlock()
		g.state(checkState, healthStates, state.String(), c.service, c.name)
	}
}

// gauges hands gauges to Prometheus.
type gauges struct{ ch chan<- prometheus.Metric }

func (g gauges) set(d *prometheus.Desc, v float64, labels ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	g.ch <- m
}

// state sets one series for each of all: 1 for the state that is.
func (g gauges) state(d *prometheus.Desc, all []string, is string, labels ...string) {
	for _, state := range all {
		g.set(d, number(state == is), append(slices.Clone(labels), state)...)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
