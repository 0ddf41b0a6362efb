package exabgp

import (
	"fmt"
	"strconv"
	"strings"
)

// Command is the text of the route in the language of 4.2; see Dialect.Command.
func (r Route) Command() string { return Dialect42.Command(r) }

// Command is the text of the route without the newline, ASCII only: ExaBGP 4.2 and 5.0 kill a process that writes any
// other byte. The order of the attributes is fixed, and those that the route does not have are left out. A route for no single
// neighbor reaches all whose "api" block names this process (3.4: all neighbors). It panics on a prefix that is invalid or has
// host bits set, which ExaBGP 3.4 would take for another one, and on attributes that are not in their form.
func (d Dialect) Command(r Route) string {
	if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
		panic(fmt.Sprintf("bug: route with prefix %q", r.Prefix))
	}
	words := make([]string, 0, 20)
	add := func(w ...string) { words = append(words, w...) }
	switch {
	case d == Dialect6 && !r.Neighbor.IsValid():
		add("peer", "*")
	case d == Dialect6:
		add("peer", r.Neighbor.WithZone("").String()) // a zone is any text
	case r.Neighbor.IsValid():
		add("neighbor", r.Neighbor.WithZone("").String())
	}
	hop := "self"
	if r.NextHop.IsValid() {
		hop = r.NextHop.WithZone("").String()
	}
	if r.Withdraw {
		add("withdraw", "route", r.Prefix.String())
		// Nothing but what says which route it is. 3.4 does not parse an attribute without a next-hop, and leaves the route announced.
		if r.PathID != 0 && d == Dialect34 {
			add("next-hop", hop)
		}
		add(r.pathInformation()...)
		return strings.Join(words, " ")
	}
	add("announce", "route", r.Prefix.String(), "next-hop", hop)
	add(r.pathInformation()...)
	add("med", strconv.FormatUint(uint64(r.MED), 10))
	if r.HasLocalPreference {
		add("local-preference", strconv.FormatUint(uint64(r.LocalPreference), 10))
	}
	add(bracketed("as-path", r.ASPath, r.checked(r.ASPath, canonicalASPath))...)
	add(bracketed("community", r.Communities, r.checked(r.Communities, ParseCommunities))...)
	add(bracketed("large-community", r.LargeCommunities, r.checked(r.LargeCommunities, ParseLargeCommunities))...)
	extended := r.checked(r.ExtendedCommunities, ParseExtendedCommunities)
	for i := range extended {
		extended[i] = extendedWire(extended[i])
	}
	add(bracketed("extended-community", r.ExtendedCommunities, extended)...)
	return strings.Join(words, " ")
}

func (r Route) pathInformation() []string {
	if r.PathID == 0 {
		return nil
	}
	return []string{"path-information", strconv.FormatUint(uint64(r.PathID), 10)}
}

func bracketed(name, text string, values []string) []string {
	if text == "" {
		return nil
	}
	return append(append([]string{name, "["}, values...), "]")
}

// checked gives the parts of an attribute, each of which is in its canonical form.
func (r Route) checked(text string, canonical func([]string) (string, error)) []string {
	if text == "" {
		return nil
	}
	values := strings.Split(text, " ")
	for _, value := range values {
		if got, err := canonical([]string{value}); err != nil || got != value {
			panic(fmt.Sprintf("bug: route %s with attribute %q", r.Prefix, text))
		}
	}
	return values
}

// canonicalASPath reads an AS_PATH as ASPath writes it.
func canonicalASPath(texts []string) (string, error) {
	asns := make([]uint32, 0, len(texts))
	for _, text := range texts {
		as, ok := numbers(text, 32)
		if !ok {
			return "", fmt.Errorf("AS number %q", text)
		}
		asns = append(asns, uint32(as[0]))
	}
	return ASPath(asns), CheckASPath(asns)
}
