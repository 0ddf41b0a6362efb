package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"exazk/exabgp"
	"exazk/loopback"
	"exazk/zkstate"
)

// resolve checks everything and gives what the daemon works with. Its error joins all faults that were found.
func (r *rawConfig) resolve(f *faults) (*Config, error) {
	c := &Config{
		Log: LogConfig{
			Level:          f.oneOf("log.level", r.Log.Level, logLevels),
			Format:         f.oneOf("log.format", r.Log.Format, logFormats),
			Syslog:         f.boolean("log.syslog", r.Log.Syslog),
			SyslogFacility: f.oneOf("log.syslog_facility", r.Log.SyslogFacility, syslogFacilities),
			Silent:         r.silent,
		},
		ZooKeeper: ZooKeeperConfig{
			Hosts:          f.hosts("zookeeper.hosts", r.ZooKeeper.Hosts),
			SessionTimeout: f.duration("zookeeper.session_timeout", r.ZooKeeper.SessionTimeout, time.Second, 5*time.Minute),
		},
		ExaBGP: ExaBGPConfig{
			TrackNeighbors: f.oneOf("exabgp.neighbor_tracking", r.ExaBGP.NeighborTracking, []string{"auto", "off"}) == "auto",
			HoldTime:       f.duration("exabgp.hold_time", r.ExaBGP.HoldTime, 0, 65535*time.Second),
			Dialect:        f.dialect("exabgp.dialect", r.ExaBGP.Dialect),
			LocalAS:        f.as("exabgp.local_as", r.ExaBGP.LocalAS),
			Neighbors:      f.addresses("exabgp.neighbors", r.ExaBGP.Neighbors),
			DriftCheck:     f.duration("exabgp.drift_check", r.ExaBGP.DriftCheck, 0, time.Hour),
		},
		HTTP: HTTPConfig{Listen: f.listen("http.listen", r.HTTP.Listen)},
	}
	for i := range r.Hooks {
		c.Hooks = append(c.Hooks, r.Hooks[i].resolve(f, fmt.Sprintf("hook[%d]", i)))
	}
	c.Node = f.node("node", r.Node)
	if len(r.Services) == 0 {
		f.add("service", "no service; remedy: add a [[service]] table with a name, its VIPs and a check")
	}
	f.localAS = c.ExaBGP.LocalAS
	used := map[string]string{} // what may occur once only, and where it occurred
	for i := range r.Services {
		key := fmt.Sprintf("service[%d]", i)
		r.Services[i].fillDefaults()
		c.Services = append(c.Services, r.Services[i].resolve(f, key, c, used))
	}
	if h := c.ExaBGP.HoldTime; h > 0 && h < 3*time.Second {
		f.add("exabgp.hold_time", "%v is shorter than BGP allows; remedy: write the session's hold time, 3s at least, or 0s (RFC 4271 section 4.2)", h)
	}
	if d := c.ExaBGP.DriftCheck; d > 0 && d < time.Second {
		f.add("exabgp.drift_check", "%v is so short that ExaBGP would do little else; remedy: write 1s at least, or 0s for none", d)
	}
	if len(f.list) > 0 {
		return nil, errors.Join(f.list...)
	}
	return c, nil
}

