//go:build !race

package zoo

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"exazk/sim/vclock"
	"exazk/zkstate"
	"exazk/zkstate/zktest"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

// modelStage plays on the model.
type modelStage struct {
	clock   *vclock.Clock
	e       *Ensemble
	clients map[string]*Client
	pushed  []heard
	cuts    map[string][]int
}

func newModelStage(seed uint64, servers int) *modelStage {
	clock := vclock.New(start)
	cfg := Config{Servers: servers, Tick: tick, Delay: time.Millisecond, Lag: 20 * time.Millisecond}
	return &modelStage{clock: clock, e: New(clock, rand.New(rand.NewPCG(seed, 3)), cfg), clients: make(map[string]*Client)}
}

func (m *modelStage) now() time.Time       { return m.clock.Now() }
func (m *modelStage) wait(d time.Duration) { m.clock.Run(m.clock.Now().Add(d)) }

func (m *modelStage) connect(name string, timeout time.Duration, servers []int) {
	c := m.e.Connect(len(m.clients), 1, timeout, func(in zkstate.Input) { m.pushed = append(m.pushed, heard{name, in}) })
	if len(servers) > 0 {
		c.order = servers
	}
	m.clients[name] = c
}

func (m *modelStage) take() []heard {
	all := m.pushed
	m.pushed = nil
	return all
}

func (m *modelStage) send(name string, call zkstate.Call) { m.clients[name].Send(call) }
func (m *modelStage) close(name string)                   { m.clients[name].Close() }
func (m *modelStage) kill(name string)                    { m.clients[name].Die() }
func (m *modelStage) sever(name string)                   { m.e.Sever(m.clients[name].host) }
func (m *modelStage) killServer(n int)                    { m.e.Kill(n) }
func (m *modelStage) startServer(n int)                   { m.e.Start(n) }
func (m *modelStage) freeze(n int)                        { m.e.Freeze(n) }
func (m *modelStage) thaw(n int)                          { m.e.Thaw(n) }
func (m *modelStage) leader() int                         { return m.e.Leader() }
func (m *modelStage) put(p, data string) error            { return m.e.Put(p, []byte(data)) }
func (m *modelStage) remove(p string) error               { return m.e.Remove(p) }

func (m *modelStage) cut(name string, way Way) {
	for n := range m.e.servers {
		m.e.Cut(m.clients[name].host, n, way)
	}
}

func (m *modelStage) mend(name string) {
	for n := range m.e.servers {
		m.e.Mend(m.clients[name].host, n)
	}
}

func (m *modelStage) there(p string) bool {
	_, _, ok := m.e.Read(p)
	return ok
}

// realStage plays on real servers.
type realStage struct {
	t       *testing.T
	servers []*zktest.Server
	zc      *zk.Conn // the operator's
	clients map[string]*realClient

	mu     sync.Mutex
	pushed []heard
}

type realClient struct {
	raw   *zkstate.Raw
	wires []*proxy
	once  sync.Once // of closing
	dead  bool      // nothing of it is noted any more; under realStage.mu
}

func newRealStage(t *testing.T, servers []*zktest.Server) *realStage {
	s := &realStage{t: t, servers: servers, clients: make(map[string]*realClient)}
	var addrs []string
	for _, srv := range s.servers {
		addrs = append(addrs, srv.Addr())
	}
	zc, events, err := zk.Connect(addrs, 4*time.Second, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when the operator's client closes
		for range events {
		}
	}()
	t.Cleanup(zc.Close)
	s.zc = zc
	return s
}

type silent struct{}

func (silent) Printf(string, ...any) {}

func (s *realStage) now() time.Time       { return time.Now() }
func (s *realStage) wait(d time.Duration) { <-time.After(d) }

func (s *realStage) connect(name string, timeout time.Duration, servers []int) {
	c := &realClient{}
	if len(servers) == 0 {
		for n := range s.servers {
			servers = append(servers, n)
		}
	}
	var addrs []string
	for _, n := range servers {
		w := newProxy(s.t, s.servers[n].Addr())
		c.wires = append(c.wires, w)
		addrs = append(addrs, w.l.Addr().String())
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	raw, err := zkstate.DialRaw(addrs, timeout, 1, func(in zkstate.Input) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !c.dead {
			s.pushed = append(s.pushed, heard{name, in})
		}
	}, logrus.NewEntry(log))
	if err != nil {
		s.t.Fatal(err)
	}
	c.raw = raw
	s.clients[name] = c
	s.t.Cleanup(func() {
		s.silence(c)
		c.close()
		for _, w := range c.wires {
			w.close()
		}
	})
}

