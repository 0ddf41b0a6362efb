package zkstate

import (
	"errors"
	"flag"
	"fmt"
	"maps"
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
	want    Wish // of all its claims
	state   State
	conf    []Service
	began   map[string]time.Time // when a service became what it is, by name
	claims  map[string]map[string]Claim
	maint   map[string]bool
	peers   map[string]map[string]Status
}

// claimPaths are all that any of the nodes may ever claim.
var claimPaths = []string{"/x/service/web/192.0.2.1", "/x/service/web/192.0.2.2", "/x/service/web/192.0.2.3",
	"/x/service/mail/192.0.2.9", "/y/service/mail/192.0.2.9"}

// service makes one of a node.
func (n *simNode) service(root, name string, vips, own []string) Service {
	return Service{Name: name, ClaimsPath: root + "/service/" + name, MaintenancePath: root + "/maintenance/" + name + "/" + n.name,
		StatusPath: root + "/status/" + name + "/" + n.name, VIPs: vips, Authoritative: own}
}

// plain is what a node has at first, and at the end.
func (n *simNode) plain() []Service {
	return []Service{n.service("/x", "web", []string{"192.0.2.1", "192.0.2.2"}, []string{n.vip()})}
}

// vip is the node's own in web.
func (n *simNode) vip() string {
	return map[string]string{"n1": "192.0.2.1", "n2": "192.0.2.2"}[n.name]
}

