package zkstate

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

var (
	seed  = flag.Uint64("zkseed", 0, "replay one seed of the random runs; 0 means many")
	seeds = flag.Int("zkseeds", 300, "number of random runs")
)

// world drives machines against one tree on a virtual clock, with calls that take their time, are lost or go wrong.
type world struct {
	t      *testing.T
	rnd    *rand.Rand
	tree   *tree
	now    time.Time
	next   int64 // session id
	nodes  []*simNode
	absent map[string]time.Time // when a path that is there was missing last
	gone   map[string]time.Time // when a path that is missing was there last
	faults bool
}

type simNode struct {
	name    string
	m       *Machine
	conn    uint64
	session int64 // 0 while there is no connection
	last    int64
	wake    time.Time
	upSince time.Time // when the machine learnt of its session
	queue   []delivery
	want    Wish
	claims  map[string]Claim
	state   State
	maint   bool
	peers   map[string]Status
}

// delivery is an input on its way, or a call on its way to the server.
type delivery struct {
	at   time.Time
	call *Call
	in   Input
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), now: epoch, next: 0x100, faults: true,
		absent: make(map[string]time.Time), gone: make(map[string]time.Time)}
	w.tree = newTree(func(session int64, p string) {
		for _, n := range w.nodes {
			if n.session == session {
				n.deliver(w.now, NodeChanged{n.conn, p})
			}
		}
	})
	vips := []string{"192.0.2.1", "192.0.2.2"}
	for i, vip := range vips {
		name := fmt.Sprintf("n%d", i+1)
		cfg := testConfig()
		cfg.Node = name
		cfg.Services[0] = Service{Name: "web", ClaimsPath: "/x/service/web", MaintenancePath: "/x/maintenance/web/" + name,
			StatusPath: "/x/status/web/" + name, VIPs: vips, Authoritative: []string{vip}}
		n := &simNode{name: name, m: NewMachine(cfg, quiet())}
		w.nodes = append(w.nodes, n)
		w.step(n, Tick{})
	}
	return w
}

// deliver queues an input.
func (n *simNode) deliver(at time.Time, in Input) {
	n.queue = append(n.queue, delivery{at: at, in: in})
}

func (w *world) delay() time.Duration { return time.Duration(w.rnd.IntN(20)) * time.Millisecond }

func (w *world) step(n *simNode, in Input) {
	if _, ok := in.(SessionUp); ok {
		n.upSince = w.now
	}
	out := n.m.Step(w.now, in)
	if out.Open != 0 {
		n.conn, n.session, n.queue = out.Open, 0, nil
	}
	for _, c := range out.Calls {
		n.queue = append(n.queue, delivery{at: w.now.Add(w.delay()), call: &c})
	}
	for _, ev := range out.Events {
		w.check(n, ev)
	}
	n.wake = out.Wake
}

// check compares what is emitted with what was true: a claim said to be absent was missing at some moment since the
// reading began, and the other way round.
func (w *world) check(n *simNode, ev Event) {
	switch ev := ev.(type) {
	case SessionChanged:
		n.state = ev.State
	case PeersRead:
		n.peers = ev.Peers
	case MaintenanceRead:
		n.maint = ev.Present
	case ClaimsRead:
		if n.state != Connected || ev.Began.Before(n.upSince) || ev.Session != n.m.id {
			w.t.Fatalf("%s, %v since %v, emits a reading of %v in %#x", n.name, n.state, n.upSince, ev.Began, ev.Session)
		}
		n.claims = ev.Claims
		for vip, c := range ev.Claims {
			p := "/x/service/web/" + vip
			there := w.tree.nodes[p] != nil
			if c.Holder == Absent && there && w.absent[p].Before(ev.Began) {
				w.t.Fatalf("%s says that %s is absent since %v, it was last at %v", n.name, vip, ev.Began, w.absent[p])
			}
			if c.Holder != Absent && !there && w.gone[p].Before(ev.Began) {
				w.t.Fatalf("%s says that %s is %v since %v, it was last at %v", n.name, vip, c.Holder, ev.Began, w.gone[p])
			}
			if c.Holder == Own && c.Node != n.name {
				w.t.Fatalf("%s says that %s is its own, and %q is written there", n.name, vip, c.Node)
			}
		}
	}
}

