// Chaos drives the lab through faults that are drawn from a seed, real parts all of them, and checks from outside that exazk
// keeps its promises.
//
//	chaos [-minutes 10] [-seed S] [-round N | -script FILE] [-faults 45s] [-longest 20s] [-out bin/chaos] [-json FILE]
//
// It goes in rounds of one to two minutes. Each begins in the steady state, has a handful of faults of sim/fault at
// their instants (-faults is the time for them), and must come back to the steady state. Round n of a seed has the same faults
// every time: -round plays it alone. With -script the one round has the faults of a file, one a line, as the story shows them.
//
// A client sends a numbered datagram to each VIP every 5 ms throughout; the tables of all routers, the claims and status
// records in ZooKeeper are looked at ten times a second. From that and from what it did itself, the driver judges after each
// round (check.go):
//
//   - a sick node announces nothing for longer than it takes to notice;
//   - a drained one nothing after drain_timeout;
//   - no VIP goes unanswered for longer than it takes to notice a failure, while nothing changes and there is a node that
//     could take it over;
//   - what is planned loses nothing, as long as one node is left alone and nothing unplanned is near;
//   - a claim has its route;
//   - nothing but VIPs is announced;
//   - everything comes back to the steady state in time, with no word of an operator and no process left over;
//   - no log has a panic or a bug in it.
//
// The story goes to stderr, the result as JSON to -json. A round in which something was violated ends the run; its story, its
// script and all logs are kept in a directory below -out. When the driver itself was not run for a while, nothing near to that
// is judged, for other processes may have been as late.
//
// It needs root, for the lab, and the Go tool, to build exazk, the web server and the prober from the sources in -root. The exit
// code is 0 if nothing was violated, 1 if something was or on errors, and 2 on wrong usage.
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
	"syscall"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// options are the command line.
type options struct {
	length  time.Duration // of the run; at least one round is played
	seed    uint64
	round   int // the only one to play; 0 for all, from 1
	script  []fault.Fault
	lengths length
	out     string
	json    string
	root    string
}

// run is main with its surroundings given; it returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "chaos: %v\n", err)
		return 2
	}
	ok, err := o.chaos(ctx, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "chaos: %v\n", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	minutes := flags.Float64("minutes", 10, "begin no round after that `time`")
	flags.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()), "`number` that all faults follow from")
	flags.IntVar(&o.round, "round", 0, "play this round only, from 1; 0 for all")
	script := flags.String("script", "", "play the faults of a `file` once, in place of a seed's")
	flags.DurationVar(&o.lengths.faults, "faults", 45*time.Second, "`time` in a round for faults")
	flags.DurationVar(&o.lengths.longest, "longest", 20*time.Second, "`length` of the longest fault")
	flags.StringVar(&o.out, "out", filepath.Join("bin", "chaos"), "`directory` for what is left of a round in which something was violated")
	flags.StringVar(&o.json, "json", filepath.Join("bin", "chaos.json"), "`file` of the result")
	flags.StringVar(&o.root, "root", ".", "`directory` of the sources")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.length = time.Duration(*minutes * float64(time.Minute))
	if flags.NArg() > 0 || o.round < 0 || o.length < 0 || o.lengths.faults < time.Second || o.lengths.longest < time.Millisecond {
		return o, errors.New("only flags are taken; -minutes and -round are not negative, -faults is a second at least, and -longest a millisecond")
	}
	var err error
	if *script != "" {
		if o.script, err = openScript(*script); err != nil {
			return o, err
		}
	}
	o.root, err = filepath.Abs(o.root)
	return o, err
}

func openScript(name string) ([]fault.Fault, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	faults, err := readScript(f)
	if err == nil && len(faults) == 0 {
		err = errors.New("no fault is in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return faults, nil
}

// chaos plays all rounds and says whether nothing was violated. It takes the lab down whatever happens.
func (o options) chaos(ctx context.Context, out io.Writer) (ok bool, err error) {
	if os.Geteuid() != 0 {
		return false, errors.New("the lab needs root")
	}
	if err := lab.Missing(); err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "exazk-chaos-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	programs := filepath.Join(dir, "programs")
	if err := build(ctx, o.root, programs); err != nil {
		return false, err
	}
	d := &driver{options: o, out: out, prefix: fmt.Sprintf("xc%d", os.Getpid()), ends: map[int][]time.Time{}}
	if d.lab, err = d.raise(ctx, dir, programs); err != nil {
		return false, err
	}
	err = d.playAll(ctx)
	return len(d.result.violations()) == 0, errors.Join(err, d.lab.Down(), d.result.write(o.json), d.close())
}

// build builds the programs of the lab's hosts, static, as they are shipped.
func build(ctx context.Context, root, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", to+"/", ".", "./vagrant/web", "./vagrant/probe")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}
