package zkstate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	defaultPort   = "2181"
	lookupTimeout = 3 * time.Second
	lookupAgain   = 30 * time.Second // after a good answer
	lookupRetry   = time.Second      // after a bad one
)

// hosts knows the addresses of the servers. Each name is looked up again and again by a goroutine of its own and keeps its
// last good answer: the library's own provider looks every name up once, at the start, and one bad name fails them all.
type hosts struct {
	log    *logrus.Entry
	lookup func(ctx context.Context, host string) ([]string, error)

	mu      sync.Mutex
	servers []server
	next    int // index into the addresses of all servers, laid end to end
}

// server is one element of Config.Servers.
type server struct {
	host, port string
	addrs      []string // "ip:port", sorted; empty until the name was resolved
}

// newHosts reads the list of servers; they are put into random order, so that the nodes do not all use the same one.
func newHosts(list []string, log *logrus.Entry) (*hosts, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("no ZooKeeper server is configured")
	}
	h := &hosts{log: log, lookup: net.DefaultResolver.LookupHost}
	for _, element := range list {
		s, err := parseServer(element)
		if err != nil {
			return nil, err
		}
		h.servers = append(h.servers, s)
	}
	rand.Shuffle(len(h.servers), func(i, j int) { h.servers[i], h.servers[j] = h.servers[j], h.servers[i] })
	return h, nil
}

// parseServer reads "host", "host:port", "[::1]:port" or "::1".
func parseServer(element string) (server, error) {
	s := server{host: element, port: defaultPort}
	if ip, err := netip.ParseAddr(element); err == nil {
		s.host = ip.String()
	} else if host, port, err := net.SplitHostPort(element); err == nil {
		s.host, s.port = host, port
	}
	if n, err := strconv.ParseUint(s.port, 10, 16); err != nil || n == 0 {
		return server{}, fmt.Errorf("server %q: the port is no number from 1 to 65535", element)
	}
	if ip, err := netip.ParseAddr(s.host); err == nil {
		s.addrs = []string{net.JoinHostPort(ip.String(), s.port)}
		return s, nil
	}
	if s.host == "" || !isName(s.host) {
		return server{}, fmt.Errorf("server %q: not host:port", element)
	}
	return s, nil
}

// ServerName reports whether host can be the host of an entry of Config.Servers: an address or a name.
func ServerName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || host != "" && isName(host)
}

// isName reports whether host can be a name; a list ("a:1,b:2") and a path behind the port ("a/chroot") cannot.
func isName(host string) bool {
	return !slices.ContainsFunc([]byte(host), func(c byte) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_')
	})
}

// run keeps the addresses up to date until ctx is done.
func (h *hosts) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range h.servers {
		if _, err := netip.ParseAddr(h.servers[i].host); err != nil {
			wg.Go(func() { h.follow(ctx, i) })
		}
	}
	wg.Wait()
}

// follow looks up one name for ever.
func (h *hosts) follow(ctx context.Context, i int) {
	host, port := h.servers[i].host, h.servers[i].port
	log := h.log.WithField("host", host)
	bad := false
	for ctx.Err() == nil {
		addrs, err := h.resolve(ctx, host, port)
		pause := lookupAgain
		switch {
		case err != nil:
			pause = lookupRetry
			if !bad && ctx.Err() == nil {
				log.WithError(err).Warn("ZooKeeper server's name is not resolved; its last known addresses are kept")
			}
		case h.store(i, addrs):
			log.WithField("addresses", addrs).Info("ZooKeeper server's name is resolved")
		}
		bad = err != nil
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// resolve looks host up and returns its addresses with the port.
func (h *hosts) resolve(ctx context.Context, host, port string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := h.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	var addrs []string
	for _, a := range found {
		if ip, err := netip.ParseAddr(a); err == nil {
			addrs = append(addrs, net.JoinHostPort(ip.String(), port))
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("look up %q: no address", host)
	}
	slices.Sort(addrs)
	return slices.Compact(addrs), nil
}

// store replaces the addresses of a server and reports whether they are others than before.
func (h *hosts) store(i int, addrs []string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := !slices.Equal(h.servers[i].addrs, addrs)
	h.servers[i].addrs = addrs
	return changed
}

// count returns the number of known addresses.
func (h *hosts) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, s := range h.servers {
		n += len(s.addrs)
	}
	return n
}

// unresolved names the servers of which no address is known.
func (h *hosts) unresolved() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, s := range h.servers {
		if len(s.addrs) == 0 {
			names = append(names, net.JoinHostPort(s.host, s.port))
		}
	}
	slices.Sort(names)
	return names
}

// turn returns the next address in turn, or a name with its port while no address is known: the dialer refuses that.
func (h *hosts) turn() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, s := range h.servers {
		all = append(all, s.addrs...)
	}
	if len(all) == 0 {
		return net.JoinHostPort(h.servers[0].host, h.servers[0].port)
	}
	h.next %= len(all)
	addr := all[h.next]
	h.next++
	return addr
}

// provider gives the addresses to one client of the library.
type provider struct {
	*hosts
	closed atomic.Bool
}

// Init does nothing: the servers are known already, and looking them up here would make a missing DNS a failed start.
func (p *provider) Init([]string) error { return nil }

func (p *provider) Len() int { return max(1, p.count()) }

// Next returns the next server. Its second result, "a whole round has failed", makes the library fail what it has queued
// and sleep for a second, so it is never true, except when the client is closed: only there does the library's loop over
// servers that refuse (connect in conn.go of v1.0.4) look whether it should end.
func (p *provider) Next() (string, bool) { return p.turn(), p.closed.Load() }

func (p *provider) Connected() {}
