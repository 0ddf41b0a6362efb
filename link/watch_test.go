package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

func entry(out io.Writer) *logrus.Entry {
	l := logrus.New()
	l.SetOutput(out)
	return logrus.NewEntry(l)
}

var v4, v6 = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")

// TestLook plays readings one after the other; only differences are told.
func TestLook(t *testing.T) {
	log := &bytes.Buffer{}
	w := New(entry(log))
	for _, step := range []struct {
		name string
		read []Changed
		err  error
		want []Changed
	}{
		{"start", []Changed{{"eth1", false, true, []netip.Prefix{v4}}, {"eth0", false, false, nil}}, nil, []Changed{{"eth0", false, false, nil}, {"eth1", false, true, []netip.Prefix{v4}}}},
		{"nothing new", []Changed{{"eth0", false, false, nil}, {"eth1", false, true, []netip.Prefix{v4}}}, nil, nil},
		{"an address more", []Changed{{"eth0", false, false, nil}, {"eth1", false, true, []netip.Prefix{v4, v6}}}, nil, []Changed{{"eth1", false, true, []netip.Prefix{v4, v6}}}},
		{"down, and IPv6 is taken away", []Changed{{"eth0", false, false, nil}, {"eth1", false, false, []netip.Prefix{v4}}}, nil, []Changed{{"eth1", false, false, []netip.Prefix{v4, v6}}}},
		{"unreadable", nil, errors.New("no memory"), nil},
		{"up", []Changed{{"eth0", false, false, nil}, {"eth1", false, true, []netip.Prefix{v4}}}, nil, []Changed{{"eth1", false, true, []netip.Prefix{v4}}}},
		{"removed", []Changed{{"eth0", false, false, nil}}, nil, []Changed{{"eth1", true, false, []netip.Prefix{v4}}}},
		{"still removed", []Changed{{"eth0", false, false, nil}}, nil, nil},
	} {
		w.read = func() ([]Changed, error) { return step.read, step.err }
		var got []Changed
		w.look(func(c Changed) bool { got = append(got, c); return true })
		if !reflect.DeepEqual(got, step.want) {
			t.Errorf("%s: got %v, want %v", step.name, got, step.want)
		}
	}
	if n := strings.Count(log.String(), "link changed"); n != 3 {
		t.Errorf("%d lines for three transitions:\n%s", n, log)
	}
	w.read = func() ([]Changed, error) { return []Changed{{"eth2", false, true, nil}}, nil }
	if w.look(func(Changed) bool { return false }) {
		t.Error("goes on although nobody listens")
	}
}

// TestRunReadsEverySecond shows that the kernel's messages are hints only.
func TestRunReadsEverySecond(t *testing.T) {
	w := New(entry(io.Discard))
	up := true
	w.read = func() ([]Changed, error) { up = !up; return []Changed{{Interface: "eth0", Up: up}}, nil }
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		w.openHints = func() (io.ReadCloser, error) { return nil, errors.New("not permitted") }
		go w.Run(ctx, func(Changed) bool { n++; return true })
		time.Sleep(3*reread + reread/2)
		synctest.Wait()
		if n != 4 {
			t.Errorf("%d changes in three and a half seconds", n)
		}
		cancel()
	})
}

// TestRealLink takes one end of a veth pair down in a namespace of its own.
func TestRealLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ns := fmt.Sprintf("exazk-link-%d", os.Getpid())
	ip("netns", "add", ns)
	t.Cleanup(func() { ip("netns", "del", ns) })
	ip("-n", ns, "link", "add", "va", "type", "veth", "peer", "name", "vb")
	ip("-n", ns, "addr", "add", v4.String(), "dev", "va")
	ip("-n", ns, "link", "set", "va", "up")
	ip("-n", ns, "link", "set", "vb", "up")

	changes := make(chan Changed, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, in the other namespace
		f, err := os.Open("/run/netns/" + ns)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = New(entry(io.Discard)).Run(ctx, func(c Changed) bool { changes <- c; return true })
		}
		done <- err
	}()
	wait := func(up bool) {
		t.Helper()
		deadline := time.After(5 * time.Second)
		for {
			select {
			case c := <-changes:
				if c.Interface == "va" && c.Up == up && len(c.Prefixes) > 0 {
					return
				}
			case err := <-done:
				t.Fatalf("ended: %v", err)
			case <-deadline:
				t.Fatalf("no change to up=%v", up)
			}
		}
	}
	wait(true)
	ip("-n", ns, "link", "set", "vb", "down") // the other end: we lose the carrier
	wait(false)
	ip("-n", ns, "link", "set", "vb", "up")
	wait(true)
	ip("-n", ns, "link", "del", "va")
	wait(false)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
