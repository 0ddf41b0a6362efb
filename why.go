package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"exazk/cluster"
	"exazk/daemon"
)

func whyAction(ctx context.Context, a *admin) error {
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	v, err := a.view(asking)
	if err != nil {
		return interrupted(ctx, err)
	}
	all := []cluster.Explanation{}
	var known []string
	for _, s := range v.Services {
		for _, vip := range s.VIPs {
			known = append(known, vip.VIP)
		}
		if e, found := cluster.Why(&v, s.Name, a.vip); found {
			all = append(all, e)
		}
	}
	switch {
	case len(all) == 0:
		return usage(fmt.Errorf("%s is no VIP of %s; remedy: name one of %s", a.vip, strings.Join(serviceNames(a.services), ", "), printable(strings.Join(known, ", "))))
	case a.cli.Bool("json"):
		return printJSON(a.stdout, all)
	}
	for _, e := range all {
		if err := printWhy(a.stdout, &v, &e, colours(a.stdout)); err != nil {
			return err
		}
	}
	return nil
}

// printWhy shows what is wrong with a VIP, then for each node its verdict, the fact that decided, the other facts, and what led
// to it.
func printWhy(out io.Writer, v *cluster.View, e *cluster.Explanation, colour bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s\n", printable(e.VIP), printable(e.Service), paint(colour, e.Level, e.Level.String()))
	for _, f := range e.Findings {
		fmt.Fprintf(&b, "  %s\n", paint(colour, f.Level, printable(f.Text)))
	}
	for i := range e.Nodes {
		c := &e.Nodes[i]
		fmt.Fprintf(&b, "\n%s\n  because %s\n", printable(headline(v, c)), printable(c.Because))
		for _, f := range c.Facts {
			fmt.Fprintf(&b, "  - %s\n", printable(f))
		}
		for _, change := range c.Changes {
			fmt.Fprintf(&b, "  %s %s\n", stamp(change), printable(cluster.Tell(change)))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// headline is what a node does about the VIP.
func headline(v *cluster.View, c *cluster.Cause) string {
	text := c.Node
	if c.Owner {
		text += ", its owner,"
	}
	does, known := map[string]string{"announce": "announces it", "withdraw": "does not announce it", "hold": "leaves it as it is"}[c.Verdict]
	if !known {
		return strings.TrimSuffix(text, ",") + ": " + c.Word
	}
	if c.Verdict == daemon.Announce.String() && !c.Heard {
		does = "wants to announce it"
	}
	text += " " + does
	if !c.Since.IsZero() {
		text += " since " + c.Since.UTC().Format("2006-01-02 15:04:05Z") + " (" + cluster.Age(v.At.Sub(c.Since)) + ")"
	}
	return text + ": " + c.Word
}