// note keeps absent and gone up to date, before anything changes.
func (w *world) note() {
	for _, vip := range []string{"192.0.2.1", "192.0.2.2"} {
		p := "/x/service/web/" + vip
		if w.tree.nodes[p] == nil {
			w.absent[p] = w.now
		} else {
			w.gone[p] = w.now
		}
	}
}

var simErrors = []error{zk.ErrConnectionClosed, errors.New("write: broken pipe"), errors.New("unknown error: -5")}

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Millisecond) {
		w.note()
		for _, n := range w.nodes {
			w.serve(n)
			if !n.wake.IsZero() && !w.now.Before(n.wake) {
				w.step(n, Tick{})
			}
		}
		if w.faults && w.rnd.IntN(200) == 0 {
			w.disturb(w.nodes[w.rnd.IntN(len(w.nodes))])
		}
	}
}

// serve carries out what is due on a node's way to the server and back.
func (w *world) serve(n *simNode) {
	for {
		i := slices.IndexFunc(n.queue, func(d delivery) bool { return !w.now.Before(d.at) })
		if i < 0 {
			return
		}
		d := n.queue[i]
		n.queue = slices.Delete(n.queue, i, i+1)
		if d.call == nil {
			w.step(n, d.in)
			continue
		}
		lost := w.faults && w.rnd.IntN(50) == 0
		switch {
		case n.session == 0 || lost && w.rnd.IntN(2) == 0:
			n.deliver(w.now, Result{Tag: d.call.Tag, Err: simErrors[w.rnd.IntN(len(simErrors))]})
		default:
			res := w.tree.serve(n.session, n.name, *d.call)
			if lost { // it ran, and nobody hears of it, or late
				res = Result{Tag: d.call.Tag, Err: zk.ErrConnectionClosed}
				n.queue = append(n.queue, delivery{at: w.now.Add(time.Duration(w.rnd.IntN(8)) * time.Second), in: res})
				continue
			}
			// A result passes through a goroutine of its own, and a watch that fires may overtake it.
			n.deliver(w.now.Add(time.Duration(w.rnd.IntN(4))*time.Millisecond), res)
		}
	}
}

// disturb does harm to a node, or changes what it wants.
func (w *world) disturb(n *simNode) {
	switch w.rnd.IntN(9) {
	case 0, 1:
		w.down(n)
	case 2:
		w.expire(n)
	case 3, 4:
		n.want = Wish(w.rnd.IntN(3))
		w.set(n)
	case 5:
		w.step(n, ResyncAsked{})
	case 6:
		w.toggle("/x/maintenance/web/"+n.name, "")
	case 7:
		w.toggle("/x/service/web/"+[]string{"192.0.2.1", "192.0.2.2"}[w.rnd.IntN(2)], `{"node":"n3"}`)
	case 8: // nobody is there for longer than a session timeout
		w.down(n)
		w.faults = false
		w.run(5 * time.Second)
		w.faults = true
	}
	if n.session == 0 && w.rnd.IntN(2) == 0 {
		w.up(n)
	}
}

// toggle makes a node of a stranger's, or removes what is there.
func (w *world) toggle(p, data string) {
	switch {
	case w.tree.nodes[p] == nil && w.tree.nodes[path.Dir(path.Dir(p))] != nil:
		w.tree.put(p, 0x99, data)
	case w.tree.nodes[p] != nil:
		w.tree.remove(p)
	}
}

func (w *world) set(n *simNode) {
	vip := n.m.cfg.Services[0].Authoritative[0]
	w.step(n, SetWant{Want{Claims: map[ClaimKey]Wish{{"web", vip}: n.want},
		Statuses: map[string]*Status{"web": {Node: n.name, Instance: "i1", Health: fmt.Sprint(w.rnd.IntN(3))}}}})
}

