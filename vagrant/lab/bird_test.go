package lab

import (
	"bufio"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// As BIRD 2.0.12 prints it: a VIP with two paths, one without MED, a net of an own interface, and one that is own and learnt.
const showRouteAll = `Table master4:
10.20.255.3/32       unicast [r3 11:16:36.411] * (100) [AS65103i]
	via 172.16.0.21 on r3
	Type: BGP univ
	BGP.origin: IGP
	BGP.as_path: 65003 65103
	BGP.next_hop: 172.16.0.21
	BGP.med: 100
	BGP.local_pref: 100
	BGP.community: (65535,0) (65001,7)
                     unicast [r1 11:17:02.003] (100) [AS65101i]
	via 172.16.0.5 on r1
	Type: BGP univ
	BGP.origin: IGP
	BGP.as_path: 65001 65101
	BGP.next_hop: 172.16.0.5
	BGP.med: 4294967295
	BGP.local_pref: 0
172.16.1.0/29        unicast [r1 11:16:36.053] * (100) [AS65001i]
	via 172.16.0.5 on r1
	Type: BGP univ
	BGP.as_path: 65001
172.16.0.0/29        unicast [direct1 11:16:35.092] * (240)
	dev r1
	Type: device univ
                     unicast [r2 2026-05-01] (100) [AS65002i]
	via 172.16.0.13 on r2
	Type: BGP univ
	BGP.as_path: 65002 65001
`

func TestParseRoutes(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	want := Table{
		{Prefix: p("10.20.255.3/32"), Via: "r3", Gateway: a("172.16.0.21"), Best: true, HasMED: true, MED: 100, LocalPref: 100,
			ASPath: []uint32{65003, 65103}, Communities: []string{"65535,0", "65001,7"}},
		{Prefix: p("10.20.255.3/32"), Via: "r1", Gateway: a("172.16.0.5"), HasMED: true, MED: 1<<32 - 1,
			ASPath: []uint32{65001, 65101}},
		{Prefix: p("172.16.1.0/29"), Via: "r1", Gateway: a("172.16.0.5"), Best: true, ASPath: []uint32{65001}},
		{Prefix: p("172.16.0.0/29"), Via: "direct1", Best: true},
		{Prefix: p("172.16.0.0/29"), Via: "r2", Gateway: a("172.16.0.13"), ASPath: []uint32{65002, 65001}},
	}
	got, err := parseRoutes(showRouteAll)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if paths := got.For(a("10.20.255.3")); len(paths) != 2 || paths[0].Via != "r3" {
		t.Errorf("paths of the VIP: %+v, want r3's and r1's", paths)
	}
	if paths := got.For(a("10.20.255.1")); paths != nil {
		t.Errorf("paths of a VIP that has none: %+v", paths)
	}
}

func TestParseRoutesOfAnEmptyTable(t *testing.T) {
	if got, err := parseRoutes("\n"); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestParseRoutesRefusesWhatItCannotRead(t *testing.T) {
	for _, change := range [][2]string{{"BGP.med: 100", "BGP.med: 4294967296"}, {"10.20.255.3/32", "10.20.255.3/33"}, {"65003 65103", "65003 {65103}"}} {
		if got, err := parseRoutes(strings.Replace(showRouteAll, change[0], change[1], 1)); err == nil {
			t.Errorf("with %q: no error, %+v", change[1], got)
		}
	}
}

func TestReadReply(t *testing.T) {
	for _, tt := range []struct{ name, in, want, err string }{
		{"greeting", "0001 BIRD 2.0.12 ready.\n", "BIRD 2.0.12 ready.\n", ""},
		{"table", "1007-Table master4:\n 10.20.255.1/32  unicast\n1008-\tvia 172.16.0.5 on r1\n1012-\tType: BGP univ\n \tBGP.med: 100\n0000 \n",
			"Table master4:\n10.20.255.1/32  unicast\n\tvia 172.16.0.5 on r1\n\tType: BGP univ\n\tBGP.med: 100\n", ""},
		{"nothing", "0000 \n", "", ""},
		{"error", "9001 syntax error, unexpected CF_SYM_UNDEFINED\n", "", "syntax error, unexpected CF_SYM_UNDEFINED"},
		{"not BIRD", "HTTP/1.0 200 OK\n", "", `bad line "HTTP/1.0 200 OK\n"`},
		{"cut short", "1007-Table", "", "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readReply(bufio.NewReader(strings.NewReader(tt.in)))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestParseEstablished(t *testing.T) {
	const head = "Name       Proto      Table      State  Since         Info\n"
	for line, want := range map[string]bool{
		"lb1        BGP        ---        up     11:16:36.238  Established   \n":               true,
		"lb1        BGP        ---        start  11:16:36.238  Passive       \n":               false,
		"lb1        BGP        ---        start  11:16:36.238  Connect  Socket: Established\n": false,
	} {
		if got, err := parseEstablished(head+line, "lb1"); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", line, got, err, want)
		}
	}
	if _, err := parseEstablished(head, "lb1"); err == nil {
		t.Error("no error without a line about the neighbor")
	}
}

func daytime(s string) time.Time {
	at, err := time.Parse("15:04:05.000", s)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return at
}

func TestReceivedAfter(t *testing.T) {
	before := Received{daytime("12:34:56.789"), 4, 2}
	for _, tt := range []struct {
		now  Received
		want int
	}{
		{before, 0},
		{Received{daytime("12:34:56.788"), 5, 4}, 3}, // BIRD works the time out anew at each question
		{Received{daytime("12:35:00.000"), 5, 4}, 9}, // another session, which counts from 0
		{Received{daytime("12:34:56.789"), 1, 0}, 1},
	} {
		if got := tt.now.After(before); got != tt.want {
			t.Errorf("%+v after %+v: %d, want %d", tt.now, before, got, tt.want)
		}
	}
}

func TestParseReceived(t *testing.T) {
	const up = `Name       Proto      Table      State  Since         Info
lb1        BGP        ---        up     12:34:56.789  Established
  BGP state:          Established
    Neighbor address: 172.16.1.1
  Channel ipv4
    State:          UP
    Table:          master4
    Routes:         1 imported, 0 exported, 1 preferred
    Route change stats:     received   rejected   filtered    ignored   accepted
      Import updates:              4          0          0          1          3
      Import withdraws:            2          0        ---          1          1
      Export updates:              9          9          0        ---          0
      Export withdraws:            5        ---        ---        ---          0
`
	got, err := parseReceived(up, "lb1")
	if want := (Received{daytime("12:34:56.789"), 4, 2}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	const down = "Name       Proto      Table      State  Since         Info\nlb1        BGP        ---        start  12:35:00.000  Passive\n"
	got, err = parseReceived(down, "lb1")
	if want := (Received{Since: daytime("12:35:00.000")}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := parseReceived(up, "lb2"); err == nil {
		t.Errorf("of a neighbor that is not there: %+v", got)
	}
	if got, err := parseReceived(strings.Replace(up, "4 ", "x ", 1), "lb1"); err == nil {
		t.Errorf("of a counter that is no number: %+v", got)
	}
}
