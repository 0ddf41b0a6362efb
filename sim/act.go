package sim

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"exazk/daemon"
	"exazk/sim/exa"
	"exazk/sim/fault"
	"exazk/sim/zoo"
)

// faults is what goes wrong at the moment, counted, since the same may go wrong twice at once.
type faults struct {
	active   int  // of any kind
	isolated bool // the last one to begin came long after all others were over
	zk       int  // of ZooKeeper or of the way to it
	killed   []int
	paused   []int
	out, in  [][]int // packets lost, by node and server
	lastZK   time.Time
	lastAny  time.Time
	lastNode []time.Time
	hurt     []time.Time // by node: the same without what operators mean
}

func newFaults(k *Knobs) faults {
	f := faults{killed: make([]int, k.Servers), paused: make([]int, k.Servers), lastNode: make([]time.Time, k.Nodes), hurt: make([]time.Time, k.Nodes)}
	for range k.Nodes {
		f.out, f.in = append(f.out, make([]int, k.Servers)), append(f.in, make([]int, k.Servers))
	}
	return f
}

// arrange puts the faults down.
func (c *cluster) arrange(list []fault.Fault) {
	for _, f := range list {
		c.clock.At(c.start.Add(f.At), func() {
			c.note(nil, "FAULT %v", f)
			c.result.Faults++
			if f.Kind != fault.Squat { // which is no excuse for anything
				c.broken.isolated = c.broken.active == 0 && c.clock.Now().Sub(c.broken.lastAny) > 45*time.Second
				c.touch(f)
				c.broken.active++
			}
			if zkFault(f.Kind) {
				c.broken.zk++
			}
			c.begin(f)
			c.settleDown()
			if f.Kind.Moment() {
				c.over(f)
			} else {
				c.clock.At(c.start.Add(f.End()), func() {
					c.note(nil, "over: %v", f)
					c.end(f)
					c.over(f)
					c.settleDown()
				})
			}
		})
	}
}

func (c *cluster) over(f fault.Fault) {
	if f.Kind == fault.Squat {
		return
	}
	c.touch(f)
	c.broken.active--
	if zkFault(f.Kind) {
		c.broken.zk--
	}
}

func (c *cluster) touch(f fault.Fault) {
	now := c.clock.Now()
	c.broken.lastAny = now
	if zkFault(f.Kind) {
		c.broken.lastZK = now
	}
	if !f.Kind.OfEnsemble() {
		c.broken.lastNode[f.Node] = now
		if f.Kind != fault.Maintenance && f.Kind != fault.Until && f.Kind != fault.Failback {
			c.broken.hurt[f.Node] = now
		}
	}
}

// fails draws whether one of n goes wrong; never where n is 0, nor before or after the faults.
func (c *cluster) fails(n int) bool {
	return n > 0 && c.at() > faultsFrom && c.at() < faultsTo && c.rand.IntN(n) == 0
}

// garble has ExaBGP refuse some route commands, not more than three times in a row for one VIP: where it answers, it must be a command
// that it does not understand.
func (c *cluster) garble(h *host, text []byte) []byte {
	line, ok := bytes.CutSuffix(text, []byte("\n"))
	if !ok || !c.knobs.Acks || !bytes.Contains(line, []byte(" route ")) {
		return text
	}
	p, _ := netip.ParsePrefix(string(bytes.Fields(line)[2]))
	v, ok := c.vipAt(p)
	if !ok {
		return text
	}
	refused := &h.refused[v]
	if *refused++; *refused > 3 || !c.fails(c.knobs.Refusals) {
		*refused = 0
		return text
	}
	return append(bytes.Clone(line), " med\n"...)
}

// slowest is what a slow ExaBGP takes for a command, at most: longer than exazk waits for what it holds, and not for a reply.
const slowest = 1500 * time.Millisecond

// happened notes that something beside the beginning and the end of a fault happened to a node, and looks at everything again.
func (c *cluster) happened(h *host) {
	c.broken.lastNode[h.n] = c.clock.Now()
	c.broken.hurt[h.n] = c.clock.Now()
	c.settleDown()
}

