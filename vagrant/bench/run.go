package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"exazk/vagrant/lab"
	"exazk/vagrant/probe/report"
)

const (
	probeEvery = 2 * time.Millisecond
	// lead is how long the prober runs before the first thing happens.
	lead = time.Second
	// steadyLimit is how long a scenario may take to get where it belongs before the run has failed.
	steadyLimit = 60 * time.Second
	// ExaBGP 4.2 ends itself when a process of it was started more than 5 times within a clock's period of 64 s
	// (reactor/api/processes.py). So a load balancer gets no more ends of its process in that time.
	respawns, respawnTime = 4, 64 * time.Second
)

// bench is what all runs share.
type bench struct {
	opt      options
	dir      string // of the programs and labs
	programs string
	out      io.Writer // what is going on, a line each

	mu      sync.Mutex
	results results
}

// kind is what a lab must be for a scenario.
type kind struct {
	variant  variant
	ensemble bool
}

// worker plays runs one after the other. It has at most one lab at a time.
type worker struct {
	*bench
	name  string // of its labs
	built int
	kind  kind
	lab   *lab.Lab
	ends  map[string][]time.Time // of processes of ExaBGP, by load balancer
}

// down takes the worker's lab down, if there is one.
func (w *worker) down() error {
	if w.lab == nil {
		return nil
	}
	l := w.lab
	w.lab = nil
	return l.Down()
}

