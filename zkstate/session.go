package zkstate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

// ErrAbandon, as the cause of the end of Run's context, has the session closed at once: everything that is ours goes with
// it, and nothing is looked at.
var ErrAbandon = errors.New("the ZooKeeper session is to be closed at once")

// stopWithin bounds everything that Run does after its context has ended. ExaBGP 5 kills a process 2 s after SIGTERM.
const stopWithin = 1200 * time.Millisecond

// maxPacket bounds what is received in one piece, as the library allocates what the length says. A directory of 100,000
// names fits; a bigger answer ends the connection, so nothing is read rather than half.
const maxPacket = 4 << 20

// sendBuffer holds one request: a status record of 64 KiB at most, and its path.
const sendBuffer = 128 << 10

// client is what is used of *zk.Conn.
type client interface {
	Children(path string) ([]string, *zk.Stat, error)
	ChildrenW(path string) ([]string, *zk.Stat, <-chan zk.Event, error)
	Get(path string) ([]byte, *zk.Stat, error)
	GetW(path string) ([]byte, *zk.Stat, <-chan zk.Event, error)
	Exists(path string) (bool, *zk.Stat, error)
	ExistsW(path string) (bool, *zk.Stat, <-chan zk.Event, error)
	Create(path string, data []byte, flags int32, acl []zk.ACL) (string, error)
	Set(path string, data []byte, version int32) (*zk.Stat, error)
	Delete(path string, version int32) error
	Multi(ops ...any) ([]zk.MultiResponse, error)
	Sync(path string) (string, error)
	Close()
}

// Session keeps this node's session with ZooKeeper.
type Session struct {
	cfg    Config
	log    *logrus.Entry
	open   func(h *hosts, number uint64, push func(Input)) (client, error)
	signal chan struct{} // one slot: something was put into the fields below

	mu     sync.Mutex // a second owner: the library's goroutines put in what Run takes out, and must never wait
	inputs []Input    // unbounded, as a dropped one is a state that is never learnt; the library sends few
	// The newest of each, which Run has not taken over yet; nil if there is none.
	services  *[]Service
	want      *Want
	resync    bool
	unreached map[string]bool // servers by address, see tried
}

// New makes a Session that logs to log. It connects to nothing before Run.
func New(cfg Config, log *logrus.Entry) *Session {
	s := &Session{cfg: cfg, log: log, signal: make(chan struct{}, 1), unreached: make(map[string]bool)}
	s.open = s.connect
	return s
}

// Set replaces the wish. It may be called from any goroutine and returns at once; w must not be changed afterwards.
func (s *Session) Set(w Want) {
	w.Claims, w.Statuses, w.Remove = maps.Clone(w.Claims), maps.Clone(w.Statuses), maps.Clone(w.Remove)
	s.mu.Lock()
	s.want = &w
	s.mu.Unlock()
	s.ring()
}

// Reconfigure replaces the services, as Reconfigured has it; a wish that is Set after it is for the new ones. It may be called
// from any goroutine and returns at once. A reading of what has changed that began after the call is of the new services. One
// that began before may still be emitted, and must be ignored.
func (s *Session) Reconfigure(services []Service) {
	services = slices.Clone(services)
	for i := range services {
		services[i].VIPs, services[i].Authoritative = slices.Clone(services[i].VIPs), slices.Clone(services[i].Authoritative)
	}
	s.mu.Lock()
	s.services = &services
	s.mu.Unlock()
	s.ring()
}

// Resync has everything read and emitted again, as the process has slept. It may be called from any goroutine and returns
// at once.
func (s *Session) Resync() {
	s.mu.Lock()
	s.resync = true
	s.mu.Unlock()
	s.ring()
}

// push hands an input to Run. It never blocks: the library calls it while it holds locks.
func (s *Session) push(in Input) {
	s.mu.Lock()
	s.inputs = append(s.inputs, in)
	s.mu.Unlock()
	s.ring()
}

func (s *Session) ring() {
	select {
	case s.signal <- struct{}{}:
	default: // rung already
	}
}

// take returns what was put in, oldest first; but new services before all results, so that no reading of the old ones ends
// that began after them.
func (s *Session) take() []Input {
	s.mu.Lock()
	defer s.mu.Unlock()
	ins := s.inputs
	s.inputs = nil
	if s.services != nil {
		ins = append([]Input{Reconfigured{*s.services}}, ins...)
		s.services = nil
	}
	if s.want != nil {
		ins = append(ins, SetWant{*s.want})
		s.want = nil
	}
	if s.resync {
		ins = append(ins, ResyncAsked{})
		s.resync = false
	}
	return ins
}

