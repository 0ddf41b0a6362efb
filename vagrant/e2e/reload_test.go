package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"exazk/vagrant/lab"
)

// What node1 owns besides its VIP, and nobody backs up. leaver is the one of them that goes and comes.
var (
	extras = []netip.Addr{netip.MustParseAddr("10.20.255.11"), netip.MustParseAddr("10.20.255.12"), netip.MustParseAddr("10.20.255.13")}
	leaver = extras[1]
)

// settled is how long to look for an UPDATE that must not come.
const settled = time.Second

// TestReload changes the file of a node under its running exazk, and while it is dead.
func TestReload(t *testing.T) {
	newStage(t, "reload", 4*time.Second, lab.Options{ExazkTOML: func(node int) string {
		if node == 1 {
			return owning(node, append(lab.VIPs()[:1], extras...)...)
		}
		return owning(node, lab.VIPs()[node-1])
	}}).play(t,
		act{"a VIP leaves the file and returns", vipLeaves},
		act{"a VIP moves to another node", vipMoves},
		act{"a broken file", brokenFile},
		act{"a VIP leaves the file while exazk is dead", vipLeavesUnseen},
	)
}

// owning is the sample file of a node with those authoritative VIPs. It backs up every other VIP of the lab.
func owning(node int, vips ...netip.Addr) string {
	var backups []netip.Addr
	for _, vip := range lab.VIPs() {
		if !slices.Contains(vips, vip) {
			backups = append(backups, vip)
		}
	}
	lines := strings.SplitAfter(sampleText("apex-node%d.toml", node), "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "authoritative = "):
			lines[i] = "authoritative = " + list(vips) + "\n"
		case strings.HasPrefix(line, "backup_for = "):
			lines[i] = "backup_for = " + list(backups) + "\n"
		}
	}
	return strings.Join(lines, "")
}

