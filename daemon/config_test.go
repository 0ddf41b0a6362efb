package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	c, err := ParseConfig("min.toml", storyConfig)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[0]
	want := Service{
		Name: "apex", Authoritative: s.Authoritative, BackupFor: s.BackupFor,
		ClaimsPath: "/exabgp/service/apex", MaintenancePath: "/exabgp/maintenance/apex/node1", FailbackPath: "/exabgp/failback/apex/node1", StatusPath: "/exabgp/status/apex/node1",
		OnZKLoss: PolicyHold, Overlap: time.Second, DrainTimeout: 10 * time.Second, StartGrace: 15 * time.Second, MinNeighbors: 1,
		DrainStyle: DrainWithdraw, Failback: FailbackAuto, FlapHold: time.Minute,
		Backup: BackupOnDemand, Backups: BackupsAll, Require: 1,
		Checks:   []Check{{Command: "true", Interval: time.Second, FastInterval: 200 * time.Millisecond, Timeout: time.Second, Rise: 3, Fall: 2}},
		Announce: Announcement{Own: Attributes{MED: 100}, Backup: Attributes{MED: 200}, Drain: Attributes{MED: 1000}},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
	if c.ZooKeeper.SessionTimeout != 10*time.Second || !slices.Equal(c.ZooKeeper.Hosts, []string{"zk:2181"}) || !c.ExaBGP.TrackNeighbors {
		t.Errorf("got %+v", c)
	}
}

// TestRenderReadsBack checks that "exazk check" prints a file that means the same.
func TestRenderReadsBack(t *testing.T) {
	text := strings.ReplaceAll(storyConfig, `command = "true"`, `command = "echo \"a\\b\tc\" | grep -q '✓'"`) +
		"[[service]]\nname = \"dns\"\nauthoritative = [\"2001:db8::53\", \"192.0.2.0/24\"]\nmin_neighbors = 2\n[service.check]\ncommand = \"true\"\n[service.announce]\nmed = 0\nbackup_med = 4294967295\n" +
		"[[service]]\nname = \"ntp\"\nbackup_for = [\"192.0.2.123\"]\nlast_resort = true\nfailback = \"manual\"\nflap_hold = \"1.5s\"\n[service.check]\ncommand = \"true\"\n[service.announce]\nnext_hop = \"192.0.2.1\"\n" +
		"[exabgp]\nneighbor_tracking = \"off\"\nhold_time = \"9s\"\nneighbors = [\"172.16.1.6\", \"2001:db8::6\"]\n"
	c, err := ParseConfig("a.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseConfig("b.toml", c.Render())
	if err != nil {
		t.Fatalf("%v in:\n%s", err, c.Render())
	}
	if !reflect.DeepEqual(c, again) {
		t.Errorf("got %+v\nwant %+v", again, c)
	}
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
		"syntax":                {"node = \n", []string{"f.toml: toml: error", "line 1"}},
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
		"neighbors":             {storyConfig + "[exabgp]\nneighbors = [\"r1\"]\n", []string{`exabgp.neighbors: "r1" is not an address`}},
		"fast is slow":          {replace(check, check+"\nfast_interval = \"2s\""), []string{"fast_interval: 2s is slower than interval = 1s"}},
		"nul":                   {replace(check, `command = "a\u0000b"`), []string{"contains a NUL byte"}},
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
