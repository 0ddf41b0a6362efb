package zoo

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"exazk/sim/vclock"
	"exazk/zkstate"

	"github.com/sirupsen/logrus"
)

var (
	zooSeed  = flag.Uint64("zooseed", 0, "replay one seed of the random runs; 0 means many")
	zooSeeds = flag.Int("zooseeds", 300, "number of random runs")
)

const (
	claimsDir = "/x/service/web"
	askedFor  = 4 * time.Second
)

// world is some nodes' zkstate.Machines on the model, and accidents.
type world struct {
	t      *testing.T
	r      *rand.Rand
	clock  *vclock.Clock
	e      *Ensemble
	cfg    Config
	log    *logrus.Entry
	nodes  []*node
	vips   []string
	absent map[string]time.Time // when a path that is there was missing last
	gone   map[string]time.Time // when a path that is missing was there last
	listen bool                 // keep a hash of all that the machines are told
	heard  uint64               // that hash
}

// node is one process after the other.
type node struct {
	w      *world
	host   int
	name   string
	vip    string
	life   int
	m      *zkstate.Machine // nil while no process runs
	c      *Client
	wake   *vclock.Timer
	paused bool
	late   bool      // a wake came while it was stopped
	slept  time.Time // when it was stopped last
	woke   time.Time // when it went on last
	conn   uint64
	asked  map[zkstate.Tag]time.Time
	want   zkstate.Wish
	health string
	state  zkstate.State
	claims map[string]zkstate.Claim
	maint  bool
	peers  map[string]zkstate.Status
}

func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 1))
	w := &world{t: t, r: r, clock: vclock.New(start), absent: make(map[string]time.Time), gone: make(map[string]time.Time)}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.PanicLevel)
	w.log = logrus.NewEntry(log)
	tick := []time.Duration{200 * time.Millisecond, time.Second, 2 * time.Second}[r.IntN(3)]
	w.cfg = Config{Servers: 1 + 2*r.IntN(3), Tick: tick, Delay: time.Duration(r.IntN(30)) * time.Millisecond,
		Lag: time.Duration(r.IntN(300)) * time.Millisecond}
	w.e = New(w.clock, rand.New(rand.NewPCG(seed, 2)), w.cfg)
	w.e.OnChange(w.changed)
	for i := range 2 + r.IntN(3) {
		w.vips = append(w.vips, fmt.Sprintf("192.0.2.%d", i+1))
		w.nodes = append(w.nodes, &node{w: w, host: i, name: fmt.Sprintf("n%d", i+1), vip: w.vips[i]})
	}
	for _, n := range w.nodes {
		n.begin()
	}
	return w
}

// changed keeps absent and gone up to date.
func (w *world) changed(p string) {
	if _, _, ok := w.e.Read(p); ok {
		w.absent[p] = w.clock.Now()
	} else {
		w.gone[p] = w.clock.Now()
	}
}

// begin starts a process.
func (n *node) begin() {
	w := n.w
	n.life++
	n.conn, n.asked, n.state = 0, make(map[zkstate.Tag]time.Time), zkstate.Connecting
	n.m = zkstate.NewMachine(zkstate.Config{SessionTimeout: askedFor, Node: n.name, Instance: fmt.Sprintf("%s-%d", n.name, n.life),
		Services: []zkstate.Service{{Name: "web", ClaimsPath: claimsDir, MaintenancePath: "/x/maintenance/web/" + n.name,
			StatusPath: "/x/status/web/" + n.name, VIPs: w.vips, Authoritative: []string{n.vip}}}}, w.log)
	n.step(zkstate.Tick{})
	n.wish()
}

func (n *node) wish() {
	n.step(zkstate.SetWant{Want: zkstate.Want{Claims: map[zkstate.ClaimKey]zkstate.Wish{{Service: "web", VIP: n.vip}: n.want},
		Statuses: map[string]*zkstate.Status{"web": new(n.status())}}})
}

