package exabgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestGoldenCommands writes every attribute, and all of them together, in every dialect.
func TestGoldenCommands(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("203.0.113.1/32"), netip.MustParsePrefix("2001:db8:f::/48")
	full := Route{Prefix: v4, PathID: 7, NextHop: netip.MustParseAddr("192.0.2.1"), Neighbor: netip.MustParseAddr("192.0.2.2"), MED: 100,
		HasLocalPreference: true, LocalPreference: 150, ASPath: "65001 65001 4200000001", Communities: "65001:20 65535:0",
		LargeCommunities: "65001:1:2 65001:1:3", ExtendedCommunities: "target:65001:5 target:192.0.2.1:5 origin:4200000001:9 bandwidth:65001:125000000"}
	full6 := full
	full6.Prefix, full6.NextHop, full6.Neighbor = v6, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	routes := []struct {
		name  string
		route Route
	}{
		{"plain", Route{Prefix: v4}},
		{"next-hop", Route{Prefix: v6, NextHop: netip.MustParseAddr("2001:db8::1")}},
		{"med", Route{Prefix: v4, MED: 4294967295}},
		{"local-preference", Route{Prefix: v4, HasLocalPreference: true}},
		{"as-path", Route{Prefix: v4, ASPath: "65001"}},
		{"community", Route{Prefix: v4, Communities: "65535:65281"}},
		{"large-community", Route{Prefix: v4, LargeCommunities: "4294967295:0:1"}},
		{"extended-community", Route{Prefix: v4, ExtendedCommunities: "target:65001:4294967295"}},
		{"extended-community, an address", Route{Prefix: v4, ExtendedCommunities: "origin:192.0.2.1:9"}},
		{"extended-community, four octets", Route{Prefix: v4, ExtendedCommunities: "target:4200000001:9"}},
		{"path-information", Route{Prefix: v4, PathID: 4294967295}},
		{"neighbor", Route{Prefix: v4, Neighbor: netip.MustParseAddr("192.0.2.2")}},
		{"neighbor with a zone", Route{Prefix: v4, Neighbor: netip.MustParseAddr("fe80::2%eth0\nshutdown")}},
		{"all", full},
		{"all, IPv6", full6},
	}
	for d := Dialect34; d < numDialects; d++ {
		var b strings.Builder
		for _, r := range routes {
			gone := r.route
			gone.Withdraw = true
			fmt.Fprintf(&b, "%s:\n  %s\n  %s\n", r.name, d.Command(r.route), d.Command(gone))
		}
		golden(t, "testdata/commands/"+d.String()+".txt", b.String())
	}
}

func TestParseDialect(t *testing.T) {
	for d := Auto; d < numDialects; d++ {
		if got, err := ParseDialect(d.String()); got != d || err != nil {
			t.Errorf("%s: %s, %v", d, got, err)
		}
	}
	for _, text := range []string{"", "4", "6.0", "Auto"} {
		if got, err := ParseDialect(text); err == nil || !strings.Contains(err.Error(), "; remedy: ") {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestDialectOfEnviron(t *testing.T) {
	for environ, want := range map[string]Dialect{
		"":                                     Auto,
		"PATH=/bin exabgp_api_ack=true":        Auto,
		"exabgp_api_version=6":                 Dialect6,
		"exabgp.api.version=6":                 Dialect6,
		"exabgp_api_version=4":                 Dialect5,
		"exabgp_api_version=five":              Auto,
		"exabgp_api_version":                   Auto,
		"PATH=/bin exabgp.api_version=6 HOME=": Dialect6,
	} {
		if got := dialectOfEnviron(strings.Fields(environ)); got != want {
			t.Errorf("%q: %s, want %s", environ, got, want)
		}
	}
}

// TestVersionsOfFixtures finds the dialect of every version in what it said.
func TestVersionsOfFixtures(t *testing.T) {
	want := map[string]Dialect{"3.4.28": Dialect34, "4.2.21": Dialect42, "4.2.25": Dialect42, "5.0.13": Dialect5,
		"6.0.0-main-api4": Dialect42, "6.0.0-main-api6": Dialect6}
	found := map[string]bool{}
	for _, file := range fixtures(t) {
		version := strings.Split(file, "/")[2]
		for _, line := range lines(t, file) {
			if v := Decode(line); v.Version != "" {
				found[version] = true
				if got := dialectOfVersion(v.Version); got != want[version] {
					t.Errorf("%s: %s says %q, which is %s", file, version, v.Version, got)
				}
			}
		}
	}
	if len(found) != len(want) {
		t.Errorf("found in %v only", found)
	}
}
