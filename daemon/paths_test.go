package daemon

import (
	"strings"
	"testing"
)

func TestOnNode(t *testing.T) {
	s := Service{Name: "apex", MaintenancePath: "/m/apex/node1", StatusPath: "/s/node1", FailbackPath: "/f/node1", HistoryPath: "/h/node1"}
	got, err := s.OnNode("node1", "node2")
	if err != nil || got.MaintenancePath != "/m/apex/node2" || got.StatusPath != "/s/node2" || got.FailbackPath != "/f/node2" || got.HistoryPath != "/h/node2" {
		t.Errorf("got %+v, %v", got, err)
	}
	if s.MaintenancePath != "/m/apex/node1" {
		t.Error("the original was changed")
	}
	if _, err := s.OnNode("node1", "../node2"); err == nil || !strings.Contains(err.Error(), `"../node2" is not a node's name`) {
		t.Errorf("got %v", err)
	}
	s.MaintenancePath = "/m/apex"
	if got, err := s.OnNode("node1", "node1"); err != nil || got.MaintenancePath != "/m/apex" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.OnNode("node1", "node2"); err == nil || !strings.Contains(err.Error(), `zk_path_maintenance of "node2" cannot be told from that of "node1": "/m/apex" does not end in its name`) {
		t.Errorf("got %v", err)
	}
}
