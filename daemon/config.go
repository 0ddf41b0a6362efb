package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Config is the whole configuration: checked, defaults filled in, and read-only from then on.
type Config struct {
	Node      string // this node's name: in claims, in the status record and in the default paths
	Log       LogConfig
	ZooKeeper ZooKeeperConfig
	ExaBGP    ExaBGPConfig
	Services  []Service // at least one; names are unique, and so are VIPs over all of them
}

// LogConfig says where the log goes and how it looks.
type LogConfig struct {
	Level          string // debug | info | warn | error
	Format         string // text | json
	Syslog         bool   // to the local syslog daemon as well as, or instead of, stderr
	SyslogFacility string // "daemon", "local0", …
	Silent         bool   // never to stderr; a flag of the Python tool, not in the file
}

// ZooKeeperConfig says how to reach the ensemble.
type ZooKeeperConfig struct {
	Hosts          []string      // "host:port"; the port is always there
	SessionTimeout time.Duration // asked for; the server clamps it to its own bounds
}

// ExaBGPConfig says how to deal with ExaBGP.
type ExaBGPConfig struct {
	TrackNeighbors bool // neighbor_tracking = "auto": announce and claim only while a session is up
	// HoldTime is how long a neighbor may be silent; 0 leaves that to ExaBGP, which counts in whole seconds and so takes up
	// to a second longer. It works only where ExaBGP tells of keepalives.
	HoldTime time.Duration
	// Dialect is the command language: "auto", "3.4", "4.2", "5" or "6".
	Dialect string
	// LocalAS is the AS number of this side of the sessions; 0 where it is not given. A count of prepends needs it.
	LocalAS uint32
	// Neighbors are the peers that hear exazk, where ExaBGP has others too; empty means all that it has.
	Neighbors []netip.Addr
}

// Policy says what becomes of backup routes while ZooKeeper is away for longer than a session timeout.
// The authoritative VIP of a healthy node stays announced in every case.
type Policy string

const (
	PolicyHold     Policy = "hold"     // they stay as they are
	PolicyWithdraw Policy = "withdraw" // they go
	PolicyAnnounce Policy = "announce" // every backed-up VIP is announced
)

// DrainStyle says what becomes of a route while its node is drained and nobody has taken it over yet.
type DrainStyle string

const (
	DrainWithdraw DrainStyle = "withdraw" // it stays as it is, and is then withdrawn
	DrainGShut    DrainStyle = "gshut"    // it gets drain_med and the community GRACEFUL_SHUTDOWN (RFC 8326) first
)

// Failback says when a node that failed takes its own VIPs back.
type Failback string

const (
	FailbackAuto   Failback = "auto"   // when it can serve again, after failback_delay
	FailbackManual Failback = "manual" // when an operator says so ("exazk failback"), or when nobody has them
)

// Service is one service: its VIPs, its check and how it is announced.
type Service struct {
	Name          string
	Authoritative []netip.Prefix // this node announces these while it is serviceable, and claims them
	BackupFor     []netip.Prefix // this node announces these while nobody claims them

	ClaimsPath      string // zk_path_service
	MaintenancePath string // zk_path_maintenance
	FailbackPath    string // zk_path_failback
	StatusPath      string // zk_path_status

	OnZKLoss     Policy
	Overlap      time.Duration // how long both announce a VIP that changes hands
	DrainTimeout time.Duration // after this long a draining node withdraws although nobody took over
	StartGrace   time.Duration // how long an unknown holds routes as they are after the start
	DrainStyle   DrainStyle
	Failback     Failback
	// FailbackDelay is how long a node that was away leaves its VIPs to the node that has them, counted from when it could
	// serve again. It does not apply where nobody has them.
	FailbackDelay time.Duration
	// FlapHold is how long the check must pass after its second failure within two FlapHold before the node takes VIPs from
	// others; it doubles with every further failure, up to ten minutes. It also bounds the hold after a single failure that
	// was not brief. 0 switches that off.
	FlapHold     time.Duration
	LastResort   bool // announce, demoted, although the check fails, while nobody else does
	MinNeighbors int  // established neighbors needed to claim a VIP, at least 1

	Backup  BackupMode
	Backups Backups
	// Order has for each VIP the nodes that back it up, the first one to take it over first. It is there with
	// BackupStandby and BackupsFirst, holds this node for every VIP of BackupFor, and never the VIP's owner.
	Order map[netip.Prefix][]string

	// ZKLossAfter is how long ZooKeeper must have been lost before OnZKLoss is obeyed.
	ZKLossAfter time.Duration

	// Neighbors are the peers that the service is announced to, each with its attributes. Empty means every neighbor of
	// the process, with those of Announce.
	Neighbors []Neighbor

	Checks   []Check // at least one
	Require  int     // how many of them must pass
	Announce Announcement
}

