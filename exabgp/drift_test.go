package exabgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestLooksAreRareAmongManyRoutes: while ExaBGP lists the routes of others, a withdraw waits.
func TestLooksAreRareAmongManyRoutes(t *testing.T) {
	for name, test := range map[string]struct {
		routes int
		answer string
		pause  time.Duration
	}{
		"few":           {lookMany - 1, "done", 20 * time.Second},
		"many":          {lookMany, "done", 20 * time.Minute},
		"many, no list": {lookMany, "error", 20 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			p := &player{t: t}
			for _, line := range []string{
				"0s begin no-track drift=4s", "0s < error", "0s < Peer            AS        up/down state       |     #sent     #recvd",
				"0s < 192.0.2.2       65002     0:00:13 established           8          2", "0s < done", "0s table 1: withdraw 203.0.113.1/32", "0s < done",
				"0s <   adj-rib-out true;", "0s < done", "4s end",
			} {
				p.play(line)
			}
			for i := range test.routes {
				p.play(fmt.Sprintf("5s < neighbor 192.0.2.2 local-ip 192.0.2.1 local-as 65001 peer-as 65002 router-id 192.0.2.1 family-allowed in-open ipv4 unicast 10.0.%d.%d/32 next-hop self med 7", i/256, i%256))
			}
			p.play("6s < " + test.answer)
			if got := p.wake.Sub(p.now); got != test.pause {
				t.Errorf("the next look is in %v, want %v\n%s", got, test.pause, p.out.String())
			}
			if said := strings.Contains(p.out.String(), "many routes"); said != (test.routes >= lookMany) {
				t.Errorf("in the log: %t\n%s", said, p.out.String())
			}
		})
	}
}

// TestLike compares routes with what ExaBGP 4.2.21 and 5.0 showed of them and of others: captured, save what is said to be made up.
func TestLike(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	full := Route{Prefix: netip.MustParsePrefix("203.0.113.1/32"), NextHop: netip.MustParseAddr("192.0.2.77"), MED: 4294967295, HasLocalPreference: true, LocalPreference: 250,
		ASPath: "65001 65001 4200000001", Communities: "0:5 65001:20 65535:0 65535:666 65535:65281 65535:65282 65535:65283 65535:65284",
		LargeCommunities: "65001:1:2 4294967295:0:4294967295", ExtendedCommunities: "target:192.0.2.1:7 target:65001:5 origin:65001:6 origin:4200000001:8 0x4004fde94cee6b28 0x4300000000000001"}
	plain := Route{Prefix: netip.MustParsePrefix("203.0.113.2/32")}
	six := Route{Prefix: netip.MustParsePrefix("2001:db8:f::1/128"), NextHop: netip.MustParseAddr("2001:db8::77"), MED: 5, ASPath: "65001 65001"}
	named := Route{Prefix: plain.Prefix, MED: 5, Communities: "65535:0"}
	const attributes42 = "next-hop 192.0.2.77 as-path [ 65001 65001 4200000001 ] med 4294967295 local-preference 250 community [ 0:5 65001:20 65535:0 blackhole no-export no-advertise no-export-subconfed no-peer ] " +
		"extended-community [ target:49152:33619975 target:65001:5 origin:65001:0.0.0.6 origin:4200000001L:8 0x4004FDE94CEE6B28 0x4300000000000001 ] large-community [ 65001:1:2 4294967295:0:4294967295 ]"
	const attributes5 = "next-hop 192.0.2.77 as-path ( 65001 65001 4200000001 ) med 4294967295 local-preference 250 community [ 0:5 65001:20 65535:0 blackhole no-export no-advertise no-export-subconfed no-peer ] " +
		"extended-community [ target:65001:5 origin:65001:0.0.0.6 target:192.0.2.1:7 origin:8:250.86.234.1 0x4004FDE94CEE6B28 0x4300000000000001 ] large-community [ 65001:1:2 4294967295:0:4294967295 ]"
	for name, test := range map[string]struct {
		route Route
		shown string
		want  bool
	}{
		"everything, 4.2":              {full, attributes42, true},
		"everything, 5.0":              {full, attributes5, true},
		"self, 4.2":                    {plain, "next-hop self med 0", true},
		"self, 5.0":                    {plain, "next-hop 127.0.0.1 med 0", true},
		"self, IPv4 over IPv6 session": {Route{Prefix: six.Prefix}, "next-hop 2001:db8::1 med 0", true}, // made up: the session's address is IPv4
		"ipv6, 4.2":                    {six, "next-hop 2001:db8::77 as-path [ 65001 65001 ] med 5", true},
		"one community":                {named, "next-hop self origin igp med 5 community 65535:0", true},
		"not readable":                 {plain, "next-hop self med 0 as-path [ 65001", true},      // made up
		"a name without a value":       {plain, "next-hop self med 0 community", true},            // made up
		"a community of another form":  {plain, "next-hop self med 0 community 0xFFFFFFFF", true}, // made up

		"another MED":                    {plain, "next-hop self med 7", false},
		"no MED":                         {plain, "next-hop self", false},
		"another next hop":               {plain, "next-hop 192.0.2.77 med 0", false},
		"self instead of a next hop":     {six, "next-hop self as-path [ 65001 65001 ] med 5", false},
		"no next hop":                    {plain, "med 0", false}, // made up
		"a shorter path":                 {six, "next-hop 2001:db8::77 as-path [ 65001 ] med 5", false},
		"another origin":                 {named, "next-hop self origin incomplete med 5 community 65535:0", false},
		"another community":              {named, "next-hop self med 5 community no-export", false},
		"more communities":               {named, "next-hop self med 5 community [ 65535:0 no-export ]", false},
		"a large community":              {plain, "next-hop self med 0 large-community 1:2:3", false},
		"an extended community":          {plain, "next-hop self med 0 extended-community target:65001:5", false},
		"a local preference":             {plain, "next-hop self med 0 local-preference 200", false},
		"an attribute that we never set": {plain, "next-hop self med 0 atomic-aggregate", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.route.like(HeldRoute{Local: local, Attributes: test.shown}); got != test.want {
				t.Errorf("%q: %t", test.shown, got)
			}
		})
	}
}
