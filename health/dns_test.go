package health

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer answers over UDP and TCP on one port, by name.
func nameServer(t testing.TB, sources chan<- string) (address string) {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if sources != nil {
			host, _, _ := net.SplitHostPort(w.RemoteAddr().String())
			sources <- w.RemoteAddr().Network() + " " + host
		}
		a := new(dns.Msg).SetReply(q)
		udp := w.RemoteAddr().Network() == "udp"
		add := func(records ...string) {
			for _, text := range records {
				rr, err := dns.NewRR(text)
				if err != nil {
					t.Error(err)
				}
				a.Answer = append(a.Answer, rr)
			}
		}
		switch strings.ToLower(q.Question[0].Name) {
		case "www.example.org.":
			switch q.Question[0].Qtype {
			case dns.TypeA:
				add("www.example.org. CNAME web.example.net.", "web.example.net. A 192.0.2.1", "web.example.net. A 192.0.2.2")
			case dns.TypeAAAA:
				add("www.example.org. AAAA 2001:db8::1")
			case dns.TypeCNAME:
				add("www.example.org. CNAME Web.Example.net.")
			case dns.TypeTXT:
				add(`www.example.org. TXT "v=1; " "All good"`)
			case dns.TypeMX:
				add("www.example.org. MX 10 mail.example.org.")
			}
		case "shouting.example.org.":
			a.Question[0].Name = "SHOUTING.example.ORG."
			add("shouting.example.org. A 192.0.2.1")
		case "gone.example.org.":
			a.Rcode = dns.RcodeNameError
		case "broken.example.org.":
			a.Rcode = dns.RcodeServerFailure
		case "refused.example.org.":
			a.Rcode, a.Question = dns.RcodeRefused, nil
		case "long.example.org.":
			if a.Truncated = udp; !udp {
				add("long.example.org. A 192.0.2.1")
			}
		case "late.example.org.":
			other := a.Copy()
			other.Id++
			other.Rcode = dns.RcodeNameError
			w.WriteMsg(other)
			add("late.example.org. A 192.0.2.1")
		case "other.example.org.":
			a.Question[0].Name = "wrong.example.org."
		case "garbage.example.org.":
			text, _ := a.Pack()
			w.Write(append(text[:4], "\x00\x01\xff\xff\xff\xff\xff\xffgarbage"...))
			return
		case "short.example.org.":
			w.Write([]byte("short"))
			return
		case "hangs.example.org.":
			return
		}
		w.WriteMsg(a)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Skipf("needs one port for UDP and TCP: %v", err)
	}
	for _, s := range []*dns.Server{{Listener: l, Handler: handler}, {PacketConn: p, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(ended)
			if err := s.ActivateAndServe(); err != nil {
				t.Error(err)
			}
		}()
		<-started
		t.Cleanup(func() { s.Shutdown(); <-ended })
	}
	return l.Addr().String()
}

