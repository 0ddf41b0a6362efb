// Package fault draws what goes wrong in a cluster, and what its operators do, from a seed. The simulator and the driver of the
// lab carry the same faults out. A Fault has a text form, one line, so that a run can be written down, read and cut short.
package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what happens. All but the ones that say so end by themselves after Fault.For.
type Kind uint8

const (
	Crash         Kind = iota // a node loses its power; it boots after For
	KillExazk                 // SIGKILL; ExaBGP starts it again. A moment
	TermExazk                 // SIGTERM; the same. A moment
	PauseExazk                // SIGSTOP for For
	Reconfigure               // exazk gets SIGKILL, and the new one has another configuration. A moment
	KillExaBGP                // SIGKILL, with its processes; started again after For
	RestartExaBGP             // stopped and started as systemd does: drained first, down for For
	PauseExaBGP               // SIGSTOP for For
	SlowExaBGP                // it takes up to a second and a half for each command, for For
	SickCheck                 // the check fails
	HangCheck                 // the check does not end by itself: it runs into its timeout
	FlapCheck                 // the check fails and passes by turns, each for Turn
	LinkDown                  // the link between a node and its ToR is pulled
	SilentLink                // packets on it are lost, as Way says
	ResetSession              // the ToR closes the BGP session. A moment
	CutZK                     // packets between a node and all servers of ZooKeeper are lost, as Way says
	CutServer                 // the same with one of the servers
	SeverZK                   // the node's connections to ZooKeeper are reset. A moment
	Isolate                   // LinkDown and CutZK at once
	KillServer                // one server of ZooKeeper is killed; started again after For
	PauseServer               // SIGSTOP of one server
	KillEnsemble              // all servers
	PauseEnsemble             // all servers
	RollEnsemble              // the servers are killed and started one after the other, within For
	LagServer                 // a server is up to a second behind
	Maintenance               // an operator creates the maintenance node, and deletes it after For
	Until                     // the same, but it ends by what is written in it
	Failback                  // an operator's word to take VIPs back. A moment
	Reload                    // exazk takes another configuration over while it runs. A moment
	ByHand                    // an operator gives ExaBGP a command for one of exazk's routes. A moment
	Squat                     // an operator puts a persistent node where the claim on a node's VIP belongs, and deletes it after For
	kinds
)

var names = [kinds]string{
	"crash", "kill-exazk", "term-exazk", "pause-exazk", "reconfigure", "kill-exabgp", "restart-exabgp", "pause-exabgp", "slow-exabgp",
	"sick-check", "hang-check", "flap-check", "link-down", "silent-link", "reset-session", "cut-zk", "cut-server", "sever-zk", "isolate",
	"kill-server", "pause-server", "kill-ensemble", "pause-ensemble", "roll-ensemble", "lag-server", "maintenance", "until", "failback", "reload", "by-hand", "squat",
}

func (k Kind) String() string { return names[k] }

// Planned says that an operator means it, so that nobody may notice.
func (k Kind) Planned() bool {
	switch k {
	case KillExazk, TermExazk, Reconfigure, RestartExaBGP, Maintenance, Until, Failback, Reload:
		return true
	}
	return false
}

// Moment says that it has no length.
func (k Kind) Moment() bool {
	switch k {
	case KillExazk, TermExazk, Reconfigure, ResetSession, SeverZK, Failback, Reload, ByHand:
		return true
	}
	return false
}

// OfEnsemble says that it happens to ZooKeeper's servers and to no node.
func (k Kind) OfEnsemble() bool { return k >= KillServer && k <= LagServer }

// oneServer says that it has a Server.
func (k Kind) oneServer() bool {
	switch k {
	case CutServer, KillServer, PauseServer, LagServer:
		return true
	}
	return false
}

// Way is which packets are lost.
type Way uint8

const (
	Both Way = iota
	Out      // those that the node sends
	In       // those that it should get
)

var ways = [...]string{"both", "out", "in"}

func (w Way) String() string { return ways[w] }

func (k Kind) hasWay() bool { return k == SilentLink || k == CutZK || k == CutServer }

// Fault is one thing that happens.
type Fault struct {
	At     time.Duration // since the start of the run
	For    time.Duration // 0 for a moment
	Turn   time.Duration // of FlapCheck
	Kind   Kind
	Way    Way
	Node   int // from 0; not of faults of the ensemble
	Server int // from 0
}

// End is when it is over.
func (f Fault) End() time.Duration { return f.At + f.For }

