package sim

import (
	"bytes"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"exazk/sim/fault"
)

// TestSeeds plays some hundred seeds. "make sim" plays many more.
func TestSeeds(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 50
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		if v := Play(Draw(seed), false).Violation; v != nil {
			t.Errorf("seed %d: %v (go run ./sim/cmd/sim -seed %d -shrink)", seed, v, seed)
		}
	}
}

// TestReplay: a seed is the same run each time, told or not.
func TestReplay(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		a, b, quiet := Play(Draw(seed), true), Play(Draw(seed), true), Play(Draw(seed), false)
		if !reflect.DeepEqual(a, b) {
			for i := range a.Story {
				if i >= len(b.Story) || a.Story[i] != b.Story[i] {
					t.Fatalf("seed %d: two runs differ from line %d on: %v", seed, i, a.Story[i])
				}
			}
			t.Fatalf("seed %d: two runs differ", seed)
		}
		if quiet.Steps != a.Steps {
			t.Errorf("seed %d: %d steps when its story is told, %d when not", seed, a.Steps, quiet.Steps)
		}
		if len(a.Story) < 20 {
			t.Errorf("seed %d: a story of %d lines", seed, len(a.Story))
		}
	}
}

// TestScripts plays what once broke a promise, each file one script with its cause.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil || len(ar.Files) != 1 {
				t.Fatalf("want one file, the plan: %v", err)
			}
			p, err := Parse(string(ar.Files[0].Data))
			if err != nil {
				t.Fatal(err)
			}
			if v := Play(p, false).Violation; v != nil {
				t.Errorf("%s%v", ar.Comment, v)
			}
		})
	}
}

func TestPlanText(t *testing.T) {
	for seed := range uint64(500) {
		p := Draw(seed)
		got, err := Parse(p.String())
		if err != nil || got.Knobs != p.Knobs || !slices.Equal(got.Faults, p.Faults) {
			t.Fatalf("seed %d: reads as\n%v, %v; want\n%v", seed, got, err, p)
		}
	}
	good := Draw(3).String()
	for _, text := range []string{
		"", "faults:\n", good + "5s fire lb1\n", good + "5s crash lb9 for 1s\n", strings.Replace(good, "seed", "seeds", 1),
		strings.Replace(good, "session_timeout = \"", "session_timeout = \"x", 1), strings.Replace(good, "rise = ", "rise = -", 1),
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("no error for\n%s", text)
		}
	}
}

// TestFewest finds the two faults of twelve that matter together.
func TestFewest(t *testing.T) {
	var all []fault.Fault
	for i := range 12 {
		all = append(all, fault.Fault{Kind: fault.Crash, At: time.Duration(i), For: 1})
	}
	calls := 0
	got := fewest(all, func(f []fault.Fault) bool {
		calls++
		return slices.Contains(f, all[3]) && slices.Contains(f, all[9])
	})
	if want := []fault.Fault{all[3], all[9]}; !slices.Equal(got, want) || calls > 60 {
		t.Errorf("got %v after %d calls, want %v", got, calls, want)
	}
}

func TestPicture(t *testing.T) {
	p := Draw(7)
	r := Play(p, true)
	svg := Picture(p, r)
	for _, want := range []string{"<svg", "10.20.255.1", "by node1", "</svg>"} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("no %q in the picture", want)
		}
	}
	for _, f := range p.Faults {
		if !bytes.Contains(svg, []byte(f.String())) {
			t.Errorf("no %q in the picture", f)
		}
	}
}

func BenchmarkPlay(b *testing.B) {
	player := NewPlayer()
	seed := uint64(0)
	for b.Loop() {
		seed++
		player.Play(Draw(seed), false)
	}
}
