package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"exazk/health"
)

// Check is one local check of a service: exactly one of Command, Args, HTTP, TCP, DNS, File and Systemd is set.
type Check struct {
	Name    string   // unique within the service; in the log and in the status record
	Command string   // run by /bin/sh -c
	Args    []string // run without a shell
	HTTP    *health.HTTP
	TCP     *health.TCP
	DNS     *health.DNS
	File    *health.File
	Systemd *health.Systemd

	Interval     time.Duration
	FastInterval time.Duration // while a change of state is pending
	Timeout      time.Duration
	Rise, Fall   int           // results in a row
	Jitter       time.Duration // the first run begins after a random part of it
}

type rawCheck struct {
	Name         textValue     `toml:"name"`
	Command      anyValue      `toml:"command"` // a string for sh, or a list without a shell
	HTTP         *rawHTTP      `toml:"http"`
	TCP          *rawTCP       `toml:"tcp"`
	DNS          *rawDNS       `toml:"dns"`
	File         *rawFile      `toml:"file"`
	Systemd      *rawSystemd   `toml:"systemd"`
	Interval     durationValue `toml:"interval"`
	FastInterval durationValue `toml:"fast_interval"`
	Timeout      durationValue `toml:"timeout"`
	Rise         numberValue   `toml:"rise"`
	Fall         numberValue   `toml:"fall"`
	Jitter       durationValue `toml:"jitter"`
}

type rawHTTP struct {
	URL           textValue            `toml:"url"`
	Method        textValue            `toml:"method"`
	Status        anyValue             `toml:"status"` // 200, or "200-299,301"
	Body          textValue            `toml:"body"`
	Host          textValue            `toml:"host"`
	Headers       map[string]textValue `toml:"headers"`
	Bind          textValue            `toml:"bind"`
	TLSServerName textValue            `toml:"tls_server_name"`
	TLSCA         textValue            `toml:"tls_ca"`
	TLSCert       textValue            `toml:"tls_cert"`
	TLSKey        textValue            `toml:"tls_key"`
	TLSSkipVerify boolValue            `toml:"tls_skip_verify"`
}

type rawTCP struct {
	Address textValue `toml:"address"`
	Bind    textValue `toml:"bind"`
	Send    textValue `toml:"send"`
	Expect  textValue `toml:"expect"`
}

type rawDNS struct {
	Server    textValue `toml:"server"`
	Name      textValue `toml:"name"`
	Type      textValue `toml:"type"`
	Expect    listValue `toml:"expect"`
	Transport textValue `toml:"transport"`
	Rcode     textValue `toml:"rcode"`
	Bind      textValue `toml:"bind"`
}

type rawFile struct {
	Path  textValue `toml:"path"`
	State textValue `toml:"state"`
}

type rawSystemd struct {
	Unit textValue `toml:"unit"`
}

// decodeChecks reads [service.check], or each [[service.check]].
func (r *rawService) decodeChecks(meta *toml.MetaData) error {
	if r.listed = meta.PrimitiveDecode(r.Check, &r.checks) == nil; r.listed {
		return nil
	}
	r.checks = make([]rawCheck, 1)
	return meta.PrimitiveDecode(r.Check, &r.checks[0])
}

func (r *rawCheck) fillDefaults() {
	orDuration(&r.Interval, time.Second)
	fast := 200 * time.Millisecond
	if r.Interval.V > 0 { // else it is a fault, and the only one
		fast = min(fast, r.Interval.V)
	}
	orDuration(&r.FastInterval, fast)
	orDuration(&r.Timeout, time.Second)
	orNumber(&r.Rise, 3)
	orNumber(&r.Fall, 2)
}

