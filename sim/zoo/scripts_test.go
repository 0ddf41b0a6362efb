//go:build !race

package zoo

import (
	"errors"
	"time"

	"exazk/zkstate"

	"github.com/go-zookeeper/zk"
)

type call = zkstate.Call

func create(p, data string) call {
	return call{Op: zkstate.OpCreate, Path: p, Data: []byte(data)}
}
func ephemeral(p, data string) call {
	return call{Op: zkstate.OpCreate, Path: p, Data: []byte(data), Ephemeral: true}
}
func children(p string) call         { return call{Op: zkstate.OpChildren, Path: p} }
func get(p string) call              { return call{Op: zkstate.OpGet, Path: p} }
func exists(p string) call           { return call{Op: zkstate.OpExists, Path: p} }
func del(p string) call              { return call{Op: zkstate.OpDelete, Path: p} }
func removal(p string, v int32) call { return call{Op: zkstate.OpRemove, Path: p, Version: v} }
func replace(p, data string) call    { return call{Op: zkstate.OpReplace, Path: p, Data: []byte(data)} }
func set(p, data string, v int32) call {
	return call{Op: zkstate.OpSet, Path: p, Data: []byte(data), Version: v}
}

var syncing = call{Op: zkstate.OpSync}

func watch(c call) call { c.Watch = true; return c }

const second = time.Second