// settleDown looks at everything again.
func (c *cluster) settleDown() {
	c.fabric.lookAll()
	for _, h := range c.hosts {
		h.changed()
	}
}

// zkFault says that ZooKeeper, or the way to it, is not as it should be.
func zkFault(k fault.Kind) bool {
	switch k {
	case fault.CutZK, fault.CutServer, fault.SeverZK, fault.Isolate:
		return true
	}
	return k.OfEnsemble()
}

func (c *cluster) begin(f fault.Fault) {
	h := c.hosts[f.Node]
	switch f.Kind {
	case fault.KillExazk, fault.TermExazk, fault.Reconfigure:
		if !c.mayEnd(h) {
			c.note(h, "left out: ExaBGP would end with its process, which ended too often")
			return
		}
	}
	switch f.Kind {
	case fault.Crash:
		if h.off++; h.off == 1 {
			h.lose()
		}
	case fault.KillExazk, fault.Reconfigure:
		if f.Kind == fault.Reconfigure {
			c.reconfigure(h)
		}
		c.killExazk(h)
	case fault.TermExazk:
		if l := h.life; l != nil {
			l.do(func() { l.post(daemon.Stop{Signal: "terminated"}) })
		}
	case fault.PauseExazk:
		c.pauseExazk(h, c.start.Add(f.End()))
	case fault.KillExaBGP:
		if h.down++; h.on {
			h.exabgp.Kill()
		}
	case fault.RestartExaBGP:
		c.drainAndStop(h, f.For)
	case fault.PauseExaBGP:
		c.freeze(h, c.start.Add(f.End()))
	case fault.SlowExaBGP:
		h.slow++
		h.exabgp.Slow(slowest)
	case fault.SickCheck:
		h.breaking++
	case fault.HangCheck:
		h.stalling++
	case fault.FlapCheck:
		c.flap(h, f.Turn, c.start.Add(f.End()))
	case fault.LinkDown:
		h.unplugged++
	case fault.SilentLink:
		c.silence(h, f.Way, 1)
	case fault.ResetSession:
		h.tor.Reset()
	case fault.Isolate:
		h.unplugged++
		c.cut(h.n, -1, fault.Both, 1)
	case fault.Maintenance:
		c.flag(h, 1)
	case fault.Until:
		c.flagUntil(h, c.start.Add(f.End()))
	case fault.Reload:
		c.reload(h)
	case fault.ByHand:
		c.byHand(h)
	case fault.Squat:
		c.squat(h, 1)
	case fault.Failback:
		h.giveBack()
	default:
		c.disturb(f, 1)
	}
	h.sick, h.hanging = h.breaking > 0, h.stalling > 0
	h.plug()
}

func (c *cluster) end(f fault.Fault) {
	h := c.hosts[f.Node]
	switch f.Kind {
	case fault.Crash:
		if h.off--; h.off == 0 {
			h.boot()
		}
	case fault.KillExaBGP:
		if h.down--; h.down == 0 && h.on {
			h.launch()
		}
	case fault.SlowExaBGP:
		h.slow--
		h.exabgp.Slow(c.knobs.Slow)
	case fault.SickCheck:
		h.breaking--
	case fault.HangCheck:
		h.stalling--
	case fault.LinkDown:
		h.unplugged--
	case fault.SilentLink:
		c.silence(h, f.Way, -1)
	case fault.Isolate:
		h.unplugged--
		c.cut(h.n, -1, fault.Both, -1)
	case fault.Maintenance:
		c.flag(h, -1)
	case fault.Squat:
		c.squat(h, -1)
	case fault.Until, fault.FlapCheck, fault.PauseExazk, fault.PauseExaBGP, fault.RestartExaBGP: // end by themselves
	default:
		c.disturb(f, -1)
	}
	h.sick, h.hanging = h.breaking > 0, h.stalling > 0
	h.plug()
}

