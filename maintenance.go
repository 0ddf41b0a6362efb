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
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"exazk/daemon"
	"exazk/zkstate"
)

// adminCommands are those of an operator, and of the unit that stops and starts ExaBGP.
func adminCommands(stdout, stderr io.Writer) []*cli.Command {
	wait := &cli.BoolFlag{Name: "wait", Usage: "return when the node announces nothing any more; exit with 4 where that is not so in time, or cannot be seen"}
	timeout := &cli.DurationFlag{Name: "timeout", Usage: "wait no longer than `DURATION`", DefaultText: "drain_timeout of this configuration, also for another node, and 5 s"}
	force := &cli.BoolFlag{Name: "force", Usage: "also where no other node could take over"}
	reason := &cli.StringFlag{Name: "reason", Usage: "say why: `TEXT`"}
	length := &cli.DurationFlag{Name: "for", Usage: "it ends by itself after `DURATION`", DefaultText: "it does not"}
	command := func(name, usage, text string, do func(context.Context, *admin) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, UsageText: text, Description: exitCodes, HideHelpCommand: true, Flags: append(flags, whereFlags()...),
			OnUsageError: subcommandUsage, Action: adminAction(stdout, stderr, do)}
	}
	services := func() cli.Flag {
		return &cli.StringSliceFlag{Name: "service", Usage: "only for `SERVICE`; repeat it for each (default: all of the configuration)"}
	}
	return []*cli.Command{
		{
			Name: "maintenance", Usage: "drain a node and bring it back", UsageText: "exazk maintenance enter|leave|list …", HideHelpCommand: true,
			OnUsageError: subcommandUsage,
			Action: func(c *cli.Context) error {
				return usage(fmt.Errorf("what about it? usage: %s", c.Command.UsageText))
			},
			Subcommands: []*cli.Command{
				command("enter", "drain a node: others take its VIPs, then it withdraws them", "exazk maintenance enter [NODE] [--service SERVICE]… [--reason TEXT] [--for DURATION] [--wait [--timeout DURATION]] [--force]",
					enterAction, services(), reason, length, wait, timeout, force),
				command("leave", "bring a node back", "exazk maintenance leave [NODE] [--service SERVICE]…", leaveAction, services()),
				command("list", "show who is in maintenance", "exazk maintenance list [NODE] [--service SERVICE]… [--json]", listAction, services(),
					&cli.BoolFlag{Name: "json", Usage: "as JSON"}),
			},
		},
		command("drain", "drain this node before ExaBGP stops, and wait", "exazk drain [--for DURATION] [--reason TEXT] [--timeout DURATION] [--force] | exazk drain --undo",
			drainAction, reason, length, timeout, force, &cli.BoolFlag{Name: "undo", Usage: "bring this node back, unless an operator has drained it"}),
		command("failback", "let a node take back the VIPs that it waits for", "exazk failback [NODE] [--service SERVICE]…", failbackAction, services()),
	}
}

// withoutFile is the category of the options that stand in for a file.
const withoutFile = "without a file, as for the Python tool"

// whereFlags say which node this is and where ZooKeeper is.
func whereFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Aliases: []string{"f"}, Usage: "read the configuration from `FILE` (default: the only *.toml in " + configDir + ")"},
		&cli.StringSliceFlag{Name: "zk-host", Aliases: []string{"zH", "zk-hosts"}, Category: withoutFile, Usage: "a ZooKeeper server, `HOST` or HOST:PORT; repeat it for each"},
		&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Category: withoutFile, Usage: "the `NAME` of the service"},
		&cli.StringFlag{Name: "zk-path-maintenance", Aliases: []string{"zPM"}, Category: withoutFile, Usage: "the `KEY` of this node's maintenance"},
		&cli.StringFlag{Name: "zk-path-service", Aliases: []string{"zPS"}, Category: withoutFile, Usage: "the `KEY` of the claims"},
	}
}

func enterAction(ctx context.Context, a *admin) error {
	f := word("maintenance", a.cli.String("reason"), a.cli.Duration("for"))
	return a.enter(ctx, f, order{wait: a.cli.Bool("wait"), mustSee: true, undo: "maintenance leave"})
}

// drainAction drains this node before ExaBGP stops. An exazk that is not there, or goes, is no reason not to stop.
func drainAction(ctx context.Context, a *admin) error {
	if a.cli.Bool("undo") {
		return a.leave(ctx, true)
	}
	return a.enter(ctx, word("drain", a.cli.String("reason"), a.cli.Duration("for")), order{wait: true, undo: "drain --undo"})
}

func leaveAction(ctx context.Context, a *admin) error { return a.leave(ctx, false) }

