package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"exazk/exabgp"
)

const (
	// maxMED is the largest MULTI_EXIT_DISC: four octets, RFC 4271 section 5.1.4. ExaBGP 3.4 ends and 4.2 does not answer
	// when it is given a larger one.
	maxMED = 1<<32 - 1

	// maxPrepend bounds a single as_path_prepend or prepend_step. Routers refuse paths that are too long (many at 75 or 100), and a
	// VIP is invisible behind them.
	maxPrepend = 32

	// defaultLocalPreference is what ExaBGP sends over iBGP where nothing is given, and what routers assume over eBGP.
	defaultLocalPreference = 100
)

// rawAnnounce is a table [service.announce], or that of a neighbor.
type rawAnnounce struct {
	rawAttributes
	BackupMED numberValue   `toml:"backup_med"`
	DrainMED  numberValue   `toml:"drain_med"`
	Backup    rawBackup     `toml:"backup"`
	Drain     rawAttributes `toml:"drain"`
}

type rawBackup struct {
	rawAttributes
	MEDStep     numberValue `toml:"med_step"`
	PrependStep numberValue `toml:"prepend_step"`
}

type rawAttributes struct {
	MED                 numberValue `toml:"med"`
	NextHop             anyValue    `toml:"next_hop"`
	ASPathPrepend       anyValue    `toml:"as_path_prepend"`
	LocalPreference     numberValue `toml:"local_preference"`
	Communities         listValue   `toml:"communities"`
	LargeCommunities    listValue   `toml:"large_communities"`
	ExtendedCommunities listValue   `toml:"extended_communities"`
	PathID              numberValue `toml:"path_id"`
}

type rawNeighbor struct {
	Address  textValue   `toml:"address"`
	Announce rawAnnounce `toml:"announce"`
}

// setting is a checked value and the key that it was given with. One without a key was not given.
type setting[T any] struct {
	v   T
	key string
}

// or is s where it was given, else base.
func (s setting[T]) or(base setting[T]) setting[T] {
	if s.key != "" {
		return s
	}
	return base
}

// hops is a next_hop: an address for each family, or "self" where there is none.
type hops struct {
	v4, v6 netip.Addr
	self   bool // "self" stands for the families without an address
}

// role is what is given for the routes of one role, none of it necessary.
type role struct {
	med, preference, path   setting[uint32]
	hops                    setting[hops]
	prepend                 setting[[]uint32] // what comes behind the local AS
	normal, large, extended setting[string]
	medStep, prependStep    setting[uint32]
}

// over is r with base for all that r does not have.
func (r role) over(base role) role {
	return role{
		med: r.med.or(base.med), preference: r.preference.or(base.preference), path: r.path.or(base.path),
		hops: r.hops.or(base.hops), prepend: r.prepend.or(base.prepend),
		normal: r.normal.or(base.normal), large: r.large.or(base.large), extended: r.extended.or(base.extended),
		medStep: r.medStep.or(base.medStep), prependStep: r.prependStep.or(base.prependStep),
	}
}

// settings are what is given in one announce table.
type settings struct{ own, backup, drain role }

func (r settings) over(base settings) settings {
	return settings{r.own.over(base.own), r.backup.over(base.backup), r.drain.over(base.drain)}
}

func (r *rawAnnounce) settings(f *faults, key string) settings {
	out := settings{r.rawAttributes.role(f, key), r.Backup.role(f, key+".backup"), r.Drain.role(f, key+".drain")}
	out.backup.medStep = f.given(key+".backup.med_step", r.Backup.MEDStep, 0, maxMED)
	out.backup.prependStep = f.given(key+".backup.prepend_step", r.Backup.PrependStep, 0, maxPrepend)
	for _, m := range []struct {
		role *role
		old  string
		v    numberValue
		now  string
	}{{&out.backup, ".backup_med", r.BackupMED, ".backup.med"}, {&out.drain, ".drain_med", r.DrainMED, ".drain.med"}} {
		med := f.given(key+m.old, m.v, 0, maxMED)
		if med.key != "" && m.role.med.key != "" {
			f.add(key+m.old, "it says the same as %s; remedy: keep one of the two", f.place(m.role.med.key))
		}
		m.role.med = m.role.med.or(med)
	}
	for _, p := range []setting[uint32]{out.backup.path, out.drain.path} {
		if p.key != "" { // the route with the identifier of the role before would stay
			f.add(p.key, "a route cannot change its path identifier; remedy: set it in the table above, for every role")
		}
	}
	return out
}

