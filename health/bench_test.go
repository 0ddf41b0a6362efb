package health

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkRun is what one run of each kind of check costs, with the peer's part where that is in this process.
func BenchmarkRun(b *testing.B) {
	run := func(name string, p Probe) {
		b.Run(name, func(b *testing.B) {
			r := p.prepare(options{timeout: time.Minute, env: []string{"EXAZK_NODE=node1"}})
			b.ReportAllocs()
			for b.Loop() {
				if got := r.run(context.Background(), Healthy); !got.OK {
					b.Fatalf("%+v", got)
				}
			}
		})
	}
	run("command", &Command{Line: "true"})
	run("args", &Command{Args: []string{"/bin/true"}})
	marker := filepath.Join(b.TempDir(), "marker")
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	run("file", &File{Path: marker})
	run("tcp", &TCP{Address: serve(b, func(net.Conn) {}, false)})
	run("dns", &DNS{Server: nameServer(b, nil), Name: "www.example.org", Type: "A"})
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	web := httptest.NewServer(answer)
	defer web.Close()
	run("http", &HTTP{URL: web.URL, Body: "^ok$"})
	secure := httptest.NewUnstartedServer(answer)
	secure.TLS = &tls.Config{}
	secure.StartTLS()
	defer secure.Close()
	run("https", &HTTP{URL: secure.URL, TLS: TLS{SkipVerify: true}})
	startBus(b) // last: it skips what comes after it
	startSystemd(b)
	run("systemd", &Systemd{"running.service"})
}

// BenchmarkChecker is what the counting of a run costs, from its start to the wait for the next, without the check itself.
func BenchmarkChecker(b *testing.B) {
	check := testCheck
	check.Interval, check.FastInterval = time.Nanosecond, time.Nanosecond
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	check.Probe = sights(func(context.Context) (string, error) {
		if n++; n == b.N {
			cancel()
		}
		return "", nil
	})
	c := New(only(check), quiet())
	b.ReportAllocs()
	b.ResetTimer()
	c.Run(ctx, func(Changed) bool { return true })
}
