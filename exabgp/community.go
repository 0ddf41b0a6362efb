package exabgp

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what one route may carry: together they fit an UPDATE of 4096 octets (RFC 4271 section 4.1), the largest that every
// neighbor takes, with half a kibibyte to spare for the rest of it.
const (
	maxCommunities         = 200 // of 4 octets each
	maxLargeCommunities    = 64  // of 12
	maxExtendedCommunities = 64  // of 8
	maxASPath              = 255 // of 4; what one segment counts (RFC 4271 section 4.3)
)

// wellKnown are the names that a configuration may use. ExaBGP knows some of them, and not in every version the same.
var wellKnown = map[string]uint32{
	"graceful-shutdown":   0xFFFF0000, // RFC 8326
	"blackhole":           0xFFFF029A, // RFC 7999
	"no-export":           0xFFFFFF01, // RFC 1997
	"no-advertise":        0xFFFFFF02, // RFC 1997
	"no-export-subconfed": 0xFFFFFF03, // RFC 1997
	"local-as":            0xFFFFFF03, // what routers call it
	"no-peer":             0xFFFFFF04, // RFC 3765
}

const communityRemedy = `remedy: write two numbers from 0 to 65535 such as "65001:100", or one of blackhole, graceful-shutdown, ` +
	`local-as, no-advertise, no-export, no-export-subconfed and no-peer`

// ParseCommunities reads communities (RFC 1997), "65001:100" each or a well-known one's name, and gives them in the form of
// Route.Communities: numbers, sorted, each once. The error names every one that can not be read, and the remedy.
func ParseCommunities(texts []string) (string, error) {
	values, err := parseAll(texts, maxCommunities, "communities", func(text string) (uint32, error) {
		if value, known := wellKnown[strings.ToLower(text)]; known {
			return value, nil
		}
		halves, ok := numbers(text, 16, 16)
		if !ok {
			return 0, fmt.Errorf("community %q is not known; %s", text, communityRemedy)
		}
		return uint32(halves[0]<<16 | halves[1]), nil
	}, cmp.Compare[uint32])
	return joined(values, func(c uint32) string { return fmt.Sprintf("%d:%d", c>>16, c&0xFFFF) }), err
}

// ParseLargeCommunities reads large communities (RFC 8092), "65001:1:2" each, and gives them in the form of
// Route.LargeCommunities. The error names every one that can not be read, and the remedy.
func ParseLargeCommunities(texts []string) (string, error) {
	values, err := parseAll(texts, maxLargeCommunities, "large communities", func(text string) ([3]uint64, error) {
		parts, ok := numbers(text, 32, 32, 32)
		if !ok {
			return [3]uint64{}, fmt.Errorf(`large community %q is not known; remedy: write three numbers from 0 to 4294967295 such as "65001:1:2"`, text)
		}
		return [3]uint64(parts), nil
	}, func(a, b [3]uint64) int { return slices.Compare(a[:], b[:]) })
	return joined(values, func(c [3]uint64) string { return fmt.Sprintf("%d:%d:%d", c[0], c[1], c[2]) }), err
}

// ParseExtendedCommunities reads extended communities (RFC 4360) and gives them in the form of Route.ExtendedCommunities. Each is
//
//	target:AS:N, origin:AS:N    route target and route origin; N has 32 bits, and 16 where AS has more than 16 (RFC 5668)
//	target:A.B.C.D:N            the same with an address; N has 16 bits
//	bandwidth:AS:N              link bandwidth in octets per second; AS has 16 bits
//	0x0002fde900000005          any other: its eight octets
//
// The error names every one that can not be read, and the remedy.
func ParseExtendedCommunities(texts []string) (string, error) {
	values, err := parseAll(texts, maxExtendedCommunities, "extended communities", parseExtended, cmp.Compare[uint64])
	return joined(values, extendedText), err
}

// Types of extended communities, with their sub-types: the first two octets (RFC 4360, RFC 5668, draft-ietf-idr-link-bandwidth).
const (
	targetAS     = 0x0002
	targetIP     = 0x0102
	targetAS4    = 0x0202
	originAS     = 0x0003
	originIP     = 0x0103
	originAS4    = 0x0203
	bandwidth    = 0x4004
	extendedHint = `remedy: write "target:65001:5", "origin:65001:5", "target:192.0.2.1:5", "bandwidth:65001:125000000" or "0x" and 16 hexadecimal digits`
)

