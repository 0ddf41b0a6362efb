package exabgp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Kind says what a line is.
type Kind uint8

const (
	Blank   Kind = iota // nothing but white space; part of the answer to "show neighbor extensive"
	News                // Verdict.Event: something ExaBGP tells by itself
	Done                // the end of the answer to one command: it was taken
	Refused             // the end of the answer to one command: it was not taken; Verdict.Words where it says why in the same line
	Excuse              // Verdict.Words: why the Refused that follows comes (main branch only)
	Header              // the first line of the answer to "show neighbor summary"
	Session             // Verdict.Sessions, one: one line of the answer to a query for the sessions
	Peers               // Verdict.Sessions, any number: the whole answer of API 6 to that
	Keeps               // Verdict.Up: whether a neighbor keeps an Adj-RIB-Out; one line of its configuration
	Held                // Verdict.Routes, at least one: unicast routes in the Adj-RIB-Out of a neighbor
	Text                // a line of an answer that is none of these
	Other               // well-formed and of no use here: messages of other types, routes of other families
	Bad                 // Verdict.Words: what is wrong with it
)

func (k Kind) String() string {
	return [...]string{"blank", "news", "done", "refused", "excuse", "header", "session", "peers", "keeps", "held", "text", "other", "bad"}[k]
}

// Verdict is what one line says.
type Verdict struct {
	Kind     Kind
	Event    Event       // of News: NeighborChanged, NeighborHeard or ShuttingDown
	Sessions []Listed    // of Session and Peers
	Up       bool        // of Keeps
	Routes   []HeldRoute // of Held
	Words    string      // of Refused, Excuse and Bad; of Other the type of the message, for the log
	Version  string      // of a message: the version of its form, "4.0.1", which tells ExaBGP's
}

// Listed is a neighbor in the answer to a query for the sessions.
type Listed struct {
	Peer netip.Addr
	Up   bool // established
}

// HeldRoute is a route in the Adj-RIB-Out of a neighbor.
type HeldRoute struct {
	Neighbor   netip.Addr
	Local      netip.Addr // of the session; zero where it was not told
	Prefix     netip.Prefix
	PathID     uint32 // 0 for none
	AnyPath    bool   // neither the path identifier nor the attributes were told
	Attributes string // as ExaBGP writes them, the next hop too: "next-hop self med 100 community [ 65001:1 65001:2 ]"
}

// maxLine is the length in bytes beyond which a line is skipped. The longest lines are updates; one of 4096 bytes
// (65535 with RFC 8654) that carries nothing but /8 routes stays below it.
const maxLine = 1 << 20

// envelope holds those members of ExaBGP's JSON (3.4 to main) that matter here. What differs between versions or may be
// of any type stays raw, so that it can not spoil the rest.
type envelope struct {
	Version      json.RawMessage `json:"exabgp"`
	Type         string          `json:"type"`
	Notification json.RawMessage `json:"notification"` // "shutdown"; 3.4 puts the object of a BGP NOTIFICATION here too
	Answer       string          `json:"answer"`       // the JSON form of done and error: in the code of 5.0, never seen sent
	Message      json.RawMessage `json:"message"`
	Neighbor     json.RawMessage `json:"neighbor"`
}

