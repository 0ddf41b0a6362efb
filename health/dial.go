package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// connect connects to address from bind, an address of this node, or from the one that the kernel picks if bind is the zero
// Addr. A name is resolved anew each time, by Go's own resolver, because a call of the C library cannot be cut short. What
// the connection does fails once ctx is done, as it must be at the end of the run.
func connect(ctx context.Context, network, address string, bind netip.Addr) (net.Conn, error) {
	d := net.Dialer{Resolver: &net.Resolver{PreferGo: true}, KeepAlive: -1} // a connection lives for one run
	if from := netip.AddrPortFrom(bind.Unmap(), 0); bind.IsValid() && network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	} else if bind.IsValid() {
		d.LocalAddr, d.Control = net.TCPAddrFromAddrPort(from), latePort
	}
	conn, err := d.DialContext(ctx, network, address)
	if errors.Is(err, unix.EADDRNOTAVAIL) && bind.IsValid() {
		return nil, fmt.Errorf("%w: is %v on an interface of this node?", err, bind)
	}
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return conn, nil
}

// latePort has the kernel choose the port when it connects and knows the other end (ip(7), IP_BIND_ADDRESS_NO_PORT). Chosen
// before, each port could be used for one connection a minute only, whatever its other end: some 470 runs a second. Where the
// kernel does not know the option, that is how it stays.
func latePort(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) })
}

// address checks "host:port" and returns the host.
func (f *faults) address(field, s, example string) (host string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		f.add(field, "%q is not host:port; remedy: write it such as %q, an IPv6 address in brackets", s, example)
		return ""
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		f.add(field, "%q has no port from 1 to 65535; remedy: write it such as %q", s, example)
	}
	return host
}