// order is what beside the word itself makes a drain.
type order struct {
	wait    bool
	mustSee bool   // it is done only where the node is seen to announce nothing, not where it has no status record
	undo    string // the command that takes it back
}

// enter drains the node.
func (a *admin) enter(ctx context.Context, f daemon.Flag, o order) error {
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := a.mayEnter(asking); err != nil {
		return interrupted(ctx, err)
	}
	var fresh []string // what was not in maintenance before
	paths, names := a.atPath(maintenancePath)
	for i, at := range paths {
		keep := func(old daemon.Flag) bool { return f.By == "drain" && old.By != "drain" }
		before, kept, err := a.put(asking, at, f, keep)
		switch {
		case ctx.Err() != nil:
			return a.undoable(errInterrupted, o)
		case err != nil && i == 0 && errors.Is(err, zkstate.ErrRefused):
			return err // nothing is written
		case err != nil:
			return a.undoable(err, o)
		case kept:
			a.say("%s: %s is in maintenance already (%s); that is an operator's and stays", names[at], a.node, describe(*before))
		case before != nil:
			a.say("%s: %s was in maintenance already (%s); what was said about it is replaced", names[at], a.node, describe(*before))
		default:
			fresh = append(fresh, at)
			a.say("%s: %s is in maintenance now", names[at], a.node)
		}
	}
	switch err := a.stillMay(asking, fresh); {
	case ctx.Err() != nil:
		return a.undoable(errInterrupted, o)
	case errors.As(err, new(coded)):
		return err // refused, and taken back
	case err != nil:
		return a.undoable(err, o)
	}
	if !o.wait {
		return nil
	}
	return a.waitDrained(ctx, o)
}

// undoable is an error in the midst of a drain: what was written stays, and what got no answer may have been written.
func (a *admin) undoable(err error, o order) error {
	return fmt.Errorf("%w; a drain of %s may be in force; to undo it: %s", err, a.node, a.again(o.undo))
}

// mayEnter refuses a drain that would leave VIPs to nobody, and says where that cannot be told.
func (a *admin) mayEnter(ctx context.Context) error {
	var alone []string
	for i := range a.services {
		s := &a.services[i]
		_, already, err := a.zk.Get(ctx, s.MaintenancePath)
		if err != nil {
			return err
		}
		records, err := a.zk.Statuses(ctx, path.Dir(s.StatusPath))
		if err != nil {
			return err
		}
		if _, found := records[a.node]; !found {
			a.sayNoRecord(s, records)
		} else {
			a.recorded[s.Name] = true
		}
		if !already && !a.cli.Bool("force") {
			vips, err := a.stranded(ctx, s, records)
			if err != nil {
				return err
			}
			alone = append(alone, vips...)
		}
	}
	return a.refuse(alone)
}

// stillMay looks again after the drain was asked for, since another node may have been drained at the same moment. Then
// what is fresh is taken back.
func (a *admin) stillMay(ctx context.Context, fresh []string) error {
	if a.cli.Bool("force") || len(fresh) == 0 {
		return nil
	}
	var alone []string
	for i := range a.services {
		s := &a.services[i]
		records, err := a.zk.Statuses(ctx, path.Dir(s.StatusPath))
		if err != nil {
			return err
		}
		vips, err := a.stranded(ctx, s, records)
		if err != nil {
			return err
		}
		alone = append(alone, vips...)
	}
	if len(alone) > 0 {
		for _, at := range fresh {
			if _, err := a.zk.Delete(ctx, at, -1); err != nil {
				return err
			}
		}
		a.say("another node was drained at the same moment; %s is not in maintenance any more", a.node)
	}
	return a.refuse(alone)
}

// refuse is the error where VIPs would be left to nobody.
func (a *admin) refuse(alone []string) error {
	if len(alone) == 0 {
		return nil
	}
	return coded{exitRefused, fmt.Errorf("refused: by the status records no other node could take over from %s: %s; remedy: bring another node up first, or give --force. "+
		"Nodes of the Python tool write no status record: if one of them backs these VIPs up, --force is right", a.node, strings.Join(alone, ", "))}
}

func (a *admin) sayNoRecord(s *daemon.Service, records map[string]zkstate.Status) {
	a.say("%s: %s has no status record (who has one: %s): a node of the Python tool has none, nor one where exazk does not run; what it announces cannot be told",
		s.Name, a.node, nodeNames(slices.Sorted(maps.Keys(records))))
}

func nodeNames(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return printable(strings.Join(names, ", "))
}

