package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"exazk/vagrant/probe/sockbuf"
)

// listenEcho opens the sockets of the echo server: for an address without a host one for each address family, so that
// each speaks of addresses in its own family's words. A host without IPv6 has only the first.
func listenEcho(address string) ([]*net.UDPConn, error) {
	if address == "" {
		return nil, nil
	}
	want, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for UDP: %w", err)
	}
	families := []string{"udp4", "udp6"}
	switch {
	case want.IP == nil:
	case want.IP.To4() != nil:
		families = []string{"udp4"}
	default:
		families = []string{"udp6"}
	}
	var conns []*net.UDPConn
	for _, family := range families {
		c, err := listenFamily(family, want)
		if errors.Is(err, syscall.EAFNOSUPPORT) && len(conns) > 0 {
			continue
		}
		if err != nil {
			closeAll(conns)
			return nil, fmt.Errorf("listen for UDP: %w", err)
		}
		conns = append(conns, c)
		want.Port = c.LocalAddr().(*net.UDPAddr).Port // port 0 is resolved once for both
	}
	return conns, nil
}

// listenFamily opens a socket that tells the destination of each datagram: ip(7), ipv6(7).
func listenFamily(family string, want *net.UDPAddr) (*net.UDPConn, error) {
	c, err := net.ListenUDP(family, want)
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) {
		if family == "udp4" {
			optErr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		} else {
			optErr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
		}
	})
	sockbuf.Raise(c)
	if err := errors.Join(err, optErr); err != nil {
		c.Close()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return c, nil
}

// echo answers until c is closed; the error says how reading ended. An answer that cannot be sent is dropped, like one
// that gets lost on its way.
func echo(c *net.UDPConn, name string) error {
	data := make([]byte, 64<<10)
	control := make([]byte, 256)
	for {
		n, cn, _, from, err := c.ReadMsgUDPAddrPort(data[:len(data)-len(name)-1], control)
		if err != nil {
			return err
		}
		n += copy(data[n:], " "+name)
		c.WriteMsgUDPAddrPort(data[:n], source(control[:cn]), from)
	}
}

// source turns the control message that told a datagram's destination into the one that sets the source of the answer.
// The two differ in the interface only: it has to be open, because the route back may lead through another one.
func source(control []byte) []byte {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages { // m.Data is a part of control
		switch {
		case m.Header.Level == syscall.IPPROTO_IP && m.Header.Type == syscall.IP_PKTINFO && len(m.Data) >= syscall.SizeofInet4Pktinfo:
			info := (*syscall.Inet4Pktinfo)(unsafe.Pointer(&m.Data[0]))
			info.Ifindex = 0
			info.Spec_dst = info.Addr
			return control
		case m.Header.Level == syscall.IPPROTO_IPV6 && m.Header.Type == syscall.IPV6_PKTINFO && len(m.Data) >= syscall.SizeofInet6Pktinfo:
			info := (*syscall.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0]))
			if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() { // those mean nothing without their interface
				info.Ifindex = 0
			}
			return control
		}
	}
	return nil
}
