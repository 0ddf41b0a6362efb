package exa

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"exazk/exabgp"
)

// line is what ExaBGP writes to its process, with its newline left out.
type line struct {
	heard exabgp.Input // the exabgp.Heard that it is
	size  int          // in bytes, newline included
}

// Memo keeps what exabgp.Decode said of each line. It may serve many runs one after the other: what is in it does not depend
// on them. It is for one goroutine.
type Memo struct {
	lines     map[string]*line
	neighbors map[linesKey]*lines
}

// NewMemo makes an empty one.
func NewMemo() *Memo { return &Memo{lines: map[string]*line{}, neighbors: map[linesKey]*lines{}} }

// memoLimit bounds the memo, which else grows with every prefix of every run.
const memoLimit = 1 << 14

func (m *Memo) line(text string) *line {
	l, ok := m.lines[text]
	if !ok {
		if len(m.lines) >= memoLimit {
			clear(m.lines)
		}
		l = &line{heard: exabgp.Heard{Verdict: exabgp.Decode([]byte(text))}, size: len(text) + 1}
		m.lines[text] = l
	}
	return l
}

const (
	lineDone    = "done"
	lineError   = "error"
	lineVersion = "exabgp 4.2.21"
	lineHeader  = "Peer            AS        up/down state       |     #sent     #recvd"
	lineEnd     = `{ "exabgp": "4.0.1", "time": 1795328461.2989614, "host" : "bgp-host", "pid" : 15344, "ppid" : 15303, ` +
		`"type": "notification", "notification": "shutdown" }`
)

// Reasons that ExaBGP gives for a session that ended or did not come up.
const (
	reasonRefused  = "peer reset, message (closing connection) error(Broken TCP connection)"
	reasonClosed   = "peer reset, message (closing connection) error(the TCP connection was closed by the remote end)"
	reasonHold     = "peer reset, message (notification sent (4,0)) error(Hold timer expired / Unspecific)"
	reasonTheirs   = "peer reset, message (notification received (4,0)) error(Hold timer expired / Unspecific)"
	reasonReset    = "peer reset, message (notification received (6,4)) error(Cease / Administrative Reset)"
	reasonNoOpen   = "peer reset, message (notification sent (1,1)) error(Message header error / Connection Not Synchronized)"
	reasonShutdown = "stop, message (shutting down)"
)

var reasons = []string{reasonRefused, reasonClosed, reasonHold, reasonTheirs, reasonReset, reasonNoOpen, reasonShutdown}

// Autonomous systems of the two ends; they show in lines only.
const (
	localAS = 65001
	peerAS  = 65002
)

// lines are those about one neighbor. Times, counters and process numbers are constant, so that lines repeat: they mean
// nothing to exabgp.Decode.
type lines struct {
	connected, up, keepalive *line
	down                     map[string]*line // by reason
	summary, young           *line            // of a session, and of one that is up for less than a second
	route, routeShort        string           // what comes before a route
	configuration            []*line
}

// linesKey is what the lines about a neighbor follow from.
type linesKey struct {
	peer                Peer
	hold                time.Duration
	changes, keepalives bool
}

// of returns the lines about a neighbor.
func (m *Memo) of(p Peer, cfg Config) *lines {
	key := linesKey{p, cfg.HoldTime, cfg.Changes, cfg.Keepalives}
	l, ok := m.neighbors[key]
	if !ok {
		l = m.newLines(p, cfg)
		m.neighbors[key] = l
	}
	return l
}

