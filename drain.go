package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"exazk/zkstate"
)

const (
	lookEvery  = 100 * time.Millisecond
	lookWithin = 2 * time.Second
	// drainSlack is what a wait has beyond the time after which the node withdraws in any case.
	drainSlack = 5 * time.Second
)

// waitDrained waits until the node announces nothing any more, and shows how far it is.
func (a *admin) waitDrained(ctx context.Context, undo string) error {
	limit := a.cli.Duration("timeout")
	if limit == 0 {
		for i := range a.services {
			limit = max(limit, a.services[i].DrainTimeout+drainSlack)
		}
	}
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	d := &drain{node: a.node, several: len(a.services) > 1, blind: !a.recorded}
	p := &progress{out: a.stderr, terminal: isTerminal(a.stderr), began: began}
	var blind error // why nothing could be read lately
	for {
		asked := time.Now()
		switch err := a.look(waiting, d); {
		case err == nil:
			blind = nil
			p.show(d.lines())
			if d.done() {
				a.say("%s, after %.1f s", d.outcome(), time.Since(began).Seconds())
				return nil
			}
		case time.Since(asked) >= lookWithin/2: // else it is our own time that ran out
			blind = err
		}
		if !pause(waiting, lookEvery) {
			break
		}
	}
	if ctx.Err() != nil {
		return a.undoable(undo)
	}
	err := fmt.Errorf("%s is not drained within %v: %s; it goes on; to undo that: %s", a.node, limit, d.left(), a.again(undo))
	if blind != nil {
		err = fmt.Errorf("%w; what is said of it is old: %w", err, blind)
	}
	return coded{exitNotDrained, err}
}

// pause waits for d; it returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// look reads the status records of every service.
func (a *admin) look(ctx context.Context, d *drain) error {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	now := make(map[string]map[string]zkstate.Status)
	for i := range a.services {
		s := &a.services[i]
		records, err := a.zk.Statuses(ctx, path.Dir(s.StatusPath))
		if err != nil {
			return err
		}
		now[s.Name] = records
	}
	d.see(now)
	return nil
}

// drain follows a node that is drained by what the status records say.
type drain struct {
	node    string
	several bool                                 // services
	records map[string]map[string]zkstate.Status // by service and node, as last seen
	had     map[string][]string                  // by service: the VIPs that the node was seen to announce
	blind   bool                                 // it had no record in any service before
}

// see takes one look at the records.
func (d *drain) see(records map[string]map[string]zkstate.Status) {
	d.records = records
	if d.had == nil {
		d.had = make(map[string][]string)
	}
	for service, nodes := range records {
		st := nodes[d.node]
		for _, vip := range remaining(&st) {
			if !slices.Contains(d.had[service], vip) {
				d.had[service] = append(d.had[service], vip)
			}
		}
		slices.Sort(d.had[service])
	}
}

// done says whether the node announces nothing any more, and will not: it has seen its maintenance, or has gone.
func (d *drain) done() bool {
	for _, nodes := range d.records {
		if st, found := nodes[d.node]; found && (st.Maintenance != "present" || len(remaining(&st)) > 0) {
			return false
		}
	}
	return d.records != nil
}

// outcome is what a drain that is done has come to.
func (d *drain) outcome() string {
	for _, nodes := range d.records {
		if _, found := nodes[d.node]; found {
			return d.node + " is drained"
		}
	}
	if d.blind {
		return d.node + " has no status record: when it is drained cannot be told"
	}
	return d.node + " has stopped: its status record is gone"
}

// lines says for every VIP of the node who announces it now.
func (d *drain) lines() []string {
	var lines []string
	for _, service := range slices.Sorted(maps.Keys(d.had)) {
		for _, vip := range d.had[service] {
			who := "announced by " + strings.Join(announcers(vip, d.records[service]), " and ")
			if who == "announced by " {
				who = "announced by nobody"
			}
			lines = append(lines, d.label(service, vip)+": "+who)
		}
	}
	return lines
}

func (d *drain) label(service, vip string) string {
	if d.several {
		return vip + " (" + service + ")"
	}
	return vip
}

// announcers names the nodes that announce a VIP and are heard, sorted.
func announcers(vip string, nodes map[string]zkstate.Status) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if slices.ContainsFunc(nodes[name].Routes, func(r zkstate.StatusRoute) bool { return r.VIP == vip && r.Announced }) {
			names = append(names, printable(name))
		}
	}
	return names
}

// left is what a drain that is not done still waits for.
func (d *drain) left() string {
	if d.records == nil {
		return "nothing could be read"
	}
	var parts []string
	for _, service := range slices.Sorted(maps.Keys(d.records)) {
		st, found := d.records[service][d.node]
		if !found {
			continue
		}
		for _, vip := range remaining(&st) {
			names := slices.DeleteFunc(announcers(vip, d.records[service]), func(n string) bool { return n == d.node })
			took := "no other node announces it"
			if len(names) > 0 {
				took = strings.Join(names, " and ") + " announces it too"
			}
			parts = append(parts, fmt.Sprintf("%s: %s", d.label(service, vip), took))
		}
		if st.Maintenance != "present" {
			parts = append(parts, fmt.Sprintf("%s: its exazk has not seen the maintenance", service))
		}
	}
	return strings.Join(parts, "; ")
}

// progress shows lines that change: in place on a terminal, otherwise each that is new.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	shown    []string
}

func (p *progress) show(lines []string) {
	if slices.Equal(lines, p.shown) {
		return
	}
	if p.terminal && len(p.shown) > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA", len(p.shown)) // up to the first of them
	}
	for _, line := range lines {
		switch {
		case p.terminal:
			fmt.Fprintf(p.out, "\r\x1b[K  %s\n", line) // over what was there
		case !slices.Contains(p.shown, line):
			fmt.Fprintf(p.out, "%.1f s: %s\n", time.Since(p.began).Seconds(), line)
		}
	}
	p.shown = slices.Clone(lines)
}