func (r *rawAttributes) role(f *faults, key string) role {
	return role{
		med:        f.given(key+".med", r.MED, 0, maxMED),
		preference: f.given(key+".local_preference", r.LocalPreference, 0, 1<<32-1),
		path:       f.given(key+".path_id", r.PathID, 0, 1<<32-1),
		hops:       f.hops(key+".next_hop", r.NextHop),
		prepend:    f.prepend(key+".as_path_prepend", r.ASPathPrepend),
		normal:     f.communities(key+".communities", r.Communities, exabgp.ParseCommunities),
		large:      f.communities(key+".large_communities", r.LargeCommunities, exabgp.ParseLargeCommunities),
		extended:   f.communities(key+".extended_communities", r.ExtendedCommunities, exabgp.ParseExtendedCommunities),
	}
}

// given is a number that need not be there.
func (f *faults) given(key string, v numberValue, low, high int64) setting[uint32] {
	if !v.Set {
		return setting[uint32]{}
	}
	return setting[uint32]{uint32(f.number(key, v, low, high)), key}
}

func (f *faults) communities(key string, v listValue, parse func([]string) (string, error)) setting[string] {
	if !v.Set {
		return setting[string]{}
	}
	if v.Err != "" {
		f.add(key, "%s", v.Err)
		return setting[string]{key: key}
	}
	text, err := parse(v.V)
	f.addAll(key, err)
	return setting[string]{text, key}
}

func (f *faults) hops(key string, v anyValue) setting[hops] {
	if !v.Set {
		return setting[hops]{}
	}
	words, bad := textOrList(v.V)
	if bad == "" && len(words) == 0 {
		bad = "no next-hop; remedy: write \"self\" or an address"
	}
	if bad != "" {
		f.add(key, "%s", bad)
		return setting[hops]{hops{self: true}, key}
	}
	out := hops{}
	for _, text := range words {
		a, err := netip.ParseAddr(text)
		of := &out.v4
		if a.Is6() {
			of = &out.v6
		}
		switch {
		case text == "self":
			out.self = true
		case err != nil || a.Zone() != "" || a.Is4In6() || !a.IsGlobalUnicast():
			f.add(key, "%q is not a next-hop; remedy: write \"self\" or a unicast address without zone", text)
			out.self = true
		case of.IsValid():
			f.add(key, "%s and %s are of one family; remedy: keep one of the two", *of, a)
		default:
			*of = a
		}
	}
	return setting[hops]{out, key}
}

// prepend reads a count of further local AS numbers, or the list of numbers that come behind the local AS.
func (f *faults) prepend(key string, v anyValue) setting[[]uint32] {
	out := setting[[]uint32]{key: key}
	switch in := v.V.(type) {
	case nil:
		return setting[[]uint32]{}
	case int64:
		count := f.number(key, numberValue{V: in}, 0, maxPrepend)
		if count > 0 && f.localAS == 0 {
			f.add("exabgp.local_as", "missing, and %s prepends it; remedy: write the local-as of ExaBGP's configuration", f.place(key))
		}
		out.v = slices.Repeat([]uint32{f.localAS}, int(count))
		return out
	case []any:
		for _, item := range in {
			n, ok := item.(int64)
			if !ok {
				f.add(key, "%v in the list is not an AS number; remedy: write numbers without quotes, such as [65001, 65001]", quoted(item))
				continue
			}
			out.v = append(out.v, uint32(f.number(key, numberValue{V: n}, 1, 1<<32-1)))
		}
		if len(in) > maxPrepend {
			f.add(key, "%d AS numbers; remedy: write %d at most", len(in), maxPrepend)
		} else if len(in) > 0 && f.localAS == 0 {
			f.add("exabgp.local_as", "missing, and the path of %s begins with it; remedy: write the local-as of ExaBGP's configuration", f.place(key))
		}
	default:
		f.add(key, "%v is neither a count nor a list; remedy: write 2, or [65001, 65001]", quoted(in))
	}
	f.addAll(key, exabgp.CheckASPath(out.v))
	return out
}

