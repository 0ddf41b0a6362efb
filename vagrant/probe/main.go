// Probe asks the lab's VIPs over and over, from the client, and reports what got lost and who answered.
//
//	probe -vip 10.20.255.1 [-vip ...] [-port 7] [-every 2ms] [-for 10s] [-timeout 1s] [-json FILE]
//	      [-http] [-http-port 80] [-http-every 50ms]
//
// Each VIP gets numbered UDP datagrams, one every -every, which vagrant/web sends back with its name; with -http it gets
// HTTP requests too, each on a connection of its own. A probe is lost if no answer came within -timeout from the address
// that was asked; for HTTP, also if the status is not 200. Errors, such as ICMP's, are losses and end nothing. Sending
// ends after -for (0: never) or at SIGINT or SIGTERM; then the last answers are waited for, at most for -timeout.
//
// The result goes to stdout, or to FILE once it is complete, as JSON: package report defines it. A summary for people goes
// to stderr, and so does a line of progress if stderr is a terminal.
//
// The exit code is 0 however much was lost, 1 if the prober itself failed, and 2 on wrong usage.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"exazk/vagrant/probe/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, terminal))
}

// options are the command line.
type options struct {
	vips              []netip.Addr
	port, httpPort    uint16
	every, httpEvery  time.Duration
	duration, timeout time.Duration
	http              bool
	file              string
}

// run is main with its surroundings given; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) int {
	o, err := parse(args, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "probe: %v\n", err)
		return 2
	}
	if o.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	var progress io.Writer
	if terminal {
		progress = stderr
	}
	rep, err := probeAll(ctx, o, progress)
	if err != nil {
		fmt.Fprintf(stderr, "probe: %v\n", err)
		return 1
	}
	for _, s := range rep.Series {
		fmt.Fprintln(stderr, s)
	}
	if err := deliver(rep, o.file, stdout); err != nil {
		fmt.Fprintf(stderr, "probe: %v\n", err)
		return 1
	}
	return 0
}

// parse reads the command line.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Func("vip", "`address` to probe; may be repeated", func(s string) error {
		a, err := netip.ParseAddr(s)
		o.vips = append(o.vips, a.Unmap())
		return err
	})
	port := flags.Uint("port", 7, "UDP `port`")
	flags.DurationVar(&o.every, "every", 2*time.Millisecond, "`time` between two UDP probes of a VIP")
	flags.DurationVar(&o.duration, "for", 0, "`time` to send for; 0 until a signal")
	flags.DurationVar(&o.timeout, "timeout", time.Second, "`time` after which a probe is lost")
	flags.StringVar(&o.file, "json", "", "`file` for the result, in place of stdout")
	flags.BoolVar(&o.http, "http", false, "probe by HTTP too")
	httpPort := flags.Uint("http-port", 80, "TCP `port`")
	flags.DurationVar(&o.httpEvery, "http-every", 50*time.Millisecond, "`time` between two HTTP probes of a VIP")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var errs []error
	check := func(ok bool, fault string) {
		if !ok {
			errs = append(errs, errors.New(fault))
		}
	}
	check(len(o.vips) > 0, "-vip is required")
	check(flags.NArg() == 0, "only flags are taken")
	check(o.every > 0 && o.httpEvery > 0 && o.timeout > 0, "-every, -http-every and -timeout must be positive")
	check(o.duration >= 0, "-for must not be negative")
	check(*port >= 1 && *port <= 65535 && *httpPort >= 1 && *httpPort <= 65535, "a port is a number from 1 to 65535")
	o.port, o.httpPort = uint16(*port), uint16(*httpPort)
	return o, errors.Join(errs...)
}

// probeAll runs all series at the same time.
func probeAll(ctx context.Context, o options, progress io.Writer) (report.Report, error) {
	rep := report.Report{Began: time.Now()}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var trackers []*tracker
	var wg sync.WaitGroup
	failed := make(chan error, len(o.vips)) // one for each, so that none blocks
	track := func(vip netip.Addr, kind string, every time.Duration) *tracker {
		t := newTracker(report.Series{VIP: vip, Kind: kind, Every: every, Timeout: o.timeout})
		trackers = append(trackers, t)
		return t
	}
	for _, vip := range o.vips {
		udp := track(vip, "udp", o.every)
		wg.Go(func() {
			if err := probeUDP(ctx, netip.AddrPortFrom(vip, o.port), o.every, rand.Text(), udp); err != nil {
				failed <- err
				cancel()
			}
		})
		if !o.http {
			continue
		}
		web := track(vip, "http", o.httpEvery)
		wg.Go(func() { probeHTTP(ctx, netip.AddrPortFrom(vip, o.httpPort), o.httpEvery, o.timeout, web) })
	}
	if progress != nil {
		wg.Go(func() { showProgress(ctx, progress, trackers) })
	}
	wg.Wait()
	close(failed)
	for _, t := range trackers {
		rep.Series = append(rep.Series, t.finish())
	}
	rep.Ended = time.Now()
	return rep, <-failed
}

// showProgress rewrites one line until ctx is done.
func showProgress(ctx context.Context, w io.Writer, trackers []*tracker) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(w)
			return
		case <-tick.C:
			fmt.Fprint(w, "\r\x1b[K"+progressLine(trackers)) // erase to the end of the line
		}
	}
}

func progressLine(trackers []*tracker) string {
	var parts []string
	for _, t := range trackers {
		s, node := t.progress()
		parts = append(parts, fmt.Sprintf("%v %s %s sent %d lost %d", s.VIP, s.Kind, node, s.Sent, s.Lost))
	}
	return strings.Join(parts, " | ")
}

// deliver writes the report. A file appears under its name only when it is complete.
func deliver(rep report.Report, file string, stdout io.Writer) error {
	if file == "" {
		return rep.Write(stdout)
	}
	f, err := os.Create(file + ".part")
	if err != nil {
		return fmt.Errorf("create report: %w", err)
	}
	err = errors.Join(rep.Write(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