func parseExtended(text string) (uint64, error) {
	fault := fmt.Errorf("extended community %q is not known; %s", text, extendedHint)
	lower := strings.ToLower(text)
	if digits, raw := strings.CutPrefix(lower, "0x"); raw {
		value, err := strconv.ParseUint(digits, 16, 64)
		if err != nil || len(digits) != 16 {
			return 0, fault
		}
		return value, nil
	}
	kind, rest, _ := strings.Cut(lower, ":")
	base := map[string]uint64{"target": targetAS, "origin": originAS, "bandwidth": bandwidth}[kind]
	admin, local, _ := strings.Cut(rest, ":")
	switch addr, err := netip.ParseAddr(admin); {
	case base == 0:
	case kind == "bandwidth":
		if as, ok := numbers(admin, 16); ok {
			if rate, ok := numbers(local, 64); ok {
				return base<<48 | as[0]<<32 | uint64(math.Float32bits(float32(rate[0]))), nil
			}
		}
	case err == nil && addr.Is4():
		if n, ok := numbers(local, 16); ok {
			a := addr.As4()
			return (base|0x0100)<<48 | uint64(binary.BigEndian.Uint32(a[:]))<<16 | n[0], nil
		}
	default:
		if parts, ok := numbers(rest, 16, 32); ok {
			return base<<48 | parts[0]<<32 | parts[1], nil
		}
		if parts, ok := numbers(rest, 32, 16); ok {
			return (base|0x0200)<<48 | parts[0]<<16 | parts[1], nil
		}
	}
	return 0, fault
}

// extendedText is an extended community for people, in a form that ParseExtendedCommunities reads.
func extendedText(c uint64) string {
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], uint32(c>>16))
	kind := map[uint64]string{targetAS: "target", targetIP: "target", targetAS4: "target",
		originAS: "origin", originIP: "origin", originAS4: "origin"}[c>>48]
	switch form := c >> 48; {
	case form == bandwidth:
		rate := float64(math.Float32frombits(uint32(c)))
		if rate == math.Trunc(rate) && rate >= 0 && rate < 1<<63 {
			return fmt.Sprintf("bandwidth:%d:%d", c>>32&0xFFFF, uint64(rate))
		}
	case form == targetAS, form == originAS:
		return fmt.Sprintf("%s:%d:%d", kind, c>>32&0xFFFF, c&0xFFFFFFFF)
	case form == targetIP, form == originIP:
		return fmt.Sprintf("%s:%s:%d", kind, netip.AddrFrom4(addr), c&0xFFFF)
	case (form == targetAS4 || form == originAS4) && c>>16&0xFFFFFFFF > 0xFFFF: // a smaller one would be read as one of 16 bits
		return fmt.Sprintf("%s:%d:%d", kind, c>>16&0xFFFFFFFF, c&0xFFFF)
	}
	return extendedHex(c)
}

func extendedHex(c uint64) string { return fmt.Sprintf("0x%016x", c) }

// extendedWire is an extended community as it is written to ExaBGP. By name every version reads only those with an AS number of
// 16 bits right: 4.2 sends an address as an AS number, and 5.0 an AS number of 32 bits as an address.
func extendedWire(text string) string {
	if c, err := parseExtended(text); err == nil && c>>48 != targetAS && c>>48 != originAS {
		return extendedHex(c)
	}
	return text
}

// ASPath gives an AS_PATH in the form of Route.ASPath. It does not look at what is in it: see CheckASPath.
func ASPath(asns []uint32) string {
	return joined(asns, func(as uint32) string { return strconv.FormatUint(uint64(as), 10) })
}

// CheckASPath says what is wrong with an AS_PATH that is to be announced, and the remedy.
func CheckASPath(asns []uint32) error {
	switch {
	case len(asns) > maxASPath:
		return fmt.Errorf("%d AS numbers are too many; remedy: write %d at most", len(asns), maxASPath)
	case slices.Contains(asns, 0): // RFC 7607
		return errors.New("AS 0 belongs to nobody, and neighbors refuse it; remedy: write AS numbers from 1 to 4294967295")
	case slices.Contains(asns, 23456): // RFC 6793
		return errors.New("AS 23456 stands for numbers that an old neighbor can not read; remedy: write the AS number itself")
	}
	return nil
}

// parseAll reads each of texts, and sorts and tidies what comes of it.
func parseAll[T comparable](texts []string, most int, what string, parse func(string) (T, error), compare func(a, b T) int) ([]T, error) {
	var values []T
	var faults []error
	for _, text := range texts {
		value, err := parse(strings.TrimSpace(text))
		if err != nil {
			faults = append(faults, err)
			continue
		}
		values = append(values, value)
	}
	slices.SortFunc(values, compare)
	values = slices.Compact(values)
	if len(values) > most {
		faults = append(faults, fmt.Errorf("%d %s are too many; remedy: write %d at most, so that the route fits one message", len(values), what, most))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return values, nil
}

func joined[T any](values []T, text func(T) string) string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, text(value))
	}
	return strings.Join(texts, " ")
}

// numbers reads numbers of so many bits with colons in between, without signs or leading zeros.
func numbers(text string, bits ...int) ([]uint64, bool) {
	parts := strings.Split(text, ":")
	if len(parts) != len(bits) {
		return nil, false
	}
	values := make([]uint64, len(bits))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits[i])
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, false
		}
		values[i] = n
	}
	return values, true
}
