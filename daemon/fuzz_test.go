package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzConfig reads any text as a configuration. It must never panic; an error names the file, and the line and the
// key; a syntax error only one of them. What is accepted can be run, and what "exazk check" prints of it means the same.
func FuzzConfig(f *testing.F) {
	files, _ := filepath.Glob("../configs/*.toml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, text := range []string{
		"", storyConfig, fullConfig, "log = 1\nservice = 2\n", "[service]\nname = 1\n", "service = [1]\n", "zookeeper.hosts = [\"a\"]\n\"a b\" = 1\n",
		storyConfig + "[service.announce]\nnext_hop = \"192.0.2.1\"\nmed = 1\n[exabgp]\nneighbors = [\"2001:db8::1\", 5]\nhold_time = \"3s\"\n",
		"service = [{name = \"a\", authoritative = [\"192.0.2.1\"], check = {command = \"true\"}}]\n",
	} {
		f.Add(text)
	}
	f.Fuzz(parses)
}

// FuzzConfigValues puts any value in the place of another one in a file that has every key.
func FuzzConfigValues(f *testing.F) {
	lines := strings.Split(fullConfig, "\n")
	for i, line := range lines {
		_, value, _ := strings.Cut(line, " = ")
		f.Add(uint(i), value)
		f.Add(uint(i), "-1")
		f.Add(uint(i), `["", 1, "node1"]`)
	}
	f.Fuzz(func(t *testing.T, n uint, value string) {
		i := int(n % uint(len(lines)))
		key, _, given := strings.Cut(lines[i], " = ")
		if !given {
			t.Skip("no key")
		}
		changed := slices.Clone(lines)
		changed[i] = key + " = " + value
		parses(t, strings.Join(changed, "\n"))
	})
}

var (
	place  = regexp.MustCompile(`^f\.toml:(\d+): \S`)
	syntax = regexp.MustCompile(`^f\.toml(:[1-9]\d*: toml: |: toml: .*(line|last key) )`)
)

func parses(t *testing.T, text string) {
	cfg, err := ParseConfig("f.toml", text)
	if (cfg == nil) == (err == nil) {
		t.Fatalf("configuration %v, error %v", cfg, err)
	}
	if err == nil {
		accepted(t, cfg)
		return
	}
	if syntax.MatchString(err.Error()) {
		return // in the library's words
	}
	for _, fault := range faultsOf(err) {
		at := place.FindStringSubmatch(fault)
		if at == nil || len(at[1]) > 6 || !strings.Contains(fault, "; remedy: ") {
			t.Errorf("fault without its place or remedy: %q", fault)
		}
	}
}

// FuzzFlags reads any values of the Python tool's flags. It must never panic; an error names the flag.
func FuzzFlags(f *testing.F) {
	f.Add("apex", "10.20.255.1", "10.20.255.2", "true", "zk1,zk2:2182", "", "/exabgp/maintenance/apex/node7", false)
	f.Add("apex", "10.20.255.1,10.20.255.2/32", "10.20.255.1", "", "[::1]:2181,::1,a/b", "/x", "/y/..", false)
	f.Add("a b", "", "", "a\x00b", "", "/exabgp/service/a b", "/zookeeper", true)
	f.Add("..", "fe80::1%x,2001:db8::/64,0.0.0.0/0,::ffff:1.2.3.4", "1.2.3.4/33", "\xff", "[a:1,:0", "/", "/m/../..", false)
	f.Fuzz(func(t *testing.T, name, auth, nonAuth, check, hosts, service, maintenance string, only bool) {
		list := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
		cfg, err := FlagsConfig(Flags{Name: name, AuthIPs: list(auth), NonAuthIPs: list(nonAuth), LocalCheck: check, ZKHosts: []string{hosts},
			PathService: service, PathMaintenance: maintenance, ZooKeeperOnly: only})
		if (cfg == nil) == (err == nil) {
			t.Fatalf("configuration %v, error %v", cfg, err)
		}
		if err == nil {
			if !only {
				accepted(t, cfg)
			}
			return
		}
		for _, fault := range faultsOf(err) {
			named := strings.HasPrefix(fault, "--") || strings.Contains(fault, " (has no flag; use --config): ")
			if !named || !strings.Contains(fault, "; remedy: ") {
				t.Errorf("fault without its flag or remedy: %q", fault)
			}
		}
	})
}

// faultsOf is the text of each fault of an error; quoted input holds no line breaks.
func faultsOf(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var all []string
	for _, e := range joined.Unwrap() {
		all = append(all, e.Error())
	}
	return all
}

// accepted fails where a configuration that passed cannot be run, or is not read back from what is printed of it.
func accepted(t *testing.T, cfg *Config) {
	t.Helper()
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	core := NewCore(cfg, Identity{Node: cfg.Node})
	if d := core.Step(start, Tick{}); !d.Wake.After(start) {
		t.Errorf("wakes at once")
	}
	for _, s := range core.services {
		for _, v := range s.vips {
			for _, a := range []Action{Announce, Withdraw} {
				v.adopt(Verdict{Action: a}, s.conf)
				for _, ad := range v.adverts {
					if c := ad.want.Command(); strings.ContainsAny(c, "\n;") {
						t.Errorf("command %q", c)
					}
				}
			}
		}
	}
	again, err := ParseConfig("again.toml", cfg.Render())
	if err != nil {
		t.Fatalf("not read back: %v\n%s", err, cfg.Render())
	}
	if again.Log.Silent = cfg.Log.Silent; normal(cfg) != normal(again) {
		t.Errorf("read back as\n%+v\nand was\n%+v", again, cfg)
	}
}

// normal is a configuration as text, in which an empty list is none.
func normal(cfg *Config) string {
	var b strings.Builder
	for _, s := range cfg.Services {
		for _, c := range s.Checks {
			fmt.Fprintf(&b, "%s %q %q %+v %+v %+v %+v %+v %v %v %v %d %d %v\n", c.Name, c.Command, c.Args, c.HTTP, c.TCP, c.DNS, c.File, c.Systemd, c.Interval, c.FastInterval, c.Timeout, c.Rise, c.Fall, c.Jitter)
		}
		s.Checks = nil // which holds pointers
		fmt.Fprintf(&b, "%+v\n", s)
	}
	rest := *cfg
	rest.Services = nil
	return fmt.Sprintf("%s%+v", b.String(), rest)
}
