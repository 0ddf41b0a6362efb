package daemon

import (
	"fmt"
	"path"
)

// Flags is a service given on the command line, in the words of the Python tool. Its zero value is "nothing given".
type Flags struct {
	Name            string
	AuthIPs         []string
	NonAuthIPs      []string
	LocalCheck      string
	ZKHosts         []string
	PathService     string
	PathMaintenance string
	// ZooKeeperOnly is set for a command that only speaks to ZooKeeper: it needs neither VIPs nor a check.
	ZooKeeperOnly bool
}

// FlagsConfig makes a configuration of a command line. Everything that has no flag has its default. Where the
// maintenance path ends in "/<service>/<node>", as the Python tool's README has it, the node's name is taken from there,
// else it is the host name.
func FlagsConfig(fl Flags) (*Config, error) {
	names := map[string]string{
		"service[0].name": "--name", "service[0].authoritative": "--auth-ip", "service[0].backup_for": "--non-auth-ip",
		"service[0].check.command": "--local-check", "zookeeper.hosts": "--zk-host",
		"service[0].zk_path_service": "--zk-path-service", "service[0].zk_path_maintenance": "--zk-path-maintenance",
	}
	f := faults{place: func(key string) string {
		if name, ok := names[key]; ok {
			return name
		}
		return fmt.Sprintf("%s (has no flag; use --config)", key)
	}}
	raw := defaults()
	raw.ZooKeeper.Hosts = listValue{V: fl.ZKHosts, Set: true}
	s := rawService{
		Name:          textValue{V: fl.Name, Set: true},
		Authoritative: listValue{V: fl.AuthIPs, Set: true},
		BackupFor:     listValue{V: fl.NonAuthIPs, Set: true},
	}
	s.checks = []rawCheck{{Command: anyValue{V: fl.LocalCheck, Set: true}}}
	s.ZKPathService = textValue{V: fl.PathService, Set: fl.PathService != ""}
	s.ZKPathMaintenance = textValue{V: fl.PathMaintenance, Set: fl.PathMaintenance != ""}
	if dir, node := path.Split(fl.PathMaintenance); fl.Name != "" && path.Base(dir) == fl.Name && plainName(node) {
		raw.Node = textValue{V: node, Set: true}
	}
	if s.zooKeeperOnly = fl.ZooKeeperOnly; fl.ZooKeeperOnly {
		s.checks[0].Command.V = "true" // never run
	}
	raw.Services = []rawService{s}
	return raw.resolve(&f)
}
