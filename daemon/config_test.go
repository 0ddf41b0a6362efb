package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

func TestDefaults(t *testing.T) {
	c, err := ParseConfig("min.toml", storyConfig)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[0]
	want := Service{
		Name: "apex", Authoritative: s.Authoritative, BackupFor: s.BackupFor,
		ClaimsPath: "/exabgp/service/apex", MaintenancePath: "/exabgp/maintenance/apex/node1", FailbackPath: "/exabgp/failback/apex/node1", StatusPath: "/exabgp/status/apex/node1", HistoryPath: "/exabgp/history/apex/node1",
		Loopback: Loopback{Device: "lo", Grace: 2 * time.Second},
		OnZKLoss: PolicyHold, Overlap: time.Second, DrainTimeout: 10 * time.Second, StartGrace: 15 * time.Second, MinNeighbors: 1,
		DrainStyle: DrainWithdraw, Failback: FailbackAuto, FlapHold: time.Minute,
		Backup: BackupOnDemand, Backups: BackupsAll, Require: 1,
		Checks:   []Check{{Name: "command", Command: "true", Interval: time.Second, FastInterval: 200 * time.Millisecond, Timeout: time.Second, Rise: 3, Fall: 2}},
		Announce: Announcement{Own: Attributes{MED: 100}, Backup: Attributes{MED: 200}, Drain: Attributes{MED: 1000}},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
	if c.ZooKeeper.SessionTimeout != 10*time.Second || !slices.Equal(c.ZooKeeper.Hosts, []string{"zk:2181"}) || !c.ExaBGP.TrackNeighbors {
		t.Errorf("got %+v", c)
	}
}

// fullConfig has every key there is.
const fullConfig = `
node = "node1"
[log]
level = "debug"
format = "json"
syslog = false
syslog_facility = "local0"
[zookeeper]
hosts = ["zk:2181"]
session_timeout = "4s"
[exabgp]
neighbor_tracking = "off"
hold_time = "9s"
dialect = "4.2"
local_as = 65001
neighbors = ["172.16.1.6", "172.16.1.7", "2001:db8::6"]
drift_check = "10s"
[http]
listen = ["9180", "0.0.0.0:9181", "[2001:db8::1]:9180"]

[[hook]]
command = ["/usr/bin/logger", "-t", "exazk"]
on = ["verdict", "health", "maintenance", "neighbor", "zookeeper", "drift", "process"]
timeout = "5s"
[[hook]]
command = "echo \"$EXAZK_VIP\" >> /run/vips"

[[service]]
name = "web"
authoritative = ["10.20.255.1", "2001:DB8::1", "192.0.2.0/24"]
backup_for = ["10.20.255.2", "10.20.255.3"]
zk_path_service = "/a/web"
zk_path_maintenance = "/b/web/node1"
zk_path_failback = "/c/web/node1"
zk_path_status = "/d/web/node1"
zk_path_history = "/e/web/node1"
backup = "standby"
nodes = ["node1", "node2", "node3", "node4"]
on_zk_loss = "announce"
zk_loss_after = "90s"
overlap = "2s"
drain_timeout = "20s"
start_grace = "1m"
drain_style = "gshut"
failback = "manual"
failback_delay = "1m"
flap_hold = "1.5s"
last_resort = true
min_neighbors = 2
neighbors = ["172.16.1.6", "172.16.1.7"]
check_require = 2
[service.owners]
"10.20.255.2" = "node2"
[service.ranks]
"10.20.255.3" = ["node2", "node1"]
"2001:db8:0::1" = ["node4", "node3"]
[[service.check]]
command = "echo \"a\\b\tc\" | grep -q '✓'"
interval = "2s"
fast_interval = "100ms"
timeout = "3s"
rise = 4
fall = 5
jitter = "1s"
[[service.check]]
command = ["/bin/test", "-e", "/etc/passwd", ""]
name = "arguments"
[[service.check]]
name = "page"
[service.check.http]
url = "https://127.0.0.1:8443/health?a=b"
method = "POST"
status = "200-204,301"
body = "^ok\\s"
host = "www.example.org"
headers = {X-Probe = "exazk", "accept" = "a/b"}
bind = "127.0.0.2"
tls_server_name = "www.example.org"
tls_skip_verify = true
[[service.check]]
tcp = {address = "127.0.0.1:25", bind = "127.0.0.2", send = "EHLO x\r\n", expect = "^220 "}
[[service.check]]
[service.check.dns]
server = "[::1]:53"
name = "example.org"
type = "AAAA"
expect = ["2001:db8::5"]
transport = "tcp"
rcode = "NOERROR"
bind = "::1"
[[service.check]]
file = {path = "/run/off", state = "absent"}
[[service.check]]
systemd = {unit = "nginx.service"}
[service.loopback]
manage = false
device = "dummy0"
grace = "1s"
[service.announce]
med = 50
next_hop = ["192.0.2.1", "2001:db8::a"]
as_path_prepend = [65001, 64999]
local_preference = 150
communities = ["65001:100", "no-export"]
large_communities = ["65001:1:2", "4200000001:0:1"]
extended_communities = ["target:65001:5"]
path_id = 7
[service.announce.backup]
med = 300
next_hop = ["self", "2001:db8::b"]
local_preference = 140
communities = []
med_step = 10
prepend_step = 3
[service.announce.drain]
med = 5000
as_path_prepend = 20
large_communities = ["65001:9:9"]
[[service.neighbor]]
address = "172.16.1.7"
[service.neighbor.announce]
backup_med = 400
communities = ["65001:107"]
path_id = 8
[service.neighbor.announce.drain]
med = 6000

[[service]]
name = "dns"
authoritative = ["2001:db8::53"]
check_require = "any"
backups = "first"
nodes = ["node2", "node1"]
[service.check]
command = "true"
[service.announce]
med = 0
backup_med = 4294967295
next_hop = "2001:db8::1"

[[service]]
name = "ntp"
backup_for = ["192.0.2.123"]
[service.check]
http = {url = "http://127.0.0.1/", status = 204, tls_ca = "", tls_cert = "", tls_key = ""}
[service.announce]
drain_med = 2000
next_hop = "192.0.2.1"
`

// TestRenderReadsBack checks that "exazk check" prints a file that means the same, and in which no key is missing.
func TestRenderReadsBack(t *testing.T) {
	c, err := ParseConfig("a.toml", fullConfig)
	if err != nil {
		t.Fatal(err)
	}
	text := c.Render()
	again, err := ParseConfig("b.toml", text)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if !reflect.DeepEqual(c, again) {
		t.Errorf("got %+v\nwant %+v", again, c)
	}
	if twice := again.Render(); twice != text {
		t.Errorf("printed as\n%s\nand was\n%s", twice, text)
	}
	for _, key := range keysOf(reflect.TypeFor[rawConfig]()) {
		if !regexp.MustCompile(`(?m)^(\[+(\w+\.)*)?` + key + `( =|\])`).MatchString(text) {
			t.Errorf("%s is not in:\n%s", key, text)
		}
		if !regexp.MustCompile(`\b`+key+`( =|\])`).MatchString(fullConfig) && key != "backup_med" {
			t.Errorf("%s is not tried", key)
		}
	}
}

// keysOf are the keys that a type of the file has, those within them included.
func keysOf(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return keysOf(t.Elem())
	case reflect.Map:
		return nil // their keys are the author's
	}
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("toml")
		if key != "" {
			keys = append(keys, key)
		}
		if key == "check" {
			keys = append(keys, keysOf(reflect.TypeFor[rawCheck]())...)
		} else if f.Anonymous || key != "" && !reflect.PointerTo(f.Type).Implements(reflect.TypeFor[toml.Unmarshaler]()) {
			keys = append(keys, keysOf(f.Type)...)
		}
	}
	return keys
}