func (n *node) status() zkstate.Status {
	return zkstate.Status{Node: n.name, Instance: fmt.Sprintf("%s-%d", n.name, n.life), Health: n.health}
}

// step does for a Machine what a Session does.
func (n *node) step(in zkstate.Input) {
	if n.m == nil || n.paused {
		return
	}
	w := n.w
	w.note(n, in)
	out := n.m.Step(w.clock.Now(), in)
	if out.Open != 0 {
		n.open(out.Open)
	}
	for _, call := range out.Calls {
		n.asked[call.Tag] = w.clock.Now()
		n.c.Send(call)
	}
	for _, ev := range out.Events {
		n.check(ev)
	}
	w.clock.Stop(n.wake)
	n.wake = nil
	if out.Done {
		n.c.Close()
		n.m = nil
		return
	}
	if !out.Wake.IsZero() {
		n.wake = w.clock.Timer(out.Wake, func() {
			if n.late = n.paused; !n.late {
				n.step(zkstate.Tick{})
			}
		})
	}
}

func (n *node) open(number uint64) {
	if n.c != nil && n.conn != 0 {
		n.c.Close()
	}
	n.conn = number
	life := n.life
	n.c = n.w.e.Connect(n.host, number, askedFor, func(in zkstate.Input) {
		if n.life != life {
			return
		}
		if n.paused {
			n.w.t.Fatalf("%s: a stopped process is told %T", n.name, in)
		}
		if res, ok := in.(zkstate.Result); ok {
			if _, ok := n.asked[res.Tag]; !ok {
				n.w.t.Fatalf("%s: a result that it does not wait for: %+v", n.name, res)
			}
			delete(n.asked, res.Tag)
		}
		n.step(in)
	})
}

// note mixes what a node is told into a hash, for TestSameSeedSameRun.
func (w *world) note(n *node, in zkstate.Input) {
	if w.listen {
		h := fnv.New64a()
		var what any = in
		if _, ok := in.(zkstate.SetWant); ok {
			what = []any{n.want, n.status()} // a Want has a pointer in it
		}
		fmt.Fprintf(h, "%d %s %v %+v", w.heard, n.name, w.clock.Now().Sub(start), what)
		w.heard = h.Sum64()
	}
}

// slack is how old a state may be that a session is shown: what waits in a frozen server's socket is answered from what it
// knew, as long as the client waits, and a session may be resumed there that has not expired by its clock.
const slack = 2 * askedFor

// check compares what is emitted with what was true.
func (n *node) check(ev zkstate.Event) {
	switch ev := ev.(type) {
	case zkstate.SessionChanged:
		n.state = ev.State
	case zkstate.PeersRead:
		n.peers = ev.Peers
	case zkstate.MaintenanceRead:
		n.maint = ev.Present
	case zkstate.ClaimsRead:
		n.claims = ev.Claims
		for vip, c := range ev.Claims {
			p := claimsDir + "/" + vip
			_, _, there := n.w.e.Read(p)
			since := ev.Began.Add(-slack)
			if n.w.clock.Now().Sub(n.woke) < slack { // its connection, and a server that slept too, may be as they were
				since = n.slept.Add(-slack)
			}
			if c.Holder == zkstate.Absent && there && n.w.absent[p].Before(since) {
				n.w.t.Errorf("%s says that %s is absent since %v, it was last at %v", n.name, vip, ev.Began, n.w.absent[p])
			}
			if c.Holder != zkstate.Absent && !there && n.w.gone[p].Before(since) {
				n.w.t.Errorf("%s says that %s is %v since %v, it was last at %v", n.name, vip, c.Holder, ev.Began, n.w.gone[p])
			}
			if c.Holder == zkstate.Own && c.Node != n.name {
				n.w.t.Errorf("%s says that %s is its own, and %q is written there", n.name, vip, c.Node)
			}
		}
	}
}

func (w *world) run(d time.Duration) { w.clock.Run(w.clock.Now().Add(d)) }

