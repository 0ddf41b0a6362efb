package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"exazk/vagrant/lab"
)

// watched is a load balancer's file for this test: two checks of which one is enough, and what lets every incident end at once.
func watched(i int) string {
	return strings.NewReplacer(
		"[http]\n", fmt.Sprintf("[http]\nlisten = \"0.0.0.0:%d\"\n", lab.HTTPPort),
		"[service.check]\n", "last_resort = true\nflap_hold = \"0s\"\ndrain_timeout = \"1s\"\ncheck_require = 1\n"+
			"[[service.check]]\nname = \"switch\"\nfile = {path = \"/run/apex.off\", state = \"absent\"}\n[[service.check]]\nname = \"web\"\n",
	).Replace(sampleText("apex-node%d.toml", i))
}

// lonely adds a neighbor to ExaBGP's file that nobody is.
func lonely(i int) string {
	before, neighbor, _ := strings.Cut(sampleText("exabgp-node%d.conf", i), "\nneighbor ")
	peer, rest, _ := strings.Cut(neighbor, " ")
	return before + "\nneighbor " + neighbor + "\nneighbor " + peerOfNobody(peer) + " " + rest
}

// peerOfNobody is an address that is nobody's, on the same link.
func peerOfNobody(peer string) string {
	var a, b, c, d int
	if _, err := fmt.Sscanf(peer, "%d.%d.%d.%d", &a, &b, &c, &d); err != nil {
		panic("bug: " + err.Error())
	}
	return fmt.Sprintf("%d.%d.%d.%d", a, b, c, d-1)
}

// incident is what makes alerts true. Its act ends when they were seen; undo is what follows.
type incident struct {
	name   string
	alerts []string
	act    func(*scene)
	undo   func(*scene)
}

