// Sim plays a cluster of exazk on a virtual clock, thousands of hostile lives of five minutes each, and checks the promises at
// every step.
//
//	sim [-from N] [-seeds N] [-parallel N] [-count]    play many seeds; stops at the first violation, unless -count
//	sim -seed N [-shrink] [-svg FILE]                  play one, and tell its story
//	sim -script FILE [-svg FILE]                       play a script: what -shrink prints
//
// The exit code is 0 if no promise was broken, 1 if one was, and 2 on wrong usage.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"exazk/sim"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are the command line.
type options struct {
	from, seeds, seed uint64
	parallel          int
	count, shrink     bool
	script, svg       string
}

// run is main with its surroundings given; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.from, "from", 1, "first seed")
	flags.Uint64Var(&o.seeds, "seeds", 10000, "how many seeds")
	flags.Uint64Var(&o.seed, "seed", 0, "play this seed only, and tell its story")
	flags.IntVar(&o.parallel, "parallel", runtime.NumCPU(), "runs at the same time")
	flags.BoolVar(&o.count, "count", false, "go on after a violation, say so, and count them")
	flags.BoolVar(&o.shrink, "shrink", false, "with -seed: leave out the faults that do not matter, print the script, then its story")
	flags.StringVar(&o.script, "script", "", "play this `file`")
	flags.StringVar(&o.svg, "svg", "", "with -seed or -script: draw the run into this `file`")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0 || o.parallel < 1 || o.seed > 0 && o.script != "":
		fmt.Fprintln(stderr, "sim: only flags are taken, -parallel is positive, and -seed excludes -script")
		return 2
	case o.seed > 0 || o.script != "":
		err = o.one(stdout)
	default:
		err = o.many(stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "sim: %v\n", err)
		return 1
	}
	return 0
}

// one plays one plan and tells its story.
func (o options) one(stdout io.Writer) error {
	p := sim.Draw(o.seed)
	if o.script != "" {
		text, err := os.ReadFile(o.script)
		if err != nil {
			return err
		}
		if p, err = sim.Parse(string(text)); err != nil {
			return fmt.Errorf("%s: %w", o.script, err)
		}
	}
	if o.shrink {
		p = sim.Shrink(p)
	}
	fmt.Fprintln(stdout, p)
	r := sim.Play(p, true)
	for _, line := range r.Story {
		fmt.Fprintln(stdout, line)
	}
	if o.svg != "" {
		if err := os.WriteFile(o.svg, sim.Picture(p, r), 0o644); err != nil {
			return err
		}
	}
	if r.Violation != nil {
		return errors.New(r.Violation.String())
	}
	return nil
}

// found is a violation and its seed.
type found struct {
	seed uint64
	what string
}

// tally is what became of many runs.
type tally struct {
	mu         sync.Mutex
	played     uint64
	faults     int
	steps      uint64
	violations map[string]uint64
	first      map[string]found // by invariant
}

func (t *tally) add(seed uint64, r sim.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.played++
	t.faults += r.Faults
	t.steps += r.Steps
	if v := r.Violation; v != nil {
		t.violations[v.Invariant]++
		if f, ok := t.first[v.Invariant]; !ok || seed < f.seed {
			t.first[v.Invariant] = found{seed, v.String()}
		}
	}
}

// many plays many seeds.
func (o options) many(stdout, stderr io.Writer) error {
	debug.SetGCPercent(3200) // the runs are short and leave much behind: some 150 MB are in use
	t := tally{violations: map[string]uint64{}, first: map[string]found{}}
	var next atomic.Uint64
	next.Store(o.from)
	var stop atomic.Bool
	began := time.Now()
	var wg sync.WaitGroup
	for range o.parallel {
		wg.Go(func() {
			player := sim.NewPlayer()
			for !stop.Load() {
				seed := next.Add(1) - 1
				if seed >= o.from+o.seeds {
					return
				}
				r := player.Play(sim.Draw(seed), false)
				t.add(seed, r)
				switch {
				case r.Violation == nil:
				case o.count:
					fmt.Fprintf(stderr, "seed %d: %v\n", seed, r.Violation)
				default:
					stop.Store(true)
				}
				if n := seed - o.from + 1; n%50000 == 0 {
					fmt.Fprintf(stderr, "%d seeds, %.0f a second\n", n, float64(n)/time.Since(began).Seconds())
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	fmt.Fprintf(stdout, "sim: %d seeds from %d, each %v, %d faults, %d steps; %.0f seeds a second with %d at a time\n",
		t.played, o.from, sim.Length, t.faults, t.steps, float64(t.played)/took.Seconds(), o.parallel)
	var n uint64
	least := found{}
	for _, word := range slices.Sorted(maps.Keys(t.violations)) {
		f := t.first[word]
		fmt.Fprintf(stdout, "%8d x %s, first in seed %d: %s\n", t.violations[word], word, f.seed, f.what)
		if n == 0 || f.seed < least.seed {
			least = f
		}
		n += t.violations[word]
	}
	fmt.Fprintf(stdout, "sim: %d violations\n", n)
	if n > 0 {
		return fmt.Errorf("seed %d: %s (its story: sim -seed %d -shrink)", least.seed, least.what, least.seed)
	}
	return nil
}
