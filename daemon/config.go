package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"exazk/exabgp"
)

// Config is the whole configuration: checked, defaults filled in, and read-only from then on.
type Config struct {
	Node      string // this node's name: in claims, in the status record and in the default paths
	Log       LogConfig
	ZooKeeper ZooKeeperConfig
	ExaBGP    ExaBGPConfig
	HTTP      HTTPConfig
	Hooks     []Hook
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
	// Dialect is the command language, or exabgp.Auto.
	Dialect exabgp.Dialect
	// LocalAS is the AS number of this side of the sessions; 0 where it is not given. A count of prepends needs it.
	LocalAS uint32
	// Neighbors are the peers that hear exazk, where ExaBGP has others too; empty means all that it has.
	Neighbors []netip.Addr
	// DriftCheck is from one look at what ExaBGP holds to the next; 0 means never.
	DriftCheck time.Duration
}

// Loopback says where the VIPs of a service are put, if exazk is to do that; see package loopback.
type Loopback struct {
	Manage bool
	Device string
	Grace  time.Duration // from the last withdraw of a VIP to its removal
}

// HTTPConfig is the server for operators: page, JSON, metrics.
type HTTPConfig struct {
	Listen []netip.AddrPort // no two alike; empty means that there is no server
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
	HistoryPath     string // zk_path_history

	Loopback Loopback

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
	Nodes   []string // those of the service, this one among them; empty where nothing needs to know them
	// Owners has the node that is authoritative for a VIP, where that is known. It is there where Order is.
	Owners map[netip.Prefix]string
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

// Announcement says with which path attributes a service's routes go to one neighbor, or to all. No backup looks better than
// the owner, and nothing that drains better than a backup: not in MED, nor in the length of the AS path, nor in LOCAL_PREF.
type Announcement struct {
	Own    Attributes // of an authoritative VIP
	Backup Attributes // of one that this node backs up
	Drain  Attributes // of one that is about to be withdrawn where DrainStyle is DrainGShut, and of a last resort

	// With BackupStandby each further node in a VIP's Order has so much more MED, and so many more own AS numbers in front.
	StepMED     uint32
	StepPrepend int
}

// Attributes are path attributes in the forms of exabgp.Route: what is the same for all VIPs of a service in one role.
type Attributes struct {
	MED                uint32
	NextHop4, NextHop6 netip.Addr // the zero Addr means "self"
	// ASPath is the whole path as it is sent, the local AS first; empty leaves it to ExaBGP, which sends the local AS over eBGP
	// and nothing over iBGP.
	ASPath                                        string
	Communities, LargeCommunities, ExtCommunities string // sorted, with one space between them
	LocalPreference                               uint32 // with HasLocalPreference; over eBGP it is not sent (RFC 4271 section 5.1.5)
	HasLocalPreference                            bool
	PathID                                        uint32 // the same in every role, for with another one it would be another route
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

// LoadConfig reads and checks a TOML file, and the files of certificates and keys that it names. The error lists every fault, each
// with file, line, key and remedy.
func LoadConfig(path string) (*Config, error) { return loadConfig(path, true) }

// LoadConfigAlone is LoadConfig for who runs no checks: it does not look at the files of certificates and keys, which may be
// missing or not for everybody to read.
func LoadConfigAlone(path string) (*Config, error) { return loadConfig(path, false) }

func loadConfig(path string, files bool) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parseConfig(path, string(text), files)
}

// ParseConfig is LoadConfigAlone for a text that was read already; name stands for the file in errors.
func ParseConfig(name, text string) (*Config, error) { return parseConfig(name, text, false) }

func parseConfig(name, text string, files bool) (*Config, error) {
	var shape map[string]any
	written, err := toml.Decode(text, &shape)
	if err != nil {
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			if pe.Position.Line > 0 { // the library does not know it of every fault
				name = fmt.Sprintf("%s:%d", name, pe.Position.Line)
			}
			return nil, fmt.Errorf("%s: %s", name, explain(pe))
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	at := indexLines(text)
	f := faults{files: files, place: func(key string) string { return fmt.Sprintf("%s:%d: %s", name, at.line(key), key) }}
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
	for i := range raw.Services {
		if err := raw.Services[i].decodeChecks(&meta); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
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
// Where the file's author chooses the key, as for the header of a request, it may be anything.
func (f *faults) letterCase(keys []toml.Key) {
	seen := map[string]bool{}
	for _, key := range keys {
		ours := key
		for i, k := range key {
			if k == "headers" || k == "ranks" || k == "owners" {
				ours = key[:i+1]
				break
			}
		}
		if k := ours.String(); k != strings.ToLower(k) && !seen[k] {
			seen[k] = true
			f.add(k, "unknown key; remedy: write it in lower case, \"exazk check\" prints every key")
		}
	}
}

// shape says which keys of a file must be tables, lists of tables, or one of the two, with those below them.
type shape struct {
	table, list bool
	below       map[string]shape
}

var fileShape = func() map[string]shape {
	plain := shape{table: true}
	announce := shape{table: true, below: map[string]shape{"backup": plain, "drain": plain}}
	check := map[string]shape{"http": {table: true, below: map[string]shape{"headers": plain}}, "tcp": plain, "dns": plain, "file": plain, "systemd": plain}
	return map[string]shape{
		"log": plain, "zookeeper": plain, "exabgp": plain, "http": plain, "hook": {list: true},
		"service": {list: true, below: map[string]shape{
			"check": {table: true, list: true, below: check}, "announce": announce, "ranks": plain, "owners": plain, "loopback": plain,
			"neighbor": {list: true, below: map[string]shape{"announce": announce}},
		}},
	}
}()

// tables reports keys that must be tables and are not, and gives the text without them, so that the rest is checked as
// well: the library ends at the first of them.
func (f *faults) tables(file map[string]any, text string) (string, error) {
	before := len(f.list)
	f.tablesIn(file, "", fileShape)
	if len(f.list) == before {
		return text, nil
	}
	rest, err := toml.Marshal(file)
	return string(rest), err
}

var indices = regexp.MustCompile(`\[\d+\]`)

func (f *faults) tablesIn(in map[string]any, at string, want map[string]shape) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		w, key, at := want[key], key, join(at, key)
		switch v := in[key].(type) {
		case nil:
			continue
		case map[string]any:
			if w.table {
				f.tablesIn(v, at, w.below)
				continue
			}
		default:
			if list, ok := tablesOf(v); w.list && ok {
				for i := range list {
					f.tablesIn(list[i], fmt.Sprintf("%s[%d]", at, i), w.below)
				}
				continue
			}
		}
		if name := indices.ReplaceAllString(at, ""); w.table {
			f.add(at, "%v is not a table; remedy: write [%s] on a line of its own and its keys below", quoted(in[key]), name)
		} else {
			f.add(at, "it is not a list of tables; remedy: write [[%s]] on a line of its own, in double brackets", name)
		}
		delete(in, key)
	}
}

// tablesOf gives the tables of a list, whether each stands by itself or all in one line.
func tablesOf(in any) (tables []map[string]any, ok bool) {
	switch list := in.(type) {
	case []map[string]any:
		return list, true
	case []any:
		for _, item := range list {
			table, ok := item.(map[string]any)
			if !ok {
				return nil, false
			}
			tables = append(tables, table)
		}
		return tables, true
	}
	return nil, false
}

// faults collects everything that is wrong, so that one run shows it all.
type faults struct {
	place   func(key string) string // where a key was given: file and line, or the name of a flag
	files   bool                    // look at the files that checks read
	localAS uint32                  // exabgp.local_as, which the paths of services need
	list    []error
}

// add puts a fault down once: what several neighbors have from their service is as wrong as it is there.
func (f *faults) add(key, format string, args ...any) {
	err := fmt.Errorf("%s: "+format, append([]any{f.place(key)}, args...)...)
	if !slices.ContainsFunc(f.list, func(e error) bool { return e.Error() == err.Error() }) {
		f.list = append(f.list, err)
	}
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

// anyValue is a key that may be of several types.
type anyValue struct {
	V   any
	Set bool
}

// UnmarshalTOML implements toml.Unmarshaler.
func (v *anyValue) UnmarshalTOML(in any) error {
	v.V, v.Set = in, true
	return nil
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
	HTTP      rawServer    `toml:"http"`
	Hooks     []rawHook    `toml:"hook"`
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
	Dialect          textValue     `toml:"dialect"`
	LocalAS          numberValue   `toml:"local_as"`
	Neighbors        listValue     `toml:"neighbors"`
	DriftCheck       durationValue `toml:"drift_check"`
}

type rawServer struct {
	Listen anyValue `toml:"listen"` // a port, an address, or a list of them
}

type rawService struct {
	Name              textValue            `toml:"name"`
	Authoritative     listValue            `toml:"authoritative"`
	BackupFor         listValue            `toml:"backup_for"`
	ZKPathService     textValue            `toml:"zk_path_service"`
	ZKPathMaintenance textValue            `toml:"zk_path_maintenance"`
	ZKPathFailback    textValue            `toml:"zk_path_failback"`
	ZKPathStatus      textValue            `toml:"zk_path_status"`
	ZKPathHistory     textValue            `toml:"zk_path_history"`
	Backup            textValue            `toml:"backup"`
	Backups           textValue            `toml:"backups"`
	Nodes             listValue            `toml:"nodes"`
	Owners            map[string]textValue `toml:"owners"`
	Ranks             map[string]listValue `toml:"ranks"`
	OnZKLoss          textValue            `toml:"on_zk_loss"`
	ZKLossAfter       durationValue        `toml:"zk_loss_after"`
	Overlap           durationValue        `toml:"overlap"`
	DrainTimeout      durationValue        `toml:"drain_timeout"`
	StartGrace        durationValue        `toml:"start_grace"`
	DrainStyle        textValue            `toml:"drain_style"`
	Failback          textValue            `toml:"failback"`
	FailbackDelay     durationValue        `toml:"failback_delay"`
	FlapHold          durationValue        `toml:"flap_hold"`
	LastResort        boolValue            `toml:"last_resort"`
	MinNeighbors      numberValue          `toml:"min_neighbors"`
	Neighbors         listValue            `toml:"neighbors"`
	CheckRequire      anyValue             `toml:"check_require"`
	Check             toml.Primitive       `toml:"check"` // a table or a list of tables; see decodeChecks
	Announce          rawAnnounce          `toml:"announce"`
	Neighbor          []rawNeighbor        `toml:"neighbor"`
	Loopback          rawLoopback          `toml:"loopback"`

	checks        []rawCheck
	listed        bool // the checks were given as a list
	zooKeeperOnly bool // Flags.ZooKeeperOnly
}

type rawLoopback struct {
	Manage boolValue     `toml:"manage"`
	Device textValue     `toml:"device"`
	Grace  durationValue `toml:"grace"`
}

func defaults() rawConfig {
	r := rawConfig{}
	r.Log.Level.V, r.Log.Format.V = "info", "text"
	r.Log.Syslog.V, r.Log.SyslogFacility.V = true, "daemon"
	r.ZooKeeper.SessionTimeout.V = 10 * time.Second
	r.ExaBGP.NeighborTracking.V, r.ExaBGP.Dialect.V = "auto", "auto"
	r.ExaBGP.DriftCheck.V = 4 * time.Second // a route that was withdrawn by hand is to be back within 5 s
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
	orText(&r.Backup, string(BackupOnDemand))
	orText(&r.Backups, string(BackupsAll))
	orText(&r.Loopback.Device, "lo")
	orDuration(&r.Loopback.Grace, 2*time.Second)
	for i := range r.checks {
		r.checks[i].fillDefaults()
	}
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

var (
	logLevels        = []string{"debug", "info", "warn", "error"}
	logFormats       = []string{"text", "json"}
	syslogFacilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	drainStyles      = []string{string(DrainWithdraw), string(DrainGShut)}
	failbacks        = []string{string(FailbackAuto), string(FailbackManual)}
	backupModes      = []string{string(BackupOnDemand), string(BackupStandby)}
	backupsWords     = []string{string(BackupsAll), string(BackupsFirst)}
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