func TestSampleConfigs(t *testing.T) {
	files, _ := filepath.Glob("../configs/*.toml")
	if len(files) < 3 {
		t.Fatalf("only %d sample files", len(files))
	}
	for _, f := range files {
		if _, err := LoadConfig(f); err != nil {
			t.Errorf("%v", err)
		}
	}
}

func TestListen(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "[]",
		"listen = 9180":                          "[127.0.0.1:9180]",
		`listen = "9180"`:                        "[127.0.0.1:9180]",
		`listen = ":9180"`:                       "[127.0.0.1:9180]",
		`listen = "10.0.0.1:9180"`:               "[10.0.0.1:9180]",
		`listen = [":1", "[::]:2", "0.0.0.0:2"]`: "[127.0.0.1:1 [::]:2 0.0.0.0:2]",
		`listen = "[fe80::1%eth0]:9180"`:         "[[fe80::1%eth0]:9180]",
		"listen = []":                            "[]",
	} {
		c, err := ParseConfig("f.toml", storyConfig+"[http]\n"+text+"\n")
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := fmt.Sprint(c.HTTP.Listen); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestFilesOfChecks has who runs checks look at the files that they read, and nobody else.
func TestFilesOfChecks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.toml")
	text := strings.Replace(storyConfig, "command = \"true\"", "[service.check.http]\nurl = \"https://127.0.0.1/\"\ntls_cert = \"/does/not/exist\"\ntls_key = \"/does/not/exist\"", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := file + ":14: service[0].check.http.tls_cert: open /does/not/exist: no such file or directory; remedy: name files in PEM"
	if _, err := LoadConfig(file); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := LoadConfigAlone(file); err != nil {
		t.Error(err)
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.toml")); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("got %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		if _, isPath := err.(*os.PathError); isPath {
			return err
		}
		err = u.Unwrap()
	}
}

// TestBadConfigs shows what each fault looks like. Every want must be in the error.
func TestBadConfigs(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(storyConfig, old) {
			t.Fatalf("%q is not in the story's configuration", old)
		}
		return strings.Replace(storyConfig, old, new, 1)
	}
	vips := `authoritative = ["10.20.255.1"]`
	check := `command = "true"`
	service := `name = "apex"`
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"empty":                 {"", []string{`f.toml:1: service: no service; remedy: add a [[service]] table`, "zookeeper.hosts: no server"}},
		"syntax":                {"node = \n", []string{"f.toml:1: toml: error", "line 1"}},
		"unknown keys":          {replace(`node = "node1"`, "node = \"node1\"\nnods = 1") + "[service.chek]\na = 1\n", []string{"f.toml:3: nods: unknown key", "service.chek.a: unknown key"}},
		"second service's key":  {storyConfig + "[[service]]\nname = \"b\"\nauthoritative = [\"192.0.2.1\"]\nfoo = 1\n[service.check]\ncommand = \"true\"\nrise = 0\n", []string{"f.toml:16: service.foo: unknown key", "f.toml:19: service[1].check.rise: 0 is out of range; remedy: write 1 to 1000"}},
		"duration without unit": {replace(check, check+"\ninterval = 6\ntimeout = \"5\""), []string{`f.toml:13: service[0].check.interval: 6 is not a duration; remedy: write a string with a unit`, `"5" is not a duration; remedy: give it a unit`}},
		"types":                 {"node = 1\n[log]\nsyslog = \"yes\"\nlevel = 3\n[zookeeper]\nhosts = \"zk\"\n[exabgp]\nneighbor_tracking = true\n[[service]]\nname = \"a\"\nauthoritative = [5]\nmin_neighbors = \"1\"\n[service.check]\ncommand = true\n", []string{`node: 1 is not a string; remedy: put it in quotes`, `log.syslog: "yes" is not a boolean`, "log.level: 3 is not a string", `zookeeper.hosts: "zk" is not a list`, "exabgp.neighbor_tracking: true is not a string", "authoritative: 5 in the list is not a string", `min_neighbors: "1" is not a whole number`, "check.command: true is not a string"}},
		"types of others": {storyConfig + "[service.announce]\nnext_hop = 1\nmed = \"low\"\n[exabgp]\nneighbors = \"r1\"\nhold_time = 3\n[[service]]\nname = \"b\"\nauthoritative = [\"192.0.2.1\"]\nzk_path_service = 1\nlast_resort = \"no\"\n[service.check]\ncommand = \"true\"\n",
			[]string{"f.toml:14: service[0].announce.next_hop: 1 is not a string", `f.toml:15: service[0].announce.med: "low" is not a whole number`, `f.toml:17: exabgp.neighbors: "r1" is not a list`, "f.toml:18: exabgp.hold_time: 3 is not a duration", "f.toml:22: service[1].zk_path_service: 1 is not a string", `f.toml:23: service[1].last_resort: "no" is not a boolean`}},
		"vip twice":             {replace(vips, `authoritative = ["10.20.255.2"]`), []string{`f.toml:10: service[0].backup_for: the VIP 10.20.255.2 is there twice, first at f.toml:9: service[0].authoritative; remedy: keep one of the two`}},
		"bad addresses":         {replace(vips, `authoritative = ["10.20.255", "10.20.255.9/24", "::ffff:1.2.3.4", "fe80::1%eth0", "0.0.0.0/0", "127.0.0.1", "224.0.0.1", "10.0.0.1/33"]`), []string{`"10.20.255" is not an address`, `"10.20.255.9/24" has bits set after its mask; remedy: write 10.20.255.0/24`, "IPv4 written as IPv6", "has a zone", "is the default route", `"127.0.0.1" cannot be announced`, `"224.0.0.1" cannot be announced`, `"10.0.0.1/33" is not an address`}},
		"no vips":               {strings.ReplaceAll(replace(vips, ""), `backup_for = ["10.20.255.2", "10.20.255.3"]`, ""), []string{"service[0].authoritative: no VIP"}},
		"no check":              {replace(check, ""), []string{"service[0].check.command: no check; remedy"}},
		"no name":               {replace(service, ""), []string{"service[0].name: missing; remedy: give a name for the service"}},
		"bad names":             {replace(service, `name = "a/b"`), []string{`"a/b" is not a usable name`}},
		"bad node":              {replace(`node = "node1"`, `node = ".."`), []string{`node: ".." is not a usable name`}},
		"service twice":         {storyConfig + "[[service]]\nname = \"apex\"\nauthoritative = [\"192.0.2.1\"]\n[service.check]\ncommand = \"true\"\n", []string{`the service "apex" is there twice`, `the path "/exabgp/service/apex" is used twice`}},
		"bad hosts":             {replace(`"zk:2181"`, `"zk:0", "zk/app", "::1", "a b", "zk1;2181", "zk:99999"`), []string{`"zk:0" is not a server`, `"zk/app" has a path (chroot)`, `"::1" is a bare IPv6 address; remedy: write "[::1]:2181"`, `"a b" is not a server`, `"zk1;2181" is not a server`, `"zk:99999" is not a server`}},
		"bad paths":             {replace(service, service+"\nzk_path_service = \"exabgp/\"\nzk_path_maintenance = \"/zookeeper/x\"\nzk_path_status = \"/a/../b\""), []string{`zk_path_service: "exabgp/" is not a path in ZooKeeper`, `"/zookeeper/x" belongs to ZooKeeper itself`, `zk_path_status: "/a/../b" is not a path`}},
		"paths shared":          {replace(service, service+"\nzk_path_service = \"/e/x\"\nzk_path_maintenance = \"/e/x\"\nzk_path_status = \"/e/x/n\""), []string{`zk_path_maintenance: "/e/x" is used twice`, `zk_path_status: "/e/x" holds other things already`}},
		"failback path shared":  {replace(service, service+"\nzk_path_failback = \"/exabgp/maintenance/apex/x\""), []string{`zk_path_failback: "/exabgp/maintenance/apex" holds other things already`}},
		"history path shared":   {replace(service, service+"\nzk_path_history = \"/exabgp/status/apex/node1\""), []string{`the path "/exabgp/status/apex/node1" is used twice`, `zk_path_history: "/exabgp/status/apex" holds other things already`}},
		"history path unnamed":  {replace(service, service+"\nzk_path_history = \"/h/apex\""), []string{`zk_path_history: "/h/apex" does not end in the node's name "node1"`}},
		"med":                   {storyConfig + "[service.announce]\nmed = 300\nbackup_med = 4294967296\n", []string{"backup_med: 4294967296 is out of range; remedy: write 0 to 4294967295"}},
		"backup better":         {storyConfig + "[service.announce]\nmed = 300\n", []string{"backup_med: 200 is better than med = 300"}},
		"drain better":          {storyConfig + "[service.announce]\ndrain_med = 150\n", []string{"drain_med: 150 is better than backup_med = 200"}},
		"words":                 {replace(service, service+"\ndrain_style = \"soft\"\nfailback = \"never\""), []string{`drain_style: "soft" is not known; remedy: write one of withdraw, gshut`, `failback: "never" is not known`}},
		"next-hop":              {storyConfig + "[service.announce]\nnext_hop = \"2001:db8::1\"\n", []string{"next_hop: 2001:db8::1 is not of the family of 10.20.255.1/32"}},
		"next-hop word":         {storyConfig + "[service.announce]\nnext_hop = \"me\"\n", []string{`next_hop: "me" is not a next-hop; remedy: write "self"`}},
		"policy":                {replace(service, service+"\non_zk_loss = \"panic\""), []string{`on_zk_loss: "panic" is not known; remedy: write one of hold, withdraw, announce`}},
		"log":                   {replace("syslog = false", "level = \"loud\"\nformat = \"xml\"\nsyslog_facility = \"x\""), []string{`log.level: "loud" is not known`, `log.format: "xml"`, `log.syslog_facility: "x"`}},
		"no tables":             {"log = 1\nexabgp = [2]\nservice = \"apex\"\nnode = 5\n", []string{"f.toml:1: log: 1 is not a table; remedy: write [log]", "f.toml:2: exabgp: [2] is not a table", "f.toml:3: service: it is not a list of tables", "f.toml:4: node: 5 is not a string"}},
		"no table in a service": {replace("[service.check]\n"+check, "check = \"true\"\nrise = 2"), []string{"f.toml:11: service[0].check: \"true\" is not a table; remedy: write [service.check]", "f.toml:12: service.rise: unknown key"}},
		"grace":                 {replace(check, check+"\ntimeout = \"6s\""), []string{"start_grace: 15s is shorter than a check may take to its first verdict (rise × (timeout + fast_interval) = 18.6s)"}},
		"status of another":     {replace(service, service+"\nzk_path_status = \"/exabgp/status/apex/lb1\""), []string{`zk_path_status: "/exabgp/status/apex/lb1" does not end in the node's name "node1"`}},
		"hold time":             {storyConfig + "[exabgp]\nhold_time = \"1s\"\n", []string{"exabgp.hold_time: 1s is shorter than BGP allows"}},
		"http is no table":      {"http = 9180\n" + storyConfig, []string{"f.toml:1: http: 9180 is not a table; remedy: write [http]"}},
		"listen":                {storyConfig + "[http]\nlisten = [\"web\", \"0\", 65536, \"lb1:80\", \"::1\", true, \"[::ffff:1.2.3.4]:80\", 80, \":80\"]\n", []string{`f.toml:14: http.listen: "web" is not an address to listen on; remedy: write a port`, `"0" is not`, "65536 is not", `"lb1:80" is not`, `"::1" is not`, "true is not", `"[::ffff:1.2.3.4]:80" is not`, "127.0.0.1:80 is there twice"}},
		"hooks": {storyConfig + "[[hook]]\non = [\"everything\"]\n[[hook]]\ncommand = \"true\"\non = []\ntimeout = \"0s\"\n[[hook]]\ncommand = [\"a/b\"]\n[[hook]]\ncommand = 5\non = \"verdict\"\n",
			[]string{"hook[0].command: missing", `hook[0].on: "everything" is not known; remedy: write some of verdict, health,`, "hook[1].on: empty", "hook[1].timeout: 0s is out of range", `hook[2].command: "a/b" depends on the directory`, "hook[3].command: 5 is not", `hook[3].on: "verdict" is not a list`}},
		"loopback": {replace(vips, "authoritative = [\"10.20.255.0/24\"]") + "[service.loopback]\nmanage = true\ndevice = \"much-too-long\"\n",
			[]string{"loopback.manage: 10.20.255.0/24 is no single address", `loopback.device: "much-too-long" is no device, or its name is too long`}},
		"drift check": {storyConfig + "[exabgp]\ndrift_check = \"100ms\"\n", []string{"exabgp.drift_check: 100ms is so short"}},
		"neighbors":   {storyConfig + "[exabgp]\nneighbors = [\"r1\"]\n", []string{`exabgp.neighbors: "r1" is not an address`}},
		"exabgp":      {storyConfig + "[exabgp]\ndialect = 5\nlocal_as = 4294967296\nneighbors = [\"fe80::1%eth0\", \"::ffff:1.2.3.4\"]\n", []string{"f.toml:14: exabgp.dialect: 5 is not a string", "f.toml:15: exabgp.local_as: 4294967296 is out of range; remedy: write 1 to 4294967295", `f.toml:16: exabgp.neighbors: "fe80::1%eth0" is not an address`, "IPv4 written as IPv6; remedy: write 1.2.3.4"}},
		"dialect":     {storyConfig + "[exabgp]\ndialect = \"4\"\nlocal_as = 23456\n", []string{`f.toml:14: exabgp.dialect: "4" is not known; remedy: write one of auto, 3.4, 4.2, 5, 6`, "f.toml:15: exabgp.local_as: AS 23456 "}},
		"no order":    {inService("backup = \"standby\"", ""), []string{"service[0].nodes: missing, so the order of the backups is not known; remedy: list every node", `exabgp.local_as: missing, and backup = "standby" prepends it; remedy: write the local-as of ExaBGP's configuration, or prepend_step = 0`}},
		"no owner":    {inService("backups = \"first\"\nnodes = [\"node1\", \"node2\"]\n[service.owners]\n\"10.20.255.2\" = \"node2\"", ""), []string{`f.toml:13: service[0].owners: 10.20.255.3 is missing, and its owner cannot be a backup; remedy: write [service.owners] with "10.20.255.3" = "…"`}},
		"owners": {inService("backups = \"first\"\nnodes = [\"node1\", \"node2\", \"node2\"]\n[service.owners]\n\"10.20.255.1\" = \"node2\"\n\"10.20.255.2\" = \"node1\"\n\"10.20.255.3\" = \"node3\"\n\"10.20.255.3/32\" = \"node2\"\n\"10.20.255.4\" = \"node2\"\nx = \"node2\"\n\"10.20.255.0/33\" = 4", ""),
			[]string{`f.toml:12: service[0].nodes: "node2" is there twice`, `10.20.255.1 is in authoritative of "node1" and owned by "node2"`, `10.20.255.2 belongs to this node, "node1", and is in backup_for`, `f.toml:16: service[0].owners.10.20.255.3: "node3" is not in nodes, node1, node2, node2`,
				`f.toml:17: service[0].owners.10.20.255.3/32: it is the same VIP as "10.20.255.3"; remedy: keep one`, "f.toml:18: service[0].owners.10.20.255.4: it is not a VIP of this node", `f.toml:19: service[0].owners.x: "x" is not an address`, `"10.20.255.0/33" is not an address`}},
		"ranks": {inService("backups = \"first\"\nnodes = [\"node2\", \"node3\"]\n[service.ranks]\n\"10.20.255.1\" = [\"node1\"]\n\"10.20.255.2\" = [\"node2\", \"node4\"]\n\"10.20.255.3\" = \"node1\"", ""),
			[]string{`f.toml:12: service[0].nodes: this node, "node1", is not in it; remedy: list every node of the service`, `f.toml:13: service[0].ranks: "node1" owns 10.20.255.1 and cannot be its backup`, `f.toml:15: service[0].ranks.10.20.255.2: "node4" is not in nodes`, `this node, "node1", is not in the order of 10.20.255.2; remedy: add it, or remove the VIP from backup_for`, `f.toml:16: service[0].ranks.10.20.255.3: "node1" is not a list`}},
		"standby and first":     {inService(standby+"backups = \"first\"", localAS), []string{"f.toml:14: service[0].backups: it is for backup = \"on-demand\""}},
		"modes":                 {inService("backup = \"hot\"\nbackups = \"second\"\nzk_loss_after = \"-1s\"", ""), []string{`backup: "hot" is not known; remedy: write one of on-demand, standby`, `backups: "second" is not known; remedy: write one of all, first`, "zk_loss_after: -1s is out of range"}},
		"prepend without an AS": {storyConfig + "[service.announce]\nas_path_prepend = 2\n[service.announce.backup]\nas_path_prepend = [65001, 65001, 65001]\n", []string{"exabgp.local_as: missing, and f.toml:14: service[0].announce.as_path_prepend prepends it; remedy: write the local-as", "exabgp.local_as: missing, and the path of f.toml:16: service[0].announce.backup.as_path_prepend begins with it"}},
		"prepend":               {storyConfig + localAS + "[service.announce]\nas_path_prepend = 33\n[service.announce.backup]\nas_path_prepend = [0, \"65001\", 4294967296, 23456]\n[service.announce.drain]\nas_path_prepend = true\n", []string{"as_path_prepend: 33 is out of range; remedy: write 0 to 32", "backup.as_path_prepend: 0 is out of range", `"65001" in the list is not an AS number; remedy: write numbers without quotes`, "4294967296 is out of range", "AS 23456", "drain.as_path_prepend: true is neither a count nor a list; remedy: write 2, or [65001, 65001]"}},
		"paths of the wrong length": {storyConfig + localAS + "[service.announce]\nas_path_prepend = 2\nlocal_preference = 90\n[service.announce.backup]\nas_path_prepend = 1\nlocal_preference = 91\n[service.announce.drain]\nas_path_prepend = 0\nlocal_preference = 100\n",
			[]string{"f.toml:19: service[0].announce.backup.as_path_prepend: a path of 2 is shorter than the 3 that it must not be preferred to; remedy: a backup must look worse, so prepend more", "f.toml:20: service[0].announce.backup.local_preference: 91 is better than 90; remedy: a backup must look worse, so give it a lower local_preference (without one it is 100)", "f.toml:22: service[0].announce.drain.as_path_prepend: a path of 1 is shorter than the 2", "f.toml:23: service[0].announce.drain.local_preference: 100 is better than 91"}},
		"preference of the rest":  {storyConfig + "[service.announce.backup]\nlocal_preference = 200\n", []string{"backup.local_preference: 200 is better than 100"}},
		"ranks without bounds":    {inService(standby, localAS+"[service.announce.backup]\nmed = 4294967295\nprepend_step = 33\n"), []string{"f.toml:21: service[0].announce.backup.prepend_step: 33 is out of range; remedy: write 0 to 32", "med_step: 100 is too much for 2 ranks above a MED of 4294967295"}},
		"paths without bounds":    {inService(strings.NewReplacer("[\"node1\", ", "[\"node1\", \"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", ").Replace(standby), localAS+"[service.announce.backup]\nprepend_step = 32\n"), []string{"AS numbers"}},
		"a backup like the owner": {inService(standby, "[service.announce]\nbackup_med = 100\n[service.announce.backup]\nprepend_step = 0\n"), []string{"f.toml:19: service[0].announce.backup: a backup looks like the owner, so both get traffic"}},
		"drain above the last":    {inService(standby, localAS+"[service.announce]\ndrain_med = 250\n"), []string{"drain_med: 250 is better than backup_med = 300"}},
		"said twice":              {storyConfig + "[service.announce]\nbackup_med = 300\ndrain_med = 2000\n[service.announce.backup]\nmed = 300\n[service.announce.drain]\nmed = 2000\n", []string{"f.toml:14: service[0].announce.backup_med: it says the same as f.toml:17: service[0].announce.backup.med; remedy: keep one of the two", "drain_med: it says the same as f.toml:19"}},
		"communities": {storyConfig + "[service.announce]\ncommunities = [\"65536:1\", \"no-exports\"]\nlarge_communities = [\"1:2\"]\n[service.announce.drain]\nextended_communities = [\"rt:1\"]\ncommunities = \"1:1\"\n",
			[]string{`f.toml:14: service[0].announce.communities: community "65536:1"`, `f.toml:14: service[0].announce.communities: community "no-exports"`, `f.toml:15: service[0].announce.large_communities: large community "1:2"`, `f.toml:17: service[0].announce.drain.extended_communities: `, `f.toml:18: service[0].announce.drain.communities: "1:1" is not a list`}},
		"path identifier of a role": {storyConfig + "[service.announce.backup]\npath_id = 5\n", []string{"f.toml:14: service[0].announce.backup.path_id: a route cannot change its path identifier; remedy: set it in the table above"}},
		"next-hops":                 {storyConfig + "[service.announce]\nnext_hop = [\"192.0.2.1\", \"192.0.2.2\"]\n[service.announce.backup]\nnext_hop = []\n[service.announce.drain]\nnext_hop = [1]\n", []string{"next_hop: 192.0.2.1 and 192.0.2.2 are of one family", "backup.next_hop: no next-hop", "drain.next_hop: 1 in the list is not a string"}},
		"next-hop of a role":        {storyConfig + "[service.announce.backup]\nnext_hop = \"2001:db8::1\"\n", []string{`f.toml:14: service[0].announce.backup.next_hop: 2001:db8::1 is not of the family of 10.20.255.1/32; remedy: write ["2001:db8::1", …] with an address of that family, or with "self"`}},
		"IPv6 over IPv4":            {strings.Replace(storyConfig, vips, `authoritative = ["2001:db8::1"]`, 1) + "[exabgp]\nneighbors = [\"172.16.1.6\"]\n", []string{`service[0].announce.next_hop: 2001:db8::1/128 would get "self" over an IPv4 session, which has no IPv6 address; remedy: write ["self", "2001:db8::1"]`}},
		"neighbor not listed":       {storyConfig + "[[service.neighbor]]\naddress = \"172.16.1.7\"\n", []string{"f.toml:14: service[0].neighbor[0].address: 172.16.1.7 is not listed; remedy: list it, and every other neighbor of the service, in neighbors"}},
		"neighbors of a service": {inService("neighbors = [\"172.16.1.6\", \"172.16.1.6\", \"172.16.1.8\", \"r1\"]\nmin_neighbors = 5", "[[service.neighbor]]\naddress = \"172.16.1.6\"\n[[service.neighbor]]\naddress = \"172.16.1.6\"\nannounce = {med = 300}\n[[service.neighbor]]\nadress = \"x\"\n[exabgp]\nneighbors = [\"172.16.1.6\"]\n"),
			[]string{"f.toml:11: service[0].neighbors: 172.16.1.6 is there twice", "172.16.1.8 is not among exabgp.neighbors, so exazk does not follow it; remedy: add it there", `"r1" is not an address`, "f.toml:18: service[0].neighbor[1].address: 172.16.1.6 is there twice, first at f.toml:16: service[0].neighbor[0].address", "f.toml:19: service[0].neighbor[1].announce.backup_med: 200 is better than med = 300", "f.toml:21: service.neighbor.adress: unknown key", `f.toml:20: service[0].neighbor[2].address: "" is not an address`, "min_neighbors: 5 is more than the 4 neighbors listed"}},
		"one check of two kinds": {replace(check, check+"\nhttp = {url = \"http://127.0.0.1/\"}"), []string{"f.toml:13: service[0].check.http: the check has command already; remedy: write [[service.check]] for each"}},
		"checks": {replace("[service.check]\n"+check, "check_require = 6\n[[service.check]]\nrise = 0\nfile = {path = \"x\", state = \"there\"}\n[[service.check]]\ncommand = []\n[[service.check]]\nname = \"a b\"\ncommand = [\"./x\"]\n[[service.check]]\n[service.check.tcp]\naddress = \"a\"\nbind = \"lo\"\n[[service.check]]\ntcp = {address = \"127.0.0.1:25\", expect = \"(\"}\n"),
			[]string{"f.toml:11: service[0].check_require: 6 of 5 checks cannot be", "f.toml:13: service[0].check[0].rise: 0 is out of range", `f.toml:14: service[0].check[0].file.path: "x"`, `f.toml:14: service[0].check[0].file.state: "there" is not known`, "f.toml:16: service[0].check[1].command: no check", `f.toml:18: service[0].check[2].name: "a b" is not a usable name`, "f.toml:19: service[0].check[2].command:", `f.toml:22: service[0].check[3].tcp.address: "a" is not host:port`, `f.toml:23: service[0].check[3].tcp.bind: "lo" is not an address`, `service[0].check[4].name: "tcp" is there twice, first at f.toml:20: service[0].check[3]; remedy: give each check a name`, "f.toml:25: service[0].check[4].tcp.expect: "}},
		"requirements": {inService("check_require = \"most\"", ""), []string{`check_require: "most" is not known; remedy: write "all", "any", or how many must pass`}},
		"kinds of checks": {replace("[service.check]\n"+check, "[[service.check]]\nhttp = {url = \"ftp://x\", status = \"2xx\", method = 1, headers = {Host = \"x\", a = 1}}\n[[service.check]]\ndns = {server = \"x\", name = \"a b\", type = \"Q\", transport = \"sctp\", rcode = \"NO\", expect = \"a\"}\n[[service.check]]\nsystemd = {unit = \"\"}\n[[service.check]]\nfile = 5\n"),
			[]string{`f.toml:12: service[0].check[0].http.url: "ftp://x" is no URL`, `http.status: "2xx" is no status`, "http.method: 1 is not a string", "http.headers: the Host header is set elsewhere", "http.headers.a: 1 is not a string", `f.toml:14: service[0].check[1].dns.server: "x" is not host:port`, "dns.type:", "dns.transport:", "dns.rcode:", `dns.expect: "a" is not a list`, "f.toml:16: service[0].check[2].systemd.unit:", "f.toml:18: service[0].check[3].file: 5 is not a table; remedy: write [service.check.file]"}},
		"tables in a service":     {storyConfig + "[service.announce]\nbackup = 1\ndrain = [2]\n[[service]]\nname = \"b\"\nneighbor = {address = 1}\nranks = [1]\nowners = 5\n", []string{"f.toml:14: service[0].announce.backup: 1 is not a table; remedy: write [service.announce.backup] on", "f.toml:15: service[0].announce.drain: [2] is not a table", "f.toml:18: service[1].neighbor: it is not a list of tables; remedy: write [[service.neighbor]]", "f.toml:19: service[1].ranks: [1] is not a table; remedy: write [service.ranks]", "service[1].owners: 5 is not a table"}},
		"grace with jitter":       {replace(check, check+"\njitter = \"12s\""), []string{"start_grace: 15s is shorter than a check may take to its first verdict (jitter + rise × (timeout + fast_interval) = 15.6s)"}},
		"checks in one line":      {replace("[service.check]\n"+check, "check = [{command = \"true\", rise = 0}, {tcp = {address = \"x\"}}]"), []string{"f.toml:11: service[0].check[0].rise: 0 is out of range", `f.toml:11: service[0].check[1].tcp.address: "x" is not host:port`}},
		"a long list":             {storyConfig + localAS + "[service.announce]\nas_path_prepend = [" + strings.Repeat("1, ", 33) + "]\n", []string{"f.toml:16: service[0].announce.as_path_prepend: 33 AS numbers; remedy: write 32 at most"}},
		"no room for the drain's": {storyConfig + "[service.announce]\ncommunities = [" + hundreds(200) + "]\n", []string{"f.toml:14: service[0].announce.communities: 201 communities"}},
		"fast is slow":            {replace(check, check+"\nfast_interval = \"2s\""), []string{"fast_interval: 2s is slower than interval = 1s"}},
		"nul":                     {replace(check, `command = "a\u0000b"`), []string{"contains a NUL byte"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig("f.toml", tt.text)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in:\n%v", want, err)
				}
			}
		})
	}
}

