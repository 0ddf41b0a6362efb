package cluster

import (
	"cmp"
	"fmt"
	"slices"

	"exazk/daemon"
	"exazk/zkstate"
)

// unknown is the claim of somebody who does not say who.
const unknown = "?"

// vip makes the picture of one VIP and finds what is not as it should be with it.
func (p *painter) vip(name string) VIP {
	v := VIP{VIP: name, Squatted: p.Claims[name].Persistent, Announcers: []string{}, Routes: append([]Route{}, p.routes[name]...)}
	v.Claim = p.holder(&v)
	owners := p.owners(&v)
	if len(owners) > 0 {
		v.Owner = owners[0]
	}
	v.Announcers = announcers(&v)
	before := len(p.out.Findings)
	if len(owners) > 1 {
		p.find(Degraded, Conflict, "", name, "%s have %s in authoritative; remedy: leave it to one of them", list(owners), name)
	}
	if v.Squatted {
		p.find(Degraded, Conflict, v.Owner, name, "nobody can claim %s: a persistent node is in its claim's place%s; remedy: delete that node", name, since(p.in.At, p.Claims[name].Since))
	}
	for i := range v.Routes {
		p.judgeRoute(&v, &v.Routes[i])
	}
	p.judgeAnnouncers(&v)
	for _, f := range p.out.Findings[before:] {
		v.Level = max(v.Level, f.Level)
	}
	return v
}

func routeOf(node string, r zkstate.StatusRoute) Route {
	own := r.Own || r.Role == daemon.Authoritative.String() || r.Reason == string(daemon.ReasonConflict) // what older versions say
	return Route{
		Node: node, Verdict: r.Verdict, Role: r.Role, Reason: r.Reason, Detail: r.Detail, MED: r.MED, Announced: r.Announced, Own: own,
		Pending: r.Pending, Refused: r.Refused, Refusal: r.Refusal, Unheard: r.Unheard, Drift: r.Drift, Claim: r.Claim, Since: r.Since.Time(),
	}
}

// holder is who has the claim of a VIP.
func (p *painter) holder(v *VIP) string {
	if v.Squatted {
		return ""
	}
	for _, r := range v.Routes {
		if r.Claim {
			return r.Node
		}
	}
	if c, there := p.Claims[v.VIP]; there {
		return cmp.Or(c.Node, unknown)
	}
	return ""
}

// owners are the nodes that are authoritative for a VIP, who serves it first. That of the configuration or of the past counts
// where no node with a record is.
func (p *painter) owners(v *VIP) []string {
	var all []string
	for _, first := range []bool{true, false} {
		for _, r := range v.Routes {
			if r.Own && (r.Announced || r.Node == v.Claim) == first {
				all = append(all, r.Node)
			}
		}
	}
	known := func(node string) bool {
		return node != "" && slices.ContainsFunc(p.out.Nodes, func(n Node) bool { return n.Node == node })
	}
	switch {
	case len(all) > 0:
		return all
	case known(v.Claim):
		return []string{v.Claim}
	case known(p.Owners[v.VIP]):
		return []string{p.Owners[v.VIP]}
	}
	for _, c := range p.changes {
		if _, present := p.Records[c.Node]; !present && c.Service == p.Name && c.VIP == v.VIP && c.Role == daemon.Authoritative.String() {
			return []string{c.Node}
		}
	}
	return nil
}

// announcers are the nodes that announce a VIP and are heard, in the order in which routers prefer them.
func announcers(v *VIP) []string {
	var heard []Route
	for _, r := range v.Routes {
		if r.Announced {
			heard = append(heard, r)
		}
	}
	slices.SortStableFunc(heard, func(a, b Route) int { return cmp.Compare(a.MED, b.MED) })
	names := []string{}
	for _, r := range heard {
		names = append(names, r.Node)
	}
	return names
}

// judgeRoute finds what is not as it should be with what one node makes of a VIP.
func (p *painter) judgeRoute(v *VIP, r *Route) {
	switch daemon.Reason(r.Reason) {
	case daemon.ReasonLastResort:
		p.find(Degraded, LastResort, r.Node, v.VIP, "%s announces %s although its check fails, since nobody else does%s", r.Node, v.VIP, colon(r.Detail))
	case daemon.ReasonOverlap:
		if r.Own {
			p.find(Degraded, Conflict, r.Node, v.VIP, "%s is %s's own, and somebody else has begun to claim it%s", v.VIP, r.Node, colon(cmp.Or(r.Detail, p.claimant(v))))
		}
	case daemon.ReasonConflict:
		c := p.Claims[v.VIP]
		if c.Node == r.Node && c.Instance != p.Records[r.Node].Instance {
			p.find(Degraded, Twin, r.Node, v.VIP, "another living process calls itself %s and claims %s", r.Node, v.VIP)
			break
		}
		p.find(Degraded, Conflict, r.Node, v.VIP, "%s is %s's own, and somebody else claims it%s", v.VIP, r.Node, colon(cmp.Or(r.Detail, p.claimant(v))))
	}
	if r.Drift {
		p.find(Degraded, Drift, r.Node, v.VIP, "the ExaBGP of %s holds something else for %s than what exazk wants", r.Node, v.VIP)
	}
	if r.Refused {
		p.find(Degraded, Refused, r.Node, v.VIP, "the route of %s to %s is refused%s", r.Node, v.VIP, refusal(r))
	}
	if r.Pending && !r.Refused && !r.Since.IsZero() && p.in.At.Sub(r.Since) > pendingAfter {
		p.find(Degraded, Pending, r.Node, v.VIP, "%s has withdrawn %s%s, and its ExaBGP has not acknowledged that: it may still be announced", r.Node, v.VIP, since(p.in.At, r.Since))
	}
}

