package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"exazk/cluster"
	"exazk/daemon"
	"exazk/zkstate"
)

// Exit codes of "exazk status", which are those of a monitoring plugin.
const (
	statusNominal  = 0
	statusDegraded = 1
	statusDown     = 2
	statusUnknown  = 3 // it cannot be told, also where the command line is wrong: 2 would be an alarm about a VIP
)

const (
	statusCodes = "Exit codes, as of a monitoring plugin: 0 all is as it should be; 1 degraded: every VIP is announced as far as can be seen, but not all is as it should be;\n" +
		"2 a VIP without announcer; 3 it cannot be told: ZooKeeper is out of reach, or the command line or configuration is wrong."

	// watchEvery is the pause between two looks of --watch: the records change at most ten times a second, a person reads slower.
	watchEvery = time.Second
	// together is how many requests are on their way to ZooKeeper at once.
	together = 32
)

// viewCommands show the cluster and change nothing.
func viewCommands(stdout, stderr io.Writer) []*cli.Command {
	asJSON := func() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "as JSON"} }
	services := func() cli.Flag {
		return &cli.StringSliceFlag{Name: "service", Usage: "only for `SERVICE`; repeat it for each (default: all of the configuration)"}
	}
	command := func(name, usage, text string, do func(context.Context, *admin) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, UsageText: text, Description: exitCodes, HideHelpCommand: true,
			Flags: append(flags, whereFlags()...), OnUsageError: subcommandUsage, Action: adminAction(stdout, stderr, do)}
	}
	status := command("status", "show every VIP and node, and what is not as it should be", "exazk status [--service SERVICE]… [--json] [--watch]", statusAction,
		services(), asJSON(), &cli.BoolFlag{Name: "watch", Usage: "look again every second, until interrupted; with --json, one line each time"})
	status.Description = statusCodes
	act := status.Action
	status.Action = func(c *cli.Context) error { return statusError(act(c)) }
	status.OnUsageError = func(c *cli.Context, err error, sub bool) error { return statusError(subcommandUsage(c, err, sub)) }
	return []*cli.Command{
		status,
		command("why", "say why each node announces a VIP, or does not", "exazk why VIP [--service SERVICE]… [--json]", whyAction, services(), asJSON()),
		command("history", "show what changed last, newest first", "exazk history [NODE] [--service SERVICE]… [--vip VIP] [--lines N] [--json]", historyAction, services(), asJSON(),
			&cli.StringFlag{Name: "vip", Usage: "only what is about `VIP`"},
			&cli.IntFlag{Name: "lines", Aliases: []string{"l"}, Usage: "show `N` changes", Value: 40}),
	}
}

// vipAsked is the claim name of the VIP that a command is about, empty where it is about all.
func vipAsked(c *cli.Context) (string, error) {
	given, where := c.String("vip"), "--vip: "
	switch {
	case c.Command.Name == "why":
		if given, where = c.Args().First(), ""; given == "" {
			return "", fmt.Errorf("which VIP? usage: %s", c.Command.UsageText)
		}
	case c.Command.Name == "history" && c.Int("lines") < 1:
		return "", fmt.Errorf("--lines: %d is no number of changes; remedy: write 1 or more", c.Int("lines"))
	case given == "":
		return "", nil
	}
	prefix, err := daemon.ParseVIP(given)
	if err != nil {
		return "", fmt.Errorf("%s%w", where, err)
	}
	return daemon.ClaimName(prefix), nil
}

// statusError gives every failure of "exazk status" the code of one that could not tell.
func statusError(err error) error {
	if err == nil || errors.As(err, new(coded)) {
		return err
	}
	return coded{statusUnknown, err}
}

func statusAction(ctx context.Context, a *admin) error {
	if a.cli.Bool("watch") {
		return a.watch(ctx)
	}
	asking, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	v, err := a.view(asking)
	if err != nil {
		return interrupted(ctx, err)
	}
	if a.cli.Bool("json") {
		err = printJSON(a.stdout, v)
	} else {
		err = printView(a.stdout, &v, colours(a.stdout))
	}
	if err != nil {
		return err
	}
	return statusCode(v.Level)
}

// statusCode says by the exit code alone what was printed already.
func statusCode(l cluster.Level) error {
	if l == cluster.Nominal {
		return nil
	}
	return coded{code: map[cluster.Level]int{cluster.Degraded: statusDegraded, cluster.Down: statusDown}[l]}
}

// watch shows the cluster again and again. It ends by a signal, with the code of what was seen last.
func (a *admin) watch(ctx context.Context) error {
	end := error(coded{statusUnknown, errInterrupted})
	terminal := isTerminal(a.stdout)
	for {
		asking, cancel := context.WithTimeout(ctx, answerWithin)
		v, err := a.view(asking)
		cancel()
		if ctx.Err() != nil {
			return end
		}
		if terminal && !a.cli.Bool("json") {
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J") // to the top, and clear
		}
		switch {
		case err != nil:
			end = coded{statusUnknown, err}
			a.say("%s %v", time.Now().UTC().Format(time.RFC3339), err)
		default:
			end = statusCode(v.Level)
			if err := a.showAgain(&v); err != nil {
				return err // nobody reads any more
			}
		}
		if !pause(ctx, watchEvery) {
			return end
		}
	}
}

