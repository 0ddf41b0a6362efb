// Package loopback keeps the VIPs of services on a device of the host, so that nobody has to do it by hand, and keeps from being
// announced what is not there: an announced VIP that the host does not have is a black hole.
//
// # What is where, and when
//
// All VIPs of a service, its own and those that it backs up, are added at the start, before anything is announced, and stay for as long as
// they are configured: an address on a loopback attracts no traffic by itself. One that somebody removes is added again, within 5 s. Where
// manage is turned off they stay, for what is configured may be announced any time. A VIP that leaves the configuration is removed when
// ExaBGP has acknowledged its last withdraw and the grace is over, in which packets come that are on their way. A process that ends
// removes those that are withdrawn; what is not stays, for ExaBGP or a router (graceful restart) may go on announcing it, and the next
// process finds it.
//
// # Whose it is
//
// An address that somebody else added counts as there, and is never touched. Ours have the label "lo:exazk", which "ip addr" shows,
// and the address protocol 0xea (IFA_PROTO, Linux 5.18). IPv6 has no labels, so with an older kernel no IPv6 address is added: it could not be
// told from others later.
//
// # Between the loop and ExaBGP
//
// A Keeper stands in front of exabgp.Process and hands every table on. Of a VIP that is not known yet to be there it leaves the
// announcement out, which leaves the route as it is; of one that is not there it makes a withdraw, and tells the loop that the
// announcement was refused: what was acknowledged while the address was there would else go on holding the claim, and nobody would announce
// the VIP. Neither waits for the kernel: that is asked by Run's goroutine, for a change of addresses waits for all other changes of the
// network.
//
// # ARP and NDP
//
// Nothing needs to be set where routers reach the VIPs by BGP. A Linux host answers ARP for any of its addresses on any link (arp_ignore
// 0), so a VIP that lies in the subnet of a link would be answered for there by each node that has it: then set arp_ignore = 1 and
// arp_announce = 2 on that link, or better take VIPs from a net of their own.
package loopback

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"exazk/exabgp"
)

const (
	lookSlow = 5 * time.Second // between two looks at the addresses
	lookFast = time.Second     // while one is missing, or about to go
	// closeMost bounds the grace at the end of the process: ExaBGP 5 kills it 2 s after SIGTERM, and a drain may have taken 1.5 s.
	closeMost = 300 * time.Millisecond
	// blindMost is after how many lists in a row that could not be read the log says so: one is cut short now and then.
	blindMost = 3
)

// VIP is one that is configured.
type VIP struct {
	Addr   netip.Addr
	Device string        // empty: others keep it, and it is never touched, not even where a process before this one has added it
	Grace  time.Duration // from its last withdraw to its removal
}

// Validate finds what the kernel would not take.
func Validate(device string) error {
	if device == "" || len(device) > labelMost || strings.ContainsAny(device, "/: \t\n") {
		return fmt.Errorf("%q is no device, or its name is too long for the label of our addresses; remedy: write \"lo\", or a name of %d letters at most", device, labelMost)
	}
	return nil
}

// Speaker takes tables, as exabgp.Process does.
type Speaker interface{ Set(exabgp.Table) }

// Keeper keeps VIPs. See the package comment.
type Keeper struct {
	next Speaker
	log  *logrus.Entry
	kick chan struct{} // holds a token when Run should look
	list func() (map[netip.Addr][]address, error)
	miss int // lists in a row that could not be read; of Run's goroutine

	mu      sync.Mutex
	wanted  map[netip.Addr]VIP
	leaving map[netip.Addr]VIP            // not configured any more
	state   map[netip.Addr]bool           // of what is wanted: it is there; no entry while that is not known
	held    map[netip.Addr][]exabgp.Route // keys of the routes that ExaBGP may hold
	gone    map[netip.Addr]time.Time      // when the last of them was withdrawn
	table   *exabgp.Table                 // the newest
	failed  map[netip.Addr]string         // what was logged
}

// New returns a Keeper in front of next. before are routes that a process before this one may have announced: addresses of its are
// removed where they are not configured any more, if any are to be kept.
func New(next Speaker, vips []VIP, before []exabgp.Route, log *logrus.Entry) *Keeper {
	k := &Keeper{
		next: next, log: log, kick: make(chan struct{}, 1), list: addresses, wanted: map[netip.Addr]VIP{}, leaving: map[netip.Addr]VIP{}, state: map[netip.Addr]bool{},
		held: map[netip.Addr][]exabgp.Route{}, gone: map[netip.Addr]time.Time{}, failed: map[netip.Addr]string{},
	}
	kept := slices.IndexFunc(vips, VIP.kept)
	for _, r := range before {
		if addr := r.Prefix.Addr(); r.Prefix.IsSingleIP() {
			k.held[addr] = append(k.held[addr], key(r))
			if kept >= 0 {
				k.leaving[addr] = VIP{Addr: addr, Device: vips[kept].Device, Grace: vips[kept].Grace}
			}
		}
	}
	k.Configure(vips)
	return k
}

