package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"exazk/daemon"
	"exazk/zkstate"
)

const (
	// maxChanges bounds View.Changes: more than a person reads, and little enough for a page.
	maxChanges = 256
	// pendingAfter is how long a withdraw may go without an acknowledgement; ExaBGP answers within a second.
	pendingAfter = 5 * time.Second
)

// Input is what a View is made of. Nothing in it is changed.
type Input struct {
	At        time.Time
	Observer  string // the node that looks; empty for a command
	ZooKeeper string // State of the observer's session
	Services  []ServiceInput
	Changes   []Change // of all nodes, each with its Node, in any order
}

// ServiceInput is what is known of one service. What was not read is nil or empty.
type ServiceInput struct {
	Name        string
	VIPs        []string                  // claim names by the observer's configuration; those of records and claims are added
	Nodes       []string                  // that ought to be there: by the configuration, or seen before
	Owners      map[string]string         // by VIP, as the configuration says
	Records     map[string]zkstate.Status // by node
	Void        bool                      // ZooKeeper has no directory for claims, nor one for records: no node has been let in since it was emptied, if ever
	Junk        map[string]string         // by node: why what lies where its status record should be is none
	Claims      map[string]Claim          // by VIP: those that are there
	Maintenance map[string]Entry          // by node: those that are in maintenance by ZooKeeper; records tell of the others
}

// Claim is a claim that is there.
type Claim struct {
	Node, Instance string    // who made it, by its data; empty where that does not say, or was not read
	Persistent     bool      // a persistent node is in its place: nobody's claim, and nobody can claim the VIP
	Since          time.Time // when it was made; zero where that is not known
}

// Entry is a node's maintenance.
type Entry struct {
	Note  string // reason, who, until
	Since time.Time
}

// Configured is what a node's configuration says of a service.
func Configured(node string, s *daemon.Service) ServiceInput {
	in := ServiceInput{Name: s.Name, Nodes: s.Nodes, Owners: map[string]string{}}
	for vip, owner := range s.Owners {
		in.Owners[daemon.ClaimName(vip)] = owner
	}
	for _, vip := range s.Authoritative {
		in.Owners[daemon.ClaimName(vip)] = node
	}
	for _, vip := range slices.Concat(s.Authoritative, s.BackupFor) {
		in.VIPs = append(in.VIPs, daemon.ClaimName(vip))
	}
	return in
}

// Of makes the picture of all services. It reads no clock, and equal inputs give equal pictures.
func Of(in Input) View {
	v := View{At: in.At, Observer: in.Observer, ZooKeeper: in.ZooKeeper, Services: []Service{}}
	changes := Newest(in.Changes)
	v.Changes = changes[:min(len(changes), maxChanges)]
	for i := range in.Services {
		p := painter{in: &in, ServiceInput: &in.Services[i], changes: changes}
		v.Services = append(v.Services, p.paint())
	}
	slices.SortFunc(v.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range v.Services {
		v.Level = max(v.Level, s.Level)
	}
	return v
}

// Newest sorts changes of histories, each of which has its oldest first, newest first. What is of a whole node is in each of
// its histories, and is kept once.
func Newest(changes []Change) []Change {
	all := slices.Clone(changes)
	slices.Reverse(all) // what is of one step has one time, and its effects come after their causes
	slices.SortStableFunc(all, func(a, b Change) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Node, b.Node)) })
	kept := []Change{}
	for _, c := range all {
		twice := false
		for i := len(kept) - 1; i >= 0 && kept[i].At.Equal(c.At) && !twice; i-- {
			twice = kept[i].Equal(c)
		}
		if !twice {
			kept = append(kept, c)
		}
	}
	return kept
}

// painter makes the picture of one service.
type painter struct {
	in *Input
	*ServiceInput
	changes []Change           // of all nodes, newest first
	routes  map[string][]Route // by VIP, sorted by node
	out     Service
}

