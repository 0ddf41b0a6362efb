package exabgp

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

// String makes verdicts readable in golden files.
func (v Verdict) String() string {
	switch v.Kind {
	case News:
		return describe(v.Event)
	case Session:
		return fmt.Sprintf("session %s up=%t", v.Sessions[0].Peer, v.Sessions[0].Up)
	case Peers:
		var b strings.Builder
		for _, s := range v.Sessions {
			fmt.Fprintf(&b, " %s up=%t", s.Peer, s.Up)
		}
		return "peers" + b.String()
	case Keeps:
		return fmt.Sprintf("keeps %t", v.Up)
	case Held:
		var b strings.Builder
		for _, r := range v.Routes {
			fmt.Fprintf(&b, " %s neighbor=%s", r.Prefix, r.Neighbor)
			switch {
			case r.AnyPath:
				b.WriteString(" path=?")
			case r.PathID != 0:
				fmt.Fprintf(&b, " path=%d", r.PathID)
			}
			if !r.AnyPath {
				fmt.Fprintf(&b, " local=%s %q", r.Local, r.Attributes)
			}
		}
		return "held" + b.String()
	case Bad: // the rest is encoding/json's, and changes with it
		what, _, _ := strings.Cut(v.Words, ":")
		return fmt.Sprintf("bad %q", what)
	case Refused, Excuse, Other:
		return fmt.Sprintf("%s %q", v.Kind, v.Words)
	}
	return v.Kind.String()
}

func describe(ev Event) string {
	switch ev := ev.(type) {
	case NeighborChanged:
		return fmt.Sprintf("neighbor %s local=%s state=%d %q", ev.Neighbor.Peer, ev.Neighbor.Local, ev.State, ev.Reason)
	case NeighborHeard:
		return fmt.Sprintf("heard %s local=%s", ev.Neighbor.Peer, ev.Neighbor.Local)
	case NeighborsListed:
		return fmt.Sprintf("listed %v", ev.Established)
	case RouteAccepted:
		return fmt.Sprintf("accepted %q epoch=%d took=%s", ev.Route.Command(), ev.Epoch, ev.Took)
	case RouteRefused:
		return fmt.Sprintf("refused %q epoch=%d words=%q retry=%s", ev.Route.Command(), ev.Epoch, ev.Words, ev.Retry)
	case Drifted:
		text := "drifted"
		for _, d := range ev.Routes {
			text += fmt.Sprintf(" [%q neighbor=%s held=%t have=%q]", d.Route.Command(), d.Neighbor, d.Held, d.Have)
		}
		return text
	case EventsMissing:
		return fmt.Sprintf("events-missing %s", ev.Neighbor.Peer)
	case Gone:
		return fmt.Sprintf("gone %v", ev.Err)
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", ev), "exabgp."))
}

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	a, b := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			t.Fatalf("%s:%d differs\n got %v\nwant %v\nall:\n%s", file, i+1, b[min(i, len(b)):min(i+1, len(b))], a[min(i, len(a)):min(i+1, len(a))], got)
		}
	}
}

func fixtures(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob("testdata/fixtures/*/*.jsonl")
	if err != nil || len(files) < 90 {
		tb.Fatalf("%d fixtures, %v", len(files), err)
	}
	return files
}

func TestDecodeFixtures(t *testing.T) {
	bad := 0
	for _, file := range fixtures(t) {
		version := filepath.Base(filepath.Dir(file))
		name := version + "/" + strings.TrimSuffix(filepath.Base(file), ".jsonl")
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for line := range strings.Lines(string(content)) {
				v := Decode([]byte(line))
				if v.Kind == Bad {
					bad++
				}
				fmt.Fprintln(&out, v)
			}
			golden(t, filepath.Join("testdata/verdicts", name+".txt"), out.String())
		})
	}
	// 4.2's route-refresh ("" around words) and main's End-of-RIB are invalid JSON; there are no others.
	if bad == 0 {
		t.Error("no fixture line is bad, but three shapes of invalid JSON were captured")
	}
}

