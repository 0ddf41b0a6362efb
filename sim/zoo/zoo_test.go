package zoo

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"exazk/sim/vclock"
	"exazk/zkstate"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// BenchmarkIdle plays 300 s of one client that holds a claim and two watches.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		clock := vclock.New(start)
		e := New(clock, rand.New(rand.NewPCG(1, 2)), Config{Servers: 3, Tick: 2 * time.Second, Delay: time.Millisecond})
		var c *Client
		results := 0
		c = e.Connect(0, 1, 4*time.Second, func(in zkstate.Input) {
			switch in.(type) {
			case zkstate.SessionUp:
				c.Send(zkstate.Call{Op: zkstate.OpCreate, Path: "/a", Ephemeral: true})
				c.Send(zkstate.Call{Op: zkstate.OpChildren, Path: "/", Watch: true})
				c.Send(zkstate.Call{Op: zkstate.OpExists, Path: "/b", Watch: true})
			case zkstate.Result:
				results++
			}
		})
		clock.Run(start.Add(300 * time.Second))
		if _, owner, ok := e.Read("/a"); results != 3 || !ok || owner != c.Session() {
			b.Fatal(results, owner, ok)
		}
	}
}

// BenchmarkReadings is a client that asks for 20 things every 30 s, for 300 s, as the slow reading of a Session does.
func BenchmarkReadings(b *testing.B) {
	for b.Loop() {
		clock := vclock.New(start)
		e := New(clock, rand.New(rand.NewPCG(1, 2)), Config{Servers: 3, Tick: 2 * time.Second, Delay: time.Millisecond})
		c := e.Connect(0, 1, 4*time.Second, func(zkstate.Input) {})
		for range 10 {
			clock.Run(clock.Now().Add(30 * time.Second))
			for range 20 {
				c.Send(zkstate.Call{Op: zkstate.OpChildren, Path: "/"})
			}
		}
	}
}

// rig is an ensemble with clients whose inputs are kept.
type rig struct {
	t     *testing.T
	clock *vclock.Clock
	e     *Ensemble
}

func newRig(t *testing.T, seed uint64, cfg Config) *rig {
	clock := vclock.New(start)
	return &rig{t, clock, New(clock, rand.New(rand.NewPCG(seed, 7)), cfg)}
}

func (r *rig) run(d time.Duration) { r.clock.Run(r.clock.Now().Add(d)) }

type user struct {
	*Client
	r       *rig
	attempt uint64
	got     []zkstate.Input
	at      []time.Time
}

func (r *rig) connect(host int, timeout time.Duration) *user {
	u := &user{r: r}
	u.Client = r.e.Connect(host, 1, timeout, func(in zkstate.Input) {
		u.got = append(u.got, in)
		u.at = append(u.at, r.clock.Now())
	})
	for range 10000 {
		if u.Session() != 0 {
			return u
		}
		r.run(time.Millisecond)
	}
	r.t.Fatal("no session")
	return nil
}

// ask sends a call and waits for its result, at most 10 s.
func (u *user) ask(c zkstate.Call) zkstate.Result {
	u.r.t.Helper()
	u.attempt++
	c.Tag = zkstate.Tag{Conn: 1, Attempt: u.attempt}
	u.Send(c)
	for range 10000 {
		if i := slices.IndexFunc(u.got, func(in zkstate.Input) bool {
			res, ok := in.(zkstate.Result)
			return ok && res.Tag == c.Tag
		}); i >= 0 {
			return u.got[i].(zkstate.Result)
		}
		u.r.run(time.Millisecond)
	}
	u.r.t.Fatalf("no result of %v", c)
	return zkstate.Result{}
}

// TestExpiry kills and stops clients at random moments and measures when their nodes go (fact 1).
func TestExpiry(t *testing.T) {
	for _, servers := range []int{1, 3} {
		least, most := time.Hour, time.Duration(0)
		for seed := range uint64(300) {
			r := newRig(t, seed, Config{Servers: servers, Tick: 2 * time.Second, Delay: time.Millisecond})
			u := r.connect(0, 4*time.Second)
			if res := u.ask(zkstate.Call{Op: zkstate.OpCreate, Path: "/a", Ephemeral: true}); res.Err != nil {
				t.Fatal(res.Err)
			}
			r.run(r.e.draw(5 * time.Second))
			at := r.clock.Now()
			switch seed % 3 {
			case 0:
				u.Die()
			case 1:
				u.Lose()
			case 2:
				u.Pause()
			}
			for {
				if _, _, ok := r.e.Read("/a"); !ok {
					break
				}
				r.run(5 * time.Millisecond)
			}
			took := r.clock.Now().Sub(at)
			least, most = min(least, took), max(most, took)
		}
		bound := 6*time.Second + 10*time.Millisecond
		if servers > 1 {
			bound += time.Second
		}
		if least < 2660*time.Millisecond || least > 3100*time.Millisecond || most > bound || most < bound-600*time.Millisecond {
			t.Errorf("%d servers: from %v to %v", servers, least, most)
		}
	}
}
