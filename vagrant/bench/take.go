package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-zookeeper/zk"

	"exazk/vagrant/lab"
	"exazk/vagrant/probe/timeline"
)

const claims = "/exabgp/service/apex"

// sick is a file on a load balancer; while it is there, the check fails, whatever the web server does.
const sick = "/run/sick"

// disabled is the file of healthcheck's --disable.
const disabled = "/run/healthcheck.disabled"

// take is one run of a scenario.
type take struct {
	ctx     context.Context
	lab     *lab.Lab
	variant variant
	victim  string // the load balancer that it happens to
	program string // exazk, on this machine
	updates *counter

	marks []timeline.Mark
	notes []string
	was   map[string]life // by VIP, when the take began; empty for the baseline
	zk    int             // the ZooKeeper server that it happens to
}

// life is who held a claim.
type life struct {
	instance string
	session  int64
}

func (t *take) mark(text string) {
	text = strings.ReplaceAll(text, "LB", t.victim)
	if t.variant == anycast {
		text = strings.ReplaceAll(text, "exazk", "healthcheck")
	}
	t.marks = append(t.marks, timeline.Mark{At: time.Now(), Text: text})
}

func (t *take) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// index is the position of the victim among the load balancers, and of its VIP among the VIPs.
func (t *take) index() int { return slices.Index(lab.Balancers(), t.victim) }

func (t *take) vip() netip.Addr { return lab.VIPs()[t.index()] }

// pause waits, unless the take is broken off.
func (t *take) pause(d time.Duration) error {
	select {
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	case <-time.After(d):
		return nil
	}
}

// await asks until there is no error, and returns how long that took.
func (t *take) await(limit time.Duration, ask func(*take) error) (time.Duration, error) {
	for start := time.Now(); ; {
		err := ask(t)
		took := time.Since(start)
		if err == nil {
			return took, nil
		}
		if took > limit {
			return took, fmt.Errorf("not within %v: %w", limit, err)
		}
		if err := t.pause(50 * time.Millisecond); err != nil {
			return took, err
		}
	}
}

// What may be seen from outside.

// steady is the state that everything returns to: with exazk each VIP at its owner, in the baseline at all three nodes.
func (t *take) steady() error {
	if t.variant != anycast {
		return t.lab.Steady(t.ctx)
	}
	return t.announced(lab.VIPs(), lab.Balancers())
}

// takenOver says whether the victim's VIP is in the hands of the other nodes; in the baseline, whether every VIP is.
func (t *take) takenOver() error {
	vips := lab.VIPs()
	if t.variant != anycast {
		vips = []netip.Addr{t.vip()}
	}
	return t.announced(vips, slices.Delete(lab.Balancers(), t.index(), t.index()+1))
}

// besides says whether the victim and all others announce its VIP.
func (t *take) besides() error { return t.announced([]netip.Addr{t.vip()}, lab.Balancers()) }

// announced wants r0 to have exactly those nodes' paths to those VIPs, and the client to reach one of them.
func (t *take) announced(vips []netip.Addr, nodes []string) error {
	table, err := t.lab.Routes("r0")
	if err != nil {
		return err
	}
	var want []string
	for _, lb := range nodes {
		want = append(want, lab.Leaf(lb))
	}
	for _, vip := range vips {
		var via []string
		for _, p := range table.For(vip) {
			via = append(via, p.Via)
		}
		if slices.Sort(via); !slices.Equal(via, want) {
			return fmt.Errorf("%s is announced by %v, not by %v", vip, via, want)
		}
	}
	for _, vip := range vips {
		who, err := t.lab.Ask(t.ctx, vip)
		if err != nil {
			return err
		}
		if !slices.Contains(nodes, who) {
			return fmt.Errorf("%s is answered by %s", vip, who)
		}
	}
	return nil
}

// drained says whether, beyond that, the victim announces nothing to its ToR.
func (t *take) drained() error {
	if err := t.takenOver(); err != nil {
		return err
	}
	table, err := t.lab.Routes(lab.Leaf(t.victim))
	if err != nil {
		return err
	}
	for _, vip := range lab.VIPs() {
		if len(table.For(vip)) > 0 {
			return fmt.Errorf("%s still announces %s", t.victim, vip)
		}
	}
	return nil
}

// lives reads who holds the claims.
func (t *take) lives() (map[string]life, error) {
	held := map[string]life{}
	for _, vip := range lab.VIPs() {
		data, owner, err := t.lab.ZKGet(claims + "/" + vip.String())
		if err != nil {
			return nil, err
		}
		l, err := parseLife(data)
		if err != nil {
			return nil, fmt.Errorf("claim of %s: %w", vip, err)
		}
		l.session = owner
		held[vip.String()] = l
	}
	return held, nil
}

