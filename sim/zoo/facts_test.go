package zoo

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"exazk/zkstate"

	"github.com/go-zookeeper/zk"
)

// story is what a user was told since a place in it, without results and without node events; being down is told once.
func (u *user) story(from int) string {
	var words []string
	say := func(word string) {
		if word != "down" || len(words) == 0 || words[len(words)-1] != "down" {
			words = append(words, word)
		}
	}
	for _, in := range u.got[from:] {
		switch in.(type) {
		case zkstate.SessionUp:
			say("up")
		case zkstate.SessionDown:
			say("down")
		case zkstate.SessionExpired:
			say("expired")
		}
	}
	return strings.Join(words, " ")
}

// told is when a user heard of something for the first time since a place in its story; false if never.
func (u *user) told(from int, want zkstate.Input) (time.Time, bool) {
	for i := from; i < len(u.got); i++ {
		if fmt.Sprintf("%T", u.got[i]) == fmt.Sprintf("%T", want) {
			return u.at[i], true
		}
	}
	return time.Time{}, false
}

// after is how long after an instant a user heard of something.
func (u *user) after(at time.Time, from int, want zkstate.Input) time.Duration {
	t, ok := u.told(from, want)
	if !ok {
		u.r.t.Fatalf("never heard of %T: %v", want, u.got[from:])
	}
	return t.Sub(at)
}

func within(t *testing.T, what string, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: %v, not from %v to %v", what, got, least, most)
	}
}

// crowd is nine clients with a node each.
func (r *rig) crowd(timeout time.Duration) []*user {
	var users []*user
	for i := range 9 {
		u := r.connect(i, timeout)
		if res := u.ask(zkstate.Call{Op: zkstate.OpCreate, Path: fmt.Sprint("/", i), Ephemeral: true}); res.Err != nil {
			r.t.Fatal(res.Err)
		}
		users = append(users, u)
	}
	return users
}

// survivors counts the nodes of a crowd that are there.
func (r *rig) survivors() int { return len(r.e.Names("/")) - 1 }

const fewMS = 5 * time.Millisecond

// TestLeaderKilled: everybody is disconnected at once, back after 0.4 s with the host provider that paces, and nothing is
// lost (facts 3e).
func TestLeaderKilled(t *testing.T) {
	for seed := range uint64(50) {
		r := newRig(t, seed, Config{Servers: 3, Delay: fewMS})
		users := r.crowd(4 * time.Second)
		r.run(r.e.draw(3 * time.Second))
		at := r.clock.Now()
		from := make([]int, len(users))
		for i, u := range users {
			from[i] = len(u.got)
		}
		r.e.Kill(r.e.Leader())
		if r.e.Quorum() {
			t.Fatal("a quorum without a leader")
		}
		r.run(5 * time.Second)
		for i, u := range users {
			within(t, "down", u.after(at, from[i], zkstate.SessionDown{}), 0, 50*time.Millisecond)
			within(t, "back", u.after(at, from[i], zkstate.SessionUp{}), 200*time.Millisecond, 700*time.Millisecond)
			if got := u.story(0); got != "up down up" {
				t.Errorf("story %q", got)
			}
		}
		if n := r.survivors(); n != 9 {
			t.Errorf("%d nodes of 9 are left", n)
		}
	}
}

