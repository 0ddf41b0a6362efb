package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-zookeeper/zk"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
	"exazk/vagrant/probe/report"
)

const (
	probeEvery = 5 * time.Millisecond
	// sessionsBack bounds the time until all BGP sessions are established when nothing is wrong any more: ExaBGP 4.2 waits up to
	// 60 s before it connects again, and the kernel sends the second half of a handshake that got lost after up to 16 s more.
	sessionsBack = 80 * time.Second
	// steadyAfter is how long everything may take to be as it should after that: the time in which all of a cluster is known
	// again, failback_delay, overlap, and three successes of a check.
	steadyAfter = ensembleBack + longestFailbackDelay + longestOverlap + checkEvery + 3*checkFast + slack
	// steadyFor is how long the steady state is looked at.
	steadyFor = 2 * time.Second
)

// round is one round: faults, and the way back to the steady state.
type round struct {
	lab    *lab.Lab
	faults []fault.Fault
	story  *story
	diary  diary
	nodes  []*node
	zk     []*server
	others sync.WaitGroup // what is done by no worker
}

// outcome is what came of a round.
type outcome struct {
	Faults     []string       `json:"faults"`
	Probes     int            `json:"probes"`
	Lost       int            `json:"lost"`
	Skipped    int            `json:"skipped"`  // never sent: the prober was not run in time
	Gap        float64        `json:"gap_s"`    // the longest time that a VIP was not answered
	Steady     float64        `json:"steady_s"` // from the end of the last fault to the steady state
	Late       float64        `json:"late_s"`   // how long the driver was not run when it should have been
	Length     float64        `json:"length_s"` // of the round
	Violations []violation    `json:"violations"`
	Report     *report.Report `json:"-"`
}

func newRound(l *lab.Lab, faults []fault.Fault, s *story, confs *settings) *round {
	r := &round{lab: l, faults: faults, story: s}
	for i := range lab.Balancers() {
		r.nodes = append(r.nodes, newNode(l, i, confs[i], s, &r.diary))
	}
	for i := range l.ZKServers() {
		r.zk = append(r.zk, &server{lab: l, number: i + 1})
	}
	return r
}

// play plays the round on a lab in its steady state. The error says that it could not be played; what was found wrong is in the
// outcome.
func (r *round) play(ctx context.Context) (outcome, error) {
	var out outcome
	for _, f := range r.faults {
		out.Faults = append(out.Faults, f.String())
	}
	p, err := startProber(ctx, r.lab)
	if err != nil {
		return out, err
	}
	w := watch(ctx, r.lab, r.story)
	r.perform(ctx)
	healed, notSteady := r.story.now(), error(nil)
	if err = r.heal(ctx); err == nil {
		notSteady = r.awaitSteady(ctx, w)
	}
	steady := r.story.now() - steadyFor
	out.Steady = (steady - healed).Seconds()
	w.end()
	rep, probed := p.end()
	if err := errors.Join(err, probed, context.Cause(ctx)); err != nil {
		return out, err
	}
	o := r.observed(w, rep)
	out.count(rep, o)
	r.tellLosses(o)
	if notSteady != nil {
		out.Violations = append(out.Violations, violation{r.story.now().Seconds(), notSteady.Error()})
	} else if !o.late(span{steady, o.end}) {
		out.Violations = append(out.Violations, finallyAnswered(rep, r.story, steady)...)
	}
	out.Violations = append(judge(o), out.Violations...)
	return out, nil
}

// perform carries the faults out at their instants, and returns when all of them are over.
func (r *round) perform(ctx context.Context) {
	type instant struct {
		at time.Duration
		do func()
	}
	var plan []instant
	for _, f := range r.faults {
		d := r.diary.open(f)
		if r.special(ctx, d) {
			continue
		}
		begin, end := r.hands(ctx, d)
		plan = append(plan, instant{f.At, begin})
		if end != nil {
			plan = append(plan, instant{f.End(), end})
		}
	}
	slices.SortStableFunc(plan, func(a, b instant) int { return cmp.Compare(a.at, b.at) })
	for _, p := range plan {
		if !r.sleep(ctx, p.at) {
			break
		}
		p.do()
	}
	for _, n := range r.nodes {
		n.worker.wait.Wait()
		n.wire.wait.Wait()
	}
	for _, s := range r.zk {
		s.worker.wait.Wait()
	}
	r.others.Wait()
}

