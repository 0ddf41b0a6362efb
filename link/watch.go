package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// reread is how often the interfaces are read without being told to.
const reread = time.Second

// Watcher watches the interfaces of the network namespace that it runs in.
type Watcher struct {
	log  *logrus.Entry
	last map[string]Changed

	read      func() ([]Changed, error)     // the interfaces that are there now
	openHints func() (io.ReadCloser, error) // what is readable when something changed
}

// New makes a Watcher.
func New(log *logrus.Entry) *Watcher {
	return &Watcher{log: log, last: map[string]Changed{}, read: readInterfaces, openHints: openRoute}
}

// Run emits the state of every interface but the loopback, and its changes, until ctx is done or emit returns false. It
// returns nil then. Where the kernel's messages cannot be had it goes on without them, a second later to learn.
func (w *Watcher) Run(ctx context.Context, emit func(Changed) bool) error {
	hints, stop := w.hints(ctx)
	defer stop()
	ticker := time.NewTicker(reread)
	defer ticker.Stop()
	for {
		if !w.look(emit) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-hints:
		case <-ticker.C:
		}
	}
}

// look reads the interfaces and emits what differs from the last time, in the order of the names.
func (w *Watcher) look(emit func(Changed) bool) bool {
	now, err := w.read()
	if err != nil {
		w.log.WithField("reason", err.Error()).Debug("interfaces not read")
		return true
	}
	for name, last := range w.last {
		if !slices.ContainsFunc(now, func(c Changed) bool { return c.Interface == name }) {
			now = append(now, Changed{Interface: name, Removed: true, Prefixes: last.Prefixes})
		}
	}
	slices.SortFunc(now, func(a, b Changed) int { return strings.Compare(a.Interface, b.Interface) })
	for _, c := range now {
		last, known := w.last[c.Interface]
		if !c.Up {
			c.Prefixes = merge(c.Prefixes, last.Prefixes)
		}
		if known && !c.Removed && last.Up == c.Up && slices.Equal(last.Prefixes, c.Prefixes) {
			continue
		}
		if w.last[c.Interface] = c; c.Removed {
			delete(w.last, c.Interface)
		}
		if known && last.Up != c.Up {
			w.log.WithFields(logrus.Fields{"event": "link", "interface": c.Interface, "from": word(last.Up), "to": word(c.Up)}).Info("link changed")
		}
		if !emit(c) {
			return false
		}
	}
	return true
}

func word(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func merge(a, b []netip.Prefix) []netip.Prefix {
	out := slices.Concat(a, b)
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func readInterfaces() ([]Changed, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("read interfaces: %w", err)
	}
	var out []Changed
	for _, i := range ifs {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		c := Changed{Interface: i.Name, Up: i.Flags&net.FlagUp != 0 && i.Flags&net.FlagRunning != 0}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("read addresses of %s: %w", i.Name, err) // it may have been removed; the next reading says so
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				c.Prefixes = append(c.Prefixes, p)
			}
		}
		c.Prefixes = merge(c.Prefixes, nil)
		out = append(out, c)
	}
	return out, nil
}

// hints returns a channel that gets a value after the kernel spoke of links or addresses.
func (w *Watcher) hints(ctx context.Context) (<-chan struct{}, func()) {
	hints := make(chan struct{}, 1) // one is enough: everything is read then
	f, err := w.openHints()
	if err != nil {
		w.log.WithField("reason", err.Error()).Warn("kernel does not tell of links, asking every second")
		return hints, func() {}
	}
	done := make(chan struct{})
	go func() { // ends with the file, which stop closes
		defer close(done)
		buf := make([]byte, 64<<10)
		for ctx.Err() == nil {
			// ENOBUFS is an overrun of the socket's buffer: messages were lost, so everything is read as well.
			if _, err := f.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case hints <- struct{}{}:
			default:
			}
		}
	}()
	return hints, func() {
		f.Close()
		<-done
	}
}

// openRoute opens a socket that hears of changes of links and addresses, rtnetlink(7).
func openRoute() (io.ReadCloser, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route socket: %w", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind route socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil // nonblocking, so that Close ends a Read
}
