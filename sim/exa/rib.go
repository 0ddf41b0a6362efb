package exa

import (
	"net/netip"
	"slices"
)

// nlri is what says which route it is: two path identifiers of one prefix are two.
type nlri struct {
	prefix netip.Prefix
	path   uint32 // 0 for none
}

// route is one change of one route, as a command asks for it.
type route struct {
	nlri
	withdraw bool
	attributes
}

// attributes are what ExaBGP sorts changes by (Attributes.index): routes with the same ones leave together.
type attributes struct {
	hop         netip.Addr // zero: self
	hasHop      bool       // a withdraw has none
	med         uint32
	hasMED      bool
	localPref   string // as it was written; no more than text, like the rest
	asPath      string
	communities string
	large       string
	extended    string
}

// table is the Adj-RIB-Out of a neighbor: what was announced and not withdrawn, in the order of the first announce (Cache._seen; "adj-rib-out true", the default).
type table []route

func indexOf(routes []route, n nlri) int {
	for i := range routes {
		if routes[i].nlri == n {
			return i
		}
	}
	return -1
}

// put takes a change up. An announce of what is there already changes nothing: then it is false, and the change goes nowhere.
// A withdraw always goes on, needed or not.
func (t *table) put(r route) bool {
	i := indexOf(*t, r.nlri)
	switch {
	case r.withdraw && i >= 0:
		*t = slices.Delete(*t, i, i+1)
	case r.withdraw:
	case i < 0:
		*t = append(*t, r)
	case (*t)[i].attributes == r.attributes:
		return false
	default:
		(*t)[i] = r
	}
	return true
}

// outgoing are the changes that one neighbor was not yet sent, in buckets of equal attributes. A bucket keeps its place from
// its first change on, even if it was emptied: so A, W, A leave as A, W (OutgoingRIB.add_to_rib, 4.2 and 5.0).
type outgoing struct {
	buckets []bucket
	newest  []route // the last change of each route (_new_nlri)
}

type bucket struct {
	attributes
	routes []route // each once
}

func (o *outgoing) put(r route) {
	last := indexOf(o.newest, r.nlri)
	switch {
	case last < 0:
		o.newest = append(o.newest, r)
	case r.withdraw: // takes back what was not sent yet; only the newest, older ones in other buckets stay
		b := o.bucket(o.newest[last].attributes)
		if at := indexOf(b.routes, r.nlri); at >= 0 {
			b.routes = slices.Delete(b.routes, at, at+1)
		}
		fallthrough
	default:
		o.newest[last] = r
	}
	b := o.bucket(r.attributes)
	if at := indexOf(b.routes, r.nlri); at >= 0 {
		b.routes[at] = r
	} else {
		b.routes = append(b.routes, r)
	}
}

// bucket returns the one of these attributes, a new and last one if there is none.
func (o *outgoing) bucket(a attributes) *bucket {
	for i := range o.buckets {
		if o.buckets[i].attributes == a {
			return &o.buckets[i]
		}
	}
	o.buckets = append(o.buckets, bucket{attributes: a})
	return &o.buckets[len(o.buckets)-1]
}

func (o *outgoing) pending() bool { return len(o.newest) > 0 }

// take returns the messages that are due and starts afresh. IPv4 routes with equal attributes share one (group-updates),
// sorted; of IPv6 each has its own. The withdraws of the first batch of a session are left out: include_withdraw.
func (o *outgoing) take(withdraws bool) [][]route {
	var messages [][]route
	for _, b := range o.buckets {
		var grouped []route
		for _, r := range b.routes {
			switch {
			case r.withdraw && !withdraws:
			case r.prefix.Addr().Is4():
				grouped = append(grouped, r)
			default:
				messages = append(messages, []route{r})
			}
		}
		if len(grouped) > 0 {
			slices.SortStableFunc(grouped, func(a, b route) int { return a.prefix.Compare(b.prefix) })
			messages = append(messages, grouped)
		}
	}
	o.clear()
	return messages
}

func (o *outgoing) clear() { o.buckets, o.newest = nil, nil }