func (r *rawService) resolve(f *faults, key string, c *Config, used map[string]string) Service {
	node := c.Node
	name := f.name(key+".name", r.Name, "a name for the service, such as \"apex\"")
	f.once(used, "service "+name, key+".name", "the service %q is there twice", name)
	s := Service{
		Name:            name,
		Authoritative:   f.vips(key+".authoritative", r.Authoritative, used),
		BackupFor:       f.vips(key+".backup_for", r.BackupFor, used),
		ClaimsPath:      f.znode(key+".zk_path_service", r.ZKPathService, "/exabgp/service/"+name),
		MaintenancePath: f.znode(key+".zk_path_maintenance", r.ZKPathMaintenance, "/exabgp/maintenance/"+name+"/"+node),
		FailbackPath:    f.znode(key+".zk_path_failback", r.ZKPathFailback, "/exabgp/failback/"+name+"/"+node),
		StatusPath:      f.znode(key+".zk_path_status", r.ZKPathStatus, "/exabgp/status/"+name+"/"+node),
		HistoryPath:     f.znode(key+".zk_path_history", r.ZKPathHistory, "/exabgp/history/"+name+"/"+node),
		OnZKLoss:        Policy(f.oneOf(key+".on_zk_loss", r.OnZKLoss, policies)),
		Overlap:         f.duration(key+".overlap", r.Overlap, 0, time.Minute),
		DrainTimeout:    f.duration(key+".drain_timeout", r.DrainTimeout, 0, 10*time.Minute),
		StartGrace:      f.duration(key+".start_grace", r.StartGrace, time.Second, 10*time.Minute),
		DrainStyle:      DrainStyle(f.oneOf(key+".drain_style", r.DrainStyle, drainStyles)),
		Failback:        Failback(f.oneOf(key+".failback", r.Failback, failbacks)),
		FailbackDelay:   f.duration(key+".failback_delay", r.FailbackDelay, 0, 24*time.Hour),
		FlapHold:        f.duration(key+".flap_hold", r.FlapHold, 0, time.Hour),
		LastResort:      f.boolean(key+".last_resort", r.LastResort),
		MinNeighbors:    int(f.number(key+".min_neighbors", r.MinNeighbors, 1, 1000)),
		Backup:          BackupMode(f.oneOf(key+".backup", r.Backup, backupModes)),
		Backups:         Backups(f.oneOf(key+".backups", r.Backups, backupsWords)),
		ZKLossAfter:     f.duration(key+".zk_loss_after", r.ZKLossAfter, 0, 24*time.Hour),
	}
	if !r.zooKeeperOnly && r.Authoritative.Err == "" && r.BackupFor.Err == "" && len(r.Authoritative.V)+len(r.BackupFor.V) == 0 {
		f.add(key+".authoritative", "no VIP; remedy: list this node's own in authoritative and the others' in backup_for")
	}
	s.Loopback = r.Loopback.resolve(f, key, &s)
	s.Checks, s.Require = r.allChecks(f, key, s.StartGrace)
	r.order(f, key, node, &s)
	given := r.Announce.settings(f, key+".announce")
	s.Announce = given.announcement(f, key+".announce", &s)
	s.Neighbors = r.neighbors(f, key, &s, given, c.ExaBGP.Neighbors)
	f.reachable(key, &s, c.ExaBGP.Neighbors)
	f.enough(key, &s, c)
	if s.StatusPath != "" && path.Base(s.StatusPath) != node {
		f.add(key+".zk_path_status", "%q does not end in the node's name %q, by which the others find the record; remedy: end it in /%s", s.StatusPath, node, node)
	}
	if s.HistoryPath != "" && path.Base(s.HistoryPath) != node {
		f.add(key+".zk_path_history", "%q does not end in the node's name %q, by which others find it; remedy: end it in /%s", s.HistoryPath, node, node)
	}
	f.distinctPaths(key, &s, used)
	return s
}

func (r *rawLoopback) resolve(f *faults, key string, s *Service) Loopback {
	l := Loopback{
		Manage: f.boolean(key+".loopback.manage", r.Manage), Device: f.text(key+".loopback.device", r.Device),
		Grace: f.duration(key+".loopback.grace", r.Grace, 0, time.Minute),
	}
	if err := loopback.Validate(l.Device); err != nil && r.Device.Err == "" {
		f.add(key+".loopback.device", "%w", err)
	}
	for _, vip := range slices.Concat(s.Authoritative, s.BackupFor) {
		if l.Manage && !vip.IsSingleIP() {
			f.add(key+".loopback.manage", "%s is no single address; remedy: add it to the host by hand, in a service of its own without manage", vip)
		}
	}
	return l
}

// enough reports a number of neighbors that cannot be reached.
func (f *faults) enough(key string, s *Service, c *Config) {
	there := len(s.Neighbors)
	if there == 0 {
		there = len(c.ExaBGP.Neighbors)
	}
	if there > 0 && s.MinNeighbors > there && c.ExaBGP.TrackNeighbors {
		f.add(key+".min_neighbors", "%d is more than the %d neighbors listed, so no VIP would ever be claimed; remedy: write %d at most", s.MinNeighbors, there, there)
	}
}

// as is the number of an autonomous system, 0 where it is not given.
func (f *faults) as(key string, v numberValue) uint32 {
	if !v.Set {
		return 0
	}
	as := uint32(f.number(key, v, 1, 1<<32-1))
	if err := exabgp.CheckASPath([]uint32{as}); err != nil && as > 0 {
		f.addAll(key, err)
		as = 1 // so that what is made of it is no further fault
	}
	return as
}

func (f *faults) dialect(key string, v textValue) exabgp.Dialect {
	d, _ := exabgp.ParseDialect(f.oneOf(key, v, exabgp.Dialects())) // what it does not know was reported
	return d
}

