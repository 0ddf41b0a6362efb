package loopback

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"exazk/exabgp"
)

// inNamespace runs a test on a thread that has a network of its own, and ends with it.
func inNamespace(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked, so that the thread ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		test(t)
	}()
	<-done
}

// recorder is what stands behind a Keeper.
type recorder struct{ last exabgp.Table }

func (r *recorder) Set(t exabgp.Table) { r.last = t }

var (
	vip1 = netip.MustParseAddr("10.20.255.1")
	vip2 = netip.MustParseAddr("10.20.255.2")
	vip6 = netip.MustParseAddr("2001:db8:f::1")
)

func onLo(addrs ...netip.Addr) []VIP {
	var vips []VIP
	for _, a := range addrs {
		vips = append(vips, VIP{Addr: a, Device: "lo", Grace: 2 * time.Second})
	}
	return vips
}

func announce(a netip.Addr) exabgp.Route {
	return exabgp.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), MED: 100, Serial: 3}
}

func withdraw(a netip.Addr) exabgp.Route {
	return exabgp.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Withdraw: true, Serial: 3}
}

func newKeeper(wanted []VIP, before ...exabgp.Route) (*Keeper, *recorder, *bytes.Buffer) {
	log, out := logrus.New(), &bytes.Buffer{}
	log.SetOutput(out)
	r := &recorder{}
	return New(r, wanted, before, logrus.NewEntry(log)), r, out
}

func (k *Keeper) hear(routes ...exabgp.Route) {
	emit := k.Watch(func(exabgp.Event) bool { return true })
	for _, r := range routes {
		emit(exabgp.RouteAccepted{Route: r})
	}
}

// lo is what "ip addr" shows of the VIPs on lo.
func lo(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ip", "-o", "addr", "show", "dev", "lo").CombinedOutput()
	if err != nil {
		t.Errorf("ip addr: %v\n%s", err, out)
	}
	return string(out)
}

func has(t *testing.T, want bool, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		if got := strings.Contains(lo(t), " "+a.String()+"/"); got != want {
			t.Errorf("%s on lo: %t, want %t in\n%s", a, got, want, lo(t))
		}
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %q: %v\n%s", args, err, out)
	}
}

// TestAddedBeforeAnnounced: what is not known to be there is left as it is, and announced once it is there.
func TestAddedBeforeAnnounced(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		k, r, _ := newKeeper(onLo(vip1, vip6))
		other := announce(vip2) // of a service whose addresses others keep
		since := time.Now()
		k.Set(exabgp.Table{Epoch: 7, Since: since, Routes: []exabgp.Route{announce(vip1), announce(vip6), other}})
		if !slices.Equal(r.last.Routes, []exabgp.Route{other}) || r.last.Epoch != 7 || r.last.Since != since {
			t.Errorf("before the first look: %+v", r.last)
		}
		k.look(time.Now())
		if !slices.Equal(r.last.Routes, []exabgp.Route{announce(vip1), announce(vip6), other}) {
			t.Errorf("after it: %+v", r.last)
		}
		has(t, true, vip1, vip6)
		if text := lo(t); !strings.Contains(text, "lo:exazk") { // Debian 12's ip does not show the protocol
			t.Errorf("not labelled:\n%s", text)
		}
		ip(t, "addr", "del", vip1.String()+"/32", "dev", "lo")
		k.look(time.Now())
		has(t, true, vip1)
	})
}

// TestRemoved: a VIP that left the configuration goes after its last withdraw and the grace; before, and without, it stays.
func TestRemoved(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		k, _, _ := newKeeper(onLo(vip1, vip2, vip6))
		k.look(time.Now())
		one, two := announce(vip1), announce(vip1)
		one.Neighbor, two.Neighbor = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
		k.hear(one, two, announce(vip6), announce(vip2))
		k.Configure(onLo(vip2))
		gone := one
		gone.Withdraw = true
		k.hear(gone)
		k.look(time.Now().Add(time.Hour))
		has(t, true, vip1, vip2, vip6) // another neighbor still has it
		gone.Neighbor = two.Neighbor
		k.hear(gone, withdraw(vip6))
		k.look(time.Now().Add(time.Second))
		has(t, true, vip1, vip2, vip6)
		k.look(time.Now().Add(3 * time.Second))
		has(t, false, vip1, vip6)
		has(t, true, vip2)
	})
}