func list(vips []netip.Addr) string {
	var quoted []string
	for _, vip := range vips {
		quoted = append(quoted, fmt.Sprintf("%q", vip.String()))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// without is the victim's file with one VIP less.
func without(gone netip.Addr) string {
	return owning(1, slices.DeleteFunc(append(lab.VIPs()[:1], extras...), func(vip netip.Addr) bool { return vip == gone })...)
}

func whole() string { return without(netip.Addr{}) }

// file replaces the file of a load balancer and tells nobody.
func (s *scene) file(lb, text string) {
	s.Helper()
	name := fmt.Sprintf("/etc/exazk/apex-%s.toml", node(own(lb)))
	s.must(s.lab.Host(lb).WriteFile(name, []byte(text), 0o644))
}

func (s *scene) reload(lb, text string) {
	s.Helper()
	s.file(lb, text)
	s.must(s.lab.SignalExazk(lb, syscall.SIGHUP))
}

// hears says what keeps the victim's leaf from having, or not having, a path to a VIP from it.
func (s *scene) hears(vip netip.Addr, want bool) func() error {
	return func() error {
		t, err := s.lab.Routes(leaf)
		if err == nil && (len(t.For(vip)) > 0) != want {
			err = fmt.Errorf("%s has %d paths to %s", leaf, len(t.For(vip)), vip)
		}
		return err
	}
}

// updates acts, waits for more, and wants the leaves to have heard of so many routes, announced or withdrawn, from their load
// balancers meanwhile: also of those that did not change.
func (s *scene) updates(want map[string]int, act func()) {
	s.Helper()
	before := map[string]lab.Received{}
	for _, lb := range lab.Balancers() {
		r, err := s.lab.Received(lab.Leaf(lb), lb)
		s.must(err)
		before[lb] = r
	}
	act()
	s.throughout(settled, "steady state", s.steadyNow)
	for _, lb := range lab.Balancers() {
		now, err := s.lab.Received(lab.Leaf(lb), lb)
		s.must(err)
		if n := now.After(before[lb]); n != want[lb] {
			s.Errorf("%s sent %d routes in UPDATEs, not %d", lb, n, want[lb])
		}
	}
}

// held are the claims: who owns each, and what it says.
func (s *scene) held() map[string]string {
	s.Helper()
	names, err := s.lab.ZKChildren(claims)
	s.must(err)
	all := map[string]string{}
	for _, name := range names {
		data, owner, err := s.lab.ZKGet(claims + "/" + name)
		s.must(err)
		all[name] = fmt.Sprintf("%#x %s", uint64(owner), data)
	}
	return all
}

// holding says what keeps the claims from being exactly those, not one of them made anew.
func (s *scene) holding(want map[string]string) {
	s.Helper()
	if got := s.held(); !maps.Equal(got, want) {
		s.Errorf("the claims are %v, not %v", got, want)
	}
}

func vipLeaves(s *scene) {
	s.until(5*time.Second, "claimed", s.claimThere(leaver))
	rest := s.held()
	delete(rest, leaver.String())
	s.during("it leaves", nothing, func() {
		s.updates(map[string]int{victim: 1}, func() {
			s.reload(victim, without(leaver))
			s.until(5*time.Second, "its route goes", s.hears(leaver, false))
		})
	})
	s.holding(rest)
	s.during("it returns", nothing, func() {
		s.updates(map[string]int{victim: 1}, func() {
			s.reload(victim, whole())
			s.until(5*time.Second, "its route comes", s.hears(leaver, true))
			s.until(5*time.Second, "claimed again", s.claimThere(leaver))
		})
	})
	now := s.held()
	delete(now, leaver.String())
	if !maps.Equal(now, rest) {
		s.Errorf("the other claims are %v, not %v", now, rest)
	}
}

func (s *scene) claimThere(vip netip.Addr) func() error {
	return func() error {
		there, err := s.lab.ZKExists(claims + "/" + vip.String())
		if err == nil && !there {
			err = fmt.Errorf("%s is not claimed", vip)
		}
		return err
	}
}

// vipMoves from its owner to a backup: each is told by its own file, the new owner first, and nobody notices.
func vipMoves(s *scene) {
	const heir = "lb2"
	vip := lab.VIPs()[vip1]
	s.during("to another node", nothing, func() {
		s.reload(heir, owning(2, vip, lab.VIPs()[1]))
		s.keepsAlone(vip1, leaf)
		s.reload(victim, without(vip))
		s.until(10*time.Second, "the new owner has it alone", s.announcedBy(vip1, lab.Leaf(heir)))
		s.until(5*time.Second, "and claims it", s.claimOf(vip1, "node2"))
		s.throughout(settled, "the new owner has it", s.answeredBy(vip1, heir))
	})
	s.during("and back", nothing, func() {
		s.reload(victim, whole())
		s.keepsAlone(vip1, lab.Leaf(heir))
		s.reload(heir, owning(2, lab.VIPs()[1]))
		s.steady()
		s.until(5*time.Second, "claimed", s.claimOf(vip1, "node1"))
	})
}

// keepsAlone wants the one who claims a VIP to announce it still where another one owns it by its file now. That one may announce it
// as well (always so once start_grace is over), until it has seen the claim for the overlap.
func (s *scene) keepsAlone(vip int, leaf string) {
	s.Helper()
	s.throughout(settled, "the owner has it", func() error {
		t, err := s.lab.Routes("r0")
		if err == nil && !slices.ContainsFunc(t.For(lab.VIPs()[vip]), func(r lab.Route) bool { return r.Via == leaf }) {
			err = fmt.Errorf("r0 does not have %s by %s", lab.VIPs()[vip], leaf)
		}
		return err
	})
	s.until(2*time.Second, "the owner has it alone", s.announcedBy(vip, leaf))
}

// claimOf says what keeps the claim of a VIP from being that of a node.
func (s *scene) claimOf(vip int, node string) func() error {
	return func() error {
		data, _, err := s.lab.ZKGet(claims + "/" + lab.VIPs()[vip].String())
		if err == nil && !strings.Contains(string(data), `"node":"`+node+`"`) {
			err = fmt.Errorf("the claim says %s", data)
		}
		return err
	}
}

// brokenFile changes nothing, and the log says what is wrong with it, and where.
func brokenFile(s *scene) {
	pid, err := s.lab.ExazkPID(victim)
	s.must(err)
	before := s.held()
	s.during("SIGHUP", nothing, func() {
		s.updates(nil, func() {
			for _, broken := range []struct{ text, place string }{
				{strings.Replace(without(leaver), `"10.20.255.13"`, `"10.20.255.300"`, 1), `service[0].authoritative`},
				{strings.Replace(without(leaver), "[service.check]", "[service.check", 1), "apex-node1.toml"},
				{strings.ReplaceAll(without(leaver), "node1", "node7"), `node is \"node7\" now`},
			} {
				skip := len(s.said(victim))
				s.reload(victim, broken.text)
				s.until(5*time.Second, "the log says why", func() error {
					said := s.said(victim)[skip:]
					for line := range strings.Lines(said) {
						if strings.Contains(line, "reload refused, everything stays as it is") && strings.Contains(line, broken.place) {
							return nil
						}
					}
					return fmt.Errorf("no refusal that names %q in %q", broken.place, said)
				})
			}
		})
	})
	s.holding(before)
	if now, err := s.lab.ExazkPID(victim); err != nil || now != pid {
		s.Errorf("process %d runs, not %d: %v", now, pid, err)
	}
	s.file(victim, whole())
}

// said is the log of a load balancer's ExaBGP and its processes.
func (s *scene) said(lb string) string {
	s.Helper()
	data, err := os.ReadFile(filepath.Join(s.lab.Host(lb).Dir(), lab.DaemonExaBGP+".log"))
	s.must(err)
	return string(data)
}

// vipLeavesUnseen: ExaBGP keeps the routes of the dead process, and only its record tells the next one of this VIP.
func vipLeavesUnseen(s *scene) {
	s.during("SIGKILL", nothing, func() {
		s.updates(map[string]int{victim: 1}, func() {
			s.must(s.hears(leaver, true)())
			s.file(victim, without(leaver))
			s.reborn(vip1, func() { s.respawned(syscall.SIGKILL) })
			s.until(5*time.Second, "its route goes", s.hears(leaver, false))
		})
	})
	s.during("it returns", nothing, func() {
		s.updates(map[string]int{victim: 1}, func() {
			s.reload(victim, whole())
			s.until(5*time.Second, "its route comes", s.hears(leaver, true))
		})
	})
}