func (f *faults) boolean(key string, v boolValue) bool {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
	}
	return v.V
}

func (f *faults) duration(key string, v durationValue, low, high time.Duration) time.Duration {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
	} else if v.V < low || v.V > high {
		f.add(key, "%v is out of range; remedy: write %v to %v", v.V, low, high)
	}
	return v.V
}

func (f *faults) number(key string, v numberValue, low, high int64) int64 {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
	} else if v.V < low || v.V > high {
		f.add(key, "%d is out of range; remedy: write %d to %d", v.V, low, high)
		return low
	}
	return v.V
}

// once reports what may occur once only. Empty names were reported already.
func (f *faults) once(used map[string]string, what, key, format string, args ...any) {
	if strings.HasSuffix(what, " ") {
		return
	}
	if first, twice := used[what]; twice {
		f.add(key, format+", first at %s; remedy: keep one of the two", append(args, f.place(first))...)
		return
	}
	used[what] = key
}

// name checks the name of a service or node: it becomes one element of a path in ZooKeeper and a word in logs.
func (f *faults) name(key string, v textValue, remedy string) string {
	switch {
	case v.Err != "":
		f.add(key, "%s", v.Err)
	case v.V == "":
		f.add(key, "missing; remedy: give %s", remedy)
	case !plainName(v.V):
		f.add(key, "%q is not a usable name; remedy: use letters, digits, '.', '_' and '-' only", v.V)
	}
	return v.V
}

func plainName(s string) bool {
	if s == "." || s == ".." || len(s) > 255 {
		return false
	}
	for _, r := range s {
		if r > unicode.MaxASCII || !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r)) {
			return false
		}
	}
	return s != ""
}

func (f *faults) node(key string, v textValue) string {
	if v.Set || v.Err != "" {
		return f.name(key, v, "this node's name")
	}
	host, err := os.Hostname()
	if err != nil || !plainName(host) {
		f.add(key, "missing, and the host name %q cannot stand in for it; remedy: set node", host)
	}
	return host
}

// hosts splits what the Python tool joined with commas, and gives every server its port.
func (f *faults) hosts(key string, v listValue) []string {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
		return nil
	}
	var out []string
	for _, item := range v.V {
		for h := range strings.SplitSeq(item, ",") {
			host, err := serverAddress(strings.TrimSpace(h))
			if err != nil {
				f.add(key, "%q %w", h, err)
			} else if !slices.Contains(out, host) {
				out = append(out, host)
			}
		}
	}
	if len(v.V) == 0 {
		f.add(key, "no server; remedy: list the ensemble's servers, such as [\"zk1:2181\", \"zk2:2181\"]")
	}
	return out
}

func serverAddress(h string) (string, error) {
	if strings.Contains(h, "/") {
		return "", errors.New("has a path (chroot); remedy: put it in front of zk_path_service, zk_path_maintenance and zk_path_status instead")
	}
	host, port, err := net.SplitHostPort(h)
	if err != nil {
		host, port = h, "2181"
		if a, aerr := netip.ParseAddr(h); aerr == nil && a.Is6() {
			return "", fmt.Errorf("is a bare IPv6 address; remedy: write \"[%s]:2181\"", h)
		}
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if n, perr := strconv.ParseUint(port, 10, 16); !zkstate.ServerName(host) || perr != nil || n == 0 {
		return "", errors.New("is not a server; remedy: write host:port, such as \"zk1:2181\"")
	}
	return net.JoinHostPort(host, port), nil
}

// listen are the addresses of a server. Names are refused: what they stand for may change, and be more than was meant.
func (f *faults) listen(key string, v anyValue) []netip.AddrPort {
	items, listed := v.V.([]any)
	if v.Set && !listed {
		items = []any{v.V}
	}
	var out []netip.AddrPort
	for _, item := range items {
		at, err := listenAddress(item)
		switch {
		case err != nil:
			f.add(key, "%s %w", quoted(item), err)
		case slices.Contains(out, at):
			f.add(key, "%s is there twice; remedy: keep one of the two", at)
		default:
			out = append(out, at)
		}
	}
	return out
}

// listenAddress reads an address and a port; a port alone is on loopback.
func listenAddress(in any) (netip.AddrPort, error) {
	text, isText := in.(string)
	if port, ok := in.(int64); ok {
		text, isText = strconv.FormatInt(port, 10), true
	}
	if port := strings.TrimPrefix(text, ":"); !strings.ContainsAny(port, ":.") {
		text = "127.0.0.1:" + port
	}
	at, err := netip.ParseAddrPort(text)
	if !isText || err != nil || at.Port() == 0 || at.Addr().Is4In6() || at.Addr().IsMulticast() {
		return at, errors.New("is not an address to listen on; remedy: write a port, such as 9180, for this machine alone; or an address and a port, such as \"192.0.2.1:9180\" or \"[2001:db8::1]:9180\"; \"0.0.0.0:9180\" and \"[::]:9180\" are every address")
	}
	return at, nil
}

func (f *faults) vips(key string, v listValue, used map[string]string) []netip.Prefix {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
		return nil
	}
	var out []netip.Prefix
	for _, text := range v.V {
		p, err := ParseVIP(text)
		if err != nil {
			f.add(key, "%w", err)
			continue
		}
		f.once(used, "vip "+p.String(), key, "the VIP %s is there twice", text)
		out = append(out, p)
	}
	return out
}