// stranded names the VIPs of a service that the node announces and nobody else could: a node that was just drained may not
// have written that into its record yet.
func (a *admin) stranded(ctx context.Context, s *daemon.Service, records map[string]zkstate.Status) ([]string, error) {
	drained, err := a.zk.Children(ctx, path.Dir(s.MaintenancePath))
	if err != nil {
		return nil, err
	}
	for _, name := range drained {
		if name != a.node {
			delete(records, name)
		}
	}
	var vips []string
	for _, vip := range stranded(a.node, records) {
		vips = append(vips, fmt.Sprintf("%s (%s)", vip, s.Name))
	}
	return vips, nil
}

// stranded names the VIPs that a node announces and that, by the records of a service, no other node could.
func stranded(node string, records map[string]zkstate.Status) []string {
	var vips []string
	for _, r := range records[node].Routes {
		taken := false
		for name, other := range records { // any one will do: the order does not matter
			taken = taken || name != node && couldTake(r.VIP, &other)
		}
		if (r.Verdict == "announce" || r.Announced) && !taken {
			vips = append(vips, printable(r.VIP))
		}
	}
	return vips
}

// couldTake says whether a node can announce a VIP to somebody.
func couldTake(vip string, st *zkstate.Status) bool {
	heard := len(st.Neighbors) == 0 || slices.ContainsFunc(st.Neighbors, func(n zkstate.StatusNeighbor) bool { return n.State == "up" })
	knows := slices.ContainsFunc(st.Routes, func(r zkstate.StatusRoute) bool { return r.VIP == vip })
	return st.Health == "healthy" && st.Maintenance == "absent" && heard && knows
}

// leave brings the node back; with drainOnly only where "exazk drain" has drained it.
func (a *admin) leave(ctx context.Context, drainOnly bool) error {
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	paths, names := a.atPath(maintenancePath)
	for _, at := range paths {
		n, found, err := a.zk.Get(asking, at)
		if err != nil {
			return interrupted(ctx, err)
		}
		f := told(n)
		switch {
		case !found && drainOnly:
			a.say("%s: %s is not drained; nothing to undo", names[at], a.node)
		case !found:
			a.say("%s: %s was not in maintenance", names[at], a.node)
		case drainOnly && f.By != "drain":
			a.say("%s: %s stays in maintenance (%s): an operator has drained it; remedy: %s", names[at], a.node, describe(f), a.again("maintenance leave"))
		default:
			if drainOnly {
				if err := a.giveBack(asking, at); err != nil {
					return interrupted(ctx, err)
				}
			}
			if err := a.lift(asking, at, n, drainOnly); err != nil {
				return interrupted(ctx, err)
			}
			a.say("%s: %s is back from maintenance (%s)", names[at], a.node, describe(f))
		}
	}
	return nil
}

// giveBack lets the services of a maintenance node take their VIPs back after a planned restart: the exazk of the new
// ExaBGP may find the maintenance gone already, and would take its absence for a failure. It comes before the end of the
// maintenance, so that a second try does what a first has left.
func (a *admin) giveBack(ctx context.Context, maintenance string) error {
	for i := range a.services {
		s := &a.services[i]
		if s.MaintenancePath != maintenance || s.Failback != daemon.FailbackManual && s.FailbackDelay == 0 {
			continue
		}
		if err := a.allowFailback(ctx, s.FailbackPath, word("drain", "", 0)); err != nil {
			return err
		}
		a.say("%s: %s need not wait for a failback: its absence was planned", s.Name, a.node)
	}
	return nil
}

// allowFailback writes a failback node, in the place of any that is there.
func (a *admin) allowFailback(ctx context.Context, at string, f daemon.Flag) error {
	_, _, err := a.put(ctx, at, f, func(daemon.Flag) bool { return false })
	return err
}

// lift deletes a maintenance node; with same only as it was read.
func (a *admin) lift(ctx context.Context, at string, n zkstate.Node, same bool) error {
	version := zkstate.Any
	if same {
		version = n.Version
	}
	deleted, err := a.zk.Delete(ctx, at, version)
	if err != nil || deleted || !same {
		return err
	}
	if _, found, err := a.zk.Get(ctx, at); err != nil || !found {
		return err // the answer was lost, or the node itself has ended it
	}
	return fmt.Errorf("delete %q: somebody has written to it this moment; remedy: look with %q and try again", at, "exazk maintenance list")
}

// entry is one node in maintenance. The names of its fields are those of "exazk maintenance list --json".
type entry struct {
	Node    string `json:"node"`
	Service string `json:"service"`
	Path    string `json:"path"`
	daemon.Flag
	Over  bool   `json:"over"`  // its end lies in the past, by this host's clock: exazk there no longer obeys it, and removes it
	State string `json:"state"` // draining | drained | announcing | no record
}