func (p *painter) paint() Service {
	p.out = Service{Name: p.Name, Findings: []Finding{}, VIPs: []VIP{}, Nodes: []Node{}}
	p.routes = map[string][]Route{}
	for _, name := range p.nodes() {
		p.out.Nodes = append(p.out.Nodes, p.node(name))
		st := p.Records[name]
		for j, r := range st.Routes {
			r.Since, r.Refusal = st.RouteSince(j), st.RouteRefusal(j)
			p.routes[r.VIP] = append(p.routes[r.VIP], routeOf(name, r))
		}
	}
	if p.in.ZooKeeper != zkstate.Connected.String() {
		p.find(Degraded, ZooKeeper, "", "", "ZooKeeper is %s: this is as last read", cmp.Or(p.in.ZooKeeper, "not known"))
	}
	for i := range p.out.Nodes {
		p.judgeNode(&p.out.Nodes[i])
	}
	for _, name := range p.vips() {
		p.out.VIPs = append(p.out.VIPs, p.vip(name))
	}
	slices.SortStableFunc(p.out.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(slices.Index(words, a.Word), slices.Index(words, b.Word)))
	})
	for _, f := range p.out.Findings {
		p.out.Level = max(p.out.Level, f.Level)
	}
	return p.out
}

func (p *painter) find(level Level, word, node, vip, format string, args ...any) {
	p.out.Findings = append(p.out.Findings, Finding{level, word, node, vip, fmt.Sprintf(format, args...)})
}

// nodes are all that are known of, sorted.
func (p *painter) nodes() []string {
	known := map[string]bool{}
	for _, name := range p.Nodes {
		known[name] = true
	}
	for name := range p.Records {
		known[name] = true
	}
	for name := range p.Maintenance {
		known[name] = true
	}
	for name := range p.Junk {
		known[name] = true
	}
	for _, c := range p.Claims {
		if c.Node != "" && !c.Persistent {
			known[c.Node] = true
		}
	}
	for _, c := range p.in.Changes {
		if c.Service == p.Name && c.Node != "" {
			known[c.Node] = true
		}
	}
	return slices.Sorted(maps.Keys(known))
}

// vips are all that are known of, in NLRI order. A node among the claims that is named like no VIP is none.
func (p *painter) vips() []string {
	known := map[string]netip.Prefix{}
	add := func(name string) {
		if vip, err := daemon.ParseVIP(strings.ReplaceAll(name, "_", "/")); err == nil {
			known[name] = vip
		}
	}
	for _, name := range p.VIPs {
		add(name)
	}
	for name := range p.Claims {
		add(name)
	}
	for name := range p.routes {
		add(name)
	}
	return slices.SortedFunc(maps.Keys(known), func(a, b string) int {
		return cmp.Or(known[a].Addr().Compare(known[b].Addr()), cmp.Compare(known[a].Bits(), known[b].Bits()), cmp.Compare(a, b))
	})
}

func (p *painter) node(name string) Node {
	n := Node{Node: name, Neighbors: []Neighbor{}}
	if st, found := p.Records[name]; found {
		n.Present, n.Version, n.Instance, n.Since = true, st.Version, st.Instance, st.Since
		n.Health, n.HealthDetail, n.HealthSince = st.Health, st.HealthDetail, st.HealthSince.Time()
		n.Maintenance, n.Note, n.Entered, n.LastResort = st.Maintenance, st.Note, st.MaintenanceSince.Time(), st.LastResort
		for _, b := range st.Neighbors {
			n.Neighbors = append(n.Neighbors, Neighbor(b))
		}
	}
	if !n.Present {
		n.Absence = p.absence(name)
	}
	if e, found := p.Maintenance[name]; found && (n.Maintenance != daemon.PresenceAbsent.String()) {
		n.Maintenance, n.Note, n.Entered = daemon.PresencePresent.String(), e.Note, e.Since
	}
	return n
}

// judgeNode finds what is not as it should be with a node, whatever VIPs it has.
func (p *painter) judgeNode(n *Node) {
	drained := n.Maintenance == daemon.PresencePresent.String()
	if drained {
		p.find(Degraded, Maintenance, n.Node, "", "%s", p.drained(n))
	}
	if _, entered := p.Maintenance[n.Node]; entered && n.Present && !drained {
		p.find(Degraded, Maintenance, n.Node, "", "%s has a maintenance node and does not obey it: its time is over, or exazk there has not seen it yet", n.Node)
	}
	if !n.Present {
		if !drained {
			p.find(Degraded, Absent, n.Node, "", "%s", n.Absence)
		}
		return
	}
	switch n.Health {
	case "unhealthy":
		p.find(Degraded, Unhealthy, n.Node, "", "the check of %s fails%s%s", n.Node, since(p.in.At, n.HealthSince), colon(n.HealthDetail))
	case "unknown":
		p.find(Degraded, Unhealthy, n.Node, "", "the check of %s has no verdict yet", n.Node)
	}
	p.judgeNeighbors(n)
}

