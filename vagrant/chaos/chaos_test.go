package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
)

func vip(i int) netip.Addr { return lab.VIPs()[i] }

func TestDraw(t *testing.T) {
	l := length{45 * sec, 20 * sec}
	onlyPlanned, seen := 0, map[fault.Kind]bool{}
	for n := range uint64(500) {
		faults, _ := draw(7, n, l)
		if again, _ := draw(7, n, l); !reflect.DeepEqual(faults, again) {
			t.Fatalf("round %d: two draws differ", n)
		}
		var b strings.Builder
		unplanned := false
		for _, f := range faults {
			seen[f.Kind] = true
			unplanned = unplanned || !f.Kind.Planned()
			b.WriteString(f.String() + "\n")
		}
		if !unplanned {
			onlyPlanned++
		}
		read, err := readScript(strings.NewReader("# round\n\n" + b.String()))
		if err != nil || !reflect.DeepEqual(read, faults) {
			t.Fatalf("round %d: its script reads as %v, %v; want %v", n, read, err, faults)
		}
		if len(faults) < fewest || faults[0].At != firstFault || faults[len(faults)-1].End() > firstFault+l.faults {
			t.Fatalf("round %d: %v", n, faults)
		}
	}
	for _, k := range able() {
		if !seen[k] {
			t.Errorf("%v was never drawn", k)
		}
	}
	if onlyPlanned < 100 || onlyPlanned > 250 {
		t.Errorf("%d of 500 rounds had planned faults only", onlyPlanned)
	}
}

func TestTidy(t *testing.T) {
	for _, tt := range []struct {
		faults string
		drops  int
	}{
		{"5s crash lb1 for 3s, 6s pause-exabgp lb1 for 1s", 1},
		{"5s crash lb1 for 3s, 6s pause-exabgp lb2 for 1s", 0},
		{"5s crash lb1 for 3s, 6s crash lb1 for 3s, 15s crash lb1 for 3s", 1},
		{"5s restart-exabgp lb1 for 3s, 6s maintenance lb1 for 3s", 1},
		{"5s pause-exazk lb1 for 3s, 6s restart-exabgp lb1 for 3s", 1},
		{"5s pause-exazk lb1 for 3s, 6s term-exazk lb1", 0},
		{"5s kill-server zk1 for 3s, 6s crash lb1 for 3s, 6s kill-server zk1 for 3s", 0},
		{"5s kill-exazk lb1, 6s term-exazk lb1, 7s reconfigure lb1, 8s kill-exazk lb1, 9s kill-exazk lb1, 9s kill-exazk lb2", 1},
	} {
		var faults []fault.Fault
		for text := range strings.SplitSeq(tt.faults, ", ") {
			faults = append(faults, faultOf(t, text))
		}
		kept, dropped := tidy(faults)
		if len(dropped) != tt.drops || len(kept)+len(dropped) != len(faults) {
			t.Errorf("%s: kept %v, dropped %q", tt.faults, kept, dropped)
		}
	}
}

func TestReadScriptRefuses(t *testing.T) {
	for _, text := range []string{"5s fire lb1", "5s crash lb4 for 1s", "5s kill-server zk4 for 1s", "5s lag-server zk1 for 1s", "1s crash lb1 for 1s"} {
		if faults, err := readScript(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read as %v", text, faults)
		}
	}
}

func TestWithout(t *testing.T) {
	for _, tt := range []struct{ others, want []span }{
		{nil, []span{{10, 20}}},
		{[]span{{0, 9}, {21, 30}}, []span{{10, 20}}},
		{[]span{{0, 12}, {18, never}}, []span{{12, 18}}},
		{[]span{{12, 13}, {15, 16}, {12, 14}}, []span{{10, 12}, {14, 15}, {16, 20}}},
		{[]span{{10, 20}}, nil},
	} {
		if got := (span{10, 20}).without(tt.others); !slices.Equal(got, tt.want) {
			t.Errorf("without %v: %v, want %v", tt.others, got, tt.want)
		}
	}
}

// TestDiary follows a deed of three parts, and one that does not work.
func TestDiary(t *testing.T) {
	var y diary
	d := y.open(faultOf(t, "5s kill-ensemble for 3s"))
	y.open(faultOf(t, "6s crash lb1 for 3s"))
	bad := y.open(faultOf(t, "5s sick-check lb1 for 1s"))
	y.note(func() {
		d.enter(1, 5)
		d.leave(1, false, nil, 6)
		d.enter(1, 7)
		d.leave(1, true, nil, 8)
		d.enter(-1, 20)
		d.leave(-1, true, nil, 21)
		bad.enter(1, 5)
		if bad.leave(1, true, errors.New("no"), 6) {
			t.Error("what takes time may have begun although there was an error")
		}
		bad.enter(-1, 7)
		bad.leave(-1, true, nil, 9)
	})
	deeds, spells := y.read()
	if len(deeds) != 2 || len(spells) != 0 {
		t.Fatalf("deeds %v, spells %v", deeds, spells)
	}
	if got, want := deeds[0].changes(), []span{{5, 8}, {20, 21}}; !slices.Equal(got, want) || deeds[0].sure() != (span{8, 20}) {
		t.Errorf("changes %v, sure %v", got, deeds[0].sure())
	}
	if deeds[1].all() != (span{5, 9}) || deeds[1].sure() != (span{}) {
		t.Errorf("a deed that failed: all %v, sure %v", deeds[1].all(), deeds[1].sure())
	}
	m := y.open(faultOf(t, "5s kill-exazk lb1"))
	m.enter(1, 5)
	if m.leave(1, true, nil, 6); m.all() != (span{5, 6}) {
		t.Errorf("a moment took %v", m.all())
	}
}

