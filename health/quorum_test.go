package health

import (
	"strings"
	"testing"
)

func TestQuorum(t *testing.T) {
	letter := map[byte]State{'u': Unknown, 'H': Healthy, 'U': Unhealthy}
	tests := []struct {
		name    string
		require int
		steps   string // the states of all checks, one word for each step
		want    string // that of the service after each
	}{
		{"one check decides alone", 1, "H U H", "HUH"},
		{"all: the last one makes it healthy", 3, "uuu Huu HHu HHH", "uuuH"},
		{"all: the first failure makes it unhealthy", 3, "Huu HUu HUH HHH", "uUUH"},
		{"any: the first success makes it healthy", 3 - 2, "uuu Uuu UuH UUH UUU", "uuHHU"},
		{"two of three", 2, "Huu HUu HUH HUU HHU", "uuHUH"},
		{"unhealthy stays while others have no verdict", 2, "Uu Hu HH", "UUH"},
		{"healthy stays as long as enough are", 2, "HHHH HHHU HHUU HUUU HHUU", "HHHUH"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps := strings.Fields(tt.steps)
			q := NewQuorum(len(steps[0]), tt.require)
			before := Unknown
			for i, step := range steps {
				for check := range len(step) {
					from, to := q.Step(check, letter[step[check]])
					if from != before || to != q.State() {
						t.Fatalf("step %q: from %v to %v, was %v and is %v", step, from, to, before, q.State())
					}
					before = to
				}
				if want := letter[tt.want[i]]; q.State() != want {
					t.Errorf("step %q: %v, want %v", step, q.State(), want)
				}
				if n := strings.Count(step, "H"); q.Passing() != n {
					t.Errorf("step %q: %d pass, want %d", step, q.Passing(), n)
				}
			}
		})
	}
}

// TestQuorumOfEveryCombination checks each combination of up to five checks that have their verdicts: nothing is open then.
func TestQuorumOfEveryCombination(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for require := 1; require <= n; require++ {
			for mask := range 1 << n {
				q, healthy := NewQuorum(n, require), 0
				for i := range n {
					s := Unhealthy
					if mask>>i&1 == 1 {
						s = Healthy
						healthy++
					}
					q.Step(i, s)
				}
				want := Unhealthy
				if healthy >= require {
					want = Healthy
				}
				if q.State() != want {
					t.Errorf("%d of %d healthy, %d required: %v, want %v", healthy, n, require, q.State(), want)
				}
			}
		}
	}
}

func TestDetail(t *testing.T) {
	tests := []struct {
		ch   Changed
		want string
	}{
		{Changed{Check: "web", Result: Result{Output: "503"}}, "503"},
		{Changed{Check: "web", Result: Result{ExitCode: 3}, Checks: make([]Status, 1)}, "exit status 3"},
		{Changed{Check: "web", Result: Result{OK: true}, Checks: make([]Status, 1)}, ""},
		{Changed{Check: "web", Result: Result{Err: "timed out after 1s", Output: "half"}}, "timed out after 1s: half"},
		{Changed{Check: "web", Result: Result{Err: "timed out after 1s"}}, "timed out after 1s"},
		{Changed{Check: "web", Result: Result{Output: "503"}, Checks: []Status{{State: Healthy}, {State: Unhealthy}, {}}}, "web: 503 (1 of 3 checks pass)"},
		{Changed{Check: "web", Result: Result{OK: true}, Checks: []Status{{State: Healthy}, {State: Healthy}}}, "web: (2 of 2 checks pass)"},
	}
	for _, tt := range tests {
		if got := tt.ch.Detail(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.ch, got, tt.want)
		}
	}
}
