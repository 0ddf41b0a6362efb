// Mutants shows what the simulator is worth: it builds it once with each planted bug of package mutants, has it play seeds until
// one finds the bug, and counts how many seeds do.
//
//	mutants [-limit N] [-count N] [-only REGEXP] [-parallel N] [-timeout D] [-root DIR]
//	mutants -list [-only REGEXP]
//
// The unchanged program plays each seed that found something too, and must be clean: else the bug is not what was found.
//
// The exit code is 0 if every mutant was found, 1 if not or on errors, and 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"exazk/sim/mutants"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the command line.
type options struct {
	limit    uint64 // seeds until a mutant counts as not found
	count    uint64 // seeds in which findings are counted; 0: none
	only     *regexp.Regexp
	parallel int
	timeout  time.Duration // of each call of the simulator
	root     string
	list     bool
}

// run is main with its surroundings given; it returns the exit code. The table goes to stdout, what happens meanwhile to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "mutants: %v\n", err)
		return 2
	}
	chosen := slices.DeleteFunc(mutants.All(), func(m mutants.Mutant) bool { return !o.only.MatchString(m.Name) })
	switch {
	case len(chosen) == 0:
		err = fmt.Errorf("no mutant matches %q", o.only)
	case o.list:
		printList(stdout, chosen)
	default:
		err = o.hunt(ctx, chosen, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "mutants: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&o.limit, "limit", 20000, "seeds, from 1, within which a mutant must be found")
	flags.Uint64Var(&o.count, "count", 300, "seeds, from 1, in which findings are counted; 0 for none")
	only := flags.String("only", "", "`regexp` of the names of the mutants; empty for all")
	flags.IntVar(&o.parallel, "parallel", 2, "mutants that are played at the same time")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Minute, "for one mutant's seeds; one that takes longer is an error")
	flags.StringVar(&o.root, "root", ".", "`directory` of the sources")
	flags.BoolVar(&o.list, "list", false, "only say what the mutants are")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.limit < 1 || o.parallel < 1 || o.timeout <= 0 {
		return o, errors.New("only flags are taken, and -limit, -parallel and -timeout are positive")
	}
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

func printList(to io.Writer, chosen []mutants.Mutant) {
	for _, m := range chosen {
		fmt.Fprintf(to, "%s (%s)\n    %s\n    breaks %s\n", m.Name, m.File, m.What, m.Expect)
	}
}

// row is what became of a mutant.
type row struct {
	mutant mutants.Mutant
	found  finding
	hits   uint64 // of the seeds that are counted in
	err    error
}

// hunt plays all mutants and prints the table.
func (o options) hunt(ctx context.Context, chosen []mutants.Mutant, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h := hunter{options: o, dir: dir}
	if h.clean, err = h.build(ctx, "clean", ""); err != nil {
		return err
	}
	if o.count > 0 {
		found, err := h.first(ctx, h.clean, 1, o.count)
		if err != nil {
			return err
		}
		if found.any() {
			return fmt.Errorf("the program without a mutant breaks a promise: seed %s: %s", found.seed, found.text)
		}
	}
	rows := h.playAll(ctx, chosen, stderr)
	printTable(stdout, rows, o.count)
	return verdict(rows, o.limit)
}

// playAll plays so many mutants at a time as was asked for, and gives their rows in the order of the table.
func (h hunter) playAll(ctx context.Context, chosen []mutants.Mutant, stderr io.Writer) []row {
	rows := make([]row, len(chosen))
	next := make(chan int)
	var mu sync.Mutex // of stderr
	var workers sync.WaitGroup
	for range h.parallel {
		workers.Go(func() {
			for i := range next {
				r := h.play(ctx, chosen[i])
				rows[i] = r
				mu.Lock()
				fmt.Fprintf(stderr, "%s: %s\n", r.mutant.Name, r.outcome())
				mu.Unlock()
			}
		})
	}
	for i := range chosen {
		next <- i
	}
	close(next)
	workers.Wait()
	return rows
}

// outcome is the row in a few words.
func (r row) outcome() string {
	switch {
	case r.err != nil:
		return r.err.Error()
	case !r.found.any():
		return "NOT FOUND"
	}
	return "seed " + r.found.seed + ": " + r.found.text
}

func printTable(to io.Writer, rows []row, count uint64) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MUTANT\tSEED\tFOUND IN\tBY\tEXPECTED")
	for _, r := range rows {
		seed, by := r.found.seed, r.found.invariant
		switch {
		case r.err != nil:
			seed, by = "error", "-"
		case !r.found.any():
			seed, by = "NOT FOUND", "-"
		}
		hits := "-"
		if count > 0 && r.err == nil {
			hits = fmt.Sprintf("%d of %d", r.hits, count)
		}
		expected, _, _ := strings.Cut(r.mutant.Expect, ":")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.mutant.Name, seed, hits, by, expected)
	}
	w.Flush()
}

// verdict is an error that names those that were not found.
func verdict(rows []row, limit uint64) error {
	var missed []string
	for _, r := range rows {
		if r.err != nil || !r.found.any() {
			missed = append(missed, r.mutant.Name)
		}
	}
	if len(missed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d mutants were not found within %d seeds: %s", len(missed), len(rows), limit, strings.Join(missed, ", "))
}
