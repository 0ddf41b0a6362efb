package daemon

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"exazk/health"
)

// Render writes the effective configuration as TOML, every key with the value in force.
func (c *Config) Render() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node = %q\n\n", c.Node)
	fmt.Fprintf(&b, "[log]\nlevel = %q\nformat = %q\nsyslog = %v\nsyslog_facility = %q\n\n", c.Log.Level, c.Log.Format, c.Log.Syslog, c.Log.SyslogFacility)
	fmt.Fprintf(&b, "[zookeeper]\nhosts = %s\nsession_timeout = %q\n\n", tomlList(c.ZooKeeper.Hosts), c.ZooKeeper.SessionTimeout)
	tracking := "auto"
	if !c.ExaBGP.TrackNeighbors {
		tracking = "off"
	}
	fmt.Fprintf(&b, "[exabgp]\nneighbor_tracking = %q\nhold_time = %q\ndialect = %q\nneighbors = %s\ndrift_check = %q\n", tracking, c.ExaBGP.HoldTime, c.ExaBGP.Dialect, tomlList(texts(c.ExaBGP.Neighbors)), c.ExaBGP.DriftCheck)
	if c.ExaBGP.LocalAS > 0 {
		fmt.Fprintf(&b, "local_as = %d\n", c.ExaBGP.LocalAS)
	}
	listen := make([]string, len(c.HTTP.Listen))
	for i, at := range c.HTTP.Listen {
		listen[i] = at.String()
	}
	fmt.Fprintf(&b, "\n[http]\nlisten = %s\n", tomlList(listen))
	for _, h := range c.Hooks {
		h.render(&b)
	}
	for i := range c.Services {
		c.Services[i].render(&b)
	}
	return b.String()
}

func (s *Service) render(b *strings.Builder) {
	fmt.Fprintf(b, "\n[[service]]\nname = %q\nauthoritative = %s\nbackup_for = %s\n", s.Name, tomlList(vipTexts(s.Authoritative)), tomlList(vipTexts(s.BackupFor)))
	fmt.Fprintf(b, "zk_path_service = %q\nzk_path_maintenance = %q\nzk_path_failback = %q\nzk_path_status = %q\nzk_path_history = %q\n", s.ClaimsPath, s.MaintenancePath, s.FailbackPath, s.StatusPath, s.HistoryPath)
	fmt.Fprintf(b, "backup = %q\nbackups = %q\nnodes = %s\n", s.Backup, s.Backups, tomlList(s.Nodes))
	fmt.Fprintf(b, "on_zk_loss = %q\nzk_loss_after = %q\noverlap = %q\ndrain_timeout = %q\nstart_grace = %q\n", s.OnZKLoss, s.ZKLossAfter, s.Overlap, s.DrainTimeout, s.StartGrace)
	fmt.Fprintf(b, "drain_style = %q\nfailback = %q\nfailback_delay = %q\nflap_hold = %q\nlast_resort = %v\n", s.DrainStyle, s.Failback, s.FailbackDelay, s.FlapHold, s.LastResort)
	var neighbors []netip.Addr
	for _, n := range s.Neighbors {
		neighbors = append(neighbors, n.Address)
	}
	fmt.Fprintf(b, "min_neighbors = %d\nneighbors = %s\ncheck_require = %s\n", s.MinNeighbors, tomlList(texts(neighbors)), requireText(s.Require, len(s.Checks)))
	s.renderOrder(b)
	fmt.Fprintf(b, "[service.loopback]\nmanage = %v\ndevice = %q\ngrace = %q\n", s.Loopback.Manage, s.Loopback.Device, s.Loopback.Grace)
	for i := range s.Checks {
		table := "[service.check]"
		if len(s.Checks) > 1 {
			table = "[[service.check]]"
		}
		s.Checks[i].render(b, table)
	}
	renderAnnounce(b, "service.announce", &s.Announce, s.Backup == BackupStandby)
	for _, n := range s.Neighbors {
		if n.Announce != s.Announce {
			fmt.Fprintf(b, "[[service.neighbor]]\naddress = %q\n", n.Address)
			renderAnnounce(b, "service.neighbor.announce", &n.Announce, s.Backup == BackupStandby)
		}
	}
}