func (m *Memo) newLines(p Peer, cfg Config) *lines {
	row := func(uptime string) *line {
		return m.line(fmt.Sprintf("%-15s %-7d %9s %-12s %10d %10d", p.Peer, peerAS, uptime, "established", 8, 2))
	}
	l := &lines{
		connected: m.line(message(p, "state", `, "state": "connected"`)),
		up:        m.line(message(p, "state", `, "state": "up"`)),
		keepalive: m.line(message(p, "keepalive", `, "direction": "receive" `)),
		down:      map[string]*line{},
		summary:   row("0:00:13"),
		young:     row("down"),
		route: fmt.Sprintf("neighbor %s local-ip %s local-as %d peer-as %d router-id %s family-allowed in-open ",
			p.Peer, p.Local, localAS, peerAS, p.Local),
		routeShort: fmt.Sprintf("neighbor %s ", p.Peer),
	}
	for _, reason := range reasons {
		l.down[reason] = m.line(message(p, "state", fmt.Sprintf(`, "state": "down", "reason": %q`, reason)))
	}
	for text := range strings.SplitSeq(configuration(p, cfg), "\n") {
		l.configuration = append(l.configuration, m.line(text))
	}
	return l
}

// message is an event as 4.2 tells it.
func message(p Peer, kind, body string) string {
	return fmt.Sprintf(`{ "exabgp": "4.0.1", "time": 1795328425.0610132, "host" : "bgp-host", "pid" : 15344, "ppid" : 15303, `+
		`"counter": 1, "type": %q, "neighbor": { "address": { "local": %q, "peer": %q }, "asn": { "local": %d, "peer": %d } %s } }`,
		kind, p.Local, p.Peer, localAS, peerAS, body)
}

// configuration is the answer to "show neighbor configuration".
func configuration(p Peer, cfg Config) string {
	api := "    processes [ exazk ];\n"
	if cfg.Changes {
		api += "    neighbor-changes;\n"
	}
	if cfg.Keepalives {
		api += "    receive {\n      parsed;\n      keepalive;\n    }\n"
	}
	return fmt.Sprintf(configurationForm, p.Peer, p.Local, p.Local, localAS, peerAS, int(cfg.HoldTime/time.Second), p.Local, api)
}

const configurationForm = `neighbor %s {
  description "";
  router-id %s;
  host-name bgp-host;
  domain-name localhost;
  local-address %s;
  local-as %d;
  peer-as %d;
  hold-time %d;
  rate-limit disable;
  manual-eor false;

  passive false;
  group-updates true;
  auto-flush true;
  adj-rib-in true;
  adj-rib-out true;
  md5-base64 auto;
  md5-ip "%s";

  capability {
    asn4 enable;
    route-refresh disable;
    graceful-restart disable;
    nexthop disable;
    add-path disable;
    multi-session disable;
    operational disable;
    aigp disable;
  }
  family {
    ipv4 unicast;
    ipv6 unicast;
  }
  nexthop {
  }
  add-path {
  }
  api {
%s  }
}`

// routeText is a route as "show adj-rib out extensive" has it, without its neighbor.
func routeText(r route, extensive bool) string {
	var b strings.Builder
	b.WriteString(family(r.prefix.Addr()))
	b.WriteString(" unicast ")
	b.WriteString(r.prefix.String())
	if r.path != 0 {
		fmt.Fprintf(&b, " path-information %d.%d.%d.%d", r.path>>24, r.path>>16&255, r.path>>8&255, r.path&255)
	}
	b.WriteString(" next-hop ")
	if r.hop.IsValid() {
		b.WriteString(r.hop.String())
	} else {
		b.WriteString("self")
	}
	if !extensive {
		return b.String()
	}
	if r.asPath != "" {
		b.WriteString(" as-path [ " + r.asPath + " ]")
	}
	if r.hasMED {
		fmt.Fprintf(&b, " med %d", r.med)
	}
	if r.localPref != "" {
		b.WriteString(" local-preference " + r.localPref)
	}
	for _, a := range []struct{ name, values string }{{"community", r.communities}, {"extended-community", r.extended}, {"large-community", r.large}} {
		switch {
		case strings.Contains(a.values, " "):
			b.WriteString(" " + a.name + " [ " + a.values + " ]")
		case a.values != "":
			b.WriteString(" " + a.name + " " + a.values)
		}
	}
	return b.String()
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "ipv4"
	}
	return "ipv6"
}
