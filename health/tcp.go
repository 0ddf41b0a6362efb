package health

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"regexp"
)

// maxGreeting is how many bytes of an answer TCP looks at, and how many of them it shows.
const (
	maxGreeting   = 4096
	shownGreeting = 80
)

// TCP passes when a connection is accepted and, if Expect is given, the first bytes that come match it.
type TCP struct {
	Address string     // "host:port"
	Bind    netip.Addr // the source address; the zero Addr leaves it to the kernel
	Send    string     // sent as it is once connected
	Expect  string     // a regular expression on the first 4096 bytes of the answer; empty: nothing is read
}

func (t *TCP) String() string { return "tcp " + t.Address }

// Validate implements Probe.
func (t *TCP) Validate() error {
	var f faults
	host := f.address("address", t.Address, "127.0.0.1:25")
	f.source(t.Bind, host)
	f.pattern("expect", t.Expect)
	return f.err()
}

func (t *TCP) prepare(o options) runner {
	expect := compiled(t.Expect)
	return &looker{options: o, look: func(ctx context.Context) (string, error) { return t.look(ctx, expect) }}
}

func (t *TCP) look(ctx context.Context, expect *regexp.Regexp) (string, error) {
	conn, err := connect(ctx, "tcp", t.Address, t.Bind)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if t.Send != "" {
		if _, err := io.WriteString(conn, t.Send); err != nil {
			return "", err
		}
	}
	if expect == nil {
		return "connected to " + conn.RemoteAddr().String(), nil
	}
	return greeting(conn, expect)
}

// greeting reads until what came matches, or cannot any more.
func greeting(conn io.Reader, expect *regexp.Regexp) (string, error) {
	buf := make([]byte, 0, maxGreeting)
	for len(buf) < cap(buf) {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if expect.Match(buf) {
			return quoted(buf), nil
		}
		if err == io.EOF {
			return "", fmt.Errorf("closed after %s, want a match of %q", quoted(buf), expect)
		}
		if err != nil {
			return "", fmt.Errorf("%w after %s, want a match of %q", err, quoted(buf), expect)
		}
	}
	return "", fmt.Errorf("no match of %q in the first %d bytes, %s", expect, maxGreeting, quoted(buf))
}

// quoted is the beginning of an answer, for people.
func quoted(b []byte) string {
	if len(b) > shownGreeting {
		return fmt.Sprintf("%q and more", b[:shownGreeting])
	}
	return fmt.Sprintf("%q", b)
}
