package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"exazk/internal/logtest"
)

// startWeb runs web until the test ends or stop is called, and returns the ports that it listens on.
func startWeb(t *testing.T, args ...string) (tcp, udp string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var log logtest.Buffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, &log) }()
	stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() { stop() })
	port := func(kind string) string {
		re := regexp.MustCompile(kind + ` on \S+:(\d+)\n`)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
			if m := re.FindStringSubmatch(log.String()); m != nil {
				return m[1]
			}
		}
		t.Fatalf("no %s port in time; log: %s", kind, log.String())
		return ""
	}
	tcp = port("HTTP")
	if strings.Contains(strings.Join(args, " "), "-udp") {
		udp = port("UDP")
	}
	return tcp, udp, stop
}

func TestHTTP(t *testing.T) {
	port, _, _ := startWeb(t, "-name", "lb1", "-listen", "127.0.0.1:0")
	tests := []struct {
		method, path string
		code         int
		body         string // only for 200
	}{
		{"GET", "/", 200, "lb1\n"},
		{"GET", "/health", 200, "ok"},
		{"HEAD", "/", 200, ""},
		{"GET", "/other", 404, ""},
		{"POST", "/", 405, ""},
	}
	for _, closing := range []bool{false, true} {
		for _, tt := range tests {
			req, err := http.NewRequest(tt.method, "http://127.0.0.1:"+port+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Close = closing
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != tt.code || tt.code == 200 && string(body) != tt.body {
				t.Errorf("%s %s: %d %q (%v), want %d %q", tt.method, tt.path, resp.StatusCode, body, err, tt.code, tt.body)
			}
		}
	}
}

// A socket that is bound to no address answers from the one that was asked: every 127/8 is a local address.
func TestEchoAnswersFromTheAddressThatWasAsked(t *testing.T) {
	_, port, _ := startWeb(t, "-name", "lb1", "-listen", "127.0.0.1:0", "-udp", ":0")
	for _, to := range []string{"127.0.0.1", "127.0.0.2", "127.20.255.1", "::1"} {
		t.Run(to, func(t *testing.T) {
			target := netip.MustParseAddrPort(net.JoinHostPort(to, port))
			local := "127.0.0.1:0"
			if target.Addr().Is6() {
				local = "[::1]:0"
			}
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local)))
			if err != nil && target.Addr().Is6() {
				t.Skipf("needs IPv6 on the loopback interface: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			for i := range 3 {
				if _, err := c.WriteToUDPAddrPort(fmt.Appendf(nil, "probe %d", i), target); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 100)
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if want := fmt.Sprintf("probe %d lb1", i); err != nil || string(buf[:n]) != want || from != target {
					t.Errorf("got %q from %v (%v), want %q from %v", buf[:n], from, err, want, target)
				}
			}
		})
	}
}

func TestEchoOfOneAddress(t *testing.T) {
	_, port, _ := startWeb(t, "-name", "lb2", "-listen", "127.0.0.1:0", "-udp", "127.0.0.3:0")
	c, err := net.Dial("udp", "127.0.0.3:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "x")
	buf := make([]byte, 100)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "x lb2" {
		t.Errorf("got %q (%v), want %q", buf[:n], err, "x lb2")
	}
}

func TestStop(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	port, udp, stop := startWeb(t, "-name", "lb1", "-listen", "127.0.0.1:0", "-udp", "127.0.0.1:0", "-pid-file", pidFile)
	if got, err := os.ReadFile(pidFile); err != nil || string(got) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("pid file holds %q (%v)", got, err)
	}
	idle, err := net.Dial("tcp", "127.0.0.1:"+port) // does not hold up the end
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if code := stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if _, err := os.Stat(pidFile); !os.IsNotExist(err) {
		t.Errorf("pid file is still there: %v", err)
	}
	// The ports are free at once: a load balancer that comes back must not wait.
	_, _, again := startWeb(t, "-name", "lb1", "-listen", "127.0.0.1:"+port, "-udp", "127.0.0.1:"+udp)
	if code := again(); code != 0 {
		t.Errorf("exit code %d of the second, want 0", code)
	}
}

func TestWrongUsageAndFailures(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	takenUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer takenUDP.Close()
	tests := []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "-name is required"},
		{[]string{"-name", "lb1", "more"}, 2, "nothing but flags"},
		{[]string{"-nonsense"}, 2, "not defined"},
		{[]string{"-name", "x", "-listen", taken.Addr().String()}, 1, "listen for HTTP"},
		{[]string{"-name", "x", "-listen", "127.0.0.1:0", "-udp", takenUDP.LocalAddr().String()}, 1, "listen for UDP"},
		{[]string{"-name", "x", "-listen", "127.0.0.1:0", "-udp", "nonsense"}, 1, "listen for UDP"},
		{[]string{"-name", "x", "-listen", "127.0.0.1:0", "-udp", "127.0.0.1:0", "-pid-file", "/does/not/exist"}, 1, "pid file"},
	}
	for _, tt := range tests {
		var log logtest.Buffer
		if code := run(t.Context(), tt.args, &log); code != tt.code || !strings.Contains(log.String(), tt.want) {
			t.Errorf("web %q: exit %d, %q; want exit %d, %q", tt.args, code, log.String(), tt.code, tt.want)
		}
	}
}

func TestSourceIgnoresWhatItDoesNotKnow(t *testing.T) {
	for _, control := range [][]byte{nil, {1, 2, 3}, make([]byte, 16)} {
		if got := source(control); got != nil {
			t.Errorf("source(%v) = %v, want nil", control, got)
		}
	}
}
