package exa

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The commands that ExaBGP 4.2 knows, in the order in which it looks for them (API.text: sorted in reverse). Those that are
// not modelled are in the list so that they are not taken for unknown ones.
var known = []string{
	"withdraw watchdog", "withdraw vpls", "withdraw route", "withdraw flow", "withdraw attributes", "version", "teardown",
	"shutdown", "show neighbor", "show adj-rib out", "show adj-rib in", "restart", "reset", "reload", "help",
	"flush adj-rib out", "crash", "clear adj-rib", "announce watchdog", "announce vpls", "announce route-refresh",
	"announce route", "announce operational", "announce flow", "announce eor", "announce attributes", "announce attribute", "#",
}

// job is a command that is carried out step by step (a generator in ASYNC's queue).
type job struct {
	command string // of known: what to do first
	text    string
	lines   []*line // then one a step, with "done" behind the last
	begun   bool
	over    bool // the last step was made, and the next finds the end
	other   bool // another process asked for it, which gets the reply
}

// formated is how ExaBGP brings a command into form (configuration/core/format.py).
func formated(text string) string {
	text = strings.TrimSpace(text)
	if !strings.ContainsAny(text, "\t[](),") && !strings.Contains(text, "  ") {
		return text
	}
	text = strings.NewReplacer("\t", " ", "]", " ]", "[", "[ ", ")", " )", "(", "( ", ",", " , ").Replace(text)
	return strings.Join(strings.FieldsFunc(text, func(c rune) bool { return c == ' ' }), " ")
}

// dispatch finds the command that a line asks for. It goes by parts of the line, as 4.2 does: "abc version" is "version", and
// half a line of a predecessor in front of a command goes under its name. It is empty for an unknown one.
func dispatch(text string) string {
	for _, command := range known {
		at := strings.Index(text, command)
		switch {
		case at < 0:
		case text == command, strings.HasSuffix(text, " "+command), strings.Contains(text, command+" "):
			return command
		}
	}
	return ""
}

// command takes one line. What is not known, and what needs no queue, is answered at once: before all that waits there.
func (x *ExaBGP) command(text string) {
	text = formated(text)
	switch command := dispatch(text); command {
	case "":
		x.reply(lineError)
	case "version":
		x.say(x.memo.line(lineVersion))
		x.reply(lineDone)
	case "#":
		x.reply(lineDone)
	case "shutdown":
		x.say(x.memo.line("shutdown in progress"))
		x.reply(lineDone)
		x.term = true
	case "reset": // no reply, nor those of what it throws away
		x.queue = nil
	case "show neighbor":
		if !slices.ContainsFunc([]string{"summary", "configuration", "extensive"}, func(word string) bool { return slices.Contains(strings.Fields(text), word) }) {
			x.say(x.memo.line("please specify summary, extensive or configuration"))
			x.say(x.memo.line("you can filter by peer ip address adding it after the word neighbor"))
			x.reply(lineDone)
			return
		}
		x.queue = append(x.queue, job{command: command, text: text})
	case "announce route", "withdraw route", "show adj-rib out":
		x.queue = append(x.queue, job{command: command, text: text})
	default:
		panic("bug: not modelled: " + strconv.Quote(text))
	}
}

// asyncSteps are taken in one round (ASYNC.LIMIT): 25 routes.
const asyncSteps = 50

// async takes steps of what is queued.
func (x *ExaBGP) async() {
	for steps := 0; steps < asyncSteps && len(x.queue) > 0 && x.running && !x.stalled(); steps++ {
		if j := &x.queue[0]; j.over {
			x.queue = x.queue[1:]
		} else {
			x.step(j)
		}
	}
	if len(x.queue) == 0 {
		x.queue = nil
	}
}

// step is one step of a command. Of a route the first one changes the table and the second one answers.
func (x *ExaBGP) step(j *job) {
	if j.begun {
		if len(j.lines) > 0 {
			x.say(j.lines[0])
			j.lines = j.lines[1:]
			return
		}
		x.answer(j, lineDone)
		x.queue = x.queue[1:] // the end shows in the same step
		return
	}
	j.begun = true
	switch j.command {
	case "show neighbor":
		x.showNeighbors(j)
	case "show adj-rib out":
		x.showRoutes(j)
	default:
		x.change(j)
	}
}

// ByHand is a route command of another process: exabgpcli is one.
func (x *ExaBGP) ByHand(text string) {
	x.after(x.lag(), func() {
		if text = formated(text); dispatch(text) != "announce route" && dispatch(text) != "withdraw route" {
			panic("bug: not modelled: " + strconv.Quote(text))
		}
		x.queue = append(x.queue, job{command: dispatch(text), text: text, other: true})
		x.wake(0)
	})
}

