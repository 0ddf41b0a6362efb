package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"exazk/cluster"
)

// hostile is a picture whose every text tries to steer the terminal and to break out of its line.
func hostile() cluster.View {
	const bad = "\x1b[2Jx\ny\tz\u202e"
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	return cluster.View{At: at, Level: cluster.Down, Services: []cluster.Service{{
		Name: "web", Level: cluster.Down, Findings: []cluster.Finding{{Level: cluster.Down, Word: cluster.NoAnnouncer, Text: bad}},
		VIPs:  []cluster.VIP{{VIP: "192.0.2.1", Owner: bad, Claim: bad, Level: cluster.Down, Routes: []cluster.Route{{Node: bad, Verdict: "withdraw", Reason: bad, Detail: bad, Pending: true, Drift: true}}}},
		Nodes: []cluster.Node{{Node: bad, Present: true, Version: bad, Health: "unhealthy", HealthDetail: bad, Maintenance: "present", Note: bad, Neighbors: []cluster.Neighbor{{Peer: bad, State: bad}}}, {Node: "n2"}},
	}}}
}

func TestHostileTextStaysInItsCell(t *testing.T) {
	v := hostile()
	var plain bytes.Buffer
	if err := printView(&plain, &v, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(plain.String(), "\x1b\t\u202e") || strings.Count(plain.String(), "\n") != 9 {
		t.Errorf("%q", plain.String())
	}
	e, found := cluster.Why(&v, "web", "192.0.2.1")
	if !found {
		t.Fatal("not explained")
	}
	var why bytes.Buffer
	if err := printWhy(&why, &v, &e, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(why.String(), "\x1b\t\u202e") {
		t.Errorf("%q", why.String())
	}
}

// TestHeadlineSaysWhatIsSo: what no neighbor hears is not announced, whatever the node wants.
func TestHeadlineSaysWhatIsSo(t *testing.T) {
	for want, route := range map[string]cluster.Route{
		"n1, its owner, announces it: authoritative":        {Verdict: "announce", Reason: "authoritative", Announced: true},
		"n1, its owner, wants to announce it: no neighbor":  {Verdict: "announce", Reason: "authoritative", Unheard: true},
		"n1, its owner, does not announce it: maintenance":  {Verdict: "withdraw", Reason: "maintenance"},
		"n1, its owner, leaves it as it is: health-unknown": {Verdict: "hold", Reason: "health-unknown"},
	} {
		route.Node = "n1"
		v := cluster.View{Services: []cluster.Service{{Name: "web",
			VIPs: []cluster.VIP{{VIP: "192.0.2.1", Owner: "n1", Routes: []cluster.Route{route}}}, Nodes: []cluster.Node{{Node: "n1", Present: true}}}}}
		e, _ := cluster.Why(&v, "web", "192.0.2.1")
		if got := headline(&v, &e.Nodes[0]); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestColoursAreForTerminals, and only for those whose user has not said no.
func TestColoursAreForTerminals(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	defer master.Close()
	if _, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS); err != nil {
		t.Skipf("this is no terminal: %v", err)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	v := hostile()
	for name, tt := range map[string]struct {
		env  [2]string
		want bool
	}{"plain": {[2]string{"NO_COLOR", ""}, true}, "no": {[2]string{"NO_COLOR", "1"}, false}, "dumb": {[2]string{"TERM", "dumb"}, false}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(tt.env[0], tt.env[1])
			if got := colours(master); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
	if colours(&bytes.Buffer{}) {
		t.Error("a file gets colours")
	}
	var painted bytes.Buffer
	if err := printView(&painted, &v, true); err != nil || !strings.Contains(painted.String(), "web: \x1b[1;31mdown\x1b[0m\n") {
		t.Errorf("%q, %v", painted.String(), err)
	}
}
