package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
)

// leaksNothing fails the test if, once its peers are closed, a goroutine or a socket of it is left. It is to be called first.
func leaksNothing(t testing.TB) {
	t.Helper()
	goroutines, before := goleak.IgnoreCurrent(), sockets(t)
	t.Cleanup(func() {
		goleak.VerifyNone(t, goroutines)
		for range 200 {
			if sockets(t) <= before {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Errorf("%d sockets, %d before", sockets(t), before)
	})
}

func sockets(t testing.TB) (n int) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// look is one run of a valid probe.
func look(t testing.TB, p Probe, timeout time.Duration) Result {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatalf("%v: %v", p, err)
	}
	r := p.prepare(options{timeout: timeout, panicked: func(p any, at []byte) { t.Errorf("panic: %v\n%s", p, at) }})
	return r.run(context.Background(), Unknown)
}

// expect runs a probe that is to pass, to fail or, with the word "timeout", to time out, each with a part of what it says.
func expect(t *testing.T, p Probe, how, says string) {
	t.Helper()
	timeout := 20 * time.Second
	if how == "timeout" {
		timeout = 200 * time.Millisecond
	}
	began := time.Now()
	got := look(t, p, timeout)
	want := Result{OK: how == "pass", TimedOut: how == "timeout"}
	if !want.OK {
		want.ExitCode = -1
	}
	if want.TimedOut {
		want.Err = fmt.Sprintf("timed out after %v", timeout)
	}
	if want.Output = got.Output; got != want || !strings.Contains(got.Output, says) {
		t.Errorf("%v: got %+v, want to %s with %q", p, got, how, says)
	}
	if took := time.Since(began); took > 5*time.Second || want.TimedOut && took < timeout {
		t.Errorf("%v took %v", p, took)
	}
}

// silent accepts connections, holds them and says nothing.
func silent(t testing.TB) (address string) {
	return serve(t, func(conn net.Conn) { select {} }, true)
}

// serve answers each connection with f and closes it, or holds it to the end of the test.
func serve(t testing.TB, f func(net.Conn), hold bool) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var held []net.Conn
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if held = append(held, conn); !hold {
				f(conn)
				conn.Close()
			}
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, conn := range held {
			conn.Close()
		}
	})
	return l.Addr().String()
}