// TestLeaderFrozen: those on it hear of it by its silence, the others when they give it up; with the guard nobody's session
// ends (facts 2 and 3e).
func TestLeaderFrozen(t *testing.T) {
	for seed := range uint64(50) {
		r := newRig(t, seed, Config{Servers: 3, Tick: 2 * time.Second, Delay: fewMS})
		users := r.crowd(4 * time.Second)
		at, leader := r.clock.Now(), r.e.Leader()
		onIt := make([]bool, len(users))
		from := make([]int, len(users))
		for i, u := range users {
			onIt[i], from[i] = u.k.s.n == leader, len(u.got)
		}
		r.e.Freeze(leader)
		writer := 0
		for onIt[writer] {
			writer++
		}
		users[writer].Send(zkstate.Call{Op: zkstate.OpCreate, Path: "/w"})
		r.run(20 * time.Second)
		for i, u := range users {
			if onIt[i] || i == writer {
				within(t, "down on it, or waiting for it", u.after(at, from[i], zkstate.SessionDown{}), 1300*time.Millisecond, 2700*time.Millisecond)
			} else {
				within(t, "down beside it", u.after(at, from[i], zkstate.SessionDown{}), 9*time.Second, 10100*time.Millisecond)
			}
			within(t, "back", u.after(at, from[i], zkstate.SessionUp{}), 9*time.Second, 13*time.Second)
			if got := u.story(0); got != "up down up" {
				t.Errorf("story %q", got)
			}
		}
		if n := r.survivors(); n != 9 && n != 10 {
			t.Errorf("%d nodes of 9 or 10 are left", n)
		}
		r.e.Thaw(leader)
		r.run(5 * time.Second)
		if !r.e.Quorum() || !r.e.servers[leader].member() {
			t.Error("the frozen server is not back")
		}
	}
}

// TestServersStandStill: a pause longer than T + tick ends every session, a short one none (fact 5, facts 3e).
func TestServersStandStill(t *testing.T) {
	ended := 0
	for seed := range uint64(100) {
		r := newRig(t, seed, Config{Tick: 2 * time.Second, Delay: fewMS})
		users := r.crowd(4 * time.Second)
		r.run(r.e.draw(3 * time.Second))
		pause := 8 * time.Second
		if seed%2 == 0 {
			pause = 2500 * time.Millisecond
		}
		r.e.Freeze(0)
		r.run(pause)
		if n := r.survivors(); n != 9 {
			t.Fatalf("%d nodes while nobody can end a session", n)
		}
		r.e.Thaw(0)
		r.run(20 * time.Millisecond)
		if seed%2 == 0 {
			if n := r.survivors(); n != 9 {
				t.Errorf("%d nodes after a short pause", n)
			}
			continue
		}
		ended += 9 - r.survivors()
		r.run(5 * time.Second)
		for i, u := range users {
			if got, kept := u.story(0), r.e.tree[fmt.Sprint("/", i)] != nil; got != "up down expired down up" && !(kept && got == "up down up") {
				t.Errorf("story %q", got)
			}
		}
	}
	if ended < 300 || ended == 450 {
		t.Errorf("%d of 450 sessions ended; a few must be saved by a reconnect that waits in a socket", ended)
	}
}

// TestOutage: 30 s without any server end no session, and a client that died meanwhile seems to be there again for a
// timeout (facts 3g).
func TestOutage(t *testing.T) {
	for seed := range uint64(50) {
		r := newRig(t, seed, Config{Servers: 3, Delay: fewMS})
		users := r.crowd(4 * time.Second)
		czxid := r.e.tree["/3"].stat.Czxid
		for s := range 3 {
			r.e.Kill(s)
		}
		r.run(10 * time.Second)
		users[8].Die()
		r.run(20 * time.Second)
		for s := range 3 {
			r.e.Start(s)
		}
		for !r.e.Quorum() {
			r.run(time.Millisecond)
		}
		at := r.clock.Now()
		for r.survivors() == 9 {
			r.run(time.Millisecond)
		}
		within(t, "the dead one's node", r.clock.Now().Sub(at), 4*time.Second, 6*time.Second+time.Millisecond)
		for i, u := range users[:8] {
			if got := u.story(0); got != "up down up" {
				t.Errorf("client %d: story %q", i, got)
			}
		}
		if r.survivors() != 8 || r.e.tree["/3"].stat.Czxid != czxid {
			t.Errorf("%d nodes are left, czxid %d was %d", r.survivors(), r.e.tree["/3"].stat.Czxid, czxid)
		}
	}
}

