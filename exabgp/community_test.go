package exabgp

import (
	"strings"
	"testing"
)

func TestParseCommunities(t *testing.T) {
	type parser func([]string) (string, error)
	for _, tt := range []struct {
		name  string
		parse parser
		in    string // words
		want  string
	}{
		{"none", ParseCommunities, "", ""},
		{"sorted by number, each once", ParseCommunities, "65001:20 9:1 65001:3 9:1", "9:1 65001:3 65001:20"},
		{"least and most", ParseCommunities, "65535:65535 0:0", "0:0 65535:65535"},
		{"RFC 1997", ParseCommunities, "no-export no-advertise no-export-subconfed", "65535:65281 65535:65282 65535:65283"},
		{"RFC 3765, 8326, 7999", ParseCommunities, "no-peer Graceful-Shutdown BLACKHOLE", "65535:0 65535:666 65535:65284"},
		{"a name and its number", ParseCommunities, "local-as no-export-subconfed 65535:65283", "65535:65283"},
		{"large", ParseLargeCommunities, "65001:10:2 65001:9:3 65001:9:3", "65001:9:3 65001:10:2"},
		{"large, least and most", ParseLargeCommunities, "4294967295:4294967295:4294967295 0:0:0", "0:0:0 4294967295:4294967295:4294967295"},
		{"route target and origin", ParseExtendedCommunities, "origin:65001:7 target:65001:4294967295", "target:65001:4294967295 origin:65001:7"},
		{"with an AS number of 32 bits", ParseExtendedCommunities, "target:4200000001:65535 origin:65536:1", "target:4200000001:65535 origin:65536:1"},
		{"with an address", ParseExtendedCommunities, "origin:192.0.2.1:9 target:192.0.2.1:65535", "target:192.0.2.1:65535 origin:192.0.2.1:9"},
		{"bandwidth", ParseExtendedCommunities, "bandwidth:65001:125000000", "bandwidth:65001:125000000"},
		{"octets of known forms", ParseExtendedCommunities, "0x0002FDE900000005 0x4004FDE94CEE6B28 0x01020A0000010007 0x0203FA56EA010009",
			"target:65001:5 target:10.0.0.1:7 origin:4200000001:9 bandwidth:65001:125000000"},
		{"octets of others", ParseExtendedCommunities, "0x0300000000000001 0x02020000FDE90005 0x4004FDE97FC00000",
			"0x02020000fde90005 0x0300000000000001 0x4004fde97fc00000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.parse(strings.Fields(tt.in))
			if err != nil || got != tt.want {
				t.Fatalf("got %q, %v, want %q", got, err, tt.want)
			}
			if again, err := tt.parse(strings.Fields(got)); err != nil || again != got {
				t.Errorf("read again: %q, %v", again, err)
			}
		})
	}
}

// TestParseCommunitiesFaults looks for each fault and a remedy, all of them at once.
func TestParseCommunitiesFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		parse func([]string) (string, error)
		in    []string
	}{
		"community": {ParseCommunities, []string{"", "65001", "65001:", ":1", "65536:1", "1:65536", "-1:1", "+1:1", "01:1", "1:2:3", "1:1 2:2",
			"no-exprot", "0x10", "1:1;", "1.1:1", "\u0661:1", "1:1\n2:2"}},
		"large":    {ParseLargeCommunities, []string{"", "1", "1:2", "1:2:3:4", "4294967296:0:0", "1:2:-3", "1:02:3", "no-export", "a:b:c"}},
		"extended": {ParseExtendedCommunities, []string{"", "65001:5", "target:65001", "target:65001:4294967296", "target:65536:65536", "target:4294967296:1", "target:192.0.2.1:65536", "target:192.0.2:1", "target:2001:db8::1:1", "bandwidth:65536:1", "bandwidth:65001:-1", "bandwidth:192.0.2.1:1", "rt:65001:5", "0x", "0x00", "0x0002fde9000000050", "0xg002fde900000005", "target:65001:5:6", "target::5"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.parse(tt.in)
			if err == nil || got != "" {
				t.Fatalf("got %q, %v", got, err)
			}
			faults := strings.Split(err.Error(), "\n")
			if len(faults) != len(tt.in) {
				t.Fatalf("%d faults of %d:\n%v", len(faults), len(tt.in), err)
			}
			for i, fault := range faults {
				if !strings.Contains(fault, "; remedy: ") || !strings.Contains(fault, "community \"") {
					t.Errorf("%q: %s", tt.in[i], fault)
				}
			}
		})
	}
}

func TestTooManyCommunities(t *testing.T) {
	many := make([]string, 256)
	for i := range many {
		many[i] = "65001:" + strings.Repeat("1", 1+i%4) + string(rune('0'+i%10)) // far fewer than that are different
	}
	if _, err := ParseCommunities(many); err != nil {
		t.Errorf("of a few that repeat: %v", err)
	}
	for name, fault := range map[string]error{
		"communities": second(ParseCommunities(distinct(maxCommunities+1, "1:"))),
		"large":       second(ParseLargeCommunities(distinct(maxLargeCommunities+1, "1:2:"))),
		"extended":    second(ParseExtendedCommunities(distinct(maxExtendedCommunities+1, "target:1:"))),
		"AS path":     CheckASPath(make([]uint32, maxASPath+1)),
		"AS 0":        CheckASPath([]uint32{65001, 0}),
		"AS_TRANS":    CheckASPath([]uint32{23456}),
	} {
		if fault == nil || !strings.Contains(fault.Error(), "; remedy: write ") {
			t.Errorf("%s: %v", name, fault)
		}
	}
	for _, good := range [][]uint32{nil, {65001, 65001}, {4294967295}} {
		if err := CheckASPath(good); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	if got := ASPath([]uint32{65001, 4200000001, 65001}); got != "65001 4200000001 65001" {
		t.Errorf("got %q", got)
	}
}

func second(_ string, err error) error { return err }

func distinct(n int, prefix string) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = prefix + ASPath([]uint32{uint32(i)})
	}
	return texts
}

// FuzzParseCommunities: what is accepted is in a form that is read again as the same, and that a route may carry in any dialect.
func FuzzParseCommunities(f *testing.F) {
	for _, seed := range []string{"65001:1", "no-export", "65001:1:2", "target:65001:5", "target:192.0.2.1:5", "origin:4200000001:5",
		"bandwidth:65001:1", "0x0002fde900000005", "0x4004fde97f800000", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i, parse := range []func([]string) (string, error){ParseCommunities, ParseLargeCommunities, ParseExtendedCommunities} {
			got, err := parse([]string{text})
			if err != nil {
				continue
			}
			if again, err := parse([]string{got}); err != nil || again != got {
				t.Fatalf("%q is %q, and that is %q, %v", text, got, again, err)
			}
			r := announce(vip1, 1)
			*[]*string{&r.Communities, &r.LargeCommunities, &r.ExtendedCommunities}[i] = got
			if command := Dialect6.Command(r); strings.ContainsFunc(command, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Fatalf("%q", command)
			}
		}
	})
}