// Run keeps the session until ctx is done, then gives up what is held, closes the session and returns nil, within
// 1.2 s. It hands every event to emit; where that returns false Run ends likewise. A configuration that can never work
// is the only error.
func (s *Session) Run(ctx context.Context, emit func(Event) bool) error {
	hosts, err := newHosts(s.cfg.Servers, s.log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{Session: s, machine: NewMachine(s.cfg, s.log), hosts: hosts, emit: emit, gone: cancel}
	r.wg.Go(func() { hosts.run(ctx) })
	err = r.loop(ctx)
	cancel(err)
	r.finish()
	return err
}

// run is one life of Run.
type run struct {
	*Session
	machine *Machine
	hosts   *hosts
	emit    func(Event) bool
	gone    context.CancelCauseFunc // ends the loop: nobody listens any more
	client  client
	deaf    bool           // emit has returned false
	stopped time.Time      // zero until the end begins
	wg      sync.WaitGroup // every goroutine of ours: calls, closing clients, look-ups
}

// errUnheard is the cause of an end that emit asked for.
var errUnheard = errors.New("nobody takes events any more")

// loop drives the machine until it is done.
func (r *run) loop(ctx context.Context) error {
	wake := time.NewTimer(0)
	defer wake.Stop()
	done := ctx.Done()
	var ins []Input
	for {
		if len(ins) == 0 {
			select {
			case <-done:
				done = nil
				r.stopped = time.Now()
				ins = []Input{Stop{Abandon: errors.Is(context.Cause(ctx), ErrAbandon)}}
			case <-r.signal:
				ins = append(r.take(), Tick{})
			case <-wake.C:
				ins = []Input{Tick{}}
			}
		}
		out := r.machine.Step(time.Now(), ins[0])
		ins = ins[1:]
		if err := r.act(out); err != nil || out.Done {
			return err
		}
		if wake.Stop(); !out.Wake.IsZero() {
			wake.Reset(time.Until(out.Wake))
		}
	}
}

// act does what the machine asks for.
func (r *run) act(out Output) error {
	if out.Open != 0 {
		r.hangUp()
		c, err := r.open(r.hosts, out.Open, r.push)
		if err != nil {
			return fmt.Errorf("make a ZooKeeper client: %w", err)
		}
		r.client = c
	}
	for _, call := range out.Calls {
		c := r.client
		r.wg.Go(func() { r.push(do(c, call)) })
	}
	for _, ev := range out.Events {
		if !r.deaf && !r.emit(ev) {
			r.deaf = true
			r.gone(errUnheard)
		}
	}
	return nil
}

// hangUp closes the client, which may take the library three seconds, beside everything else.
func (r *run) hangUp() {
	if c := r.client; c != nil {
		r.client = nil
		r.wg.Go(c.Close)
	}
}

// finish closes the client and waits for every goroutine, as long as there is time. Those that are left, all of them
// waiting for a server that does not answer, end by themselves: the closed client fails their calls.
func (r *run) finish() {
	r.hangUp()
	ended := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(ended)
	}()
	left := stopWithin
	if !r.stopped.IsZero() {
		left -= time.Since(r.stopped)
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		r.log.Warn("ZooKeeper client is not closed in time; what it holds stays until the session expires")
	}
}