// TestNotManagedAnyMore: a VIP that others are to keep from now on stays, in this life and the next, drained or not, and is announced
// as they like.
func TestNotManagedAnyMore(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		k, _, _ := newKeeper(onLo(vip1, vip2))
		k.look(time.Now())
		both := []VIP{{Addr: vip1}, onLo(vip2)[0]}
		k.Configure(both)
		k.hear(withdraw(vip1))
		k.look(time.Now().Add(time.Hour))
		has(t, true, vip1)

		k, r, _ := newKeeper(both, key(announce(vip1)), key(announce(vip2)))
		k.hear(withdraw(vip1))
		k.look(time.Now().Add(time.Hour))
		k.Close()
		has(t, true, vip1)
		if k.Set(exabgp.Table{Routes: []exabgp.Route{announce(vip1)}}); !slices.Equal(r.last.Routes, []exabgp.Route{announce(vip1)}) {
			t.Errorf("%+v", r.last)
		}
	})
}

// TestAnnouncedAgain: a VIP that is announced anew, and leaves the configuration before that was acknowledged, waits for its last
// withdraw.
func TestAnnouncedAgain(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		k, _, _ := newKeeper(onLo(vip1))
		k.look(time.Now())
		k.hear(withdraw(vip1))
		k.Set(exabgp.Table{Routes: []exabgp.Route{announce(vip1)}})
		k.Configure(nil)
		k.look(time.Now().Add(time.Hour))
		has(t, true, vip1)
		k.hear(withdraw(vip1))
		k.look(time.Now().Add(time.Hour))
		has(t, false, vip1)
	})
}

// TestNotOurs: an address that somebody else added counts as there, and stays.
func TestNotOurs(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		ip(t, "addr", "add", vip1.String()+"/32", "dev", "lo")
		ip(t, "addr", "add", vip6.String()+"/128", "dev", "lo")
		k, r, _ := newKeeper(onLo(vip1, vip6))
		k.Set(exabgp.Table{Routes: []exabgp.Route{announce(vip1)}})
		k.look(time.Now())
		if !slices.Equal(r.last.Routes, []exabgp.Route{announce(vip1)}) {
			t.Errorf("not announced: %+v", r.last)
		}
		k.hear(withdraw(vip1), withdraw(vip6))
		k.Configure(nil)
		k.look(time.Now().Add(time.Hour))
		has(t, true, vip1, vip6)
	})
}

// TestLives: a process that ends removes what is withdrawn and leaves what is not; the next one finds it, and removes what it is not
// configured with any more.
func TestLives(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		k, _, _ := newKeeper(onLo(vip1, vip2, vip6))
		k.look(time.Now())
		k.hear(announce(vip1), withdraw(vip2), announce(vip6))
		k.Close()
		has(t, true, vip1, vip6)
		has(t, false, vip2)

		k, _, _ = newKeeper(onLo(vip1), key(announce(vip1)), key(announce(vip6)))
		k.look(time.Now().Add(time.Hour))
		has(t, true, vip1, vip6)
		k.hear(withdraw(vip6))
		k.look(time.Now().Add(time.Hour))
		has(t, true, vip1)
		has(t, false, vip6)
	})
}

// TestWithoutCapability: what cannot be added is withdrawn, once in the log with the remedy, until it is there.
func TestWithoutCapability(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var full, less [2]unix.CapUserData
		if err := unix.Capget(&header, &full[0]); err != nil {
			t.Error(err)
			return
		}
		less = full
		less[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&header, &less[0]); err != nil { // of this thread
			t.Error(err)
			return
		}
		k, r, log := newKeeper(onLo(vip1))
		k.Set(exabgp.Table{Routes: []exabgp.Route{announce(vip1)}})
		k.look(time.Now())
		k.look(time.Now())
		if !slices.Equal(r.last.Routes, []exabgp.Route{withdraw(vip1)}) {
			t.Errorf("without the address: %+v", r.last)
		}
		if text := log.String(); strings.Count(text, "level=error") != 1 || !strings.Contains(text, "CAP_NET_ADMIN") {
			t.Errorf("log:\n%s", text)
		}
		if err := unix.Capset(&header, &full[0]); err != nil {
			t.Error(err)
			return
		}
		k.look(time.Now())
		if !slices.Equal(r.last.Routes, []exabgp.Route{announce(vip1)}) || !strings.Contains(log.String(), "as it should be again") {
			t.Errorf("with it: %+v\n%s", r.last, log)
		}
	})
}