func (c *realClient) close() { c.once.Do(c.raw.Close) }

func (s *realStage) silence(c *realClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.dead = true
}

func (s *realStage) take() []heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.pushed
	s.pushed = nil
	return all
}

func (s *realStage) send(name string, call zkstate.Call) { s.clients[name].raw.Send(call) }

func (s *realStage) close(name string) {
	var wg sync.WaitGroup
	wg.Go(s.clients[name].close)
	s.t.Cleanup(wg.Wait)
}

// kill is what others see of a process that is killed: its connections close, and it never comes back.
func (s *realStage) kill(name string) {
	c := s.clients[name]
	s.silence(c)
	for _, w := range c.wires {
		w.close()
	}
}

func (s *realStage) each(name string, f func(*proxy)) {
	for _, w := range s.clients[name].wires {
		f(w)
	}
}

func (s *realStage) cut(name string, way Way) {
	s.each(name, func(w *proxy) { w.set(way != ToHost, way != ToServer) })
}
func (s *realStage) mend(name string)  { s.each(name, func(w *proxy) { w.set(false, false) }) }
func (s *realStage) sever(name string) { s.each(name, (*proxy).sever) }
func (s *realStage) killServer(n int)  { s.servers[n].Kill() }

// freeze returns when the server's process stands still: the signal takes its time to every thread.
func (s *realStage) freeze(n int) {
	s.servers[n].Freeze()
	<-time.After(30 * time.Millisecond)
}

func (s *realStage) thaw(n int) { s.servers[n].Thaw() }

func (s *realStage) startServer(n int) {
	if err := s.servers[n].Restart(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *realStage) leader() int {
	return slices.Index(s.servers, zktest.Leader(s.servers))
}

// put tries again while the operator's client has no connection.
func (s *realStage) put(p, data string) error {
	return s.insist(func() error { return s.write(p, data) })
}

func (s *realStage) insist(f func() error) error {
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		err := f()
		if !errors.Is(err, zk.ErrNoServer) && !errors.Is(err, zk.ErrConnectionClosed) || time.Now().After(deadline) {
			return err
		}
	}
}

func (s *realStage) write(p, data string) error {
	_, err := s.zc.Set(p, []byte(data), -1)
	if !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	if dir := path.Dir(p); dir != "/" {
		if ok, _, err := s.zc.Exists(dir); err != nil {
			return err
		} else if !ok {
			if err := s.write(dir, ""); err != nil {
				return err
			}
		}
	}
	_, err = s.zc.Create(p, []byte(data), 0, zk.WorldACL(zk.PermAll))
	return err
}

func (s *realStage) remove(p string) error {
	return s.insist(func() error { return s.zc.Delete(p, -1) })
}

func (s *realStage) there(p string) bool {
	s.zc.Sync(p)
	ok, _, err := s.zc.Exists(p)
	if err != nil {
		return true // not known: ask again
	}
	return ok
}

// proxy is the wire between one client and one server. What it holds back while it is cut goes on when it is mended, as TCP
// would have it.
type proxy struct {
	l      net.Listener
	target string
	wg     sync.WaitGroup

	mu       sync.Mutex
	mended   *sync.Cond
	toServer bool // cut
	toHost   bool // cut
	closed   bool
	conns    map[net.Conn]bool
	age      int // number of severings
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: target, conns: make(map[net.Conn]bool)}
	p.mended = sync.NewCond(&p.mu)
	p.wg.Go(p.run)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) run() {
	for {
		host, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			host.Close()
			continue
		}
		p.mu.Lock()
		p.conns[host], p.conns[server] = true, true
		age := p.age
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(server, host, age, &p.toServer) })
		p.wg.Go(func() { p.pump(host, server, age, &p.toHost) })
	}
}

// pump carries one direction until the connection ends.
func (p *proxy) pump(to, from net.Conn, age int, cut *bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for *cut && !p.closed && p.age == age {
			p.mended.Wait()
		}
		over := p.closed || p.age != age
		p.mu.Unlock()
		if n > 0 && !over {
			to.Write(buf[:n])
		}
		if err != nil || over {
			to.Close()
			from.Close()
			return
		}
	}
}

func (p *proxy) set(toServer, toHost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toServer, p.toHost = toServer, toHost
	p.mended.Broadcast()
}

// sever resets all connections. What is held back is lost.
func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.age++
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
	p.mended.Broadcast()
}

func (p *proxy) close() {
	p.l.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.sever()
	p.wg.Wait()
}
