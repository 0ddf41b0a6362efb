package daemon

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

// TestManualHasEveryKeyAndDefault compares exazk.toml(5) with the keys that a file may have and with what is in force without them.
func TestManualHasEveryKeyAndDefault(t *testing.T) {
	page := manualKeys(t)
	compareKeys(t, "exazk.toml(5)", page)
	inForce := defaultsInForce(t)
	for key, said := range page {
		def, has := inForce[key]
		switch {
		case said == "" && has && def != "" && !proseDefault[key]:
			t.Errorf("exazk.toml(5): %s: no default, and %s is in force without it", key, def)
		case said != "" && !sameValue(said, def):
			t.Errorf("exazk.toml(5): %s: the default is said to be %s, and %q is in force", key, said, def)
		}
	}
}

// TestConfigurationPageHasEveryKeyAndDefault compares the tables of docs/configuration.md with the keys, and their defaults with those
// of exazk.toml(5).
func TestConfigurationPageHasEveryKeyAndDefault(t *testing.T) {
	tables, page := tableKeys(t), manualKeys(t)
	compareKeys(t, "docs/configuration.md", tables)
	for key, said := range tables {
		if said != "" && page[key] != "" && !sameValue(said, page[key]) {
			t.Errorf("docs/configuration.md: %s: the default is said to be %s, and %s in exazk.toml(5)", key, said, page[key])
		}
	}
}

// proseDefault are keys whose default is no value: the page has it in words.
var proseDefault = map[string]bool{"node": true, "service.check.name": true, "service.check.http.host": true, "service.check.http.tls_server_name": true}

func compareKeys(t *testing.T, where string, said map[string]string) {
	t.Helper()
	keys := map[string]bool{}
	fileKeys(reflect.TypeFor[rawConfig](), "", keys)
	for key := range keys {
		if _, ok := said[key]; !ok {
			t.Errorf("%s does not have %s", where, key)
		}
	}
	for key := range said {
		if !keys[key] {
			t.Errorf("%s has %s, which is no key", where, key)
		}
	}
}

// fileKeys finds the keys that a file may have, with the path of their tables. What may stand in several tables of attributes is
// named once, as that of [service.announce].
func fileKeys(s reflect.Type, at string, keys map[string]bool) {
	attributes := map[string]bool{}
	for f := range reflect.TypeFor[rawAttributes]().Fields() {
		attributes[f.Tag.Get("toml")] = true
	}
	for f := range s.Fields() {
		tag := f.Tag.Get("toml")
		if f.Anonymous {
			fileKeys(f.Type, at, keys)
		}
		if tag == "" {
			continue
		}
		key, of := join(at, tag), f.Type
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		switch {
		case of == reflect.TypeFor[toml.Primitive](): // the checks
			fileKeys(reflect.TypeFor[rawCheck](), key, keys)
		case of.Kind() == reflect.Struct && !isValue(of):
			fileKeys(of, key, keys)
		default:
			key = strings.Replace(key, "service.neighbor.announce", "service.announce", 1)
			if table := key[:len(key)-len(tag)]; (table == "service.announce.backup." || table == "service.announce.drain.") && attributes[tag] {
				key = "service.announce." + tag
			}
			keys[key] = true
		}
	}
}

// isValue says whether a type is that of one key, not of a table.
func isValue(s reflect.Type) bool {
	_, err := s.FieldByName("Set")
	return err
}

var (
	manualTable = regexp.MustCompile(`^### (.*)$`)
	manualTerm  = regexp.MustCompile(`^\*\*(.+?)\*\*(?: = ` + "`(.*)`" + `| \(.*\))$`)
	manualTwo   = regexp.MustCompile(`\), (\*\*)`)
	tableName   = regexp.MustCompile(`\[+([a-z.]+)\]+`)
)

