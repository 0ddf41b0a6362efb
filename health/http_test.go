package health

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// website answers by path.
func website() http.Handler {
	mux := http.NewServeMux()
	for code := 200; code < 600; code++ {
		mux.HandleFunc(fmt.Sprintf("/%d", code), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/followed")
			w.WriteHeader(code)
		})
	}
	mux.HandleFunc("/followed", func(http.ResponseWriter, *http.Request) { panic("a redirect was followed") })
	mux.HandleFunc("/body", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "state: ready\n") })
	mux.HandleFunc("/request", func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		fmt.Fprintf(w, "%s %s host=%s agent=%s x=%s user=%s:%s proto=%d gzip=%q close=%v", r.Method, r.URL, r.Host, r.UserAgent(), r.Header.Get("X"), user, password,
			r.ProtoMajor, r.Header.Get("Accept-Encoding"), r.Close)
	})
	mux.HandleFunc("/source", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })
	mux.HandleFunc("/far", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", maxBody)+"needle")
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "short")
	})
	mux.HandleFunc("/stalls", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first half")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/hangs", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return mux
}

func start(t *testing.T, prepare func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(website())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	prepare(s)
	return s
}

func TestHTTP(t *testing.T) {
	leaksNothing(t)
	web := start(t, (*httptest.Server).Start).URL
	address := strings.TrimPrefix(web, "http://")
	mute := silent(t)
	asked := func(c net.Conn) { http.ReadRequest(bufio.NewReader(c)) } // an answer before the request is one to nothing
	garbage := serve(t, func(c net.Conn) { asked(c); io.WriteString(c, "SSH-2.0-OpenSSH\r\n") }, false)
	hangup := serve(t, func(c net.Conn) { c.Read(make([]byte, 1)) }, false)
	bloated := serve(t, func(c net.Conn) {
		asked(c)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
		c.Write(bytes.Repeat([]byte("x"), 2*maxHeader))
		io.WriteString(c, "\r\n\r\n")
	}, false)
	codes := func(text string) []StatusRange {
		all, err := ParseStatus(text)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}

	tests := []struct {
		name      string
		probe     HTTP
		how, says string
	}{
		{"200", HTTP{URL: web + "/200"}, "pass", "200 OK"},
		{"204", HTTP{URL: web + "/204"}, "pass", "204 No Content"},
		{"by name", HTTP{URL: "http://localhost:" + port(t, address) + "/200", Bind: local2}, "pass", "200"},
		{"a wanted redirect", HTTP{URL: web + "/302", Status: codes("200-299, 301-303")}, "pass", "302 Found"},
		{"a wanted error", HTTP{URL: web + "/503", Status: codes("503")}, "pass", "503"},
		{"a body", HTTP{URL: web + "/body", Body: "^state: ready"}, "pass", "200 OK"},
		{"a body that never ends, and is not asked for", HTTP{URL: web + "/stalls"}, "pass", "200 OK"},
		{"HEAD", HTTP{URL: web + "/request", Method: "HEAD"}, "pass", "200 OK"},
		{"the request", HTTP{URL: strings.Replace(web, "//", "//me:pw@", 1) + "/request?q", Method: "POST", Host: "www.example.org", Header: map[string]string{"X": "1"},
			Body: `^POST /request\?q host=www.example.org agent=exazk x=1 user=me:pw proto=1 gzip="" close=true$`}, "pass", ""},
		{"another agent", HTTP{URL: web + "/request", Header: map[string]string{"user-agent": "probe"}, Body: "host=" + address + " agent=probe "}, "pass", ""},

		{"503", HTTP{URL: web + "/503"}, "fail", "503 Service Unavailable, want [200-299]"},
		{"200 where it is wrong", HTTP{URL: web + "/200", Status: codes("301,400-499")}, "fail", "200 OK, want [301 400-499]"},
		{"a redirect", HTTP{URL: web + "/301"}, "fail", "301 Moved Permanently, want"},
		{"the wrong body", HTTP{URL: web + "/body", Body: "^ready"}, "fail", `200 OK, and no match of "^ready" in the 13 bytes of the body, "state: ready\n"`},
		{"what is wanted beyond the limit", HTTP{URL: web + "/far", Body: "needle"}, "fail", "no match of"},
		{"a body that is cut", HTTP{URL: web + "/cut", Body: "short"}, "fail", "unexpected EOF"},
		{"refused", HTTP{URL: "http://" + closed(t)}, "fail", "connection refused"},
		{"no such name", HTTP{URL: "http://a..b/"}, "fail", "no such host"},
		{"not HTTP", HTTP{URL: "http://" + garbage}, "fail", "malformed HTTP"},
		{"hangs up", HTTP{URL: "http://" + hangup}, "fail", ""},
		{"an endless header", HTTP{URL: "http://" + bloated}, "fail", "server response headers exceeded"},
		{"HTTPS with a server that has none", HTTP{URL: "https://" + address}, "fail", "server gave HTTP response to HTTPS client"},

		{"accepts and says nothing", HTTP{URL: "http://" + mute}, "timeout", "while waiting for the answer"},
		{"does not answer", HTTP{URL: web + "/hangs"}, "timeout", "while waiting for the answer"},
		{"stalls in the body", HTTP{URL: web + "/stalls", Body: "second half"}, "timeout", "while reading the body"},
		{"stalls in the handshake", HTTP{URL: "https://" + mute}, "timeout", "while in the TLS handshake"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expect(t, &tt.probe, tt.how, tt.says) })
	}
}

