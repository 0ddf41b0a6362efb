package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
)

const (
	maxBody   = 1 << 20  // bytes of a body that a pattern is looked for in
	maxHeader = 64 << 10 // bytes of an answer's header
	shownBody = 60       // bytes of a body that does not match
)

// HTTP passes when a server answers one request with the right status and, if Body is given, a body that matches. Each run
// resolves the name, connects and closes. Redirects are not followed: where one is right, Status says so. The proxy of the
// environment is not used.
type HTTP struct {
	URL    string
	Method string            // GET if empty
	Status []StatusRange     // which are right; 200-299 if empty
	Body   string            // a regular expression looked for in the first MiB; empty: the body is not read
	Host   string            // the Host header, where it is not the host of the URL
	Header map[string]string // further ones
	TLS    TLS               // for https
	Bind   netip.Addr        // the source address; the zero Addr leaves it to the kernel
}

// TLS says how an HTTP probe knows its server, and makes itself known. The files are read in every run, so that new
// certificates count without a restart.
type TLS struct {
	ServerName        string // in the certificate, and sent (SNI); if empty, HTTP.Host, and else the host of the URL
	CAFile            string // PEM; if empty, the authorities that the system trusts
	CertFile, KeyFile string // PEM, of the client; both or none
	SkipVerify        bool   // take any certificate
}

// StatusRange holds HTTP status codes from Low to High, both included.
type StatusRange struct{ Low, High int }

func (s StatusRange) String() string {
	if s.Low == s.High {
		return strconv.Itoa(s.Low)
	}
	return fmt.Sprintf("%d-%d", s.Low, s.High)
}

// ParseStatus reads codes and ranges such as "200-299,301".
func ParseStatus(text string) ([]StatusRange, error) {
	var all []StatusRange
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		r, err := StatusRange{}, error(nil)
		if r.Low, err = strconv.Atoi(strings.TrimSpace(low)); err == nil {
			r.High, err = strconv.Atoi(strings.TrimSpace(high))
		}
		if err != nil || !r.valid() {
			return nil, fmt.Errorf("%q is no status; remedy: write codes from 100 to 599 such as \"200-299,301\"", part)
		}
		all = append(all, r)
	}
	return all, nil
}

func (s StatusRange) valid() bool { return 100 <= s.Low && s.Low <= s.High && s.High <= 599 }

func (h *HTTP) String() string {
	text := h.URL
	if u, err := url.Parse(h.URL); err == nil {
		text = u.Redacted()
	}
	return fmt.Sprintf("%s %s", h.method(), text)
}

var (
	token = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$") // methods and names of headers, RFC 9110 section 5.6.2
	host  = regexp.MustCompile(`^[-._~0-9A-Za-z:\[\]]*$`)
)

// Validate implements Probe.
func (h *HTTP) Validate() error {
	var f faults
	u := f.url(h.URL)
	f.source(h.Bind, u.Hostname())
	if !token.MatchString(h.method()) || h.Method == http.MethodConnect {
		f.add("method", "%q is no method for a check; remedy: write \"GET\" or \"HEAD\"", h.Method)
	}
	for _, s := range h.Status {
		if !s.valid() {
			f.add("status", "%v is no range of codes; remedy: write codes from 100 to 599, the lower one first", s)
		}
	}
	f.pattern("body", h.Body)
	if h.Body != "" && h.Method == http.MethodHead {
		f.add("body", "the answer to HEAD has none; remedy: use \"GET\", or leave body out")
	}
	if !host.MatchString(h.Host) {
		f.add("host", "%q is no host; remedy: write a name, and a port where it is not the usual one", h.Host)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Header)) {
		switch {
		case strings.EqualFold(name, "Host"):
			f.add("headers", "the Host header is set elsewhere; remedy: write host = %q", h.Header[name])
		case !token.MatchString(name) || strings.ContainsFunc(h.Header[name], unicode.IsControl):
			f.add("headers", "%q: %q is no header; remedy: use letters, digits and \"-\" for its name, and one line", name, h.Header[name])
		}
	}
	if u.Scheme == "http" && h.TLS != (TLS{}) {
		f.add("url", "options of TLS are given, and %q does not use it; remedy: write https://, or remove what begins with tls_", h.URL)
	}
	h.TLS.validate(&f)
	return f.err()
}

// ValidateFiles is Validate for the files that the probe reads at each run. They are a matter of the host and of the user that the
// checks run as.
func (h *HTTP) ValidateFiles() error {
	var f faults
	if _, err := h.TLS.authorities(); err != nil {
		f.add("tls_ca", "%v; remedy: name a file of certificates in PEM that the user of the daemon may read", err)
	}
	if _, err := h.TLS.certificates(); err != nil {
		f.add("tls_cert", "%v; remedy: name files in PEM, of a certificate and of its key, that the user of the daemon may read", err)
	}
	return f.err()
}

