package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"exazk/vagrant/probe/timeline"
)

const pageTop = `# What a failover costs

Made by ` + "`make bench-failover`" + `; do not edit. A client sends a numbered datagram to each of three VIPs every 2 ms (` + "`vagrant/probe`" + `),
across the lab of ` + "`vagrant/lab`" + `: three load balancers behind a ToR each, and a spine, all real daemons in network namespaces of
one machine. A probe is lost if no answer came within a second. A *gap* is the time from the last answered probe before a
loss to the first one after it. Each load balancer in turn is the one that things happen to.

Two timers bound what a silent failure may cost, and here they are: **BGP hold time 3 s**, **ZooKeeper session timeout 4 s**
(and the server's tick of 0.1 s, since it ends sessions on a multiple of that). The check runs every 1 s, every 0.2 s once it
failed, and two failures count.

*Anycast* is the same lab with ExaBGP's own healthcheck in place of exazk, and no ZooKeeper: all three nodes announce all
VIPs for as long as their check succeeds (` + "`--interval 1 --fast-interval 0.2 --rise 3 --fall 2`" + `). All three VIPs are then served by lb1,
which the spine prefers, so everything happens to lb1. It fails over as fast as the fabric does, because the others announce
already; what it does not give is one node for each VIP, which is why one asks for exazk.

`

// page writes docs/failover.md. Scenarios without a run are left out.
func page(r results, list []scenario) []byte {
	var b bytes.Buffer
	b.WriteString(pageTop)
	fmt.Fprintf(&b, "Measured on %s.\n\n", r.Machine)
	var shown []scenario
	for _, s := range list {
		if slices.ContainsFunc(variants, func(v variant) bool { return len(r.of(s.name, v)) > 0 }) {
			shown = append(shown, s)
		}
	}
	b.WriteString(mainTable(r, shown))
	b.WriteString(legend)
	b.WriteString(standbyTable(r, shown))
	for _, s := range shown {
		b.WriteString(section(r, s))
	}
	return b.Bytes()
}

// mainTable is of exazk as it is by default; "" if only other variants were played.
func mainTable(r results, shown []scenario) string {
	var rows strings.Builder
	for _, s := range shown {
		if !s.fabric && len(r.of(s.name, exazk)) > 0 {
			rows.WriteString(row(r, s))
		}
	}
	if rows.Len() == 0 {
		return ""
	}
	return "| Scenario | Runs | Lost: most (sum) | Longest gap | Allowed | with hold time | with session | Steady after | Routes: own ToR / others' | " +
		"Anycast: lost most (sum) | Anycast: longest gap |\n" +
		"|---|--:|--:|--:|---|:-:|:-:|--:|:-:|--:|--:|\n" + rows.String()
}

const legend = `
*Lost*: the most in one run, and the sum of all. *With hold time, with session*: the timer that what is allowed is made of.
*Steady after*: from the end of the last thing that happened to the state that follows from it, the longest of all runs.
*Routes*: routes announced and withdrawn, as BIRD's counters of received updates show them, the most in a run: to the ToR of
the load balancer that it happened to, and to one of the others. Every run counts. One whose prober was not run in time to
send more than one probe in 200 is done once more, and both count: *n* + *m* runs are *n* and *m* such repeats.
`

const standbyTop = `
## Standby

With ` + "`backup = \"standby\"`" + ` every backup announces its VIPs all the time, worse by its rank, so that the fabric fails over as fast as in
anycast, while each VIP's traffic goes to its owner. Allowed is the longest gap of anycast in the same call and 20 ms.

| Scenario | Runs | Lost: most (sum) | Longest gap | Anycast: runs | Anycast: lost most (sum) | Anycast: longest gap |
|---|--:|--:|--:|--:|--:|--:|
`