// textOrList reads a string as a list of one.
func textOrList(in any) (words []string, bad string) {
	if s, ok := in.(string); ok {
		return []string{s}, ""
	}
	if _, ok := in.([]any); !ok {
		return nil, fmt.Sprintf("%v is not a string, nor a list of them; remedy: put it in quotes, or write [\"…\", \"…\"]", quoted(in))
	}
	bad = setList(&words, in)
	return words, bad
}

// addAll reports every error of a joined one by itself.
func (f *faults) addAll(key string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			f.addAll(key, e)
		}
	} else if err != nil {
		f.add(key, "%w", err)
	}
}

// announcement makes the attributes of every role out of what is given, with the defaults: a backup has those of the owner and
// another MED; what drains has those of the owner, and looks no better than the last backup. key is the announce table.
func (r settings) announcement(f *faults, key string, s *Service) Announcement {
	own := role{med: setting[uint32]{v: 100}, hops: setting[hops]{v: hops{self: true}}}
	own = r.own.over(own)
	standby := s.Backup == BackupStandby
	backup := r.backup.over(role{
		med: setting[uint32]{200, key + ".backup_med"}, preference: own.preference, path: own.path, hops: own.hops,
		normal: own.normal, large: own.large, extended: own.extended, prepend: own.prepend,
		medStep: setting[uint32]{100, key + ".backup.med_step"}, prependStep: setting[uint32]{1, key + ".backup.prepend_step"},
	})
	a := Announcement{Own: own.attributes(f.localAS)}
	ranks := 0
	if standby {
		a.StepMED, a.StepPrepend, ranks = backup.medStep.v, int(backup.prependStep.v), 1
		for _, order := range s.Order {
			ranks = max(ranks, len(order))
		}
		if r.backup.prepend.key == "" {
			backup.prepend.v = f.further(backup.prepend.v, a.StepPrepend, 1)
		}
		if a.StepPrepend > 0 && f.localAS == 0 {
			f.add("exabgp.local_as", "missing, and backup = \"standby\" prepends it; remedy: write the local-as of ExaBGP's configuration, or prepend_step = 0 in [service.announce.backup] to tell the ranks by MED only")
		}
	}
	if steps := uint64(max(ranks-1, 0)); uint64(backup.med.v)+steps*uint64(a.StepMED) > maxMED {
		f.add(backup.medStep.key, "%d is too much for %d ranks above a MED of %d; remedy: write a smaller one", a.StepMED, ranks, backup.med.v)
		a.StepMED = 0
	}
	last := backup // as the last in the order has it
	last.med.v += uint32(max(ranks-1, 0)) * a.StepMED
	last.prepend.v = f.further(backup.prepend.v, a.StepPrepend, max(ranks-1, 0))
	a.Backup = backup.attributes(f.localAS)

	drain := r.drain.over(role{
		med: setting[uint32]{max(1000, last.med.v), key + ".drain_med"}, preference: last.preference, path: own.path, hops: own.hops,
		normal: own.normal, large: own.large, extended: own.extended, prepend: setting[[]uint32]{f.further(last.prepend.v, a.StepPrepend, 1), last.prepend.key},
	})
	a.Drain = drain.attributes(f.localAS)
	f.notBetter(key, "backup", own, backup)
	if standby && own.looksLike(backup) {
		f.add(key+".backup", "a backup looks like the owner, so both get traffic; remedy: set med, as_path_prepend or local_preference, or leave med_step and prepend_step at their defaults")
	}
	f.notBetter(key, "drain", last, drain)
	f.bounded(key, &a, drain)
	f.covered(s, own.hops, backup.hops, drain.hops)
	return a
}

// further is a path with more of the local AS, the same number of times.
func (f *faults) further(path []uint32, step, times int) []uint32 {
	return slices.Concat(slices.Repeat([]uint32{f.localAS}, step*times), path)
}

func (r role) attributes(localAS uint32) Attributes {
	a := Attributes{
		MED: r.med.v, NextHop4: r.hops.v.v4, NextHop6: r.hops.v.v6,
		Communities: r.normal.v, LargeCommunities: r.large.v, ExtCommunities: r.extended.v,
		LocalPreference: r.preference.v, HasLocalPreference: r.preference.key != "", PathID: r.path.v,
	}
	if len(r.prepend.v) > 0 {
		a.ASPath = exabgp.ASPath(append([]uint32{localAS}, r.prepend.v...))
	}
	return a
}

func (r role) localPreference() uint32 {
	if r.preference.key == "" {
		return defaultLocalPreference
	}
	return r.preference.v
}