// renderOrder writes every VIP's order, those made of a hash as well: it is what an operator asks for.
func (s *Service) renderOrder(b *strings.Builder) {
	if len(s.Order) == 0 {
		return
	}
	b.WriteString("[service.owners]\n")
	for _, vip := range slices.SortedFunc(maps.Keys(s.Owners), comparePrefixes) {
		fmt.Fprintf(b, "%q = %q\n", vipText(vip), s.Owners[vip])
	}
	b.WriteString("[service.ranks]\n")
	for _, vip := range slices.SortedFunc(maps.Keys(s.Order), comparePrefixes) {
		fmt.Fprintf(b, "%q = %s\n", vipText(vip), tomlList(s.Order[vip]))
	}
}

func requireText(n, of int) string {
	switch n {
	case of:
		return `"all"`
	case 1:
		return `"any"`
	}
	return fmt.Sprint(n)
}

func (c *Check) render(b *strings.Builder, table string) {
	fmt.Fprintf(b, "%s\nname = %q\ninterval = %q\nfast_interval = %q\ntimeout = %q\nrise = %d\nfall = %d\njitter = %q\n", table, c.Name, c.Interval, c.FastInterval, c.Timeout, c.Rise, c.Fall, c.Jitter)
	switch {
	case c.Args != nil:
		fmt.Fprintf(b, "command = %s\n", tomlList(c.Args))
	case c.HTTP != nil:
		renderHTTP(b, c.HTTP)
	case c.TCP != nil:
		fmt.Fprintf(b, "[service.check.tcp]\naddress = %s\nsend = %s\nexpect = %s\n%s", tomlString(c.TCP.Address), tomlString(c.TCP.Send), tomlString(c.TCP.Expect), bindText(c.TCP.Bind))
	case c.DNS != nil:
		d := c.DNS
		fmt.Fprintf(b, "[service.check.dns]\nserver = %s\nname = %s\ntype = %q\nexpect = %s\ntransport = %q\nrcode = %q\n%s", tomlString(d.Server), tomlString(d.Name), d.Type, tomlList(d.Expect), d.Transport, d.Rcode, bindText(d.Bind))
	case c.File != nil:
		state := fileExists
		if c.File.Absent {
			state = fileAbsent
		}
		fmt.Fprintf(b, "[service.check.file]\npath = %s\nstate = %q\n", tomlString(c.File.Path), state)
	case c.Systemd != nil:
		fmt.Fprintf(b, "[service.check.systemd]\nunit = %s\n", tomlString(c.Systemd.Unit))
	default:
		fmt.Fprintf(b, "command = %s\n", tomlString(c.Command))
	}
}

func renderHTTP(b *strings.Builder, h *health.HTTP) {
	status := make([]string, len(h.Status))
	for i, s := range h.Status {
		status[i] = s.String()
	}
	fmt.Fprintf(b, "[service.check.http]\nurl = %s\nmethod = %q\nstatus = %q\nbody = %s\nhost = %s\n%s", tomlString(h.URL), h.Method, strings.Join(status, ","), tomlString(h.Body), tomlString(h.Host), bindText(h.Bind))
	t := h.TLS
	fmt.Fprintf(b, "tls_server_name = %s\ntls_ca = %s\ntls_cert = %s\ntls_key = %s\ntls_skip_verify = %v\n", tomlString(t.ServerName), tomlString(t.CAFile), tomlString(t.CertFile), tomlString(t.KeyFile), t.SkipVerify)
	if len(h.Header) > 0 {
		b.WriteString("[service.check.http.headers]\n")
		for _, name := range slices.Sorted(maps.Keys(h.Header)) {
			fmt.Fprintf(b, "%s = %s\n", tomlString(name), tomlString(h.Header[name]))
		}
	}
}

// bindText is empty where the kernel picks the address: there is no word for that.
func bindText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return fmt.Sprintf("bind = %q\n", a)
}

func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func vipTexts(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = vipText(p)
	}
	return out
}

// vipText writes a host route without its mask, as people write VIPs.
func vipText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func tomlList(items []string) string {
	q := make([]string, len(items))
	for i, s := range items {
		q[i] = tomlString(s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// tomlString quotes any text, a command above all, the way TOML reads it; Go's %q has escapes that TOML lacks.
func tomlString(s string) string {
	b, err := toml.Marshal(map[string]string{"v": s})
	if err != nil {
		panic("bug: a string that TOML cannot hold: " + err.Error())
	}
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(string(b)), "v ="))
}