func (w *world) down(n *simNode) {
	if n.session == 0 {
		return
	}
	n.session = 0
	for i, d := range n.queue { // what is on its way is lost
		if d.call != nil {
			n.queue[i] = delivery{at: w.now, in: Result{Tag: d.call.Tag, Err: zk.ErrConnectionClosed}}
		}
	}
	n.deliver(w.now, SessionDown{n.conn})
}

func (w *world) expire(n *simNode) {
	w.down(n)
	if n.last != 0 {
		w.tree.expire(n.last)
		n.last = 0
		n.deliver(w.now, SessionExpired{n.conn})
	}
}

func (w *world) up(n *simNode) {
	if n.session != 0 {
		return
	}
	if n.last == 0 {
		w.next++
		n.last = w.next
	}
	n.session = n.last
	n.deliver(w.now, SessionUp{n.conn, n.session, 4 * time.Second})
}

// unstrict are faults that accidents excuse: a call that arms a watch ran and its answer was lost; a stranger's claim took
// a ghost's place between the last look and the removal; a record was written and nobody heard of it.
var unstrict = regexp.MustCompile("second watch|removes the foreign|says this already")

// TestRandomRuns has machines live through accidents; then the accidents end, and all must be as it should.
func TestRandomRuns(t *testing.T) {
	first, count := uint64(1), *seeds
	if *seed != 0 {
		first, count = *seed, 1
	}
	for s := first; s < first+uint64(count); s++ {
		if !t.Run(fmt.Sprintf("zkseed=%d", s), func(t *testing.T) { randomRun(t, s) }) {
			return
		}
	}
}

func randomRun(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	w.run(12 * time.Second)
	w.faults = false
	for _, p := range []string{"/x/service/web/192.0.2.1", "/x/service/web/192.0.2.2"} {
		if n := w.tree.nodes[p]; n != nil && n.stat.Owner == 0x99 {
			w.tree.remove(p)
		}
	}
	for i, n := range w.nodes {
		w.up(n)
		n.want = []Wish{Hold, Release}[i]
		w.set(n)
	}
	w.run(20 * time.Second)
	w.settled()
	for _, n := range w.nodes { // from here on the watches must tell, well before the slow reading
		w.toggle("/x/maintenance/web/"+n.name, "")
	}
	w.tree.put("/x/status/web/n9", 0x99, `{"node":"n9"}`)
	w.run(300 * time.Millisecond)
	w.settled()
	w.tree.set("/x/status/web/n9", `{"node":"n9","health":"unhealthy"}`)
	w.tree.remove("/x/service/web/192.0.2.1")
	w.run(500 * time.Millisecond)
	w.settled()
	for _, n := range w.nodes {
		if got := n.peers["n9"].Health; got != "unhealthy" {
			t.Errorf("%s reads that n9 is %q", n.name, got)
		}
	}
	for _, fault := range w.tree.faults {
		if !unstrict.MatchString(fault) {
			t.Error(fault)
		}
	}
}

// settled checks that everything is as it should be.
func (w *world) settled() {
	for _, n := range w.nodes {
		vip := n.m.cfg.Services[0].Authoritative[0]
		holder := n.claims[vip].Holder
		if n.state != Connected || n.want == Hold && holder != Own || n.want == Release && holder != Absent {
			w.t.Errorf("%s is %v, wants to %v, and sees its claim as %v", n.name, n.state, n.want, holder)
		}
		for vip, c := range n.claims {
			if there := w.tree.nodes["/x/service/web/"+vip] != nil; there != (c.Holder != Absent) {
				w.t.Errorf("%s sees %s as %v", n.name, vip, c.Holder)
			}
		}
		if there := w.tree.nodes["/x/maintenance/web/"+n.name] != nil; there != n.maint {
			w.t.Errorf("%s: maintenance is %v, and it says %v", n.name, there, n.maint)
		}
		if rec := w.tree.nodes["/x/status/web/"+n.name]; rec == nil || string(rec.data) != string(n.m.services[0].record.want) {
			w.t.Errorf("%s: its status record is %v", n.name, rec)
		}
	}
}