// incidents are in an order in which none hides the next: one slow command in ten is soon too little.
func incidents() []incident {
	off := func(s *scene, lb string) { s.must(s.lab.Host(lb).WriteFile("/run/apex.off", nil, 0o644)) }
	on := func(s *scene, lb string) {
		_, err := s.lab.Host(lb).Run(s.Context(), "rm", "-f", "/run/apex.off")
		s.must(err)
	}
	route := func(s *scene, do string) { // to ZooKeeper alone: the node must go on to be scraped
		_, err := s.lab.Host(victim).Run(s.Context(), "ip", "route", do, "blackhole", "192.168.66.10")
		s.must(err)
	}
	exabgp := func(s *scene, conf string) { // of lb3
		s.must(s.lab.StopExaBGP("lb3"))
		s.must(s.lab.Host("lb3").WriteFile("/etc/exabgp/exabgp.conf", []byte(conf), 0o644))
		s.must(s.lab.StartExaBGP("lb3"))
	}
	each := func(f func(*scene, string)) func(*scene) {
		return func(s *scene) {
			for _, lb := range lab.Balancers() {
				f(s, lb)
			}
		}
	}
	return []incident{
		{"exabgp stands still while a check fails", []string{"ExazkSlowAcknowledgement"},
			func(s *scene) {
				s.must(s.lab.KillExaBGP("lb3", syscall.SIGSTOP))
				off(s, "lb3")
				s.must(s.lab.StopWeb("lb3"))
				<-time.After(5 * time.Second)
				s.must(s.lab.KillExaBGP("lb3", syscall.SIGCONT))
			}, func(s *scene) { on(s, "lb3"); s.must(s.lab.StartWeb(s.Context(), "lb3")) }},
		{"nothing", []string{"ExazkNeighborDown"}, func(*scene) {}, func(*scene) {}},
		{"one of two checks fails", []string{"ExazkCheckFailing"},
			func(s *scene) { off(s, "lb2") }, func(s *scene) { on(s, "lb2") }},
		{"a route is withdrawn by hand", []string{"ExazkDrift"},
			func(s *scene) { s.exabgpcli("withdraw route " + lab.VIPs()[vip1].String() + "/32") }, func(*scene) {}},
		{"one node is upgraded", []string{"ExazkVersions"},
			func(s *scene) {
				cmd := exec.Command("go", "build", "-ldflags", "-X main.version=another", "-o", program("another"), ".")
				cmd.Dir, cmd.Env = place.root, append(os.Environ(), "CGO_ENABLED=0")
				if out, err := cmd.CombinedOutput(); err != nil {
					s.Fatalf("%v: %s", err, out)
				}
				s.must(s.lab.UpgradeExazk("lb2", program("another"), syscall.SIGTERM))
			}, func(s *scene) { s.must(s.lab.UpgradeExazk("lb2", program("exazk"), syscall.SIGTERM)) }},
		{"all checks of a node fail", []string{"ExazkServiceUnhealthy", "ExazkVIPNotAtOwner"},
			func(s *scene) { off(s, victim); s.must(s.lab.StopWeb(victim)) },
			func(s *scene) { on(s, victim); s.must(s.lab.StartWeb(s.Context(), victim)) }},
		{"all checks of all nodes fail", []string{"ExazkLastResort"},
			each(func(s *scene, lb string) {
				off(s, lb)
				s.must(s.lab.Host(lb).WriteFile(check, []byte("#!/bin/sh\nexit 1\n"), 0o755))
			}), each(func(s *scene, lb string) { on(s, lb); s.repaired(lb) })},
		{"all nodes are drained", []string{"ExazkVIPWithoutAnnouncer", "ExazkMaintenanceLong"},
			each(func(s *scene, lb string) { s.must(s.lab.Drain(lb)) }), each(func(s *scene, lb string) { s.must(s.lab.Undrain(lb)) })},
		{"a claim that is nobody's", []string{"ExazkConflict"},
			func(s *scene) {
				own := claims + "/" + lab.VIPs()[vip1].String()
				s.must(s.lab.Drain(victim))
				s.until(10*time.Second, "the claim is given up", func() error {
					there, err := s.lab.ZKExists(own)
					if err == nil && there {
						err = errors.New("it is there")
					}
					return err
				})
				s.must(s.lab.ZKCreate(own, nil))
				s.must(s.lab.Undrain(victim))
			}, func(s *scene) { s.must(s.lab.ZKDelete(claims + "/" + lab.VIPs()[vip1].String())) }},
		{"a link is pulled", []string{"ExazkNoNeighbor"},
			func(s *scene) { s.must(s.lab.LinkDown(leaf, victim)) }, func(s *scene) { s.must(s.lab.LinkUp(leaf, victim)) }},
		{"a node loses ZooKeeper", []string{"ExazkZooKeeperLost", "ExazkPeersUnseen"},
			func(s *scene) { route(s, "add") }, func(s *scene) { route(s, "delete") }},
		{"neighbors that do not name the process", []string{"ExazkCommandsRefused"},
			func(s *scene) { exabgp(s, strings.ReplaceAll(lonely(3), "processes [ exazk-apex ];", "")) },
			func(s *scene) { exabgp(s, lonely(3)) }},
		{"a check flaps", []string{"ExazkFlapping"},
			func(s *scene) {
				s.must(s.lab.StopWeb("lb2"))
				for range 6 {
					off(s, "lb2")
					<-time.After(1500 * time.Millisecond)
					on(s, "lb2")
					<-time.After(1500 * time.Millisecond)
				}
			}, func(s *scene) { s.must(s.lab.StartWeb(s.Context(), "lb2")) }},
		{"a host crashes", []string{"ExazkDown"},
			func(s *scene) { s.must(s.lab.CrashHost(victim)) }, func(s *scene) { s.must(s.lab.BootHost(s.Context(), victim)) }},
	}
}

// unseen are the alerts that no incident here makes true. Of them it is seen that what they compare is there.
var unseen = map[string]string{
	"ExazkAbsent":          "it is true before the first scrape",
	"ExazkEventWait":       "the machine has time",
	"ExazkLogLinesDropped": "no log is stuck",
}

// TestPrometheus has a real one scrape the lab by the shipped files, and wants data from every rule and every query of the
// dashboard.
func TestPrometheus(t *testing.T) {
	if _, err := exec.LookPath("prometheus"); err != nil && place.missing == "" {
		t.Skip("no prometheus (Debian package prometheus)")
	}
	began := time.Now()
	var started sync.Map // by stage: two labs are up at a time
	of := func(s *scene) *prometheus {
		p, _ := started.Load(s.stage)
		started, _ := p.(*prometheus)
		return started
	}
	var acts []act
	for _, in := range incidents() {
		acts = append(acts, act{in.name, func(s *scene) {
			p := of(s)
			if p == nil || p.lab != s.lab {
				p = s.startPrometheus()
				started.Store(s.stage, p)
			}
			in.act(s)
			for _, alert := range in.alerts {
				s.until(25*time.Second, alert+" is true", func() error { return p.has(fmt.Sprintf("ALERTS{alertname=%q}", alert), time.Now()) })
			}
			in.undo(s)
		}})
	}
	acts = append(acts, act{"every rule returns data", func(s *scene) { s.everyRule(of(s), began) }}, act{"every query returns data", func(s *scene) { s.everyQuery(of(s)) }})
	newStage(t, "prometheus", 4*time.Second, lab.Options{ExazkTOML: watched, ExaBGPConf: lonely}).play(t, acts...)
}

