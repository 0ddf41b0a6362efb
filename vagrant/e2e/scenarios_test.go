package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"exazk/vagrant/lab"
	"exazk/zkstate"
)

// Where the service lives in ZooKeeper: the defaults, and what the sample files say.
const (
	claims      = "/exabgp/service/apex"
	maintenance = "/exabgp/maintenance/apex"
	records     = "/exabgp/status/apex"
)

// holdTime is the BGP hold time of the lab's sessions.
const holdTime = 3 * time.Second

// The one that things happen to, unless a scenario says otherwise: lb1 behind r1, node1 in ZooKeeper, owner of the first
// VIP. It has the lowest router id, so that r0 prefers it whenever it announces.
const (
	victim = "lb1"
	leaf   = "r1"
	vip1   = 0
)

// bystanders are the two others.
var bystanders = []string{"lb2", "lb3"}

// TestTOML plays everything on nodes that read the sample TOML files, with a session timeout of 4 s.
func TestTOML(t *testing.T) {
	newStage(t, "toml", 4*time.Second, lab.Options{}).play(t,
		act{"steady state", steadyState},
		act{"check fails", checkFails(victim)},
		act{"maintenance", maintained(victim)},
		act{"host crashes", hostCrashes(victim)},
		act{"link to ToR is pulled", linkPulled},
		act{"link to ToR blips", linkBlips},
		act{"ToR closes its sessions", torStops},
		act{"check fails while ToR is away", checkFailsUnheard},
		act{"exabgp is stopped by systemd", stoppedBySystemd},
		act{"exabgp is stopped", exabgpStopped},
		act{"exabgp is killed", exabgpKilled},
		act{"exazk is killed", exazkKilled},
		act{"exazk is stopped", exazkStopped},
		act{"exazk sleeps", exazkSleeps},
		act{"zookeeper is away", zookeeperAway(30 * time.Second)},
		act{"zookeeper freezes", zookeeperFreezes},
		act{"check fails without zookeeper", checkFailsWithoutZooKeeper},
		act{"exazk is killed without zookeeper", exazkKilledWithoutZooKeeper},
		act{"node is cut off from zookeeper", cutOff},
		act{"management link is pulled", managementPulled},
		act{"ToR falls silent", torSilent},
		act{"exabgp stands still", exabgpFreezes},
		act{"routes are changed by hand", changedByHand},
	)
}

func steadyState(s *scene) {
	s.during("nothing happens", nothing, func() {
		s.throughout(2*time.Second, "steady state", s.steadyNow)
	})
	for i, vip := range lab.VIPs() {
		lb := lab.Balancers()[i]
		if !regexp.MustCompile(`event=dialect .*to=` + regexp.QuoteMeta(s.stage.exabgp.dialect) + `\n`).MatchString(s.said(lb)) {
			s.Errorf("%s does not speak to %s", lb, s.stage.exabgp.name)
		}
		s.leafTable(lb, i)
		s.claim(i)
		s.record(i)
		for j, router := range lab.Routers()[1:] {
			if j != i {
				s.must(s.absent(router, i)())
			}
		}
		if who, err := s.lab.Ask(s.Context(), vip); err != nil || who != lb {
			s.Errorf("%s is answered by %q, %v", vip, who, err)
		}
	}
}

// leafTable wants the owner's route as its leaf heard it.
func (s *scene) leafTable(lb string, vip int) {
	s.Helper()
	t, err := s.lab.Routes(lab.Leaf(lb))
	s.must(err)
	paths := t.For(lab.VIPs()[vip])
	if len(paths) != 1 || paths[0].Via != lb || !paths[0].Best || !paths[0].HasMED || paths[0].MED != lab.OwnerMED {
		s.Errorf("%s has %+v, want the one path of %s with MED %d", lab.Leaf(lb), paths, lb, lab.OwnerMED)
	}
}

