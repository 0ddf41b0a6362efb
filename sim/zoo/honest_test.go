//go:build !race

// The client library reads lastZxid without a lock when it reconnects (v1.0.4), and the race detector says so.

package zoo

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"exazk/zkstate"
	"exazk/zkstate/zktest"
)

// stage is where a script is played: the model, or real servers and the real client library. Clients are known by name,
// servers by number. Each client reaches all servers by a wire of its own.
type stage interface {
	now() time.Time
	wait(d time.Duration)
	connect(name string, timeout time.Duration, servers []int)
	take() []heard // what the clients were told since the last call
	send(name string, call zkstate.Call)
	close(name string)
	kill(name string) // the process of the client
	cut(name string, way Way)
	mend(name string)
	sever(name string)
	killServer(n int)
	startServer(n int)
	freeze(n int)
	thaw(n int)
	leader() int
	put(path, data string) error
	remove(path string) error
	there(path string) bool
}

// script is a story, and says what the ensemble is like. All ticks are 200 ms.
type script struct {
	name    string
	servers int  // 1 if 0
	own     bool // it does harm to its server
	play    func(p *play)
}

const tick = 200 * time.Millisecond

// play is one performance of a script.
type play struct {
	t       *testing.T
	stage   stage
	root    string
	lines   []line
	asked   []line // calls without a result yet
	attempt uint64
}

// heard is an input that some client has got.
type heard struct {
	who string
	in  zkstate.Input
}

// line is an entry of the transcript.
type line struct {
	who string
	in  zkstate.Input
	ask zkstate.Call // of a Result
}

// patience is for a busy machine.
const patience = time.Minute

// until waits for cond and returns how long that took.
func (p *play) until(what string, cond func() bool) time.Duration {
	p.t.Helper()
	began := p.stage.now()
	for {
		p.listen()
		if cond() {
			return p.stage.now().Sub(began)
		}
		if p.stage.now().Sub(began) > patience {
			p.t.Fatalf("it never happens: %s\n%s", what, p.transcript())
		}
		p.stage.wait(time.Millisecond)
	}
}

// quiet lets what is under way happen.
func (p *play) quiet() {
	p.stage.wait(250 * time.Millisecond)
	p.listen()
}

// bound checks how long something took, with slack for a busy machine where it is real.
func (p *play) bound(what string, took, least, most time.Duration) {
	p.t.Helper()
	if took < least-20*time.Millisecond || took > most+500*time.Millisecond {
		p.t.Errorf("%s took %v, not %v to %v", what, took, least, most)
	}
}

// listen puts what was pushed into the transcript.
func (p *play) listen() {
	for _, h := range p.stage.take() {
		l := line{who: h.who, in: h.in}
		if res, ok := h.in.(zkstate.Result); ok {
			i := p.waiting(res.Tag)
			if i < 0 {
				p.t.Fatalf("a result that nobody waits for: %+v", res)
			}
			l.ask = p.asked[i].ask
			p.asked = slices.Delete(p.asked, i, i+1)
		}
		p.lines = append(p.lines, l)
	}
}

// waiting returns the place of a call among those without a result, -1 if it has one.
func (p *play) waiting(tag zkstate.Tag) int {
	return slices.IndexFunc(p.asked, func(l line) bool { return l.ask.Tag == tag })
}

// connect makes a client that goes to some servers only, or to all, and waits for its session.
func (p *play) connect(name string, timeout time.Duration, servers ...int) {
	p.t.Helper()
	p.stage.connect(name, timeout, servers)
	p.event(name, 0, "up")
}

// mark is the length of the transcript, for event.
func (p *play) mark() int {
	p.listen()
	return len(p.lines)
}

// event waits until, from a mark on, a client hears of something: "up", "down", "expired" or "changed PATH".
func (p *play) event(name string, from int, what string) {
	p.t.Helper()
	p.until(name+" hears "+what, func() bool { return p.heard(name, from, what) })
}

func (p *play) heard(name string, from int, what string) bool {
	for i := from; i < len(p.lines); i++ {
		if p.says(i, name, what) {
			return true
		}
	}
	return false
}

// says reports whether a line is such an event.
func (p *play) says(i int, name, what string) bool {
	if p.lines[i].who != name {
		return false
	}
	switch in := p.lines[i].in.(type) {
	case zkstate.SessionUp:
		return what == "up"
	case zkstate.SessionDown:
		return what == "down"
	case zkstate.SessionExpired:
		return what == "expired"
	case zkstate.NodeChanged:
		return what == "changed "+strings.TrimPrefix(in.Path, p.root)
	}
	return false
}

