package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"exazk/cluster"
	"exazk/vagrant/lab"
)

// onlooker is where an operator sits: a node that nothing happens to.
const onlooker = "lb3"

// Exit codes of "exazk status".
const (
	nominal, degraded, down, untold = 0, 1, 2, 3
)

// seen bounds how long it may take until the commands show what has happened, beyond the time in which it is noticed.
const seen = 5 * time.Second

// settling is how long after ZooKeeper was away nobody gives way to a claim: one and a half session timeouts and a second.
const settling = 7 * time.Second

// sick makes a check fail, or hang.
const (
	failing = "#!/bin/sh\necho no database\nexit 1\n"
	hanging = "#!/bin/sh\nexec sleep 60\n"
)

// TestIncidents breaks something, asks "exazk why" and "exazk status" on another node what it was, and mends it. Each time the
// deciding fact must be named and the exit code be right.
func TestIncidents(t *testing.T) {
	newStage(t, "incidents", 4*time.Second, lab.Options{}).play(t,
		act{"all is well", allIsWell},
		act{"check fails", incidentCheckFails},
		act{"check hangs, passes, and fails again", incidentFlaps},
		act{"maintenance with a reason", incidentMaintenance},
		act{"maintenance with an end", incidentMaintenanceEnds},
		act{"drained everywhere", incidentAllDrained},
		act{"link to ToR is pulled", incidentLinkPulled},
		act{"ToR closes its sessions", incidentTorStops},
		act{"ToR falls silent", incidentTorSilent},
		act{"exabgp is killed", incidentExaBGPKilled},
		act{"exabgp is stopped by systemd", incidentUnitStopped},
		act{"exabgp does not know the process", incidentProcessUnknown},
		act{"exazk is killed", incidentExazkKilled},
		act{"exazk stands still", incidentExazkFrozen},
		act{"host is lost", incidentHostLost},
		act{"node is cut off from zookeeper", incidentCutOff},
		act{"zookeeper is away", incidentZooKeeperAway},
		act{"a stranger claims a VIP", incidentStranger},
		act{"a claim that nobody will ever give up", incidentPersistentClaim},
		act{"two nodes own a VIP", incidentTwoOwners},
		act{"a neighbor that exabgp does not have", incidentWrongNeighbor},
		act{"a VIP's device goes", incidentDeviceGone},
		act{"a route is withdrawn by hand", incidentDrift},
		act{"return by word", incidentFailbackManual},
		act{"all checks fail", incidentAllSick},
		act{"all checks fail, with a last resort", incidentLastResort},
	)
}