// scripts are compared between the model and real servers.
var scripts = []script{
	{name: "answers", play: func(p *play) {
		p.connect("a", second)
		for _, c := range []call{create("/d/e", ""), create("/d", "dir"), create("/d", ""), ephemeral("/d/e", "x"), create("/d/e/f", ""),
			{Op: zkstate.OpCreate, Path: "/d/n"}, get("/d/n"), get("/d/e"), get("/d"), exists("/d"), exists("/d/no"), children("/d"),
			children("/no"), get("/no"), set("/d/e", "longer", 0), set("/d/e", "again", 0), set("/no", "", 0), get("/d/e"), del("/d"),
			del("/no"), removal("/d/e", 7), removal("/d/e", 1), removal("/no", 0), children("/d"), exists("/d"), del("/d/n"), syncing, del("/d"), exists("/d")} {
			p.do("a", c)
		}
	}},
	{name: "replaced", play: func(p *play) {
		p.connect("a", 4*second)
		p.connect("b", 4*second)
		p.do("a", ephemeral("/x/c", "old"))
		p.do("b", watch(children("/x")))
		p.do("b", replace("/x/none", "new"))
		p.do("b", watch(get("/x/c")))
		p.do("b", replace("/x/c", "new"))
		p.quiet() // one event of the directory, one of the node
		p.do("b", get("/x/c"))
		p.do("b", children("/x"))
		p.stage.close("a") // its session's end leaves the new one alone
		p.quiet()
		p.do("b", get("/x/c"))
		p.do("b", exists("/x"))
	}},
	{name: "one-shot", play: func(p *play) {
		p.connect("a", second)
		p.connect("b", second)
		p.do("a", create("/x/n", "1"))
		p.do("a", watch(get("/x/n")))
		p.do("a", watch(exists("/x/n"))) // the server keeps one watch for both
		p.do("b", set("/x/n", "2", -1))
		p.quiet()
		p.do("b", set("/x/n", "3", -1))
		p.quiet()
		p.do("a", get("/x/n"))
	}},
	{name: "awaited", play: func(p *play) { // "exists" on what is missing, with missing parents
		p.connect("a", second)
		p.do("a", watch(exists("/m/s/n")))
		p.do("a", watch(get("/m/s/n"))) // fails and leaves none
		p.do("a", watch(children("/m")))
		p.put("/m/s/n", "x")
		p.event("a", 0, "changed /m/s/n")
		p.quiet()
		p.remove("/m/s/n")
		p.quiet() // nothing is left to fire
		p.do("a", exists("/m/s"))
	}},
	{name: "directory", play: func(p *play) {
		p.connect("a", second)
		p.do("a", watch(children("/x")))
		p.put("/x/n", "1")
		p.event("a", 0, "changed /x")
		p.do("a", watch(children("/x")))
		from := p.mark()
		p.put("/x/n", "2")   // no change of the directory
		p.put("/x/n/m", "3") // nor this
		p.quiet()
		p.remove("/x/n/m")
		p.remove("/x/n")
		p.event("a", from, "changed /x")
		p.do("a", watch(children("/x")))
		p.do("a", watch(exists("/x")))
		p.remove("/x") // told once though both watches fire
		p.quiet()
		p.do("a", children("/x"))
	}},
	{name: "event-first", play: func(p *play) { // an event comes before an answer that shows what it is about
		p.connect("a", second)
		p.connect("b", second)
		for range 20 {
			p.do("a", watch(children("/x")))
			p.do("b", create("/x/n", ""))
			p.do("a", children("/x"))
			p.do("a", watch(get("/x/n")))
			p.do("b", set("/x/n", "1", -1))
			p.do("a", get("/x/n"))
			p.do("b", del("/x/n"))
			p.do("a", exists("/x/n"))
		}
	}},
	{name: "closed", play: func(p *play) {
		p.connect("a", 4*second)
		p.connect("b", 4*second)
		p.do("a", ephemeral("/x/c", ""))
		p.do("b", watch(exists("/x/c")))
		p.stage.close("a")
		took := p.until("the node goes", func() bool { return p.heard("b", 0, "changed /x/c") })
		p.bound("closing", took, 0, 100*time.Millisecond)
		p.do("b", exists("/x/c"))
		p.send("a", get("/x"))
		p.quiet()
	}},
	{name: "closed-while-cut", play: func(p *play) {
		p.connect("a", second)
		p.connect("b", second)
		p.do("a", ephemeral("/x/c", ""))
		p.do("b", watch(exists("/x/c")))
		p.stage.cut("a", Both)
		tag := p.send("a", get("/x/c"))
		p.event("a", 0, "down")
		p.outcome(tag)
		p.send("a", exists("/x/c")) // waits, and fails with the end
		p.stage.close("a")
		p.event("b", 0, "changed /x/c") // only by expiry
	}},
	{name: "killed", play: func(p *play) {
		p.connect("a", second)
		p.connect("b", second)
		p.do("a", ephemeral("/x/c", ""))
		p.do("b", watch(exists("/x/c")))
		p.stage.kill("a")
		took := p.until("the node goes", func() bool { return p.heard("b", 0, "changed /x/c") })
		p.bound("expiry", took, second-second/3, second+tick)
		p.do("b", exists("/x/c"))
	}},
	{name: "severed", play: func(p *play) {
		p.connect("a", 2*second)
		p.do("a", ephemeral("/x/c", "mine"))
		p.put("/x/n", "1")
		p.put("/x/o", "1")
		p.put("/x/q", "1")
		for _, c := range []call{get("/x/n"), get("/x/o"), get("/x/q"), exists("/x/new"), exists("/x/never"), children("/x"), children("/x/o")} {
			p.do("a", watch(c))
		}
		from := p.mark()
		p.stage.cut("a", Both)
		p.stage.sever("a")
		p.event("a", from, "down")
		p.put("/x/n", "2")
		p.stage.mend("a")
		p.event("a", from, "changed /x/n") // missed, and told at once
		p.quiet()
		p.do("a", exists("/x/c"))
		p.put("/x/o", "2") // the others still wait
		p.event("a", from, "changed /x/o")
		p.put("/x/o/child", "")
		p.event("a", from, "changed /x/o")
		p.put("/x/new", "")
		p.event("a", from, "changed /x/new")
		p.remove("/x/q")
		p.event("a", from, "changed /x/q")
		p.quiet()
	}},
	{name: "missed", play: func(p *play) { // what came and went while nobody listened
		p.connect("a", 2*second)
		p.put("/x/gone", "")
		p.do("a", watch(children("/x/gone")))
		from := p.mark()
		p.stage.cut("a", Both)
		p.stage.sever("a")
		p.event("a", from, "down")
		p.remove("/x/gone")
		p.stage.mend("a")
		p.event("a", from, "changed /x/gone")
		p.do("a", watch(children("/x")))
		from = p.mark()
		p.stage.cut("a", Both)
		p.stage.sever("a")
		p.event("a", from, "down")
		p.put("/x/brief", "")
		p.remove("/x/brief") // there and gone again: the directory has changed
		p.stage.mend("a")
		p.event("a", from, "changed /x")
		p.do("a", exists("/x"))
		p.do("a", watch(exists("/x/late")))
		from = p.mark()
		p.stage.cut("a", Both)
		p.stage.sever("a")
		p.event("a", from, "down")
		p.put("/x/late", "")
		p.stage.mend("a")
		p.event("a", from, "changed /x/late")
	}},
	{name: "expired", play: func(p *play) {
		p.connect("a", second)
		p.connect("b", second)
		p.do("a", ephemeral("/x/c", ""))
		p.do("a", watch(exists("/x/w")))
		p.do("b", watch(exists("/x/c")))
		p.stage.cut("a", Both)
		took := p.until("a is down", func() bool { return p.heard("a", 0, "down") })
		p.bound("silence", took, second/3, second*2/3)
		took += p.until("the node goes", func() bool { return p.heard("b", 0, "changed /x/c") })
		p.bound("expiry", took, second-second/3, second+tick)
		p.stage.wait(second) // it hears nothing of that (fact 4)
		from := p.mark()
		p.stage.mend("a")
		p.event("a", from, "expired")
		p.event("a", from, "up")
		p.put("/x/w", "")
		p.quiet() // the watch went with the session
		p.do("a", exists("/x/c"))
		p.do("a", ephemeral("/x/c", ""))
		p.do("a", exists("/x/c"))
	}},
	{name: "cut-short", play: func(p *play) {
		p.connect("a", 2*second)
		p.do("a", ephemeral("/x/c", ""))
		p.do("a", watch(exists("/x/n")))
		p.stage.cut("a", Both)
		p.put("/x/n", "")
		p.stage.wait(300 * time.Millisecond)
		p.stage.mend("a")
		p.event("a", 0, "changed /x/n") // the connection has lived on
		p.do("a", exists("/x/c"))
	}},
	{name: "resumed", play: func(p *play) {
		p.connect("a", 2*second)
		p.do("a", ephemeral("/x/c", ""))
		p.stage.cut("a", Both)
		p.event("a", 0, "down")
		p.stage.mend("a")
		p.until("a is back", func() bool { return p.count("a", "up") == 2 })
		p.do("a", exists("/x/c"))
	}},
	{name: "unknown-outcome", play: func(p *play) {
		p.connect("a", 4*second)
		p.stage.cut("a", ToHost)
		tag := p.send("a", ephemeral("/x/c", "1"))
		p.until("it is made", func() bool { return p.there("/x/c") })
		p.stage.sever("a")
		p.outcome(tag)
		p.stage.mend("a")
		p.do("a", ephemeral("/x/c", "2"))
		p.do("a", get("/x/c")) // of the same session: it was our own
	}},
	{name: "lost-request", play: func(p *play) {
		p.connect("a", 4*second)
		p.stage.cut("a", Both)
		tag := p.send("a", create("/x/c", ""))
		p.quiet()
		p.stage.sever("a")
		p.outcome(tag)
	}},
	{name: "waits-for-a-session", play: func(p *play) {
		p.connect("a", 2*second)
		from := p.mark()
		p.stage.cut("a", Both)
		p.stage.sever("a")
		p.event("a", from, "down")
		tag := p.send("a", ephemeral("/x/c", ""))
		p.quiet()
		if p.answered(tag) {
			p.t.Error("a call fails while there is no connection")
		}
		p.stage.mend("a")
		p.result(tag)
		p.do("a", exists("/x/c"))
	}},
	{name: "crosses-sessions", play: func(p *play) { // a call that waited runs in the next session
		p.connect("a", second)
		p.do("a", ephemeral("/x/old", ""))
		p.stage.cut("a", Both)
		p.event("a", 0, "down")
		tag := p.send("a", ephemeral("/x/c", ""))
		p.until("the session has ended", func() bool { return !p.there("/x/old") })
		p.stage.mend("a")
		p.event("a", 0, "expired")
		p.result(tag)
		p.do("a", exists("/x/c"))
	}},
	{name: "frozen-a-little", own: true, play: func(p *play) {
		p.connect("a", 3*second)
		p.do("a", ephemeral("/x/c", ""))
		p.stage.freeze(0)
		tag := p.send("a", get("/x/c"))
		p.stage.wait(500 * time.Millisecond)
		if p.answered(tag) {
			p.t.Error("a frozen server answers")
		}
		p.stage.thaw(0)
		p.result(tag)
	}},
	{name: "frozen-too-long", own: true, play: func(p *play) {
		p.connect("a", second)
		p.connect("b", 4*second)
		p.do("a", ephemeral("/x/c", ""))
		p.do("b", watch(exists("/x/c")))
		p.stage.cut("a", Both) // nobody of its session waits at the server's door
		p.stage.freeze(0)
		p.event("a", 0, "down")
		p.stage.wait(1500 * time.Millisecond)
		p.stage.thaw(0)
		took := p.until("the node goes", func() bool { return p.heard("b", 0, "changed /x/c") })
		p.bound("expiry", took, 0, 200*time.Millisecond)
		p.stage.mend("a")
		p.event("a", 0, "expired")
		p.until("a is back", func() bool { return p.count("a", "up") == 2 })
	}},
	{name: "restarted", own: true, play: func(p *play) { // an outage expires nobody
		p.connect("a", 4*second) // a busy server takes a second from its start to its first client
		p.do("a", ephemeral("/x/c", "mine"))
		p.do("a", get("/x/c"))
		p.do("a", watch(exists("/x/n")))
		p.stage.killServer(0)
		p.event("a", 0, "down")
		p.stage.wait(5 * second)
		p.stage.startServer(0)
		p.until("a is back", func() bool { return p.count("a", "up") == 2 })
		p.do("a", get("/x/c"))
		p.put("/x/n", "")
		p.event("a", 0, "changed /x/n")
	}},
	{name: "died-in-an-outage", own: true, play: func(p *play) {
		p.connect("a", 4*second)
		p.connect("b", 4*second)
		p.do("a", ephemeral("/x/c", ""))
		p.stage.killServer(0)
		p.event("a", 0, "down")
		p.event("b", 0, "down")
		p.stage.kill("a")
		p.stage.wait(2 * second)
		p.stage.startServer(0)
		p.until("b is back", func() bool { return p.count("b", "up") == 2 })
		p.do("b", watch(exists("/x/c"))) // there again, with its whole timeout before it
		took := p.until("the node goes", func() bool { return p.heard("b", 0, "changed /x/c") })
		p.bound("expiry", took, 0, 4*second+tick)
	}},
	{name: "leader-killed", servers: 3, play: func(p *play) {
		lead := p.stage.leader()
		p.connect("a", 2*second, lead, (lead+1)%3)
		p.connect("b", 2*second, (lead+1)%3)
		p.do("a", ephemeral("/x/c", ""))
		p.do("b", syncing)
		p.do("b", watch(exists("/x/c")))
		p.stage.killServer(lead)
		p.event("a", 0, "down")
		p.event("b", 0, "down") // everybody
		p.until("both are back", func() bool { return p.count("a", "up")+p.count("b", "up") == 4 })
		p.do("a", exists("/x/c"))
		p.do("a", del("/x/c"))
		p.event("b", 0, "changed /x/c")
	}},
	{name: "leader-frozen", servers: 3, play: func(p *play) {
		lead := p.stage.leader()
		f := (lead + 1) % 3
		p.connect("a", 4*second, f)
		p.connect("b", 4*second, f)
		p.do("a", ephemeral("/x/c", ""))
		p.stage.freeze(lead)
		p.do("a", exists("/x/c")) // reads go on
		tag := p.send("b", create("/x/d", ""))
		p.stage.wait(400 * time.Millisecond)
		if p.answered(tag) {
			p.t.Error("a write without a leader")
		}
		p.event("a", 0, "down")
		p.outcome(tag)
		p.until("both are back", func() bool { return p.count("a", "up")+p.count("b", "up") == 4 })
		p.do("a", exists("/x/c"))
		p.stage.thaw(lead)
	}},
	{name: "follower-killed", servers: 3, play: func(p *play) {
		lead := p.stage.leader()
		p.connect("a", 2*second, (lead+1)%3)
		p.connect("b", 2*second, (lead+2)%3)
		p.connect("c", 2*second, lead)
		p.do("a", ephemeral("/x/c", ""))
		p.do("b", syncing)
		p.do("b", watch(exists("/x/c")))
		p.stage.killServer((lead + 1) % 3)
		took := p.until("the node goes", func() bool { return p.heard("b", 0, "changed /x/c") })
		p.bound("expiry", took, 2*second-2*second/3, 2*second+tick+tick/2)
		p.do("c", exists("/x/c"))
	}},
	{name: "no-quorum", servers: 3, play: func(p *play) {
		lead := p.stage.leader()
		p.connect("a", second, lead)
		p.do("a", ephemeral("/x/c", ""))
		p.stage.killServer((lead + 1) % 3)
		p.stage.killServer((lead + 2) % 3)
		p.event("a", 0, "down")
		from := p.mark()
		tag := p.send("a", exists("/x/c"))
		p.stage.wait(3 * second) // nobody serves, nobody expires
		if p.answered(tag) || p.heard("a", from, "up") {
			p.t.Error("served without a quorum")
		}
		p.stage.startServer((lead + 1) % 3)
		p.result(tag)
	}},
	{name: "synced", servers: 3, play: func(p *play) { // what one has written, another sees after a sync
		p.connect("a", 2*second, 0)
		p.connect("b", 2*second, 1)
		p.connect("c", 2*second, 2)
		for _, name := range []string{"a", "b", "c"} {
			p.do(name, set("/x", name, -1))
			for _, reader := range []string{"a", "b", "c"} {
				p.do(reader, syncing)
				p.do(reader, get("/x"))
			}
		}
	}},
}

// count is how often a client has heard of something.
func (p *play) count(name, what string) int {
	n := 0
	for i := range p.lines {
		if p.says(i, name, what) {
			n++
		}
	}
	return n
}

// outcome waits for a call that must fail without an answer, and forgets how exactly.
func (p *play) outcome(tag zkstate.Tag) {
	p.t.Helper()
	if err := p.result(tag).Err; err == nil || isAnswer(err) {
		p.t.Errorf("the outcome is known: %v", err)
	}
	for i, l := range p.lines {
		if res, ok := l.in.(zkstate.Result); ok && res.Tag == tag {
			res.Err = errUnknown
			p.lines[i].in = res
		}
	}
}

var errUnknown = errors.New("outcome unknown")

func isAnswer(err error) bool {
	return errors.Is(err, zk.ErrNoNode) || errors.Is(err, zk.ErrNodeExists) || errors.Is(err, zk.ErrNoServer)
}