// claim wants an ephemeral claim with the names of its node and of one life of it.
func (s *scene) claim(vip int) {
	s.Helper()
	path := claims + "/" + lab.VIPs()[vip].String()
	data, owner, err := s.lab.ZKGet(path)
	s.must(err)
	var c struct {
		Node, Instance string
		Since          time.Time
	}
	s.must(json.Unmarshal(data, &c))
	if owner == 0 || c.Node != node(vip) || c.Instance == "" || c.Since.IsZero() {
		s.Errorf("claim %s has owner %#x and says %s", path, owner, data)
	}
}

// record wants a status record that says what the routers' tables show.
func (s *scene) record(i int) {
	s.Helper()
	path := records + "/" + node(i)
	data, owner, err := s.lab.ZKGet(path)
	s.must(err)
	var st zkstate.Status
	s.must(json.Unmarshal(data, &st))
	if owner == 0 || st.Node != node(i) || st.Health != "healthy" || st.Maintenance != "absent" || len(st.Routes) != 3 ||
		len(st.Neighbors) != 1 || st.Neighbors[0].State != "up" {
		s.Fatalf("status record %s has owner %#x and says %s", path, owner, data)
	}
	for j, got := range st.Routes {
		want := zkstate.StatusRoute{VIP: lab.VIPs()[j].String(), Verdict: "withdraw", Role: "backup", Reason: "claimed"}
		if i == j {
			want = zkstate.StatusRoute{VIP: want.VIP, Verdict: "announce", Role: "authoritative", MED: lab.OwnerMED,
				Reason: "authoritative", Announced: true, Claim: true, Own: true}
		}
		if want.Since = got.Since; j == 0 && got.Since == "" || got != want {
			s.Errorf("%s says %+v, want %+v", path, got, want)
		}
	}
}

// recorded says what keeps the status record of the owner of a VIP from saying something.
func (s *scene) recorded(vip int, text string) func() error {
	return func() error {
		data, _, err := s.lab.ZKGet(records + "/" + node(vip))
		if err == nil && !strings.Contains(string(data), text) {
			err = fmt.Errorf("%s says %s, not %s", node(vip), data, text)
		}
		return err
	}
}

// node is the name in ZooKeeper of the owner of a VIP.
func node(vip int) string { return fmt.Sprintf("node%d", vip+1) }

// own is the VIP that a load balancer owns.
func own(lb string) int { return int(lb[len(lb)-1] - '1') }

// checkFails: two failing checks in a row, at most a second and 0.2 s apart and each over in a moment, withdraw the VIP.
func checkFails(lb string) func(*scene) {
	return func(s *scene) {
		s.forgotten()
		s.during("web server stops", allowance{own(lb), 2 * time.Second}, func() {
			s.must(s.lab.StopWeb(lb))
			s.takenOver(own(lb), 5*time.Second)
			s.must(s.absent(lab.Leaf(lb), own(lb))())
		})
		s.during("web server starts", nothing, func() {
			s.must(s.lab.StartWeb(s.Context(), lb))
			s.steady()
		})
	}
}

// forgotten gives the victim a process that remembers no failure of the check: after a second one within two minutes it
// would wait before it takes its VIP back (flap_hold).
func (s *scene) forgotten() {
	s.Helper()
	s.reborn(own(victim), func() { s.respawned(syscall.SIGKILL) })
	s.steady()
}

// maintained drains a node with an empty znode, as "create" of zkCli.sh makes it.
func maintained(lb string) func(*scene) {
	return func(s *scene) {
		s.during("drain", nothing, func() {
			s.must(s.lab.ZKCreate(maintenance+"/"+node(own(lb)), nil))
			s.takenOver(own(lb), 15*time.Second)
			for vip := range lab.VIPs() {
				s.until(5*time.Second, "it announces nothing", s.absent(lab.Leaf(lb), vip))
			}
		})
		s.during("return", nothing, func() {
			s.must(s.lab.ZKDelete(maintenance + "/" + node(own(lb))))
			s.steady()
		})
	}
}

// exabgpcli is what an operator says to the victim's ExaBGP behind exazk's back.
func (s *scene) exabgpcli(command string) {
	s.Helper()
	_, err := s.lab.Host(victim).Run(s.Context(), append([]string{"exabgpcli"}, strings.Fields(command)...)...)
	s.must(err)
}

