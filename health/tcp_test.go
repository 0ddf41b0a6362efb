package health

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTCP(t *testing.T) {
	leaksNothing(t)
	banner := serve(t, func(c net.Conn) { io.WriteString(c, "220 mail"); io.WriteString(c, " ESMTP\r\n") }, false)
	echo := serve(t, func(c net.Conn) { io.CopyN(c, c, 4) }, false)
	endless := serve(t, func(c net.Conn) { io.Copy(c, strings.NewReader(strings.Repeat("x", 1<<20))) }, false)
	mute, hung := silent(t), silent(t)

	tests := []struct {
		name      string
		probe     TCP
		how, says string
	}{
		{"accepts", TCP{Address: banner}, "pass", "connected to " + banner},
		{"accepts by name", TCP{Address: "localhost:" + port(t, banner), Bind: local2}, "pass", "connected to " + banner},
		{"says nothing, and need not", TCP{Address: mute}, "pass", "connected"},
		{"greets", TCP{Address: banner, Expect: "^220 .*ESMTP"}, "pass", "220 mail ESMTP"},
		{"answers", TCP{Address: echo, Send: "PING", Expect: "PING"}, "pass", `"PING"`},
		{"matches before the end", TCP{Address: endless, Expect: "xxx"}, "pass", "and more"},
		{"refuses", TCP{Address: closed(t)}, "fail", "connection refused"},
		{"no such name", TCP{Address: "a..b:1"}, "fail", "no such host"},
		{"greets wrongly", TCP{Address: banner, Expect: "^250"}, "fail", `closed after "220 mail ESMTP\r\n", want a match of "^250"`},
		{"greets wrongly at length", TCP{Address: endless, Expect: "y"}, "fail", `no match of "y" in the first 4096 bytes`},
		{"says nothing", TCP{Address: hung, Expect: "x"}, "timeout", `i/o timeout after "", want a match of "x"`},
		{"does not read", TCP{Address: hung, Send: strings.Repeat("x", 32<<20)}, "timeout", "i/o timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expect(t, &tt.probe, tt.how, tt.says) })
	}
}

func TestTCPConnectsFromBind(t *testing.T) {
	leaksNothing(t)
	seen := make(chan string, 2)
	address := serve(t, func(c net.Conn) { seen <- c.RemoteAddr().(*net.TCPAddr).IP.String() }, false)
	expect(t, &TCP{Address: address, Bind: local2}, "pass", "")
	expect(t, &TCP{Address: address}, "pass", "")
	if a, b := <-seen, <-seen; a != "127.0.0.2" || b != "127.0.0.1" {
		t.Errorf("the server saw %s and %s, want 127.0.0.2 and 127.0.0.1", a, b)
	}
}

func TestBindOverIPv6(t *testing.T) {
	leaksNothing(t)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("needs ::1: %v", err)
	}
	defer l.Close()
	expect(t, &TCP{Address: l.Addr().String(), Bind: netip.IPv6Loopback()}, "pass", "connected to [::1]:")
	expect(t, &DNS{Server: l.Addr().String(), Name: "x", Type: "A", Bind: netip.IPv6Loopback()}, "fail", "connection refused")
	expect(t, &TCP{Address: strings.Replace(l.Addr().String(), "::1", "localhost", 1), Bind: local2}, "fail", "")
}

// TestBoundPortsAreChosenLate asks the kernel for what latePort has set, over both families.
func TestBoundPortsAreChosenLate(t *testing.T) {
	leaksNothing(t)
	for bind, listen := range map[string]string{"127.0.0.2": "127.0.0.1:0", "::1": "[::1]:0"} {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			t.Logf("without %s: %v", listen, err)
			continue
		}
		defer l.Close()
		conn, err := connect(t.Context(), "tcp", l.Addr().String(), netip.MustParseAddr(bind))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var set int
		raw.Control(func(fd uintptr) { set, err = unix.GetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT) })
		if err != nil || set != 1 {
			t.Errorf("from %s: option %d, %v, want 1", bind, set, err)
		}
	}
}

// A full queue of a listener, as of a server that hangs, leaves the connection unanswered.
func TestTCPTimesOutWhileConnecting(t *testing.T) {
	leaksNothing(t)
	address := full(t)
	expect(t, &TCP{Address: address}, "timeout", "dial tcp")
	expect(t, &HTTP{URL: "http://" + address}, "timeout", "while connecting")
}

func port(t *testing.T, address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// full is the address of a listener whose queue is full.
func full(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
}