func TestDecode(t *testing.T) {
	state := func(neighbor string) string {
		return `{ "exabgp": "4.0.1", "type": "state", "neighbor": ` + neighbor + ` }`
	}
	for _, tt := range []struct{ name, line, want string }{
		{"empty", "", "blank"},
		{"white space", " \t\r\n", "blank"},
		{"done", "done\n", "done"},
		{"done of a text with CRLF", "done\r\n", "done"},
		{"error", "error", `refused ""`},
		{"reason of main", "error: no neighbor matches", `excuse "no neighbor matches"`},
		{"not a reply", "done it", "text"},
		{"shutdown of the text encoder", "shutdown", "shuttingdown"},
		{"json done", `{"answer": "done", "message": "command completed"}`, "done"},
		{"json error", `{"answer": "error", "message": "this command does not support json output"}`,
			`refused "this command does not support json output"`},
		{"json error without words", `{"answer": "error", "message": 5}`, `refused ""`},
		{"json shutdown", `{"answer": "shutdown"}`, "shuttingdown"},
		{"json answer unknown", `{"answer": "maybe"}`, `other "maybe"`},
		{"truncated json", `{ "exabgp": "4.0.1", "ty`, `bad "json"`},
		{"json of another shape", `{"type": ["state"]}`,
			`bad "json"`},
		{"list", `[{"state": "up"}]`, "text"},
		{"type unknown", `{"type": "weather"}`, `other "weather"`},
		{"BGP notification", `{"type": "notification", "notification": {"code": 6}}`, `other "notification"`},
		{"state without neighbor", `{"type": "state"}`, `bad "state"`},
		{"state of nobody", state(`{}`), `bad "state"`},
		{"state unknown", state(`{"address": {"peer": "192.0.2.2"}, "state": "tired"}`), `other "state tired"`},
		{"local unknown yet", state(`{"address": {"local": "None", "peer": "192.0.2.2"}, "state": "up"}`),
			`neighbor 192.0.2.2 local=invalid IP state=3 ""`},
		{"ipv6", state(`{"address": {"local": "2001:db8::1", "peer": "2001:DB8:0::2"}, "state": "connected"}`),
			`neighbor 2001:db8::2 local=2001:db8::1 state=2 ""`},
		{"broken utf-8 in the reason", state(`{"address": {"local": "192.0.2.1", "peer": "192.0.2.2"}, "state": "down", "reason": "` + "caf\xe9" + `"}`),
			"neighbor 192.0.2.2 local=192.0.2.1 state=1 \"caf\ufffd\""},
		{"broken utf-8", "\xff\xfe", "text"},
		{"long reason", state(`{"address": {"peer": "192.0.2.2"}, "state": "down", "reason": "` + strings.Repeat("x", 1000) + `"}`),
			`neighbor 192.0.2.2 local=invalid IP state=1 "` + strings.Repeat("x", 300) + `..."`},
		{"keepalive", `{"type": "keepalive", "neighbor": {"address": {"local": "192.0.2.1", "peer": "192.0.2.2"}, "direction": "receive"}}`, "heard 192.0.2.2 local=192.0.2.1"},
		{"keepalive of 3.4", `{"type": "keepalive", "neighbor": {"address": {"peer": "192.0.2.2"}}}`, "heard 192.0.2.2 local=invalid IP"},
		{"keepalive that was sent", `{"type": "keepalive", "neighbor": {"address": {"peer": "192.0.2.2"}, "direction": "send"}}`, `other "keepalive"`},
		{"keepalive that was sent, 3.4", `{"type": "keepalive", "neighbor": {"address": {"peer": "192.0.2.2"}, "direction": "sent"}}`, `other "keepalive"`},
		{"keepalive without neighbor", `{"type": "keepalive"}`, `bad "keepalive"`},
		{"keepalive of nobody", `{"type": "keepalive", "neighbor": {"address": {"peer": "192.0.2"}}}`, `bad "keepalive"`},
		{"summary header", "Peer            AS        up/down state       |     #sent     #recvd", "header"},
		{"summary header of main", "Peer            AS        up/down state       |     #sent     #recvd    #pfx_in", "header"},
		{"summary row", "192.0.2.2       65002     0:00:13 established           8          2", "session 192.0.2.2 up=true"},
		{"summary row after a day", "2001:db8::2     65002   12 days, 0:00:13 established           8          2", "session 2001:db8::2 up=true"},
		{"summary row of a session that is down", "192.0.2.2       None         down idle                  0          0", "session 192.0.2.2 up=false"},
		{"row cut short", "192.0.2.2 65002 established 8 2", "text"},
		{"row with one counter", "192.0.2.2 65002 0:00:13 established 8 two", "text"},
		{"row with the other counter", "192.0.2.2 65002 0:00:13 established eight 2", "text"},
		{"number", "5", "text"},
		{"row without counters", "192.0.2.2 65002 0:00:13 established no numbers", "text"},
		{"row without address", "nobody 65002 0:00:13 established 8 2", "text"},
		{"status of 3.4", "neighbor 192.0.2.2 local-ip 192.0.2.1 negotiated [ ipv4/unicast ] state Established", "session 192.0.2.2 up=true"},
		{"status of 3.4, idle", "neighbor 192.0.2.2 local-ip 192.0.2.1 state Idle", "session 192.0.2.2 up=false"},
		{"route held", "neighbor 192.0.2.2 local-ip 192.0.2.1 local-as 65001 peer-as 65002 router-id 192.0.2.1 family-allowed in-open ipv4 unicast 203.0.113.2/32 next-hop self med 100", `held 203.0.113.2/32 neighbor=192.0.2.2 local=192.0.2.1 "next-hop self med 100"`},
		{"route held, ipv6", "neighbor 2001:db8::2 local-ip None family-allowed ipv4-unicast/ipv6-unicast ipv6 unicast 2001:DB8:0::/48 path-information 0.0.0.1", `held 2001:db8::/48 neighbor=2001:db8::2 path=1 local=invalid IP ""`},
		{"route held, a path identifier that is none", "neighbor 192.0.2.2 local-ip None family-allowed in-open ipv4 unicast 203.0.113.2/32 path-information", "text"},
		{"route held, a path identifier of six octets", "neighbor 192.0.2.2 local-ip None family-allowed in-open ipv4 unicast 203.0.113.2/32 path-information 2001:db8::", "text"},
		{"route held by nobody", "neighbor none local-ip None family-allowed in-open ipv4 unicast 203.0.113.2/32 next-hop self", "text"},
		{"peers of API 6", `[{"peer-address": "192.0.2.2", "peer-as": 65002, "state": "ESTABLISHED"}, {"peer-address": "2001:db8::2", "state": "IDLE"}]`,
			"peers 192.0.2.2 up=true 2001:db8::2 up=false"},
		{"no peers of API 6", "[]", "peers"},
		{"peers of API 6 without an address", `[{"peer-as": 65002}]`, "text"},
		{"routes of API 6", `{"192.0.2.2": {"routes": [{"family": "ipv4 unicast", "prefix": "203.0.113.2/32"}, {"family": "ipv6 unicast", "prefix": "2001:db8::/48"}]}}`,
			"held 203.0.113.2/32 neighbor=192.0.2.2 path=? 2001:db8::/48 neighbor=192.0.2.2 path=?"},
		{"routes of API 6, another family", `{"192.0.2.2": {"routes": [{"family": "ipv4 flow", "prefix": "203.0.113.2/32"}]}}`, `other "route"`},
		{"routes of API 6, of nobody", `{"x": {"routes": [{"family": "ipv4 unicast", "prefix": "203.0.113.2/32"}]}}`, "text"},
		{"routes of API 6 in another form", `{"peer": {"address": "192.0.2.2"}, "route": {"prefix": "203.0.113.2/32"}}`, "text"},
		{"routes of API 6, a prefix that is none", `{"192.0.2.2": {"routes": [{"family": "ipv4 unicast", "prefix": "203.0.113.2"}]}}`, "text"},
		{"version of API 6", `{"version": "6.0.0-20260822+uncontrolled", "application": "exabgp"}`, "text"},
		{"route held of another family", "neighbor 192.0.2.2 local-ip 192.0.2.1 family-allowed in-open ipv4 flow flow destination-ipv4 203.0.113.2/32", `other "route"`},
		{"route held, no prefix at all", "neighbor 192.0.2.2 local-ip 192.0.2.1 family-allowed in-open l2vpn vpls endpoint 3 base 262145", `other "route"`},
		{"route held of 3.4", "neighbor neighbor 192.0.2.2 local-ip 192.0.2.1 family-allowed in-open 203.0.113.3/24 next-hop 192.0.2.1 med 10", "text"},
		{"route held without a mask", "neighbor 192.0.2.2 local-ip 192.0.2.1 family-allowed in-open ipv4 unicast 203.0.113.2 next-hop self", "text"},
		{"route held, cut off", "neighbor 192.0.2.2 local-ip 192.0.2.1 family-allowed in-open ipv4 unicast", "text"},
		{"route held, not extensive", "neighbor 192.0.2.2 ipv4 unicast 203.0.113.2/32 next-hop self", "text"},
		{"list kept", "  adj-rib-out true;", "keeps true"},
		{"list not kept", "  adj-rib-out false;", "keeps false"},
		{"other list", "  adj-rib-in false;", "text"},
		{"list in a description", `  description "adj-rib-out true;";`, "text"},
		{"status of nobody", "neighbor nobody local-ip 192.0.2.1 state Idle", "text"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Decode([]byte(tt.line)).String(); got != tt.want {
				t.Errorf("Decode(%q)\n got %s\nwant %s", tt.line, got, tt.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, file := range fixtures(f) {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			f.Add(line)
		}
	}
	for _, line := range []string{"", "\n", "\n\n", "done\nerror\n", "error: x\n", "{", "{}\n{", "[", "\x00\n", "\xff\n", "192.0.2.2 1 2 3 4 5\n",
		`{"type":"state","neighbor":null}` + "\n", `{"type":"state","neighbor":[]}` + "\n", "Peer AS up/down state\n", "neighbor 1.2.3.4 state\n"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 512
		r := newLineReader(bytes.NewReader(data), limit)
		for i := range bytes.Count(data, []byte("\n")) {
			line, length, err := r.next()
			if err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
			if (length > limit) != (len(line) != length) {
				t.Fatalf("line %d: %d bytes of %d, limit %d", i, len(line), length, limit)
			}
			wellFormed(t, line, Decode(line))
		}
		if line, _, err := r.next(); err != io.EOF {
			t.Fatalf("a line too many: %q, %v", line, err)
		}
	})
}

// wellFormed fails on a verdict that says more, or less, than its kind may.
func wellFormed(t *testing.T, line []byte, v Verdict) {
	t.Helper()
	if (v.Kind == News) != (v.Event != nil) || (v.Kind == Session) != (len(v.Sessions) == 1) && v.Kind != Peers ||
		(v.Kind == Held) != (len(v.Routes) > 0) {
		t.Fatalf("%q: %+v", line, v)
	}
	for _, s := range v.Sessions {
		if !s.Peer.IsValid() {
			t.Fatalf("%q: %+v", line, v)
		}
	}
	for _, r := range v.Routes {
		if !r.Neighbor.IsValid() || !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
			t.Fatalf("%q: %+v", line, v)
		}
	}
	if ev, ok := v.Event.(NeighborChanged); ok && (ev.State == NeighborUnknown || !ev.Neighbor.Peer.IsValid()) {
		t.Fatalf("%q: %+v", line, v)
	}
	if ev, ok := v.Event.(NeighborHeard); ok && !ev.Neighbor.Peer.IsValid() {
		t.Fatalf("%q: %+v", line, v)
	}
	if v.Kind == Bad && v.Words == "" {
		t.Fatalf("%q: bad without a reason", line)
	}
	if len(v.Words) > 400 || !utf8.ValidString(v.Words) {
		t.Fatalf("%q: not for a log: %q", line, v.Words)
	}
	if len(bytes.TrimSpace(line)) > 0 == (v.Kind == Blank) {
		t.Fatalf("%q: %+v", line, v)
	}
}

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 200<<10) // over the size of any buffer
	in := "a\n" + long + "\n\nb\n" + long[:100] + "\n" + long[:101] + "\nhalf"
	r := newLineReader(strings.NewReader(in), 100)
	for _, want := range []struct {
		line   string
		length int
	}{{"a", 1}, {long[:101], len(long)}, {"", 0}, {"b", 1}, {long[:100], 100}, {long[:101], 101}} {
		line, length, err := r.next()
		if want.length > 100 {
			line, want.line = nil, "" // there is a beginning of it; which one does not matter
		}
		if string(line) != want.line || length != want.length || err != nil {
			t.Fatalf("got %q %d %v, want %q %d", line, length, err, want.line, want.length)
		}
	}
	if line, _, err := r.next(); err != io.EOF {
		t.Fatalf("got %q, %v: half a line is no line", line, err)
	}
}