func (r role) looksLike(o role) bool {
	return r.med.v == o.med.v && len(r.prepend.v) == len(o.prepend.v) && r.localPreference() == o.localPreference()
}

// notBetter reports where routers would prefer what must be second to what must be first.
func (f *faults) notBetter(key, name string, first, second role) {
	what, why := "med", "a backup must look worse"
	if name == "drain" {
		what, why = "backup_med", "what is about to go must look worse"
	}
	if second.med.v < first.med.v {
		f.add(second.med.key, "%d is better than %s = %d; remedy: %s, so give it a higher MED", second.med.v, what, first.med.v, why)
	}
	at := key + "." + name
	if len(second.prepend.v) < len(first.prepend.v) {
		f.add(second.prepend.or(setting[[]uint32]{key: at}).key, "a path of %d is shorter than the %d that it must not be preferred to; remedy: %s, so prepend more", len(second.prepend.v)+1, len(first.prepend.v)+1, why)
	}
	if second.localPreference() > first.localPreference() {
		f.add(second.preference.or(setting[uint32]{key: at}).key, "%d is better than %d; remedy: %s, so give it a lower local_preference (without one it is %d)", second.localPreference(), first.localPreference(), why, defaultLocalPreference)
	}
}

// bounded reports what exabgp would not write: a path that grew too long by its steps, and too many communities with that of a drain.
func (f *faults) bounded(key string, a *Announcement, drain role) {
	if err := exabgp.CheckASPath(append([]uint32{f.localAS}, drain.prepend.v...)); err != nil && f.localAS != 0 {
		f.addAll(drain.prepend.or(setting[[]uint32]{key: key + ".backup.prepend_step"}).key, err)
	}
	if _, err := withGracefulShutdown(a.Drain.Communities); err != nil {
		f.addAll(drain.normal.or(setting[string]{key: key}).key, err)
	}
}

// covered reports a next-hop that cannot be that of a VIP of the service.
func (f *faults) covered(s *Service, given ...setting[hops]) {
	vips := slices.Concat(s.Authoritative, s.BackupFor)
	seen := map[string]bool{}
	for _, h := range given {
		if seen[h.key] {
			continue
		}
		seen[h.key] = true
		for _, is4 := range []bool{true, false} {
			i := slices.IndexFunc(vips, func(p netip.Prefix) bool { return p.Addr().Is4() == is4 })
			hop, other := h.v.v4, h.v.v6
			if !is4 {
				hop, other = other, hop
			}
			if i >= 0 && !hop.IsValid() && !h.v.self && other.IsValid() {
				f.add(h.key, "%s is not of the family of %s; remedy: write [%q, …] with an address of that family, or with \"self\"", other, vips[i], other)
			}
		}
	}
}

// neighbors are the peers that a service is announced to, each with its attributes. all is exabgp.neighbors.
func (r *rawService) neighbors(f *faults, key string, s *Service, base settings, all []netip.Addr) []Neighbor {
	listed := f.addresses(key+".neighbors", r.Neighbors)
	if !r.Neighbors.Set && len(r.Neighbor) > 0 {
		listed = all
	}
	at := map[netip.Addr]int{} // where each has its table, if it has one
	for i := range r.Neighbor {
		nkey := fmt.Sprintf("%s.neighbor[%d]", key, i)
		addr := f.neighbor(nkey+".address", r.Neighbor[i].Address)
		first, twice := at[addr]
		switch {
		case !addr.IsValid():
			continue
		case twice:
			f.add(nkey+".address", "%s is there twice, first at %s; remedy: keep one of the two", addr, f.place(fmt.Sprintf("%s.neighbor[%d].address", key, first)))
		case !slices.Contains(listed, addr):
			f.add(nkey+".address", "%s is not listed; remedy: list it, and every other neighbor of the service, in neighbors", addr)
		}
		at[addr] = i
	}
	var out []Neighbor
	for i, addr := range listed {
		switch {
		case !addr.IsValid(): // reported
		case slices.Contains(listed[:i], addr):
			f.add(key+".neighbors", "%s is there twice; remedy: keep one of the two", addr)
		case len(all) > 0 && !slices.Contains(all, addr):
			f.add(key+".neighbors", "%s is not among exabgp.neighbors, so exazk does not follow it; remedy: add it there", addr)
		}
		n := Neighbor{Address: addr, Announce: s.Announce}
		if i, own := at[addr]; own {
			nkey := fmt.Sprintf("%s.neighbor[%d].announce", key, i)
			n.Announce = r.Neighbor[i].Announce.settings(f, nkey).over(base).announcement(f, nkey, s)
		}
		out = append(out, n)
	}
	return out
}