// url checks the URL and returns it, or an empty one.
func (f *faults) url(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		f.add("url", "%v; remedy: write it such as \"http://127.0.0.1:8080/health\"", err)
		return &url.URL{}
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		f.add("url", "%q is no URL of a web server; remedy: write it whole, such as \"http://127.0.0.1:8080/health\"", u.Redacted())
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			f.add("url", "%q has no port from 1 to 65535; remedy: write one, or leave it out with its colon", u.Redacted())
		}
	}
	return u
}

func (h *HTTP) method() string {
	if h.Method == "" {
		return http.MethodGet
	}
	return h.Method
}

func (h *HTTP) prepare(o options) runner {
	body := compiled(h.Body)
	return &looker{options: o, look: func(ctx context.Context) (string, error) { return h.look(ctx, body) }}
}

func (h *HTTP) look(ctx context.Context, body *regexp.Regexp) (string, error) {
	var stage atomic.Value // what the request waits for; the transport tells from goroutines of its own
	stage.Store("connecting")
	req, err := h.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeStart:    func() { stage.Store("in the TLS handshake") },
		WroteRequest:         func(httptrace.WroteRequestInfo) { stage.Store("waiting for the answer") },
		GotFirstResponseByte: func() { stage.Store("reading the answer") },
	}))
	if err != nil {
		return "", err
	}
	conf, err := h.TLS.config(h.Host)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return connect(ctx, network, address, h.Bind)
		},
		TLSClientConfig:        conf,
		ForceAttemptHTTP2:      true, // where the server picks it
		DisableKeepAlives:      true,
		DisableCompression:     true, // the pattern is for what the server means
		MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return "", because(ctx, err, stage.Load())
	}
	defer resp.Body.Close()
	found := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if !h.right(resp.StatusCode) {
		return "", fmt.Errorf("%s, want %s", found, h.wanted())
	}
	if body == nil {
		return found, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return "", because(ctx, err, "reading the body")
	}
	if !body.Match(text) {
		return "", fmt.Errorf("%s, and no match of %q in the %d bytes of the body, %q", found, body, len(text), text[:min(len(text), shownBody)])
	}
	return found, nil
}

// because is what an operator has to know of err: the URL is in the log anyway, and that time was up is said elsewhere.
func because(ctx context.Context, err error, stage any) error {
	if timed, ok := errors.AsType[net.Error](err); ctx.Err() != nil || ok && timed.Timeout() {
		return fmt.Errorf("while %v", stage)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

func (h *HTTP) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, h.method(), h.URL, nil)
	if err != nil {
		return nil, err
	}
	req.Host = h.Host
	req.Header.Set("User-Agent", "exazk")
	for name, value := range h.Header {
		req.Header.Set(name, value)
	}
	return req, nil
}

func (h *HTTP) right(code int) bool {
	return slices.ContainsFunc(h.wanted(), func(s StatusRange) bool { return s.Low <= code && code <= s.High })
}

func (h *HTTP) wanted() []StatusRange {
	if len(h.Status) == 0 {
		return []StatusRange{{200, 299}}
	}
	return h.Status
}

func (t *TLS) validate(f *faults) {
	switch {
	case t.CertFile == "" && t.KeyFile != "":
		f.add("tls_cert", "missing; remedy: name the file of the certificate for tls_key")
	case t.CertFile != "" && t.KeyFile == "":
		f.add("tls_key", "missing; remedy: name the file of the key for tls_cert; it may be the same file")
	}
	if t.SkipVerify && t.CAFile != "" {
		f.add("tls_ca", "it is not used with tls_skip_verify; remedy: remove one of the two")
	}
}

// config is for a request with this Host header, which may be empty.
func (t *TLS) config(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.SkipVerify}
	if c.ServerName == "" && host != "" {
		c.ServerName = host
		if name, _, err := net.SplitHostPort(host); err == nil {
			c.ServerName = name
		}
	}
	var err error
	if c.RootCAs, err = t.authorities(); err != nil {
		return nil, err
	}
	c.Certificates, err = t.certificates()
	return c, err
}

// authorities is nil for those of the system.
func (t *TLS) authorities() (*x509.CertPool, error) {
	if t.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", t.CAFile)
	}
	return pool, nil
}

func (t *TLS) certificates() ([]tls.Certificate, error) {
	if t.CertFile == "" || t.KeyFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	return []tls.Certificate{pair}, nil
}