// Check is one local check of a service: exactly one of Command, Args, HTTP, TCP, DNS, File and Systemd is set.
type Check struct {
	Name    string   // unique within the service; in the log and in the status record
	Command string   // run by /bin/sh -c
	Args    []string // run without a shell

	Interval     time.Duration
	FastInterval time.Duration // while a change of state is pending
	Timeout      time.Duration
	Rise, Fall   int           // results in a row
	Jitter       time.Duration // the first run begins after a random part of it
}

// Announcement says with which path attributes a service's routes go to one neighbor, or to all.
type Announcement struct {
	Own    Attributes // of an authoritative VIP
	Backup Attributes // of one that this node backs up, as the first in the order; see StepMED and StepPrepend
	Drain  Attributes // of one that is about to be withdrawn where DrainStyle is DrainGShut, and of a last resort

	// With backup = "standby" each further rank is announced with so much more: MED, and own AS numbers in front.
	StepMED     uint32
	StepPrepend int
}

// Attributes are path attributes in the forms of exabgp.Route: what is the same for all VIPs of a service in one role.
type Attributes struct {
	MED                                           uint32
	NextHop4, NextHop6                            netip.Addr // the zero Addr means "self"
	ASPath                                        string     // the whole path, or empty
	Communities, LargeCommunities, ExtCommunities string
	LocalPreference                               uint32
	HasLocalPreference                            bool
	PathID                                        uint32
}

// NextHop is that of a VIP; the zero Addr means "self".
func (a *Attributes) NextHop(vip netip.Prefix) netip.Addr {
	if vip.Addr().Is4() {
		return a.NextHop4
	}
	return a.NextHop6
}

// Neighbor is a peer that a service is announced to with attributes of its own.
type Neighbor struct {
	Address  netip.Addr
	Announce Announcement
}

// BackupMode says what a node does about the VIPs that it backs up while their owners are there.
type BackupMode string

const (
	BackupOnDemand BackupMode = "on-demand" // nothing: it announces what nobody claims
	BackupStandby  BackupMode = "standby"   // it announces them all the time, visibly worse by its rank
)

// Backups says which nodes announce a VIP that nobody claims, with backup = "on-demand".
type Backups string

const (
	BackupsAll   Backups = "all"   // every one
	BackupsFirst Backups = "first" // the first living one in the VIP's order
)

// ClaimName is the name of a VIP's claim in ZooKeeper: the canonical text of the address, as the Python tool writes it.
// A prefix that is no host route has its "/" written as "_".
func ClaimName(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return strings.ReplaceAll(p.String(), "/", "_")
}

// LoadConfig reads and checks a TOML file. The error lists every fault, each with file, line, key and remedy.
func LoadConfig(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return ParseConfig(path, string(text))
}

