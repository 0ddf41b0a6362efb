package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"exazk/sim/mutants"
)

func TestFindings(t *testing.T) {
	for _, test := range []struct {
		name, out string
		found     finding
		seeds     uint64
	}{
		{name: "clean", out: "sim: 20000 seeds from 1, each 5m0s, 9 faults, 8 steps; 310 seeds a second with 2 at a time\nsim: 0 violations\n"},
		{
			name: "one", out: "       1 x served\nsim: 1 violations\nsim: seed 17: 45.2s served: nobody answers (node1: claimed) (its story: sim -seed 17 -shrink)\n",
			found: finding{"17", "45.2s served: nobody answers (node1: claimed)", "served"}, seeds: 1,
		},
		{
			name: "counted", out: "       3 x served\n       9 x configured-only\nsim: 12 violations\nsim: seed 9: 3m45.25s configured-only: node1\n",
			found: finding{"9", "3m45.25s configured-only: node1", "configured-only"}, seeds: 12,
		},
	} {
		if found, seeds := findings(test.out); found != test.found || seeds != test.seeds {
			t.Errorf("%s: got %+v in %d seeds, want %+v in %d", test.name, found, seeds, test.found, test.seeds)
		}
	}
}

// TestCall has scripts stand in for the simulator.
func TestCall(t *testing.T) {
	for _, test := range []struct {
		name, script string
		found        finding
		seeds        uint64
		err          string
	}{
		{name: "clean", script: "echo 'sim: 0 violations'"},
		{
			name: "broken", script: "echo 'sim: 2 violations'; echo 'sim: seed 3: 1s sick: node1' >&2; exit 1",
			found: finding{"3", "1s sick: node1", "sick"}, seeds: 2,
		},
		{name: "panic", script: "echo 'panic: bug: table' >&2; exit 2", found: finding{"?", "bug: table", panicked}},
		{name: "usage", script: "echo 'no such flag' >&2; exit 2", err: "no such flag"},
		{name: "broken and silent", script: "exit 1", err: "exit code 1"},
		{name: "missing", script: "", err: "no such file"},
		{name: "endless", script: "exec sleep 60", err: "no end within"},
	} {
		bin := filepath.Join(t.TempDir(), "sim")
		if test.script != "" {
			if err := os.WriteFile(bin, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		h := hunter{options: options{parallel: 1, timeout: time.Minute}}
		if test.name == "endless" {
			h.timeout = 100 * time.Millisecond
		}
		found, seeds, err := h.call(context.Background(), bin, nil)
		if found != test.found || seeds != test.seeds || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %+v in %d seeds, %v; want %+v in %d, %s", test.name, found, seeds, err, test.found, test.seeds, test.err)
		}
	}
}

// TestAcquit does not let a seed count that is broken anyway.
func TestAcquit(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "sim")
	script := "#!/bin/sh\ncase \"$*\" in '-from 3 -seeds 1 '*) echo 'sim: seed 3: 1s sick: node1'; exit 1;; esac\n"
	if err := os.WriteFile(bin, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h := hunter{options: options{parallel: 1, timeout: time.Minute}, clean: bin}
	if err := h.acquit(context.Background(), "3"); err == nil || !strings.Contains(err.Error(), "without the mutant too") {
		t.Errorf("a seed that is broken anyway: %v", err)
	}
	if err := h.acquit(context.Background(), "4"); err != nil {
		t.Errorf("a clean seed: %v", err)
	}
}

func TestTable(t *testing.T) {
	rows := []row{
		{mutant: mutants.Mutant{Name: "found", Expect: "sick: nobody"}, found: finding{"17", "1s coverage: none", "coverage"}, hits: 4},
		{mutant: mutants.Mutant{Name: "missed", Expect: "pipe: one"}},
		{mutant: mutants.Mutant{Name: "stuck", Expect: "steady: some"}, err: errors.New("no end")},
	}
	var b bytes.Buffer
	printTable(&b, rows, 300)
	want := `MUTANT  SEED       FOUND IN  BY        EXPECTED
found   17         4 of 300  coverage  sick
missed  NOT FOUND  0 of 300  -         pipe
stuck   error      -         -         steady
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if err := verdict(rows, 20000); err == nil || err.Error() != "2 of 3 mutants were not found within 20000 seeds: missed, stuck" {
		t.Errorf("verdict: %v", err)
	}
	if err := verdict(rows[:1], 20000); err != nil {
		t.Errorf("verdict where all were found: %v", err)
	}
}

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{args: []string{"-list", "-only", "^no-overlap$"}, stdout: "no-overlap (daemon/state.go)\n"},
		{args: []string{"-list", "-only", "nothing-like-it"}, code: 1, stderr: "no mutant matches"},
		{args: []string{"-only", "("}, code: 2, stderr: "missing closing"},
		{args: []string{"-limit", "0"}, code: 2, stderr: "positive"},
		{args: []string{"word"}, code: 2, stderr: "only flags"},
		{args: []string{"-h"}, stderr: "-limit"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), test.args, &stdout, &stderr)
		if code != test.code || !strings.HasPrefix(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: exit code %d\nstdout: %s\nstderr: %s", test.args, code, stdout.String(), stderr.String())
		}
	}
}

// TestHunt finds a bug with the real simulator.
func TestHunt(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the simulator twice")
	}
	var stdout, stderr bytes.Buffer
	args := []string{"-root", "../../..", "-only", "^unknown-health-is-sick$", "-limit", "100", "-count", "10"}
	if code := run(context.Background(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout.String(), stderr.String())
	}
	if !strings.Contains(stdout.String(), " of 10 ") || strings.Contains(stdout.String(), " 0 of 10 ") {
		t.Errorf("the bug is not counted:\n%s", stdout.String())
	}
}