// TestFaultyIntervalIsOneFault: what has its default from it is none, for its line has nothing to mend.
func TestFaultyIntervalIsOneFault(t *testing.T) {
	for _, interval := range []string{"5", `"0s"`, `"-1s"`} {
		_, err := ParseConfig("f.toml", strings.Replace(storyConfig, `command = "true"`, "command = \"true\"\ninterval = "+interval, 1))
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "check.interval: ") {
			t.Errorf("interval = %s: got %v", interval, err)
		}
	}
}

func TestFlagsConfig(t *testing.T) {
	flags := Flags{Name: "apex", AuthIPs: []string{"10.20.255.1"}, NonAuthIPs: []string{"10.20.255.2"}, LocalCheck: "true", ZKHosts: []string{"zk1", "zk2:2182"}, PathMaintenance: "/exabgp/maintenance/apex/node7"}
	c, err := FlagsConfig(flags)
	if err != nil {
		t.Fatal(err)
	}
	if c.Node != "node7" || c.Services[0].ClaimsPath != "/exabgp/service/apex" || c.Services[0].StatusPath != "/exabgp/status/apex/node7" {
		t.Errorf("got %+v", c)
	}
	if want := []string{"zk1:2181", "zk2:2182"}; !slices.Equal(c.ZooKeeper.Hosts, want) {
		t.Errorf("got %v, want %v", c.ZooKeeper.Hosts, want)
	}
	host, _ := os.Hostname()
	flags.PathMaintenance = "/exabgp/maintenance/apex" // the first README of the Python tool has it without a node
	if c, err = FlagsConfig(flags); err != nil || c.Node != host {
		t.Errorf("got node %q, error %v; want the host name %q", c.Node, err, host)
	}
	if c, err = FlagsConfig(Flags{Name: "apex", ZKHosts: []string{"zk1"}, PathMaintenance: "/m/apex/node7", ZooKeeperOnly: true}); err != nil || c.Services[0].MaintenancePath != "/m/apex/node7" {
		t.Errorf("got %+v, error %v", c, err)
	}
	_, err = FlagsConfig(Flags{AuthIPs: []string{"x"}, ZKHosts: []string{"zk"}, PathService: "/exabgp/failback/"})
	for _, want := range []string{"--name: missing", `--auth-ip: "x" is not an address`, "--local-check: no check", `--zk-path-service: "/exabgp/failback/" is not a path`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
}

// TestFlagsConfigNamesWhatHasNoFlag meets a fault in a default that no flag of the Python tool can change.
func TestFlagsConfigNamesWhatHasNoFlag(t *testing.T) {
	_, err := FlagsConfig(Flags{Name: "apex", AuthIPs: []string{"10.20.255.1"}, LocalCheck: "true", ZKHosts: []string{"zk"}, PathService: "/exabgp/failback/apex"})
	want := `service[0].zk_path_failback (has no flag; use --config): "/exabgp/failback/apex" holds other things already`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("want %s: %v", want, err)
	}
}