// exazk runs a command on a host.
func (s *scene) exazk(host string, args ...string) (stdout, stderr string, code int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	cmd := s.lab.Host(host).Command(ctx, append([]string{"/usr/local/bin/exazk"}, args...)...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		s.Fatal(err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// told says what keeps the commands from giving that code, and that fact as what decides about a VIP on a node.
func (s *scene) told(code int, vip int, node, fact string) func() error {
	return func() error {
		out, talk, got := s.exazk(onlooker, "status")
		if got != code {
			return fmt.Errorf("status exits with %d, not %d:\n%s%s", got, code, out, talk)
		}
		out, talk, got = s.exazk(onlooker, "why", "--json", lab.VIPs()[vip].String())
		var all []cluster.Explanation
		if err := json.Unmarshal([]byte(out), &all); err != nil || got != 0 || len(all) != 1 {
			return fmt.Errorf("why exits with %d: %v\n%s%s", got, err, out, talk)
		}
		for _, c := range all[0].Nodes {
			if c.Node == node && strings.Contains(c.Because, fact) {
				return nil
			}
		}
		return fmt.Errorf("why does not say of %s that %q:\n%s", node, fact, out)
	}
}

// tells waits until the commands name the fact, and sees that they go on naming it.
func (s *scene) tells(limit time.Duration, code int, vip int, node, fact string) {
	s.Helper()
	took := s.until(limit, "the commands tell it", s.told(code, vip, node, fact))
	s.must(s.told(code, vip, node, fact)())
	out, _, _ := s.exazk(onlooker, "status")
	s.Logf("told after %v\n%s", ms(took), out)
}

// mended waits until everybody sees that all is well.
func (s *scene) mended() {
	s.Helper()
	s.steady()
	s.until(seen, "status says so", func() error {
		if out, talk, code := s.exazk(onlooker, "status"); code != nominal {
			return fmt.Errorf("it exits with %d:\n%s%s", code, out, talk)
		}
		return nil
	})
}

// remembered waits until the history of a node has something.
func (s *scene) remembered(node, what string, since time.Time) {
	s.Helper()
	s.until(seen, "the history of "+node+" has "+what, func() error {
		out, talk, code := s.exazk(onlooker, "history", node, "--json")
		var changes []cluster.Change
		if err := json.Unmarshal([]byte(out), &changes); err != nil || code != 0 {
			return fmt.Errorf("history exits with %d: %v\n%s%s", code, err, out, talk)
		}
		if !slices.ContainsFunc(changes, func(c cluster.Change) bool { return !c.At.Before(since) && strings.Contains(cluster.Tell(c), what) }) {
			return errors.New(out)
		}
		return nil
	})
}

// check replaces the check of a load balancer.
func (s *scene) check(lb, script string) {
	s.Helper()
	s.must(s.lab.Host(lb).WriteFile(check, []byte(script), 0o755))
}

// trusted has nodes forget that their checks failed: else one that failed twice would wait.
func (s *scene) trusted(lbs ...string) {
	s.Helper()
	for _, lb := range lbs {
		s.repaired(lb)
	}
	for _, lb := range lbs {
		s.until(seen, "its check passes", s.passes(lb))
		if _, talk, code := s.exazk(onlooker, "failback", node(own(lb))); code != 0 {
			s.Fatalf("failback: %d, %s", code, talk)
		}
	}
	s.mended()
}

// says says what keeps the record of a VIP's owner from saying something.
func (s *scene) says(vip int, what string) func() error {
	return func() error {
		data, _, err := s.lab.ZKGet(records + "/" + node(vip))
		if err == nil && !strings.Contains(string(data), what) {
			err = fmt.Errorf("%s says %s", node(vip), data)
		}
		return err
	}
}

func (s *scene) passes(lb string) func() error { return s.says(own(lb), `"health":"healthy"`) }

func allIsWell(s *scene) {
	s.mended()
	for vip := range lab.VIPs() {
		s.must(s.told(nominal, vip, node(vip), "it is the node's own")())
	}
	s.must(s.told(nominal, vip1, "node2", "it is claimed by node1")())
}

func incidentCheckFails(s *scene) {
	s.check(victim, failing)
	s.tells(seen, degraded, vip1, "node1", "its check fails since")
	s.must(s.told(degraded, vip1, "node1", "no database")())
	s.must(s.told(degraded, vip1, "node2", "nobody claims it; its owner node1: unhealthy")())
	s.trusted(victim)
}

func incidentFlaps(s *scene) {
	s.check(victim, hanging)
	s.tells(2*seen, degraded, vip1, "node1", "timed out after 1s")
	s.repaired(victim)
	s.until(seen, "it passes", s.passes(victim))
	s.check(victim, failing)
	s.until(seen, "it fails again", s.told(degraded, vip1, "node1", "its check fails"))
	s.repaired(victim)
	s.tells(seen, degraded, vip1, "node1", "the check failed 2 times; it must pass for 1m0s")
	s.trusted(victim)
}

func incidentMaintenance(s *scene) {
	_, talk, code := s.exazk(onlooker, "maintenance", "enter", "node1", "--reason", "new disk")
	if code != 0 {
		s.Fatal(talk)
	}
	s.tells(seen, degraded, vip1, "node1", "the node is in maintenance since ")
	s.must(s.told(degraded, vip1, "node1", "new disk, by ")())
	s.must(s.told(degraded, vip1, "node1", "taken over by ")())
	s.exazk(onlooker, "maintenance", "leave", "node1")
	s.mended()
}

func incidentMaintenanceEnds(s *scene) {
	began := time.Now()
	_, talk, code := s.exazk(onlooker, "maintenance", "enter", "node1", "--reason", "firmware", "--for", "6s")
	if code != 0 {
		s.Fatal(talk)
	}
	s.tells(seen, degraded, vip1, "node1", "until 2")
	s.mended()
	s.remembered("node1", "maintenance present → absent", began)
}

func incidentAllDrained(s *scene) {
	for _, lb := range lab.Balancers() {
		if _, talk, code := s.exazk(onlooker, "maintenance", "enter", node(own(lb)), "--force"); code != 0 {
			s.Fatal(talk)
		}
	}
	s.tells(15*time.Second, down, vip1, "node1", "the node is in maintenance since ") // drain_timeout
	for _, lb := range lab.Balancers() {
		s.exazk(onlooker, "maintenance", "leave", node(own(lb)))
	}
	s.mended()
}

func incidentLinkPulled(s *scene) {
	s.must(s.lab.LinkDown(leaf, victim))
	s.tells(seen, degraded, vip1, "node1", "no neighbor that it is for is up (172.16.1.6 is link-down)")
	s.must(s.lab.LinkUp(leaf, victim))
	s.mended()
}

func incidentTorStops(s *scene) {
	s.must(s.lab.StopBIRD(leaf))
	s.tells(seen, degraded, vip1, "node1", "no neighbor that it is for is up (172.16.1.6 is ")
	s.must(s.lab.StartBIRD(s.Context(), leaf))
	s.mended()
}

func incidentTorSilent(s *scene) {
	s.must(s.lab.Blackhole(leaf, victim))
	s.tells(holdTime+seen, degraded, vip1, "node1", "no neighbor that it is for is up (172.16.1.6 is ")
	s.must(s.lab.Heal(leaf, victim))
	s.mended()
}

func incidentExaBGPKilled(s *scene) {
	s.must(s.lab.KillExaBGP(victim, syscall.SIGKILL))
	s.tells(seen, degraded, vip1, "node1", "its exazk has ended since ")
	s.must(s.told(degraded, vip1, "node1", "as ExaBGP had ended")())
	s.must(s.lab.StartExaBGP(victim))
	s.mended()
}

func incidentUnitStopped(s *scene) {
	s.must(s.lab.StopUnit(s.Context(), victim))
	s.tells(seen, degraded, vip1, "node1", "its exazk has ended since ")
	out, _, _ := s.exazk(onlooker, "status")
	if !strings.Contains(out, "node1 is in maintenance since ") {
		s.Errorf("status does not say that it was drained:\n%s", out)
	}
	s.must(s.lab.StartUnit(s.Context(), victim))
	s.mended()
}

// incidentProcessUnknown: the neighbor's api block names no process, so ExaBGP has nobody to send the routes to.
func incidentProcessUnknown(s *scene) {
	const file = "/etc/exabgp/exabgp.conf"
	conf, err := os.ReadFile(s.lab.Host(victim).Path(file))
	s.must(err)
	s.must(s.lab.StopExaBGP(victim))
	s.must(s.lab.Host(victim).WriteFile(file, bytes.Replace(conf, []byte("processes [ exazk-apex ];"), nil, 1), 0o644))
	s.must(s.lab.StartExaBGP(victim))
	s.tells(2*seen, degraded, vip1, "node1", "the route is refused by ExaBGP")
	s.must(s.lab.StopExaBGP(victim))
	s.must(s.lab.Host(victim).WriteFile(file, conf, 0o644))
	s.must(s.lab.StartExaBGP(victim))
	s.mended()
}

// incidentExazkKilled: nobody loses anything, and the history says what happened.
func incidentExazkKilled(s *scene) {
	began := time.Now()
	s.reborn(vip1, func() { s.respawned(syscall.SIGKILL) })
	s.remembered("node1", "process started", began)
	s.tells(seen, nominal, vip1, "node1", "it is the node's own")
}

func incidentExazkFrozen(s *scene) {
	began := time.Now()
	s.must(s.lab.SignalExazk(victim, syscall.SIGSTOP))
	s.tells(s.stage.noticed()+seen, degraded, vip1, "node1", "stands still or is cut off from ZooKeeper, or the host is down")
	s.must(s.lab.SignalExazk(victim, syscall.SIGCONT))
	s.mended()
	s.remembered("node1", "process slept", began)
}

func incidentHostLost(s *scene) {
	s.must(s.lab.CrashHost(victim))
	s.tells(s.stage.noticed()+seen, degraded, vip1, "node1", "or the host is down")
	s.must(s.told(degraded, vip1, "node2", "nobody claims it; its owner node1 is absent")())
	s.must(s.lab.BootHost(s.Context(), victim))
	s.mended()
}

func incidentCutOff(s *scene) {
	began := time.Now()
	s.must(s.lab.CutZK(victim))
	s.tells(s.stage.noticed()+seen, degraded, vip1, "node1", "is cut off from ZooKeeper")
	s.must(s.lab.JoinZK(victim))
	s.mended()
	s.remembered("node1", "zookeeper connected → suspended", began)
}

func incidentZooKeeperAway(s *scene) {
	s.must(s.lab.StopZK())
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{"status"}, untold}, {[]string{"why", lab.VIPs()[vip1].String()}, 1}} {
		if out, talk, code := s.exazk(onlooker, c.args...); code != c.code || out != "" || !strings.Contains(talk, "ZooKeeper is out of reach") {
			s.Errorf("%v exits with %d: %s%s", c.args, code, out, talk)
		}
	}
	s.must(s.lab.StartZK(s.Context()))
	s.mended()
}

// seize puts an empty claim in the place of a VIP's, as somebody would whose node has never heard of exazk. What it returns
// ends its session.
func (s *scene) seize(vip int, flags int32) (*zk.Conn, string) {
	s.Helper()
	dial := func(network, address string, timeout time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(s.Context(), timeout)
		defer cancel()
		return s.lab.Host("zk").Dial(ctx, network, address)
	}
	conn, _, err := zk.Connect([]string{"127.0.0.1:2181"}, 4*time.Second, zk.WithDialer(dial), zk.WithLogInfo(false))
	s.must(err)
	at := claims + "/" + lab.VIPs()[vip].String()
	_, err = conn.Multi(&zk.DeleteRequest{Path: at, Version: -1}, &zk.CreateRequest{Path: at, Acl: zk.WorldACL(zk.PermAll), Flags: flags})
	if err != nil {
		conn.Close()
		s.Fatal(err)
	}
	return conn, at
}

// incidentStranger: whether who claims it announces it, nobody but him knows.
func incidentStranger(s *scene) {
	conn, _ := s.seize(vip1, zk.FlagEphemeral)
	defer conn.Close()
	s.tells(settling+seen, degraded, vip1, "node1", "it is the node's own, but somebody else claims it")
	s.until(settling+seen, "it gives way", s.told(degraded, vip1, "node1", "empty, as the Python tool makes them"))
	s.must(s.told(degraded, vip1, "node2", "it is claimed by somebody who does not say who")())
	conn.Close()
	s.mended()
}

// incidentPersistentClaim: a forgotten znode keeps nobody from announcing, not even when its owner fails as well.
func incidentPersistentClaim(s *scene) {
	conn, at := s.seize(vip1, 0)
	defer conn.Close()
	s.tells(settling+seen, degraded, vip1, "node1", "nobody can claim it, for a persistent node is in its claim's place")
	s.until(settling+seen, "the backups announce it", s.told(degraded, vip1, "node2", "nobody claims it"))
	s.check(victim, failing)
	s.tells(seen, degraded, vip1, "node1", "its check fails")
	s.until(seen, "the backups serve", s.told(degraded, vip1, "node2", "nobody claims it; its owner node1: unhealthy"))
	s.must(s.lab.ZKDelete(at))
	s.trusted(victim)
	s.mended()
}

func incidentTwoOwners(s *scene) {
	s.reload("lb2", owning(2, lab.VIPs()[0], lab.VIPs()[1]))
	s.tells(seen, degraded, vip1, "node2", `it is the node's own, but somebody else claims it: held by node "node1"`)
	s.reload("lb2", owning(2, lab.VIPs()[1]))
	s.mended()
}

// sampleFile is a node's file of the sources with more lines for its service.
func sampleFile(node int, lines string) string {
	text, err := os.ReadFile(filepath.Join(place.root, "configs", fmt.Sprintf("apex-node%d.toml", node)))
	if err != nil {
		panic(fmt.Sprintf("bug: the lab without its sample files: %v", err))
	}
	return strings.Replace(string(text), "[service.check]", lines+"\n[service.check]", 1)
}

func incidentWrongNeighbor(s *scene) {
	s.reload(victim, sampleFile(1, `neighbors = ["172.16.1.99"]`))
	s.tells(seen, degraded, vip1, "node1", "no neighbor that it is for is up (172.16.1.6 is up)")
	s.reload(victim, sampleFile(1, ""))
	s.mended()
}

// incidentDeviceGone: exazk keeps the VIPs on a device of their own, and somebody deletes that. What the host does not have any more it
// must not announce.
func incidentDeviceGone(s *scene) {
	const device = "vips"
	host := s.lab.Host(victim)
	ip := func(args ...string) {
		s.Helper()
		if out, err := host.Run(s.Context(), append([]string{"ip"}, args...)...); err != nil {
			s.Fatalf("%v: %s", err, out)
		}
	}
	own := lab.VIPs()[vip1].String()
	has := func() error {
		out, err := host.Run(s.Context(), "ip", "addr", "show", "dev", device)
		if err != nil || !strings.Contains(out, own) {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	}
	ip("link", "add", device, "type", "veth", "peer", "name", device+"0") // not every kernel has dummy
	ip("link", "set", device, "up")
	s.reload(victim, strings.Replace(sampleFile(1, ""), "[service.check]", "[service.loopback]\nmanage = true\ndevice = \""+device+"\"\n[service.check]", 1))
	for _, vip := range lab.VIPs() { // where the lab has put it, exazk lets it be
		ip("addr", "del", vip.String()+"/32", "dev", "lo")
	}
	s.until(2*seen, "the VIP is on its device", has)
	s.mended()
	ip("link", "del", device)
	s.tells(2*seen, degraded, vip1, "node1", "the route is refused: the vip is not on its device")
	s.until(seen, "a backup has it", s.told(degraded, vip1, "node2", "nobody claims it"))
	ip("link", "add", device, "type", "veth", "peer", "name", device+"0") // not every kernel has dummy
	ip("link", "set", device, "up")
	s.until(2*seen, "the VIP is on its device again", has)
	s.mended()
	for _, vip := range lab.VIPs() {
		ip("addr", "add", vip.String()+"/32", "dev", "lo")
	}
	s.reload(victim, sampleFile(1, ""))
	ip("link", "del", device)
	s.mended()
}

// incidentDrift: somebody withdraws a route behind exazk's back, and it is found and mended within five seconds.
func incidentDrift(s *scene) {
	began := time.Now()
	s.exabgpcli("withdraw route " + lab.VIPs()[vip1].String() + "/32")
	s.remembered("node1", "drift "+lab.VIPs()[vip1].String()+" repaired", began)
	s.mended()
}

func incidentFailbackManual(s *scene) {
	s.reload(victim, sampleFile(1, `failback = "manual"`))
	s.check(victim, failing)
	s.until(seen, "it is sick", s.told(degraded, vip1, "node1", "its check fails"))
	s.repaired(victim)
	s.tells(seen, degraded, vip1, "node1", `failback = "manual": "exazk failback node1" gives it back`)
	s.trusted(victim)
	s.reload(victim, sampleFile(1, ""))
	s.mended()
}

func incidentAllSick(s *scene) {
	for _, lb := range lab.Balancers() {
		s.check(lb, failing)
	}
	for i := range lab.VIPs() { // before, the others take over for a moment
		s.until(seen, "all are sick", s.says(i, `"health":"unhealthy"`))
	}
	s.tells(seen, down, vip1, "node1", "its check fails since ")
	s.trusted(lab.Balancers()...)
}

func incidentLastResort(s *scene) {
	for i, lb := range lab.Balancers() {
		s.reload(lb, sampleFile(i+1, "last_resort = true"))
	}
	s.throughout(time.Second, "steady state", s.steadyNow)
	for _, lb := range lab.Balancers() {
		s.check(lb, failing)
	}
	s.tells(2*seen, degraded, vip1, "node1", "its check fails, and it announces all the same, since nobody else does")
	s.trusted(lab.Balancers()...)
	for i, lb := range lab.Balancers() {
		s.reload(lb, sampleFile(i+1, ""))
	}
	s.mended()
}
