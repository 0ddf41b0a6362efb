package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// summary is one line for each role, with what is not at its usual value.
func (a *Announcement) summary() string {
	var b strings.Builder
	for _, r := range []struct {
		name  string
		attrs Attributes
	}{{"own", a.Own}, {"backup", a.Backup}, {"drain", a.Drain}} {
		fmt.Fprintf(&b, "%s %d", r.name, r.attrs.MED)
		for _, p := range []struct{ name, text string }{
			{"path", r.attrs.ASPath}, {"com", r.attrs.Communities}, {"large", r.attrs.LargeCommunities}, {"ext", r.attrs.ExtCommunities},
			{"hop4", hopText(r.attrs.NextHop4)}, {"hop6", hopText(r.attrs.NextHop6)},
		} {
			if p.text != "" {
				fmt.Fprintf(&b, " %s %s", p.name, p.text)
			}
		}
		if r.attrs.HasLocalPreference {
			fmt.Fprintf(&b, " lp %d", r.attrs.LocalPreference)
		}
		if r.attrs.PathID != 0 {
			fmt.Fprintf(&b, " id %d", r.attrs.PathID)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "step %d %d\n", a.StepMED, a.StepPrepend)
	return b.String()
}

func hopText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// inService is the story's configuration with more in its service, and more tables after its check.
func inService(keys, tables string) string {
	return strings.Replace(storyConfig, "[service.check]", keys+"\n[service.check]", 1) + tables
}

const (
	localAS = "[exabgp]\nlocal_as = 65001\n"
	standby = "backup = \"standby\"\nnodes = [\"node1\", \"node2\", \"node3\"]\nowners = {\"10.20.255.2\" = \"node2\", \"10.20.255.3\" = \"node3\"}\n"
)

func TestAttributesPerRole(t *testing.T) {
	for name, tt := range map[string]struct{ keys, tables, want string }{
		"defaults": {"", "", "own 100\nbackup 200\ndrain 1000\nstep 0 0\n"},
		"a role has what the owner has": {"", "[service.announce]\ncommunities = [\"1:2\", \"blackhole\"]\nlarge_communities = [\"3:2:1\", \"1:2:3\"]\nextended_communities = [\"target:1:2\"]\nlocal_preference = 50\nnext_hop = \"192.0.2.1\"\npath_id = 9\n",
			"own 100 com 1:2 65535:666 large 1:2:3 3:2:1 ext target:1:2 hop4 192.0.2.1 lp 50 id 9\n" +
				"backup 200 com 1:2 65535:666 large 1:2:3 3:2:1 ext target:1:2 hop4 192.0.2.1 lp 50 id 9\n" +
				"drain 1000 com 1:2 65535:666 large 1:2:3 3:2:1 ext target:1:2 hop4 192.0.2.1 lp 50 id 9\nstep 0 0\n"},
		"a role overrides the owner": {"", "[service.announce]\ncommunities = [\"1:2\"]\nnext_hop = \"192.0.2.1\"\nlocal_preference = 300\n[service.announce.backup]\ncommunities = []\nlocal_preference = 0\nmed = 400\n[service.announce.drain]\nnext_hop = \"self\"\nmed = 500\n",
			"own 100 com 1:2 hop4 192.0.2.1 lp 300\nbackup 400 hop4 192.0.2.1 lp 0\ndrain 500 com 1:2 lp 0\nstep 0 0\n"},
		"a count of prepends": {localAS, "", "own 100\nbackup 200\ndrain 1000\nstep 0 0\n"},
		"a path looks no better the later it is": {"", localAS + "[service.announce]\nas_path_prepend = 1\n[service.announce.backup]\nas_path_prepend = [64999, 65001]\n",
			"own 100 path 65001 65001\nbackup 200 path 65001 64999 65001\ndrain 1000 path 65001 64999 65001\nstep 0 0\n"},
		"standby prepends by rank": {standby, localAS, "own 100\nbackup 200 path 65001 65001\ndrain 1000 path 65001 65001 65001 65001\nstep 100 1\n"},
		"standby on a path": {standby, localAS + "[service.announce]\nas_path_prepend = [64999]\n[service.announce.backup]\nprepend_step = 2\nmed_step = 1000\n",
			"own 100 path 65001 64999\nbackup 200 path 65001 65001 65001 64999\ndrain 1200 path 65001 65001 65001 65001 65001 65001 65001 64999\nstep 1000 2\n"},
		"standby by MED alone":           {standby, "[service.announce.backup]\nprepend_step = 0\n", "own 100\nbackup 200\ndrain 1000\nstep 100 0\n"},
		"standby with a path of its own": {standby, localAS + "[service.announce.backup]\nas_path_prepend = 5\n", "own 100\nbackup 200 path 65001 65001 65001 65001 65001 65001\ndrain 1000 path 65001 65001 65001 65001 65001 65001 65001 65001\nstep 100 1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a count of prepends" { // without any there is nothing to say
				tt.keys, tt.tables = "", localAS+"[service.announce]\nas_path_prepend = 0\n"
			}
			c, err := ParseConfig("f.toml", inService(tt.keys, tt.tables))
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Services[0].Announce.summary(); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// TestAttributesPerNeighbor: what a neighbor has of its own counts before the service's, and what is said of a role before what
// is said of all.
func TestAttributesPerNeighbor(t *testing.T) {
	c, err := ParseConfig("f.toml", inService("neighbors = [\"172.16.1.6\", \"172.16.1.7\"]", `
[service.announce]
communities = ["1:1"]
backup_med = 250
[service.announce.backup]
communities = ["2:2"]
[[service.neighbor]]
address = "172.16.1.7"
[service.neighbor.announce]
med = 7
communities = ["3:3"]
[service.neighbor.announce.drain]
med = 4000
`))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[0]
	if len(s.Neighbors) != 2 || s.Neighbors[0].Address.String() != "172.16.1.6" || s.Neighbors[0].Announce != s.Announce {
		t.Errorf("got %+v", s.Neighbors)
	}
	if got, want := s.Announce.summary(), "own 100 com 1:1\nbackup 250 com 2:2\ndrain 1000 com 1:1\nstep 0 0\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got, want := s.Neighbors[1].Announce.summary(), "own 7 com 3:3\nbackup 250 com 2:2\ndrain 4000 com 3:3\nstep 0 0\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestNeighborsOfTheProcess stand in for those of a service that has attributes for one of them only.
func TestNeighborsOfTheProcess(t *testing.T) {
	c, err := ParseConfig("f.toml", inService("", "[[service.neighbor]]\naddress = \"172.16.1.7\"\nannounce = {med = 5}\n[exabgp]\nneighbors = [\"172.16.1.6\", \"172.16.1.7\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Services[0].Neighbors; len(n) != 2 || n[0].Announce.Own.MED != 100 || n[1].Announce.Own.MED != 5 {
		t.Errorf("got %+v", n)
	}
}