// allChecks are the checks of a service and how many of them must pass.
func (r *rawService) allChecks(f *faults, key string, grace time.Duration) (checks []Check, require int) {
	key += ".check"
	if len(r.checks) == 0 {
		f.add(key+".command", noCheck)
		return nil, 0
	}
	at := map[string]string{}
	for i := range r.checks {
		ckey := key
		if r.listed {
			ckey = fmt.Sprintf("%s[%d]", key, i)
		}
		c := r.checks[i].resolve(f, ckey)
		if first, twice := at[c.Name]; twice {
			f.add(ckey+".name", "%q is there twice, first at %s; remedy: give each check a name of its own", c.Name, f.place(first))
		}
		at[c.Name] = ckey
		checks = append(checks, c)
		if need := c.Jitter + time.Duration(c.Rise)*(c.Timeout+c.FastInterval); need > grace {
			how := "rise × (timeout + fast_interval)"
			if c.Jitter > 0 {
				how = "jitter + " + how
			}
			f.add(strings.TrimSuffix(key, ".check")+".start_grace", "%v is shorter than a check may take to its first verdict (%s = %v), so every restart would withdraw; remedy: write a longer one", grace, how, need)
		}
	}
	return checks, f.require(strings.TrimSuffix(key, ".check")+".check_require", r.CheckRequire, len(checks))
}

func (f *faults) require(key string, v anyValue, checks int) int {
	switch in := v.V.(type) {
	case nil:
		return checks
	case int64:
		if in < 1 || in > int64(checks) {
			f.add(key, "%d of %d checks cannot be; remedy: write 1 to %d, \"all\" or \"any\"", in, checks, checks)
		}
		return int(in)
	case string:
		if in == "any" {
			return 1
		} else if in == "all" {
			return checks
		}
	}
	f.add(key, "%v is not known; remedy: write \"all\", \"any\", or how many must pass", quoted(v.V))
	return checks
}

const noCheck = "no check; remedy: give a command that exits 0 while the service works, or \"true\" to announce without one"

func (r *rawCheck) resolve(f *faults, key string) Check {
	c := Check{
		Interval:     f.duration(key+".interval", r.Interval, 10*time.Millisecond, time.Hour),
		FastInterval: f.duration(key+".fast_interval", r.FastInterval, 10*time.Millisecond, time.Hour),
		Timeout:      f.duration(key+".timeout", r.Timeout, 10*time.Millisecond, time.Hour),
		Rise:         int(f.number(key+".rise", r.Rise, 1, 1000)),
		Fall:         int(f.number(key+".fall", r.Fall, 1, 1000)),
		Jitter:       f.duration(key+".jitter", r.Jitter, 0, time.Hour),
	}
	if c.FastInterval > c.Interval && c.Interval > 0 {
		f.add(key+".fast_interval", "%v is slower than interval = %v; remedy: make it the shorter one", c.FastInterval, c.Interval)
	}
	c.Name = r.kind(f, key, &c)
	if r.Name.Set {
		c.Name = f.name(key+".name", r.Name, "a name for the check")
	}
	return c
}

// kind reads what the check does, and gives its kind's name.
func (r *rawCheck) kind(f *faults, key string, c *Check) string {
	var kinds []string
	for _, k := range []struct {
		name  string
		given bool
		read  func(f *faults, key string, c *Check)
	}{
		{"command", r.Command.Set, r.command},
		{"http", r.HTTP != nil, r.http},
		{"tcp", r.TCP != nil, r.tcp},
		{"dns", r.DNS != nil, r.dns},
		{"file", r.File != nil, r.file},
		{"systemd", r.Systemd != nil, r.systemd},
	} {
		if k.given {
			at := key
			if k.name != "command" { // which has no table of its own
				at = join(key, k.name)
			}
			k.read(f, at, c)
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) == 0:
		f.add(key+".command", noCheck)
		return ""
	case len(kinds) > 1:
		f.add(key+"."+kinds[1], "the check has %s already; remedy: write [[service.check]] for each", kinds[0])
	}
	return kinds[0]
}

func (r *rawCheck) command(f *faults, key string, c *Check) {
	words, bad := textOrList(r.Command.V)
	if bad != "" {
		f.add(key+".command", "%s", bad)
		return
	}
	if _, line := r.Command.V.(string); line {
		c.Command = words[0]
	} else {
		c.Args = words
	}
	f.probe(key, c.Probe().Validate())
}

// Probe is what the check does, in the words of package health.
func (c *Check) Probe() health.Probe {
	switch {
	case c.HTTP != nil:
		return c.HTTP
	case c.TCP != nil:
		return c.TCP
	case c.DNS != nil:
		return c.DNS
	case c.File != nil:
		return c.File
	case c.Systemd != nil:
		return c.Systemd
	}
	return &health.Command{Line: c.Command, Args: c.Args}
}

const (
	fileExists = "exists"
	fileAbsent = "absent"
)

