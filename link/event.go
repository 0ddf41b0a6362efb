package link

import "net/netip"

// Changed is the state of one interface, once at the start and then whenever it changes.
type Changed struct {
	Interface string
	Removed   bool // the interface is gone, and Up is false
	Up        bool // administratively up and with carrier (IFF_UP and IFF_RUNNING of netdevice(7))
	// Prefixes are the interface's addresses with their masks. While it is down they are those that it had last: the
	// kernel takes IPv6 addresses away together with the carrier.
	Prefixes []netip.Prefix
}
