package e2e

import (
	"syscall"
	"testing"
	"time"

	"exazk/vagrant/lab"
)

// fabric is what a failover may take that the routers see at once and make without ZooKeeper: a few tens of milliseconds, and what
// a busy machine adds. The session timeout, and ExaBGP's restart, are far longer.
const fabric = 500 * time.Millisecond

// TestStandby plays with backups that announce all the time. The fabric fails over by itself as soon as a router misses a
// route, ZooKeeper or not, and what is planned costs nothing as ever.
func TestStandby(t *testing.T) {
	newStage(t, "standby", 4*time.Second, lab.Options{Standby: true}).play(t,
		act{"steady state", standbySteady},
		act{"host is lost", standbyHostLost},
		act{"link to ToR is pulled", standbyLinkPulled},
		act{"exabgp is killed", standbyExaBGPKilled},
		act{"ToR falls silent", standbyTorSilent},
		act{"check fails", standbyCheckFails},
		act{"maintenance", maintained(victim)},
		act{"exazk is stopped", exazkStopped},
		act{"exazk is killed", exazkKilled},
		act{"exabgp is stopped by systemd", stoppedBySystemd},
		act{"host is lost without zookeeper", standbyHostLostWithoutZooKeeper},
	)
}

// standbySteady: every node announces every VIP, worse by its rank, and only the owner gets the traffic.
func standbySteady(s *scene) {
	s.during("nothing happens", nothing, func() {
		s.unmoved(lab.Balancers(), func() {
			s.throughout(2*time.Second, "steady state", s.steadyNow)
		})
	})
	for i := range lab.VIPs() {
		s.claim(i)
	}
}

// heir waits until the first backup of a VIP answers for it, and sees that nobody else ever does.
func (s *scene) heir(vip int, hold time.Duration) {
	s.Helper()
	first := lab.StandbyOrder(vip)[0]
	s.takenOver(vip, 5*time.Second)
	s.throughout(hold, first+" has it", s.answeredBy(vip, first))
}

// standbyHostLost: the leaf drops the routes with the carrier, and r0 has the next ones already. Nobody waits for the end of a session.
func standbyHostLost(s *scene) {
	s.during("crash", allowance{vip1, fabric}, func() {
		s.must(s.lab.CrashHost(victim))
		s.claimed(vip1)
		s.heir(vip1, s.stage.noticed()) // nothing changes when the session ends
	})
	s.during("boot", nothing, func() {
		s.must(s.lab.BootHost(s.Context(), victim))
		s.steady()
	})
}

func standbyLinkPulled(s *scene) {
	s.during("link down", allowance{vip1, fabric}, func() {
		s.must(s.lab.LinkDown(leaf, victim))
		s.heir(vip1, time.Second)
	})
	s.during("link up", nothing, func() {
		s.must(s.lab.LinkUp(leaf, victim))
		s.steady()
	})
}

func standbyExaBGPKilled(s *scene) {
	s.during("SIGKILL", allowance{vip1, fabric}, func() {
		s.must(s.lab.KillExaBGP(victim, syscall.SIGKILL))
		s.heir(vip1, time.Second)
	})
	s.during("start", nothing, func() {
		s.must(s.lab.StartExaBGP(victim))
		s.steady()
	})
}

// standbyTorSilent: nothing but the hold time tells the leaf.
func standbyTorSilent(s *scene) {
	s.during("silence", allowance{vip1, holdTime + fabric}, func() {
		s.must(s.lab.Blackhole(leaf, victim))
		s.until(holdTime+3*time.Second, "the first backup answers", s.answeredBy(vip1, lab.StandbyOrder(vip1)[0]))
		s.heir(vip1, time.Second)
	})
	s.during("healed", nothing, func() {
		s.must(s.lab.Heal(leaf, victim))
		s.steady()
	})
}

// standbyCheckFails: the sick one withdraws what it owns and what it backs up.
func standbyCheckFails(s *scene) {
	s.forgotten()
	s.during("web server stops", allowance{vip1, 2 * time.Second}, func() {
		s.must(s.lab.StopWeb(victim))
		s.heir(vip1, time.Second)
		for vip := range lab.VIPs() {
			s.must(s.absent(leaf, vip)())
		}
	})
	s.during("web server starts", nothing, func() {
		s.must(s.lab.StartWeb(s.Context(), victim))
		s.steady()
	})
}

// standbyHostLostWithoutZooKeeper: the fabric needs nobody's word.
func standbyHostLostWithoutZooKeeper(s *scene) {
	s.during("ZooKeeper away, then crash", allowance{vip1, fabric}, func() {
		s.must(s.lab.StopZK())
		s.throughout(s.stage.session+2*serverTick, "steady state", s.steadyNow)
		s.must(s.lab.CrashHost(victim))
		s.heir(vip1, 2*time.Second)
	})
	s.during("both return", nothing, func() {
		s.must(s.lab.StartZK(s.Context()))
		s.must(s.lab.BootHost(s.Context(), victim))
		s.steady()
	})
}
