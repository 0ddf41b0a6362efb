package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"exazk/daemon"
	"exazk/sim/fault"
)

// Length is how long a run is. The cluster starts, then there are faults, and then there are none.
const (
	Length = 5 * time.Minute
	// faultsFrom leaves the time to start: checks, sessions, start_grace.
	faultsFrom = 30 * time.Second
	// faultsTo is when every fault is over.
	faultsTo = 190 * time.Second
	// settledBy is when the steady state must be reached, and from then on nothing may move.
	settledBy = 260 * time.Second
)

// Knobs are what a run is made of, save its faults. Their text is TOML.
type Knobs struct {
	Seed    uint64 `toml:"seed"`    // of every delay and of every draw in the run
	Nodes   int    `toml:"nodes"`   // 2 to 7
	Servers int    `toml:"servers"` // of ZooKeeper: 1 or 3

	Planned bool `toml:"planned"` // nothing happens but what an operator means: nobody may notice
	Still   bool `toml:"still"`   // nothing happens to any node, save that exazk is killed: no route may move
	Shared  bool `toml:"shared"`  // two nodes are configured as the owner of one VIP: the first two of the first, or with Python the first of the last
	Python  bool `toml:"python"`  // the last node runs the Python tool

	SessionTimeout time.Duration `toml:"session_timeout"`
	ServerTick     time.Duration `toml:"server_tick"`
	HoldTime       time.Duration `toml:"hold_time"`  // of BGP
	Keepalives     bool          `toml:"keepalives"` // ExaBGP tells of them, and exazk counts them
	Changes        bool          `toml:"changes"`    // ExaBGP tells of its neighbors; else they are polled
	Acks           bool          `toml:"acks"`       // ExaBGP answers commands
	Links          bool          `toml:"links"`      // exazk sees the carrier of its links
	Delay          time.Duration `toml:"delay"`      // that a goroutine waits for its turn, at most
	Packet         time.Duration `toml:"packet"`     // that a packet takes, at most
	Propagation    time.Duration `toml:"propagation"`
	Slow           time.Duration `toml:"slow"` // what ExaBGP takes for a command, at most
	Lag            time.Duration `toml:"lag"`  // of a server that follows, at most
	CheckTakes     time.Duration `toml:"check_takes"`
	Errors         int           `toml:"errors"`   // one of so many answers of ZooKeeper is an error; 0: none
	Refusals       int           `toml:"refusals"` // one of so many route commands is refused, where ExaBGP answers; 0: none

	Overlap       time.Duration `toml:"overlap"`
	DrainTimeout  time.Duration `toml:"drain_timeout"`
	DrainStyle    string        `toml:"drain_style"`
	StartGrace    time.Duration `toml:"start_grace"`
	OnZKLoss      string        `toml:"on_zk_loss"`
	ZKLossAfter   time.Duration `toml:"zk_loss_after"`
	Failback      string        `toml:"failback"`
	FailbackDelay time.Duration `toml:"failback_delay"`
	FlapHold      time.Duration `toml:"flap_hold"`
	LastResort    bool          `toml:"last_resort"`
	Rise          int           `toml:"rise"`
	Fall          int           `toml:"fall"`
	Standby       bool          `toml:"standby"` // backups are announced all the time, worse by their ranks
	First         bool          `toml:"first"`   // of the backups of an unclaimed VIP only the first living one announces

	DriftCheck time.Duration `toml:"drift_check"` // exazk looks so often at what ExaBGP holds; 0: never
}

// Plan is a run before it is played.
type Plan struct {
	Knobs  Knobs
	Faults []fault.Fault
}

