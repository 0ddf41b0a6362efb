package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"exazk/vagrant/probe/report"
)

// TestMain makes the test binary the prober where a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv("PROBE_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// echoServer answers on an address of the loopback interface. handle is given the number of each probe and what an answer
// to it would begin with, and returns the answers.
func echoServer(t *testing.T, address string, handle func(n int, prefix string) []string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			size, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			words := strings.Fields(string(buf[:size]))
			n, err := strconv.Atoi(words[len(words)-1])
			if err != nil || len(words) != 3 || words[0] != "probe" {
				t.Errorf("probe %q", buf[:size])
				continue
			}
			for _, answer := range handle(n, string(buf[:size])) {
				c.WriteToUDPAddrPort([]byte(answer), from)
			}
		}
	})
	t.Cleanup(func() { c.Close(); wg.Wait() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func probeArgs(args ...any) []string {
	var s []string
	for _, a := range args {
		s = append(s, fmt.Sprint(a))
	}
	return s
}

// runProbe runs the prober and decodes its report.
func runProbe(t *testing.T, ctx context.Context, args ...any) (report.Report, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, probeArgs(args...), &stdout, &stderr, false); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	rep, err := report.Read(&stdout)
	if err != nil {
		t.Fatal(err)
	}
	return rep, stderr.String()
}

func TestProbeCountsWhatItGets(t *testing.T) {
	const enough = 50 // on a busy machine most probes are skipped, as they are not due any more
	var rep report.Report
	var s report.Series
	var summary string
	for range 10 {
		if rep, s, summary = probeWhatItGets(t); s.Sent >= enough {
			break
		}
	}
	if s.Lost != 10 || s.Duplicates != 1 || s.Late != 0 || s.Sent < enough || s.Answered != s.Sent-10 {
		t.Errorf("%v", s)
	}
	if want := []string{"lb1", "lb2"}; !slices.Equal(s.Nodes(), want) || s.Turns[0].Answered != 30 {
		t.Errorf("turns %+v, want 30 answers of lb1 and the others of lb2", s.Turns)
	}
	if len(s.Losses) != 1 || s.Losses[0].Gap != s.LongestGap || s.LongestGap <= 0 || s.FirstLost == nil || s.LastLost.Before(*s.FirstLost) {
		t.Errorf("losses %+v, longest gap %v", s.Losses, s.LongestGap)
	}
	if rep.Ended.Sub(rep.Began) < 2*time.Second {
		t.Errorf("ended after %v, before the last lost probe could be answered", rep.Ended.Sub(rep.Began))
	}
	if !strings.Contains(summary, "lost 10") {
		t.Errorf("summary %q", summary)
	}
}

// probeWhatItGets probes a server that loses ten, doubles one, and is another from the fortieth on.
func probeWhatItGets(t *testing.T) (report.Report, report.Series, string) {
	address := echoServer(t, "127.0.0.9:0", func(n int, prefix string) []string {
		switch {
		case n >= 10 && n < 20:
			return nil
		case n == 30:
			return []string{prefix + " lb1", prefix + " lb1", "garbage", "probe other 3 lb1", prefix, prefix + "x lb1"}
		case n < 40:
			return []string{prefix + " lb1"}
		}
		return []string{prefix + " lb2"}
	})
	rep, summary := runProbe(t, t.Context(), "-vip", address.Addr(), "-port", address.Port(), "-every", "5ms", "-for", "600ms", "-timeout", "2s")
	s, ok := rep.Find("udp", address.Addr())
	if !ok || len(rep.Series) != 1 {
		t.Fatalf("report %+v", rep)
	}
	return rep, s, summary
}

func TestProbeManyAddresses(t *testing.T) {
	node := func(name string) func(int, string) []string {
		return func(_ int, prefix string) []string { return []string{prefix + " " + name} }
	}
	first := echoServer(t, "127.0.0.11:0", node("lb1"))
	echoServer(t, fmt.Sprintf("127.0.0.12:%d", first.Port()), node("lb2"))
	rep, _ := runProbe(t, t.Context(), "-vip", "127.0.0.11", "-vip", "127.0.0.12", "-vip", "::ffff:127.0.0.13", "-port", first.Port(),
		"-every", "2ms", "-for", "200ms", "-timeout", "1s")
	for vip, want := range map[string][]string{"127.0.0.11": {"lb1"}, "127.0.0.12": {"lb2"}, "127.0.0.13": nil} {
		s, ok := rep.Find("udp", netip.MustParseAddr(vip))
		if !ok || !slices.Equal(s.Nodes(), want) || s.Sent == 0 || (s.Lost == 0) != (want != nil) {
			t.Errorf("%s: %v, want answers of %v", vip, s, want) // nobody listens on .13: refused, and lost
		}
	}
}

func TestProbeIPv6(t *testing.T) {
	if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
		t.Skipf("needs IPv6 on the loopback interface: %v", err)
	} else {
		c.Close()
	}
	address := echoServer(t, "[::1]:0", func(_ int, prefix string) []string { return []string{prefix + " lb3"} })
	rep, _ := runProbe(t, t.Context(), "-vip", "::1", "-port", address.Port(), "-for", "50ms")
	if s := rep.Series[0]; s.Lost != 0 || !slices.Equal(s.Nodes(), []string{"lb3"}) {
		t.Errorf("%v", s)
	}
}

