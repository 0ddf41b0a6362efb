package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"exazk/vagrant/probe/sockbuf"
)

// probeUDP sends numbered datagrams to target until ctx is done, and then waits for the last answers. What is sent is
// "probe TAG NUMBER"; an answer is the same and a space and the node's name. The socket is not connected, so that an ICMP
// error is a lost answer and nothing more: on a connected one it would also swallow the next probe (udp(7)).
func probeUDP(ctx context.Context, target netip.AddrPort, every time.Duration, tag string, t *tracker) error {
	network := "udp4"
	if target.Addr().Is6() {
		network = "udp6"
	}
	c, err := net.ListenUDP(network, nil)
	if err != nil {
		return fmt.Errorf("open UDP socket: %w", err)
	}
	sockbuf.Raise(c)
	prefix := "probe " + tag + " "
	received := make(chan error, 1)
	go func() { received <- receive(c, target, prefix, t) }()
	pace(ctx, every, func() {
		n := t.send(time.Now())
		// An error (no route, no buffer) is a lost probe: it was numbered, and nobody will answer it.
		c.WriteToUDPAddrPort(strconv.AppendUint([]byte(prefix), n, 10), target)
	}, t.skip)
	drain(t)
	c.Close()
	return <-received
}

// receive counts answers until c is closed. It returns nil then, and an error that would turn answers into losses else.
func receive(c *net.UDPConn, target netip.AddrPort, prefix string, t *tracker) error {
	buf := make([]byte, 2048)
	for {
		size, from, err := c.ReadFromUDPAddrPort(buf)
		now := time.Now()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && !temporary(err):
			return fmt.Errorf("receive answers: %w", err)
		case err != nil || from != target: // somebody else's, or an answer that a client would not take for one
			continue
		}
		if n, node, ok := parseAnswer(buf[:size], prefix); ok {
			t.answer(n, now, node)
		}
	}
}

// temporary says whether reading may go on: what ICMP reports, and shortages that pass.
func temporary(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES, syscall.ENOMEM, syscall.ENOBUFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// parseAnswer takes an answer apart.
func parseAnswer(data []byte, prefix string) (n uint64, node string, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(prefix))
	if !ok {
		return 0, "", false
	}
	number, name, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return 0, "", false
	}
	n, err := strconv.ParseUint(string(number), 10, 64)
	return n, string(name), err == nil
}

// drain returns when no answer is waited for any more.
func drain(t *tracker) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for t.waiting(time.Now()) {
		<-tick.C
	}
}
