package fault

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// TestText draws faults and reads them back from their text.
func TestText(t *testing.T) {
	seen := map[Kind]bool{}
	for seed := range uint64(2000) {
		opt := Options{Nodes: 5, Servers: 3, From: 10 * time.Second, To: 200 * time.Second}
		faults := Draw(rand.New(rand.NewPCG(seed, 0)), opt)
		again := Draw(rand.New(rand.NewPCG(seed, 0)), opt)
		if !reflect.DeepEqual(faults, again) {
			t.Fatalf("seed %d: two draws differ", seed)
		}
		for i, f := range faults {
			seen[f.Kind] = true
			got, err := Parse(f.String())
			if err != nil || got != f {
				t.Fatalf("seed %d: %q reads as %+v, %v; want %+v", seed, f.String(), got, err, f)
			}
			if f.At < opt.From || f.End() > opt.To || f.Node >= opt.Nodes || f.Server >= opt.Servers || i > 0 && f.At < faults[i-1].At {
				t.Fatalf("seed %d: out of bounds: %v", seed, f)
			}
			if f.Kind.Moment() != (f.For == 0) {
				t.Fatalf("seed %d: length of %v", seed, f)
			}
		}
	}
	for _, k := range All() {
		if !seen[k] {
			t.Errorf("%v was never drawn", k)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, line := range []string{"", "5s", "x crash lb1 for 1s", "5s fire lb1", "5s crash lb0 for 1s", "5s crash lb1 for", "5s crash lb1 for x", "5s crash rack1"} {
		if f, err := Parse(line); err == nil {
			t.Errorf("%q was read as %v", line, f)
		}
	}
}