// ParseVIP reads an address or a prefix that may be announced. ExaBGP is never given anything that did not pass here:
// some versions answer a bad prefix by resetting the session, and 3.4 by ending.
func ParseVIP(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, aerr := netip.ParseAddr(text)
		if aerr != nil {
			return p, fmt.Errorf("%q is not an address; remedy: write it like 10.20.255.1 or 2001:db8::1", text)
		}
		if a.Zone() != "" {
			return p, fmt.Errorf("%q has a zone; remedy: a VIP is a global address", text)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	a := p.Addr()
	switch {
	case a.Is4In6():
		return p, fmt.Errorf("%q is IPv4 written as IPv6; remedy: write %s", text, a.Unmap())
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits set after its mask; remedy: write %s", text, p.Masked())
	case p.Bits() == 0:
		return p, fmt.Errorf("%q is the default route; remedy: list VIPs", text)
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return p, fmt.Errorf("%q cannot be announced: it is unspecified, loopback, multicast or link-local; remedy: use a routable address", text)
	}
	return p, nil
}

// znode checks a path; an absent one gets its default.
func (f *faults) znode(key string, v textValue, def string) string {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
		return def
	}
	if !v.Set {
		return def
	}
	p := v.V
	if !strings.HasPrefix(p, "/") || p == "/" || path.Clean(p) != p || strings.ContainsFunc(p, unicode.IsControl) || !utf8.ValidString(p) {
		f.add(key, "%q is not a path in ZooKeeper; remedy: write it like %q", p, def)
	} else if p == "/zookeeper" || strings.HasPrefix(p, "/zookeeper/") {
		f.add(key, "%q belongs to ZooKeeper itself; remedy: write it like %q", p, def)
	}
	return p
}

// distinctPaths keeps records of one kind out of the directory of another: a maintenance node among the claims would be
// looked up as a VIP, and two services in one directory would share claims.
func (f *faults) distinctPaths(key string, s *Service, used map[string]string) {
	f.once(used, "path "+s.ClaimsPath, key+".zk_path_service", "the path %q is used twice", s.ClaimsPath)
	f.once(used, "path "+s.StatusPath, key+".zk_path_status", "the path %q is used twice", s.StatusPath)
	f.once(used, "path "+s.HistoryPath, key+".zk_path_history", "the path %q is used twice", s.HistoryPath)
	if s.MaintenancePath == s.StatusPath || s.MaintenancePath == s.ClaimsPath {
		f.add(key+".zk_path_maintenance", "%q is used twice; remedy: give the maintenance node a path of its own", s.MaintenancePath)
	}
	if d := path.Dir(s.FailbackPath); d == "/" || d == s.ClaimsPath || d == path.Dir(s.MaintenancePath) || d == path.Dir(s.StatusPath) {
		f.add(key+".zk_path_failback", "%q holds other things already; remedy: keep failback nodes in a directory of their own, such as \"/exabgp/failback/%s\"", d, s.Name)
	}
	if d := path.Dir(s.HistoryPath); d == "/" || slices.Contains([]string{s.ClaimsPath, path.Dir(s.MaintenancePath), path.Dir(s.StatusPath), path.Dir(s.FailbackPath)}, d) {
		f.add(key+".zk_path_history", "%q holds other things already; remedy: keep histories in a directory of their own, such as \"/exabgp/history/%s\"", d, s.Name)
	}
	if d := path.Dir(s.StatusPath); d == s.ClaimsPath || d == "/" || d == path.Dir(s.MaintenancePath) {
		f.add(key+".zk_path_status", "%q holds other things already; remedy: keep status records in a directory of their own, such as \"/exabgp/status/%s\"", d, s.Name)
	}
}