func (f *faults) neighbor(key string, v textValue) netip.Addr {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(v.V)
	switch {
	case err != nil, a.Zone() != "":
		f.add(key, "%q is not an address; remedy: write the neighbor's address as in ExaBGP's configuration", v.V)
		return netip.Addr{}
	case a.Is4In6():
		f.add(key, "%q is IPv4 written as IPv6; remedy: write %s", v.V, a.Unmap())
	}
	return a
}

func (f *faults) addresses(key string, v listValue) []netip.Addr {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
		return nil
	}
	var out []netip.Addr
	for _, text := range v.V {
		out = append(out, f.neighbor(key, textValue{V: text}))
	}
	return out
}

// reachable reports what no session can carry: ExaBGP has no IPv6 address for next-hop self where every session is IPv4. 4.2.21
// then sends an unusable next-hop, and loses IPv4 routes with the next restart of the session.
func (f *faults) reachable(key string, s *Service, all []netip.Addr) {
	vips := slices.Concat(s.Authoritative, s.BackupFor)
	i := slices.IndexFunc(vips, func(p netip.Prefix) bool { return p.Addr().Is6() })
	sessions := s.Neighbors
	if len(sessions) == 0 {
		for _, a := range all {
			sessions = append(sessions, Neighbor{a, s.Announce})
		}
	}
	if i < 0 || slices.ContainsFunc(sessions, func(n Neighbor) bool { return !n.Address.Is4() }) {
		return
	}
	for _, n := range sessions {
		for _, a := range []*Attributes{&n.Announce.Own, &n.Announce.Backup, &n.Announce.Drain} {
			if !a.NextHop6.IsValid() {
				f.add(key+".announce.next_hop", "%s would get \"self\" over an IPv4 session, which has no IPv6 address; remedy: write [\"self\", \"2001:db8::1\"] with this node's IPv6 address", vips[i])
				return
			}
		}
	}
}

// renderAnnounce writes what parses to a again. table is "service.announce" or that of a neighbor.
func renderAnnounce(b *strings.Builder, table string, a *Announcement, standby bool) {
	fmt.Fprintf(b, "[%s]\nmed = %d\nbackup_med = %d\ndrain_med = %d\n", table, a.Own.MED, a.Backup.MED, a.Drain.MED)
	a.Own.render(b)
	fmt.Fprintf(b, "path_id = %d\n[%s.backup]\n", a.Own.PathID, table)
	a.Backup.render(b)
	if standby {
		fmt.Fprintf(b, "med_step = %d\nprepend_step = %d\n", a.StepMED, a.StepPrepend)
	}
	fmt.Fprintf(b, "[%s.drain]\n", table)
	a.Drain.render(b)
}

func (a *Attributes) render(b *strings.Builder) {
	hop := `"self"`
	switch {
	case a.NextHop4.IsValid() && a.NextHop6.IsValid():
		hop = fmt.Sprintf("[%q, %q]", a.NextHop4, a.NextHop6)
	case a.NextHop4.IsValid():
		hop = fmt.Sprintf("[%q, \"self\"]", a.NextHop4)
	case a.NextHop6.IsValid():
		hop = fmt.Sprintf("[\"self\", %q]", a.NextHop6)
	}
	fmt.Fprintf(b, "next_hop = %s\nas_path_prepend = %s\n", hop, prependText(a.ASPath))
	if a.HasLocalPreference {
		fmt.Fprintf(b, "local_preference = %d\n", a.LocalPreference)
	}
	fmt.Fprintf(b, "communities = %s\nlarge_communities = %s\nextended_communities = %s\n",
		tomlList(strings.Fields(a.Communities)), tomlList(strings.Fields(a.LargeCommunities)), tomlList(strings.Fields(a.ExtCommunities)))
}

// prependText is a count where the path has nothing but the local AS, else the list.
func prependText(path string) string {
	asns := strings.Fields(path)
	if len(slices.Compact(slices.Clone(asns))) <= 1 {
		return strconv.Itoa(max(len(asns)-1, 0))
	}
	return "[" + strings.Join(asns[1:], ", ") + "]"
}