// disturb begins (1) or ends (-1) what happens to ZooKeeper.
func (c *cluster) disturb(f fault.Fault, by int) {
	switch f.Kind {
	case fault.CutZK:
		c.cut(f.Node, -1, f.Way, by)
	case fault.CutServer:
		c.cut(f.Node, f.Server, f.Way, by)
	case fault.SeverZK:
		c.zk.Sever(f.Node)
	case fault.KillServer:
		c.killServer(f.Server, by)
	case fault.PauseServer:
		c.pauseServer(f.Server, by)
	case fault.KillEnsemble:
		for s := range c.knobs.Servers {
			c.killServer(s, by)
		}
	case fault.PauseEnsemble:
		for s := range c.knobs.Servers {
			c.pauseServer(s, by)
		}
	case fault.RollEnsemble:
		if by > 0 {
			c.roll(f.For)
		}
	case fault.LagServer:
		lag := time.Second
		if by < 0 {
			lag = c.knobs.Lag
		}
		c.zk.Lag(f.Server, lag)
	default:
		panic("bug: no such fault: " + f.String())
	}
}

func (c *cluster) killServer(s, by int) {
	n := &c.broken.killed[s]
	if *n += by; *n == 1 && by > 0 {
		c.zk.Kill(s)
	} else if *n == 0 {
		c.zk.Start(s)
	}
}

func (c *cluster) pauseServer(s, by int) {
	n := &c.broken.paused[s]
	if *n += by; *n == 1 && by > 0 {
		c.zk.Freeze(s)
	} else if *n == 0 {
		c.zk.Thaw(s)
	}
}

func (c *cluster) roll(within time.Duration) {
	each := within / time.Duration(c.knobs.Servers)
	for s := range c.knobs.Servers {
		c.clock.After(each*time.Duration(s), func() { c.killServer(s, 1) })
		c.clock.After(each*time.Duration(s)+each*9/10, func() { c.killServer(s, -1) })
	}
}

// cut counts lost ways between a node and a server, or all servers (-1).
func (c *cluster) cut(node, server int, way fault.Way, by int) {
	for s := range c.knobs.Servers {
		if server >= 0 && s != server {
			continue
		}
		if way != fault.In {
			c.broken.out[node][s] += by
		}
		if way != fault.Out {
			c.broken.in[node][s] += by
		}
		out, in := c.broken.out[node][s] > 0, c.broken.in[node][s] > 0
		c.zk.Mend(node, s)
		switch {
		case out && in:
			c.zk.Cut(node, s, zoo.Both)
		case out:
			c.zk.Cut(node, s, zoo.ToServer)
		case in:
			c.zk.Cut(node, s, zoo.ToHost)
		}
	}
}

func (c *cluster) silence(h *host, way fault.Way, by int) {
	if by < 0 {
		h.unheard = c.clock.Now()
	}
	if way != fault.In {
		h.lostOut += by
	}
	if way != fault.Out {
		h.lostIn += by
	}
	switch {
	case h.lostOut > 0 && h.lostIn > 0:
		h.silent = exa.Both
	case h.lostOut > 0:
		h.silent = exa.ToTor
	case h.lostIn > 0:
		h.silent = exa.ToHost
	default:
		h.silent = exa.None
	}
	h.tor.Silence(h.silent)
}

func (c *cluster) killExazk(h *host) {
	if h.python != nil {
		h.python.killed()
		return
	}
	if l := h.life; l != nil && !l.dead {
		l.kill()
		l.pipes.Exited()
	}
}

// reconfigure gives a node another configuration, which its next process has.
func (c *cluster) reconfigure(h *host) {
	before := h.conf.Services[0].BackupFor
	h.variants++
	h.conf = c.knobs.config(h.n, h.variants)
	for v := range c.knobs.Nodes {
		if p := vipOf(v); slices.Contains(before, p) && !slices.Contains(h.conf.Services[0].BackupFor, p) {
			h.dropped[v] = c.clock.Now()
			c.takeBack(h, v)
		}
	}
	c.note(h, "has another configuration: %+v", c.knobs.change(h.n, h.variants))
}

// reload has the process take another configuration over: SIGHUP.
func (c *cluster) reload(h *host) {
	if h.python != nil {
		return
	}
	c.reconfigure(h)
	if l := h.life; l != nil {
		conf := h.conf
		l.do(func() { l.post(daemon.Reload{Config: conf}) })
	}
}

