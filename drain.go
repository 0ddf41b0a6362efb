package main

import (
	"context"
	"errors"
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
	// lastLook bounds the look at the maintenance nodes after a wait that was in vain.
	lastLook = time.Second
)

// waitDrained waits until the node announces nothing any more, and shows how far it is.
func (a *admin) waitDrained(ctx context.Context, o order) error {
	limit := a.cli.Duration("timeout")
	if limit == 0 {
		for i := range a.services {
			limit = max(limit, a.services[i].DrainTimeout+drainSlack)
		}
	}
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	d := &drain{node: a.node, several: len(a.services) > 1, mustSee: o.mustSee, known: maps.Clone(a.recorded)}
	p := &progress{out: a.stderr, terminal: isTerminal(a.stderr), began: began}
	var blind error // why nothing could be read lately
	for {
		asked := time.Now()
		switch err := a.look(waiting, d); {
		case err == nil:
			blind = nil
			p.show(d.lines())
			switch {
			case o.mustSee && len(d.known) == 0:
				return a.unseen(d, o)
			case d.done():
				a.say("%s, after %.1f s", d.outcome(), time.Since(began).Seconds())
				return nil
			}
		case waiting.Err() == nil || time.Since(asked) >= lookWithin/2: // else it is our own time that ran out
			blind = err
		}
		if !pause(waiting, lookEvery) {
			break
		}
	}
	return a.undrained(ctx, o, d.left(), limit, blind)
}

// unseen is the error of a wait for a node of which nothing is known.
func (a *admin) unseen(d *drain, o order) error {
	return coded{exitNotDrained, fmt.Errorf("whether %s is drained cannot be seen: it has no status record (who has one: %s); it runs the Python tool, exazk does not run there, "+
		"or its name is mistyped; its maintenance is in force; to undo that: %s", a.node, nodeNames(d.nodes()), a.again(o.undo))}
}

// undrained is the error of a wait that was in vain: left is what it still waited for, blind why that may be old.
func (a *admin) undrained(ctx context.Context, o order, left string, limit time.Duration, blind error) error {
	ended, err := a.endedMaintenance(ctx)
	switch {
	case ctx.Err() != nil:
		return a.undoable(errInterrupted, o)
	case len(ended) > 0:
		return fmt.Errorf("%s is not drained, and its maintenance has ended meanwhile (%s): its --for was over, or the clock of %s is ahead of this one, or somebody has brought it back; "+
			"what is left of it, if anything: %s", a.node, strings.Join(ended, ", "), a.node, a.again("maintenance list"))
	case blind == nil:
		blind = err
	}
	err = fmt.Errorf("%s is not drained within %v: %s; it goes on; to undo that: %s", a.node, limit, left, a.again(o.undo))
	if blind != nil {
		err = fmt.Errorf("%w; not all of this could be looked at: %w", err, blind)
	}
	return coded{exitNotDrained, err}
}

// endedMaintenance names the services whose maintenance has gone, or is over, and returns what kept it from looking.
func (a *admin) endedMaintenance(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lastLook)
	defer cancel()
	var ended []string
	var faults error
	paths, names := a.atPath(maintenancePath)
	for _, at := range paths {
		n, found, err := a.zk.Get(ctx, at)
		switch {
		case err != nil:
			faults = errors.Join(faults, err)
		case !found || over(told(n)):
			ended = append(ended, names[at])
		}
	}
	return ended, faults
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
	mustSee bool                                 // it is not done where a record has gone
	known   map[string]bool                      // the services in which the node had a record at some time
}

// see takes one look at the records.
func (d *drain) see(records map[string]map[string]zkstate.Status) {
	d.records = records
	if d.had == nil {
		d.had = make(map[string][]string)
	}
	if d.known == nil {
		d.known = make(map[string]bool)
	}
	for service, nodes := range records {
		st, found := nodes[d.node]
		if found {
			d.known[service] = true
		}
		for _, vip := range remaining(&st) {
			if !slices.Contains(d.had[service], vip) {
				d.had[service] = append(d.had[service], vip)
			}
		}
		slices.Sort(d.had[service])
	}
}

// done says whether the node announces nothing any more, and will not: it has seen its maintenance, or has gone. Where it
// must be seen, a record that has gone is waited for: its exazk may come back, and what it announced stays in ExaBGP.
func (d *drain) done() bool {
	for service, nodes := range d.records {
		st, found := nodes[d.node]
		if found && (st.Maintenance != "present" || len(remaining(&st)) > 0) || !found && d.mustSee && d.known[service] {
			return false
		}
	}
	return d.records != nil
}

// nodes names who has a status record in any service, sorted.
func (d *drain) nodes() []string {
	all := make(map[string]bool)
	for _, nodes := range d.records {
		for name := range nodes {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// outcome is what a drain that is done has come to.
func (d *drain) outcome() string {
	for _, nodes := range d.records {
		if _, found := nodes[d.node]; found {
			return d.node + " is drained"
		}
	}
	if len(d.known) == 0 {
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
		switch {
		case !found && d.mustSee && d.known[service]:
			parts = append(parts, service+": its status record has gone: exazk there has ended or lost ZooKeeper, and ExaBGP may still announce its routes")
			continue
		case !found:
			continue
		}
		for _, vip := range remaining(&st) {
			parts = append(parts, fmt.Sprintf("%s: %s", d.label(service, vip), d.keeps(vip, service)))
		}
		if st.Maintenance != "present" {
			parts = append(parts, fmt.Sprintf("%s: its exazk has not seen the maintenance", service))
		}
	}
	return strings.Join(parts, "; ")
}

// keeps says what keeps a VIP of the node.
func (d *drain) keeps(vip, service string) string {
	pending := func(r zkstate.StatusRoute) bool { return printable(r.VIP) == vip && r.Pending }
	if slices.ContainsFunc(d.records[service][d.node].Routes, pending) {
		return "withdrawn, but ExaBGP has not acknowledged that"
	}
	names := slices.DeleteFunc(announcers(vip, d.records[service]), func(n string) bool { return n == d.node })
	if len(names) > 0 {
		return strings.Join(names, " and ") + " announces it too"
	}
	return "no other node announces it"
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