func TestHTTPConnectsFromBindAndAnewEachTime(t *testing.T) {
	leaksNothing(t)
	web := start(t, (*httptest.Server).Start).URL
	expect(t, &HTTP{URL: web + "/source", Bind: local2, Body: `^127\.0\.0\.2:`}, "pass", "")
	expect(t, &HTTP{URL: web + "/source", Body: `^127\.0\.0\.1:`}, "pass", "")
}

// authority is a CA of the test's own.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a.newKey()
	a.file = a.write("ca.pem", a.sign(a.cert, a.key))
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(cert *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (a *authority) write(name string, text []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue writes a certificate for a name or an address, valid until then, and its key.
func (a *authority) issue(name string, until time.Time) (certFile, keyFile string) {
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		cert.IPAddresses = []net.IP{ip}
	} else {
		cert.DNSNames = []string{name}
	}
	key := a.newKey()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".pem", a.sign(cert, key)), a.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestHTTPS(t *testing.T) {
	leaksNothing(t)
	ca, other := newAuthority(t, "test"), newAuthority(t, "other")
	soon := time.Now().Add(time.Hour)
	secure := func(name string, until time.Time, change func(*httptest.Server)) string {
		pair, err := tls.LoadX509KeyPair(ca.issue(name, until))
		if err != nil {
			t.Fatal(err)
		}
		return start(t, func(s *httptest.Server) {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			change(s)
			s.StartTLS()
		}).URL
	}
	plain := func(*httptest.Server) {}
	web := secure("127.0.0.1", soon, plain)
	named := secure("www.example.org", soon, plain)
	old := secure("127.0.0.1", time.Now().Add(-time.Minute), plain)
	two := secure("127.0.0.1", soon, func(s *httptest.Server) { s.EnableHTTP2 = true })
	mutual := secure("127.0.0.1", soon, func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		s.TLS.ClientCAs.AppendCertsFromPEM(must(os.ReadFile(ca.file)))
	})
	cert, key := ca.issue("client", soon)
	wrongCert, wrongKey := other.issue("client", soon)

	tests := []struct {
		name      string
		probe     HTTP
		how, says string
	}{
		{"own authority", HTTP{URL: web + "/200", TLS: TLS{CAFile: ca.file}}, "pass", "200"},
		{"HTTP/1.1", HTTP{URL: web + "/request", TLS: TLS{CAFile: ca.file}, Body: "proto=1"}, "pass", "200"},
		{"HTTP/2 where the server has it", HTTP{URL: two + "/request", TLS: TLS{CAFile: ca.file}, Body: "proto=2"}, "pass", "200"},
		{"another name", HTTP{URL: named + "/200", TLS: TLS{CAFile: ca.file, ServerName: "www.example.org"}}, "pass", "200"},
		{"the Host header's name", HTTP{URL: named + "/200", Host: "www.example.org:8443", TLS: TLS{CAFile: ca.file}}, "pass", "200"},
		{"no verification", HTTP{URL: old + "/200", TLS: TLS{SkipVerify: true}}, "pass", "200"},
		{"client certificate", HTTP{URL: mutual + "/200", TLS: TLS{CAFile: ca.file, CertFile: cert, KeyFile: key}}, "pass", "200"},
		{"the system's authorities", HTTP{URL: web + "/200"}, "fail", "unknown authority"},
		{"another authority", HTTP{URL: web + "/200", TLS: TLS{CAFile: other.file}}, "fail", "certificate"},
		{"the wrong name", HTTP{URL: named + "/200", TLS: TLS{CAFile: ca.file}}, "fail", "127.0.0.1"},
		{"the wrong Host", HTTP{URL: named + "/200", Host: "example.org", TLS: TLS{CAFile: ca.file}}, "fail", "not example.org"},
		{"expired", HTTP{URL: old + "/200", TLS: TLS{CAFile: ca.file}}, "fail", "expired"},
		{"no client certificate", HTTP{URL: mutual + "/200", TLS: TLS{CAFile: ca.file}}, "fail", "certificate required"},
		{"client certificate of another authority", HTTP{URL: mutual + "/200", TLS: TLS{CAFile: ca.file, CertFile: wrongCert, KeyFile: wrongKey}}, "fail", "certificate"},
		{"hangs over HTTP/2", HTTP{URL: two + "/hangs", TLS: TLS{CAFile: ca.file}}, "timeout", "while waiting for the answer"},
		{"stalls over HTTP/2", HTTP{URL: two + "/stalls", Body: "second half", TLS: TLS{CAFile: ca.file}}, "timeout", "while reading the body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expect(t, &tt.probe, tt.how, tt.says) })
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestHTTPSReadsItsFilesInEveryRun(t *testing.T) {
	leaksNothing(t)
	ca, other := newAuthority(t, "test"), newAuthority(t, "other")
	pair := must(tls.LoadX509KeyPair(ca.issue("127.0.0.1", time.Now().Add(time.Hour))))
	web := start(t, func(s *httptest.Server) {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		s.StartTLS()
	}).URL
	cert, key := ca.issue("client", time.Now().Add(time.Hour))
	probe := &HTTP{URL: web + "/200", TLS: TLS{CAFile: filepath.Join(t.TempDir(), "ca.pem"), CertFile: cert, KeyFile: key}}
	run := func() Result { return probe.prepare(options{timeout: 20 * time.Second}).run(t.Context(), Unknown) }
	copyFile := func(from string) {
		if err := os.WriteFile(probe.TLS.CAFile, must(os.ReadFile(from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := run(); r.OK || !strings.Contains(r.Output, "no such file") {
		t.Errorf("without the file: %+v", r)
	}
	copyFile(other.file)
	if r := run(); r.OK {
		t.Errorf("with the wrong authority: %+v", r)
	}
	copyFile(ca.file)
	if r := run(); !r.OK {
		t.Errorf("with the right one: %+v", r)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if r := run(); r.OK || !strings.Contains(r.Output, "no such file") {
		t.Errorf("without the client's key: %+v", r)
	}
}

func TestHTTPThatWasNotValidated(t *testing.T) {
	r := (&HTTP{URL: "http://["}).prepare(options{timeout: time.Second}).run(t.Context(), Unknown)
	if r.OK || !strings.Contains(r.Output, "missing ']'") {
		t.Errorf("%+v, want a failure", r)
	}
}

func TestParseStatus(t *testing.T) {
	tests := map[string]string{
		"200": "[200]", "200-299": "[200-299]", "200-299,301": "[200-299 301]", " 200 , 302": "[200 302]", "100-599": "[100-599]",
		"": "", "2xx": "", "200-": "", "-200": "", "299-200": "", "99": "", "600": "", "200,": "", "200-299-300": "", "200 - 299": "[200-299]",
	}
	for in, want := range tests {
		got, err := ParseStatus(in)
		if (want == "") != (err != nil) || want != "" && fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", in, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "remedy: ") {
			t.Errorf("%q: %v has no remedy", in, err)
		}
	}
}