// byHand has an operator change one of the routes that exazk has something to say about: what the ToR has goes or gets another MED,
// what it has not comes.
func (c *cluster) byHand(h *host) {
	v := c.rand.IntN(c.knobs.Nodes)
	if h.python != nil || h.life == nil || !h.serves(v) || !h.configured(v) || !h.exabgp.Running() {
		return
	}
	text := fmt.Sprintf("announce route %s next-hop self med 7", vipOf(v))
	if _, has := h.tor.Route(vipOf(v)); has && c.rand.IntN(2) == 0 {
		text = "withdraw route " + vipOf(v).String()
	}
	c.note(h, "by hand: %s", text)
	h.hands[v] = c.clock.Now()
	h.exabgp.ByHand(text)
	if c.broken.isolated {
		c.expectMended(h, v)
	}
}

// squat has an operator put a persistent node where the claim on a node's VIP belongs, or delete it. No process minds it: who
// announces goes on, and the others begin.
func (c *cluster) squat(h *host, by int) {
	if h.squats += by; h.squats == 1 && by > 0 || h.squats == 0 {
		c.squatted(h)
	}
}

// squatted makes what is in the place of the claim what the operator wants; while ZooKeeper does not answer, he tries again.
func (c *cluster) squatted(h *host) {
	path := claimsPath + "/" + c.names[h.n]
	_, owner, there := c.zk.Read(path)
	is, want := there && owner == 0, h.squats > 0
	if is == want {
		return
	}
	if !c.zk.Quorum() {
		c.clock.After(time.Second, func() { c.squatted(h) })
		return
	}
	if h.life != nil {
		h.life.reloads.claim = 0
	}
	for _, o := range c.hosts { // they begin or end to announce because of it
		o.turns[h.n] = nil
	}
	c.zk.Remove(path)
	if want {
		c.zk.Put(path, nil)
	}
}

// takeBack has an operator withdraw what he announced by hand for a VIP that he has taken out of the configuration just now: exazk
// leaves it to who made it.
func (c *cluster) takeBack(h *host, v int) {
	if h.hands[v].IsZero() {
		return
	}
	c.clock.After(2*time.Second, func() { // commands that come together may change places
		if !h.serves(v) && h.exabgp.Running() {
			h.exabgp.ByHand("withdraw route " + vipOf(v).String())
		}
	})
}

// mayEnd counts how often a process is ended: ExaBGP gives up with the sixth start in a slot of 64 s.
func (c *cluster) mayEnd(h *host) bool {
	now := c.clock.Now()
	h.ends = slices.DeleteFunc(h.ends, func(t time.Time) bool { return now.Sub(t) > 70*time.Second })
	if len(h.ends) >= 4 {
		return false
	}
	h.ends = append(h.ends, now)
	return true
}

// pauseExazk stops the process that runs now.
func (c *cluster) pauseExazk(h *host, until time.Time) {
	l := h.life
	if l == nil || l.dead {
		return
	}
	if l.stops++; l.stops == 1 {
		l.stop()
	}
	c.clock.At(until, func() {
		if l.stops--; l.stops == 0 && !l.dead {
			l.cont()
			c.happened(h)
		}
	})
}

// freeze stops the ExaBGP that runs now.
func (c *cluster) freeze(h *host, until time.Time) {
	if !h.exabgp.Running() {
		return
	}
	if h.frozen++; h.frozen == 1 {
		h.exabgp.Freeze()
	}
	born := h.born
	c.clock.At(until, func() {
		if h.born != born || !h.exabgp.Running() {
			return
		}
		if h.frozen--; h.frozen == 0 {
			h.exabgp.Thaw()
			h.thawed = c.clock.Now()
			c.happened(h)
		}
	})
}

func (c *cluster) flap(h *host, turn time.Duration, until time.Time) {
	sick := false
	var next func()
	next = func() {
		over := !c.clock.Now().Before(until)
		switch {
		case over && !sick:
			return
		case sick:
			h.breaking--
		default:
			h.breaking++
		}
		sick = !sick
		h.sick = h.breaking > 0
		c.note(h, "check: %v", map[bool]string{true: "fails", false: "passes"}[h.sick])
		c.happened(h)
		if at := c.clock.Now().Add(turn); sick && at.After(until) {
			c.clock.At(until, next)
		} else if !over {
			c.clock.At(at, next)
		}
	}
	next()
}