// TestPartition: a host that hears nothing knows before others see its node go, by a third of the timeout at least (facts
// 3h); what became of the session it learns when it can hear again (fact 4).
func TestPartition(t *testing.T) {
	for seed := range uint64(100) {
		r := newRig(t, seed, Config{Servers: 3, Tick: 2 * time.Second, Delay: fewMS})
		u := r.connect(0, 4*time.Second)
		u.ask(zkstate.Call{Op: zkstate.OpCreate, Path: "/a", Ephemeral: true})
		r.run(r.e.draw(3 * time.Second))
		at, from := r.clock.Now(), len(u.got)
		for s := range 3 {
			r.e.Cut(0, s, Way(seed%2)) // both, or to the servers
		}
		for r.survivors() == 1 {
			r.run(time.Millisecond)
		}
		gone := r.clock.Now().Sub(at)
		within(t, "node", gone, 2650*time.Millisecond, 7010*time.Millisecond)
		down := u.after(at, from, zkstate.SessionDown{})
		within(t, "down", down, 1300*time.Millisecond, 2700*time.Millisecond)
		if gone-down < 4*time.Second/3-20*time.Millisecond {
			t.Errorf("down after %v, gone after %v", down, gone)
		}
		r.run(time.Minute)
		if got := u.story(from); got != "down" {
			t.Errorf("story %q", got)
		}
		for s := range 3 {
			r.e.Mend(0, s)
		}
		r.run(5 * time.Second)
		if got := u.story(from); got != "down expired down up" {
			t.Errorf("story %q", got)
		}
	}
}

// TestSleep stops a client's process (facts 3f).
func TestSleep(t *testing.T) {
	for seed := range uint64(100) {
		r := newRig(t, seed, Config{Servers: 1 + 2*int(seed%2), Tick: 2 * time.Second, Delay: fewMS})
		u := r.connect(0, 4*time.Second)
		other := r.connect(1, 4*time.Second)
		u.ask(zkstate.Call{Op: zkstate.OpExists, Path: "/w", Watch: true})
		for _, sleep := range []time.Duration{time.Second, 12 * time.Second} {
			from := len(u.got)
			u.Pause()
			other.ask(zkstate.Call{Op: zkstate.OpCreate, Path: "/w"})
			r.run(sleep)
			if len(u.got) != from {
				t.Fatal("a stopped process is told something")
			}
			at := r.clock.Now()
			u.Resume()
			r.run(time.Second)
			got := u.story(from)
			if sleep == time.Second {
				if _, fired := u.told(from, zkstate.NodeChanged{}); got != "" || !fired {
					t.Errorf("after a nap: %q, event: %v", got, fired)
				}
				continue
			}
			if got != "down expired down up" {
				t.Errorf("after a sleep: %q", got)
			}
			within(t, "down", u.after(at, from, zkstate.SessionDown{}), 0, fewMS)
			within(t, "up", u.after(at, from, zkstate.SessionUp{}), 0, 300*time.Millisecond)
		}
	}
}