// ParseConfig is LoadConfig for a text that was read already; name stands for the file in errors.
func ParseConfig(name, text string) (*Config, error) {
	var shape map[string]any
	written, err := toml.Decode(text, &shape)
	if err != nil {
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			return nil, fmt.Errorf("%s: %s", name, explain(pe))
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	at := indexLines(text)
	f := faults{place: func(key string) string { return fmt.Sprintf("%s:%d: %s", name, at.line(key), key) }}
	if f.letterCase(written.Keys()); len(f.list) > 0 {
		return nil, errors.Join(f.list...)
	}
	rest, err := f.tables(shape, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	raw := defaults()
	meta, err := toml.Decode(rest, &raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	seen := map[string]int{}
	for _, key := range meta.Undecoded() {
		k := key.String()
		f.list = append(f.list, fmt.Errorf("%s:%d: %s: unknown key; remedy: remove it or correct its name, \"exazk check\" prints every key", name, at.nth(k, seen[k]), k))
		seen[k]++
	}
	return raw.resolve(&f)
}

// explain is a syntax error with the line that it is in. The library (v1.6.0) panics where that is the first one and the text
// ends in it or has CRLF.
func explain(pe toml.ParseError) (text string) {
	defer func() {
		if recover() != nil {
			text = pe.Error()
		}
	}()
	return strings.TrimSpace(pe.ErrorWithPosition())
}

// letterCase reports keys with capitals: the library takes them for those without, and of two forms of one key either wins.
func (f *faults) letterCase(keys []toml.Key) {
	seen := map[string]bool{}
	for _, key := range keys {
		if k := key.String(); k != strings.ToLower(k) && !seen[k] {
			seen[k] = true
			f.add(k, "unknown key; remedy: write it in lower case, \"exazk check\" prints every key")
		}
	}
}

// tables reports keys that must be tables and are not, and gives the text without them, so that the rest is checked as
// well: the library ends at the first of them.
func (f *faults) tables(shape map[string]any, text string) (string, error) {
	before := len(f.list)
	remove := func(in map[string]any, key, at string) {
		if v, there := in[key]; there {
			if _, ok := v.(map[string]any); !ok {
				f.add(at, "%v is not a table; remedy: write [%s] on a line of its own and its keys below", quoted(v), strings.ReplaceAll(at, "[0]", ""))
				delete(in, key)
			}
		}
	}
	for _, key := range []string{"log", "zookeeper", "exabgp"} {
		remove(shape, key, key)
	}
	switch services := shape["service"].(type) {
	case nil:
	case []map[string]any:
		for i, s := range services {
			remove(s, "check", fmt.Sprintf("service[%d].check", i))
			remove(s, "announce", fmt.Sprintf("service[%d].announce", i))
		}
	default:
		f.add("service", "it is not a list of tables; remedy: write [[service]] on a line of its own, in double brackets")
		delete(shape, "service")
	}
	if len(f.list) == before {
		return text, nil
	}
	rest, err := toml.Marshal(shape)
	return string(rest), err
}

// faults collects everything that is wrong, so that one run shows it all.
type faults struct {
	place func(key string) string // where a key was given: file and line, or the name of a flag
	list  []error
}

func (f *faults) add(key, format string, args ...any) {
	f.list = append(f.list, fmt.Errorf("%s: "+format, append([]any{f.place(key)}, args...)...))
}

// value is one key as it was given. A wrong type is kept in Err instead of ending the decoding, so that it is one
// fault among others.
type value[T string | bool | int64 | time.Duration | []string] struct {
	V   T
	Set bool // it was given; otherwise V is the default
	Err string
}

// UnmarshalTOML implements toml.Unmarshaler.
func (v *value[T]) UnmarshalTOML(in any) error {
	v.Set = true
	switch p := any(&v.V).(type) {
	case *time.Duration:
		v.Err = setDuration(p, in)
	case *[]string:
		v.Err = setList(p, in)
	default:
		got, ok := in.(T)
		if !ok {
			v.Err = fmt.Sprintf("%v is not a %s", quoted(in), kindOf(p))
			return nil
		}
		v.V = got
	}
	return nil
}

func setDuration(p *time.Duration, in any) string {
	s, ok := in.(string)
	if !ok {
		return fmt.Sprintf("%v is not a duration; remedy: write a string with a unit, such as \"1s\" or \"200ms\"", quoted(in))
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Sprintf("%q is not a duration; remedy: give it a unit, such as \"1s\" or \"200ms\"", s)
	}
	*p = d
	return ""
}

func setList(p *[]string, in any) string {
	items, ok := in.([]any)
	if !ok {
		return fmt.Sprintf("%v is not a list; remedy: write [\"…\", \"…\"]", quoted(in))
	}
	out := make([]string, 0, len(items))
	for _, it := range items {
		s, ok := it.(string)
		if !ok {
			return fmt.Sprintf("%v in the list is not a string; remedy: put it in quotes", quoted(it))
		}
		out = append(out, s)
	}
	*p = out
	return ""
}

func quoted(in any) string {
	if s, ok := in.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(in)
}

func kindOf(p any) string {
	switch p.(type) {
	case *string:
		return "string; remedy: put it in quotes"
	case *bool:
		return "boolean; remedy: write true or false without quotes"
	default:
		return "whole number; remedy: write it without quotes and without a unit"
	}
}

type (
	textValue     = value[string]
	boolValue     = value[bool]
	numberValue   = value[int64]
	durationValue = value[time.Duration]
	listValue     = value[[]string]
)

// rawConfig is the file as it was written, before anything is checked.
type rawConfig struct {
	Node      textValue    `toml:"node"`
	Log       rawLog       `toml:"log"`
	ZooKeeper rawZooKeeper `toml:"zookeeper"`
	ExaBGP    rawExaBGP    `toml:"exabgp"`
	Services  []rawService `toml:"service"`

	silent bool // from the command line only
}

type rawLog struct {
	Level          textValue `toml:"level"`
	Format         textValue `toml:"format"`
	Syslog         boolValue `toml:"syslog"`
	SyslogFacility textValue `toml:"syslog_facility"`
}

type rawZooKeeper struct {
	Hosts          listValue     `toml:"hosts"`
	SessionTimeout durationValue `toml:"session_timeout"`
}

type rawExaBGP struct {
	NeighborTracking textValue     `toml:"neighbor_tracking"`
	HoldTime         durationValue `toml:"hold_time"`
	Neighbors        listValue     `toml:"neighbors"`
}

type rawService struct {
	Name              textValue     `toml:"name"`
	Authoritative     listValue     `toml:"authoritative"`
	BackupFor         listValue     `toml:"backup_for"`
	ZKPathService     textValue     `toml:"zk_path_service"`
	ZKPathMaintenance textValue     `toml:"zk_path_maintenance"`
	ZKPathFailback    textValue     `toml:"zk_path_failback"`
	ZKPathStatus      textValue     `toml:"zk_path_status"`
	OnZKLoss          textValue     `toml:"on_zk_loss"`
	Overlap           durationValue `toml:"overlap"`
	DrainTimeout      durationValue `toml:"drain_timeout"`
	StartGrace        durationValue `toml:"start_grace"`
	DrainStyle        textValue     `toml:"drain_style"`
	Failback          textValue     `toml:"failback"`
	FailbackDelay     durationValue `toml:"failback_delay"`
	FlapHold          durationValue `toml:"flap_hold"`
	LastResort        boolValue     `toml:"last_resort"`
	MinNeighbors      numberValue   `toml:"min_neighbors"`
	Check             rawCheck      `toml:"check"`
	Announce          rawAnnounce   `toml:"announce"`

	zooKeeperOnly bool // Flags.ZooKeeperOnly
}

type rawCheck struct {
	Command      textValue     `toml:"command"`
	Interval     durationValue `toml:"interval"`
	FastInterval durationValue `toml:"fast_interval"`
	Timeout      durationValue `toml:"timeout"`
	Rise         numberValue   `toml:"rise"`
	Fall         numberValue   `toml:"fall"`
}

type rawAnnounce struct {
	MED       numberValue `toml:"med"`
	BackupMED numberValue `toml:"backup_med"`
	DrainMED  numberValue `toml:"drain_med"`
	NextHop   textValue   `toml:"next_hop"`
}

func defaults() rawConfig {
	r := rawConfig{}
	r.Log.Level.V, r.Log.Format.V = "info", "text"
	r.Log.Syslog.V, r.Log.SyslogFacility.V = true, "daemon"
	r.ZooKeeper.SessionTimeout.V = 10 * time.Second
	r.ExaBGP.NeighborTracking.V = "auto"
	return r
}

// fillDefaults is separate from defaults because the services are not known before the file is decoded.
func (r *rawService) fillDefaults() {
	orText(&r.OnZKLoss, string(PolicyHold))
	orDuration(&r.Overlap, time.Second)
	orDuration(&r.DrainTimeout, 10*time.Second)
	orDuration(&r.StartGrace, 15*time.Second)
	orText(&r.DrainStyle, string(DrainWithdraw))
	orText(&r.Failback, string(FailbackAuto))
	orDuration(&r.FlapHold, time.Minute)
	orNumber(&r.MinNeighbors, 1)
	orDuration(&r.Check.Interval, time.Second)
	if fast := 200 * time.Millisecond; r.Check.Interval.V > 0 {
		orDuration(&r.Check.FastInterval, min(fast, r.Check.Interval.V))
	}
	orDuration(&r.Check.Timeout, time.Second)
	orNumber(&r.Check.Rise, 3)
	orNumber(&r.Check.Fall, 2)
	orNumber(&r.Announce.MED, 100)
	orNumber(&r.Announce.BackupMED, 200)
	orNumber(&r.Announce.DrainMED, max(1000, r.Announce.BackupMED.V))
	orText(&r.Announce.NextHop, "self")
}

func orText(v *textValue, d string) {
	if !v.Set {
		v.V = d
	}
}

func orNumber(v *numberValue, d int64) {
	if !v.Set {
		v.V = d
	}
}

func orDuration(v *durationValue, d time.Duration) {
	if !v.Set {
		v.V = d
	}
}

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
	var neighbors []string
	for _, n := range c.ExaBGP.Neighbors {
		neighbors = append(neighbors, n.String())
	}
	fmt.Fprintf(&b, "[exabgp]\nneighbor_tracking = %q\nhold_time = %q\nneighbors = %s\n", tracking, c.ExaBGP.HoldTime, tomlList(neighbors))
	for i := range c.Services {
		c.Services[i].render(&b)
	}
	return b.String()
}

func (s *Service) render(b *strings.Builder) {
	nextHop := "self"
	for _, a := range []netip.Addr{s.Announce.Own.NextHop4, s.Announce.Own.NextHop6} {
		if a.IsValid() {
			nextHop = a.String()
		}
	}
	fmt.Fprintf(b, "\n[[service]]\nname = %q\nauthoritative = %s\nbackup_for = %s\n", s.Name, tomlList(vipTexts(s.Authoritative)), tomlList(vipTexts(s.BackupFor)))
	fmt.Fprintf(b, "zk_path_service = %q\nzk_path_maintenance = %q\nzk_path_failback = %q\nzk_path_status = %q\n", s.ClaimsPath, s.MaintenancePath, s.FailbackPath, s.StatusPath)
	fmt.Fprintf(b, "on_zk_loss = %q\noverlap = %q\ndrain_timeout = %q\nstart_grace = %q\nmin_neighbors = %d\n", s.OnZKLoss, s.Overlap, s.DrainTimeout, s.StartGrace, s.MinNeighbors)
	fmt.Fprintf(b, "drain_style = %q\nfailback = %q\nfailback_delay = %q\nflap_hold = %q\nlast_resort = %v\n", s.DrainStyle, s.Failback, s.FailbackDelay, s.FlapHold, s.LastResort)
	fmt.Fprintf(b, "[service.check]\ncommand = %s\ninterval = %q\nfast_interval = %q\ntimeout = %q\nrise = %d\nfall = %d\n", tomlString(s.Checks[0].Command), s.Checks[0].Interval, s.Checks[0].FastInterval, s.Checks[0].Timeout, s.Checks[0].Rise, s.Checks[0].Fall)
	fmt.Fprintf(b, "[service.announce]\nmed = %d\nbackup_med = %d\ndrain_med = %d\nnext_hop = %q\n", s.Announce.Own.MED, s.Announce.Backup.MED, s.Announce.Drain.MED, nextHop)
}

// vipTexts writes host routes without their mask, as people write VIPs.
func vipTexts(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
		if p.IsSingleIP() {
			out[i] = p.Addr().String()
		}
	}
	return out
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

// lineIndex finds the line of a key. The TOML library tells positions for syntax errors only, and a fault without its
// line is a search at 3 a.m.
type lineIndex map[string][]int // "service[0].check.command" and, without the index, "service.check.command"

func indexLines(text string) lineIndex {
	ix := lineIndex{}
	table, plain, services := "", "", -1
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			plain = strings.Trim(strings.TrimSpace(strings.SplitN(line, "#", 2)[0]), "[] \t")
			if strings.HasPrefix(line, "[[") && plain == "service" {
				services++
			}
			table = plain
			if plain == "service" || strings.HasPrefix(plain, "service.") {
				table = fmt.Sprintf("service[%d]%s", services, strings.TrimPrefix(plain, "service"))
			}
			ix.put(table, plain, n+1)
		case strings.Contains(line, "=") && !strings.HasPrefix(line, "#"):
			key := strings.Trim(strings.TrimSpace(strings.SplitN(line, "=", 2)[0]), `"'`)
			ix.put(join(table, key), join(plain, key), n+1)
		}
	}
	return ix
}

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