func TestCommand(t *testing.T) {
	p := netip.MustParsePrefix
	a := netip.MustParseAddr
	for _, tt := range []struct {
		route Route
		want  string
	}{
		{Route{Prefix: p("10.20.255.1/32"), MED: 100}, "announce route 10.20.255.1/32 next-hop self med 100"},
		{Route{Prefix: p("10.20.255.1/32"), Withdraw: true, MED: 100}, "withdraw route 10.20.255.1/32"},
		{Route{Prefix: p("2001:db8::1/128"), NextHop: a("2001:db8::f"), MED: 4294967295}, "announce route 2001:db8::1/128 next-hop 2001:db8::f med 4294967295"},
		{Route{Prefix: p("10.20.255.1/32"), MED: 900, Communities: "65535:0"}, "announce route 10.20.255.1/32 next-hop self med 900 community [ 65535:0 ]"},
		{Route{Prefix: p("10.20.255.1/32"), Communities: "0:65535 65001:20 65535:0"}, "announce route 10.20.255.1/32 next-hop self med 0 community [ 0:65535 65001:20 65535:0 ]"},
		{Route{Prefix: p("10.20.255.1/32"), Communities: "65535:0", Withdraw: true}, "withdraw route 10.20.255.1/32"},
		{Route{Prefix: p("198.51.100.0/24"), NextHop: a("192.0.2.1")}, "announce route 198.51.100.0/24 next-hop 192.0.2.1 med 0"},
		{Route{Prefix: p("2001:db8::1/128"), NextHop: a("fe80::1%eth0\nshutdown")}, "announce route 2001:db8::1/128 next-hop fe80::1 med 0"},
	} {
		if got := tt.route.Command(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestCommandPanics(t *testing.T) {
	vip := netip.MustParsePrefix("203.0.113.3/32")
	routes := []Route{{}, {Prefix: netip.MustParsePrefix("203.0.113.3/24")}}
	for _, communities := range []string{" ", "65535", "65535:", ":0", "65536:0", "0:65536", "-1:0", "+1:0", "01:0", "1:2:3", "65535:0 ", " 65535:0",
		"65535:0  65001:1", "65535:0,65001:1", "65535:0\n", "65535:0 ] med 5", "no-export", "\u0661:0"} {
		routes = append(routes, Route{Prefix: vip, Communities: communities})
	}
	for _, large := range []string{"1:2", "1:2:3:4", "1:2:4294967296", "1:2:3 ", "1:02:3", "1:2:x", "1:2:3,1:2:4"} {
		routes = append(routes, Route{Prefix: vip, LargeCommunities: large})
	}
	for _, extended := range []string{"65001:5", "target:65001", "target:x:5", "TARGET:65001:5", "target:65001:5 ", "0x12", "0x0002FDE900000005", "target:1:2 ]"} {
		routes = append(routes, Route{Prefix: vip, ExtendedCommunities: extended})
	}
	for _, path := range []string{"0", "65001 ", "65001,65001", "{ 65001 }", "4294967296", "23456", "065001", "65001 ] med 5"} {
		routes = append(routes, Route{Prefix: vip, ASPath: path})
	}
	for _, route := range routes {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "bug: ") {
					t.Errorf("%+v: %s", route, got)
				}
			}()
			_ = route.Command()
		}()
	}
}

func lines(tb testing.TB, file string) [][]byte {
	tb.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Split(content, []byte("\n"))
}
