package daemon

import (
	"net/netip"
	"slices"
	"strings"

	"exazk/health"
	"exazk/zkstate"
)

// Store is what the edge to ZooKeeper has to know.
func (c *Config) Store(id Identity) zkstate.Config {
	z := zkstate.Config{Servers: c.ZooKeeper.Hosts, SessionTimeout: c.ZooKeeper.SessionTimeout, Node: id.Node, Instance: id.Instance}
	for i := range c.Services {
		z.Services = append(z.Services, c.Services[i].store())
	}
	return z
}

// Histories is where the histories of the services are.
func (c *Config) Histories() map[string]string {
	paths := map[string]string{}
	for i := range c.Services {
		paths[c.Services[i].Name] = c.Services[i].HistoryPath
	}
	return paths
}

func (s *Service) store() zkstate.Service {
	return zkstate.Service{
		Name: s.Name, ClaimsPath: s.ClaimsPath, MaintenancePath: s.MaintenancePath, FailbackPath: s.FailbackPath, StatusPath: s.StatusPath,
		VIPs: s.claimNames(), Authoritative: claimNames(s.Authoritative),
	}
}

// HealthConfig is what the checks of a service have to know.
func (c *Config) HealthConfig(s *Service) health.Config {
	h := health.Config{
		Service: s.Name, Require: s.Require,
		Env: []string{"EXAZK_SERVICE=" + s.Name, "EXAZK_NODE=" + c.Node, "EXAZK_VIPS=" + strings.Join(s.claimNames(), " ")},
	}
	for i := range s.Checks {
		k := &s.Checks[i]
		h.Checks = append(h.Checks, health.Check{
			Name: k.Name, Probe: k.Probe(), Interval: k.Interval, FastInterval: k.FastInterval, Timeout: k.Timeout,
			Rise: k.Rise, Fall: k.Fall, Jitter: k.Jitter,
		})
	}
	return h
}

// claimNames are those of all VIPs of a service, its own first.
func (s *Service) claimNames() []string {
	return slices.Concat(claimNames(s.Authoritative), claimNames(s.BackupFor))
}

func claimNames(prefixes []netip.Prefix) []string {
	var names []string
	for _, p := range prefixes {
		names = append(names, ClaimName(p))
	}
	return names
}