// Draw makes the plan of a seed.
func Draw(seed uint64) Plan {
	r := rand.New(rand.NewPCG(seed, 1))
	one := func(n int) bool { return r.IntN(n) == 0 }
	pick := func(of ...time.Duration) time.Duration { return of[r.IntN(len(of))] }
	const ms = time.Millisecond
	k := Knobs{
		Seed: seed, Nodes: 2 + min(r.IntN(6), r.IntN(6)), Servers: 1 + 2*r.IntN(2),
		Planned: one(4), Shared: one(12), Python: one(12),
		SessionTimeout: pick(4*time.Second, 4*time.Second, 6*time.Second, 10*time.Second), ServerTick: pick(100*ms, 500*ms, 2*time.Second),
		HoldTime: pick(3*time.Second, 3*time.Second, 9*time.Second), Keepalives: !one(3), Changes: !one(8), Acks: !one(8), Links: !one(4),
		Delay: pick(ms, ms, 5*ms, 50*ms), Packet: pick(ms, 5*ms, 40*ms), Propagation: pick(5*ms, 50*ms, 200*ms),
		Slow: pick(2*ms, 20*ms, 100*ms), Lag: pick(0, 10*ms, 300*ms), CheckTakes: pick(5*ms, 50*ms, 300*ms),
		Overlap: pick(time.Second, time.Second, 500*ms, 3*time.Second), DrainTimeout: pick(10*time.Second, 10*time.Second, 5*time.Second, 20*time.Second),
		DrainStyle: "withdraw", StartGrace: pick(15*time.Second, 15*time.Second, 8*time.Second), OnZKLoss: "hold", Failback: "auto",
		FlapHold: pick(time.Minute, 0, 5*time.Second), LastResort: one(3), Rise: 1 + r.IntN(3), Fall: 1 + r.IntN(3),
	}
	if one(4) {
		k.DrainStyle = "gshut"
	}
	if one(4) {
		k.OnZKLoss = []string{"withdraw", "announce"}[r.IntN(2)]
		k.ZKLossAfter = pick(0, 2*time.Second, 8*time.Second)
	}
	switch r.IntN(6) {
	case 0:
		k.Standby, k.Shared, k.Python = true, false, false // the Python tool knows no ranks
	case 1:
		k.First, k.Shared, k.Python = true, false, false
	}
	switch r.IntN(8) {
	case 0:
		k.Failback = "manual"
	case 1:
		k.FailbackDelay = pick(2*time.Second, 20*time.Second)
	}
	if one(6) {
		k.Errors = 40
	}
	if one(6) {
		k.Refusals = 15
	}
	if k.Planned {
		k.Refusals = 0 // an announce that is refused may come after drain_timeout
	}
	if k.SessionTimeout < 2*k.ServerTick {
		k.ServerTick = 500 * ms
	}
	if k.Still = !k.Planned && one(6); k.Still {
		k.OnZKLoss, k.Shared, k.Python, k.Refusals = "hold", false, false, 0 // whose route is refused gives its claim up
	}
	opt := fault.Options{Nodes: k.Nodes, Servers: k.Servers, From: faultsFrom, To: faultsTo}
	if k.Planned {
		opt.Kinds = slices.DeleteFunc(fault.All(), func(k fault.Kind) bool { return !k.Planned() })
	}
	if k.Planned && one(3) { // one drain after the other, and what is read of the one comes into the next
		opt.Kinds = []fault.Kind{fault.Maintenance, fault.Until, fault.RestartExaBGP}
	}
	if k.Still {
		opt.Kinds = []fault.Kind{fault.KillExazk, fault.SeverZK, fault.KillServer, fault.KillEnsemble, fault.RollEnsemble, fault.LagServer}
		if k.Servers == 1 { // of several, some may stand still for so long that some sessions end and others do not
			opt.Kinds = append(opt.Kinds, fault.PauseServer)
		}
	}
	if !k.Planned && !k.Still && one(5) {
		opt.Kinds = recipes[r.IntN(len(recipes))]
	}
	p := Plan{Knobs: k, Faults: fault.Draw(r, opt)}
	if one(4) {
		p.Faults = together(r, p.Faults, k.Nodes)
	}
	if k.Still {
		p.Faults = still(p.Faults, k.SessionTimeout)
	}
	byHand := func(f fault.Fault) bool { return f.Kind == fault.ByHand }
	if !k.Acks { // without answers it cannot look
		p.Faults = slices.DeleteFunc(p.Faults, byHand)
	}
	if k.Python { // what becomes of it then is nobody's promise
		p.Faults = slices.DeleteFunc(p.Faults, func(f fault.Fault) bool { return f.Kind == fault.Squat })
	}
	if slices.ContainsFunc(p.Faults, byHand) || one(16) { // not in each run: it doubles what is asked of ExaBGP
		p.Knobs.DriftCheck = 4 * time.Second
	}
	return p
}

// recipes are kinds that do much to each other, and that meet too rarely by chance.
var recipes = [][]fault.Kind{
	{fault.SlowExaBGP, fault.KillExazk, fault.TermExazk, fault.SickCheck},       // a new process, and ExaBGP is too slow to say what it holds
	{fault.SlowExaBGP, fault.ResetSession, fault.LinkDown},                      // sessions come faster than replies
	{fault.PauseExazk, fault.Crash},                                             // owners come back while their backups sleep
	{fault.KillExazk, fault.SeverZK, fault.CutZK, fault.SickCheck},              // a new process loses ZooKeeper while it learns
	{fault.Crash, fault.Crash, fault.SickCheck, fault.Maintenance, fault.Until}, // who could take over is dead
	{fault.Maintenance, fault.CutZK, fault.PauseEnsemble, fault.PauseExazk},     // drains that nobody can be seen to take over
	{fault.SickCheck, fault.FlapCheck},                                          // last resorts
	{fault.PauseExaBGP, fault.KillExazk, fault.SickCheck},                       // replies that belong to others
	{fault.Reload, fault.KillExazk, fault.SeverZK, fault.SickCheck},             // what changed, and what is known about it
	{fault.Reload, fault.SlowExaBGP, fault.ResetSession, fault.PauseExazk},      // a VIP goes while its route is on its way
	{fault.Reload, fault.Crash, fault.Maintenance, fault.LinkDown},              // one of those who could take over will not
	{fault.ByHand, fault.ByHand, fault.SlowExaBGP, fault.KillExazk},             // what is behind exazk's back
	{fault.SlowExaBGP, fault.KillExazk, fault.SickCheck},                        // the same with less beside it
	{fault.Crash, fault.SickCheck},                                              // last resorts of VIPs whose owner is dead
	{fault.Squat, fault.Crash, fault.LinkDown, fault.SickCheck},                 // a claim that nobody can hold, and its owner fails
	{fault.Squat, fault.Reload, fault.KillExazk, fault.SeverZK},                 // and is read anew
	{fault.ByHand, fault.ResetSession, fault.LinkDown, fault.SickCheck},         // and in a session that was not there yet
}