func key(r exabgp.Route) exabgp.Route {
	return exabgp.Route{Prefix: r.Prefix, PathID: r.PathID, Neighbor: r.Neighbor}
}

func (v VIP) kept() bool { return v.Device != "" }

// Configure replaces what is configured. A table comes after it, even where nothing else has changed.
func (k *Keeper) Configure(vips []VIP) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for addr, v := range k.wanted {
		k.leaving[addr] = v
		delete(k.wanted, addr)
	}
	for _, v := range vips {
		if v.kept() {
			k.wanted[v.Addr] = v
		}
		delete(k.leaving, v.Addr)
	}
	for addr := range k.state {
		if _, still := k.wanted[addr]; !still {
			delete(k.state, addr)
		}
	}
	k.wake()
}

func (k *Keeper) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// Set hands a table on, without announcements of what is not there. It never waits.
func (k *Keeper) Set(t exabgp.Table) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.table = &t
	k.pass()
}

// pass gives ExaBGP the newest table. The lock is held.
func (k *Keeper) pass() {
	if k.table == nil {
		return
	}
	t := *k.table
	t.Routes = make([]exabgp.Route, 0, len(k.table.Routes))
	for _, r := range k.table.Routes {
		addr := r.Prefix.Addr()
		_, managed := k.wanted[addr]
		switch there, known := k.state[addr]; {
		case r.Withdraw:
			t.Routes = append(t.Routes, r)
		case !managed, there, !r.Prefix.IsSingleIP():
			delete(k.gone, addr) // from now on it may be announced, acknowledged or not
			t.Routes = append(t.Routes, r)
		case known:
			w := key(r)
			w.Withdraw, w.Serial = true, r.Serial
			t.Routes = append(t.Routes, w)
		}
	}
	k.next.Set(t)
}

// Watch returns emit with what ExaBGP has acknowledged noted. The acknowledgement of a withdraw in place of an announcement is
// passed on as its refusal.
func (k *Keeper) Watch(emit func(exabgp.Event) bool) func(exabgp.Event) bool {
	return func(ev exabgp.Event) bool {
		if a, ok := ev.(exabgp.RouteAccepted); ok {
			ev = k.accepted(a)
		}
		return emit(ev)
	}
}

func (k *Keeper) accepted(a exabgp.RouteAccepted) exabgp.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note(a.Route)
	if _, managed := k.wanted[a.Route.Prefix.Addr()]; !managed || !a.Route.Withdraw || k.table == nil {
		return a
	}
	i := slices.IndexFunc(k.table.Routes, func(r exabgp.Route) bool {
		return !r.Withdraw && r.Serial == a.Route.Serial && key(r) == key(a.Route)
	})
	if i < 0 {
		return a
	}
	return exabgp.RouteRefused{Route: k.table.Routes[i], Epoch: a.Epoch, Words: "the vip is not on its device", Retry: lookFast}
}

// note takes down what ExaBGP has acknowledged. The lock is held.
func (k *Keeper) note(r exabgp.Route) {
	addr := r.Prefix.Addr()
	k.held[addr] = slices.DeleteFunc(k.held[addr], func(h exabgp.Route) bool {
		return h == key(r) || r.Withdraw && !r.Neighbor.IsValid() && h.PathID == r.PathID
	})
	switch {
	case !r.Withdraw:
		k.held[addr] = append(k.held[addr], key(r))
		delete(k.gone, addr)
	case len(k.held[addr]) == 0:
		k.gone[addr] = time.Now()
		k.wake()
	}
}

