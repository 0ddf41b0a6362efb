package main

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"exazk/cluster"
)

func historyAction(ctx context.Context, a *admin) error {
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var changes []cluster.Change
	for i := range a.services {
		s := &a.services[i]
		more, none, err := a.histories(asking, s)
		if err != nil {
			return interrupted(ctx, err)
		}
		changes = append(changes, more...)
		for _, node := range slices.Sorted(maps.Keys(none)) {
			a.say("note: %s is left out: %v; exazk there replaces it with its next change; remedy where none runs: delete it", printable(path.Join(path.Dir(s.HistoryPath), node)), none[node])
		}
	}
	known := map[string]bool{}
	for _, c := range changes {
		known[c.Node] = true
	}
	changes = slices.DeleteFunc(cluster.Newest(changes), func(c cluster.Change) bool {
		return a.vip != "" && c.VIP != a.vip || a.cli.Args().Present() && c.Node != a.node
	})
	changes = changes[:min(len(changes), a.cli.Int("lines"))]
	if a.cli.Bool("json") {
		return printJSON(a.stdout, changes)
	}
	switch {
	case len(changes) > 0:
	case a.cli.Args().Present() && !known[a.node]:
		a.say("no change of %s is recorded (of whom there are some: %s)", a.node, nodeNames(slices.Sorted(maps.Keys(known))))
	default:
		a.say("no change is recorded")
	}
	for _, c := range changes {
		if _, err := fmt.Fprintf(a.stdout, "%s %s %s\n", stamp(c), printable(c.Node), printable(label(c, len(a.services) > 1)+cluster.Tell(c))); err != nil {
			return err
		}
	}
	return nil
}

// label names the service of a change where there are several.
func label(c cluster.Change, several bool) string {
	if !several || c.Service == "" {
		return ""
	}
	return c.Service + " "
}

// stamp is the time of a change: when it was, by the clock of its node.
func stamp(c cluster.Change) string { return c.At.UTC().Format("2006-01-02 15:04:05.000Z") }