// String is the text form: "12.3s cut-server lb2 zk1 out for 8s".
func (f Fault) String() string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%v %v", f.At, f.Kind)
	if !f.Kind.OfEnsemble() {
		fmt.Fprintf(b, " lb%d", f.Node+1)
	}
	if f.Kind.oneServer() {
		fmt.Fprintf(b, " zk%d", f.Server+1)
	}
	if f.Kind.hasWay() {
		fmt.Fprintf(b, " %v", f.Way)
	}
	if f.Kind == FlapCheck {
		fmt.Fprintf(b, " every %v", f.Turn)
	}
	if !f.Kind.Moment() {
		fmt.Fprintf(b, " for %v", f.For)
	}
	return b.String()
}

// Parse reads the text form.
func Parse(line string) (Fault, error) {
	words := strings.Fields(line)
	fail := func(what string) (Fault, error) {
		return Fault{}, fmt.Errorf("fault %q: %s; the form is \"12.3s cut-server lb2 zk1 out for 8s\"", line, what)
	}
	if len(words) < 2 {
		return fail("an instant and a kind are needed")
	}
	var f Fault
	var err error
	if f.At, err = time.ParseDuration(words[0]); err != nil {
		return fail("no duration at its beginning")
	}
	k := slices.Index(names[:], words[1])
	if k < 0 {
		return fail("no such kind")
	}
	f.Kind = Kind(k)
	for i := 2; i < len(words); i++ {
		w := words[i]
		way := slices.Index(ways[:], w)
		switch {
		case way >= 0:
			f.Way = Way(way)
		case strings.HasPrefix(w, "lb"):
			f.Node, err = number(w[2:])
		case strings.HasPrefix(w, "zk"):
			f.Server, err = number(w[2:])
		case (w == "for" || w == "every") && i+1 < len(words):
			i++
			to := &f.For
			if w == "every" {
				to = &f.Turn
			}
			*to, err = time.ParseDuration(words[i])
		default:
			return fail(fmt.Sprintf("what is %q", w))
		}
		if err != nil {
			return fail(fmt.Sprintf("what is %q", words[i]))
		}
	}
	return f, nil
}

func number(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err == nil && n < 1 {
		err = strconv.ErrRange
	}
	return n - 1, err
}

// Options bound what is drawn.
type Options struct {
	Nodes, Servers int
	From, To       time.Duration // faults begin not before From, and all are over by To
	Kinds          []Kind        // of these; none means all
	Longest        time.Duration // of a fault; 0 means a minute
	Most           int           // faults; 0 means 12
}

// Draw draws faults in the order of their beginnings. Not every kind is in every run: a run with few kinds goes deeper into
// what these do to each other. Some begin together or where another ends, for that is where trouble is.
func Draw(r *rand.Rand, opt Options) []Fault {
	all := opt.Kinds
	if len(all) == 0 {
		all = All()
	}
	if opt.Longest == 0 {
		opt.Longest = time.Minute
	}
	if opt.Most == 0 {
		opt.Most = 12
	}
	some := make([]Kind, 1+r.IntN(6))
	for i := range some {
		some[i] = all[r.IntN(len(all))]
	}
	var faults []Fault
	for range r.IntN(opt.Most + 1) {
		f := Fault{Kind: some[r.IntN(len(some))], Node: r.IntN(opt.Nodes), Server: r.IntN(opt.Servers), Way: Way(r.IntN(3))}
		f.At = opt.From + instant(r, opt.To-opt.From)
		if len(faults) > 0 && r.IntN(3) == 0 {
			near := faults[r.IntN(len(faults))]
			f.At = near.At
			if r.IntN(2) == 0 {
				f.At = near.End()
			}
			f.At += (time.Duration(r.IntN(600)) - 200) * time.Millisecond / 10
		}
		f.For = length(r, opt.Longest)
		if f = f.tidy(r); f.At >= opt.From && f.End() <= opt.To {
			faults = append(faults, f)
		}
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return int(a.At - b.At) })
	return faults
}

// All lists every kind.
func All() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// tidy leaves out what a kind does not have, so that equal faults are equal.
func (f Fault) tidy(r *rand.Rand) Fault {
	if f.Kind.Moment() {
		f.For = 0
	}
	if f.Kind.OfEnsemble() {
		f.Node = 0
	}
	if !f.Kind.oneServer() {
		f.Server = 0
	}
	if !f.Kind.hasWay() {
		f.Way = Both
	}
	if f.Kind == FlapCheck {
		f.Turn = 100*time.Millisecond + instant(r, 8*time.Second)
	}
	return f
}

func instant(r *rand.Rand, within time.Duration) time.Duration {
	return time.Duration(r.Int64N(max(1, int64(within/time.Millisecond)))) * time.Millisecond
}

// length is short as often as it is long: each order of magnitude has its own bugs.
func length(r *rand.Rand, longest time.Duration) time.Duration {
	most := longest
	for range r.IntN(4) {
		most /= 5
	}
	return 50*time.Millisecond + instant(r, most)
}