// parseLife reads the data of a claim.
func parseLife(data []byte) (life, error) {
	var c struct{ Instance string }
	if err := json.Unmarshal(data, &c); err != nil {
		return life{}, fmt.Errorf("claim that says %q: %w", data, err)
	}
	return life{instance: c.Instance}, nil
}

// steadyReborn says whether, beyond steady, the victim's claim is that of another process than when the take began.
func (t *take) steadyReborn() error {
	if err := t.steady(); err != nil || t.variant == anycast {
		return err
	}
	now, err := t.lives()
	if err == nil && now[t.vip().String()].instance == t.was[t.vip().String()].instance {
		err = errors.New("the claim is that of the old process")
	}
	return err
}

// steadyWithClaims says whether, beyond steady, every VIP is claimed.
func (t *take) steadyWithClaims() error {
	if err := t.steady(); err != nil {
		return err
	}
	_, err := t.lives()
	return err
}

// steadyWithNewSessions says whether, beyond that, every claim is of another session than when the take began.
func (t *take) steadyWithNewSessions() error {
	if err := t.steady(); err != nil {
		return err
	}
	now, err := t.lives()
	if err != nil {
		return err
	}
	for vip, l := range now {
		if l.session == t.was[vip].session {
			return fmt.Errorf("%s is claimed by session %#x as before", vip, uint64(l.session))
		}
	}
	return nil
}

// What is done.

func (t *take) drain() error {
	if t.variant == anycast {
		return t.lab.Host(t.victim).WriteFile(disabled, nil, 0o644)
	}
	return t.lab.Drain(t.victim)
}

func (t *take) undrain() error {
	if t.variant == anycast {
		return os.Remove(t.lab.Host(t.victim).Path(disabled))
	}
	return t.lab.Undrain(t.victim)
}

func (t *take) crash() error       { return t.lab.CrashHost(t.victim) }
func (t *take) boot() error        { return t.lab.BootHost(t.ctx, t.victim) }
func (t *take) stopWeb() error     { return t.lab.StopWeb(t.victim) }
func (t *take) startWeb() error    { return t.lab.StartWeb(t.ctx, t.victim) }
func (t *take) linkDown() error    { return t.lab.LinkDown(t.victim, lab.Leaf(t.victim)) }
func (t *take) linkUp() error      { return t.lab.LinkUp(t.victim, lab.Leaf(t.victim)) }
func (t *take) blackhole() error   { return t.lab.Blackhole(t.victim, lab.Leaf(t.victim)) }
func (t *take) heal() error        { return t.lab.Heal(t.victim, lab.Leaf(t.victim)) }
func (t *take) killExaBGP() error  { return t.lab.KillExaBGP(t.victim, syscall.SIGKILL) }
func (t *take) startExaBGP() error { return t.lab.StartExaBGP(t.victim) }
func (t *take) cutOff() error      { return t.lab.CutZK(t.victim) }
func (t *take) rejoin() error      { return t.lab.JoinZK(t.victim) }

func (t *take) stopUnit() error {
	if t.variant == anycast {
		return t.stopAll()
	}
	return t.lab.StopUnit(t.ctx, t.victim)
}

