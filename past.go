package main

import (
	"maps"

	"github.com/sirupsen/logrus"

	"exazk/daemon"
	"exazk/zkstate"
)

// past writes what happens into the node's histories in ZooKeeper.
type past struct {
	*zkstate.History
	paths map[string]string // of the loop's goroutine
}

func newPast(cfg *daemon.Config, log *logrus.Entry) *past {
	paths := cfg.Histories()
	return &past{zkstate.NewHistory(cfg.ZooKeeper.Hosts, cfg.Node, paths, log), paths}
}

// Observe takes what changed over. A reload may have changed where it goes.
func (p *past) Observe(s daemon.Snapshot) {
	paths := map[string]string{}
	for _, sv := range s.Services {
		paths[sv.Config.Name] = sv.Config.HistoryPath
	}
	if !maps.Equal(paths, p.paths) {
		p.Reconfigure(paths)
		p.paths = paths
	}
	if len(s.Changes) == 0 {
		return
	}
	var changes []zkstate.Change
	for _, t := range s.Changes {
		changes = append(changes, zkstate.Change{
			At: t.At, What: string(t.What), Service: t.Service, VIP: t.VIP, Subject: t.Subject,
			From: t.From, To: t.To, Role: t.Role, Reason: t.Reason, Detail: t.Detail,
		})
	}
	p.Add(changes...)
}
