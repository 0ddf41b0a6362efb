package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"exazk/sim/mutants"
)

// The command line of the simulator and what it prints are known in these lines only.
const simulator = "exazk/sim/cmd/sim"

// untilFirst has it play n seeds, and stop at one that breaks a promise.
func untilFirst(from string, n uint64) []string {
	return []string{"-from", from, "-seeds", strconv.FormatUint(n, 10)}
}

// throughAll has it play n seeds and count those that break a promise.
func throughAll(n uint64) []string {
	return append(untilFirst("1", n), "-count")
}

// exitBroken is its exit code where a promise was broken; 0 where none was.
const exitBroken = 1

var (
	// reported knows "sim: seed 17: 1m45.2s served: nobody answers ... (its story: ...)": the seed, and the promise by its name.
	reported = regexp.MustCompile(`(?m)^sim: seed (\d+): ((?:\d\S* )?([a-z-]+): .*?)(?: \(its story: .*\))?$`)
	// counted knows "sim: 4 violations": in so many seeds.
	counted = regexp.MustCompile(`(?m)^sim: (\d+) violations$`)
)

// finding is a promise that a seed found broken; its zero value is that nothing was.
type finding struct {
	seed, text, invariant string
}

func (f finding) any() bool { return f.seed != "" }

// findings reads what the simulator printed: one of the seeds that found something, and in how many there was something.
func findings(out string) (found finding, seeds uint64) {
	if m := reported.FindStringSubmatch(out); m != nil {
		found = finding{seed: m[1], text: m[2], invariant: m[3]}
	}
	if m := counted.FindStringSubmatch(out); m != nil {
		seeds, _ = strconv.ParseUint(m[1], 10, 64)
	}
	return found, seeds
}

// hunter builds and plays mutants.
type hunter struct {
	options
	dir   string // for what is built
	clean string // the simulator without a mutant
}

// play finds a mutant and counts.
func (h hunter) play(ctx context.Context, m mutants.Mutant) row {
	r := row{mutant: m}
	r.found, r.hits, r.err = h.search(ctx, m)
	return r
}

func (h hunter) search(ctx context.Context, m mutants.Mutant) (finding, uint64, error) {
	dir := filepath.Join(h.dir, m.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return finding{}, 0, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.Plant(h.root, dir)
	if err != nil {
		return finding{}, 0, err
	}
	bin, err := h.build(ctx, m.Name+"/sim", overlay)
	if err != nil {
		return finding{}, 0, err
	}
	found, err := h.first(ctx, bin, 1, h.limit)
	if err != nil || !found.any() {
		return found, 0, err
	}
	if found.invariant != panicked {
		if err := h.acquit(ctx, found.seed); err != nil {
			return found, 0, err
		}
	}
	if h.count == 0 || found.invariant == panicked {
		return found, 0, nil
	}
	_, hits, err := h.call(ctx, bin, throughAll(h.count))
	return found, hits, err
}

// acquit checks that a seed is clean without a mutant.
func (h hunter) acquit(ctx context.Context, seed string) error {
	found, _, err := h.call(ctx, h.clean, untilFirst(seed, 1))
	if err == nil && found.any() {
		err = fmt.Errorf("seed %s breaks a promise without the mutant too: %s", seed, found.text)
	}
	return err
}

// first plays n seeds until one breaks a promise.
func (h hunter) first(ctx context.Context, bin string, from, n uint64) (finding, error) {
	found, _, err := h.call(ctx, bin, untilFirst(strconv.FormatUint(from, 10), n))
	return found, err
}

// build makes the simulator with an overlay, or without one where that is empty.
func (h hunter) build(ctx context.Context, name, overlay string) (string, error) {
	bin := filepath.Join(h.dir, filepath.FromSlash(name))
	args := []string{"build", "-o", bin}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, simulator)...)
	cmd.Dir = h.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return bin, nil
}

// panicked stands for the promise where a mutant made the simulator itself end.
const panicked = "panic"

// call runs the simulator. The processors are shared out among those that run at the same time. A simulator that a mutant
// made panic has found it too, though no promise is named.
func (h hunter) call(ctx context.Context, bin string, args []string) (found finding, seeds uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append(args, "-parallel", strconv.Itoa(max(1, runtime.NumCPU()/h.parallel)))...)
	out, err := cmd.CombinedOutput()
	found, seeds = findings(string(out))
	switch failed := (*exec.ExitError)(nil); {
	case ctx.Err() != nil:
		return finding{}, 0, fmt.Errorf("sim %s: no end within %v: %w", strings.Join(args, " "), h.timeout, ctx.Err())
	case err == nil && !found.any():
		return finding{}, 0, nil
	case err != nil && !errors.As(err, &failed):
		return finding{}, 0, err
	case cmd.ProcessState.ExitCode() == exitBroken && found.any():
		return found, seeds, nil
	}
	if _, why, ok := strings.Cut(string(out), "panic: "); ok {
		why, _, _ = strings.Cut(why, "\n")
		return finding{seed: "?", text: why, invariant: panicked}, 0, nil
	}
	return finding{}, 0, fmt.Errorf("sim %s: exit code %d\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), out)
}
