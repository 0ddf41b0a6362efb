package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"exazk/daemon"
)

// pages are the files of the documentation with their text, without the manual pages, which dist tests.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) < 5 {
		t.Fatalf("%q, %v", files, err)
	}
	all := map[string]string{}
	for _, file := range append(files, "README.md") {
		all[file] = read(t, file)
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fence   = regexp.MustCompile("(?ms)^```(\\w*)\\n(.*?)^```$")
	linked  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	// unslugged is what GitHub leaves out of a heading to make an anchor of it.
	unslugged = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// snippets are the fenced blocks of a language.
func snippets(text, language string) []string {
	var all []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == language {
			all = append(all, m[2])
		}
	}
	return all
}

func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.ReplaceAll(unslugged.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

// TestLinksLeadSomewhere: to a file that is there, and to a heading that it has.
func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	for file, text := range all {
		for _, m := range linked.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			to := filepath.Join(filepath.Dir(file), path)
			if path == "" {
				to = file
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s: %v", file, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(all[to]), anchor) {
				t.Errorf("%s: %s: no such heading; it has %q", file, m[1], anchors(all[to]))
			}
		}
	}
}

// TestEveryPageIsFound: the README leads to it.
func TestEveryPageIsFound(t *testing.T) {
	all := pages(t)
	for file := range all {
		if file != "README.md" && !strings.Contains(all["README.md"], "("+file+")") {
			t.Errorf("README.md has no link to %s", file)
		}
	}
}

// TestRecipes takes every recipe into a file, which must pass "exazk check".
func TestRecipes(t *testing.T) {
	n := 0
	for file, text := range pages(t) {
		for _, recipe := range snippets(text, "toml") {
			n++
			if _, err := daemon.ParseConfig("recipe", "node = \"node1\"\nzookeeper.hosts = [\"zk\"]\n"+recipe); err != nil {
				t.Errorf("%s: %v\n%s", file, err, recipe)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d recipes only", n)
	}
}

// TestQuickStart checks the file that a newcomer writes.
func TestQuickStart(t *testing.T) {
	_, text, found := strings.Cut(read(t, "docs/quickstart.md"), "$ cat >node1.toml\n")
	text, _, _ = strings.Cut(text, "\n$ ")
	if _, err := daemon.ParseConfig("node1.toml", text); err != nil || !found {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestEveryAlertHasARunbookEntry, and every entry an alert.
func TestEveryAlertHasARunbookEntry(t *testing.T) {
	named := func(pattern, file string) []string {
		var all []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, file), -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return all
	}
	rules, entries := named(`- alert: (\w+)`, "configs/prometheus/exazk.rules.yml"), named(`(?m)^### (Exazk\w+)$`, "docs/operations.md")
	if len(rules) == 0 || !slices.Equal(rules, entries) {
		t.Errorf("docs/operations.md has\n%q, and the alerts are\n%q", entries, rules)
	}
}

// TestEveryReasonIsExplained to an operator.
func TestEveryReasonIsExplained(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "docs/operations.md"), "\n## Reasons\n")
	table, _, _ = strings.Cut(table, "\n## ")
	words := regexp.MustCompile(`Reason += "([a-z-]+)"`).FindAllStringSubmatch(read(t, "daemon/core.go"), -1)
	if len(words) < 20 {
		t.Fatalf("found %q only", words)
	}
	for _, m := range words {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + m[1] + "`").MatchString(table) {
			t.Errorf("docs/operations.md does not explain %s", m[1])
		}
	}
}

// TestRouterFiles has BIRD and FRR read what the documentation tells to write.
func TestRouterFiles(t *testing.T) {
	text := read(t, "docs/routers.md")
	for language, argv := range map[string][]string{"bird": {"bird", "-p", "-c"}, "frr": {"vtysh", "-C", "-f"}} {
		t.Run(language, func(t *testing.T) {
			program, err := exec.LookPath(argv[0])
			if err != nil {
				t.Skip(err)
			}
			file := strings.Join(snippets(text, language), "")
			if file == "" {
				t.Fatal("there is none")
			}
			at := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(at, []byte(file), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(program, append(argv[1:], at)...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s\n%s", err, out, file)
			}
		})
	}
}