// closed is an address of this host where nobody listens.
func closed(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

var (
	local2  = netip.MustParseAddr("127.0.0.2")
	foreign = netip.MustParseAddr("192.0.2.1") // on no interface; RFC 5737
)

func TestValidate(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(pem, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const web = "http://127.0.0.1/"
	bind := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	tests := []struct {
		probe Probe
		want  string // each fault's field and a part of its text; empty: none
	}{
		{&Command{Line: "true"}, ""},
		{&Command{Args: []string{"true", ""}}, ""},
		{&Command{Args: []string{"/bin/true"}}, ""},
		{&Command{Line: " "}, "command: no check"},
		{&Command{Line: "a\xff"}, "command: not UTF-8"},
		{&Command{Args: []string{"a", "b\x00"}}, "command: NUL"},
		{&Command{Args: []string{""}}, "command: first argument is empty"},
		{&Command{Args: []string{"bin/x"}}, "command: whole path"},
		{&Command{Line: "x", Args: []string{"x"}}, "command: one of the two"},

		{&HTTP{URL: web}, ""},
		{&HTTP{URL: "https://[::1]:8443/x?y", Method: "HEAD", Status: []StatusRange{{200, 200}}, Host: "[::1]:80", Bind: bind("::1"), TLS: TLS{ServerName: "x"}}, ""},
		{&HTTP{URL: web, Header: map[string]string{"X-Check": "a b", "Authorization": ""}}, ""},
		{&HTTP{}, "url: no URL"},
		{&HTTP{URL: "127.0.0.1:80"}, "url: first path segment"},
		{&HTTP{URL: "localhost:80"}, "url: no URL"},
		{&HTTP{URL: "ftp://localhost"}, "url: no URL"},
		{&HTTP{URL: "http://:80/"}, "url: no URL"},
		{&HTTP{URL: "http://localhost:70000"}, "url: no port"},
		{&HTTP{URL: "http://localhost:0"}, "url: no port"},
		{&HTTP{URL: "http://[::1"}, "url: missing ']'"},
		{&HTTP{URL: web, Method: "GET IT"}, "method: no method"},
		{&HTTP{URL: web, Method: "CONNECT"}, "method: no method"},
		{&HTTP{URL: web, Status: []StatusRange{{299, 200}}}, "status: lower one first"},
		{&HTTP{URL: web, Status: []StatusRange{{0, 200}}}, "status: 100 to 599"},
		{&HTTP{URL: web, Body: "("}, "body: regular expression"},
		{&HTTP{URL: web, Body: "x", Method: "HEAD"}, "body: HEAD"},
		{&HTTP{URL: web, Host: "a/b"}, "host: no host"},
		{&HTTP{URL: web, Header: map[string]string{"host": "x"}}, "headers: host = \"x\""},
		{&HTTP{URL: web, Header: map[string]string{"A B": "x", "C": "y\nz"}}, "headers: A B|headers: one line"},
		{&HTTP{URL: web, TLS: TLS{SkipVerify: true}}, "url: TLS"},
		{&HTTP{URL: web, Bind: bind("0.0.0.0")}, "bind: no address"},
		{&HTTP{URL: web, Bind: bind("::1")}, "bind: two IPv4"},
		{&HTTP{URL: "https://x", TLS: TLS{CAFile: pem, SkipVerify: true}}, "tls_ca: tls_skip_verify"},
		{&HTTP{URL: "https://x", TLS: TLS{CertFile: pem}}, "tls_key: missing"},
		{&HTTP{URL: "https://x", TLS: TLS{KeyFile: pem}}, "tls_cert: missing"},
		{&HTTP{URL: "https://x", TLS: TLS{CAFile: "/does/not/exist", CertFile: "/does/not/exist", KeyFile: "/does/not/exist"}}, ""}, // see TestValidateFiles

		{&TCP{Address: "127.0.0.1:80", Bind: local2}, ""},
		{&TCP{Address: "[::1]:80", Bind: bind("::1")}, ""},
		{&TCP{Address: "localhost:80", Bind: bind("::1")}, ""},
		{&TCP{Address: "[::ffff:127.0.0.1]:80", Bind: local2}, ""},
		{&TCP{}, "address: host:port"},
		{&TCP{Address: ":80"}, "address: host:port"},
		{&TCP{Address: "127.0.0.1"}, "address: host:port"},
		{&TCP{Address: "127.0.0.1:http"}, "address: no port"},
		{&TCP{Address: "127.0.0.1:0"}, "address: no port"},
		{&TCP{Address: "127.0.0.1:80", Bind: bind("ff02::1"), Expect: "["}, "bind: no address|expect: regular expression"},
		{&TCP{Address: "[::1]:80", Bind: local2}, "bind: two IPv4"},

		{&DNS{Server: "127.0.0.1:53", Name: ".", Type: "SOA"}, ""},
		{&DNS{Server: "127.0.0.1:53", Name: "example.org", Type: "A", Transport: "tcp", Rcode: "NXDOMAIN"}, ""},
		{&DNS{Server: "127.0.0.1", Name: "example.org", Type: "A"}, "server: 127.0.0.1:53"},
		{&DNS{Server: "127.0.0.1:53", Type: "A"}, "name: no domain name"},
		{&DNS{Server: "127.0.0.1:53", Name: "a..b", Type: "A"}, "name: no domain name"},
		{&DNS{Server: "127.0.0.1:53", Name: "x", Type: "a"}, "type: capital"},
		{&DNS{Server: "127.0.0.1:53", Name: "x"}, "type: capital"},
		{&DNS{Server: "127.0.0.1:53", Name: "x", Type: "AXFR"}, "type: no data"},
		{&DNS{Server: "127.0.0.1:53", Name: "x", Type: "ANY"}, "type: no data"},
		{&DNS{Server: "127.0.0.1:53", Name: "x", Type: "A", Transport: "tls"}, "transport: tcp"},
		{&DNS{Server: "127.0.0.1:53", Name: "x", Type: "A", Rcode: "no"}, "rcode: NXDOMAIN"},
		{&DNS{Server: "127.0.0.1:53", Name: "x", Type: "A", Rcode: "REFUSED", Expect: []string{"192.0.2.1"}}, "expect: no answers"},
		{&DNS{Server: "127.0.0.1:53", Name: "x", Type: "A", Expect: []string{""}, Bind: bind("::1")}, "bind: two IPv4|expect: empty"},

		{&File{Path: "/run/x", Absent: true}, ""},
		{&File{}, "path: missing"},
		{&File{Path: "run/x"}, "path: whole path"},
		{&File{Path: "/run/\x00"}, "path: NUL"},

		{&Systemd{Unit: "nginx.service"}, ""},
		{&Systemd{Unit: "openvpn@a.b.service"}, ""},
		{&Systemd{Unit: `dev-disk-by\x2dlabel-x.device`}, ""},
		{&Systemd{}, "unit: missing"},
		{&Systemd{Unit: "nginx"}, "unit: nginx.service"},
		{&Systemd{Unit: ".service"}, "unit: suffix"},
		{&Systemd{Unit: "v1.2"}, "unit: suffix"},
		{&Systemd{Unit: "ssh*.service"}, "unit: one unit"},
		{&Systemd{Unit: "openvpn@.service"}, "unit: openvpn@name.service"},
	}
	for _, tt := range tests {
		var fields, parts []string
		for want := range strings.SplitSeq(tt.want, "|") {
			field, part, _ := strings.Cut(want, ": ")
			if field != "" {
				fields, parts = append(fields, field), append(parts, part)
			}
		}
		err := tt.probe.Validate()
		got := Faults(err)
		if len(got) != len(fields) {
			t.Errorf("%#v: %v, want %q", tt.probe, err, tt.want)
			continue
		}
		for i, f := range got {
			if f.Field != fields[i] || !strings.Contains(f.Text, parts[i]) || !strings.Contains(f.Text, "remedy: ") || !strings.Contains(err.Error(), f.Error()) {
				t.Errorf("%#v: %v, want %s with %q and a remedy", tt.probe, f, fields[i], parts[i])
			}
		}
	}
}

func TestValidateFiles(t *testing.T) {
	pem := filepath.Join(t.TempDir(), "no.pem")
	if err := os.WriteFile(pem, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	const none = "/does/not/exist"
	for want, files := range map[string]TLS{
		"":                       {},
		"tls_ca: no such file":   {CAFile: none},
		"tls_ca: no certificate": {CAFile: pem},
		"tls_cert: no such file": {CertFile: none, KeyFile: pem},
		"tls_cert: PEM":          {CertFile: pem, KeyFile: pem},
	} {
		field, part, _ := strings.Cut(want, ": ")
		err := (&HTTP{URL: "https://x", TLS: files}).ValidateFiles()
		if got := Faults(err); want == "" {
			if err != nil {
				t.Errorf("%+v: %v, want no fault", files, err)
			}
		} else if len(got) != 1 || got[0].Field != field || !strings.Contains(got[0].Text, part) || !strings.Contains(got[0].Text, "; remedy: ") {
			t.Errorf("%+v: %v, want %s and a remedy", files, err, want)
		}
	}
}

func TestFaultsOfOtherErrors(t *testing.T) {
	if got := Faults(errors.New("x")); got != nil {
		t.Errorf("%v, want none", got)
	}
	if got := Faults(fmt.Errorf("check: %w", &Fault{"url", "x"})); len(got) != 1 || got[0].Field != "url" {
		t.Errorf("%v, want the wrapped one", got)
	}
}

func TestProbeStrings(t *testing.T) {
	tests := map[string]Probe{
		"curl -f localhost":               &Command{Line: "curl -f localhost"},
		`["/bin/test" "-e" "a b"]`:        &Command{Args: []string{"/bin/test", "-e", "a b"}},
		"GET http://x:xxxxx@localhost/?q": &HTTP{URL: "http://x:secret@localhost/?q"},
		"HEAD http://[":                   &HTTP{URL: "http://[", Method: "HEAD"},
		"tcp 127.0.0.1:25":                &TCP{Address: "127.0.0.1:25"},
		"dns example.org A @127.0.0.1:53": &DNS{Server: "127.0.0.1:53", Name: "example.org", Type: "A"},
		"file /run/x":                     &File{Path: "/run/x"},
		"no file /run/x":                  &File{Path: "/run/x", Absent: true},
		"systemd nginx.service":           &Systemd{Unit: "nginx.service"},
	}
	for want, p := range tests {
		if got := p.String(); got != want {
			t.Errorf("%#v is %q, want %q", p, got, want)
		}
	}
}

// sights is a Probe that is a function.
type sights func(ctx context.Context) (string, error)

func (s sights) Validate() error          { return nil }
func (s sights) String() string           { return "sights" }
func (s sights) prepare(o options) runner { return &looker{options: o, look: s} }

func TestLookerGivesUpOnWhatHangsAndRunsNothingBesides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, runs := make(chan struct{}), 0
		r := sights(func(context.Context) (string, error) {
			if runs++; runs == 1 {
				<-release // as in a system call: whatever the context says
			}
			return "found", nil
		}).prepare(options{timeout: time.Second})
		began := time.Now()
		want := []Result{
			{ExitCode: -1, TimedOut: true, Err: "timed out after 1s, and does not end"},
			{ExitCode: -1, Err: "the run before was given up and has not ended"},
			{ExitCode: -1, Err: "the run before was given up and has not ended"},
			{OK: true, Output: "found"},
			{OK: true, Output: "found"},
		}
		for i, want := range want {
			if i == 3 {
				close(release)
				synctest.Wait()
			}
			if got := r.run(t.Context(), Unknown); got != want {
				t.Errorf("run %d: %+v, want %+v", i, got, want)
			}
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %v, want the timeout and a second", took)
		}
		if runs != 3 {
			t.Errorf("%d runs began, want 3", runs)
		}
	})
}

func TestLookerEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		sights(func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }).prepare(options{timeout: time.Hour}).run(ctx, Unknown)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
	})
}

// A process that was stopped finds both the end and the timeout in its past.
func TestLookerPrefersAnEndToATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sights(func(context.Context) (string, error) { time.Sleep(1500 * time.Millisecond); return "late", nil }).prepare(options{timeout: time.Second})
		if got, want := r.run(t.Context(), Unknown), (Result{OK: true, Output: "late"}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestPanicIsAFailureAndToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, hook := logtest.NewNullLogger()
		check := testCheck
		check.Probe = sights(func(context.Context) (string, error) { panic("library\x1b[2J") })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var changes []Changed
		New(only(check), logrus.NewEntry(logger)).Run(ctx, func(ch Changed) bool { changes = append(changes, ch); return true })
		if want := (Result{ExitCode: -1, Err: "bug: panic: library [2J"}); len(changes) != 1 || changes[0].State != Unhealthy || changes[0].Result != want {
			t.Errorf("changes %+v, want one to unhealthy with %+v", changes, want)
		}
		told := 0
		for _, e := range hook.AllEntries() {
			if stack, _ := e.Data["stack"].(string); e.Level == logrus.ErrorLevel && strings.Contains(stack, "probe_test.go") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("told %d times where the panic was, want once", told)
		}
	})
}

func TestOutputOfProbesIsPrintable(t *testing.T) {
	long := strings.Repeat("x", 1000)
	r := sights(func(context.Context) (string, error) { return "", errors.New("a\x1b\n" + long) }).prepare(options{timeout: time.Hour})
	if got, want := r.run(t.Context(), Unknown).Output, "a  "+long[:maxOutput-3]; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestConnectSaysThatAnAddressIsNotHere(t *testing.T) {
	leaksNothing(t)
	expect(t, &TCP{Address: "127.0.0.1:9", Bind: foreign}, "fail", "is 192.0.2.1 on an interface of this node?")
	expect(t, &DNS{Server: "127.0.0.1:9", Name: "x", Type: "A", Bind: foreign}, "fail", "is 192.0.2.1 on an interface of this node?")
	expect(t, &HTTP{URL: "http://127.0.0.1:9", Bind: foreign}, "fail", "is 192.0.2.1 on an interface of this node?")
}