// manualKeys gives the keys of exazk.toml(5), each with its default, which is empty where there is none.
func manualKeys(t *testing.T) map[string]string {
	text, err := os.ReadFile("../dist/man/exazk.toml.5.md")
	if err != nil {
		t.Fatal(err)
	}
	keys, table := map[string]string{}, ""
	_, rest, _ := strings.Cut(string(text), "\n## TABLES AND KEYS\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	lines := strings.Split(rest, "\n")
	for i, line := range lines {
		if m := manualTable.FindStringSubmatch(line); m != nil {
			table = ""
			if name := tableName.FindStringSubmatch(m[1]); name != nil {
				table = name[1]
			}
		}
		if i+1 >= len(lines) || !strings.HasPrefix(lines[i+1], ":   ") {
			continue
		}
		for term := range strings.SplitSeq(manualTwo.ReplaceAllString(line, ")\n$1"), "\n") {
			m := manualTerm.FindStringSubmatch(term)
			if m == nil {
				t.Fatalf("exazk.toml(5): %q is not a key; remedy: write it like those around it", term)
			}
			keys[join(table, strings.TrimSuffix(m[1], `."VIP"`))] = m[2]
		}
	}
	return keys
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// tableKeys gives the keys in the tables of docs/configuration.md that have defaults, each with its default, which is empty where there
// is none. The head of a table may name the table of the file that its keys are in.
func tableKeys(t *testing.T) map[string]string {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	keys, table, inTable := map[string]string{}, "", false
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			inTable = false
			continue
		}
		names, defaults := codeSpan.FindAllStringSubmatch(cells[1], -1), codeSpan.FindAllStringSubmatch(cells[2], -1)
		if strings.TrimSpace(cells[2]) == "Default" {
			table, inTable = "", true
			if len(names) > 0 {
				table = names[0][1] + "."
			}
			continue
		}
		if !inTable {
			continue
		}
		before := ""
		for i, name := range names {
			key := strings.TrimSuffix(name[1], `."VIP"`)
			if last, ok := strings.CutPrefix(key, "."); ok { // the same with another last word
				key = before[:strings.LastIndex(before, ".")+1] + last
			}
			before = key
			if table == "service.announce." && strings.HasSuffix(key, "_step") {
				key = "backup." + key
			}
			def := ""
			if i < len(defaults) {
				def = defaults[i][1]
			}
			keys[table+key] = def
		}
	}
	return keys
}

// defaultsInForce are the values that "exazk check" prints for files that have no more than they must: one for each kind of check,
// the last one with standby backups, for what is there with them only.
func defaultsInForce(t *testing.T) map[string]string {
	const head = "node = \"NODE\"\nzookeeper.hosts = [\"zk\"]\n"
	const service = "[[service]]\nname = \"NAME\"\nauthoritative = [\"10.20.255.1\"]\n"
	const check = "check.command = \"true\"\n"
	all := map[string]string{}
	for _, text := range []string{
		head + service + check,
		head + service + "check.http.url = \"http://URL/\"\n",
		head + service + "check.tcp.address = \"127.0.0.1:80\"\n",
		head + service + "check.dns = {server = \"127.0.0.1:53\", name = \"example.org\"}\n",
		head + strings.Replace(service, "authoritative", "backup_for", 1) + "check.file.path = \"/x\"\n",
		head + service + "check.systemd.unit = \"x.service\"\n",
		head + "[[hook]]\ncommand = \"true\"\n" + service + check,
		head + "exabgp.local_as = 65101\n" + service + "backup = \"standby\"\nnodes = [\"NODE\"]\n" + check,
	} {
		cfg, err := ParseConfig("file", text)
		if err != nil {
			t.Fatal(err)
		}
		given, is := decoded(t, text), decoded(t, cfg.Render())
		for key, v := range is {
			if _, ok := given[key]; !ok && all[key] == "" {
				all[key] = v
			}
		}
	}
	return all
}

// decoded gives the values of a file by their keys, as TOML writes them; nothing for an empty string.
func decoded(t *testing.T, text string) map[string]string {
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	flatten(tree, "", out)
	return out
}

func flatten(tree map[string]any, at string, out map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		at := join(at, key)
		switch v := tree[key].(type) {
		case map[string]any:
			flatten(v, at, out)
		case []map[string]any:
			for _, table := range v {
				flatten(table, at, out)
			}
		case []any:
			words := make([]string, len(v))
			for i, word := range v {
				words[i] = fmt.Sprintf("%#v", word)
			}
			out[at] = "[" + strings.Join(words, ", ") + "]"
		case string:
			out[at] = ""
			if v != "" {
				out[at] = fmt.Sprintf("%q", v)
			}
		default:
			out[at] = fmt.Sprint(v)
		}
	}
}

// sameValue compares two values, durations by their length.
func sameValue(a, b string) bool {
	x, xerr := time.ParseDuration(strings.Trim(a, `"`))
	y, yerr := time.ParseDuration(strings.Trim(b, `"`))
	return a == b || strings.HasPrefix(a, `"`) && xerr == nil && yerr == nil && x == y
}