func (x *ExaBGP) change(j *job) {
	peers, text := x.selected(j.text)
	r, fault := parseRoute(text, j.command == "withdraw route")
	if len(peers) == 0 { // which it looks at first
		fault = refused
	}
	if fault == "" && x.cfg.Lose > 0 && x.r.Float64() < x.cfg.Lose {
		fault = silent
	}
	switch fault {
	case "":
		inject(peers, r)
	case silent: // an exception in the handler is logged, and nothing is answered
		j.over = true
	default:
		x.answer(j, lineError)
		j.over = true
	}
}

// inject changes the table of each of these neighbors (inject_change).
func inject(peers []*peer, r route) {
	for _, p := range peers {
		if p.table.put(r) {
			p.out.put(r)
		}
	}
}

// selected are the neighbors that a command is for, and the command without its selector (extract_neighbors, match_neighbors):
// all of them where there is none. "neighbor" is followed by an address as it stands in the configuration.
func (x *ExaBGP) selected(text string) ([]*peer, string) {
	rest, found := strings.CutPrefix(text, "neighbor ")
	if !found {
		return x.peers, text
	}
	address, rest, _ := strings.Cut(rest, " ")
	for _, more := range []string{",", "neighbor", "local-ip", "local-as", "peer-as", "router-id", "family-allowed"} {
		if strings.HasPrefix(rest, more+" ") {
			panic("bug: not modelled: " + strconv.Quote(text))
		}
	}
	var peers []*peer
	for _, p := range x.peers {
		if p.addr.Peer.String() == address {
			peers = append(peers, p)
		}
	}
	return peers, rest
}

func (x *ExaBGP) showNeighbors(j *job) {
	words := strings.Fields(j.text)
	switch {
	case slices.Contains(words, "summary"):
		x.say(x.memo.line(lineHeader))
		for _, p := range x.peers {
			switch {
			case p.state != established: // 4.2 lists no others
			case x.clock.Now().Unix() == p.since.Unix(): // an uptime of 0 counts as none
				j.lines = append(j.lines, p.lines.young)
			default:
				j.lines = append(j.lines, p.lines.summary)
			}
		}
	case slices.Contains(words, "extensive"):
		panic("bug: not modelled: " + strconv.Quote(j.text))
	default:
		for _, p := range x.peers {
			j.lines = append(j.lines, p.lines.configuration...)
		}
	}
	x.step(j)
}

// showRoutes lists the Adj-RIB-Out of each neighbor: IPv4, then IPv6, each in the order of the table.
func (x *ExaBGP) showRoutes(j *job) {
	extensive := strings.HasSuffix(j.text, " extensive")
	for _, p := range x.peers {
		for _, v4 := range []bool{true, false} {
			for _, r := range p.table {
				switch {
				case r.prefix.Addr().Is4() != v4:
				case extensive:
					j.lines = append(j.lines, x.memo.line(p.lines.route+routeText(r, true)))
				default:
					j.lines = append(j.lines, x.memo.line(p.lines.routeShort+routeText(r, false)))
				}
			}
		}
	}
	x.step(j)
}

// Faults of a route command, beside none: which of them are answered was found by trying.
const (
	refused = "refused" // answered with "error"
	silent  = "silent"  // not answered at all
)

// parseRoute reads "announce route P next-hop H [med M] [community C]" and the like, from the second word on.
func parseRoute(text string, withdraw bool) (route, string) {
	words := strings.Fields(text)
	if len(words) < 3 || words[1] != "route" {
		return route{}, refused
	}
	prefix, fault := parsePrefix(words[2])
	if fault != "" {
		return route{}, fault
	}
	r := route{nlri: nlri{prefix: prefix}, withdraw: withdraw}
	for words = words[3:]; len(words) > 0; {
		if words, fault = r.attribute(words); fault != "" {
			return route{}, fault
		}
	}
	if !withdraw && !r.hasHop {
		return route{}, refused
	}
	return r, ""
}

// parsePrefix does without a mask (a host route), but does not forgive host bits.
func parsePrefix(text string) (netip.Prefix, string) {
	address, mask, found := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, silent
	}
	bits := addr.BitLen()
	if found {
		if bits, err = strconv.Atoi(mask); err != nil {
			return netip.Prefix{}, refused
		}
	}
	prefix, err := addr.Prefix(bits)
	if err != nil || prefix.Addr() != addr {
		return netip.Prefix{}, refused
	}
	return prefix, ""
}