// together has some of what breaks one node's check break those of all, at about the same time: what they look at may be one thing.
func together(r *rand.Rand, faults []fault.Fault, nodes int) []fault.Fault {
	for _, f := range slices.Clone(faults) {
		if f.Kind != fault.SickCheck && f.Kind != fault.FlapCheck || len(faults) > 20 {
			continue
		}
		for n := range nodes {
			if other := f; n != f.Node {
				other.Node = n
				other.At += time.Duration(r.IntN(500)-250) * time.Millisecond
				if other.At >= faultsFrom && other.End() <= faultsTo {
					faults = append(faults, other)
				}
			}
		}
	}
	slices.SortStableFunc(faults, func(a, b fault.Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

// still leaves one pause of the server, either short or longer than every session: of about a session timeout, some sessions
// end and others do not, and those who keep theirs see the others' claims go as if their nodes had failed.
func still(faults []fault.Fault, timeout time.Duration) []fault.Fault {
	paused := false
	return slices.DeleteFunc(faults, func(f fault.Fault) bool {
		if f.Kind != fault.PauseServer {
			return false
		}
		some := f.For > timeout/4 && f.For < 2*timeout+4*time.Second
		drop := paused || some
		paused = paused || !drop
		return drop
	})
}

// String is the text of a plan: its knobs, a line "faults:", and one line for each fault.
func (p Plan) String() string {
	b := &strings.Builder{}
	if err := toml.NewEncoder(b).Encode(p.Knobs); err != nil {
		panic("bug: knobs do not encode: " + err.Error())
	}
	b.WriteString("faults:\n")
	for _, f := range p.Faults {
		fmt.Fprintln(b, f)
	}
	return b.String()
}

// Parse reads the text of a plan.
func Parse(text string) (Plan, error) {
	knobs, faults, ok := strings.Cut(text, "faults:\n")
	if !ok {
		return Plan{}, fmt.Errorf("plan: no line \"faults:\" between its knobs and its faults")
	}
	var p Plan
	meta, err := toml.Decode(knobs, &p.Knobs)
	if err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	if u := meta.Undecoded(); len(u) > 0 {
		return Plan{}, fmt.Errorf("plan: there is no knob %q", u[0].String())
	}
	for line := range strings.Lines(faults) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		f, err := fault.Parse(line)
		if err != nil {
			return Plan{}, err
		}
		if f.Node >= p.Knobs.Nodes || f.Server >= p.Knobs.Servers {
			return Plan{}, fmt.Errorf("fault %q: there is no such node or server", line)
		}
		p.Faults = append(p.Faults, f)
	}
	if k := p.Knobs; k.Nodes < 1 || k.Nodes > 9 || k.Servers < 1 || k.Rise < 1 || k.Fall < 1 || k.SessionTimeout <= 0 || k.HoldTime < 3*time.Second {
		return Plan{}, fmt.Errorf("plan: nodes, servers, session_timeout, hold_time, rise and fall must make sense")
	}
	return p, nil
}

const serviceName = "apex"

func vipOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, 255, byte(n + 1)}), 32)
}

func localOf(n int) netip.Addr { return netip.AddrFrom4([4]byte{172, 16, byte(n + 1), 1}) }
func peerOf(n int) netip.Addr  { return netip.AddrFrom4([4]byte{172, 16, byte(n + 1), 6}) }

// owns says that a node is configured as the owner of a VIP.
func (k *Knobs) owns(n, v int) bool {
	switch {
	case n == v:
		return true
	case k.Shared && k.Python:
		return n == 0 && v == k.Nodes-1
	}
	return k.Shared && n == 1 && v == 0
}

// shared says that two nodes are configured as the owner of a VIP.
func (k *Knobs) shared(v int) bool {
	return k.Shared && (k.Python && v == k.Nodes-1 || !k.Python && v == 0)
}