func TestClaimName(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.20.255.1/32": "10.20.255.1", "10.20.255.0/24": "10.20.255.0_24", "2001:db8::/64": "2001:db8::_64", "2001:DB8:0::1/128": "2001:db8::1",
	} {
		if got := ClaimName(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %q, want %q", prefix, got, want)
		}
	}
}

// TestSyntaxErrorInTheFirstLine points to what no line comes before. The TOML library panics there by itself.
func TestSyntaxErrorInTheFirstLine(t *testing.T) {
	for _, text := range []string{"node = \"lb1\r\n[x]\n", "node = 'lb1\r\n", "node = \"lb1\\"} {
		if _, err := ParseConfig("f.toml", text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

// TestPathsAreUTF8: such a path is accepted, and what is printed of it ("\xff") is another path when it is read back.
func TestPathsAreUTF8(t *testing.T) {
	_, err := FlagsConfig(Flags{Name: "apex", AuthIPs: []string{"10.20.255.1"}, LocalCheck: "true", ZKHosts: []string{"zk"}, PathMaintenance: "/m/\xff/apex/n1"})
	if err == nil {
		t.Error("accepted")
	}
}

// TestKeysOfAnotherCase: the library takes Node for node, silently, and with both given one of them wins.
func TestKeysOfAnotherCase(t *testing.T) {
	if c, err := ParseConfig("f.toml", "Node = \"node2\"\n"+storyConfig); err == nil {
		t.Errorf("accepted, the node is %s", c.Node)
	}
}

// BenchmarkParseConfig reads 200 services with 5 VIPs each, every third one with an order.
func BenchmarkParseConfig(b *testing.B) {
	var text strings.Builder
	text.WriteString("node = \"node1\"\nzookeeper = {hosts = [\"zk\"]}\nexabgp = {local_as = 65001}\n")
	for i := range 200 {
		vip := func(n int) string { return fmt.Sprintf("10.%d.%d.%d", n, i/250, i%250+1) }
		fmt.Fprintf(&text, "[[service]]\nname = \"s%d\"\nauthoritative = [%q, %q]\nbackup_for = [%q, %q, %q]\n", i, vip(1), vip(2), vip(3), vip(4), vip(5))
		if i%3 == 0 {
			fmt.Fprintf(&text, "backup = \"standby\"\nnodes = [\"node1\", \"node2\", \"node3\"]\n[service.owners]\n%q = \"node2\"\n%q = \"node3\"\n%q = \"node3\"\n", vip(3), vip(4), vip(5))
		}
		fmt.Fprintf(&text, "[[service.check]]\ncommand = \"true\"\n[[service.check]]\nhttp = {url = \"http://127.0.0.1/\"}\n[service.announce]\ncommunities = [\"no-export\", \"65001:%d\"]\n", i)
	}
	for b.Loop() {
		if c, err := ParseConfig("f.toml", text.String()); err != nil || len(c.Services) != 200 {
			b.Fatal(err)
		}
	}
}

// hundreds are so many communities.
func hundreds(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%q", fmt.Sprint("65001:", i)))
	}
	return strings.Join(all, ", ")
}