// showAgain is one look of --watch.
func (a *admin) showAgain(v *cluster.View) error {
	if a.cli.Bool("json") {
		return json.NewEncoder(a.stdout).Encode(v)
	}
	if _, err := fmt.Fprintf(a.stdout, "%s\n", v.At.UTC().Format(time.RFC3339)); err != nil {
		return err
	}
	return printView(a.stdout, v, colours(a.stdout))
}

// view reads everything from ZooKeeper and makes the picture of it. Where one VIP is asked about, changes of others are left out.
func (a *admin) view(ctx context.Context) (cluster.View, error) {
	in := cluster.Input{ZooKeeper: zkstate.Connected.String()}
	for i := range a.services {
		s, changes, err := a.read(ctx, &a.services[i])
		if err != nil {
			return cluster.View{}, err
		}
		in.Services = append(in.Services, s)
		in.Changes = append(in.Changes, changes...)
	}
	if a.vip != "" {
		in.Changes = slices.DeleteFunc(in.Changes, func(c cluster.Change) bool { return c.VIP != "" && c.VIP != a.vip })
	}
	in.At = time.Now()
	return cluster.Of(in), nil
}

// read reads what ZooKeeper has of a service. The paths are those of the node that is spoken to, and any other will do.
func (a *admin) read(ctx context.Context, s *daemon.Service) (in cluster.ServiceInput, changes []cluster.Change, err error) {
	in = cluster.Configured(a.cfg.Node, s)
	records, err := a.getAll(ctx, path.Dir(s.StatusPath), nil)
	if err != nil {
		return in, nil, err
	}
	in.Records, in.Junk = map[string]zkstate.Status{}, map[string]string{}
	for name, n := range records {
		st, err := zkstate.DecodeStatus(name, n.Data)
		if err != nil {
			in.Junk[name] = err.Error()
			continue
		}
		in.Records[name] = st
	}
	claims, err := a.getAll(ctx, s.ClaimsPath, nil)
	if err != nil {
		return in, nil, err
	}
	in.Claims = map[string]cluster.Claim{}
	for name, n := range claims {
		node, instance := zkstate.ClaimOwner(n.Data)
		in.Claims[name] = cluster.Claim{Node: node, Instance: instance, Persistent: n.Owner == 0, Since: n.Created}
	}
	if len(in.Records) == 0 && len(in.Claims) == 0 {
		if in.Void, err = a.void(ctx, s); err != nil {
			return in, nil, err
		}
	}
	if in.Maintenance, err = a.entries(ctx, s); err != nil {
		return in, nil, err
	}
	changes, _, err = a.histories(ctx, s)
	return in, changes, err
}

// void says that no node has been let in since ZooKeeper was emptied, if ever: a node makes the directories for claims and for
// records as soon as it is, and nobody else makes them both or deletes them.
func (a *admin) void(ctx context.Context, s *daemon.Service) (bool, error) {
	for _, dir := range []string{s.ClaimsPath, path.Dir(s.StatusPath)} {
		if _, found, err := a.zk.Get(ctx, dir); found || err != nil {
			return false, err
		}
	}
	return true, nil
}

// entries are the nodes in maintenance. Where the path does not end in the node's name, only the node's own can be found.
func (a *admin) entries(ctx context.Context, s *daemon.Service) (map[string]cluster.Entry, error) {
	dir, last := path.Split(s.MaintenancePath)
	var only []string
	if last != a.node {
		only = []string{last}
	}
	nodes, err := a.getAll(ctx, path.Clean(dir), only)
	if err != nil {
		return nil, err
	}
	entries := map[string]cluster.Entry{}
	for name, n := range nodes {
		f := told(n)
		if last != a.node {
			name = a.node
		}
		entries[name] = cluster.Entry{Note: f.String(), Since: f.Since}
	}
	return entries, nil
}

// histories are what the nodes have written down. One that is none, or may not be read, is left out: the rest says enough. Why each
// of the former is none is returned by node.
func (a *admin) histories(ctx context.Context, s *daemon.Service) (all []cluster.Change, none map[string]error, err error) {
	nodes, err := a.getAll(ctx, path.Dir(s.HistoryPath), nil)
	if err != nil && !errors.Is(err, zkstate.ErrRefused) {
		return nil, nil, err
	}
	none = map[string]error{}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		changes, err := zkstate.DecodeHistory(name, nodes[name].Data)
		if err != nil {
			none[name] = err
		}
		all = append(all, changes...)
	}
	return all, none, nil
}