// do sends one call and waits for its outcome, however long the library takes.
func do(c client, call Call) Result {
	res := Result{Tag: call.Tag}
	var st *zk.Stat
	switch call.Op {
	case OpSync:
		_, res.Err = c.Sync(call.Path)
	case OpChildren:
		if call.Watch {
			res.Names, st, _, res.Err = c.ChildrenW(call.Path) // what fires comes by the callback, in order
		} else {
			res.Names, st, res.Err = c.Children(call.Path)
		}
	case OpGet:
		if call.Watch {
			res.Data, st, _, res.Err = c.GetW(call.Path)
		} else {
			res.Data, st, res.Err = c.Get(call.Path)
		}
	case OpExists:
		if call.Watch {
			res.Found, st, _, res.Err = c.ExistsW(call.Path)
		} else {
			res.Found, st, res.Err = c.Exists(call.Path) // true beside an error
		}
	case OpCreate:
		_, res.Err = c.Create(call.Path, call.Data, flags(call.Ephemeral), zk.WorldACL(zk.PermAll))
	case OpSet:
		_, res.Err = c.Set(call.Path, call.Data, call.Version)
	case OpDelete:
		res.Err = c.Delete(call.Path, -1)
	case OpRemove:
		res.Err = c.Delete(call.Path, call.Version)
	case OpReplace:
		_, res.Err = c.Multi(
			&zk.DeleteRequest{Path: call.Path, Version: -1},
			&zk.CreateRequest{Path: call.Path, Data: call.Data, Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagEphemeral})
	default:
		panic(fmt.Sprintf("bug: op %d", call.Op))
	}
	if res.Err != nil {
		return Result{Tag: call.Tag, Err: res.Err}
	}
	if st != nil && (call.Op != OpExists || res.Found) {
		res.Stat = Stat{Czxid: st.Czxid, Mzxid: st.Mzxid, Pzxid: st.Pzxid, Cversion: st.Cversion,
			Version: st.Version, Owner: st.EphemeralOwner, Length: st.DataLength}
	}
	return res
}

func flags(ephemeral bool) int32 {
	if ephemeral {
		return zk.FlagEphemeral
	}
	return 0
}

// conn is a *zk.Conn that can be closed for good.
type conn struct {
	*zk.Conn
	provider *provider
	dialer   *dialer
}

func (s *Session) connect(h *hosts, number uint64, push func(Input)) (client, error) {
	return connect(h, s.cfg.SessionTimeout, number, push, s.tried, s.log)
}

// tried says which server cannot be reached, and what is in the way: once for each, until a try of it succeeds.
func (s *Session) tried(address string, err error) {
	if errors.Is(err, errNotResolved) || errors.Is(err, errClosed) { // hosts says the former
		return
	}
	s.mu.Lock()
	if len(s.unreached) >= maxTried {
		clear(s.unreached)
	}
	known := s.unreached[address]
	s.unreached[address] = err != nil
	s.mu.Unlock()
	if err != nil && !known {
		s.log.WithFields(logrus.Fields{"address": address, "reason": err.Error()}).
			Warn("ZooKeeper server is out of reach; remedy: check zookeeper.hosts, that the server runs, and the network between")
	}
}

// connect makes a client of the library that tells push what happens to connection number, and tried, unless it is nil,
// how each try to reach a server went.
func connect(h *hosts, timeout time.Duration, number uint64, push func(Input), tried func(address string, err error), log *logrus.Entry) (client, error) {
	up := SessionUp{Conn: number} // written and read by the library's one connecting goroutine
	negotiated := func(id int64, timeout time.Duration) { up.ID, up.Timeout = id, timeout }
	d := newDialer(handshakeLimit(timeout), negotiated)
	d.told = tried
	p := &provider{hosts: h}
	callback := func(ev zk.Event) {
		switch {
		case ev.Type > 0:
			push(NodeChanged{Conn: number, Path: ev.Path})
		case ev.Type != zk.EventSession:
		case ev.State == zk.StateHasSession:
			push(up)
		case ev.State == zk.StateDisconnected:
			push(SessionDown{Conn: number})
		case ev.State == zk.StateExpired:
			push(SessionExpired{Conn: number})
		}
	}
	// The list of servers only must not be empty: the provider knows better.
	zc, _, err := zk.Connect([]string{"provided"}, timeout, zk.WithDialer(d.dial), zk.WithHostProvider(p),
		zk.WithEventCallback(callback), zk.WithLogger(chatter{log.WithField("component", "zookeeper")}),
		zk.WithMaxBufferSize(maxPacket), zk.WithMaxConnBufferSize(sendBuffer))
	if err != nil {
		return nil, err
	}
	return &conn{Conn: zc, provider: p, dialer: d}, nil
}

// Close ends the session if the server answers within a second, and the client in any case.
func (c *conn) Close() {
	c.provider.closed.Store(true)
	c.dialer.stop()
	c.Conn.Close()
	c.dialer.hangUp()
}

// chatter takes what the library has to say; everything that matters in it is also an event or an error.
type chatter struct{ log *logrus.Entry }

func (c chatter) Printf(format string, args ...any) {
	if c.log.Logger.IsLevelEnabled(logrus.DebugLevel) {
		c.log.WithField("text", fmt.Sprintf(format, args...)).Debug("client library")
	}
}