// prometheus is one that runs on the management network of a lab.
type prometheus struct {
	lab    *lab.Lab
	client *http.Client
}

const prometheusAddr = "127.0.0.1:9090"

// startPrometheus starts it with the shipped files, which differ in the targets' addresses, and in that a second is enough.
func (s *scene) startPrometheus() *prometheus {
	s.Helper()
	h := s.lab.Host("lb2") // not beside ZooKeeper, which a node loses together with all that is on that host
	text, err := os.ReadFile(filepath.Join(place.root, "configs", "prometheus", "prometheus.yml"))
	s.must(err)
	var names, targets []string
	for _, lb := range lab.Balancers() {
		names = append(names, fmt.Sprintf(`"%s:%d"`, lb, lab.HTTPPort))
		targets = append(targets, fmt.Sprintf(`"%s:%d"`, lab.ManagementAddr(lb), lab.HTTPPort))
	}
	config := strings.NewReplacer(strings.Join(names, ", "), strings.Join(targets, ", "), ": 2s", ": 1s").Replace(string(text))
	s.must(h.WriteFile("/etc/prometheus/prometheus.yml", []byte("global: {evaluation_interval: 1s}\n"+config), 0o644))
	s.must(h.CopyFile(filepath.Join(place.root, "configs", "prometheus", "exazk.rules.yml"), "/etc/prometheus/exazk.rules.yml", 0o644))
	_, err = h.Start("prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path="+filepath.Join(h.Dir(), "prometheus"), "--web.listen-address="+prometheusAddr)
	s.must(err)
	p := &prometheus{s.lab, &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}}}
	s.until(30*time.Second, "all nodes are scraped", func() error {
		return p.has(fmt.Sprintf(`sum(up{job="exazk"}) == %d`, len(lab.Balancers())), time.Now())
	})
	return p
}

// sample is one series of an answer, at one instant.
type sample struct {
	Metric map[string]string
	Value  [2]any // time and value
}

// query gives what an expression is at an instant, without what is not a number.
func (p *prometheus) query(expr string, at time.Time) ([]sample, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	args := url.Values{"query": {expr}, "time": {fmt.Sprintf("%.3f", float64(at.UnixMilli())/1000)}}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+prometheusAddr+"/api/v1/query?"+args.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct{ Result []sample }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Error != "" {
		return nil, errors.Join(err, errors.New(answer.Error))
	}
	return slices.DeleteFunc(answer.Data.Result, func(s sample) bool { return s.Value[1] == "NaN" }), nil
}

// has says what keeps an expression from having a value.
func (p *prometheus) has(expr string, at time.Time) error {
	got, err := p.query(expr, at)
	if err == nil && len(got) == 0 {
		err = fmt.Errorf("no data from %s", expr)
	}
	return err
}

// sawAll ends a scenario that is about all incidents where one of them failed: the lab is another one then.
func (p *prometheus) sawAll(s *scene) {
	if p.lab != s.lab {
		s.Fatal("not all incidents were seen")
	}
}

// everyRule wants each alert to have been true, or what it compares to be there.
func (s *scene) everyRule(p *prometheus, began time.Time) {
	p.sawAll(s)
	text, err := os.ReadFile(filepath.Join(place.root, "configs", "prometheus", "exazk.rules.yml"))
	s.must(err)
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	s.must(yaml.Unmarshal(text, &rules))
	s.must(p.has(`absent(up{job="exazk"})`, began))
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if unseen[r.Alert] == "" {
				s.must(p.has(fmt.Sprintf("count_over_time(ALERTS{alertname=%q}[1h])", r.Alert), time.Now()))
			} else if what, _, compares := strings.Cut(r.Expr, " > "); compares {
				s.must(p.has(what, time.Now()))
			}
		}
	}
}

// everyQuery wants something to draw in each panel.
func (s *scene) everyQuery(p *prometheus) {
	p.sawAll(s)
	text, err := os.ReadFile(filepath.Join(place.root, "configs", "grafana", "exazk.json"))
	s.must(err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	s.must(json.Unmarshal(text, &board))
	all := strings.NewReplacer("$cluster", ".*", "$instance", ".*", "$service", ".*", "$__rate_interval", "30m")
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			if err := p.has(all.Replace(target.Expr), time.Now()); err != nil {
				s.Errorf("%s: %v", panel.Title, err)
			}
		}
	}
}