// sleep waits for an instant of the round; false if ctx ended.
func (r *round) sleep(ctx context.Context, until time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(until - r.story.now()):
		return true
	}
}

// special plays the faults that take more than a beginning and an end: those of operators, who try again until they get
// through, and servers that are restarted one after the other.
func (r *round) special(ctx context.Context, d *deed) bool {
	switch d.Kind {
	case fault.Maintenance, fault.Until, fault.Failback:
		r.others.Go(func() { r.operate(ctx, d) })
	case fault.RollEnsemble:
		r.others.Go(func() { r.roll(ctx, d) })
	default:
		return false
	}
	return true
}

// hands are what has a fault begin and end. Both return at once.
func (r *round) hands(ctx context.Context, d *deed) (begin, end func()) {
	var workers []*worker
	var acts []func(context.Context, int) error
	if d.Kind.OfEnsemble() {
		for i, s := range r.zk {
			if !oneOfMany(d.Kind) || i == d.Server {
				workers = append(workers, &s.worker)
				acts = append(acts, func(ctx context.Context, change int) error { return s.do(ctx, d.Kind, change) })
			}
		}
	} else {
		n := r.nodes[d.Node]
		workers = append(workers, n.workerOf(d.Kind))
		acts = append(acts, func(ctx context.Context, change int) error { return n.do(ctx, d.Fault, change) })
	}
	all := func(change int) func() {
		left := len(acts)
		return func() {
			for i, w := range workers {
				w.do(func() { r.act(ctx, d, change, &left, acts[i]) })
			}
		}
	}
	if d.Kind.Moment() {
		return all(1), nil
	}
	return all(1), all(-1)
}

// act does a part of the beginning or the end of a deed, and notes when that was; left is how many parts are still to come.
func (r *round) act(ctx context.Context, d *deed, change int, left *int, do func(context.Context, int) error) {
	r.diary.note(func() { d.enter(change, r.story.now()) })
	err := do(ctx, change)
	var over, whole bool
	r.diary.note(func() {
		*left--
		whole = *left == 0
		over = d.leave(change, whole, err, r.story.now())
	})
	switch {
	case err != nil && over:
		r.story.say("%v: not done: %v", d.Fault, err)
	case err != nil:
		r.story.say("%v: %v", d.Fault, err)
	case whole && change > 0:
		r.story.say("%v", d.Fault)
	case whole:
		r.story.say("over: %v", d.Fault)
	}
}

// roll restarts the servers one after the other.
func (r *round) roll(ctx context.Context, d *deed) {
	if !r.sleep(ctx, d.At) {
		return
	}
	r.diary.note(func() { d.enter(1, r.story.now()); d.leave(1, true, nil, r.story.now()) })
	r.story.say("%v", d.Fault)
	for _, s := range r.zk {
		var done sync.WaitGroup
		done.Add(2)
		s.worker.do(func() { defer done.Done(); r.tell(d, s.kill(ctx, 1)) })
		alive := r.sleep(ctx, r.story.now()+d.For)
		s.worker.do(func() { defer done.Done(); r.tell(d, s.kill(ctx, -1)) })
		if done.Wait(); !alive {
			break
		}
	}
	r.diary.note(func() { d.enter(-1, r.story.now()); d.leave(-1, true, nil, r.story.now()) })
	r.story.say("over: %v", d.Fault)
}

func (r *round) tell(d *deed, err error) {
	if err != nil {
		r.story.say("%v: %v", d.Fault, err)
	}
}