// refusal says why a route is refused. Most of ExaBGP's versions only say "error".
func refusal(r *Route) string {
	if r.Refusal == "" || r.Refusal == "error" {
		return " by ExaBGP; its log says why"
	}
	return ": " + r.Refusal
}

// claimant says who has the claim.
func (p *painter) claimant(v *VIP) string {
	c := p.Claims[v.VIP]
	switch {
	case v.Claim == "":
		return ""
	case v.Claim == unknown:
		return "a claim that names no node, as the Python tool makes them" + since(p.in.At, c.Since)
	}
	return v.Claim + since(p.in.At, c.Since)
}

// judgeAnnouncers finds a VIP that is not announced by its owner alone.
func (p *painter) judgeAnnouncers(v *VIP) {
	if len(v.Announcers) == 0 {
		p.judgeSilence(v)
		return
	}
	var others []string
	served := false
	for _, r := range v.Routes {
		switch {
		case !r.Announced:
		case r.Own:
			served = true
		case !slices.Contains(passing, daemon.Reason(r.Reason)):
			others = append(others, fmt.Sprintf("%s (%s)", r.Node, r.Reason))
		}
	}
	switch who := list(v.Announcers); {
	case v.Owner == "":
		p.find(Degraded, ForeignAnnouncer, "", v.VIP, "%s is announced by %s, and which node it belongs to is not known: none that is authoritative for it has a status record", v.VIP, who)
	case !served:
		p.find(Degraded, ForeignAnnouncer, v.Owner, v.VIP, "%s is announced by %s, not by its owner %s%s", v.VIP, who, v.Owner, p.short(v, v.Owner))
	case len(others) > 0 && !v.Squatted:
		p.find(Degraded, ForeignAnnouncer, v.Owner, v.VIP, "%s is announced by %s beside its owner %s", v.VIP, list(others), v.Owner)
	}
}

// passing are the reasons for which a node announces another's VIP and all is as it should be: the owner is back for less
// than overlap, a backup that comes before is, or the backups are always announced.
var passing = []daemon.Reason{daemon.ReasonOverlap, daemon.ReasonStandby, daemon.ReasonOutranked}

// judgeSilence finds a VIP that no record announces. A claim without a record is that of a node of which nothing can be seen, one
// of the Python tool say; so is that of a second process of one name, which claims nothing that it does not announce; and what a node
// holds, ExaBGP may announce.
func (p *painter) judgeSilence(v *VIP) {
	record, recorded := p.Records[v.Claim]
	claim := p.Claims[v.VIP]
	holds := slices.IndexFunc(v.Routes, func(r Route) bool { return r.Verdict == daemon.Hold.String() })
	switch {
	case v.Squatted && len(v.Routes) == 0 && !slices.Contains(p.VIPs, v.VIP): // a VIP that nobody has
	case p.Void:
		p.find(Degraded, Unseen, "", v.VIP, "whether %s is announced cannot be seen: ZooKeeper has no directory for claims and status records of %s: it was emptied, or exazk never ran", v.VIP, p.Name)
	case v.Claim != "" && !recorded:
		p.find(Degraded, Unseen, "", v.VIP, "whether %s is announced cannot be seen: it is claimed by %s, and there is no status record of that", v.VIP, p.claimant(v))
	case recorded && claim.Node == v.Claim && claim.Instance != "" && claim.Instance != record.Instance && holds < 0:
		p.find(Degraded, Unseen, v.Claim, v.VIP, "whether %s is announced cannot be seen: it is claimed by another process called %s than the one whose status record is there", v.VIP, v.Claim)
	case holds >= 0:
		p.find(Degraded, Unseen, v.Routes[holds].Node, v.VIP, "whether %s is announced cannot be seen: %s leaves it in ExaBGP as it is (%s)", v.VIP, v.Routes[holds].Node, v.Routes[holds].Reason)
	default:
		p.find(Down, NoAnnouncer, "", v.VIP, "nobody announces %s%s", v.VIP, p.silent(v))
	}
}

// silent says in words why none of the nodes announces a VIP.
func (p *painter) silent(v *VIP) string {
	var parts string
	for _, r := range v.Routes {
		parts += "; " + r.Node + p.short(v, r.Node)
	}
	if v.Owner != "" && p.short(v, v.Owner) == " (absent)" {
		parts += "; " + v.Owner + " (absent)"
	}
	if parts == "" {
		return ": no node that has it has a status record"
	}
	return ": " + parts[2:]
}

// short is the reason of a node in a word.
func (p *painter) short(v *VIP, node string) string {
	for i := range v.Routes {
		if r := &v.Routes[i]; r.Node == node {
			return " (" + Word(r) + ")"
		}
	}
	if _, present := p.Records[node]; !present {
		return " (absent)"
	}
	return ""
}

// Word is why a route is not announced, or is, in a word: the reason of its verdict, unless something after it decides.
func Word(r *Route) string {
	if r.Verdict == daemon.Announce.String() && !r.Announced {
		switch {
		case r.Unheard:
			return "no neighbor"
		case r.Refused:
			return "refused"
		}
		return "not acknowledged"
	}
	return r.Reason
}
