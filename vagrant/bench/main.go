// Bench plays what may happen to a cluster of load balancers in the lab, measures from a client what it costs, and writes
// docs/failover.md with a table and a picture of each scenario.
//
//	bench [-runs N] [-only REGEXP] [-out docs] [-json bin/failover.json] [-parallel 1]
//	bench -page [-out docs] [-json bin/failover.json]
//
// It needs root, for the lab, and the Go tool, to build exazk, the web server and the prober from the sources in -root. A
// scenario is played -runs times; by default 20 times where nothing may be lost, 5 times else and in the baseline, and once
// where it takes three minutes.
//
// The results of all runs are kept in the file -json, also those of earlier calls about other scenarios, and the page is
// made of all of them; with -page it is made without a run. What a run that failed or went beyond its limits looked like is
// in OUT/failover/failed.
//
// The exit code is 0 if every run that was asked for kept its limits, 1 if not or on errors, and 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"exazk/vagrant/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// options are the command line.
type options struct {
	runs     int // 0: the defaults
	only     *regexp.Regexp
	out      string
	json     string
	root     string
	parallel int
	page     bool
}

// run is main with its surroundings given; it returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	if err := o.bench(ctx, stderr); err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.runs, "runs", 0, "runs of each scenario; 0 for 20 where nothing may be lost, 1 of three minutes and 5 else")
	only := flags.String("only", "", "`regexp` of the scenarios to play, \"name\", \"name-standby\" and \"name-anycast\"; empty for all")
	flags.StringVar(&o.out, "out", "docs", "`directory` of failover.md and failover/")
	flags.StringVar(&o.json, "json", filepath.Join("bin", "failover.json"), "`file` of the raw results")
	flags.StringVar(&o.root, "root", ".", "`directory` of the sources")
	flags.IntVar(&o.parallel, "parallel", 1, "labs at work at the same time; more than one only where processors are idle")
	flags.BoolVar(&o.page, "page", false, "make the page of the raw results, without a run")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.runs < 0 || o.parallel < 1 {
		return o, errors.New("only flags are taken, -runs is not negative and -parallel is positive")
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, err
	}
	o.root, err = filepath.Abs(o.root)
	return o, err
}

// job is a scenario to be played.
type job struct {
	scenario scenario
	variant  variant
	runs     int
}

// isFor says whether a scenario is played on a kind of lab.
func (s scenario) isFor(k kind) bool {
	switch k.variant {
	case standby:
		return s.standby
	case anycast:
		return s.anycast
	}
	return s.ensemble == k.ensemble && !s.fabric
}

// jobs lists what is asked for: those on the same kind of lab next to each other, since a lab takes a while to build.
func (o options) jobs() []job {
	var all []job
	for _, k := range []kind{{exazk, false}, {exazk, true}, {standby, false}, {anycast, false}} {
		for _, s := range scenarios() {
			name := strings.TrimSuffix(pictureName(s.name, k.variant), ".svg")
			if !s.isFor(k) || !o.only.MatchString(name) {
				continue
			}
			j := job{s, k.variant, 5}
			if k.variant == exazk && s.limits.gap == 0 && !s.limits.manyUpdates {
				j.runs = 20
			}
			if s.limits.manyUpdates {
				j.runs = 1 // of three minutes
			}
			if o.runs > 0 {
				j.runs = o.runs
			}
			all = append(all, j)
		}
	}
	return all
}

func (o options) bench(ctx context.Context, out io.Writer) error {
	kept, err := readResults(o.json)
	if err != nil {
		return err
	}
	if o.page {
		return writePage(o.out, kept, scenarios())
	}
	jobs := o.jobs()
	if len(jobs) == 0 {
		return fmt.Errorf("no scenario matches %q", o.only)
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root")
	}
	if err := lab.Missing(); err != nil {
		return err
	}
	b := &bench{opt: o, out: out, results: kept}
	b.results.Machine = machine(ctx)
	if b.dir, err = os.MkdirTemp("", "exazk-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.programs = filepath.Join(b.dir, "programs")
	if err := b.build(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(o.out, "failover", "failed")); err != nil {
		return err
	}
	if err := b.work(ctx, jobs); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("broken off; what was finished is kept")
	}
	if err := writePage(o.out, b.results, scenarios()); err != nil {
		return err
	}
	return b.verdict(jobs)
}

// build builds the programs of the lab's hosts, static, as they are shipped.
func (b *bench) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.programs+"/", ".", "./vagrant/web", "./vagrant/probe")
	cmd.Dir = b.opt.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// work plays the jobs, and takes down all labs whatever happens.
func (b *bench) work(ctx context.Context, jobs []job) error {
	queue := make(chan job)
	var workers sync.WaitGroup
	failed := make([]error, b.opt.parallel)
	for i := range b.opt.parallel {
		// Short, for it becomes part of names, and unlike that of any other run on this machine.
		w := &worker{bench: b, name: fmt.Sprintf("xb%d%c", os.Getpid(), 'a'+i%26)}
		workers.Go(func() {
			for j := range queue {
				w.playAll(ctx, j.scenario, j.variant, j.runs)
			}
			failed[i] = w.down()
		})
	}
	for _, j := range jobs {
		queue <- j // after an interrupt, it is taken at once and not played
	}
	close(queue)
	workers.Wait()
	return errors.Join(failed...)
}

// verdict lists what went beyond its limits in the scenarios that were played.
func (b *bench) verdict(jobs []job) error {
	played := results{}
	for _, j := range jobs {
		played.Runs = append(played.Runs, b.results.of(j.scenario.name, j.variant)...)
	}
	if faults := played.violations(scenarios()); len(faults) > 0 {
		return fmt.Errorf("%d times beyond the limits:\n  %s", len(faults), strings.Join(faults, "\n  "))
	}
	return nil
}

// machine says what the figures were measured on.
func machine(ctx context.Context) string {
	text := fmt.Sprintf("%s, %d processors, %s/%s", time.Now().Format("2006-01-02"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	for _, p := range []struct{ name, pkg string }{{"ExaBGP", "exabgp"}, {"BIRD", "bird2"}, {"ZooKeeper", "zookeeper"}} {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", p.pkg).Output()
		if err == nil {
			text += fmt.Sprintf(", %s %s", p.name, out)
		}
	}
	return text
}