// raise sees to it that there is a lab of that kind.
func (w *worker) raise(ctx context.Context, k kind) error {
	if w.lab != nil && w.kind == k {
		return nil
	}
	if err := w.down(); err != nil {
		return err
	}
	w.built++
	o := lab.Options{
		Prefix: fmt.Sprintf("%s%d", w.name, w.built), ZKServers: 1, Prepare: sickCheck,
		ExazkBinary: filepath.Join(w.programs, "exazk"), WebBinary: filepath.Join(w.programs, "web"), ProbeBinary: filepath.Join(w.programs, "probe"),
		ConfigDir: filepath.Join(w.opt.root, "configs"), BirdDir: filepath.Join(w.opt.root, "vagrant", "bird"),
	}
	o.Dir = filepath.Join(w.dir, o.Prefix)
	o.Standby = k.variant == standby
	if k.ensemble {
		o.ZKServers = 3
	}
	if k.variant == anycast {
		var err error
		if o.ExaBGPConf, err = anycastConfs(o.ConfigDir); err != nil {
			return err
		}
		o.Without = []string{lab.DaemonZooKeeper}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	w.lab, w.kind, w.ends = l, k, map[string][]time.Time{}
	return nil
}

// sickCheck makes the load balancers' check fail while the file sick is there, besides its own reasons.
func sickCheck(l *lab.Lab) error {
	const path = "/usr/local/bin/check_local_nginx.sh"
	for _, lb := range lab.Balancers() {
		script, err := os.ReadFile(l.Host(lb).Path(path))
		if err != nil {
			return err
		}
		first, rest, _ := strings.Cut(string(script), "\n")
		script = fmt.Appendf(nil, "%s\ntest ! -e %s || exit 1\n%s", first, sick, rest)
		if err := l.Host(lb).WriteFile(path, script, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// playAll plays a scenario as often as asked for and keeps the results.
func (w *worker) playAll(ctx context.Context, s scenario, v variant, n int) {
	var all []result
	for i := range n {
		if ctx.Err() != nil {
			return
		}
		victim := lab.Balancers()[i%3]
		if v == anycast {
			victim = "lb1"
		}
		r := w.playOnce(ctx, s, v, victim, i)
		if ctx.Err() != nil {
			return
		}
		all = append(all, r)
		if r.Error == "" && r.starved() {
			r := w.playOnce(ctx, s, v, victim, i)
			r.Repeat = true
			all = append(all, r)
		}
	}
	for i := range len(all) - 1 {
		all[i].Report, all[i].Marks = nil, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results.replace(s.name, v, all)
	if err := w.results.write(w.opt.json); err != nil {
		fmt.Fprintf(w.out, "bench: keep the results: %v\n", err)
	}
}

// playOnce plays one run. After one that failed, what a person wants to see is in the output directory, and the lab is gone.
func (w *worker) playOnce(ctx context.Context, s scenario, v variant, victim string, n int) result {
	r := result{Scenario: s.name, Variant: v, Began: time.Now().Truncate(time.Second), Victim: victim}
	err := w.raise(ctx, kind{v, s.ensemble})
	if err == nil {
		err = w.wait(ctx, victim, s)
	}
	if err == nil {
		err = w.play(ctx, s, &r)
	}
	faults := s.limits.faults(r)
	if err != nil {
		r.Error = err.Error()
		faults = s.limits.faults(r)
	}
	verdict := ""
	if len(faults) > 0 && ctx.Err() == nil {
		verdict = "  BEYOND ITS LIMITS: " + strings.Join(faults, "; ")
		w.dump(s, r, n)
	}
	fmt.Fprintf(w.out, "%s  %-22s %-8s %3d  %s  lost %d of %d, skipped %d, gap %v, steady %v, routes %v %s%s\n", time.Now().Format("15:04:05"),
		s.name, v, n+1, victim, r.Lost, r.Sent, r.Skipped, ms(r.Gap), ms(r.Steady), r.Updates, strings.Join(r.Notes, "; "), verdict)
	if err != nil {
		if err := w.down(); err != nil {
			fmt.Fprintf(w.out, "bench: %v\n", err)
		}
	}
	return r
}

// wait waits until ExaBGP on the victim would bear the ends of its process that the scenario brings.
func (w *worker) wait(ctx context.Context, lb string, s scenario) error {
	recent := w.ends[lb]
	for len(recent) > 0 && time.Since(recent[0]) > respawnTime {
		recent = recent[1:]
	}
	var err error
	if len(recent) >= respawns {
		fmt.Fprintf(w.out, "bench: %s waits, for ExaBGP counts how often its process ends\n", lb)
		err = (&take{ctx: ctx}).pause(time.Until(recent[0].Add(respawnTime)))
		recent = recent[1:]
	}
	if s.ends {
		recent = append(recent, time.Now())
	}
	w.ends[lb] = recent
	return err
}

func (w *worker) play(ctx context.Context, s scenario, r *result) (err error) {
	t := &take{ctx: ctx, lab: w.lab, variant: r.Variant, victim: r.Victim, program: filepath.Join(w.programs, "exazk")}
	if _, err := t.await(steadyLimit, (*take).steady); err != nil {
		return fmt.Errorf("before it begins: %w", err)
	}
	if _, err := t.steps(s.before); err != nil {
		return fmt.Errorf("in preparation: %w", err)
	}
	if t.variant == exazk && len(s.before) == 0 {
		if t.was, err = t.lives(); err != nil {
			return err
		}
	}
	if err := w.observe(t, s, r); err != nil {
		return err
	}
	if _, err := t.steps(s.after); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	if _, err := t.await(steadyLimit, (*take).steady); err != nil {
		return fmt.Errorf("after its end: %w", err)
	}
	return nil
}

// observe plays what counts, and fills the result also where that fails.
func (w *worker) observe(t *take, s scenario, r *result) error {
	t.marks = nil
	t.updates = startCounter(t.ctx, t.lab)
	p, err := startProber(t)
	if err != nil {
		t.updates.end()
		return err
	}
	err = t.pause(lead)
	if err == nil {
		r.Steady, err = t.steps(s.during)
	}
	t.updates.end()
	rep, probed := p.end()
	if probed == nil {
		r.count(rep, t)
		if len(t.marks) > 0 && t.marks[0].At.Before(rep.Began.Add(lead/4)) {
			probed = errors.New("the prober was not at work when it began")
		}
	}
	return errors.Join(err, probed)
}

// count puts into the result what the prober and the counters saw.
func (r *result) count(rep report.Report, t *take) {
	for _, s := range rep.Series {
		r.Sent += s.Sent
		r.Lost += s.Lost
		r.Skipped += s.Skipped
		r.Gap = max(r.Gap, s.LongestGap)
	}
	for _, lb := range lab.Balancers() {
		if lb == t.victim {
			r.Updates[0] = t.updates.of(lb)
		} else {
			r.Updates[1] = max(r.Updates[1], t.updates.of(lb))
		}
	}
	r.Notes, r.Report, r.Marks = t.notes, &rep, t.marks
}

// steps plays steps and returns how long the last one that waits for something waited.
func (t *take) steps(all []step) (waited time.Duration, err error) {
	for _, st := range all {
		if st.text != "" {
			t.mark(st.text)
		}
		if st.do != nil {
			if err := st.do(t); err != nil {
				return 0, err
			}
		}
		if st.until != nil {
			if waited, err = t.await(steadyLimit, st.until); err != nil {
				return waited, fmt.Errorf("%s: %w", st.text, err)
			}
		}
		if err := t.watch(st); err != nil {
			return waited, fmt.Errorf("%s: %w", st.text, err)
		}
	}
	return waited, nil
}

// watch waits out the hold of a step. The baseline knows no "throughout": its process announces again at every check.
func (t *take) watch(st step) error {
	if st.throughout == nil || t.variant == anycast {
		return t.pause(st.hold)
	}
	for start := time.Now(); time.Since(start) < st.hold; {
		if err := st.throughout(t); err != nil {
			return fmt.Errorf("%v later: %w", ms(time.Since(start)), err)
		}
		if err := t.pause(100 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// prober is the client at work.
type prober struct {
	cmd         *exec.Cmd
	out, stderr bytes.Buffer
}

// startProber starts the client before all else on this machine: what it measures shall not be how busy that is.
func startProber(t *take) (*prober, error) {
	argv := []string{"chrt", "--fifo", "10", "probe", "-every", probeEvery.String(), "-timeout", "1s"}
	for _, vip := range lab.VIPs() {
		argv = append(argv, "-vip", vip.String())
	}
	p := &prober{}
	p.cmd = t.lab.Host("client").Command(t.ctx, argv...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.stderr
	return p, p.cmd.Start()
}

// end stops the client and returns what it found. It waits a second at most for answers that are still out.
func (p *prober) end() (report.Report, error) {
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return report.Report{}, errors.Join(fmt.Errorf("stop the prober: %w", err), p.cmd.Wait())
	}
	if err := p.cmd.Wait(); err != nil {
		return report.Report{}, fmt.Errorf("prober: %w: %s", err, p.stderr.String())
	}
	return report.Read(&p.out)
}

// dump writes tables and logs of a run into the output directory.
func (w *worker) dump(s scenario, r result, n int) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, %s, run %d, %s\n", s.name, r.Variant, n+1, r.Victim)
	for _, f := range s.limits.faults(r) {
		fmt.Fprintln(&b, f)
	}
	for _, m := range r.Marks {
		fmt.Fprintf(&b, "%s  %s\n", m.At.Format("15:04:05.000"), m.Text)
	}
	if r.Report != nil {
		for _, series := range r.Report.Series {
			fmt.Fprintln(&b, series)
			for _, l := range series.Losses {
				fmt.Fprintf(&b, "  lost %d from %s to %s\n", l.Lost, l.From.Format("15:04:05.000"), l.To.Format("15:04:05.000"))
			}
			for _, turn := range series.Turns {
				fmt.Fprintf(&b, "  %s from %s to %s\n", turn.Node, turn.From.Format("15:04:05.000"), turn.To.Format("15:04:05.000"))
			}
		}
	}
	if w.lab != nil {
		for _, router := range lab.Routers() {
			table, err := w.lab.Birdc(router, "show route all table master4")
			fmt.Fprintf(&b, "-- routes of %s (%v)\n%s", router, err, table)
		}
		for _, log := range w.lab.Logs() {
			host, name := filepath.Base(filepath.Dir(log)), strings.TrimSuffix(filepath.Base(log), ".log")
			fmt.Fprintf(&b, "-- end of %s's %s.log\n%s\n", host, name, w.lab.Host(host).LogTail(name, 100))
		}
	}
	path := filepath.Join(w.opt.out, "failover", "failed", fmt.Sprintf("%s-%s-%d.txt", s.name, r.Variant, n+1))
	if err := writeFile(path, b.Bytes()); err != nil {
		fmt.Fprintf(w.out, "bench: %v\n", err)
	}
}
