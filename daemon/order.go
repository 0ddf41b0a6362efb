package daemon

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// order fills in which nodes back a VIP up, and in which order. All nodes must come to the same, so it is made of nothing but
// what their files have in common.
func (r *rawService) order(f *faults, key, node string, s *Service) {
	s.Nodes = f.nodes(key+".nodes", r.Nodes)
	if len(s.Nodes) > 0 && !slices.Contains(s.Nodes, node) {
		f.add(key+".nodes", "this node, %q, is not in it; remedy: list every node of the service, the same list on each", node)
	}
	owners, ranks := map[netip.Prefix]string{}, map[netip.Prefix][]string{}
	for _, k := range f.byVIP(key+".owners", slices.Sorted(maps.Keys(r.Owners)), s) {
		owners[k.vip] = f.known(k.key, f.name(k.key, r.Owners[k.text], "the node that the VIP belongs to"), s.Nodes)
	}
	for _, k := range f.byVIP(key+".ranks", slices.Sorted(maps.Keys(r.Ranks)), s) {
		ranks[k.vip] = f.nodes(k.key, r.Ranks[k.text])
		for _, n := range ranks[k.vip] {
			f.known(k.key, n, s.Nodes)
		}
	}
	if s.Backup == BackupStandby && s.Backups == BackupsFirst {
		f.add(key+".backups", "it is for backup = \"on-demand\", and standby announces by rank anyway; remedy: remove it")
	}
	if s.Backup != BackupStandby && s.Backups != BackupsFirst {
		return
	}
	s.Owners, s.Order = owners, map[netip.Prefix][]string{}
	for _, vip := range s.Authoritative {
		if owner, given := owners[vip]; given && owner != node {
			f.add(key+".owners", "%s is in authoritative of %q and owned by %q; remedy: correct one of the two", ClaimName(vip), node, owner)
		}
		owners[vip] = node
	}
	for _, vip := range slices.Concat(s.Authoritative, s.BackupFor) {
		f.orderOf(key, node, vip, s, ranks)
	}
}

// orderOf is the order of one VIP: as written in ranks, else by its hash.
func (f *faults) orderOf(key, node string, vip netip.Prefix, s *Service, ranks map[netip.Prefix][]string) {
	owner, name := s.Owners[vip], ClaimName(vip)
	own := slices.Contains(s.Authoritative, vip)
	order, written := ranks[vip]
	switch {
	case owner == node && !own:
		f.add(key+".owners", "%s belongs to this node, %q, and is in backup_for; remedy: correct one of the two", name, node)
	case written && slices.Contains(order, owner):
		f.add(key+".ranks", "%q owns %s and cannot be its backup; remedy: leave it out there", owner, name)
	case written && !own && !slices.Contains(order, node):
		f.add(key+".ranks", "this node, %q, is not in the order of %s; remedy: add it, or remove the VIP from backup_for", node, name)
	case written:
		s.Order[vip] = order
	case len(s.Nodes) == 0:
		f.add(key+".nodes", "missing, so the order of the backups is not known; remedy: list every node of the service, the same list on each")
	case owner == "":
		f.add(key+".owners", "%s is missing, and its owner cannot be a backup; remedy: write [service.owners] with %q = \"…\", the node that has it in authoritative, or its order under [service.ranks]", name, name)
	default:
		s.Order[vip] = rendezvous(name, slices.DeleteFunc(slices.Clone(s.Nodes), func(n string) bool { return n == owner }))
	}
}

// rendezvous sorts nodes by SHA-256 of the claim's name, a NUL and the node's name, the highest digest first (highest random
// weight, Thaler and Ravishankar 1998): the VIPs of a node that goes are spread over all others, and a node that comes or goes
// changes nothing in the order of the rest. It must never change between releases, for nodes of two releases must agree. For a
// person: printf '10.20.255.1\0node2' | sha256sum.
func rendezvous(claim string, nodes []string) []string {
	weight := map[string][sha256.Size]byte{}
	for _, n := range nodes {
		weight[n] = sha256.Sum256([]byte(claim + "\x00" + n))
	}
	return slices.SortedFunc(slices.Values(nodes), func(a, b string) int {
		wa, wb := weight[a], weight[b]
		return bytes.Compare(wb[:], wa[:])
	})
}

type vipKey struct {
	text string // as it is in the file
	vip  netip.Prefix
	key  string // its whole key
}

// byVIP reads the keys of a table that has one for each of some VIPs.
func (f *faults) byVIP(table string, texts []string, s *Service) []vipKey {
	var out []vipKey
	seen := map[netip.Prefix]string{}
	for _, text := range texts {
		key := join(table, text)
		vip, err := ParseVIP(text)
		first, twice := seen[vip]
		switch {
		case err != nil:
			f.add(key, "%w", err)
			continue
		case !slices.Contains(s.Authoritative, vip) && !slices.Contains(s.BackupFor, vip):
			f.add(key, "it is not a VIP of this node; remedy: correct it, or remove it")
		case twice:
			f.add(key, "it is the same VIP as %q; remedy: keep one of the two", first)
		}
		seen[vip] = text
		out = append(out, vipKey{text, vip, key})
	}
	return out
}

// nodes reads a list of names.
func (f *faults) nodes(key string, v listValue) []string {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
		return nil
	}
	var out []string
	for _, name := range v.V {
		if name = f.name(key, textValue{V: name, Set: true}, "the name of a node"); slices.Contains(out, name) {
			f.add(key, "%q is there twice; remedy: keep one of the two", name)
		}
		out = append(out, name)
	}
	return out
}

// known reports a node that the service does not have, where its nodes are listed.
func (f *faults) known(key, name string, nodes []string) string {
	if len(nodes) > 0 && name != "" && !slices.Contains(nodes, name) {
		f.add(key, "%q is not in nodes, %s; remedy: correct one of the two", name, strings.Join(nodes, ", "))
	}
	return name
}
