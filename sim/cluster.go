// Package sim plays a cluster of exazk on a virtual clock: the real machines of all nodes (daemon.Core, exabgp.Writer,
// zkstate.Machine, health.Machine) against models of ZooKeeper, ExaBGP, routers, users and operators, and what goes wrong
// comes from a seed. A run of five minutes takes milliseconds, checks the promises at every step, and is the same each time.
package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/sim/exa"
	"exazk/sim/fault"
	"exazk/sim/vclock"
	"exazk/sim/zoo"
	"exazk/zkstate"
)

// Violation is a promise that was not kept.
type Violation struct {
	At        time.Duration
	Invariant string // a word
	Text      string
}

func (v *Violation) String() string { return fmt.Sprintf("%v %s: %s", v.At, v.Invariant, v.Text) }

// Result is what became of a run.
type Result struct {
	Violation *Violation // the first one; the run ends there. nil if there was none
	Story     []Line     // only where it was asked for
	Faults    int        // carried out
	Steps     uint64     // of the cores
}

// Line is one line of a story.
type Line struct {
	At   time.Duration
	Node int // -1: of none
	Text string
}

func (l Line) String() string {
	who := "      "
	if l.Node >= 0 {
		who = nodeName(l.Node) + " "
	}
	return fmt.Sprintf("%10.4fs %s%s", l.At.Seconds(), who, l.Text)
}

// cluster is one run.
type cluster struct {
	knobs  Knobs
	clock  *vclock.Clock
	start  time.Time
	rand   *rand.Rand
	zk     *zoo.Ensemble
	fabric *fabric
	hosts  []*host

	telling bool // a story is wanted
	result  Result
	broken  faults
	changes bool // configurations change
	memo    *zkstate.Memo
	names   []string    // of the VIPs' claims
	claimed []time.Time // by VIP: when its claim last came or went
	lines   *exa.Memo
}

// discard is for the machines' logs: what matters in them is in the story.
var discard = func() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.PanicLevel)
	return logrus.NewEntry(log)
}()

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Player plays plans one after the other, in one goroutine. It keeps what does not depend on the plan.
type Player struct{ lines *exa.Memo }

// NewPlayer makes a Player.
func NewPlayer() *Player { return &Player{exa.NewMemo()} }

// Play plays a plan by itself. With tell the result has a story.
func Play(p Plan, tell bool) Result { return NewPlayer().Play(p, tell) }

// Play plays a plan. With tell the result has a story.
func (pl *Player) Play(p Plan, tell bool) Result {
	c := newCluster(p.Knobs, tell, pl.lines)
	for _, h := range c.hosts {
		c.clock.After(c.upTo(2*time.Second), h.boot)
		c.clock.After(10*time.Second, h.tend)
	}
	c.arrange(p.Faults)
	c.changes = slices.ContainsFunc(p.Faults, func(f fault.Fault) bool { return f.Kind == fault.Reload || f.Kind == fault.Reconfigure })
	c.finish()
	for c.result.Violation == nil && c.clock.Now().Sub(c.start) < Length {
		c.clock.Run(c.clock.Now().Add(time.Second))
	}
	return c.result
}

func newCluster(k Knobs, tell bool, lines *exa.Memo) *cluster {
	c := &cluster{knobs: k, clock: vclock.New(epoch), start: epoch, rand: rand.New(rand.NewPCG(k.Seed, 2)), telling: tell, memo: zkstate.NewMemo(), lines: lines}
	c.zk = zoo.New(c.clock, c.rand, zoo.Config{
		Servers: k.Servers, Tick: k.ServerTick, MinTimeout: 2 * k.ServerTick, MaxTimeout: max(20*k.ServerTick, k.SessionTimeout),
		Delay: k.Packet, Lag: k.Lag,
	})
	for _, path := range []string{"/exabgp", "/exabgp/service", "/exabgp/maintenance", "/exabgp/failback", "/exabgp/status", claimsPath, maintenancePath, failbackPath, statusPath} {
		c.zk.Put(path, nil)
	}
	c.broken = newFaults(&c.knobs)
	for v := range k.Nodes {
		c.names = append(c.names, vipOf(v).Addr().String())
	}
	c.claimed = make([]time.Time, k.Nodes)
	c.zk.OnChange(c.treeChanged)
	c.fabric = newFabric(c)
	for n := range k.Nodes {
		c.hosts = append(c.hosts, newHost(c, n))
	}
	if k.Python {
		h := c.hosts[k.Nodes-1]
		h.python = newPython(h)
	}
	return c
}

func (c *cluster) at() time.Duration { return c.clock.Now().Sub(c.start) }

// upTo draws a duration up to d.
func (c *cluster) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(c.rand.Int64N(int64(d)))
}

// note writes a line of the story.
func (c *cluster) note(h *host, format string, args ...any) {
	if !c.telling {
		return
	}
	n := -1
	if h != nil {
		n = h.n
	}
	c.result.Story = append(c.result.Story, Line{c.at(), n, fmt.Sprintf(format, args...)})
}

// violate ends the run.
func (c *cluster) violate(invariant, format string, args ...any) {
	if c.result.Violation != nil {
		return
	}
	c.result.Violation = &Violation{c.at(), invariant, fmt.Sprintf(format, args...)}
	c.note(nil, "VIOLATION %s: %s", invariant, c.result.Violation.Text)
}

func instanceName(n int) string { return fmt.Sprintf("life%d", n) }