// TestStale: a read may be stale, a session never goes back, and a sync makes what follows new (§2). Nor does a new session
// go back: its beginning is a transaction, and its server has taken all before that when it welcomes the client
// (FinalRequestProcessor answers createSession).
func TestStale(t *testing.T) {
	stale := 0
	for seed := range uint64(300) {
		r := newRig(t, seed, Config{Servers: 3, Delay: time.Millisecond, Lag: 500 * time.Millisecond})
		u, w := r.connect(0, 4*time.Second), r.connect(1, 4*time.Second)
		w.ask(zkstate.Call{Op: zkstate.OpCreate, Path: "/a"})
		u.ask(zkstate.Call{Op: zkstate.OpSync, Path: "/"})
		version := int32(0)
		for range 20 {
			w.ask(zkstate.Call{Op: zkstate.OpSet, Path: "/a", Version: anyVersion})
			switch r.e.r.IntN(8) {
			case 0:
				r.e.Sever(0) // to another server, in the same session
			case 1: // in another
				u.Die()
				u = r.connect(0, 4*time.Second)
			}
			res := u.ask(zkstate.Call{Op: zkstate.OpGet, Path: "/a"})
			switch {
			case errors.Is(res.Err, zk.ErrConnectionClosed) || errors.Is(res.Err, errBroken):
				continue
			case res.Err != nil || res.Stat.Version < version:
				t.Fatalf("seed %d: version %d after %d, %v", seed, res.Stat.Version, version, res.Err)
			}
			if version = res.Stat.Version; version < r.e.tree["/a"].stat.Version {
				stale++
			}
			if r.e.chance(4) {
				u.ask(zkstate.Call{Op: zkstate.OpSync, Path: "/"})
				before := r.e.tree["/a"].stat.Version
				res := u.ask(zkstate.Call{Op: zkstate.OpGet, Path: "/a"})
				if res.Err == nil && res.Stat.Version < before {
					t.Fatalf("seed %d: version %d after a sync, there is %d", seed, res.Stat.Version, before)
				}
			}
		}
	}
	if stale < 100 {
		t.Errorf("%d reads were stale", stale)
	}
}

// TestOutcomes: a request whose connection is lost was carried out, or is later, or never (fact 6); and under its own
// session only.
func TestOutcomes(t *testing.T) {
	var before, late, never, unseen int
	for seed := range uint64(2000) {
		r := newRig(t, seed, Config{Servers: 3, Delay: 10 * time.Millisecond, Lag: 300 * time.Millisecond})
		u := r.connect(0, 4*time.Second)
		var made time.Time
		r.e.OnChange(func(string) { made = r.clock.Now() })
		from := len(u.got)
		u.Send(zkstate.Call{Op: zkstate.OpCreate, Path: "/a", Ephemeral: true, Tag: zkstate.Tag{Attempt: 1}})
		r.run(r.e.draw(20 * time.Millisecond))
		r.e.Sever(0)
		r.run(r.e.draw(40 * time.Millisecond))
		res := u.ask(zkstate.Call{Op: zkstate.OpExists, Path: "/a"})
		r.run(3 * time.Second)
		down, _ := u.told(from, zkstate.SessionDown{})
		_, owner, there := r.e.Read("/a")
		switch {
		case !there:
			never++
			continue
		case made.After(down):
			late++
		default:
			before++
		}
		if res.Err == nil && !res.Found {
			unseen++ // made, and not yet seen after the reconnect
		}
		if owner != u.Session() {
			t.Errorf("seed %d: owner %#x, session %#x", seed, owner, u.Session())
		}
	}
	if min(before, late, never, unseen) < 10 {
		t.Errorf("%d were made before the loss was known, %d later, %d never; %d were made and not seen after the reconnect", before, late, never, unseen)
	}
}

// TestPark: a client that nobody would have costs nothing, and comes back when somebody would.
func TestPark(t *testing.T) {
	r := newRig(t, 1, Config{Servers: 3, Delay: fewMS})
	u := r.connect(0, 4*time.Second)
	for s := range 3 {
		r.e.Kill(s)
	}
	r.run(10 * time.Second)
	if next, ok := r.clock.Next(); ok {
		t.Errorf("something is due in %v", next.Sub(r.clock.Now()))
	}
	r.e.Start(0)
	r.run(10 * time.Second)
	if got := u.story(0); got != "up down" {
		t.Errorf("story %q", got)
	}
	r.e.Start(1)
	r.run(2 * time.Second)
	if got := u.story(0); got != "up down up" {
		t.Errorf("story %q", got)
	}
}