// disturb does some harm, or undoes some.
func (w *world) disturb() {
	n := w.nodes[w.r.IntN(len(w.nodes))]
	server := w.r.IntN(w.cfg.Servers)
	switch w.r.IntN(18) {
	case 0:
		w.e.Kill(server)
	case 1, 2:
		w.e.Start(server)
	case 3:
		w.e.Freeze(server)
	case 4, 5:
		w.e.Thaw(server)
	case 6:
		w.e.Cut(n.host, server, Way(w.r.IntN(3)))
	case 7:
		for s := range w.cfg.Servers {
			w.e.Cut(n.host, s, Way(w.r.IntN(3)))
		}
	case 8, 9:
		for s := range w.cfg.Servers {
			w.e.Mend(n.host, s)
		}
	case 10:
		w.e.Sever(n.host)
	case 11:
		if w.r.IntN(4) == 0 {
			w.e.ExpireAll()
		}
	case 12:
		n.end(w.r.IntN(3))
	case 13:
		n.pause()
	case 14:
		n.resume()
	case 15:
		n.want = zkstate.Wish(w.r.IntN(3))
		n.health = fmt.Sprint(w.r.IntN(3))
		n.wish()
	case 16:
		w.toggle("/x/maintenance/web/"+n.name, "")
	case 17:
		if w.r.IntN(3) == 0 {
			w.toggle(claimsDir+"/"+n.vip, `{"node":"n9"}`)
		}
	}
}

// toggle makes a node as an operator would, or removes what is there. Without a quorum nothing happens.
func (w *world) toggle(p, data string) {
	if _, _, ok := w.e.Read(p); ok {
		w.e.Remove(p)
	} else {
		w.e.Put(p, []byte(data))
	}
}

// end ends a process and starts the next one.
func (n *node) end(how int) {
	n.resume()
	switch {
	case n.m == nil:
	case how == 0:
		n.c.Die()
	case how == 1:
		n.c.Lose()
	default:
		n.step(zkstate.Stop{})
		n.w.run(1100 * time.Millisecond)
		if n.m != nil {
			n.w.t.Errorf("%s does not end", n.name)
		}
	}
	n.w.clock.Stop(n.wake)
	n.begin()
}

func (n *node) pause() {
	if n.m != nil && !n.paused {
		n.paused, n.late, n.slept = true, false, n.w.clock.Now()
		n.c.Pause()
	}
}

func (n *node) resume() {
	if !n.paused {
		return
	}
	n.paused, n.woke = false, n.w.clock.Now()
	n.c.Resume()
	if n.late {
		n.step(zkstate.Tick{})
	}
	n.step(zkstate.ResyncAsked{})
}

// TestRandomRuns has machines live through accidents; then the accidents end, and all must be as it should.
func TestRandomRuns(t *testing.T) {
	first, count := uint64(1), *zooSeeds
	if *zooSeed != 0 {
		first, count = *zooSeed, 1
	}
	for s := first; s < first+uint64(count); s++ {
		if !t.Run(fmt.Sprintf("zooseed=%d", s), func(t *testing.T) { randomRun(newWorld(t, s)) }) {
			return
		}
	}
}

func randomRun(w *world) {
	w.run(time.Duration(w.r.IntN(3000)) * time.Millisecond)
	every := []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second}[w.r.IntN(3)]
	for end := w.clock.Now().Add(60 * time.Second); w.clock.Now().Before(end); {
		w.run(w.e.draw(every))
		w.disturb()
	}
	w.heal()
	w.run(100 * time.Second) // a client that has no session is made anew after 60 s
	w.settled()
	for _, n := range w.nodes { // from here on watches must tell, well before the slow reading
		w.toggle("/x/maintenance/web/"+n.name, "")
	}
	w.e.Put("/x/status/web/n9", []byte(`{"node":"n9","health":"unhealthy"}`))
	if w.nodes[0].want == zkstate.Hold {
		w.e.Remove(claimsDir + "/" + w.nodes[0].vip)
	}
	w.run(2 * time.Second)
	w.settled()
	for _, n := range w.nodes {
		if got := n.peers["n9"].Health; got != "unhealthy" {
			w.t.Errorf("%s reads that n9 is %q", n.name, got)
		}
	}
}

