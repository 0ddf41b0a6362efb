package loopback

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The library knows no IFA_PROTO, so its lower half is used, which packs and unpacks any attribute.
const (
	ifaProto = 11   // IFA_PROTO (linux/if_addr.h), since Linux 5.18; before, the kernel takes no notice of it
	ours     = 0xea // the value by which addresses are ours; the kernel's own are 1 to 3
)

// label is what IPv4 addresses are known by as ours, in "ip addr" too. The kernel takes 15 bytes, the device's name first.
func label(device string) string { return device + ":exazk" }

// labelMost is the longest name of a device with which that fits.
const labelMost = unix.IFNAMSIZ - 1 - len(":exazk")

// address is one of the host.
type address struct {
	index int // of its device
	ours  bool
}

// addresses lists those of the host, on all devices.
func addresses() (map[netip.Addr][]address, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	found := map[netip.Addr][]address{}
	for _, m := range messages {
		msg := nl.DeserializeIfAddrmsg(m)
		attrs, err := nl.ParseRouteAttr(m[msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		var addr, local netip.Addr
		a := address{index: int(msg.Index)}
		for _, attr := range attrs {
			switch attr.Attr.Type {
			case unix.IFA_ADDRESS:
				addr, _ = netip.AddrFromSlice(attr.Value)
			case unix.IFA_LOCAL: // of a point-to-point link, IFA_ADDRESS is the other end
				local, _ = netip.AddrFromSlice(attr.Value)
			case ifaProto:
				a.ours = len(attr.Value) == 1 && attr.Value[0] == ours
			}
		}
		for _, attr := range attrs {
			if attr.Attr.Type == unix.IFA_LABEL && msg.Family == unix.AF_INET {
				a.ours = a.ours || isLabel(nl.BytesToString(attr.Value))
			}
		}
		if local.IsValid() {
			addr = local
		}
		found[addr] = append(found[addr], a)
	}
	return found, nil
}

func isLabel(text string) bool {
	const suffix = ":exazk"
	return len(text) > len(suffix) && text[len(text)-len(suffix):] == suffix
}

// add puts an address on a device, as ours. It is no error if it is there already.
func add(device string, addr netip.Addr) error {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("device %q: %w", device, err)
	}
	req := request(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, dev.Index, addr)
	req.AddData(nl.NewRtAttr(ifaProto, []byte{ours}))
	if addr.Is4() {
		req.AddData(nl.NewRtAttr(unix.IFA_LABEL, nl.ZeroTerminated(label(device))))
	} else {
		req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD))) // anycast: others have it as well
	}
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %s to %s: %w", addr, device, err)
	}
	return nil
}

// remove takes an address from a device. It is no error if it is not there any more.
func remove(index int, addr netip.Addr) error {
	_, err := request(unix.RTM_DELADDR, unix.NLM_F_ACK, index, addr).Execute(unix.NETLINK_ROUTE, 0)
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove %s: %w", addr, err)
	}
	return nil
}

func request(kind, flags, index int, addr netip.Addr) *nl.NetlinkRequest {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(kind, flags)
	msg := nl.NewIfAddrmsg(family)
	msg.Prefixlen, msg.Index, msg.Scope = uint8(addr.BitLen()), uint32(index), unix.RT_SCOPE_UNIVERSE
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, addr.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, addr.AsSlice()))
	return req
}