// flag counts the operators who want a node drained.
func (c *cluster) flag(h *host, by int) {
	path := maintenancePath + "/" + h.conf.Node
	if h.flags += by; h.flags == 1 && by > 0 {
		c.zk.Put(path, nil)
	} else if h.flags == 0 {
		c.zk.Remove(path)
	}
}

func (c *cluster) flagUntil(h *host, until time.Time) {
	path := maintenancePath + "/" + h.conf.Node
	if _, _, there := c.zk.Read(path); there {
		return
	}
	h.until, h.overdue = fmt.Appendf(nil, `{"reason":"sim","until":%q}`, until.Format(time.RFC3339Nano)), until
	c.zk.Put(path, h.until)
	c.clock.At(until, func() { c.settleDown() })
}

// drainAndStop is what systemd does by the drop-in: drain, wait, stop, and later start and end the drain.
func (c *cluster) drainAndStop(h *host, down time.Duration) {
	if !h.on || h.down > 0 {
		return
	}
	c.flag(h, 1)
	deadline := c.clock.Now().Add(30 * time.Second)
	var wait func()
	wait = func() {
		if h.flags == 0 {
			return // somebody ended the drain: the operator gives up
		}
		if !h.idle() && c.clock.Now().Before(deadline) && h.exabgp.Running() {
			c.clock.After(100*time.Millisecond, wait)
			return
		}
		c.note(h, "ExaBGP is stopped")
		h.down++
		if h.on && h.exabgp.Running() {
			h.ending = true
			h.exabgp.Term()
		}
		c.happened(h)
		c.clock.After(max(down, 100*time.Millisecond), func() {
			c.note(h, "ExaBGP is started")
			if h.down--; h.down == 0 && h.on {
				h.launch()
			}
			c.flag(h, -1)
			c.happened(h)
		})
	}
	wait()
}

// idle says that exazk has withdrawn everything, and ExaBGP has acknowledged that.
func (h *host) idle() bool {
	if h.life == nil || len(h.life.last.Want.Statuses) == 0 {
		return false
	}
	for _, r := range statusOf(&h.life.last).Routes {
		if r.Verdict != "withdraw" || r.Pending {
			return false
		}
	}
	return true
}

// giveBack is an operator's word to a node to take its VIPs back.
func (h *host) giveBack() {
	h.c.zk.Put(failbackPath+"/"+h.conf.Node, []byte(`{"by":"sim"}`))
}

// giveBack is an operator's word to every node to take its VIPs back.
func (c *cluster) giveBack() {
	for _, h := range c.hosts {
		h.giveBack()
	}
}

// giveBackAgain is what an operator does who has looked at the nodes: a word counts for what a node knew when it came, and one that
// asks ExaBGP for its sessions may learn a second later that it was away.
func (c *cluster) giveBackAgain() {
	if c.knobs.Changes {
		return
	}
	for _, h := range c.hosts {
		verdict, ok := h.verdict(h.n)
		if _, _, there := c.zk.Read(failbackPath + "/" + h.conf.Node); ok && !there && verdict.Reason == daemon.ReasonFailbackManual {
			h.giveBack()
		}
	}
}

// finish is what the operators do when all is over: no node stays drained or waits for a word.
func (c *cluster) finish() {
	// A node that boots while another one serves its VIP already counts as one that was away.
	c.clock.At(c.start.Add(faultsFrom-8*time.Second), c.giveBack)
	c.clock.At(c.start.Add(faultsTo+time.Second), func() {
		for _, h := range c.hosts {
			h.flags = 0
			c.zk.Remove(maintenancePath + "/" + h.conf.Node)
		}
		c.giveBack()
		c.note(nil, "no faults from here on; every node may take its VIPs back")
		c.settleDown()
	})
	c.clock.At(c.start.Add(faultsTo+15*time.Second), c.giveBackAgain)
	c.clock.At(c.start.Add(settledBy), c.checkSteady)
}