// heal ends all accidents.
func (w *world) heal() {
	for s := range w.cfg.Servers {
		w.e.Start(s)
		w.e.Thaw(s)
		for _, n := range w.nodes {
			w.e.Mend(n.host, s)
		}
	}
	for _, n := range w.nodes {
		n.resume()
	}
	w.run(10 * time.Second)
	for i, n := range w.nodes {
		p := claimsDir + "/" + n.vip
		if _, owner, ok := w.e.Read(p); ok && owner == 0 { // a stranger's: nobody may remove it
			w.e.Remove(p)
		}
		n.want = []zkstate.Wish{zkstate.Hold, zkstate.Release}[i%2]
		n.wish()
	}
}

// settled checks that everything is as it should be, and that everybody knows.
func (w *world) settled() {
	if !w.e.Quorum() {
		w.t.Error("no quorum")
	}
	for _, n := range w.nodes {
		p := claimsDir + "/" + n.vip
		data, owner, there := w.e.Read(p)
		var by struct{ Node, Instance string }
		json.Unmarshal(data, &by)
		own := there && owner == n.c.Session() && by.Node == n.name && by.Instance == n.status().Instance
		if n.state != zkstate.Connected || n.want == zkstate.Hold && !own || n.want == zkstate.Release && there {
			w.t.Errorf("%s is %v, wants to %v %s; it is there: %v, of session %#x, not %#x: %s", n.name, n.state, n.want, n.vip, there, owner,
				n.c.Session(), data)
		}
		for vip, c := range n.claims {
			if _, _, there := w.e.Read(claimsDir + "/" + vip); there != (c.Holder != zkstate.Absent) {
				w.t.Errorf("%s sees %s as %v", n.name, vip, c.Holder)
			}
		}
		if _, _, there := w.e.Read("/x/maintenance/web/" + n.name); there != n.maint {
			w.t.Errorf("%s: maintenance is %v, and it says %v", n.name, there, n.maint)
		}
		want, _ := json.Marshal(n.status())
		if data, owner, _ := w.e.Read("/x/status/web/" + n.name); string(data) != string(want) || owner != n.c.Session() {
			w.t.Errorf("%s: its status record is %s of %#x", n.name, data, owner)
		}
		for _, o := range w.nodes {
			if o != n && n.peers[o.name].Instance != o.status().Instance {
				w.t.Errorf("%s knows %v of %s", n.name, n.peers[o.name], o.name)
			}
		}
		for tag, at := range n.asked {
			if w.clock.Now().Sub(at) > 10*time.Second {
				w.t.Errorf("%s waits for %v since %v", n.name, tag, at)
			}
		}
	}
	if n := len(w.e.sessions); n != len(w.nodes) {
		w.t.Errorf("%d sessions of %d nodes", n, len(w.nodes))
	}
	if n := len(w.e.clients); n != len(w.nodes) {
		w.t.Errorf("%d clients of %d nodes", n, len(w.nodes))
	}
	if len(w.e.stalled) > 0 || len(w.e.log) > 0 {
		w.t.Errorf("%d requests are stalled, %d transactions are in the log", len(w.e.stalled), len(w.e.log))
	}
}

// TestSameSeedSameRun plays runs twice; every input must come at the same moment and say the same.
func TestSameSeedSameRun(t *testing.T) {
	for seed := range uint64(20) {
		var heard []uint64
		for range 2 {
			w := newWorld(t, seed)
			w.listen = true
			randomRun(w)
			heard = append(heard, w.heard)
		}
		if heard[0] != heard[1] || heard[0] == 0 {
			t.Fatalf("seed %d: %x and %x", seed, heard[0], heard[1])
		}
	}
}