// operate does what an operator does, who tries again where ZooKeeper is out of reach.
func (r *round) operate(ctx context.Context, d *deed) {
	if !r.sleep(ctx, d.At) {
		return
	}
	r.diary.note(func() { d.enter(1, r.story.now()) })
	until := time.Now().Add(d.For)
	if !r.insist(ctx, d, max(d.End(), d.At+5*time.Second), func() error { return r.write(d.Fault, until) }) {
		r.diary.note(func() { d.failed = true })
	}
	r.diary.note(func() { d.leave(1, true, nil, r.story.now()) })
	r.story.say("%v", d.Fault)
	if d.Kind.Moment() || !r.sleep(ctx, d.End()) {
		return
	}
	r.diary.note(func() { d.enter(-1, d.End()) }) // of Until, nobody has to do anything
	if d.Kind == fault.Maintenance {
		r.diary.note(func() { d.ending = r.story.now() })
		r.insist(ctx, d, never, func() error { return r.lab.Undrain(lab.Balancers()[d.Node]) })
	}
	r.diary.note(func() { d.leave(-1, true, nil, r.story.now()) })
	r.story.say("over: %v", d.Fault)
}

// insist tries until it works, or until an instant.
func (r *round) insist(ctx context.Context, d *deed, until time.Duration, try func() error) bool {
	for told := false; ; told = true {
		err := try()
		if err == nil {
			return true
		}
		if !told {
			r.story.say("%v: not yet: %v", d.Fault, err)
		}
		if r.story.now() > until || !r.sleep(ctx, r.story.now()+200*time.Millisecond) {
			return false
		}
	}
}

// write writes an operator's word.
func (r *round) write(f fault.Fault, until time.Time) error {
	name := fmt.Sprintf("node%d", f.Node+1)
	switch f.Kind {
	case fault.Maintenance:
		return r.lab.Drain(lab.Balancers()[f.Node])
	case fault.Failback:
		return r.lab.ZKCreate(failback+"/"+name, nil)
	default:
		data, err := json.Marshal(map[string]any{"by": "maintenance", "until": until})
		return errors.Join(err, r.lab.ZKCreate(maintenance+"/"+name, data))
	}
}

// heal sees to it that nothing is wrong any more. All faults are over; what is left is what an operator would do: a drain
// whose undoing did not get through is undone, and nodes that failed are told to take their VIPs back. The error says that
// the lab itself is broken.
func (r *round) heal(ctx context.Context) error {
	for _, s := range r.zk {
		if err := s.revive(ctx); err != nil {
			return err
		}
	}
	deeds, _ := r.diary.read()
	for i, lb := range lab.Balancers() {
		of := func(kinds ...fault.Kind) bool {
			return slices.ContainsFunc(deeds, func(d deed) bool { return d.Node == i && slices.Contains(kinds, d.Kind) })
		}
		if of(fault.RestartExaBGP) {
			if err := r.persist(ctx, func() error { return r.lab.Undrain(lb) }); err != nil {
				return err
			}
		}
		if of(fault.SickCheck, fault.HangCheck, fault.FlapCheck) {
			word := fmt.Sprintf("%s/node%d", failback, i+1)
			if err := r.persist(ctx, func() error { return r.lab.ZKCreate(word, nil) }); err != nil {
				return err
			}
		}
	}
	r.story.say("all is over, all is well")
	return nil
}

// persist tries for as long as an ensemble may take to serve again.
func (r *round) persist(ctx context.Context, try func() error) error {
	for until := r.story.now() + elected; ; {
		err := try()
		if err == nil || r.story.now() > until || !r.sleep(ctx, r.story.now()+lookEvery) {
			return err
		}
	}
}

// awaitSteady waits for the steady state, in two parts: until the BGP sessions are there, and for the rest.
func (r *round) awaitSteady(ctx context.Context, w *watcher) error {
	start := r.story.now()
	for {
		s, ok := w.last()
		if ok && s.up == [3]bool{true, true, true} && s.at > start {
			break
		}
		if r.story.now() > start+sessionsBack {
			return fmt.Errorf("after %v, not all BGP sessions are established: %v", sessionsBack, s)
		}
		if !r.sleep(ctx, r.story.now()+lookEvery) {
			return context.Cause(ctx)
		}
	}
	for start, since := r.story.now(), never; ; {
		err := r.steady(ctx)
		now := r.story.now()
		switch {
		case err != nil && now > start+steadyAfter:
			return fmt.Errorf("not steady %v after all BGP sessions were there: %w", steadyAfter, err)
		case err != nil:
			since = never
		case since == never:
			since = now
			r.story.say("steady")
		case now > since+steadyFor:
			return nil
		}
		if !r.sleep(ctx, now+lookEvery) {
			return context.Cause(ctx)
		}
	}
}