func TestDNS(t *testing.T) {
	leaksNothing(t)
	server := nameServer(t, nil)
	hangup := serve(t, func(c net.Conn) { c.Read(make([]byte, 1)) }, false)
	mute := silent(t)
	tests := []struct {
		name      string
		probe     DNS
		how, says string
	}{
		{"any answer", DNS{Name: "www.example.org", Type: "A"}, "pass", "192.0.2.1, 192.0.2.2"},
		{"over TCP", DNS{Name: "www.example.org.", Type: "A", Transport: "tcp"}, "pass", "192.0.2.1, 192.0.2.2"},
		{"each that is expected", DNS{Name: "www.example.org", Type: "A", Expect: []string{"192.0.2.2", "192.0.2.1"}}, "pass", "192.0.2.1"},
		{"an address in other words", DNS{Name: "www.example.org", Type: "AAAA", Expect: []string{"2001:DB8:0::1"}}, "pass", "2001:db8::1"},
		{"a name in other words", DNS{Name: "www.example.org", Type: "CNAME", Expect: []string{"web.example.NET"}}, "pass", "Web.Example.net."},
		{"a text in pieces", DNS{Name: "www.example.org", Type: "TXT", Expect: []string{"v=1; All good"}}, "pass", "v=1; All good"},
		{"as dig prints it", DNS{Name: "www.example.org", Type: "MX", Expect: []string{"10 mail.example.org."}}, "pass", "10 mail"},
		{"a wanted code", DNS{Name: "gone.example.org", Type: "A", Rcode: "NXDOMAIN"}, "pass", "NXDOMAIN"},
		{"a wanted refusal, without the question", DNS{Name: "refused.example.org", Type: "A", Rcode: "REFUSED"}, "pass", "REFUSED"},
		{"truncated", DNS{Name: "long.example.org", Type: "A"}, "pass", "192.0.2.1"},
		{"after an answer to somebody else", DNS{Name: "late.example.org", Type: "A"}, "pass", "192.0.2.1"},
		{"the question in capitals", DNS{Name: "shouting.example.org", Type: "A"}, "pass", "192.0.2.1"},

		{"one answer is missing", DNS{Name: "www.example.org", Type: "A", Expect: []string{"192.0.2.1", "192.0.2.3"}}, "fail", "want 192.0.2.3 among the answers, got 192.0.2.1, 192.0.2.2"},
		{"no address is expected", DNS{Name: "www.example.org", Type: "A", Expect: []string{"web"}}, "fail", "want web among"},
		{"an alias is no answer", DNS{Name: "www.example.org", Type: "A", Expect: []string{"web.example.net"}}, "fail", "want web.example.net among"},
		{"no record of that type", DNS{Name: "www.example.org", Type: "SRV"}, "fail", "NOERROR without a record of type SRV"},
		{"no such name", DNS{Name: "gone.example.org", Type: "A"}, "fail", "NXDOMAIN, want NOERROR"},
		{"a name that should not be there", DNS{Name: "www.example.org", Type: "A", Rcode: "NXDOMAIN"}, "fail", "NOERROR, want NXDOMAIN"},
		{"server failure", DNS{Name: "broken.example.org", Type: "A"}, "fail", "SERVFAIL, want NOERROR"},
		{"refused", DNS{Name: "refused.example.org", Type: "A"}, "fail", "REFUSED, want NOERROR"},
		{"garbage", DNS{Name: "garbage.example.org", Type: "A"}, "fail", "broken answer: "},
		{"garbage over TCP", DNS{Name: "garbage.example.org", Type: "A", Transport: "tcp"}, "fail", "broken answer: "},
		{"too short", DNS{Name: "short.example.org", Type: "A"}, "fail", "short read"},
		{"to another question", DNS{Name: "other.example.org", Type: "A", Transport: "tcp"}, "fail", "to another question"},
		{"nobody there", DNS{Server: closed(t), Name: "x", Type: "A"}, "fail", "connection refused"},
		{"nobody there over TCP", DNS{Server: closed(t), Name: "x", Type: "A", Transport: "tcp"}, "fail", "connection refused"},
		{"hangs up", DNS{Server: hangup, Name: "x", Type: "A", Transport: "tcp"}, "fail", ""},
		{"no such server", DNS{Server: "a..b:53", Name: "x", Type: "A"}, "fail", "no such host"},

		{"no answer", DNS{Name: "hangs.example.org", Type: "A"}, "timeout", "i/o timeout"},
		{"no answer over TCP", DNS{Name: "hangs.example.org", Type: "A", Transport: "tcp"}, "timeout", "i/o timeout"},
		{"accepts and says nothing", DNS{Server: mute, Name: "x", Type: "A", Transport: "tcp"}, "timeout", "i/o timeout"},
		{"only to another question", DNS{Name: "other.example.org", Type: "A"}, "timeout", "i/o timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.probe.Server == "" {
				tt.probe.Server = server
			}
			expect(t, &tt.probe, tt.how, tt.says)
		})
	}
}

func TestDNSAsksFromBind(t *testing.T) {
	leaksNothing(t)
	sources := make(chan string, 10)
	server := nameServer(t, sources)
	expect(t, &DNS{Server: server, Name: "www.example.org", Type: "A", Bind: local2}, "pass", "")
	expect(t, &DNS{Server: server, Name: "www.example.org", Type: "A", Transport: "tcp", Bind: local2}, "pass", "")
	expect(t, &DNS{Server: server, Name: "www.example.org", Type: "A"}, "pass", "")
	for _, want := range []string{"udp 127.0.0.2", "tcp 127.0.0.2", "udp 127.0.0.1"} {
		if got := <-sources; got != want {
			t.Errorf("the server saw %s, want %s", got, want)
		}
	}
}

// What cannot be sent is a failure, too: Validate is not alone in guarding the packer.
func TestDNSThatWasNotValidated(t *testing.T) {
	leaksNothing(t)
	r := (&DNS{Server: nameServer(t, nil), Name: "a..b", Type: "A"}).prepare(options{timeout: 20 * time.Second}).run(t.Context(), Unknown)
	if r.OK || r.Output == "" {
		t.Errorf("%+v, want a failure that says why", r)
	}
}
