package mutants

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// root is the root of the sources.
const root = "../.."

// TestNames keeps the table fit to be chosen from, and to be read.
func TestNames(t *testing.T) {
	used := map[string]bool{}
	for _, m := range All() {
		if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(m.Name) || used[m.Name] {
			t.Errorf("name %q is not usable, or is there twice", m.Name)
		}
		used[m.Name] = true
		if m.What == "" || m.Expect == "" {
			t.Errorf("mutant %q does not say what it does, and what would find it", m.Name)
		}
	}
	if n := len(used); n < 40 {
		t.Errorf("%d mutants, want 40 at least", n)
	}
}

// TestMutantsDiffer finds two mutants that are the same bug.
func TestMutantsDiffer(t *testing.T) {
	by := map[string]string{}
	for _, m := range All() {
		text := mutated(t, m)
		if other, twice := by[m.File+text]; twice {
			t.Errorf("mutants %q and %q are the same", other, m.Name)
		}
		by[m.File+text] = m.Name
	}
}

// TestMutantsCompile checks the types of each mutated package, as the compiler does, unused variables and imports included.
// What the packages import is checked once for all.
func TestMutantsCompile(t *testing.T) {
	packages := load(t, "exazk/daemon", "exazk/exabgp", "exazk/zkstate", "exazk/health")
	for _, p := range packages {
		if err := p.check(t, "", ""); err != nil {
			t.Fatalf("package %s without a mutant: %v", p.ImportPath, err)
		}
	}
	for _, m := range All() {
		p := packages["exazk/"+path.Dir(m.File)]
		if p == nil {
			t.Errorf("mutant %q: %s is in none of the packages that the simulator plays", m.Name, m.File)
			continue
		}
		if err := p.check(t, path.Base(m.File), mutated(t, m)); err != nil {
			t.Errorf("mutant %q does not compile: %v", m.Name, err)
		}
	}
}

// TestCheckRefuses shows that TestMutantsCompile can fail.
func TestCheckRefuses(t *testing.T) {
	p := load(t, "exazk/health")["exazk/health"]
	for _, bad := range []Mutant{
		{Name: "unused", File: "health/check.go", Old: `m.row++`, New: "unused := 1\n\tm.row++"},
		{Name: "unknown", File: "health/check.go", Old: `m.row++`, New: `m.rows++`},
		{Name: "syntax", File: "health/check.go", Old: `m.row++`, New: `m.row+++`},
	} {
		if p.check(t, path.Base(bad.File), mutated(t, bad)) == nil {
			t.Errorf("mutant %q passes for one that compiles", bad.Name)
		}
	}
}

func TestMutateRefuses(t *testing.T) {
	for _, test := range []struct {
		source, old, new string
		ok               bool
	}{
		{"a b c", "b", "d", true},
		{"a b c", "b", "", true},
		{"a b b", "b", "d", false},
		{"a c", "b", "d", false},
		{"a b c", "b", "b", false},
		{"a b c", "", "b", false},
	} {
		m := Mutant{Name: "some-bug", File: "some/file.go", Old: test.old, New: test.new}
		got, err := m.Mutate(test.source)
		if test.ok != (err == nil) || test.ok && got != strings.ReplaceAll(test.source, test.old, test.new) {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), `"some-bug"`) {
			t.Errorf("%+v: the error %q does not name the mutant", test, err)
		}
	}
}

// TestPlant builds with an overlay: one that cannot compile, so that it is seen to be used, and one of the table.
func TestPlant(t *testing.T) {
	if out, err := build(t, Mutant{Name: "broken", File: "health/check.go", Old: `m.row++`, New: `m.row += planted`}); err == nil || !strings.Contains(out, "undefined: planted") {
		t.Errorf("building with an overlay that cannot compile: %v\n%s", err, out)
	}
	i := slices.IndexFunc(All(), func(m Mutant) bool { return strings.HasPrefix(m.File, "health/") })
	if out, err := build(t, All()[i]); err != nil {
		t.Errorf("building mutant %q: %v\n%s", All()[i].Name, err, out)
	}
	if _, err := (Mutant{Name: "nowhere", File: "health/nothing.go", Old: "a", New: "b"}).Plant(root, t.TempDir()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("planting in a file that is missing: %v", err)
	}
}

func build(t *testing.T, m Mutant) (string, error) {
	t.Helper()
	overlay, err := m.Plant(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-overlay", overlay, "./"+path.Dir(m.File))
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mutated is the text of the mutant's file with the bug in it.
func mutated(t *testing.T, m Mutant) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.File)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.Mutate(string(source))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// pkg is a package whose files can be checked with one of them changed.
type pkg struct {
	Dir, ImportPath, Export string
	GoFiles                 []string

	set      *token.FileSet
	importer types.Importer
	files    map[string]*ast.File
}

// load finds packages, and has all that they import compiled, for its types.
func load(t *testing.T, paths ...string) map[string]*pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles"}, paths...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]*pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &pkg{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	set := token.NewFileSet()
	imported := importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) {
		if p := all[path]; p != nil {
			return os.Open(p.Export)
		}
		return nil, fmt.Errorf("package %q is not imported by any of %q", path, paths)
	})
	wanted := map[string]*pkg{}
	for _, path := range paths {
		p := all[path]
		p.set, p.importer, p.files = set, imported, map[string]*ast.File{}
		for _, name := range p.GoFiles {
			if p.files[name], err = parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution); err != nil {
				t.Fatal(err)
			}
		}
		wanted[path] = p
	}
	return wanted
}

// check checks the package with text in the place of the file called name; none where name is empty.
func (p *pkg) check(t *testing.T, name, text string) error {
	t.Helper()
	var files []*ast.File
	for _, n := range p.GoFiles {
		f := p.files[n]
		if n == name {
			var err error
			if f, err = parser.ParseFile(p.set, n, text, parser.SkipObjectResolution); err != nil {
				return err
			}
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: p.importer, Sizes: types.SizesFor("gc", runtime.GOARCH)}
	_, err := conf.Check(p.ImportPath, p.set, files, nil)
	return err
}