// getAll reads the nodes of a directory, or only some of them. What goes meanwhile is left out.
func (a *admin) getAll(ctx context.Context, dir string, only []string) (map[string]zkstate.Node, error) {
	names := only
	if names == nil {
		var err error
		if names, err = a.zk.Children(ctx, dir); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex // of what the requests below bring
	var failed error
	all := make(map[string]zkstate.Node, len(names))
	var wg sync.WaitGroup
	slots := make(chan struct{}, together)
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n, found, err := a.zk.Get(ctx, path.Join(dir, name))
			mu.Lock()
			defer mu.Unlock()
			if found {
				all[name] = n
			}
			if failed == nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return all, failed
}

// printJSON writes data for programs; nothing in it is escaped for HTML.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// colours says whether out is a terminal whose user wants colours (no-color.org).
func colours(out io.Writer) bool {
	return isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// paint colours a text by how bad it is.
func paint(on bool, l cluster.Level, text string) string {
	if !on {
		return text
	}
	return map[cluster.Level]string{cluster.Nominal: "\x1b[32m", cluster.Degraded: "\x1b[33m", cluster.Down: "\x1b[1;31m"}[l] + text + "\x1b[0m"
}

// printView shows the services one after the other: what is wrong, then the VIPs by nodes, then the nodes.
func printView(out io.Writer, v *cluster.View, colour bool) error {
	var b strings.Builder
	for i := range v.Services {
		s := &v.Services[i]
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s: %s\n", s.Name, paint(colour, s.Level, s.Level.String()))
		for _, f := range s.Findings {
			fmt.Fprintf(&b, "  %s\n", paint(colour, f.Level, printable(f.Text)))
		}
		b.WriteString("\n")
		vips := columns(vipRows(v, s))
		for j, line := range vips {
			if j > 0 && s.VIPs[j-1].Level > cluster.Nominal {
				line = paint(colour, s.VIPs[j-1].Level, line)
			}
			b.WriteString(line + "\n")
		}
		if len(s.Nodes) > 0 {
			b.WriteString("\n" + strings.Join(columns(nodeRows(v, s)), "\n") + "\n")
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// columns lines rows up.
func columns(rows [][]string) []string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, cells := range rows {
		for i, cell := range cells {
			if cells[i] = printable(cell); cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush() // into memory
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// vipRows has a column for each node: the reason of its verdict, after a star where it announces the VIP and is heard.
func vipRows(v *cluster.View, s *cluster.Service) [][]string {
	head := []string{"VIP", "OWNER", "CLAIM", "SINCE"}
	for _, n := range s.Nodes {
		head = append(head, n.Node)
	}
	rows := [][]string{head}
	for i := range s.VIPs {
		vip := &s.VIPs[i]
		row := []string{vip.VIP, vip.Owner, vip.Claim, announcedSince(v, vip)}
		for _, n := range s.Nodes {
			cell := ""
			for j := range vip.Routes {
				if r := &vip.Routes[j]; r.Node == n.Node {
					cell = routeCell(r)
				}
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// announcedSince is the age of the verdict of who announces the VIP first.
func announcedSince(v *cluster.View, vip *cluster.VIP) string {
	for _, r := range vip.Routes {
		if len(vip.Announcers) > 0 && r.Node == vip.Announcers[0] && !r.Since.IsZero() {
			return cluster.Age(v.At.Sub(r.Since))
		}
	}
	return ""
}

func routeCell(r *cluster.Route) string {
	cell := cluster.Word(r)
	if r.Announced {
		cell = "*" + r.Role
		if r.Reason != r.Role {
			cell += " (" + r.Reason + ")"
		}
	}
	for _, m := range []struct {
		is   bool
		mark string
	}{{r.Pending, "pending"}, {r.Refused && r.Announced, "refused"}, {r.Drift, "drift"}} {
		if m.is {
			cell += " " + m.mark
		}
	}
	return cell
}

func nodeRows(v *cluster.View, s *cluster.Service) [][]string {
	rows := [][]string{{"NODE", "VERSION", "UP", "CHECK", "MAINTENANCE", "NEIGHBORS"}}
	age := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return cluster.Age(v.At.Sub(t))
	}
	words := func(words ...string) string {
		return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
	}
	for _, n := range s.Nodes {
		maintenance := ""
		if n.Maintenance == daemon.PresencePresent.String() {
			maintenance = cmp.Or(words(age(n.Entered), n.Note), "yes")
		} else if n.Present && n.Maintenance != daemon.PresenceAbsent.String() {
			maintenance = n.Maintenance
		}
		if !n.Present {
			rows = append(rows, []string{n.Node, "absent", "", "", maintenance, ""})
			continue
		}
		check := words(n.Health, age(n.HealthSince))
		if n.Health == "unhealthy" && n.HealthDetail != "" {
			check += ": " + n.HealthDetail
		}
		var neighbors []string
		for _, b := range n.Neighbors {
			neighbors = append(neighbors, b.Peer+" "+b.State)
		}
		rows = append(rows, []string{n.Node, n.Version, age(n.Since), check, maintenance, strings.Join(neighbors, ", ")})
	}
	return rows
}
