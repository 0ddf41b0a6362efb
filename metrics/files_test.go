package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	rulesFile     = "../configs/prometheus/exazk.rules.yml"
	slowTestFile  = "../configs/prometheus/exazk.slow-rules.test.yml"
	rulesTestFile = "../configs/prometheus/exazk.rules.test.yml"
	dashboardFile = "../configs/grafana/exazk.json"
)

// promtool runs it beside the rules, and wants success.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("no promtool (Debian's package prometheus)")
	}
	cmd := exec.Command("promtool", args...)
	cmd.Dir = filepath.Dir(rulesFile)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRulesAreValid(t *testing.T) { promtool(t, "check", "rules", filepath.Base(rulesFile)) }
func TestRulesFireAndRest(t *testing.T) {
	promtool(t, "test", "rules", filepath.Base(rulesTestFile), filepath.Base(slowTestFile))
}
func TestScrapeExample(t *testing.T)    { promtool(t, "check", "config", "prometheus.yml") }
func TestDashboardQueries(t *testing.T) { promtool(t, "check", "rules", asRules(t, queries(t))) }

// asRules writes queries as recording rules, since that is what promtool can parse.
func asRules(t *testing.T, queries []string) string {
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	for i, q := range queries {
		rules = append(rules, rule{fmt.Sprintf("query:%d", i), strings.NewReplacer("$__rate_interval", "1m").Replace(q)})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.rules.yml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

type alert struct {
	Name        string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readYAML(t *testing.T, file string, to any) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func alerts(t *testing.T) []alert {
	var rules struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	readYAML(t, rulesFile, &rules)
	var all []alert
	for _, g := range rules.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// TestAlertsAreExplained checks that whom an alert wakes is told what it means and what to do, and that it was seen to fire and
// to be quiet.
func TestAlertsAreExplained(t *testing.T) {
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, file := range []string{rulesTestFile, slowTestFile} {
		var tests struct {
			Tests []struct {
				Cases []struct {
					Alert string `yaml:"alertname"`
					Want  []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		readYAML(t, file, &tests)
		for _, test := range tests.Tests {
			for _, c := range test.Cases {
				fires[c.Alert] = fires[c.Alert] || len(c.Want) > 0
				rests[c.Alert] = rests[c.Alert] || len(c.Want) == 0
			}
		}
	}
	for _, a := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) || a.Annotations["summary"] == "" || !strings.Contains(a.Annotations["description"], "Remedy: ") {
			t.Errorf("%s has severity %q, summary %q, description %q", a.Name, a.Labels["severity"], a.Annotations["summary"], a.Annotations["description"])
		}
		if !fires[a.Name] || !rests[a.Name] {
			t.Errorf("%s: seen to fire %v, to be quiet %v", a.Name, fires[a.Name], rests[a.Name])
		}
	}
}

// queries are those of the dashboard.
func queries(t *testing.T) []string {
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile(dashboardFile)
	if err == nil {
		err = json.Unmarshal(text, &board)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: there twice, or without a query", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

// TestMetricsAreDocumented wants every name of a scrape in the docs.
func TestMetricsAreDocumented(t *testing.T) {
	docs, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (exazk_[a-z_]+)`).FindAllStringSubmatch(scrape(t, busy(t)), -1) {
		if !strings.Contains(string(docs), "`"+m[1]+"`") {
			t.Errorf("%s is not in docs/metrics.md", m[1])
		}
	}
}

// TestQueriesKnowTheMetrics checks every name in rules and dashboard against a scrape.
func TestQueriesKnowTheMetrics(t *testing.T) {
	text := scrape(t, busy(t))
	all := queries(t)
	for _, a := range alerts(t) {
		all = append(all, a.Expr)
	}
	for _, q := range all {
		for _, name := range regexp.MustCompile(`\b(exazk|process|go)_[a-z_]+`).FindAllString(q, -1) {
			if !strings.Contains(text, "\n"+name+"{") && !strings.Contains(text, "\n"+name+" ") {
				t.Errorf("%s is not in a scrape; query: %s", name, q)
			}
		}
	}
}