// TestOperator uses the ensemble as an operator does.
func TestOperator(t *testing.T) {
	r := newRig(t, 1, Config{Delay: fewMS})
	var changed []string
	r.e.OnChange(func(p string) { changed = append(changed, p) })
	if err := r.e.Put("/a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if data, owner, ok := r.e.Read("/a/b"); string(data) != "x" || owner != 0 || !ok {
		t.Errorf("%q %d %v", data, owner, ok)
	}
	r.e.Put("/a/b", []byte("y"))
	if err := r.e.Remove("/a"); !errors.Is(err, zk.ErrNotEmpty) {
		t.Error(err)
	}
	r.e.Remove("/a/b")
	if got := strings.Join(changed, " "); got != "/a /a/b /a/b /a/b" {
		t.Errorf("changed %s", got)
	}
	if names := r.e.Names("/"); len(names) != 2 || names[0] != "a" || r.e.Names("/no") != nil {
		t.Errorf("names %v", names)
	}
	u := r.connect(0, 4*time.Second)
	if !r.e.Alive(u.Session()) {
		t.Error("no session")
	}
	r.e.ExpireAll()
	r.run(time.Second)
	if got := u.story(0); got != "up down expired down up" {
		t.Errorf("story %q", got)
	}
	r.e.Kill(0)
	r.run(time.Second)
	r.e.ExpireAll()
	if err := errors.Join(r.e.Put("/z", nil), r.e.Remove("/a")); !errors.Is(err, zk.ErrNoServer) || r.e.Leader() != -1 {
		t.Errorf("without a server: %v, leader %d", err, r.e.Leader())
	}
}

// servedBy connects a client that goes to some servers only.
func (r *rig) servedBy(host int, timeout time.Duration, servers ...int) *user {
	u := &user{r: r}
	u.Client = r.e.Connect(host, 1, timeout, func(in zkstate.Input) {
		u.got = append(u.got, in)
		u.at = append(u.at, r.clock.Now())
	})
	u.order = servers
	u.ask(zkstate.Call{Op: zkstate.OpSync, Path: "/"})
	return u
}

// post sends a call without waiting; outcome returns what became of it, nil and false if there is no result yet.
func (u *user) post(c zkstate.Call) zkstate.Tag {
	u.attempt++
	c.Tag = zkstate.Tag{Conn: 1, Attempt: u.attempt}
	u.Send(c)
	return c.Tag
}

func (u *user) outcome(tag zkstate.Tag) (zkstate.Result, bool) {
	for _, in := range u.got {
		if res, ok := in.(zkstate.Result); ok && res.Tag == tag {
			return res, true
		}
	}
	return zkstate.Result{}, false
}

// TestLateRequests: what waits in a frozen follower's socket is refused when the session has gone to another server, or
// has ended.
func TestLateRequests(t *testing.T) {
	for seed := range uint64(50) {
		r := newRig(t, seed, Config{Servers: 3, Tick: 2 * time.Second, Delay: fewMS})
		f := (r.e.Leader() + 1) % 3
		moved, ended := r.servedBy(0, 4*time.Second, f, r.e.Leader()), r.servedBy(1, 4*time.Second, f)
		for moved.k.s.n != f {
			r.e.Sever(0)
			r.run(time.Second)
		}
		r.e.Freeze(f)
		moved.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/moved", Ephemeral: true})
		ended.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/ended", Ephemeral: true})
		id := ended.Session()
		r.run(9 * time.Second)
		if r.e.Alive(id) || !r.e.Alive(moved.Session()) || moved.k.s.n == f {
			t.Fatal("the sessions are not where they should be")
		}
		r.e.Thaw(f)
		r.run(5 * time.Second)
		if names := r.e.Names("/"); len(names) != 1 {
			t.Errorf("seed %d: made late: %v", seed, names)
		}
		if moved.story(0) != "up down up" || ended.story(0) != "up down expired down up" {
			t.Errorf("stories %q and %q", moved.story(0), ended.story(0))
		}
	}
}

