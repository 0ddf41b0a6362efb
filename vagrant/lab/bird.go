package lab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// birdSocket is Debian's default, so that birdc on a router needs no option.
const birdSocket = "/run/bird/bird.ctl"

// Route is one path in a router's table.
type Route struct {
	Prefix      netip.Prefix
	Via         string     // the BIRD protocol it came from; a BGP protocol has the name of its neighbor, "r1" or "lb1"
	Gateway     netip.Addr // zero for a net of an own interface
	Best        bool       // the one in use
	HasMED      bool
	MED         uint32
	LocalPref   uint32
	ASPath      []uint32 // empty for routes that are not BGP's
	Communities []string // as BIRD writes them, "65535,0"
}

// Table is what a router knows, in BIRD's order: the best path of each prefix before the others.
type Table []Route

// For returns the paths to one address as a host route, the best one first.
func (t Table) For(vip netip.Addr) []Route {
	var paths []Route
	for _, r := range t {
		if r.Prefix == netip.PrefixFrom(vip, vip.BitLen()) {
			paths = append(paths, r)
		}
	}
	return paths
}

// Routes reads a router's table.
func (l *Lab) Routes(router string) (Table, error) {
	out, err := l.Birdc(router, "show route all table master4")
	if err != nil {
		return nil, err
	}
	t, err := parseRoutes(out)
	if err != nil {
		return nil, fmt.Errorf("%s: table of %s: %w", DaemonBIRD, router, err)
	}
	return t, nil
}

// ShowVIPs is the command that shows the VIPs' part of a router's table.
const ShowVIPs = "show route where net ~ [ 10.20.255.0/24+ ]"

// Established says whether a router's BGP session with a neighbor is established.
func (l *Lab) Established(router, neighbor string) (bool, error) {
	out, err := l.Birdc(router, "show protocols "+neighbor)
	if err != nil {
		return false, err
	}
	return parseEstablished(out, neighbor)
}

func parseEstablished(out, neighbor string) (bool, error) {
	for line := range strings.Lines(out) {
		// Name Proto Table State Since Info...
		if f := strings.Fields(line); len(f) >= 5 && f[0] == neighbor {
			return f[3] == "up" && slices.Contains(f[5:], "Established"), nil
		}
	}
	return false, fmt.Errorf("no protocol %q in %q", neighbor, out)
}

// Received counts what a router got from a neighbor in one life of their BGP session, as BIRD counts it: a message about two
// prefixes is two updates, and one that changes nothing counts as well.
type Received struct {
	Since     time.Time // when the session came to its state; only the time of day, and a millisecond more or less at each reading
	Updates   int       // routes announced
	Withdraws int
}

// After returns how many updates and withdraws came after an earlier reading: all there are, if the session is another one.
func (r Received) After(before Received) int {
	n, had := r.Updates+r.Withdraws, before.Updates+before.Withdraws
	if r.Since.Sub(before.Since).Abs() > 20*time.Millisecond || n < had {
		return n
	}
	return n - had
}

// Received reads the counters of a router's BGP session with a neighbor. They are 0 while there is no session.
func (l *Lab) Received(router, neighbor string) (Received, error) {
	out, err := l.Birdc(router, "show protocols all "+neighbor)
	if err != nil {
		return Received{}, err
	}
	return parseReceived(out, neighbor)
}

func parseReceived(out, neighbor string) (Received, error) {
	var r Received
	found := false
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		var err error
		switch {
		case len(f) >= 5 && f[0] == neighbor: // as in parseEstablished
			found = true
			r.Since, err = time.Parse("15:04:05.000", f[4])
		case len(f) == 7 && f[0] == "Import" && f[1] == "updates:": // received rejected filtered ignored accepted
			r.Updates, err = strconv.Atoi(f[2])
		case len(f) == 7 && f[0] == "Import" && f[1] == "withdraws:":
			r.Withdraws, err = strconv.Atoi(f[2])
		}
		if err != nil {
			return Received{}, fmt.Errorf("%q: %w", line, err)
		}
	}
	if !found {
		return Received{}, fmt.Errorf("no protocol %q in %q", neighbor, out)
	}
	return r, nil
}