// steady says what keeps the lab from its steady state: all routers agree that each VIP is announced by its owner alone, the
// client reaches it, and in ZooKeeper lie all claims and status records, and no word of an operator.
func (r *round) steady(ctx context.Context) error {
	s, err := (&watcher{lab: r.lab, story: r.story}).seeRouters()
	if err != nil {
		return err
	}
	for i, lb := range lab.Balancers() {
		if s.leaf[i] != 1<<i || s.spine[i] != 1<<i {
			return fmt.Errorf("%s announces %s, and r0 has %s by %s", lb, names(s.leaf[i]), lab.VIPs()[i], names(s.spine[i]))
		}
	}
	z, err := seeZooKeeper(ctx, r.lab, r.story)
	if err != nil {
		return err
	}
	if z.claimed != 7 || z.recorded != 7 {
		return fmt.Errorf("in ZooKeeper are claims of %s and status records of %s", names(z.claimed), names(z.recorded))
	}
	if err := r.lab.Steady(ctx); err != nil {
		return err
	}
	return errors.Join(r.empty(maintenance), r.empty(failback))
}

func (r *round) empty(path string) error {
	left, err := r.lab.ZKChildren(path)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("below %s are left %s", path, strings.Join(left, " "))
	}
	return err
}

// observed puts together what is judged.
func (r *round) observed(w *watcher, rep report.Report) observed {
	o := observed{routers: w.routers, zk: w.zk, lags: w.lags, end: r.story.now()}
	o.deeds, o.spells = r.diary.read()
	for i, vip := range lab.VIPs() {
		s, _ := rep.Find("udp", vip)
		for _, l := range s.Losses {
			o.losses[i] = append(o.losses[i], loss{span{r.story.when(l.From), r.story.when(l.To)}, l.Lost})
		}
	}
	return o
}

// tellLosses tells of the times in which a VIP was not answered, but for those that are as short as a change of route.
func (r *round) tellLosses(o observed) {
	for i, vip := range lab.VIPs() {
		for _, l := range o.losses[i] {
			if l.length() > limping {
				r.story.say("%s was not answered from %s to %s", vip, seconds(l.from), seconds(l.to))
			}
		}
	}
}

func (out *outcome) count(rep report.Report, o observed) {
	for _, s := range rep.Series {
		out.Probes += s.Sent
		out.Lost += s.Lost
		out.Skipped += s.Skipped
		out.Gap = max(out.Gap, s.LongestGap.Seconds())
	}
	for _, l := range o.lags {
		out.Late += l.length().Seconds()
	}
	out.Length, out.Report = o.end.Seconds(), &rep
}

// finallyAnswered: in the steady state each VIP is answered by its owner, and no probe is lost.
func finallyAnswered(rep report.Report, st *story, steady time.Duration) []violation {
	var all []violation
	for i, vip := range lab.VIPs() {
		s, _ := rep.Find("udp", vip)
		if n := len(s.Losses); n > 0 && st.when(s.Losses[n-1].To) > steady {
			all = append(all, violated(steady, "%s loses probes in the steady state", vip))
		}
		last := report.Turn{Node: "nobody"}
		if n := len(s.Turns); n > 0 {
			last = s.Turns[n-1]
		}
		if len(s.Turns) < report.MaxEntries && (last.Node != lab.Balancers()[i] || st.when(last.From) > steady+lookEvery) {
			all = append(all, violated(steady, "%s is answered by %s since %s in the steady state", vip, last.Node, seconds(st.when(last.From))))
		}
	}
	return all
}

// prober is the client at work.
type prober struct {
	cmd         *exec.Cmd
	out, stderr bytes.Buffer
}

// startProber starts the client before all else on this machine: what it measures shall not be how busy that is.
func startProber(ctx context.Context, l *lab.Lab) (*prober, error) {
	argv := []string{"chrt", "--fifo", "10", "probe", "-every", probeEvery.String(), "-timeout", "1s"}
	for _, vip := range lab.VIPs() {
		argv = append(argv, "-vip", vip.String())
	}
	p := &prober{}
	p.cmd = l.Host("client").Command(ctx, argv...)
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