// A client does not accept an answer from another address than it asked, so the prober must not either.
func TestProbeIgnoresAnswersFromElsewhere(t *testing.T) {
	elsewhere, err := net.ListenPacket("udp", "127.0.0.15:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 14)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			elsewhere.WriteTo(append(buf[:n:n], " lb1"...), from)
		}
	})
	rep, _ := runProbe(t, t.Context(), "-vip", "127.0.0.14", "-port", c.LocalAddr().(*net.UDPAddr).Port, "-for", "50ms", "-timeout", "200ms")
	if s := rep.Series[0]; s.Answered != 0 || s.Lost == 0 {
		t.Errorf("%v, want all lost", s)
	}
}

func TestProbeHTTP(t *testing.T) {
	var mu sync.Mutex
	asked, connections := 0, map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		connections[r.RemoteAddr] = true
		switch {
		case asked == 3:
			http.Error(w, "lb1", http.StatusBadGateway)
		case asked == 4:
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		default:
			fmt.Fprintln(w, "lb1")
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().(*net.TCPAddr).AddrPort()
	rep, _ := runProbe(t, t.Context(), "-vip", address.Addr(), "-http", "-http-port", address.Port(), "-http-every", "20ms",
		"-every", "50ms", "-port", 9, "-for", "400ms", "-timeout", "2s")
	s, ok := rep.Find("http", address.Addr())
	if !ok || s.Sent < 6 || s.Lost != 2 || !slices.Equal(s.Nodes(), []string{"lb1"}) {
		t.Errorf("%v, want 2 lost and lb1", s)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(connections) != asked || asked != s.Sent {
		t.Errorf("%d requests seen, %d connections, %d sent: want equal numbers", asked, len(connections), s.Sent)
	}
}

func TestProbeHTTPThatIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.16:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	rep, _ := runProbe(t, t.Context(), "-vip", "127.0.0.16", "-http", "-http-port", port, "-http-every", "20ms", "-for", "100ms", "-timeout", "100ms")
	if s, ok := rep.Find("http", netip.MustParseAddr("127.0.0.16")); !ok || s.Answered != 0 || s.Lost == 0 {
		t.Errorf("%v, want all lost", s)
	}
}

func TestProbeUntilSignal(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		file := filepath.Join(t.TempDir(), "report.json")
		running := make(chan struct{})
		var once sync.Once
		address := echoServer(t, "127.0.0.18:0", func(_ int, prefix string) []string {
			once.Do(func() { close(running) })
			return []string{prefix + " lb1"}
		})
		cmd := exec.Command(os.Args[0], probeArgs("-vip", address.Addr(), "-port", address.Port(), "-json", file)...)
		cmd.Env = append(os.Environ(), "PROBE_TEST_MAIN=1")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-running
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %v: %s", sig, err, stderr.String())
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := report.Read(f)
		f.Close()
		if err != nil || len(rep.Series) != 1 || rep.Series[0].Lost != 0 || rep.Series[0].Answered == 0 {
			t.Errorf("%v: %+v (%v)", sig, rep, err)
		}
		if stdout.Len() > 0 {
			t.Errorf("stdout holds %q although the report went to a file", stdout.String())
		}
	}
}

func TestProgress(t *testing.T) {
	address := echoServer(t, "127.0.0.19:0", func(_ int, prefix string) []string { return []string{prefix + " lb1"} })
	var stderr bytes.Buffer
	code := run(t.Context(), probeArgs("-vip", address.Addr(), "-port", address.Port(), "-for", "1200ms", "-timeout", "50ms"), io.Discard, &stderr, true)
	if code != 0 || !strings.Contains(stderr.String(), "127.0.0.19 udp lb1 sent ") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

func TestWrongUsageAndFailures(t *testing.T) {
	tests := []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "-vip is required"},
		{[]string{"-vip", "nonsense"}, 2, "nonsense"},
		{[]string{"-vip", "127.0.0.1", "more"}, 2, "only flags"},
		{[]string{"-vip", "127.0.0.1", "-every", "0s"}, 2, "must be positive"},
		{[]string{"-vip", "127.0.0.1", "-for", "-1s"}, 2, "must not be negative"},
		{[]string{"-vip", "127.0.0.1", "-port", "70000"}, 2, "a port is"},
		{[]string{"-vip", "127.0.0.1", "-for", "1ms", "-timeout", "1ms", "-json", "/does/not/exist"}, 1, "create report"},
		{[]string{"-vip", "127.0.0.1", "-for", "1ms", "-timeout", "1ms", "-json", t.TempDir()}, 1, "rename"},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), tt.args, &stdout, &stderr, false)
		if code != tt.code || !strings.Contains(stderr.String(), tt.want) || stdout.Len() > 0 {
			t.Errorf("probe %q: exit %d, %q, stdout %q; want exit %d, %q", tt.args, code, stderr.String(), stdout.String(), tt.code, tt.want)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	tests := []struct {
		data string
		n    uint64
		node string
		ok   bool
	}{
		{"probe T 0 lb1", 0, "lb1", true},
		{"probe T 18446744073709551615 lb 1", 18446744073709551615, "lb 1", true},
		{"probe T 1 ", 1, "", true},
		{"probe T 1", 0, "", false},
		{"probe T -1 lb1", 0, "lb1", false},
		{"probe U 1 lb1", 0, "", false},
		{"", 0, "", false},
	}
	for _, tt := range tests {
		n, node, ok := parseAnswer([]byte(tt.data), "probe T ")
		if ok != tt.ok || ok && (n != tt.n || node != tt.node) {
			t.Errorf("%q: %d %q %v, want %d %q %v", tt.data, n, node, ok, tt.n, tt.node, tt.ok)
		}
	}
}