func (r *rawCheck) http(f *faults, key string, c *Check) {
	h := r.HTTP
	orText(&h.Method, "GET")
	c.HTTP = &health.HTTP{
		URL: f.text(key+".url", h.URL), Method: f.text(key+".method", h.Method), Status: f.status(key+".status", h.Status),
		Body: f.text(key+".body", h.Body), Host: f.text(key+".host", h.Host), Bind: f.bind(key+".bind", h.Bind),
		TLS: health.TLS{
			ServerName: f.text(key+".tls_server_name", h.TLSServerName), CAFile: f.text(key+".tls_ca", h.TLSCA),
			CertFile: f.text(key+".tls_cert", h.TLSCert), KeyFile: f.text(key+".tls_key", h.TLSKey), SkipVerify: f.boolean(key+".tls_skip_verify", h.TLSSkipVerify),
		},
	}
	for name, v := range h.Headers {
		if c.HTTP.Header == nil {
			c.HTTP.Header = map[string]string{}
		}
		c.HTTP.Header[name] = f.text(key+".headers."+name, v)
	}
	f.probe(key, c.HTTP.Validate())
	if f.files {
		f.probe(key, c.HTTP.ValidateFiles())
	}
}

func (r *rawCheck) tcp(f *faults, key string, c *Check) {
	t := r.TCP
	c.TCP = &health.TCP{Address: f.text(key+".address", t.Address), Bind: f.bind(key+".bind", t.Bind), Send: f.text(key+".send", t.Send), Expect: f.text(key+".expect", t.Expect)}
	f.probe(key, c.TCP.Validate())
}

func (r *rawCheck) dns(f *faults, key string, c *Check) {
	d := r.DNS
	orText(&d.Type, "A")
	orText(&d.Transport, "udp")
	orText(&d.Rcode, "NOERROR")
	if d.Expect.Err != "" {
		f.add(key+".expect", "%s", d.Expect.Err)
	}
	c.DNS = &health.DNS{
		Server: f.text(key+".server", d.Server), Name: f.text(key+".name", d.Name), Type: f.text(key+".type", d.Type), Expect: d.Expect.V,
		Transport: f.text(key+".transport", d.Transport), Rcode: f.text(key+".rcode", d.Rcode), Bind: f.bind(key+".bind", d.Bind),
	}
	f.probe(key, c.DNS.Validate())
}

func (r *rawCheck) file(f *faults, key string, c *Check) {
	orText(&r.File.State, fileExists)
	c.File = &health.File{Path: f.text(key+".path", r.File.Path), Absent: f.oneOf(key+".state", r.File.State, []string{fileExists, fileAbsent}) == fileAbsent}
	f.probe(key, c.File.Validate())
}

func (r *rawCheck) systemd(f *faults, key string, c *Check) {
	c.Systemd = &health.Systemd{Unit: f.text(key+".unit", r.Systemd.Unit)}
	f.probe(key, c.Systemd.Validate())
}

// probe reports what package health finds wrong, each at its key, unless that is reported already.
func (f *faults) probe(key string, wrong error) {
	before := len(f.list)
	for _, fault := range health.Faults(wrong) {
		at := key + "." + fault.Field
		if !slices.ContainsFunc(f.list[:before], func(e error) bool { return strings.HasPrefix(e.Error(), f.place(at)+": ") }) {
			f.add(at, "%s", fault.Text)
		}
	}
}

func (f *faults) text(key string, v textValue) string {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
	}
	return v.V
}

func (f *faults) bind(key string, v textValue) netip.Addr {
	if text := f.text(key, v); text != "" {
		a, err := netip.ParseAddr(text)
		if err == nil {
			return a
		}
		f.add(key, "%q is not an address; remedy: write the VIP or another address of this node, or leave bind out", text)
	}
	return netip.Addr{}
}

func (f *faults) status(key string, v anyValue) []health.StatusRange {
	text := "200-299"
	switch in := v.V.(type) {
	case nil:
	case int64:
		text = fmt.Sprint(in)
	case string:
		text = in
	default:
		f.add(key, "%v is not a status; remedy: write 200, or a string such as \"200-299,301\"", quoted(in))
	}
	ranges, err := health.ParseStatus(text)
	f.addAll(key, err)
	return ranges
}
