package sim

import (
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"exazk/exabgp"
	"exazk/sim/exa"
	"exazk/sim/zoo"
	"exazk/zkstate"
)

// python is a node that runs the tool that exazk replaces: it announces its own VIP while its check passes and it is not
// drained, with an empty claim beside it, and another one's as long as that has no claim. It asks nobody and waits for
// nothing. Its sessions with ZooKeeper are kazoo's, which behave alike as far as others can see.
type python struct {
	h      *host
	pipes  *exa.Pipes
	client *zoo.Client
	dead   bool
	conn   uint64
	tags   uint64

	up        bool
	claims    map[string]bool
	flagged   bool
	healthy   bool
	announced []bool
	claimed   bool
	waiting   map[zkstate.Tag]func(zkstate.Result)
}

func newPython(h *host) *python { return &python{h: h, dead: true} }

func (p *python) begin(pipes *exa.Pipes) {
	*p = python{h: p.h, pipes: pipes, claims: map[string]bool{}, announced: make([]bool, p.h.c.knobs.Nodes), waiting: map[zkstate.Tag]func(zkstate.Result){}, conn: p.conn + 1}
	conn := p.conn
	pipes.OnLine(func(exabgp.Input) {})
	pipes.OnEnd(func(error) {
		if p.conn == conn && !p.dead {
			p.kill()
		}
	})
	p.client = p.h.c.zk.Connect(p.h.n, conn, p.h.c.knobs.SessionTimeout, func(in zkstate.Input) {
		if p.conn == conn && !p.dead {
			p.take(in)
		}
	})
	p.loop(conn)
}

// loop looks at the check once a second, as the tool does.
func (p *python) loop(conn uint64) {
	if p.dead || p.conn != conn {
		return
	}
	p.healthy = !p.h.broken()
	p.act()
	p.h.c.clock.After(time.Second, func() { p.loop(conn) })
}

func (p *python) call(call zkstate.Call, done func(zkstate.Result)) {
	p.tags++
	call.Tag = zkstate.Tag{Conn: p.conn, Attempt: p.tags}
	p.waiting[call.Tag] = done
	p.client.Send(call)
}

func (p *python) take(in zkstate.Input) {
	switch in := in.(type) {
	case zkstate.SessionUp:
		p.up, p.claimed = true, false
		p.readClaims()
		p.readFlag()
		p.act()
	case zkstate.SessionDown:
		p.up = false
	case zkstate.SessionExpired:
		p.up, p.claimed = false, false
	case zkstate.NodeChanged:
		if strings.HasPrefix(in.Path, maintenancePath) {
			p.readFlag()
		} else {
			p.readClaims()
		}
	case zkstate.Result:
		done := p.waiting[in.Tag]
		delete(p.waiting, in.Tag)
		if done != nil {
			done(in)
		}
	}
}

func (p *python) readClaims() {
	p.call(zkstate.Call{Op: zkstate.OpChildren, Path: claimsPath, Watch: true}, func(r zkstate.Result) {
		if r.Err != nil {
			return // read again with the next session
		}
		clear(p.claims)
		for _, name := range r.Names {
			p.claims[name] = true
		}
		p.act()
	})
}

func (p *python) readFlag() {
	p.call(zkstate.Call{Op: zkstate.OpExists, Path: maintenancePath + "/" + p.h.conf.Node, Watch: true}, func(r zkstate.Result) {
		if r.Err == nil {
			p.flagged = r.Found
			p.act()
		}
	})
}

// act announces, withdraws and claims at once what follows from what is known.
func (p *python) act() {
	serves := p.healthy && !p.flagged
	for v := range p.announced {
		name := vipOf(v).Addr().String()
		want := serves && (v == p.h.n || p.up && !p.claims[name] || !p.up && p.announced[v])
		if want == p.announced[v] {
			continue
		}
		p.announced[v] = want
		r := exabgp.Route{Prefix: vipOf(v), Withdraw: !want, MED: 200}
		if v == p.h.n {
			r.MED = 100
		}
		p.pipes.Write([]byte(r.Command()+"\n"), func(error) {})
	}
	p.claim(serves)
}

func (p *python) claim(want bool) {
	if !p.up || want == p.claimed {
		return
	}
	path := claimsPath + "/" + vipOf(p.h.n).Addr().String()
	p.claimed = want
	if !want {
		p.call(zkstate.Call{Op: zkstate.OpDelete, Path: path}, func(zkstate.Result) {})
		return
	}
	conn := p.conn
	p.call(zkstate.Call{Op: zkstate.OpCreate, Path: path, Ephemeral: true}, func(r zkstate.Result) {
		if r.Err == nil {
			return
		}
		p.claimed = false // also where a ghost of its last session is there: it tries until that has gone
		if r.Err == zk.ErrNodeExists {
			p.h.c.clock.After(time.Second, func() {
				if p.conn == conn && !p.dead {
					p.act()
				}
			})
		}
	})
}

// kill ends the process.
func (p *python) kill() {
	if !p.dead {
		p.dead = true
		p.client.Die()
	}
}

// killed is a SIGKILL of the process alone, which ExaBGP starts again.
func (p *python) killed() {
	if !p.dead {
		p.kill()
		p.pipes.Exited()
	}
}

// lose is a loss of power.
func (p *python) lose() {
	if !p.dead {
		p.dead = true
		p.client.Lose()
	}
}