// Run keeps the addresses until ctx is done.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		pause := lookSlow
		if k.look(time.Now()) {
			pause = lookFast
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-k.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// look adds what is missing and removes what is to go. It returns whether there is more to do soon.
func (k *Keeper) look(now time.Time) (soon bool) {
	k.mu.Lock()
	var missing, over []VIP // what may be missing, and what is to go
	for _, v := range k.wanted {
		missing = append(missing, v)
	}
	for addr, v := range k.leaving {
		if since := k.gone[addr]; !since.IsZero() && now.Sub(since) >= v.Grace {
			over = append(over, v)
		}
		soon = true
	}
	k.mu.Unlock()

	if len(missing)+len(over) == 0 {
		return soon
	}
	there, err := k.list()
	if err != nil { // says nothing about any address: a dump is cut short where others change them meanwhile
		if k.miss++; k.miss == blindMost {
			k.log.WithFields(logrus.Fields{"event": "loopback", "reason": err.Error(), "remedy": "let ExaBGP's unit use AF_NETLINK (RestrictAddressFamilies=), or leave manage out"}).
				Error("addresses of the host cannot be read: vips that were not seen on it are not announced")
		}
		return true
	}
	k.miss = 0
	state := map[netip.Addr]error{}
	for _, v := range missing {
		state[v.Addr] = ensure(there, v)
	}
	for _, v := range over {
		state[v.Addr] = drop(there, v)
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	changed := false
	for _, v := range missing {
		if _, still := k.wanted[v.Addr]; !still {
			continue
		}
		before, known := k.state[v.Addr]
		k.state[v.Addr] = state[v.Addr] == nil
		changed = changed || !known || before != k.state[v.Addr]
		soon = soon || state[v.Addr] != nil
		k.tell(v, state[v.Addr], "vip cannot be put on its device, and is not announced")
	}
	for _, v := range over {
		if state[v.Addr] == nil {
			delete(k.leaving, v.Addr)
			delete(k.held, v.Addr)
		}
		k.tell(v, state[v.Addr], "vip left the configuration, and cannot be removed from its device")
	}
	if changed {
		k.pass()
	}
	return soon
}

// tell logs what is new about an address. The lock is held.
func (k *Keeper) tell(v VIP, err error, message string) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if k.failed[v.Addr] == text {
		return
	}
	k.failed[v.Addr] = text
	log := k.log.WithFields(logrus.Fields{"event": "loopback", "vip": v.Addr.String(), "device": v.Device})
	if err == nil {
		log.Info("vip is as it should be again")
		return
	}
	switch log = log.WithField("reason", text); {
	case errors.Is(err, unix.EPERM):
		log.WithField("remedy", "give ExaBGP's unit AmbientCapabilities=CAP_NET_ADMIN, or add the address by hand and leave manage out").Error(message)
	case errors.Is(err, unix.EACCES) && v.Addr.Is6():
		log.WithField("remedy", "set net.ipv6.conf."+v.Device+".disable_ipv6 to 0").Error(message)
	default:
		log.Error(message)
	}
}

// errOldKernel is why an IPv6 address is not added.
var errOldKernel = errors.New("this kernel cannot mark IPv6 addresses as ours (IFA_PROTO, Linux 5.18); remedy: add them by hand")

// ensure adds an address unless it is there.
func ensure(there map[netip.Addr][]address, v VIP) error {
	if len(there[v.Addr]) > 0 {
		return nil
	}
	if err := add(v.Device, v.Addr); err != nil || v.Addr.Is4() {
		return err
	}
	now, err := addresses()
	if err != nil {
		return nil // it is there; whose it is shows in the next list
	}
	if slices.ContainsFunc(now[v.Addr], func(a address) bool { return a.ours }) {
		return nil
	}
	for _, a := range now[v.Addr] {
		err = errors.Join(err, remove(a.index, v.Addr))
	}
	return errors.Join(errOldKernel, err)
}

// drop removes an address where it is ours.
func drop(there map[netip.Addr][]address, v VIP) error {
	var err error
	for _, a := range there[v.Addr] {
		if a.ours {
			err = errors.Join(err, remove(a.index, v.Addr))
		}
	}
	return err
}

// Close removes what is withdrawn, after its grace, for as long as the end of the process can wait. Run has returned.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	var over []VIP
	wait := time.Duration(0)
	for _, vips := range []map[netip.Addr]VIP{k.wanted, k.leaving} {
		for addr, v := range vips {
			if since := k.gone[addr]; !since.IsZero() {
				over = append(over, v)
				wait = max(wait, min(v.Grace, closeMost)-time.Since(since))
			}
		}
	}
	if len(over) == 0 {
		return
	}
	time.Sleep(wait)
	there, err := k.list()
	for _, v := range over { // none where the list could not be read
		err = errors.Join(err, drop(there, v))
	}
	if err != nil {
		k.log.WithFields(logrus.Fields{"event": "loopback", "reason": err.Error()}).Warn("vips stay on their device")
	}
}
