package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
)

// unable lists what the lab cannot do, and why.
var unable = map[fault.Kind]string{
	fault.LagServer: "a delay of a server's packets would delay its clients and the elections as well, and a server that is only behind cannot be had from outside",
	fault.ByHand:    "its rules take every route for one that a node has decided on",
	fault.Squat:     "its rules take a claim for that of the node that announces",
	fault.Reload:    "its rules know no other configuration of a process that runs; reconfigure starts another one",
}

// ExaBGP 4.2 ends itself when a process of it was started more than 5 times within a clock's period of 64 s
// (reactor/api/processes.py). So a load balancer gets no more ends of its process in that time.
const (
	respawns    = 4
	respawnTime = 64 * time.Second
)

// endsExazk says whether ExaBGP has to start exazk again after a fault.
func endsExazk(k fault.Kind) bool {
	return k == fault.KillExazk || k == fault.TermExazk || k == fault.Reconfigure
}

// able lists the kinds that the lab can do.
func able() []fault.Kind {
	return slices.DeleteFunc(fault.All(), func(k fault.Kind) bool { return unable[k] != "" })
}

// planned lists those of them that are planned.
func planned() []fault.Kind {
	return slices.DeleteFunc(able(), func(k fault.Kind) bool { return !k.Planned() })
}

// length of the part of a round in which there are faults, and of the longest of them.
type length struct{ faults, longest time.Duration }

// firstFault is when the first fault of a round may begin: the client must be at work, and be seen to lose nothing.
const firstFault = 2 * time.Second

// fewest is how many faults a round has at least, for what they do to each other.
const fewest = 4

// draw draws the faults of a round. Every fourth round has planned ones only. Nothing is waited for before the first.
func draw(seed, round uint64, l length) (faults []fault.Fault, dropped []string) {
	r := rand.New(rand.NewPCG(seed, round))
	opt := fault.Options{Nodes: len(lab.Balancers()), Servers: 3, From: firstFault, To: firstFault + l.faults, Kinds: able(), Longest: l.longest, Most: 12}
	if r.IntN(4) == 0 {
		opt.Kinds = planned()
	}
	for len(faults) < fewest {
		faults, dropped = tidy(fault.Draw(r, opt))
	}
	early := faults[0].At - firstFault
	for i := range faults {
		faults[i].At -= early
	}
	return faults, dropped
}

// readScript reads faults, one a line. Empty lines and those that begin with # are nothing.
func readScript(in io.Reader) ([]fault.Fault, error) {
	var faults []fault.Fault
	for lines := bufio.NewScanner(in); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f, err := fault.Parse(line)
		if err != nil {
			return nil, err
		}
		if f.Node >= len(lab.Balancers()) || f.Server >= 3 {
			return nil, fmt.Errorf("%q: the lab has three nodes and three servers", line)
		}
		if why := unable[f.Kind]; why != "" {
			return nil, fmt.Errorf("%q: the lab cannot do that: %s", line, why)
		}
		if faults = append(faults, f); f.At < firstFault {
			return nil, fmt.Errorf("%q: the first fault comes after %v", line, firstFault)
		}
	}
	slices.SortStableFunc(faults, func(a, b fault.Fault) int { return int(a.At - b.At) })
	return faults, nil
}

// tidy leaves out what does not go together on one node, the later of two, and says why.
func tidy(faults []fault.Fault) (kept []fault.Fault, dropped []string) {
	for _, f := range faults {
		why := ""
		ends := 0
		for _, k := range kept {
			if k.Kind.OfEnsemble() || f.Kind.OfEnsemble() || k.Node != f.Node {
				continue
			}
			if endsExazk(k.Kind) {
				ends++
			}
			if clash(k.Kind, f.Kind) && f.At <= k.End()+settleDown && k.At <= f.End()+settleDown {
				why = "not together with " + k.String()
			}
		}
		if endsExazk(f.Kind) && ends >= respawns {
			why = "ExaBGP would end"
		}
		if why != "" {
			dropped = append(dropped, f.String()+": "+why)
			continue
		}
		kept = append(kept, f)
	}
	return kept, dropped
}

// settleDown keeps faults apart that clash.
const settleDown = 2 * time.Second

// clash says that two kinds use the same means on a node. systemd is one: it stops and starts one thing at a time, and a
// process that stands still would only keep it waiting. The maintenance node is another: there is one of it.
func clash(a, b fault.Kind) bool {
	for _, group := range [][]fault.Kind{
		{fault.RestartExaBGP, fault.KillExaBGP, fault.PauseExaBGP, fault.SlowExaBGP, fault.Crash},
		{fault.RestartExaBGP, fault.Maintenance, fault.Until},
		{fault.FlapCheck}, {fault.HangCheck}, {fault.SickCheck}, {fault.PauseExazk},
	} {
		if slices.Contains(group, a) && slices.Contains(group, b) {
			return true
		}
	}
	waits := func(k fault.Kind) bool { return k == fault.PauseExazk || k == fault.TermExazk }
	return a == fault.RestartExaBGP && waits(b) || b == fault.RestartExaBGP && waits(a)
}