// deaf are the states of a neighbor that hears nothing.
var deaf = []string{"down", "connected", "link-down", "silent"}

func (p *painter) judgeNeighbors(n *Node) {
	up := slices.ContainsFunc(n.Neighbors, func(b Neighbor) bool { return b.State == "up" })
	for _, b := range n.Neighbors {
		if slices.Contains(deaf, b.State) {
			text := fmt.Sprintf("neighbor %s of %s is %s", b.Peer, n.Node, b.State)
			if !up {
				text += ", and no other hears it"
			}
			p.find(Degraded, NeighborDown, n.Node, "", "%s%s", text, p.lastOf(n.Node, "neighbor", b.Peer))
		}
	}
}

// lastOf is when the last change of a kind was, and why.
func (p *painter) lastOf(node, what, subject string) string {
	for _, c := range p.changes {
		if c.Node == node && c.What == what && c.Subject == subject {
			return since(p.in.At, c.At) + colon(c.Reason)
		}
	}
	return ""
}

func (p *painter) drained(n *Node) string {
	text := fmt.Sprintf("%s is in maintenance%s%s", n.Node, since(p.in.At, n.Entered), colon(n.Note))
	if !n.Present {
		text += "; " + n.Absence
	}
	return text
}

// absence says what is known of a node that has no status record.
func (p *painter) absence(node string) string {
	var last *Change
	if i := slices.IndexFunc(p.changes, func(c Change) bool { return c.Node == node }); i >= 0 {
		last = &p.changes[i]
	}
	ended := last != nil && last.What == string(daemon.WhatProcess) && last.To == "ended"
	var claims []string
	for vip, c := range p.Claims {
		if c.Node == node && !c.Persistent {
			claims = append(claims, vip)
		}
	}
	slices.Sort(claims)
	text := node + " has no status record: exazk there has ended, stands still or is cut off from ZooKeeper, or the host is down; its ExaBGP, if it runs, may still announce"
	junk, wrong := p.Junk[node]
	switch {
	case wrong:
		text = fmt.Sprintf("what lies in the place of %s's status record is none: %s; if exazk runs there, it replaces it within half a minute; else delete it", node, junk)
	case ended:
		text = fmt.Sprintf("%s has no status record: its exazk has ended%s, %s", node, since(p.in.At, last.At), ending(last.Reason))
	case len(claims) > 0:
		text = fmt.Sprintf("%s has no status record, but claims %s: exazk there has just started, or may not write its record", node, list(claims))
	case last == nil:
		text = node + " has no status record: exazk does not run there, or is cut off from ZooKeeper"
	}
	if last != nil {
		text += "; the last that is known of it: " + last.At.UTC().Format("2006-01-02 15:04:05Z") + " " + Tell(*last)
	}
	return text
}

// ending says why a process ended.
func ending(reason string) string {
	switch reason {
	case daemon.Abandon.String():
		return "as ExaBGP had ended"
	case daemon.Leave.String():
		return "as it was told to"
	}
	return reason
}

// Tell is a change in a few words, without its time and node.
func Tell(c Change) string {
	text := c.What
	for _, word := range []string{c.VIP, c.Subject} {
		if word != "" {
			text += " " + word
		}
	}
	if c.From != "" {
		text += " " + c.From + " →"
	}
	text += " " + c.To
	if c.To == "announce" && c.Role != "" {
		text += " as " + c.Role
	}
	if c.Reason != "" {
		text += " (" + c.Reason + ")"
	}
	return text + colon(c.Detail)
}

func colon(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}

// since is how long something is so, with a space in front; nothing where that is not known.
func since(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.UTC().Format("2006-01-02 15:04:05Z") + " (" + Age(now.Sub(t)) + ")"
}

// Age is a duration as a person says it: the two greatest units.
func Age(d time.Duration) string {
	d = max(0, d).Truncate(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// list joins names as a person does.
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