// changedByHand: what an operator does to exazk's routes with exabgpcli is undone within 5 s. The claim stays, so nobody else comes in.
func changedByHand(s *scene) {
	const mended = 5 * time.Second
	own, other := lab.VIPs()[vip1].String()+"/32", lab.VIPs()[vip1+1].String()+"/32"
	s.during("withdrawn", allowance{vip1, mended}, func() {
		s.exabgpcli("withdraw route " + own)
		s.until(time.Second, "it is withdrawn", s.absent(leaf, vip1))
		s.until(mended, "it is back", s.steadyNow)
	})
	s.during("announced with another MED", nothing, func() {
		s.exabgpcli("announce route " + own + " next-hop self med 7")
		s.until(time.Second, "it is another one", func() error { return s.med(7) })
		s.until(mended, "it is what it was", func() error { return s.med(lab.OwnerMED) })
	})
	s.during("announced though another node has it", nothing, func() {
		s.exabgpcli("announce route " + other + " next-hop self med 7")
		s.until(time.Second, "it is there", func() error {
			if s.absent(leaf, vip1+1)() == nil {
				return errors.New("it is absent")
			}
			return nil
		})
		s.until(mended, "it is gone", s.absent(leaf, vip1+1))
	})
	for _, want := range []string{`have="no route"`, ` med 7"`, "exabgp holds what it acknowledged"} {
		s.until(mended, "the log has "+want, func() error {
			if !strings.Contains(s.said(victim), want) {
				return errors.New("it has not")
			}
			return nil
		})
	}
}

// med says what keeps the victim's leaf from having its VIP with a MED.
func (s *scene) med(want uint32) error {
	t, err := s.lab.Routes(leaf)
	if err != nil {
		return err
	}
	if paths := t.For(lab.VIPs()[vip1]); len(paths) != 1 || paths[0].MED != want {
		return fmt.Errorf("%s has %+v, want MED %d", leaf, paths, want)
	}
	return nil
}

// hostCrashes: the others learn of it only by the end of its session.
func hostCrashes(lb string) func(*scene) {
	return func(s *scene) {
		s.during("crash", allowance{own(lb), s.stage.noticed()}, func() {
			s.must(s.lab.CrashHost(lb))
			s.claimed(own(lb))
			s.takenOver(own(lb), s.stage.noticed()+5*time.Second)
		})
		s.during("boot", nothing, func() {
			s.must(s.lab.BootHost(s.Context(), lb))
			s.steady()
		})
	}
}

// claimed wants a claim to be there still: a host that lost its power has not given it up.
func (s *scene) claimed(vip int) {
	s.Helper()
	there, err := s.lab.ZKExists(claims + "/" + lab.VIPs()[vip].String())
	s.must(err)
	if !there {
		s.Error("the dying host gave its claim up, or lived without it: this was no crash")
	}
}

// linkPulled takes the carrier from both ends of the cable between load balancer and leaf. The leaf drops the routes at
// once. ExaBGP up to 5.0 does not look at interfaces and gives its neighbor up only when the hold time is over; the claim
// must not wait for that.
func linkPulled(s *scene) {
	s.during("link down", allowance{vip1, time.Second}, func() {
		s.must(s.lab.LinkDown(leaf, victim))
		s.takenOver(vip1, 5*time.Second)
		s.throughout(holdTime, "the others keep it", s.answeredBy(vip1, bystanders...)) // until ExaBGP knows as well
	})
	s.during("link up", nothing, func() {
		s.must(s.lab.LinkUp(leaf, victim))
		s.steady()
	})
}

// linkBlips: the cable is back before ExaBGP could notice, but the leaf has dropped the routes and the session.
func linkBlips(s *scene) {
	s.during("link down and up", allowance{vip1, time.Second}, func() {
		s.must(s.lab.LinkDown(leaf, victim))
		s.until(2*time.Second, "the leaf drops the route", s.absent(leaf, vip1))
		s.must(s.lab.LinkUp(leaf, victim))
		s.until(5*time.Second, "somebody answers", s.answeredBy(vip1, lab.Balancers()...))
		s.steady()
	})
}