// send asks for a call; path is below the script's root.
func (p *play) send(name string, call zkstate.Call) zkstate.Tag {
	p.listen()
	p.attempt++
	call.Path = p.root + call.Path
	if call.Op == zkstate.OpSync {
		call.Path = "/"
	}
	call.Tag = zkstate.Tag{Conn: 1, Attempt: p.attempt}
	p.asked = append(p.asked, line{who: name, ask: call})
	p.stage.send(name, call)
	return call.Tag
}

// do asks for a call and waits for its result.
func (p *play) do(name string, call zkstate.Call) zkstate.Result {
	p.t.Helper()
	return p.result(p.send(name, call))
}

// answered reports whether a call has its result.
func (p *play) answered(tag zkstate.Tag) bool {
	p.listen()
	return p.waiting(tag) < 0
}

func (p *play) result(tag zkstate.Tag) zkstate.Result {
	p.t.Helper()
	p.until(fmt.Sprint("result ", tag.Attempt), func() bool { return p.answered(tag) })
	for _, l := range p.lines {
		if res, ok := l.in.(zkstate.Result); ok && res.Tag == tag {
			return res
		}
	}
	panic("bug: no result")
}

func (p *play) put(path, data string) {
	p.t.Helper()
	if err := p.stage.put(p.root+path, data); err != nil {
		p.t.Fatal(err)
	}
}

func (p *play) remove(path string) {
	p.t.Helper()
	if err := p.stage.remove(p.root + path); err != nil {
		p.t.Fatal(err)
	}
}

func (p *play) there(path string) bool { return p.stage.there(p.root + path) }

// transcript tells what each client has heard, in its order. Sessions are numbered as they came up, transactions by rank;
// being down is told once.
func (p *play) transcript() string {
	sessions := map[int64]string{0: "-"}
	var zxids []int64
	for _, l := range p.lines {
		switch in := l.in.(type) {
		case zkstate.SessionUp:
			if sessions[in.ID] == "" {
				sessions[in.ID] = fmt.Sprint("s", len(sessions))
			}
		case zkstate.Result:
			zxids = append(zxids, in.Stat.Czxid, in.Stat.Mzxid, in.Stat.Pzxid)
		}
	}
	slices.Sort(zxids)
	zxids = slices.Compact(append([]int64{0}, zxids...))
	rank := func(z int64) int { i, _ := slices.BinarySearch(zxids, z); return i }
	byWho := make(map[string][]string)
	state := make(map[string]string) // the newest word about a client's session
	for _, l := range p.lines {
		text := ""
		switch in := l.in.(type) {
		case zkstate.SessionUp:
			text = fmt.Sprintf("up %s %v", sessions[in.ID], in.Timeout)
		case zkstate.SessionDown:
			text = "down"
		case zkstate.SessionExpired:
			text = "expired"
		case zkstate.NodeChanged:
			text = "changed " + in.Path
		case zkstate.Result:
			names := slices.Sorted(slices.Values(in.Names))
			st := in.Stat
			text = fmt.Sprintf("%v %s: %v", l.ask.Op, l.ask.Path, in.Err)
			if in.Err == nil {
				text += fmt.Sprintf(" found=%v names=%v data=%q nil=%v c=%d m=%d p=%d cv=%d v=%d owner=%s len=%d", in.Found, names,
					in.Data, in.Data == nil, rank(st.Czxid), rank(st.Mzxid), rank(st.Pzxid), st.Cversion, st.Version, sessions[st.Owner], st.Length)
			}
		}
		if _, result := l.in.(zkstate.Result); !result {
			if text == "down" && state[l.who] == "down" {
				continue
			}
			if _, changed := l.in.(zkstate.NodeChanged); !changed {
				state[l.who] = text
			}
		}
		byWho[l.who] = append(byWho[l.who], text)
	}
	for _, l := range p.asked {
		byWho[l.who] = append(byWho[l.who], fmt.Sprintf("%v %s: no result", l.ask.Op, l.ask.Path))
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(byWho)) {
		fmt.Fprintf(&b, "%s\n", name)
		for _, text := range byWho[name] {
			fmt.Fprintf(&b, "  %s\n", text)
		}
	}
	return b.String()
}

func (s script) size() int { return max(1, s.servers) }

// perform plays a script and returns what was heard.
func perform(t *testing.T, s script, st stage) string {
	p := &play{t: t, stage: st, root: "/" + s.name}
	p.put("/x", "")
	s.play(p)
	p.quiet()
	return p.transcript()
}

var update = flag.Bool("update", false, "write what is heard on real servers into testdata")