// neighborBody is the "neighbor" member of a state message.
type neighborBody struct {
	Address struct {
		Local string `json:"local"`
		Peer  string `json:"peer"`
	} `json:"address"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Direction string `json:"direction"` // of messages; 3.4 says "sent" and "received", and nothing of a keepalive
}

// Decode reads one line, with or without its line ending. It keeps no reference to it.
func Decode(line []byte) Verdict {
	line = bytes.TrimSpace(line)
	switch {
	case len(line) == 0:
		return Verdict{Kind: Blank}
	case line[0] == '{':
		return decodeJSON(line)
	case line[0] == '[':
		return decodePeers(line)
	}
	return decodeText(string(line))
}

func decodeJSON(line []byte) Verdict {
	var env envelope
	if err := json.Unmarshal(line, &env); err != nil {
		return Verdict{Kind: Bad, Words: "json: " + err.Error()}
	}
	v := env.verdict()
	if json.Unmarshal(env.Version, &v.Version) != nil {
		v.Version = ""
	}
	if v.Kind != Other || env.Type != "" || env.Answer != "" || v.Version != "" {
		return v
	}
	return decodeRIB(line)
}

func (env *envelope) verdict() Verdict {
	switch {
	case env.Answer != "":
		return decodeAnswer(env)
	case env.Type == "notification" && string(env.Notification) == `"shutdown"`:
		return Verdict{Kind: News, Event: ShuttingDown{}}
	case env.Type == "state":
		return decodeState(env.Neighbor)
	case env.Type == "keepalive":
		return decodeKeepalive(env.Neighbor)
	}
	return Verdict{Kind: Other, Words: clip(env.Type)}
}

func decodeAnswer(env *envelope) Verdict {
	switch env.Answer {
	case "done":
		return Verdict{Kind: Done}
	case "error":
		var words string
		if json.Unmarshal(env.Message, &words) != nil {
			words = ""
		}
		return Verdict{Kind: Refused, Words: clip(words)}
	case "shutdown":
		return Verdict{Kind: News, Event: ShuttingDown{}}
	}
	return Verdict{Kind: Other, Words: clip(env.Answer)}
}

// decodePeers reads API 6's answer to "peer list": [{"peer-address": "192.0.2.2", "peer-as": 65002, "state": "ESTABLISHED"}].
func decodePeers(line []byte) Verdict {
	var peers []struct {
		Address string `json:"peer-address"`
		State   string `json:"state"`
	}
	if json.Unmarshal(line, &peers) != nil {
		return Verdict{Kind: Text}
	}
	v := Verdict{Kind: Peers}
	for _, p := range peers {
		addr, err := netip.ParseAddr(p.Address)
		if err != nil {
			return Verdict{Kind: Text}
		}
		v.Sessions = append(v.Sessions, Listed{Peer: addr, Up: strings.EqualFold(p.State, "established")})
	}
	return v
}

// decodeRIB reads a line of API 6's answer to "rib show out", which tells no path identifiers:
// {"192.0.2.2": {"routes": [{"family": "ipv4 unicast", "prefix": "203.0.113.2/32"}]}}. What is not like it is Text.
func decodeRIB(line []byte) Verdict {
	var held map[string]struct {
		Routes []struct{ Family, Prefix string }
	}
	if json.Unmarshal(line, &held) != nil {
		return Verdict{Kind: Text}
	}
	v := Verdict{Kind: Held}
	others := false
	for _, neighbor := range slices.Sorted(maps.Keys(held)) {
		addr, err := netip.ParseAddr(neighbor)
		if err != nil {
			return Verdict{Kind: Text}
		}
		for _, r := range held[neighbor].Routes {
			prefix, err := netip.ParsePrefix(r.Prefix)
			switch family, sub, _ := strings.Cut(r.Family, " "); {
			case family == "ipv4" && sub == "unicast" && err == nil, family == "ipv6" && sub == "unicast" && err == nil:
				v.Routes = append(v.Routes, HeldRoute{Neighbor: addr, Prefix: prefix.Masked(), AnyPath: true})
			case sub == "" || sub == "unicast":
				return Verdict{Kind: Text}
			default:
				others = true
			}
		}
	}
	switch {
	case len(v.Routes) > 0:
		return v
	case others:
		return Verdict{Kind: Other, Words: "route"}
	}
	return Verdict{Kind: Text}
}

// decodeKeepalive reads a keepalive that was received; raw packets come under the same type, without a use for them here.
func decodeKeepalive(raw json.RawMessage) Verdict {
	var body neighborBody
	if err := json.Unmarshal(raw, &body); err != nil {
		return Verdict{Kind: Bad, Words: "keepalive: " + err.Error()}
	}
	id, err := body.id()
	if err != nil {
		return Verdict{Kind: Bad, Words: "keepalive: " + clip(err.Error())}
	}
	if strings.HasPrefix(body.Direction, "sen") {
		return Verdict{Kind: Other, Words: "keepalive"}
	}
	return Verdict{Kind: News, Event: NeighborHeard{Neighbor: id}}
}

// id is the identity of the neighbor. With "local-address auto", 5.0 says "None" and main "no-nexthop" until the first
// connection: not known yet.
func (b *neighborBody) id() (Neighbor, error) {
	peer, err := netip.ParseAddr(b.Address.Peer)
	local, _ := netip.ParseAddr(b.Address.Local)
	return Neighbor{Local: local, Peer: peer}, err
}

func decodeState(raw json.RawMessage) Verdict {
	var body neighborBody
	if err := json.Unmarshal(raw, &body); err != nil {
		return Verdict{Kind: Bad, Words: "state: " + err.Error()}
	}
	id, err := body.id()
	if err != nil {
		return Verdict{Kind: Bad, Words: "state: " + clip(err.Error())}
	}
	changed := NeighborChanged{Neighbor: id, Reason: clip(body.Reason)}
	switch body.State {
	case "up":
		changed.State = NeighborUp
	case "down":
		changed.State = NeighborDown
	case "connected":
		changed.State = NeighborConnected
	default:
		return Verdict{Kind: Other, Words: "state " + clip(body.State)}
	}
	return Verdict{Kind: News, Event: changed}
}

func decodeText(line string) Verdict {
	switch line {
	case "done":
		return Verdict{Kind: Done}
	case "error":
		return Verdict{Kind: Refused}
	case "shutdown": // of a process with "encoder text"
		return Verdict{Kind: News, Event: ShuttingDown{}}
	case "adj-rib-out true;": // of "show neighbor configuration": 4.2, 5.0 and main
		return Verdict{Kind: Keeps, Up: true}
	case "adj-rib-out false;":
		return Verdict{Kind: Keeps}
	}
	if words, ok := strings.CutPrefix(line, "error:"); ok {
		return Verdict{Kind: Excuse, Words: clip(strings.TrimSpace(words))}
	}
	fields := strings.Fields(line)
	if isHeader(fields) {
		return Verdict{Kind: Header}
	}
	if peer, up, ok := summaryRow(fields); ok {
		return Verdict{Kind: Session, Sessions: []Listed{{peer, up}}}
	}
	if peer, up, ok := statusRow(fields); ok {
		return Verdict{Kind: Session, Sessions: []Listed{{peer, up}}}
	}
	return heldRow(fields)
}

// isHeader knows "Peer AS up/down state | #sent #recvd", to which main adds a column.
func isHeader(fields []string) bool {
	return len(fields) >= 7 && fields[0] == "Peer" && fields[1] == "AS" && fields[2] == "up/down" && fields[3] == "state"
}

// summaryRow reads "192.0.2.2 65002 0:00:13 established 8 2". The third column is "1 day, 0:00:13" after a day, so the
// state is looked for by its name. 4.2 lists established peers only, 5.0 and main the others too.
func summaryRow(fields []string) (peer netip.Addr, up, ok bool) {
	n := len(fields)
	if n < 6 || !number(fields[n-1]) || !number(fields[n-2]) {
		return netip.Addr{}, false, false
	}
	peer, err := netip.ParseAddr(fields[0])
	if err != nil {
		return netip.Addr{}, false, false
	}
	for _, word := range fields[2:] {
		up = up || word == "established"
	}
	return peer, up, true
}

// statusRow reads 3.4's "neighbor 192.0.2.2 local-ip 192.0.2.1 ... state Established".
func statusRow(fields []string) (peer netip.Addr, up, ok bool) {
	n := len(fields)
	if n < 4 || fields[0] != "neighbor" || fields[n-2] != "state" {
		return netip.Addr{}, false, false
	}
	peer, err := netip.ParseAddr(fields[1])
	return peer, strings.EqualFold(fields[n-1], "established"), err == nil
}

// heldRow reads "neighbor 192.0.2.2 local-ip 192.0.2.1 ... family-allowed in-open ipv4 unicast 203.0.113.2/32 next-hop
// self ...": 4.2, 5.0 and main write the same. Whatever looks almost like it is Text, so that no route is overlooked.
func heldRow(fields []string) Verdict {
	at := slices.Index(fields, "family-allowed")
	if fields[0] != "neighbor" || at < 0 || len(fields) < at+5 {
		return Verdict{Kind: Text}
	}
	ip := fields[at+2] == "ipv4" || fields[at+2] == "ipv6"
	neighbor, badNeighbor := netip.ParseAddr(fields[1])
	prefix, badPrefix := netip.ParsePrefix(fields[at+4])
	rest := fields[at+5:]
	path, badPath := pathInformation(rest)
	switch {
	case ip && fields[at+3] == "unicast" && errors.Join(badNeighbor, badPrefix, badPath) == nil:
		if len(rest) > 1 && rest[0] == "path-information" {
			rest = rest[2:]
		}
		local, _ := netip.ParseAddr(fields[3])
		return Verdict{Kind: Held, Routes: []HeldRoute{{Neighbor: neighbor, Local: local, Prefix: prefix.Masked(), PathID: path, Attributes: strings.Join(rest, " ")}}}
	case ip && fields[at+3] != "unicast", fields[at+2] == "l2vpn", fields[at+2] == "bgp-ls":
		return Verdict{Kind: Other, Words: "route"}
	}
	return Verdict{Kind: Text}
}

// pathInformation reads "path-information 0.0.0.5 ..." behind a prefix; without it the identifier is 0.
func pathInformation(fields []string) (uint32, error) {
	if len(fields) == 0 || fields[0] != "path-information" {
		return 0, nil
	}
	if len(fields) < 2 {
		return 0, errors.New("path-information without a value")
	}
	addr, err := netip.ParseAddr(fields[1])
	if err != nil || !addr.Is4() {
		return 0, fmt.Errorf("path-information %q", fields[1])
	}
	four := addr.As4()
	return binary.BigEndian.Uint32(four[:]), nil
}

func number(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// clip bounds outside input that is kept for people, and makes it valid UTF-8.
func clip(s string) string {
	const limit = 300
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
