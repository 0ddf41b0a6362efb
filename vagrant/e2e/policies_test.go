package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"exazk/vagrant/lab"
)

// check is where the sample configurations have the check of each load balancer.
const check = "/usr/local/bin/check_local_nginx.sh"

// failback is where the word is given.
const failback = "/exabgp/failback/apex"

// waiting is in the record of an owner that waits for an operator's word.
const waiting = `"reason":"failback-manual"`

// TestPolicies plays with what is off by default: a last resort, GRACEFUL_SHUTDOWN, and a return by an operator's word.
func TestPolicies(t *testing.T) {
	policies := func(node int) string {
		return strings.Replace(sampleText("apex-node%d.toml", node), "[service.check]", "last_resort = true\ndrain_style = \"gshut\"\nfailback = \"manual\"\n[service.check]", 1)
	}
	st := newStage(t, "policies", 4*time.Second, lab.Options{ExazkTOML: policies})
	st.begin = calledIn
	st.play(t,
		act{"steady state", steadyState},
		act{"all checks fail", allChecksFail},
		act{"drain with GRACEFUL_SHUTDOWN", drainedGracefully},
		act{"return by word", returnsByWord},
	)
}

// calledIn gives the word to the owners that wait for it: where the machine is busy, a node may start so late that the others announce
// its VIP already.
func calledIn(s *scene) {
	s.until(60*time.Second, "steady state", func() error {
		err := s.steadyNow()
		for vip := range lab.VIPs() {
			if err != nil && s.recorded(vip, waiting)() == nil {
				s.must(s.lab.ZKCreate(failback+"/"+node(vip), nil))
			}
		}
		return err
	})
}

// allChecksFail, because of something that they share; the service itself works. Nobody withdraws the last route of a VIP,
// and when one check succeeds again that node alone has all VIPs.
func allChecksFail(s *scene) {
	all := lab.Balancers()
	s.during("checks fail", nothing, func() {
		for _, lb := range all {
			s.must(s.lab.Host(lb).WriteFile(check, []byte("#!/bin/sh\necho no database\nexit 1\n"), 0o755))
		}
		s.until(5*time.Second, "all are sick", s.allSick)
		s.throughout(3*time.Second, "every VIP has a route", s.everyVIPHasARoute)
	})
	s.during("one recovers", nothing, func() {
		s.repaired(all[1])
		for vip := range lab.VIPs() {
			s.until(10*time.Second, "the healthy one has it alone", s.announcedBy(vip, "r2"))
		}
	})
	s.during("all recover", nothing, func() {
		s.repaired(all[0])
		s.repaired(all[2])
		for i, lb := range []string{all[0], all[2]} { // failback = "manual"
			vip := 2 * i
			s.until(10*time.Second, lb+" waits", s.recorded(vip, waiting))
			s.must(s.lab.ZKCreate(failback+"/"+node(vip), nil))
		}
		s.steady()
	})
}

// allSick wants every record to say that the check fails, and one at least to raise the alarm.
func (s *scene) allSick() error {
	alarm := errors.New("no record says last_resort")
	for vip := range lab.VIPs() {
		if err := s.recorded(vip, `"health":"unhealthy"`)(); err != nil {
			return err
		}
		if s.recorded(vip, `"last_resort":true`)() == nil {
			alarm = nil
		}
	}
	return alarm
}

func (s *scene) everyVIPHasARoute() error {
	t, err := s.lab.Routes("r0")
	if err != nil {
		return err
	}
	for _, vip := range lab.VIPs() {
		if len(t.For(vip)) == 0 {
			return fmt.Errorf("%s has none", vip)
		}
	}
	return nil
}

// repaired puts the sample's check back.
func (s *scene) repaired(lb string) {
	s.Helper()
	s.must(s.lab.Host(lb).CopyFile(filepath.Join(place.root, "configs", "check_local_nginx.sh"), check, 0o755))
}

// drainedGracefully: routers are asked to move before the route goes (RFC 8326).
func drainedGracefully(s *scene) {
	s.during("drain", nothing, func() {
		s.must(s.lab.ZKCreate(maintenance+"/"+node(vip1), nil))
		s.until(2*time.Second, "GRACEFUL_SHUTDOWN at the leaf", func() error {
			out, err := s.lab.Birdc(leaf, "show route all for "+lab.VIPs()[vip1].String())
			if err == nil && (!strings.Contains(out, "(65535,0)") || !strings.Contains(out, "BGP.med: 1000")) {
				err = fmt.Errorf("it has %s", out)
			}
			return err
		})
		s.takenOver(vip1, 15*time.Second)
		s.until(5*time.Second, "withdrawn", s.absent(leaf, vip1))
	})
	s.during("return", nothing, func() {
		s.must(s.lab.ZKDelete(maintenance + "/" + node(vip1)))
		s.steady()
	})
}

// returnsByWord: after a failure the node waits until it is told, and loses nothing when it comes.
func returnsByWord(s *scene) {
	s.forgotten()
	// With last_resort the sick one stays until it has seen another one announce, by a record of a second after the check failed
	// at the earliest; r0 does not mind its worse MED.
	s.during("check fails", allowance{vip1, 3 * time.Second}, func() {
		s.must(s.lab.StopWeb(victim))
		s.takenOver(vip1, 5*time.Second)
	})
	s.during("check succeeds", nothing, func() {
		s.must(s.lab.StartWeb(s.Context(), victim))
		s.until(5*time.Second, "it waits", s.recorded(vip1, waiting))
		s.throughout(2*time.Second, "the others keep it", s.absent(leaf, vip1))
	})
	s.during("the word is given", nothing, func() {
		s.must(s.lab.ZKCreate(failback+"/"+node(vip1), nil))
		s.steady()
	})
}