// TestModel plays every script on the model with many seeds. Each time what is heard must be what was heard on real servers.
func TestModel(t *testing.T) {
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			want, err := os.ReadFile(s.file())
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(50) {
				if got := perform(t, s, newModelStage(seed, s.size())); got != string(want) {
					t.Fatalf("real servers:\n%s\nthe model, seed %d:\n%s", want, seed, got)
				}
			}
		})
	}
}

// file is where the transcript of a script lies.
func (s script) file() string { return filepath.Join("testdata", s.name+".txt") }

// TestHonest plays every script on real servers and compares with what is in testdata, as TestModel does with the model.
// Scripts that leave their servers
// alone share one, and those that need an ensemble play on it in turn.
func TestHonest(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers take their time")
	}
	if why := zktest.Unavailable(); why != "" {
		t.Skip(why)
	}
	shared := zktest.Start(t, zktest.Options{TickTime: tick})
	var large []script
	for _, s := range scripts {
		if s.servers > 1 {
			large = append(large, s)
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			srv := shared
			if s.own {
				srv = zktest.Start(t, zktest.Options{TickTime: tick})
			}
			compare(t, s, []*zktest.Server{srv})
		})
	}
	t.Run("ensemble", func(t *testing.T) {
		t.Parallel()
		servers := zktest.StartEnsemble(t, 3, zktest.Options{TickTime: tick})
		for _, s := range large {
			t.Run(s.name, func(t *testing.T) {
				heal(t, servers)
				compare(t, s, servers)
			})
		}
		t.Run("deposed", func(t *testing.T) { deposed(t, servers) })
	})
}

// deposed freezes a leader until there is another one and thaws it. In the moment before it knows, it answers a sync and a
// read from what it knew, and says of a living session that it has expired. TestDeposedLeader and TestMisled are the same on
// the model. What is seen depends on who is first, so there are some tries.
func deposed(t *testing.T, servers []*zktest.Server) {
	stale, misled := false, false
	for try := 0; try < 8 && !(stale && misled); try++ {
		heal(t, servers)
		st := newRealStage(t, servers)
		p := &play{t: t, stage: st, root: fmt.Sprint("/deposed", try)}
		p.put("/x", "old")
		lead := st.leader()
		others := []int{(lead + 1) % 3, (lead + 2) % 3}
		p.connect("reader", 4*time.Second, lead)
		p.connect("sleeper", time.Second, lead)
		p.connect("writer", 4*time.Second, others...)
		p.do("reader", syncing)
		p.do("sleeper", ephemeral("/x/c", ""))
		st.freeze(lead)
		p.send("reader", syncing)
		st.wait(10 * time.Millisecond)
		read := p.send("reader", get("/x"))
		p.until("another leader", func() bool { return zktest.Leader([]*zktest.Server{servers[others[0]], servers[others[1]]}) != nil })
		p.until("a write", func() bool { return p.do("writer", set("/x", "new", -1)).Err == nil })
		from := p.mark()
		st.thaw(lead)
		res := p.result(read)
		if res.Err == nil && string(res.Data) != "old" {
			t.Errorf("the old leader knows of %q", res.Data)
		}
		stale = stale || res.Err == nil
		p.until("news", func() bool { return p.heard("sleeper", from, "up") || p.heard("sleeper", from, "expired") })
		if p.heard("sleeper", from, "expired") {
			p.do("writer", syncing)
			misled = misled || p.do("writer", exists("/x/c")).Found
		}
	}
	if !stale || !misled {
		t.Errorf("a stale answer after a sync: %v; a living session said to have expired: %v", stale, misled)
	}
}

func compare(t *testing.T, s script, servers []*zktest.Server) {
	got := perform(t, s, newRealStage(t, servers))
	if *update {
		if err := os.WriteFile(s.file(), []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("heard before:\n%s\nheard now:\n%s", want, got)
	}
}

// heal brings all servers of an ensemble back into it.
func heal(t *testing.T, servers []*zktest.Server) {
	for _, s := range servers {
		if s.PID() == 0 {
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		s.Thaw()
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		following := 0
		for _, s := range servers {
			if s.Mode() == "follower" {
				following++
			}
		}
		if following == len(servers)-1 && zktest.Leader(servers) != nil {
			return
		}
	}
	t.Fatal("the ensemble does not come together")
}

// TestMain has more scripts played at a time than there are processors: most of the time they wait.
func TestMain(m *testing.M) {
	if address := os.Getenv(sleeper); address != "" {
		sleep(address)
		return
	}
	flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}
