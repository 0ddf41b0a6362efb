package daemon

import (
	"fmt"
	"path"
)

// OnNode gives the service as another node has it: its paths in ZooKeeper end in that node's name instead of self.
func (s *Service) OnNode(self, node string) (Service, error) {
	out := *s
	if node == self {
		return out, nil
	}
	if !plainName(node) {
		return out, fmt.Errorf("%q is not a node's name; remedy: use letters, digits, '.', '_' and '-' only", node)
	}
	for _, p := range []struct {
		key  string
		path *string
	}{{"zk_path_maintenance", &out.MaintenancePath}, {"zk_path_status", &out.StatusPath}, {"zk_path_failback", &out.FailbackPath}, {"zk_path_history", &out.HistoryPath}} {
		dir, last := path.Split(*p.path)
		if last != self {
			return out, fmt.Errorf("service %q: %s of %q cannot be told from that of %q: %q does not end in its name; remedy: run this on that node",
				s.Name, p.key, node, self, *p.path)
		}
		*p.path = dir + node
	}
	return out, nil
}
