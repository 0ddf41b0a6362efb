package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// udpSize is the largest answer asked for over UDP: it fits any path without fragments (DNS flag day 2020).
const udpSize = 1232

// DNS passes when a server answers a question with the right code and data. It asks once: a datagram that is lost is a
// failure, and rise and fall are there for those. An answer over UDP that is truncated is asked for again over TCP.
type DNS struct {
	Server    string     // "host:port"
	Name      string     // what is asked for; a final dot is not needed
	Type      string     // "A", "AAAA", "SOA", …
	Expect    []string   // each must be among the answers: an address, a name, a text, or the data as dig prints it; empty: any answer
	Transport string     // "udp", or empty for it, or "tcp"
	Rcode     string     // what the server must say, "NOERROR" if empty
	Bind      netip.Addr // the source address; the zero Addr leaves it to the kernel
}

func (d *DNS) String() string { return fmt.Sprintf("dns %s %s @%s", d.Name, d.Type, d.Server) }

// Validate implements Probe.
func (d *DNS) Validate() error {
	var f faults
	host := f.address("server", d.Server, "127.0.0.1:53")
	f.source(d.Bind, host)
	f.text("name", d.Name)
	if _, ok := dns.IsDomainName(d.Name); !ok || d.Name == "" {
		f.add("name", "%q is no domain name; remedy: write one that the server knows, such as \"example.org\"", d.Name)
	}
	switch qtype, ok := dns.StringToType[d.Type]; {
	case !ok:
		f.add("type", "%q is no type of record; remedy: write one in capital letters, such as \"A\", \"AAAA\" or \"SOA\"", d.Type)
	case qtype >= dns.TypeTKEY && qtype <= dns.TypeMAILA || qtype == dns.TypeOPT || qtype == dns.TypeNone || qtype == dns.TypeANY || qtype == dns.TypeReserved:
		f.add("type", "%s is no data of a name; remedy: ask for a record, such as \"SOA\"", d.Type) // RFC 6895 section 3.1
	}
	if d.Transport != "" && d.Transport != "udp" && d.Transport != "tcp" {
		f.add("transport", "%q is unknown; remedy: write \"udp\" or \"tcp\"", d.Transport)
	}
	if _, ok := dns.StringToRcode[d.rcode()]; !ok {
		f.add("rcode", "%q is unknown; remedy: write a code in capital letters, such as \"NOERROR\", \"NXDOMAIN\" or \"REFUSED\"", d.Rcode)
	} else if d.rcode() != "NOERROR" && len(d.Expect) > 0 {
		f.add("expect", "there are no answers with rcode = %q; remedy: leave one of the two out", d.Rcode)
	}
	if slices.Contains(d.Expect, "") {
		f.add("expect", "an empty answer; remedy: remove it; an empty list takes any answer")
	}
	return f.err()
}

func (d *DNS) rcode() string {
	if d.Rcode == "" {
		return "NOERROR"
	}
	return d.Rcode
}

func (d *DNS) prepare(o options) runner { return &looker{options: o, look: d.look} }

func (d *DNS) look(ctx context.Context) (string, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(d.Name), dns.StringToType[d.Type])
	q.SetEdns0(udpSize, false)
	network := d.Transport
	if network == "" {
		network = "udp"
	}
	answer, err := d.ask(ctx, network, q)
	if err == nil && answer.Truncated && network == "udp" {
		answer, err = d.ask(ctx, "tcp", q) // RFC 7766 section 5
	}
	if err != nil {
		return "", err
	}
	return d.judge(q, answer)
}

// ask sends q and waits for its answer. What else comes in over UDP is late, or not from the server.
func (d *DNS) ask(ctx context.Context, network string, q *dns.Msg) (*dns.Msg, error) {
	conn, err := connect(ctx, network, d.Server, d.Bind)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := dns.Conn{Conn: conn, UDPSize: udpSize}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		a, err := c.ReadMsg()
		switch {
		case a == nil: // the connection failed; otherwise an error is about what came
			return nil, err
		case a.Response && a.Id == q.Id && err != nil:
			return nil, fmt.Errorf("broken answer: %w", err)
		case a.Response && a.Id == q.Id && answers(a, q):
			return a, nil
		case network == "tcp":
			return nil, errors.New("the answer is to another question")
		}
	}
}

// answers compares as is right for servers that keep the case, and for those that do not (RFC 4343). Who refuses may leave
// the question out.
func answers(a, q *dns.Msg) bool {
	if len(a.Question) == 0 {
		return a.Rcode != dns.RcodeSuccess
	}
	return slices.EqualFunc(a.Question, q.Question, func(a, b dns.Question) bool {
		return strings.EqualFold(a.Name, b.Name) && a.Qtype == b.Qtype && a.Qclass == b.Qclass
	})
}

// judge says whether the answer a to q is the right one.
func (d *DNS) judge(q, a *dns.Msg) (string, error) {
	code := dns.RcodeToString[a.Rcode]
	if a.Rcode != dns.StringToRcode[d.rcode()] {
		return "", fmt.Errorf("%s, want %s", code, d.rcode())
	}
	var got []string
	for _, rr := range a.Answer { // without the aliases that led there
		if rr.Header().Rrtype == q.Question[0].Qtype {
			got = append(got, data(rr))
		}
	}
	switch {
	case a.Rcode != dns.RcodeSuccess:
		return code, nil
	case len(got) == 0:
		return "", fmt.Errorf("%s without a record of type %s", code, d.Type)
	}
	for _, want := range d.Expect {
		if !slices.ContainsFunc(got, func(s string) bool { return sameData(s, want) }) {
			return "", fmt.Errorf("want %s among the answers, got %s", want, strings.Join(got, ", "))
		}
	}
	return strings.Join(got, ", "), nil
}

// data is a record's data as dig prints it, a TXT record's as one text.
func data(rr dns.RR) string {
	if txt, ok := rr.(*dns.TXT); ok {
		return strings.Join(txt.Txt, "")
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// sameData compares addresses by value, and the rest without regard to case and to a final dot.
func sameData(got, want string) bool {
	if a, err := netip.ParseAddr(got); err == nil {
		b, err := netip.ParseAddr(want)
		return err == nil && a == b
	}
	return strings.EqualFold(strings.TrimSuffix(got, "."), strings.TrimSuffix(want, "."))
}