// torStops ends the leaf's BIRD, which tells both its neighbors (RFC 4271 section 6.7, Cease).
func torStops(s *scene) {
	s.during("BIRD stops", allowance{vip1, time.Second}, func() {
		s.must(s.lab.StopBIRD(leaf))
		s.takenOver(vip1, 5*time.Second)
	})
	s.during("BIRD starts", nothing, func() {
		s.must(s.lab.StartBIRD(s.Context(), leaf))
		s.steady()
	})
}

// checkFailsUnheard: as soon as a session comes up, ExaBGP sends by itself what it holds. A node that fell sick while there was none
// must not be heard then, not for a moment.
func checkFailsUnheard(s *scene) {
	s.forgotten()
	s.during("BIRD stops, check fails", allowance{vip1, time.Second}, func() {
		s.must(s.lab.StopBIRD(leaf))
		s.takenOver(vip1, 5*time.Second)
		s.must(s.lab.StopWeb(victim))
		s.until(5*time.Second, "it is sick", s.recorded(vip1, `"health":"unhealthy"`))
	})
	s.during("BIRD starts", nothing, func() {
		s.must(s.lab.StartBIRD(s.Context(), leaf))
		s.until(15*time.Second, "the session is back", func() error {
			up, err := s.lab.Established(leaf, victim)
			if err == nil && !up {
				err = errors.New("it is not established")
			}
			return err
		})
		s.throughout(time.Second, "the sick one is not heard", s.absent(leaf, vip1))
		if n := s.moves(victim); n != 0 {
			s.Errorf("%s has heard %d changes from %s", leaf, n, victim)
		}
	})
	s.during("check succeeds", nothing, func() {
		s.must(s.lab.StartWeb(s.Context(), victim))
		s.steady()
	})
}

// exabgpStopped: its sessions are closed before its processes hear of it, so there is nothing to drain.
func exabgpStopped(s *scene) {
	pid, err := s.lab.ExazkPID(victim)
	s.must(err)
	s.during("SIGTERM", allowance{vip1, time.Second}, func() {
		s.must(s.lab.StopExaBGP(victim))
		s.takenOver(vip1, 5*time.Second)
	})
	s.until(5*time.Second, "exazk ends with it", func() error { return ended(pid) })
	s.during("start", nothing, func() {
		s.must(s.lab.StartExaBGP(victim))
		s.steady()
	})
}

func exabgpKilled(s *scene) {
	pid, err := s.lab.ExazkPID(victim)
	s.must(err)
	s.during("SIGKILL", allowance{vip1, time.Second}, func() {
		s.must(s.lab.KillExaBGP(victim, syscall.SIGKILL))
		s.takenOver(vip1, 5*time.Second)
	})
	s.until(5*time.Second, "exazk ends with it", func() error { return ended(pid) })
	s.during("start", nothing, func() {
		s.must(s.lab.StartExaBGP(victim))
		s.steady()
	})
}

// stoppedBySystemd is what systemd does to stop and start ExaBGP: the commands of the sample drop-in, and SIGTERM to the main
// process alone (KillMode=mixed). So planned, it costs nothing.
func stoppedBySystemd(s *scene) {
	s.during("systemctl stop", nothing, func() {
		s.must(s.lab.StopUnit(s.Context(), victim))
		s.takenOver(vip1, 5*time.Second)
	})
	s.during("systemctl start", nothing, func() {
		s.must(s.lab.StartUnit(s.Context(), victim))
		s.steady()
	})
}

// ended says whether a process is gone, or a corpse that its parent has not looked at yet.
func ended(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, after, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(after, "Z") {
		return nil
	}
	return fmt.Errorf("process %d runs", pid)
}