// TestExpelled: a follower that was silent for too long has to come back to the quorum, and its clients have to look for
// another server.
func TestExpelled(t *testing.T) {
	r := newRig(t, 1, Config{Servers: 3, Tick: 200 * time.Millisecond, Delay: fewMS})
	f := r.e.servers[(r.e.Leader()+1)%3]
	u := r.servedBy(0, 4*time.Second, f.n)
	r.e.Freeze(f.n)
	r.run(1500 * time.Millisecond)
	if got := u.story(0); got != "up" || !r.e.Quorum() {
		t.Errorf("story %q", got)
	}
	r.e.Thaw(f.n)
	if f.member() {
		t.Error("still a member")
	}
	r.run(time.Second)
	if got := u.story(0); got != "up down up" || !f.member() {
		t.Errorf("story %q, member: %v", got, f.member())
	}
}

// TestProposed: what a leader without a quorum was asked for is perhaps done by the next one.
func TestProposed(t *testing.T) {
	done := 0
	for seed := range uint64(50) {
		r := newRig(t, seed, Config{Servers: 3, Tick: 2 * time.Second, Delay: fewMS})
		lead := r.e.Leader()
		u := r.servedBy(0, 4*time.Second, lead)
		r.e.Kill((lead + 1) % 3)
		r.e.Kill((lead + 2) % 3)
		tag := u.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/a"})
		r.run(2 * time.Second)
		if res, ok := u.outcome(tag); !ok || res.Err == nil || r.e.Quorum() {
			t.Fatalf("%+v %v without a quorum", res, ok)
		}
		r.e.Start((lead + 1) % 3)
		r.run(5 * time.Second)
		if _, _, there := r.e.Read("/a"); there {
			done++
		}
	}
	if done < 5 || done > 45 {
		t.Errorf("done %d times of 50", done)
	}
}

// TestDeposedLeader: one that wakes up after its reign answers what waits in its sockets from what it knew, a sync too (§2).
func TestDeposedLeader(t *testing.T) {
	old := 0
	for seed := range uint64(50) {
		r := newRig(t, seed, Config{Servers: 3, Tick: 2 * time.Second, Delay: fewMS})
		lead := r.e.Leader()
		r.e.Put("/a", []byte("old"))
		u := r.servedBy(0, 40*time.Second, lead)
		r.e.Freeze(lead)
		sync := u.post(zkstate.Call{Op: zkstate.OpSync, Path: "/"})
		r.run(time.Millisecond)
		get := u.post(zkstate.Call{Op: zkstate.OpGet, Path: "/a"})
		r.run(15 * time.Second)
		if err := r.e.Put("/a", []byte("new")); err != nil {
			t.Fatal(err)
		}
		r.e.Thaw(lead)
		r.run(3 * time.Second)
		first, _ := u.outcome(sync)
		second, _ := u.outcome(get)
		// It may close the connection before the answers are there.
		switch {
		case first.Err != nil || second.Err != nil:
		case string(second.Data) == "old":
			old++
		default:
			t.Errorf("seed %d: %q after a sync at the deposed leader", seed, second.Data)
		}
		if res := u.ask(zkstate.Call{Op: zkstate.OpGet, Path: "/a"}); string(res.Data) != "new" {
			t.Errorf("seed %d: %q after it is back", seed, res.Data)
		}
	}
	if old < 10 {
		t.Errorf("it answered %d times of 50", old)
	}
}

// TestOneWay: with one direction cut the other goes on.
func TestOneWay(t *testing.T) {
	r := newRig(t, 1, Config{Delay: fewMS})
	u := r.connect(0, 4*time.Second)
	u.ask(zkstate.Call{Op: zkstate.OpExists, Path: "/w", Watch: true})
	from := len(u.got)
	r.e.Cut(0, 0, ToServer)
	r.e.Put("/w", nil)
	r.run(time.Second)
	if _, fired := u.told(from, zkstate.NodeChanged{}); !fired || u.story(from) != "" {
		t.Errorf("%v", u.got[from:])
	}
	r.e.Mend(0, 0)
	r.run(time.Second)
	r.e.Cut(0, 0, ToHost)
	tag := u.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/a"})
	r.run(100 * time.Millisecond)
	if _, ok := u.outcome(tag); ok || r.e.tree["/a"] == nil {
		t.Error("the request does not arrive, or its answer does")
	}
	r.e.Mend(0, 0)
	r.run(time.Second)
	if _, ok := u.outcome(tag); !ok || u.story(from) != "" {
		t.Error("the answer does not arrive")
	}
}

