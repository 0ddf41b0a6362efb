package metrics

import (
	"bytes"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"exazk/daemon"
	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

var update = flag.Bool("update", false, "rewrite the golden file; read the diff")

const oneService = `
node = "node1"
[zookeeper]
hosts = ["zk:2181"]
[[service]]
name = "apex"
authoritative = ["10.20.255.1"]
backup_for = ["10.20.255.2"]
[[service.check]]
name = "web"
command = "true"
`

func config(t testing.TB, text string) *daemon.Config {
	cfg, err := daemon.ParseConfig("metrics.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// snapshot is a node in the middle of things: its own VIP announced, another taken over, one neighbor up and one down.
func snapshot(cfg *daemon.Config, changes ...daemon.Transition) daemon.Snapshot {
	s := daemon.Snapshot{
		Identity: daemon.Identity{Node: cfg.Node}, Changes: changes, Announced: 2, Heard: 1, Tracking: true, ZooKeeper: zkstate.Connected,
		Neighbors: []zkstate.StatusNeighbor{{Peer: "172.16.1.6", State: "up"}, {Peer: "172.16.1.6", State: "down"}, {Peer: "172.16.2.6", State: "link-down"}},
		Want:      zkstate.Want{Statuses: map[string]*zkstate.Status{}},
	}
	for i := range cfg.Services {
		conf := &cfg.Services[i]
		s.Services = append(s.Services, daemon.ServiceSnapshot{
			Config: conf, Health: health.Changed{Service: conf.Name, State: health.Healthy}, Maintenance: daemon.PresenceAbsent,
			Peers: map[string]zkstate.Status{"node2": {}, "node3": {}},
		})
		s.Want.Statuses[conf.Name] = &zkstate.Status{Routes: []zkstate.StatusRoute{
			{VIP: "10.20.255.1", Verdict: "announce", Role: "authoritative", Reason: "authoritative", Announced: true, Claim: true},
			{VIP: "10.20.255.2", Verdict: "announce", Role: "backup", Reason: "conflict"},
		}}
	}
	return s
}

// busy are the metrics of a node to which a bit of everything happened.
func busy(t testing.TB) *Metrics {
	cfg := config(t, oneService)
	m := New(cfg, "v1.2.3", func() int64 { return 7 })
	m.Observe(snapshot(cfg,
		daemon.Transition{What: daemon.WhatVerdict, Service: "apex", VIP: "10.20.255.1", From: "withdraw", To: "announce", Reason: "authoritative"},
		daemon.Transition{What: daemon.WhatHealth, Service: "apex", From: "unknown", To: "healthy", Subject: "web"},
		daemon.Transition{What: daemon.WhatNeighbor, Subject: "172.16.2.6", From: "up", To: "down", Reason: "any text of exabgp's"},
		daemon.Transition{What: daemon.WhatDrift, Service: "apex", VIP: "10.20.255.1", To: daemon.Drifted},
		daemon.Transition{What: daemon.WhatDrift, Service: "apex", VIP: "10.20.255.1", To: daemon.Repaired},
	))
	m.Ran(health.Ran{Service: "apex", Status: health.Status{Name: "web", State: health.Healthy, Result: health.Result{OK: true}, Took: 30 * time.Millisecond}})
	m.Ran(health.Ran{Service: "apex", Status: health.Status{Name: "web", State: health.Healthy, Result: health.Result{TimedOut: true}, Took: 5 * time.Second}})
	m.Ran(health.Ran{Service: "apex", Status: health.Status{Name: "web", State: health.Unhealthy, Took: 40 * time.Millisecond}})
	since := time.Now()
	m.Command(exabgp.Progress{Stage: exabgp.CommandWritten, Since: since, At: since.Add(2 * time.Millisecond)})
	m.Command(exabgp.Progress{Stage: exabgp.CommandRefused, Since: since, At: since.Add(3 * time.Millisecond)})
	m.Command(exabgp.Progress{Stage: exabgp.CommandAccepted, Since: since, At: since.Add(1200 * time.Millisecond)})
	m.Command(exabgp.Progress{Stage: exabgp.CommandWritten, Withdraw: true, At: since})
	m.EventWaited(300 * time.Millisecond)
	return m
}

// scrape is what Prometheus gets.
func scrape(t testing.TB, m *Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// ours are the lines of our own metrics, without those of Go and of the process, which are others on each machine.
func ours(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "exazk_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestScrape(t *testing.T) {
	const golden = "testdata/scrape.txt"
	text := scrape(t, busy(t))
	got := strings.ReplaceAll(ours(text), runtime.Version(), "GO")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got != string(want) {
		t.Errorf("%v; got:\n%s", err, got)
	}
	for _, name := range []string{"\ngo_goroutines ", "\nprocess_cpu_seconds_total ", "\nprocess_start_time_seconds "} {
		if !strings.Contains(text, name) {
			t.Errorf("no %q", name)
		}
	}
}

func TestNamesAreLinted(t *testing.T) {
	problems, err := testutil.GatherAndLint(busy(t).registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %+v", err, problems)
	}
}

func TestPromtoolCheckMetrics(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool (Debian's package prometheus)")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, busy(t)))
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestScrapeBeforeTheFirstStep is of a process that has just started: its counters are there, and no state is made up.
func TestScrapeBeforeTheFirstStep(t *testing.T) {
	text := scrape(t, New(config(t, oneService), "v1", func() int64 { return 0 }))
	if !strings.Contains(text, `exazk_drift_detected_total{service="apex"} 0`) || strings.Contains(text, "exazk_vip_") {
		t.Errorf("got\n%s", ours(text))
	}
}

// TestReloadEndsSeries has a service and a check leave the configuration, and another service come.
func TestReloadEndsSeries(t *testing.T) {
	m := busy(t)
	cfg := config(t, strings.NewReplacer(`"web"`, `"dns"`, `"apex"`, `"edge"`).Replace(oneService))
	m.Observe(snapshot(cfg))
	m.Ran(health.Ran{Service: "apex", Status: health.Status{Name: "web", State: health.Healthy}}) // its last run ended late
	text := ours(scrape(t, m))
	for _, left := range []string{`service="apex"`, `check="web"`} {
		if strings.Contains(text, left) {
			t.Errorf("%s is still there:\n%s", left, text)
		}
	}
	for _, new := range []string{`exazk_check_state{check="dns",service="edge",state="unknown"} 1`, `exazk_check_duration_seconds_count{check="dns",service="edge"} 0`, `exazk_drift_repaired_total{service="edge"} 0`} {
		if !strings.Contains(text, new) {
			t.Errorf("no %s in\n%s", new, text)
		}
	}
}

// TestReloadKeepsCounters has only another check come: what is known of the others goes on.
func TestReloadKeepsCounters(t *testing.T) {
	m := busy(t)
	m.Observe(snapshot(config(t, oneService+"[[service.check]]\nname = \"dns\"\ncommand = \"true\"\n")))
	text := scrape(t, m)
	for _, want := range []string{`exazk_check_runs_total{check="web",result="failed",service="apex"} 1`, `exazk_check_state{check="web",service="apex",state="unhealthy"} 1`, `exazk_drift_detected_total{service="apex"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, ours(text))
		}
	}
}

// TestBadSnapshotLosesOnlyStates checks that a fault of ours in a scrape ends neither the scrape nor the process.
func TestBadSnapshotLosesOnlyStates(t *testing.T) {
	m := busy(t)
	s := snapshot(config(t, oneService))
	s.Want.Statuses = nil
	m.Observe(s)
	if text := scrape(t, m); !strings.Contains(text, "exazk_transitions_total") {
		t.Errorf("got\n%s", text)
	}
}

// TestEverybodyAtOnce is for the race detector.
func TestEverybodyAtOnce(t *testing.T) {
	m := busy(t)
	one, two := config(t, oneService), config(t, strings.ReplaceAll(oneService, `"web"`, `"dns"`))
	var all sync.WaitGroup
	for _, f := range []func(int){
		func(int) { scrape(t, m) },
		func(i int) { m.Observe(snapshot([]*daemon.Config{one, two}[i%2])) },
		func(int) {
			m.Ran(health.Ran{Service: "apex", Status: health.Status{Name: "web", State: health.Healthy}})
			m.Command(exabgp.Progress{})
			m.EventWaited(time.Millisecond)
		},
	} {
		all.Go(func() {
			for i := range 50 {
				f(i)
			}
		})
	}
	all.Wait()
}

// BenchmarkScrape is of a node with a thousand VIPs, as many as anybody has.
func BenchmarkScrape(b *testing.B) {
	var vips []string
	for i := range 1000 {
		vips = append(vips, fmt.Sprintf("%q", fmt.Sprintf("10.20.%d.%d", i/250, i%250+1)))
	}
	cfg := config(b, strings.NewReplacer(`"10.20.255.1"`, strings.Join(vips, ", "), `"10.20.255.2"`, "").Replace(oneService))
	s := snapshot(cfg)
	record := s.Want.Statuses["apex"]
	record.Routes = nil
	for i := range vips {
		record.Routes = append(record.Routes, zkstate.StatusRoute{VIP: strings.Trim(vips[i], `"`), Verdict: "announce", Role: "authoritative", Reason: "authoritative"})
	}
	m := New(cfg, "v1", func() int64 { return 0 })
	b.Run("scrape", func(b *testing.B) {
		m.Observe(s)
		for b.Loop() {
			scrape(b, m)
		}
	})
	b.Run("observe", func(b *testing.B) {
		for b.Loop() {
			m.Observe(s)
		}
	})
}
