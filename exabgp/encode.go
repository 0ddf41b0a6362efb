package exabgp

import (
	"fmt"
	"strconv"
	"strings"
)

// dialect is a command language of ExaBGP. So far there is one; the "peer * announce ..." of API 6 would be another.
type dialect uint8

// api4 is the language of 3.4, 4.2, 5.0 and of the main branch under exabgp_api_version=4. Its commands without a
// selector reach all neighbors whose "api" block names this process (3.4: all neighbors).
const api4 dialect = 0

// Queries for the sessions.
const (
	querySummary = "show neighbor summary" // 4.2, 5.0, main with API 4
	queryStatus  = "show neighbor status"  // 3.4
)

// Queries for what ExaBGP announces, understood by 4.2, 5.0 and main with API 4.
const (
	queryConfiguration = "show neighbor configuration"
	queryRoutes        = "show adj-rib out extensive"
)

// Command is the text of the route without the newline, ASCII only: ExaBGP 4.2 and 5.0 kill a process that writes any
// other byte. It panics on a prefix that is invalid or has host bits set, which ExaBGP 3.4 would take for another one,
// and on communities that are not in their form.
func (r Route) Command() string { return api4.route(r) }

func (dialect) route(r Route) string {
	if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
		panic(fmt.Sprintf("bug: route with prefix %q", r.Prefix))
	}
	if r.Withdraw {
		// Neither next-hop nor attributes: 3.4 does not parse "withdraw route P med M" and leaves the route announced.
		return "withdraw route " + r.Prefix.String()
	}
	hop := "self"
	if r.NextHop.IsValid() {
		hop = r.NextHop.WithZone("").String() // a zone is any text
	}
	command := "announce route " + r.Prefix.String() + " next-hop " + hop + " med " + strconv.FormatUint(uint64(r.MED), 10)
	if r.Communities == "" {
		return command
	}
	for community := range strings.SplitSeq(r.Communities, " ") {
		if !isCommunity(community) {
			panic(fmt.Sprintf("bug: route %s with communities %q", r.Prefix, r.Communities))
		}
	}
	return command + " community [ " + r.Communities + " ]"
}

// isCommunity knows "65535:0": two numbers of 16 bits (RFC 1997), without a sign or leading zeros.
func isCommunity(s string) bool {
	high, low, found := strings.Cut(s, ":")
	for _, half := range []string{high, low} {
		n, err := strconv.ParseUint(half, 10, 16)
		if err != nil || strconv.FormatUint(n, 10) != half {
			return false
		}
	}
	return found
}