// TestEphemerals reads what a server of ZooKeeper 3.8 said.
func TestEphemerals(t *testing.T) {
	const dump = "SessionTracker dump:\nGlobal Sessions(3):\n0x20000c683c30001\t4000ms\nephemeral nodes dump:\nSessions with Ephemerals (2):\n" +
		"0x20000c683c30001:\n\t/exabgp/service/apex/10.20.255.2\n\t/exabgp/status/apex/node2\n0x30000c683f10000:\n\t/exabgp/status/apex/node3\n" +
		"Connections dump:\nConnections Sets (2)/(1):\n"
	if claimed, recorded, err := ephemerals(dump); claimed != 2 || recorded != 6 || err != nil {
		t.Errorf("claims %b, records %b, %v", claimed, recorded, err)
	}
	if _, _, err := ephemerals("This ZooKeeper instance is not currently serving requests\n"); err == nil {
		t.Error("a server that does not serve was believed")
	}
}

func TestNote(t *testing.T) {
	var s routerSight
	table := lab.Table{
		{Prefix: netip.MustParsePrefix("10.20.255.0/24"), Via: "static1"},
		{Prefix: netip.MustParsePrefix("10.20.255.3/32"), Via: "lb1"},
		{Prefix: netip.MustParsePrefix("10.20.255.2/32"), Via: "lb2"},
		{Prefix: netip.MustParsePrefix("172.16.1.0/29"), Via: "r0"},
	}
	if got := s.note(table, "r1", "lb1"); got != 4 || len(s.strange) > 0 {
		t.Errorf("VIPs %b, strange %q", got, s.strange)
	}
	for _, p := range []string{"10.20.255.9/32", "10.20.255.0/25"} {
		s = routerSight{}
		if s.note(lab.Table{{Prefix: netip.MustParsePrefix(p), Via: "lb1"}}, "r1", "lb1"); len(s.strange) != 1 {
			t.Errorf("%s is not strange", p)
		}
	}
}

func TestLeftovers(t *testing.T) {
	was := census{{"exazk": 1, "web": 1}, {"exazk": 1}, {"exazk": 1}}
	if err := was.differs(was); err != nil {
		t.Error(err)
	}
	for _, now := range []census{{{"exazk": 2, "web": 1}, {"exazk": 1}, {"exazk": 1}}, {{"exazk": 1, "web": 1}, {"exazk": 1}, {}}, {{"exazk": 1, "web": 1, "sleep": 1}, {"exazk": 1}, {"exazk": 1}}} {
		if now.differs(was) == nil {
			t.Errorf("%v is as %v", now, was)
		}
	}
	log := "time=… level=info msg=\"exazk starts\"\npanic: bug: unknown event\ngoroutine 1 [running]:\nlevel=debug msg=x\n"
	if got := grumbling(log); len(got) != 1 || !strings.HasPrefix(got[0], "panic") {
		t.Errorf("found %q", got)
	}
}

// TestWait: no ExaBGP has to start exazk more than four times within its period, nor waits for ends of long ago.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &driver{ends: map[int][]time.Time{}}
		three := []fault.Fault{faultOf(t, "5s kill-exazk lb2"), faultOf(t, "6s term-exazk lb2"), faultOf(t, "7s reconfigure lb2"), faultOf(t, "8s crash lb2 for 1s")}
		for i, want := range []time.Duration{0, 6*sec + respawnTime, 6*sec + respawnTime} {
			start := time.Now()
			if err := d.wait(t.Context(), three); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took != want {
				t.Errorf("round %d: waited %v, want %v", i, took, want)
			}
		}
		time.Sleep(10 * time.Minute)
		start := time.Now()
		if err := d.wait(t.Context(), three); err != nil || time.Since(start) > 0 {
			t.Errorf("long after: waited %v, %v", time.Since(start), err)
		}
	})
}

func TestUsage(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("# nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
	}{{"-h", 0}, {"extra", 2}, {"-round -1", 2}, {"-minutes x", 2}, {"-script /nowhere", 2}, {"-script " + script, 2}, {"-faults 1ms", 2}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(tt.args), &stderr); code != tt.code || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d, %q", tt.args, code, stderr.String())
		}
	}
}

func TestResult(t *testing.T) {
	r := result{Seed: 3, Rounds: []outcome{{Faults: []string{"a", "b"}, Probes: 10, Lost: 1}, {Faults: []string{"c"}, Probes: 5}}}
	if got, want := r.String(), "seed 3, 2 rounds, 3 faults, 15 probes, 1 lost (all within bounds), 0 violations"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.Rounds[1].Violations = []violation{{1, "x"}}
	if got, want := r.String(), "seed 3, 2 rounds, 3 faults, 15 probes, 1 lost (not all within bounds), 1 violations"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestShortRun plays a few faults of each sort on the lab.
func TestShortRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: network namespaces can not be made")
	}
	if err := lab.Missing(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	faults := "2s cut-server lb3 zk2 out for 4s\n2.5s term-exazk lb1\n4s sick-check lb2 for 4s\n5s pause-server zk1 for 2s\n9s link-down lb3 for 1s\n"
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(faults), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var out bytes.Buffer
	file := filepath.Join(dir, "result.json")
	code := run(ctx, []string{"-root", "../..", "-script", filepath.Join(dir, "script"), "-seed", "1", "-json", file, "-out", t.ArtifactDir()}, &out)
	t.Logf("%s", out.String())
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds) != 1 || len(r.Rounds[0].Faults) != 5 || r.Rounds[0].Probes < 5000 || r.Rounds[0].Lost == 0 {
		t.Errorf("the result is %+v", r)
	}
	for _, words := range []string{"over: 5s pause-server zk1 for 2s", "lb2 announces nothing", "lb3 has no session", "steady", "0 violations"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("the story does not tell of %q", words)
		}
	}
}