// holds says whether a path is one that the node may claim, or its record's.
func (n *simNode) holds(p string) bool {
	return slices.ContainsFunc(n.conf, func(s Service) bool {
		return s.StatusPath == p || path.Dir(p) == s.ClaimsPath && slices.Contains(s.Authoritative, path.Base(p))
	})
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
	for _, name := range []string{"n1", "n2"} {
		cfg := testConfig()
		n := &simNode{name: name, began: make(map[string]time.Time), claims: make(map[string]map[string]Claim),
			maint: make(map[string]bool), peers: make(map[string]map[string]Status)}
		n.conf = n.plain()
		cfg.Node, cfg.Services = name, n.conf
		n.m = NewMachine(cfg, quiet())
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
	if in, ok := in.(Reconfigured); ok {
		w.checkReconfigured(n, in.Services, out)
	}
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
		w.checkCurrent(n, ev.Service, ev.Began)
		n.peers[ev.Service] = ev.Peers
	case MaintenanceRead:
		w.checkCurrent(n, ev.Service, ev.Began)
		n.maint[ev.Service] = ev.Present
	case ClaimsRead:
		s := w.checkCurrent(n, ev.Service, ev.Began)
		if !slices.Equal(slices.Sorted(maps.Keys(ev.Claims)), s.VIPs) {
			w.t.Fatalf("%s has the VIPs %v, and reads %v", n.name, s.VIPs, ev.Claims)
		}
		if n.state != Connected || ev.Began.Before(n.upSince) || ev.Session != n.m.id {
			w.t.Fatalf("%s, %v since %v, emits a reading of %v in %#x", n.name, n.state, n.upSince, ev.Began, ev.Session)
		}
		n.claims[ev.Service] = ev.Claims
		for vip, c := range ev.Claims {
			p := s.ClaimsPath + "/" + vip
			there := w.tree.nodes[p] != nil
			left := there && !n.holds(p) && decodeOwner(w.tree.nodes[p].data).Node == n.name // and to be deleted
			if c.Holder == Absent && there && !left && w.absent[p].Before(ev.Began) {
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

// checkCurrent returns the service that a reading is about: as it is now, and not as it was once.
func (w *world) checkCurrent(n *simNode, name string, began time.Time) Service {
	i := slices.IndexFunc(n.conf, func(s Service) bool { return s.Name == name })
	if i < 0 || began.Before(n.began[name]) {
		w.t.Fatalf("%s emits a reading of %s since %v, which it has since %v as %v", n.name, name, began, n.began[name], n.conf)
	}
	return n.conf[i]
}

// checkReconfigured checks that a service that stays what it was is left in peace, after a Step at the same time that left
// nothing to do.
func (w *world) checkReconfigured(n *simNode, services []Service, out Output) {
	quiet := n.state == Connected // else what was missing may have gone: then all is read, and all is told
	for _, s := range services {
		if !slices.ContainsFunc(n.conf, s.Equal) {
			n.began[s.Name] = w.now
			continue
		}
		for _, c := range out.Calls {
			if quiet && path.Dir(c.Path) == s.ClaimsPath && n.holds(c.Path) || quiet && slices.Contains([]string{s.ClaimsPath, s.MaintenancePath, s.StatusPath}, c.Path) {
				w.t.Fatalf("%s %ss %s, and %s stays what it is", n.name, c.Op, c.Path, s.Name)
			}
		}
	}
	if len(out.Events) > 0 && quiet {
		w.t.Fatalf("%s emits %v at once", n.name, out.Events)
	}
	n.conf = services
}

// reconfigure gives a node other services.
func (w *world) reconfigure(n *simNode, services []Service) {
	w.step(n, Tick{})
	w.step(n, Reconfigured{services})
}

// draw makes services up.
func (w *world) draw(n *simNode) []Service {
	var all []Service
	if w.rnd.IntN(10) > 0 {
		vips, own := []string{"192.0.2.1", "192.0.2.2"}, []string{}
		if w.rnd.IntN(3) > 0 {
			own = append(own, n.vip())
		}
		if w.rnd.IntN(2) == 0 {
			vips = append(vips, "192.0.2.3")
			if n.name == "n1" && w.rnd.IntN(2) == 0 {
				own = append(own, "192.0.2.3")
			}
		}
		all = append(all, n.service("/x", "web", vips, own))
	}
	if w.rnd.IntN(2) == 0 {
		own := []string{}
		if n.name == "n1" && w.rnd.IntN(2) == 0 {
			own = append(own, "192.0.2.9")
		}
		all = append(all, n.service([]string{"/x", "/y"}[w.rnd.IntN(2)], "mail", []string{"192.0.2.9"}, own))
	}
	return all
}

// note keeps absent and gone up to date, before anything changes.
func (w *world) note() {
	for _, p := range claimPaths {
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
	switch w.rnd.IntN(12) {
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
		w.toggle(claimPaths[w.rnd.IntN(len(claimPaths))], `{"node":"n3"}`)
	case 8: // nobody is there for longer than a session timeout
		w.down(n)
		w.faults = false
		w.run(5 * time.Second)
		w.faults = true
	case 9, 10, 11:
		w.reconfigure(n, w.draw(n))
		if w.rnd.IntN(3) > 0 {
			w.set(n)
		}
		if w.rnd.IntN(3) == 0 { // and once more while the answers are on their way
			w.faults = false
			w.run(time.Duration(w.rnd.IntN(60)) * time.Millisecond)
			w.faults = true
			w.reconfigure(n, w.draw(n))
		}
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
	want := Want{Claims: make(map[ClaimKey]Wish), Statuses: make(map[string]*Status)}
	for _, s := range n.conf {
		for _, vip := range s.Authoritative {
			want.Claims[ClaimKey{s.Name, vip}] = n.want
		}
		want.Statuses[s.Name] = &Status{Node: n.name, Instance: "i1", Health: fmt.Sprint(w.rnd.IntN(3))}
	}
	w.step(n, SetWant{want})
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
	for _, p := range claimPaths {
		if n := w.tree.nodes[p]; n != nil && n.stat.Owner == 0x99 {
			w.tree.remove(p)
		}
	}
	for i, n := range w.nodes {
		w.up(n)
		w.reconfigure(n, w.draw(n))
		n.want = []Wish{Hold, Release}[i]
		w.set(n)
	}
	w.run(20 * time.Second)
	w.settled()
	for _, n := range w.nodes {
		w.reconfigure(n, n.plain())
		w.set(n)
	}
	w.run(2 * time.Second)
	w.settled()
	w.reloads()
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
		if got := n.peers["web"]["n9"].Health; got != "unhealthy" {
			t.Errorf("%s reads that n9 is %q", n.name, got)
		}
	}
	for _, fault := range w.tree.faults {
		if !unstrict.MatchString(fault) {
			t.Error(fault)
		}
	}
}

// reloads checks that what stays over a new configuration is not touched, what comes is made, and what goes is deleted.
func (w *world) reloads() {
	n := w.nodes[0]
	const kept = "/x/service/web/192.0.2.1"
	before := w.tree.nodes[kept].stat
	all := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}
	for i, conf := range [][]Service{
		{n.service("/x", "web", all, []string{"192.0.2.1", "192.0.2.3"}), n.service("/y", "mail", []string{"192.0.2.9"}, []string{"192.0.2.9"})},
		{n.service("/x", "web", all, []string{"192.0.2.1"}), n.service("/x", "mail", []string{"192.0.2.9"}, []string{"192.0.2.9"})},
		n.plain(),
	} {
		w.reconfigure(n, conf)
		w.set(n)
		w.run(time.Second)
		w.settled()
		if got := w.tree.nodes[kept]; got == nil || got.stat.Czxid != before.Czxid || got.stat.Owner != before.Owner {
			w.t.Errorf("reload %d: the claim that stays is %v, was %v", i, got, before)
		}
	}
}

// settled checks that everything is as it should be.
func (w *world) settled() {
	for _, n := range w.nodes {
		if n.state != Connected {
			w.t.Errorf("%s is %v", n.name, n.state)
		}
		for i, s := range n.conf {
			for _, vip := range s.Authoritative {
				if holder := n.claims[s.Name][vip].Holder; n.want == Hold && holder != Own || n.want == Release && holder != Absent {
					w.t.Errorf("%s wants to %v, and sees its claim on %s of %s as %v", n.name, n.want, vip, s.Name, holder)
				}
			}
			for vip, c := range n.claims[s.Name] {
				if there := w.tree.nodes[s.ClaimsPath+"/"+vip] != nil; there != (c.Holder != Absent) {
					w.t.Errorf("%s sees %s of %s as %v", n.name, vip, s.Name, c.Holder)
				}
			}
			if there := w.tree.nodes[s.MaintenancePath] != nil; there != n.maint[s.Name] {
				w.t.Errorf("%s: maintenance of %s is %v, and it says %v", n.name, s.Name, there, n.maint[s.Name])
			}
			if rec := w.tree.nodes[s.StatusPath]; rec == nil || string(rec.data) != string(n.m.services[i].record.want) {
				w.t.Errorf("%s: its status record of %s is %v", n.name, s.Name, rec)
			}
		}
		for p, node := range w.tree.nodes {
			if node.stat.Owner == n.last && !n.holds(p) {
				w.t.Errorf("%s has left %s behind", n.name, p)
			}
		}
	}
}