func listAction(ctx context.Context, a *admin) error {
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	list := []entry{}
	for i := range a.services {
		entries, err := a.inMaintenance(asking, &a.services[i])
		if err != nil {
			return interrupted(ctx, err)
		}
		list = append(list, entries...)
	}
	if a.cli.Bool("json") {
		return printJSON(a.stdout, list)
	}
	switch {
	case len(list) == 0 && a.cli.Args().Present():
		a.say("%s is not in maintenance", a.node)
		return nil
	case len(list) == 0:
		a.say("no node is in maintenance")
		return nil
	}
	return printList(a.stdout, list)
}

func printList(out io.Writer, list []entry) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSERVICE\tSINCE\tUNTIL\tWHO\tREASON\tSTATE")
	for _, e := range list {
		until := ""
		if !e.Until.IsZero() {
			until = e.Until.UTC().Format(time.RFC3339)
		}
		state := e.State
		if e.Over {
			state = "over, " + state
		}
		cells := []string{e.Node, e.Service, e.Since.UTC().Format(time.RFC3339), until, e.Who, e.Reason, state}
		for i, cell := range cells {
			if cells[i] = printable(cell); cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// inMaintenance finds every node that is in maintenance for a service, or the one that was asked for.
func (a *admin) inMaintenance(ctx context.Context, s *daemon.Service) ([]entry, error) {
	names := []string{a.node}
	dir, last := path.Split(s.MaintenancePath)
	all := last == a.node && !a.cli.Args().Present()
	if all {
		var err error
		if names, err = a.zk.Children(ctx, path.Clean(dir)); err != nil {
			return nil, err
		}
	}
	records, err := a.zk.Statuses(ctx, path.Dir(s.StatusPath))
	if err != nil {
		return nil, err
	}
	var list []entry
	for _, name := range names {
		at := s.MaintenancePath
		if all {
			at = dir + name
		}
		n, found, err := a.zk.Get(ctx, at)
		if err != nil {
			return nil, err
		}
		if found {
			f := told(n)
			list = append(list, entry{Node: name, Service: s.Name, Path: at, Flag: f, Over: over(f), State: stateOf(name, records)})
		}
	}
	return list, nil
}

// over says whether a maintenance's end has come, by this host's clock.
func over(f daemon.Flag) bool { return !f.Until.IsZero() && !time.Now().Before(f.Until) }

// stateOf says in a word how far the drain of a node is.
func stateOf(node string, records map[string]zkstate.Status) string {
	st, found := records[node]
	switch {
	case !found:
		return "no record"
	case len(remaining(&st)) == 0:
		return "drained"
	case st.Maintenance == "present":
		return "draining"
	}
	return "announcing"
}

// remaining names the VIPs that a node announces, or may announce, or has not seen ExaBGP withdraw.
func remaining(st *zkstate.Status) []string {
	var vips []string
	for _, r := range st.Routes {
		if r.Verdict != "withdraw" || r.Announced || r.Pending {
			vips = append(vips, printable(r.VIP))
		}
	}
	return vips
}

// waiting are the reasons for which a node leaves its own VIPs to others until an operator or the time says otherwise.
var waiting = []daemon.Reason{daemon.ReasonFailbackManual, daemon.ReasonFailbackDelay, daemon.ReasonFlapping}

func failbackAction(ctx context.Context, a *admin) error {
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for i := range a.services {
		s := &a.services[i]
		records, err := a.zk.Statuses(asking, path.Dir(s.StatusPath))
		if err != nil {
			return interrupted(ctx, err)
		}
		st, found := records[a.node]
		vips := awaited(&st)
		switch {
		case !found:
			a.sayNoRecord(s, records)
			a.say("%s: %s takes its VIPs back when exazk starts there", s.Name, a.node)
		case len(vips) == 0:
			a.say("%s: note: %s does not wait for this (health %s, maintenance %s)", s.Name, a.node, printable(st.Health), printable(st.Maintenance))
		default:
			a.say("%s: %s waited, and takes back: %s", s.Name, a.node, strings.Join(vips, ", "))
		}
	}
	paths, _ := a.atPath(failbackPath)
	for _, at := range paths {
		if err := a.allowFailback(asking, at, word("failback", "", 0)); err != nil {
			return interrupted(ctx, err)
		}
	}
	return nil
}

// awaited names the VIPs that a node waits to take back, each with the reason word.
func awaited(st *zkstate.Status) []string {
	var vips []string
	for _, r := range st.Routes {
		if slices.Contains(waiting, daemon.Reason(r.Reason)) {
			vips = append(vips, fmt.Sprintf("%s (%s)", printable(r.VIP), r.Reason))
		}
	}
	return vips
}

// printable keeps what lies in ZooKeeper from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
