package main

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/daemon"
	"exazk/zkstate"
	"exazk/zkstate/zktest"
)

// TestPast: what the loop tells of lies in ZooKeeper, where the configuration of that moment says.
func TestPast(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	s := dialStore(t, srv)
	cfg := &daemon.Config{Node: "n1", ZooKeeper: daemon.ZooKeeperConfig{Hosts: []string{srv.Addr()}}, Services: []daemon.Service{{Name: "web", HistoryPath: "/a/n1"}}}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	p := newPast(cfg, logrus.NewEntry(logger))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	change := daemon.Transition{At: time.Now(), What: daemon.WhatVerdict, Service: "web", VIP: "192.0.2.1", From: "hold", To: "announce", Role: "backup", Reason: "unclaimed", Detail: "as last read"}
	for _, at := range []string{"/a/n1", "/b/n1"} {
		p.Observe(daemon.Snapshot{Changes: []daemon.Transition{change}, Services: []daemon.ServiceSnapshot{{Config: &daemon.Service{Name: "web", HistoryPath: at}}}})
		want := zkstate.Change{At: change.At.UTC().Truncate(time.Millisecond), Node: "n1", What: "verdict", Service: "web", VIP: "192.0.2.1", From: "hold", To: "announce", Role: "backup", Reason: "unclaimed", Detail: "as last read"}
		var got []zkstate.Change
		for end := time.Now().Add(patience); len(got) == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			n, _, err := s.admin.Get(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			got, _ = zkstate.DecodeHistory("n1", n.Data)
		}
		if len(got) != 1 || !got[0].Equal(want) {
			t.Fatalf("%s: got %+v, want %+v", at, got, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	recalls(t, *cfg, change)
}

// recalls wants the page of a process that began later to have a change once a reload gives the page an address, and not before.
func recalls(t *testing.T, cfg daemon.Config, want daemon.Transition) {
	t.Helper()
	seen := newPicture(daemon.Identity{Node: "n2", Since: time.Now().Add(time.Second)})
	_, changed := seen.View()
	seen.show(&cfg)
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- seen.recall(ctx) }()
	select {
	case <-changed:
		t.Error("it has read a past that nobody can look at")
	case <-time.After(100 * time.Millisecond):
	}
	cfg.HTTP.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9180")}
	seen.show(&cfg)
	select {
	case <-changed:
	case <-time.After(patience):
	}
	if v, _ := seen.View(); len(v.Changes) != 1 || v.Changes[0].Node != "n1" || v.Changes[0].VIP != want.VIP {
		t.Errorf("got %+v", v.Changes)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