// standbyTable compares standby backups with the baseline; "" if none were played.
func standbyTable(r results, shown []scenario) string {
	var b strings.Builder
	for _, s := range shown {
		o, a := sum(r.of(s.name, standby)), sum(r.of(s.name, anycast))
		if o.runs > 0 {
			fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | %s | %s | %s |\n", s.title, anchor(s.title), runs(o), lost(o), gap(o), runs(a), lost(a), gap(a))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return standbyTop + b.String()
}

func row(r results, s scenario) string {
	o, a, l := sum(r.of(s.name, exazk)), sum(r.of(s.name, anycast)), s.limits
	cells := []string{
		fmt.Sprintf("[%s](#%s)", s.title, anchor(s.title)),
		runs(o), lost(o), gap(o), l.allowed(), yes(l.timers == "hold", holdTime), yes(l.timers == "session", sessionTimeout),
		"–", "–", lost(a), gap(a),
	}
	if o.runs > 0 {
		cells[7], cells[8] = after(o.steady), fmt.Sprintf("%d / %d", o.updates[0], o.updates[1])
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// allowed says what may be lost.
func (l limits) allowed() string {
	if l.gap == 0 {
		return "nothing lost"
	}
	if text := fmt.Sprintf("%g s", l.gap.Seconds()); l.gap >= time.Second {
		return text + ": " + l.bound
	}
	return l.bound
}

func lost(o outcome) string {
	switch {
	case o.runs == 0:
		return "–"
	case o.lost == 0 && o.failed == 0:
		return "**0**"
	}
	return fmt.Sprintf("%d (%d)", o.maxLost, o.lost)
}

func runs(o outcome) string {
	if o.runs == 0 {
		return "–"
	}
	text := fmt.Sprint(o.runs - o.repeats)
	if o.repeats > 0 {
		text += fmt.Sprintf(" + %d", o.repeats)
	}
	if o.failed > 0 {
		text += fmt.Sprintf(" (%d failed)", o.failed)
	}
	return text
}

func gap(o outcome) string {
	switch {
	case o.runs == 0:
		return "–"
	case o.gap == 0:
		return "0"
	}
	return fmt.Sprintf("%d ms", ms(o.gap).Milliseconds())
}

func after(d time.Duration) string {
	if d < 100*time.Millisecond { // nothing had moved
		return "at once"
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func yes(is bool, d time.Duration) string {
	if is {
		return fmt.Sprintf("%g s", d.Seconds())
	}
	return "–"
}

// anchor is the fragment that GitHub makes of a heading.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteRune('-')
		case r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		}
	}
	return b.String()
}

func section(r results, s scenario) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.title, s.what)
	for _, v := range variants {
		all := r.of(s.name, v)
		if len(all) == 0 {
			continue
		}
		o := sum(all)
		if len(o.notes) > 0 {
			fmt.Fprintf(&b, "\n%s: %s.\n", heading(v), strings.Join(o.notes, "; "))
		}
		if o.skipped > 0 {
			fmt.Fprintf(&b, "\n%s: of %d probes, %d could not be sent in time.\n", heading(v), o.sent+o.skipped, o.skipped)
		}
		for _, run := range all {
			if run.Error != "" {
				fmt.Fprintf(&b, "\n%s: failed on %s: `%s`\n", heading(v), run.Victim, strings.ReplaceAll(run.Error, "\n", " / "))
			}
		}
		if all[len(all)-1].Report != nil {
			fmt.Fprintf(&b, "\n![%s, %s](failover/%s)\n", s.title, heading(v), pictureName(s.name, v))
		}
	}
	return b.String()
}

func heading(v variant) string {
	switch v {
	case anycast:
		return "Anycast"
	case standby:
		return "Standby"
	}
	return "exazk"
}

func pictureName(name string, v variant) string {
	if v != exazk {
		name += "-" + string(v)
	}
	return name + ".svg"
}

// writePage writes the page and the pictures, of the last run of each scenario and variant.
func writePage(dir string, r results, list []scenario) error {
	for _, s := range list {
		for _, v := range variants {
			all := r.of(s.name, v)
			if len(all) == 0 || all[len(all)-1].Report == nil {
				continue
			}
			last := all[len(all)-1]
			var picture bytes.Buffer
			title := fmt.Sprintf("%s, %s", s.title, heading(v))
			if err := timeline.Write(&picture, title, *last.Report, last.Marks); err != nil {
				return err
			}
			if err := writeFile(filepath.Join(dir, "failover", pictureName(s.name, v)), picture.Bytes()); err != nil {
				return err
			}
		}
	}
	return writeFile(filepath.Join(dir, "failover.md"), page(r, list))
}