// Birdc gives one command to a router's BIRD and returns what birdc would print. A Unix socket is reached by its path, from
// any network namespace, which spares a process for each of the many questions of a test.
func (l *Lab) Birdc(router, command string) (string, error) {
	conn, err := net.DialTimeout("unix", l.Host(router).Path(birdSocket), time.Second)
	if err != nil {
		return "", fmt.Errorf("%s: ask bird: %w", router, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	if _, err := readReply(in); err != nil { // the greeting
		return "", fmt.Errorf("%s: ask bird: %w", router, err)
	}
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", fmt.Errorf("%s: ask bird: %w", router, err)
	}
	out, err := readReply(in)
	if err != nil {
		return "", fmt.Errorf("%s: bird: %s: %w", router, command, err)
	}
	return out, nil
}

// readReply reads one reply of BIRD's control protocol and strips its codes. A line begins with four digits and "-", or " "
// on the last one, or with a blank where it continues the one before. Codes of 8000 and more are errors.
func readReply(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line[0] == ' ' || line[0] == '+' {
			b.WriteString(line[1:])
			continue
		}
		if len(line) < 6 {
			return "", fmt.Errorf("bad line %q", line)
		}
		code, err := strconv.Atoi(line[:4])
		if err != nil {
			return "", fmt.Errorf("bad line %q", line)
		}
		if code >= 8000 {
			return "", errors.New(strings.TrimSpace(line[5:]))
		}
		if code != 0 { // 0000 is the bare end
			b.WriteString(line[5:])
		}
		if line[4] == ' ' {
			return b.String(), nil
		}
	}
}

var (
	// A path: "10.20.255.1/32   unicast [r1 12:00:00.123] * (100) [AS65101i]". Further paths of a prefix begin with blanks.
	pathLine = regexp.MustCompile(`^(\S+)?\s+(?:unicast|blackhole|unreachable|prohibit) \[(\S+) [^\]]*\](?:\s+from \S+)?( \*)?`)
	viaLine  = regexp.MustCompile(`^\s+via (\S+) on \S+`)
)

// parseRoutes reads the output of "show route all" of BIRD 2.0.
func parseRoutes(out string) (Table, error) {
	var t Table
	var prefix netip.Prefix
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if m := pathLine.FindStringSubmatch(line); m != nil {
			if m[1] != "" {
				var err error
				if prefix, err = netip.ParsePrefix(m[1]); err != nil {
					return nil, err
				}
			}
			t = append(t, Route{Prefix: prefix, Via: m[2], Best: m[3] != ""})
			continue
		}
		if len(t) == 0 {
			continue // "Table master4:", or an empty one
		}
		if err := t[len(t)-1].parseDetail(line); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return t, nil
}

// parseDetail reads one of the lines below a path. Those that nobody asks for are skipped.
func (r *Route) parseDetail(line string) (err error) {
	if m := viaLine.FindStringSubmatch(line); m != nil {
		r.Gateway, err = netip.ParseAddr(m[1])
		return err
	}
	key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
	switch key {
	case "BGP.med":
		r.HasMED = true
		r.MED, err = parseUint32(value)
	case "BGP.local_pref":
		r.LocalPref, err = parseUint32(value)
	case "BGP.as_path":
		for _, f := range strings.Fields(value) {
			asn, err := parseUint32(f)
			if err != nil {
				return err
			}
			r.ASPath = append(r.ASPath, asn)
		}
	case "BGP.community":
		for _, f := range strings.Fields(value) {
			r.Communities = append(r.Communities, strings.Trim(f, "()"))
		}
	}
	return err
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
