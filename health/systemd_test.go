package health

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// startBus starts a message bus of the test's own, which becomes the system bus.
func startBus(t testing.TB) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skipf("needs Debian's package dbus-daemon: %v", err)
	}
	dir := busDir(t)
	conf := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(conf, []byte(`<busconfig><type>system</type><listen>unix:path=`+dir+`/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy></busconfig>`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+conf, "--nofork", "--nopidfile", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // where the test is killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens now
		t.Fatalf("the bus did not start: %v", err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/bus")
}

// busDir is a directory with a name short enough for a socket.
func busDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// fakeSystemd answers as systemd does, by the name of the unit.
type fakeSystemd struct{ release chan struct{} }

func (f *fakeSystemd) ListUnitsByNames(names []string) ([]unitStatus, *dbus.Error) {
	if len(names) != 1 {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", nil)
	}
	unit := func(load, active, sub string) ([]unitStatus, *dbus.Error) {
		return []unitStatus{{Name: names[0], Load: load, Active: active, Sub: sub, Path: "/unit", JobPath: "/"}}, nil
	}
	switch strings.TrimSuffix(names[0], ".service") {
	case "running":
		return unit("loaded", "active", "running")
	case "reloading":
		return unit("loaded", "reloading", "reload")
	case "refreshing":
		return unit("loaded", "refreshing", "refresh")
	case "starting":
		return unit("loaded", "activating", "auto-restart")
	case "stopping":
		return unit("loaded", "deactivating", "stop-sigterm")
	case "failed":
		return unit("loaded", "failed", "failed")
	case "stopped":
		return unit("loaded", "inactive", "dead")
	case "masked":
		return unit("masked", "inactive", "dead")
	case "none":
		return nil, nil
	case "invalid":
		return nil, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", []any{"Unit name is not valid."})
	case "hangs":
		<-f.release
	}
	return unit("not-found", "inactive", "dead")
}

func startSystemd(t testing.TB) {
	t.Helper()
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeSystemd{release: make(chan struct{})}
	t.Cleanup(func() { close(f.release); bus.Close() })
	if err := bus.Export(f, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.RequestName("org.freedesktop.systemd1", 0); err != nil {
		t.Fatal(err)
	}
}

func TestSystemd(t *testing.T) {
	leaksNothing(t)
	startBus(t)
	t.Run("no systemd", func(t *testing.T) { expect(t, &Systemd{"running.service"}, "fail", "org.freedesktop.systemd1") })
	startSystemd(t)
	for _, tt := range []struct{ unit, how, says string }{
		{"running", "pass", "active (running)"},
		{"reloading", "pass", "reloading (reload)"},
		{"refreshing", "pass", "refreshing (refresh)"},
		{"starting", "fail", "activating (auto-restart)"},
		{"stopping", "fail", "deactivating (stop-sigterm)"},
		{"failed", "fail", "failed (failed)"},
		{"stopped", "fail", "inactive (dead)"},
		{"masked", "fail", "inactive (masked)"},
		{"unknown", "fail", "inactive (not-found)"},
		{"none", "fail", "named 0 units"},
		{"invalid", "fail", "ask systemd: Unit name is not valid."},
		{"hangs", "timeout", "ask systemd"},
	} {
		t.Run(tt.unit, func(t *testing.T) { expect(t, &Systemd{tt.unit + ".service"}, tt.how, tt.says) })
	}
}

func TestSystemdWithoutABus(t *testing.T) {
	leaksNothing(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/does/not/exist")
	expect(t, &Systemd{"x.service"}, "fail", "no such file or directory; the package dbus has it")
}

// TestSystemdOnABadBus has a peer that speaks the protocol up to some point (D-Bus specification, Authentication Protocol).
func TestSystemdOnABadBus(t *testing.T) {
	leaksNothing(t)
	tests := []struct {
		name, how, says string
		peer            func(r *bufio.Reader, c net.Conn)
	}{
		{"silent", "timeout", "system bus: ", func(r *bufio.Reader, c net.Conn) { io.Copy(io.Discard, r) }},
		{"hangs up", "fail", "system bus: ", func(r *bufio.Reader, c net.Conn) {}},
		{"rejects us", "fail", "authentication failed", func(r *bufio.Reader, c net.Conn) {
			fmt.Fprint(c, "REJECTED KERBEROS_V4\r\n")
			io.Copy(io.Discard, r)
		}},
		{"silent once it has let us in", "timeout", "system bus: ", func(r *bufio.Reader, c net.Conn) {
			fmt.Fprint(c, "REJECTED EXTERNAL\r\n")
			for line := ""; !strings.HasPrefix(line, "BEGIN"); {
				var err error
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
				switch {
				case strings.HasPrefix(line, "AUTH EXTERNAL"):
					fmt.Fprint(c, "OK 1234deadbeef1234deadbeef1234dead\r\n")
				case strings.HasPrefix(line, "NEGOTIATE"):
					fmt.Fprint(c, "ERROR\r\n")
				}
			}
			io.Copy(io.Discard, r)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := busDir(t) + "/bus"
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				r := bufio.NewReader(c)
				if _, err := r.ReadString('\n'); err == nil { // a NUL byte, and AUTH
					tt.peer(r, c)
				}
			}()
			t.Cleanup(func() { l.Close(); <-done })
			t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
			expect(t, &Systemd{"x.service"}, tt.how, tt.says)
		})
	}
}