// stopAll does what Debian's unit does without a drop-in: SIGTERM to all processes at once. Healthcheck then waits for an
// acknowledgement of its withdraw, and ExaBGP 4.2 for healthcheck, until systemd kills both after 90 s. Nobody here needs
// to see all of that.
func (t *take) stopAll() error {
	child, err := t.child()
	if err != nil {
		return err
	}
	if err := errors.Join(t.lab.KillExaBGP(t.victim, syscall.SIGTERM), syscall.Kill(child, syscall.SIGTERM)); err != nil {
		return err
	}
	_, err = t.await(5*time.Second, func(t *take) error {
		if pid, err := t.lab.ExaBGPPID(t.victim); err == nil {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	})
	if err == nil || t.ctx.Err() != nil {
		return err
	}
	return t.lab.KillExaBGP(t.victim, syscall.SIGKILL)
}

func (t *take) startUnit() error {
	if t.variant == anycast {
		return t.lab.StartExaBGP(t.victim)
	}
	return t.lab.StartUnit(t.ctx, t.victim)
}

func (t *take) terminate() error { return t.respawn(syscall.SIGTERM) }
func (t *take) kill() error      { return t.respawn(syscall.SIGKILL) }

func (t *take) upgrade() error {
	return t.respawned(func(int) error { return t.lab.UpgradeExazk(t.victim, t.program, syscall.SIGKILL) })
}

func (t *take) respawn(sig syscall.Signal) error {
	return t.respawned(func(pid int) error { return syscall.Kill(pid, sig) })
}

// child is the process that ExaBGP runs.
func (t *take) child() (int, error) {
	if t.variant == anycast {
		return t.lab.ExaBGPChild(t.victim, "healthcheck")
	}
	return t.lab.ExazkPID(t.victim)
}

// respawned ends the process that ExaBGP runs and waits until there is another one.
func (t *take) respawned(end func(pid int) error) error {
	before, err := t.child()
	if err != nil {
		return err
	}
	if err := end(before); err != nil {
		return err
	}
	_, err = t.await(20*time.Second, func(t *take) error {
		now, err := t.child()
		if err == nil && now == before {
			err = fmt.Errorf("process %d runs", now)
		}
		return err
	})
	return err
}

// forget gives the victim a new process, whose memory of failures is empty: else the next run would meet a node that was
// told to wait.
func (t *take) forget() error {
	if t.variant == anycast {
		return nil
	}
	data, _, err := t.lab.ZKGet(claims + "/" + t.vip().String())
	if err != nil && !errors.Is(err, zk.ErrNoNode) { // it is not there while the node waits
		return err
	}
	t.was = map[string]life{}
	if err == nil {
		if t.was[t.vip().String()], err = parseLife(data); err != nil {
			return err
		}
	}
	return t.kill()
}

func (t *take) zkVanish() error {
	return errors.Join(t.lab.CutZKServers(), t.lab.StopZK())
}

// stopZK and startZK: the baseline has none.
func (t *take) stopZK() error {
	if t.variant == anycast {
		return nil
	}
	return t.lab.StopZK()
}

func (t *take) startZK() error {
	if t.variant == anycast {
		return nil
	}
	return t.lab.StartZK(t.ctx)
}

func (t *take) zkStartUnseen() error { return t.lab.StartZK(t.ctx) }
func (t *take) zkAppear() error      { return t.lab.JoinZKServers() }
func (t *take) freezeZK() error      { return t.lab.FreezeZK() }

func (t *take) thawZK() error { return t.lab.ThawZK() }

// countSessions notes how many sessions ended, for that is up to the servers: a new leader gives all of them their timeout
// again.
func (t *take) countSessions() error {
	now, err := t.lives()
	if err != nil {
		return err
	}
	over := 0
	for vip, l := range now {
		if l.session != t.was[vip].session {
			over++
		}
	}
	t.note("%d of %d sessions were over", over, len(now))
	return nil
}

func (t *take) rollZK() error {
	for n := range t.lab.ZKServers() {
		t.mark(fmt.Sprintf("zk%d restarts", n+1))
		if err := t.lab.StopZKServer(n + 1); err != nil {
			return err
		}
		if err := t.pause(2 * time.Second); err != nil {
			return err
		}
		if err := t.lab.StartZKServer(t.ctx, n+1); err != nil {
			return err
		}
		if err := t.pause(3 * time.Second); err != nil {
			return err
		}
	}
	return nil
}

func (t *take) killLeader() (err error) {
	if t.zk, err = t.lab.ZKLeader(); err != nil {
		return err
	}
	return t.lab.KillZKServer(t.zk)
}

func (t *take) freezeLeader() (err error) {
	if t.zk, err = t.lab.ZKLeader(); err != nil {
		return err
	}
	return t.lab.FreezeZKServer(t.zk)
}

func (t *take) thawVictim() error  { return t.lab.ThawZKServer(t.zk) }
func (t *take) startVictim() error { return t.lab.StartZKServer(t.ctx, t.zk) }

func (t *take) crashWithLeader() error {
	if err := t.killLeader(); err != nil {
		return err
	}
	return t.crash()
}

// flap makes the victim's check fail for a while, then lets it succeed for a while.
func (t *take) flap(failing, passing time.Duration) error {
	h := t.lab.Host(t.victim)
	if err := h.WriteFile(sick, nil, 0o644); err != nil {
		return err
	}
	if err := t.pause(failing); err != nil {
		return err
	}
	if err := os.Remove(h.Path(sick)); err != nil {
		return err
	}
	return t.pause(passing)
}

func (t *take) flapShortly() error {
	for start := time.Now(); time.Since(start) < 30*time.Second; {
		if err := t.flap(300*time.Millisecond, 1700*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// flapLong counts by the minute how often the victim announced or withdrew its VIP to its ToR.
func (t *take) flapLong() error {
	var minutes []int
	for range 3 {
		before := t.updates.of(t.victim)
		for start := time.Now(); time.Since(start) < time.Minute; {
			if err := t.flap(5*time.Second, 5*time.Second); err != nil {
				return err
			}
		}
		minutes = append(minutes, t.updates.of(t.victim)-before)
	}
	t.note("routes that its ToR heard it announce or withdraw, by the minute: %v", minutes)
	for i, n := range minutes {
		if t.variant == exazk && n > 1 {
			return fmt.Errorf("in minute %d, %s told its ToR of %d changes", i+1, t.victim, n)
		}
	}
	return nil
}