// TestRefused: who wants an announcement of what is not there hears that it was refused, however it was answered before, and of the
// announcement again once it is there.
func TestRefused(t *testing.T) {
	k, r, _ := newKeeper(onLo(vip1))
	var heard []exabgp.Event
	emit := k.Watch(func(ev exabgp.Event) bool {
		heard = append(heard, ev)
		return true
	})
	carryOut := func() {
		for _, route := range r.last.Routes {
			emit(exabgp.RouteAccepted{Route: route, Epoch: 7})
		}
	}
	k.Set(exabgp.Table{Epoch: 7, Routes: []exabgp.Route{announce(vip1), withdraw(vip2)}})
	for _, there := range []bool{true, false, true} {
		k.list = func() (map[netip.Addr][]address, error) {
			if there {
				return map[netip.Addr][]address{vip1: {{index: 1}}}, nil
			}
			return nil, nil
		}
		k.wanted[vip1] = VIP{Addr: vip1, Device: "dummy7"} // on which it cannot be put again
		k.look(time.Now())
		carryOut()
	}
	accepted := exabgp.RouteAccepted{Route: announce(vip1), Epoch: 7}
	other := exabgp.RouteAccepted{Route: withdraw(vip2), Epoch: 7}
	refused := exabgp.RouteRefused{Route: announce(vip1), Epoch: 7, Words: "the vip is not on its device", Retry: lookFast}
	if want := []exabgp.Event{accepted, other, refused, other, accepted, other}; !slices.Equal(heard, want) {
		t.Errorf("heard\n%+v, want\n%+v", heard, want)
	}
	late := exabgp.RouteAccepted{Route: withdraw(vip1), Epoch: 7}
	late.Route.Serial--
	if emit(late); heard[len(heard)-1] != exabgp.Event(late) {
		t.Errorf("of an older wish: %+v", heard[len(heard)-1])
	}
}

// TestListFails: a list of addresses that cannot be read is no reason to withdraw anything, nor to announce.
func TestListFails(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		k, r, log := newKeeper(onLo(vip1))
		fails := func() (map[netip.Addr][]address, error) { return nil, unix.EINTR }
		k.Set(exabgp.Table{Routes: []exabgp.Route{announce(vip1)}})
		k.list = fails
		if soon := k.look(time.Now()); !soon || len(r.last.Routes) != 0 {
			t.Errorf("before anything is known: soon %t, %+v", soon, r.last)
		}
		k.list = addresses
		k.look(time.Now())
		k.list = fails
		if soon := k.look(time.Now()); !soon || !slices.Equal(r.last.Routes, []exabgp.Route{announce(vip1)}) {
			t.Errorf("afterwards: soon %t, %+v", soon, r.last)
		}
		if log.Len() > 0 {
			t.Errorf("of two, not in a row, the log says\n%s", log)
		}
		for range 9 {
			k.look(time.Now())
		}
		if text := log.String(); strings.Count(text, "level=error") != 1 || !strings.Contains(text, "AF_NETLINK") {
			t.Errorf("of ten in a row the log says\n%s", text)
		}
	})
}

// TestWithoutIPv6: where a device takes no IPv6 address, the others are not held up, and the log says how it would.
func TestWithoutIPv6(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0); err != nil { // of this thread's namespace
			t.Skipf("IPv6 cannot be turned off: %v", err)
		}
		k, r, log := newKeeper(onLo(vip1, vip6))
		k.Set(exabgp.Table{Routes: []exabgp.Route{announce(vip1), announce(vip6)}})
		k.look(time.Now())
		if !slices.Equal(r.last.Routes, []exabgp.Route{announce(vip1), withdraw(vip6)}) || !strings.Contains(log.String(), "net.ipv6.conf.lo.disable_ipv6 to 0") {
			t.Errorf("%+v, log:\n%s", r.last, log)
		}
	})
}

// TestNoDevice is what a device that is not there comes to.
func TestNoDevice(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		k, r, log := newKeeper([]VIP{{Addr: vip1, Device: "dummy7"}})
		k.Set(exabgp.Table{Routes: []exabgp.Route{announce(vip1)}})
		if soon := k.look(time.Now()); !soon || len(r.last.Routes) != 1 || !r.last.Routes[0].Withdraw || !strings.Contains(log.String(), "dummy7") {
			t.Errorf("soon %t, %+v, log:\n%s", soon, r.last, log)
		}
	})
}
