// Package link tells when a network interface of this host loses or regains its carrier.
//
// ExaBGP learns of a dead link only when the hold timer runs out (at least 3 s, RFC 4271 section 4.2; 180 s by default),
// while the kernel knows within a millisecond. A node that knows it gives its claims up at once, and the others take
// its VIPs over.
//
// A Watcher reads the state of all interfaces whenever the kernel says that something about links or addresses changed
// (rtnetlink(7)), and once a second besides: the messages are hints, what is read is the truth. Run is called once, on a
// goroutine of its own; every Changed goes to emit, in order, from that goroutine.
//
// What it deliberately does not do: decide what a dead link means for a neighbor, or look beyond this host's end.
package link