// backupMED is that of backups, save where an operator changes it, and stepMED what each further rank adds.
const (
	backupMED = 200
	stepMED   = 10
)

// rank is the place of a node among those that back a VIP up, from 0: they come in the order of the nodes, from the owner on.
func (k *Knobs) rank(n, v int) int { return (n - v - 1 + k.Nodes) % k.Nodes }

// change is what an operator changes in the configuration of one node.
type change struct {
	slower     bool // overlap, drain_timeout and failback_delay
	med        uint32
	without    int // VIP that it does not back up any more; -1 if there is none
	rise, fall int
	listed     bool // exabgp.neighbors has its neighbor, where nothing listed means the same
}

// change draws what is different in a variant of a node's configuration. In the first, 0, nothing is.
func (k *Knobs) change(n, variant int) change {
	ch := change{med: backupMED, without: -1, rise: k.Rise, fall: k.Fall}
	if variant == 0 {
		return ch
	}
	r := rand.New(rand.NewPCG(k.Seed, 3+uint64(n)<<32+uint64(variant)<<8))
	if ch.slower = r.IntN(3) == 0; r.IntN(2) == 0 {
		ch.med += 100
	}
	if v := r.IntN(k.Nodes); r.IntN(2) == 0 && !k.owns(n, v) {
		ch.without = v
	}
	if r.IntN(3) == 0 {
		ch.rise, ch.fall = 1+r.IntN(3), 1+r.IntN(3)
	}
	ch.listed = r.IntN(2) == 0
	return ch
}

// config is that of one node. variant is another one each time that an operator changes it.
func (k *Knobs) config(n, variant int) *daemon.Config {
	ch := k.change(n, variant)
	s := daemon.Service{
		Name: serviceName, OnZKLoss: daemon.Policy(k.OnZKLoss), Overlap: k.Overlap, DrainTimeout: k.DrainTimeout, StartGrace: k.StartGrace,
		DrainStyle: daemon.DrainStyle(k.DrainStyle), Failback: daemon.Failback(k.Failback), FailbackDelay: k.FailbackDelay,
		FlapHold: k.FlapHold, LastResort: k.LastResort, MinNeighbors: 1, ZKLossAfter: k.ZKLossAfter,
		Backup: daemon.BackupOnDemand, Backups: daemon.BackupsAll, Require: 1,
		Checks:   []daemon.Check{{Command: "true", Interval: time.Second, FastInterval: 200 * time.Millisecond, Timeout: time.Second, Rise: ch.rise, Fall: ch.fall}},
		Announce: daemon.Announcement{Own: daemon.Attributes{MED: 100}, Backup: daemon.Attributes{MED: ch.med}, Drain: daemon.Attributes{MED: 1000}},
	}
	if ch.slower {
		s.Overlap, s.DrainTimeout, s.FailbackDelay = k.Overlap*2, k.DrainTimeout+time.Second, k.FailbackDelay/2
	}
	node := nodeName(n)
	s.ClaimsPath = claimsPath
	s.MaintenancePath = maintenancePath + "/" + node
	s.FailbackPath = failbackPath + "/" + node
	s.StatusPath = statusPath + "/" + node
	for i := range k.Nodes {
		switch {
		case k.owns(n, i):
			s.Authoritative = append(s.Authoritative, vipOf(i))
		case i != ch.without:
			s.BackupFor = append(s.BackupFor, vipOf(i))
		}
	}
	if k.Standby {
		s.Backup, s.Announce.StepMED = daemon.BackupStandby, stepMED
	}
	if k.First {
		s.Backups = daemon.BackupsFirst
	}
	if k.Standby || k.First {
		s.Order = map[netip.Prefix][]string{}
		for v := range k.Nodes {
			for i := 1; i < k.Nodes; i++ {
				s.Order[vipOf(v)] = append(s.Order[vipOf(v)], nodeName((v+i)%k.Nodes))
			}
		}
	}
	cfg := &daemon.Config{Node: node, Services: []daemon.Service{s}}
	cfg.ZooKeeper.SessionTimeout = k.SessionTimeout
	cfg.ExaBGP.TrackNeighbors, cfg.ExaBGP.DriftCheck = true, k.DriftCheck
	if ch.listed {
		cfg.ExaBGP.Neighbors = []netip.Addr{peerOf(n)}
	}
	if k.Keepalives {
		cfg.ExaBGP.HoldTime = k.HoldTime
	}
	return cfg
}

const (
	claimsPath      = "/exabgp/service/" + serviceName
	maintenancePath = "/exabgp/maintenance/" + serviceName
	failbackPath    = "/exabgp/failback/" + serviceName
	statusPath      = "/exabgp/status/" + serviceName
)

func nodeName(n int) string { return fmt.Sprintf("node%d", n+1) }