// TestNap: a process that slept for longer than it bears silence closes its connection, or finds something that has come and
// goes on with it.
func TestNap(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(100) {
		r := newRig(t, seed, Config{Tick: 2 * time.Second, Delay: fewMS})
		u := r.connect(0, 4*time.Second)
		u.ask(zkstate.Call{Op: zkstate.OpExists, Path: "/w", Watch: true})
		from := len(u.got)
		u.Pause()
		r.run(time.Second)
		r.e.Put("/w", nil)
		r.run(1800 * time.Millisecond)
		u.Resume()
		r.run(2 * time.Second)
		seen[u.story(from)]++
		if _, fired := u.told(from, zkstate.NodeChanged{}); !fired {
			t.Errorf("seed %d: the event is lost", seed)
		}
	}
	if seen[""] < 5 || seen["down up"] < 50 || seen[""]+seen["down up"] != 100 {
		t.Errorf("%v", seen)
	}
}

// TestOvertaking: calls of one moment overtake each other, those of two do not.
func TestOvertaking(t *testing.T) {
	overtaken := 0
	for seed := range uint64(100) {
		r := newRig(t, seed, Config{Delay: fewMS})
		u := r.connect(0, 4*time.Second)
		u.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/a"})
		second := u.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/a"})
		r.run(time.Second)
		if res, _ := u.outcome(second); res.Err == nil {
			overtaken++
		}
		u.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/b"})
		r.run(time.Microsecond)
		second = u.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/b"})
		r.run(time.Second)
		if res, _ := u.outcome(second); !errors.Is(res.Err, zk.ErrNodeExists) {
			t.Errorf("%v", res.Err)
		}
	}
	if overtaken < 10 || overtaken > 50 {
		t.Errorf("%d of 100", overtaken)
	}
}

// TestReset: what was on its way when a connection is reset arrives, or not.
func TestReset(t *testing.T) {
	made := 0
	for seed := range uint64(100) {
		r := newRig(t, seed, Config{Delay: 10 * time.Millisecond})
		u := r.connect(0, 4*time.Second)
		u.post(zkstate.Call{Op: zkstate.OpCreate, Path: "/a"})
		r.run(0)
		r.e.Sever(0)
		r.run(2 * time.Second)
		if _, _, there := r.e.Read("/a"); there {
			made++
		}
	}
	if made < 20 || made > 90 {
		t.Errorf("%d of 100", made)
	}
}

// TestMisled: a leader that has slept through its reign's end tells clients that their sessions have expired, while the
// quorum keeps them (seen with real servers: TestHonest/ensemble/deposed).
func TestMisled(t *testing.T) {
	misled := 0
	for seed := range uint64(50) {
		r := newRig(t, seed, Config{Servers: 3, Tick: 200 * time.Millisecond, Delay: fewMS})
		lead := r.e.Leader()
		u := r.servedBy(0, time.Second, lead)
		u.ask(zkstate.Call{Op: zkstate.OpCreate, Path: "/a", Ephemeral: true})
		r.e.Freeze(lead)
		r.run(1600 * time.Millisecond)
		from := len(u.got)
		r.e.Thaw(lead)
		for range 30 {
			r.run(time.Millisecond)
			if _, told := u.told(from, zkstate.SessionExpired{}); told {
				break
			}
		}
		if _, told := u.told(from, zkstate.SessionExpired{}); told {
			if _, _, there := r.e.Read("/a"); !there {
				t.Error("the session has ended")
			}
			misled++
		}
		r.run(5 * time.Second)
		if _, owner, there := r.e.Read("/a"); there && owner != u.Session() {
			t.Error("the node of the lost session stays")
		}
	}
	if misled < 10 || misled == 50 {
		t.Errorf("%d of 50", misled)
	}
}