func (ix lineIndex) put(key, plain string, line int) {
	ix[key] = append(ix[key], line)
	if plain != key {
		ix[plain] = append(ix[plain], line)
	}
}

// line is where a key is written, else where its table begins, else the first line.
func (ix lineIndex) line(key string) int {
	for key != "" {
		if at := ix[key]; len(at) > 0 {
			return at[0]
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
	return 1
}

// nth is where the nth occurrence of a key without an index is written.
func (ix lineIndex) nth(key string, n int) int {
	if at := ix[key]; n < len(at) {
		return at[n]
	}
	return ix.line(key)
}

var (
	logLevels        = []string{"debug", "info", "warn", "error"}
	logFormats       = []string{"text", "json"}
	syslogFacilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	drainStyles      = []string{string(DrainWithdraw), string(DrainGShut)}
	failbacks        = []string{string(FailbackAuto), string(FailbackManual)}
	policies         = []string{string(PolicyHold), string(PolicyWithdraw), string(PolicyAnnounce)}
)

func (f *faults) oneOf(key string, v textValue, allowed []string) string {
	if v.Err != "" {
		f.add(key, "%s", v.Err)
	} else if !slices.Contains(allowed, v.V) {
		f.add(key, "%q is not known; remedy: write one of %s", v.V, strings.Join(allowed, ", "))
	}
	return v.V
}