// attribute reads one of a route's, and returns the words behind it. Of one that comes twice the first counts.
func (r *route) attribute(words []string) ([]string, string) {
	if len(words) < 2 {
		return nil, refused
	}
	value := words[1]
	switch words[0] {
	case "next-hop":
		hop, err := netip.ParseAddr(value)
		if err != nil && !strings.EqualFold(value, "self") {
			return nil, refused
		}
		if !r.hasHop {
			r.hop, r.hasHop = hop, true
		}
	case "med":
		if fault := number(value, 32); fault != "" {
			return nil, fault
		}
		if n, _ := strconv.ParseUint(value, 10, 32); !r.hasMED {
			r.med, r.hasMED = uint32(n), true
		}
	case "path-information":
		path, ok := parsePath(value)
		if !ok {
			return nil, refused
		}
		if r.path == 0 {
			r.path = path
		}
	case "local-preference":
		if fault := number(value, 32); fault != "" {
			return nil, fault
		}
		first(&r.localPref, value)
	case "as-path":
		return list(&r.asPath, words[1:], parseAS)
	case "community":
		return list(&r.communities, words[1:], parseCommunity)
	case "large-community":
		return list(&r.large, words[1:], parseLarge)
	case "extended-community":
		return list(&r.extended, words[1:], parseExtended)
	default:
		return nil, refused
	}
	return words[2:], ""
}

// first sets what is not set yet: of an attribute that comes twice the first counts.
func first(attribute *string, value string) {
	if *attribute == "" {
		*attribute = value
	}
}

// parsePath reads a path identifier, a number or four with dots.
func parsePath(text string) (uint32, bool) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return uint32(n), true
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() {
		return 0, false
	}
	a := addr.As4()
	return binary.BigEndian.Uint32(a[:]), true
}

// number finds the fault of a number. One that is too large for its field is only noticed when it is put there, by an exception.
func number(text string, bits int) string {
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case err != nil:
		return refused
	case n>>bits != 0:
		return silent
	}
	return ""
}

// list reads "65001:1" or "[ 65001:1 65001:2 ]", each of which spell brings into form.
func list(attribute *string, words []string, spell func(string) (string, string)) ([]string, string) {
	values, rest := words[:1], words[1:]
	if words[0] == "[" {
		end := slices.Index(words, "]")
		if end < 0 {
			return nil, refused
		}
		values, rest = words[1:end], words[end+1:]
	}
	var spelled []string
	for _, v := range values {
		v, fault := spell(v)
		if fault != "" {
			return nil, fault
		}
		spelled = append(spelled, v)
	}
	first(attribute, strings.Join(spelled, " "))
	return rest, ""
}

func parseAS(text string) (string, string) { return text, number(text, 32) }

// parseCommunity reads "65001:1", or one number of 32 bits.
func parseCommunity(community string) (string, string) {
	high, low, found := strings.Cut(community, ":")
	if !found {
		n, err := strconv.ParseUint(community, 10, 32)
		if err != nil {
			return "", refused
		}
		return fmt.Sprintf("%d:%d", n>>16, n&0xffff), ""
	}
	_, err := strconv.ParseUint(high, 10, 16)
	_, err2 := strconv.ParseUint(low, 10, 16)
	if err != nil || err2 != nil {
		return "", refused
	}
	return community, ""
}

func parseLarge(text string) (string, string) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return "", refused
	}
	return text, cmp.Or(number(parts[0], 32), number(parts[1], 32), number(parts[2], 32))
}

// parseExtended reads the two forms that are written to it: "target:65001:5", the same with origin, and eight octets.
func parseExtended(text string) (string, string) {
	if octets, found := strings.CutPrefix(text, "0x"); found {
		if _, err := strconv.ParseUint(octets, 16, 64); err != nil || len(octets) != 16 {
			return "", refused
		}
		return text, ""
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] != "target" && parts[0] != "origin" {
		return "", refused
	}
	if fault := number(parts[1], 32); fault != "" {
		return "", fault
	}
	if number(parts[1], 16) != "" { // an AS number of 32 bits leaves 16
		return text, number(parts[2], 16)
	}
	return text, number(parts[2], 32)
}

// answer is the reply to a command, if it is our process's.
func (x *ExaBGP) answer(j *job, text string) {
	if !j.other {
		x.reply(text)
	}
}

// reply says "done" or "error", unless "exabgp.api.ack" is false.
func (x *ExaBGP) reply(text string) {
	if x.cfg.Acks {
		x.say(x.memo.line(text))
	}
}

// say writes a line to the process.
func (x *ExaBGP) say(l *line) {
	if x.pipes != nil && !x.pipes.put(l) && !x.blocked {
		still := x.stalled()
		x.blocked = true
		if !still {
			x.stall()
		}
	}
}

// lag is how long ExaBGP takes to come to something: at least one turn of its reactor.
func (x *ExaBGP) lag() time.Duration {
	return 200*time.Microsecond + time.Duration(x.r.Int64N(int64(x.slow)))
}
