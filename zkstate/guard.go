package zkstate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

var (
	errNotZooKeeper = errors.New("peer does not speak the ZooKeeper protocol")
	errNotResolved  = errors.New("no address of this name is known yet")
	errClosed       = errors.New("client is closed")
)

const (
	// maxHandshake bounds the connect response, which has 37 to 41 bytes. The library takes the first four bytes of whatever
	// answers as a length and allocates that much: 1.2 GB for "HTTP".
	maxHandshake = 1024
	// minSession is the shortest session timeout taken from a server: the library makes a ticker of a third of it and panics
	// where that is nothing.
	minSession = 10 * time.Millisecond
)

// guard bounds the handshake of a session, refuses peers that are not ZooKeeper and reports what was negotiated.
//
// Without it one frozen server costs every session: go-zookeeper v1.0.4 (authenticate in conn.go) waits for the connect
// response for 10 times two thirds of the session timeout. It leans on the order of that version's calls: a read deadline
// is set once and cleared once in the handshake, then set before every read.
type guard struct {
	net.Conn
	limit      time.Duration // of the handshake: each of its two reads
	calls      int           // SetReadDeadline calls so far
	head       []byte        // start of the connect response: length(4) version(4) timeout in ms(4) session id(8)
	negotiated func(id int64, timeout time.Duration)
}

const headLen = 20

// handshakeLimit is how long a server may take to open or resume a session. That is a write of the quorum's, so it must
// be well above a slow fsync; and below a third of the session timeout, or one frozen server costs the session.
func handshakeLimit(timeout time.Duration) time.Duration {
	if timeout <= 2*time.Second {
		return 500 * time.Millisecond
	}
	return time.Second
}

func (g *guard) SetReadDeadline(t time.Time) error {
	if g.calls < 2 {
		g.calls++
		t = time.Now().Add(g.limit)
	}
	return g.Conn.SetReadDeadline(t)
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if had := len(g.head); had < headLen {
		g.head = append(g.head, p[:min(n, headLen-had)]...)
		if err := g.check(had); err != nil {
			return 0, err
		}
	}
	return n, err
}

// check looks at the head of the connect response, of which had bytes were seen before.
func (g *guard) check(had int) error {
	if had < 4 && len(g.head) >= 4 && binary.BigEndian.Uint32(g.head) > maxHandshake {
		return errNotZooKeeper
	}
	if len(g.head) < headLen {
		return nil
	}
	timeout := time.Duration(int32(binary.BigEndian.Uint32(g.head[8:]))) * time.Millisecond
	id := int64(binary.BigEndian.Uint64(g.head[12:]))
	if id == 0 {
		return nil // expired; the library says so by an event
	}
	if timeout < minSession {
		return fmt.Errorf("server offers a session timeout of %v: %w", timeout, errNotZooKeeper)
	}
	g.negotiated(id, timeout)
	return nil
}

// dialer makes the connections of one client. The library calls dial from one goroutine, one call at a time, and is
// through with a connection when it asks for the next one.
type dialer struct {
	limit      time.Duration
	negotiated func(id int64, timeout time.Duration)
	told       func(address string, err error) // how a try went; nil: nobody wants to know
	done       chan struct{}                   // closed by stop
	tried      map[string]time.Time            // when an address was tried last

	mu   sync.Mutex
	conn net.Conn // the newest; the library forgets to close the one on which it heard that its session has expired
}

// pace is the least time between two tries of one address. It takes the place of the library's pause of a whole second
// after each round, which the host provider never lets it take.
const pace = 100 * time.Millisecond

const maxTried = 256 // addresses remembered for pacing; DNS may change for years

func newDialer(limit time.Duration, negotiated func(int64, time.Duration)) *dialer {
	return &dialer{limit: limit, negotiated: negotiated, done: make(chan struct{}), tried: make(map[string]time.Time)}
}

// dial connects to a server. The library's own timeout, always one second, is ignored.
func (d *dialer) dial(network, address string, _ time.Duration) (net.Conn, error) {
	conn, err := d.try(network, address)
	if d.told != nil {
		d.told(address, err)
	}
	return conn, err
}

func (d *dialer) try(network, address string) (net.Conn, error) {
	if !d.wait(address) {
		return nil, errClosed
	}
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial %q: %w", address, errNotResolved)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.limit)
	defer cancel()
	go func() { // ends with cancel above
		select {
		case <-d.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if !d.keep(conn) {
		return nil, errClosed
	}
	return &guard{Conn: conn, limit: d.limit, negotiated: d.negotiated}, nil
}

// wait keeps the pace; it returns false when the client is closed.
func (d *dialer) wait(address string) bool {
	timer := time.NewTimer(time.Until(d.tried[address].Add(pace)))
	defer timer.Stop()
	select {
	case <-d.done:
		return false
	case <-timer.C:
	}
	if len(d.tried) >= maxTried {
		clear(d.tried)
	}
	d.tried[address] = time.Now()
	return true
}

// keep remembers conn and closes the one before it; it returns false, and closes conn, when the client is closed.
func (d *dialer) keep(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		d.conn.Close()
	}
	d.conn = conn
	select {
	case <-d.done:
		conn.Close()
		return false
	default:
		return true
	}
}

// stop ends a try that is under way and refuses all later ones. The connection stays: the session is closed through it.
func (d *dialer) stop() { close(d.done) }

// hangUp closes the connection, which ends what the library still waits for on it.
func (d *dialer) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		d.conn.Close()
	}
}