// exazkKilled: ExaBGP keeps the routes and starts exazk again, which takes its old claim over. Nobody moves.
func exazkKilled(s *scene) {
	s.during("SIGKILL", nothing, func() {
		s.unmoved(lab.Balancers(), func() {
			s.reborn(vip1, func() { s.respawned(syscall.SIGKILL) })
			s.throughout(s.stage.session+2*serverTick, "steady state", s.steadyNow)
		})
	})
}

// exazkStopped: it drains, ExaBGP starts it again, it returns.
func exazkStopped(s *scene) {
	s.during("SIGTERM", nothing, func() {
		s.reborn(vip1, func() { s.respawned(syscall.SIGTERM) })
		s.steady()
	})
}

// respawned ends exazk with a signal and waits until ExaBGP runs another one.
func (s *scene) respawned(sig syscall.Signal) {
	s.Helper()
	before, err := s.lab.ExazkPID(victim)
	s.must(err)
	s.must(s.lab.SignalExazk(victim, sig))
	s.until(10*time.Second, "exabgp starts exazk again", func() error {
		now, err := s.lab.ExazkPID(victim)
		if err == nil && now == before {
			err = fmt.Errorf("process %d runs", now)
		}
		return err
	})
}

// life names the process that made a claim and, where they agree, the status record of its node.
func (s *scene) life(vip int) (string, error) {
	var lives []string
	for _, path := range []string{claims + "/" + lab.VIPs()[vip].String(), records + "/" + node(vip)} {
		data, _, err := s.lab.ZKGet(path)
		if err != nil {
			return "", err
		}
		var v struct{ Instance string }
		if err := json.Unmarshal(data, &v); err != nil {
			return "", fmt.Errorf("%s says %q: %w", path, data, err)
		}
		lives = append(lives, v.Instance)
	}
	if lives[0] != lives[1] {
		return "", fmt.Errorf("the claim is of %s, the status record of %s", lives[0], lives[1])
	}
	return lives[0], nil
}

// reborn acts and waits until another process than before holds the claim.
func (s *scene) reborn(vip int, act func()) {
	s.Helper()
	before, err := s.life(vip)
	s.must(err)
	act()
	s.until(15*time.Second, "the claim is that of the new process", func() error {
		now, err := s.life(vip)
		if err == nil && now == before {
			err = errors.New("it is that of the old one")
		}
		return err
	})
}

// exazkSleeps past the end of its session, as in a paused virtual machine. Its routes stay where they are.
func exazkSleeps(s *scene) {
	s.during("SIGSTOP and SIGCONT", nothing, func() {
		s.must(s.lab.SignalExazk(victim, syscall.SIGSTOP))
		limit := s.stage.noticed()
		s.until(limit, "the others announce beside it", s.announcedBy(vip1, "r1", "r2", "r3"))
		s.throughout(2*time.Second, "nobody leaves", s.announcedBy(vip1, "r1", "r2", "r3"))
		s.must(s.lab.SignalExazk(victim, syscall.SIGCONT))
		s.steady()
	})
}

// zookeeperAway: without it everything stays as it is, and when it is back, too.
func zookeeperAway(d time.Duration) func(*scene) {
	return func(s *scene) {
		s.during("ZooKeeper away", nothing, func() {
			s.unmoved(lab.Balancers(), func() {
				s.must(s.lab.StopZK())
				s.throughout(d, "steady state", s.steadyNow)
				s.must(s.lab.StartZK(s.Context()))
				// Beyond the time in which absent claims are not believed, and the end of sessions that were not resumed.
				s.throughout(2*s.stage.session+2*serverTick, "steady state", s.steadyNow)
			})
		})
	}
}

// zookeeperFreezes for so long that every session is over when it goes on: for a moment then, nobody claims anything.
func zookeeperFreezes(s *scene) {
	s.during("ZooKeeper frozen", nothing, func() {
		s.unmoved(lab.Balancers(), func() {
			s.must(s.lab.FreezeZK())
			s.throughout(2*s.stage.session+2*serverTick, "steady state", s.steadyNow)
			s.must(s.lab.ThawZK())
			s.throughout(2*s.stage.session+2*serverTick, "steady state", s.steadyNow)
		})
	})
}

// startGrace is the default of start_grace: what a new process does not know by then, it does not wait for.
const startGrace = 15 * time.Second

// exazkKilledWithoutZooKeeper: the new process knows nothing but what its check says. It must leave the routes of the old
// one where they are, and still do so when it stops waiting for more.
func exazkKilledWithoutZooKeeper(s *scene) {
	s.during("SIGKILL without ZooKeeper", nothing, func() {
		s.unmoved(lab.Balancers(), func() {
			s.must(s.lab.StopZK())
			s.throughout(s.stage.session+2*serverTick, "steady state", s.steadyNow)
			s.respawned(syscall.SIGKILL)
			s.throughout(startGrace+2*time.Second, "steady state", s.steadyNow)
			s.must(s.lab.StartZK(s.Context()))
			s.throughout(2*s.stage.session+2*serverTick, "steady state", s.steadyNow)
		})
	})
}

// checkFailsWithoutZooKeeper: nobody can take over, but a sick node must not be heard. The others come once they know.
func checkFailsWithoutZooKeeper(s *scene) {
	s.forgotten()
	whole := allowance{vip1, unbounded}
	s.during("check fails", whole, func() {
		s.must(s.lab.StopZK())
		s.throughout(s.stage.session+2*serverTick, "steady state", s.steadyNow)
		s.must(s.lab.StopWeb(victim))
		took := s.until(2*time.Second, "the sick one withdraws", s.absent(leaf, vip1))
		s.Logf("withdrawn after %v", ms(took))
		s.until(2*time.Second, "r0 has no route", s.announcedBy(vip1))
	})
	s.during("ZooKeeper returns", whole, func() {
		s.must(s.lab.StartZK(s.Context()))
		// The nodes find it again, and wait for one and a half session timeouts and a second before they believe that nobody claims the VIP.
		s.takenOver(vip1, 2*s.stage.session+5*time.Second)
	})
	s.during("check succeeds", nothing, func() {
		s.must(s.lab.StartWeb(s.Context(), victim))
		s.steady()
	})
}

// cutOff keeps a node from ZooKeeper without a sign. It goes on announcing, and the others join it until it is back.
func cutOff(s *scene) {
	s.alone(func() error { return s.lab.CutZK(victim) }, func() error { return s.lab.JoinZK(victim) })
}

// managementPulled is the same with a sign: an interface without a carrier, but not one that a BGP session runs over.
func managementPulled(s *scene) {
	s.alone(func() error { return s.lab.LinkDown(victim, "mgmt") }, func() error { return s.lab.LinkUp(victim, "mgmt") })
}

func (s *scene) alone(leave, join func() error) {
	s.Helper()
	s.during("cut off and back", nothing, func() {
		s.must(leave())
		s.until(s.stage.noticed(), "the others announce beside it", s.announcedBy(vip1, "r1", "r2", "r3"))
		s.throughout(12*time.Second-s.stage.session, "nobody leaves", s.announcedBy(vip1, "r1", "r2", "r3"))
		s.must(join())
		s.steady()
	})
}

// torSilent loses all between leaf and load balancer while both see their links up.
func torSilent(s *scene) {
	s.during("silence", allowance{vip1, holdTime + margin}, func() {
		s.must(s.lab.Blackhole(leaf, victim))
		s.takenOver(vip1, holdTime+5*time.Second)
	})
	s.during("healed", nothing, func() {
		s.must(s.lab.Heal(leaf, victim))
		s.steady()
	})
}

// exabgpFreezes: its ToR gives it up after the hold time, and so does exazk, which hears no keepalive any more. Its routes are
// gone with the session, and come back with the next.
func exabgpFreezes(s *scene) {
	s.during("SIGSTOP", allowance{vip1, holdTime + margin}, func() {
		s.must(s.lab.KillExaBGP(victim, syscall.SIGSTOP))
		s.takenOver(vip1, holdTime+5*time.Second)
	})
	s.during("SIGCONT", nothing, func() {
		s.must(s.lab.KillExaBGP(victim, syscall.SIGCONT))
		s.steady()
	})
}
