//go:build !race

// The client library reads lastZxid without a lock when it reconnects (v1.0.4, conn.go: sendSetWatches against recvLoop),
// and the race detector says so. What forces real reconnects is therefore built without it.

package zkstate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"exazk/internal/logtest"
	"exazk/zkstate/zktest"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

// childConfig in the environment makes the test binary a process that runs a Session and writes its events to stdout.
const childConfig = "ZKSTATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(childConfig); cfg != "" {
		child(cfg)
		return
	}
	code := m.Run()
	if shared.server != nil {
		shared.server.Kill()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// shared is one standalone server for the tests that leave it alone.
var shared struct {
	once   sync.Once
	server *zktest.Server
	dir    string
	err    error
}

func sharedServer(t *testing.T) *zktest.Server {
	if why := zktest.Unavailable(); why != "" {
		t.Skip(why)
	}
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "zkstate"); shared.err == nil {
			shared.server, shared.err = zktest.Launch(zktest.Options{Dir: shared.dir})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// realConfig is for a node of a test of its own, below a root of its own.
func realConfig(t *testing.T, node string, servers ...string) Config {
	root := "/" + strings.ReplaceAll(t.Name(), "/", "_")
	return Config{
		Servers:        servers,
		SessionTimeout: 2 * time.Second,
		Node:           node,
		Instance:       node + "-a",
		Services: []Service{{
			Name:            "web",
			ClaimsPath:      root + "/service/web",
			MaintenancePath: root + "/maintenance/web/" + node,
			StatusPath:      root + "/status/web/" + node,
			VIPs:            []string{vip1, "192.0.2.2"},
			Authoritative:   []string{vip1},
		}},
	}
}

// real is a Session on a real server.
type realSession struct {
	t      *testing.T
	s      *Session
	cfg    Config
	cancel context.CancelCauseFunc
	ended  chan struct{}
	logged *logtest.Buffer

	mu     sync.Mutex
	events []Event
}

func runReal(t *testing.T, cfg Config) *realSession {
	r := &realSession{t: t, cfg: cfg, ended: make(chan struct{}), logged: &logtest.Buffer{}}
	log := logrus.New()
	log.SetOutput(r.logged)
	log.SetLevel(logrus.DebugLevel)
	r.s = New(cfg, logrus.NewEntry(log).WithField("session_of", cfg.Instance))
	ctx, cancel := context.WithCancelCause(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.ended)
		err := r.s.Run(ctx, func(ev Event) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, ev)
			return true
		})
		if err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		r.stop(nil)
		if t.Failed() {
			t.Logf("log of %s:\n%s", cfg.Instance, r.logged)
		}
	})
	return r
}

// stop ends the Session and returns how long that took.
func (r *realSession) stop(cause error) time.Duration {
	began := time.Now()
	r.cancel(cause)
	<-r.ended
	return time.Since(began)
}

func (r *realSession) all() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// newest returns the newest event of a kind.
func newest[E Event](r *realSession) (E, bool) {
	all := r.all()
	for i := len(all) - 1; i >= 0; i-- {
		if ev, ok := all[i].(E); ok {
			return ev, true
		}
	}
	var none E
	return none, false
}

func (r *realSession) waitState(want State) SessionChanged {
	r.t.Helper()
	var ev SessionChanged
	poll(r.t, r.cfg.Instance+" is "+want.String(), func() bool {
		got, ok := newest[SessionChanged](r)
		ev = got
		return ok && got.State == want
	})
	return ev
}

// waitClaim waits until the newest reading says that the claim is in such hands.
func (r *realSession) waitClaim(want Holder) Claim {
	r.t.Helper()
	var c Claim
	poll(r.t, r.cfg.Instance+"'s claim is "+want.String(), func() bool {
		ev, ok := newest[ClaimsRead](r)
		c = ev.Claims[vip1]
		return ok && c.Holder == want
	})
	return c
}

func (r *realSession) claimPath() string { return r.cfg.Services[0].ClaimsPath + "/" + vip1 }

func (r *realSession) hold() {
	r.s.Set(Want{Claims: map[ClaimKey]Wish{{"web", vip1}: Hold},
		Statuses: map[string]*Status{"web": {Node: r.cfg.Node, Instance: r.cfg.Instance, Health: "healthy"}}})
}

// other is a second client, the library as it is.
func other(t *testing.T, timeout time.Duration, servers ...string) *zk.Conn {
	c, events, err := zk.Connect(servers, timeout, zk.WithLogger(chatter{quiet()}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for ev := range events {
		if ev.State == zk.StateHasSession {
			break
		}
	}
	go func() { // ends when the client closes
		for range events {
		}
	}()
	return c
}

func put(t *testing.T, c *zk.Conn, p, data string, flags int32) {
	t.Helper()
	if dir := path.Dir(p); dir != "/" {
		if ok, _, err := c.Exists(dir); err != nil {
			t.Fatal(err)
		} else if !ok {
			put(t, c, dir, "", 0)
		}
	}
	if _, err := c.Create(p, []byte(data), flags, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
		t.Fatalf("create %s: %v", p, err)
	}
}

func remove(t *testing.T, c *zk.Conn, p string) {
	t.Helper()
	if err := c.Delete(p, -1); err != nil {
		t.Fatalf("delete %s: %v", p, err)
	}
}

func TestRealClaimRecordAndMaintenance(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	two := runReal(t, realConfig(t, "n2", srv.Addr(), "no-such-host.invalid"))
	if ev := one.waitState(Connected); ev.ID == 0 || ev.Timeout != 2*time.Second || ev.AfterLoss {
		t.Errorf("connected as %+v", ev)
	}
	two.waitState(Connected)
	one.hold()
	own := one.waitClaim(Own)
	if own.Czxid == 0 || own.Node != "n1" {
		t.Errorf("claim is %+v", own)
	}
	if c := two.waitClaim(Foreign); c.Node != "n1" || c.Detail != `held by node "n1"` {
		t.Errorf("n2 sees %+v", c)
	}
	poll(t, "n2 sees n1's record", func() bool {
		ev, ok := newest[PeersRead](two)
		return ok && ev.Peers["n1"].Health == "healthy" && len(ev.Peers) == 1
	})
	c := other(t, 4*time.Second, srv.Addr())
	maint := one.cfg.Services[0].MaintenancePath
	put(t, c, maint, "reboot", 0)
	poll(t, "maintenance", func() bool {
		ev, _ := newest[MaintenanceRead](one)
		return ev.Present && string(ev.Data) == "reboot"
	})
	remove(t, c, maint)
	poll(t, "no maintenance", func() bool { ev, _ := newest[MaintenanceRead](one); return !ev.Present })
	one.stop(nil)
	two.waitClaim(Absent)
	poll(t, "n2 sees n1's record go", func() bool { ev, _ := newest[PeersRead](two); return len(ev.Peers) == 0 })
}

// TestRealGhostIsReplacedUnseen takes over a claim of a session that lives; a peer that reads at every change must never
// see it missing.
func TestRealGhostIsReplacedUnseen(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	cfg := realConfig(t, "n1", srv.Addr())
	dir := cfg.Services[0].ClaimsPath
	old := other(t, 4*time.Second, srv.Addr())
	put(t, old, dir+"/"+vip1, `{"node":"n1","instance":"before"}`, zk.FlagEphemeral)
	put(t, old, cfg.Services[0].StatusPath, `{"node":"n1","instance":"before"}`, zk.FlagEphemeral)
	peer := other(t, 4*time.Second, srv.Addr())
	seen := make(chan []string, 100)
	go func() {
		for {
			names, _, fired, err := peer.ChildrenW(dir)
			if err != nil {
				close(seen)
				return
			}
			seen <- names
			<-fired
		}
	}()
	one := runReal(t, cfg)
	if c := one.waitClaim(Ghost); c.Node != "n1" {
		t.Errorf("ghost is %+v", c)
	}
	one.hold()
	one.waitClaim(Own)
	poll(t, "the record is taken over", func() bool {
		_, st, err := peer.Exists(cfg.Services[0].StatusPath)
		return err == nil && st.EphemeralOwner != old.SessionID()
	})
	old.Close()
	if ok, _, err := peer.Exists(dir + "/" + vip1); !ok || err != nil {
		t.Errorf("the claim went with the old session: %v, %v", ok, err)
	}
	peer.Close()
	for names := range seen {
		if !slices.Contains(names, vip1) {
			t.Errorf("a peer saw %v", names)
		}
	}
}

func TestRealConflicts(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	one.waitState(Connected)
	c := other(t, 4*time.Second, srv.Addr())
	for _, tc := range []struct {
		data, detail string
		flags        int32
		holder       Holder
	}{
		{"", "Python", zk.FlagEphemeral, Foreign},
		{`{"node":"n7"}`, `"n7"`, zk.FlagEphemeral, Foreign},
		{`{"node":"n1"}`, "zkCli.sh delete " + one.claimPath(), 0, Squatted},
	} {
		put(t, c, one.claimPath(), tc.data, tc.flags)
		one.waitClaim(tc.holder)
		one.hold()
		one.s.Resync()
		if got := one.waitClaim(tc.holder); !strings.Contains(got.Detail, tc.detail) {
			t.Errorf("data %q: %+v", tc.data, got)
		}
		remove(t, c, one.claimPath())
		one.waitClaim(Own)
		one.s.Set(Want{Claims: map[ClaimKey]Wish{{"web", vip1}: Release}})
		one.waitClaim(Absent)
	}
}

// TestRealSquatter: a node sees of another's claim whether it is ephemeral, also where it took the place of one at once.
func TestRealSquatter(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	one.waitState(Connected)
	c := other(t, 4*time.Second, srv.Addr())
	const vip = "192.0.2.2"
	other := path.Dir(one.claimPath()) + "/" + vip
	holder := func() Holder {
		ev, _ := newest[ClaimsRead](one)
		return ev.Claims[vip].Holder
	}
	put(t, c, other, "", zk.FlagEphemeral)
	poll(t, "the claim is seen", func() bool { return holder() == Foreign })
	remove(t, c, other)
	put(t, c, other, "", 0)
	poll(t, "the persistent node is seen", func() bool { return holder() == Squatted })
	_, err := c.Multi(&zk.DeleteRequest{Path: other, Version: -1},
		&zk.CreateRequest{Path: other, Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagEphemeral})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "the claim is seen again", func() bool { return holder() == Foreign })
	_, err = c.Multi(&zk.DeleteRequest{Path: other, Version: -1}, &zk.CreateRequest{Path: other, Acl: zk.WorldACL(zk.PermAll)})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "the persistent node that replaced the claim at once is seen", func() bool { return holder() == Squatted })
}

func TestRealTwins(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	one.hold()
	one.waitClaim(Own)
	cfg := realConfig(t, "n1", srv.Addr())
	cfg.Instance = "n1-b"
	two := runReal(t, cfg)
	two.hold()
	two.waitClaim(Own)
	if c := one.waitClaim(Foreign); !strings.Contains(c.Detail, "another living process") {
		t.Errorf("the first sees %+v", c)
	}
	czxid := two.waitClaim(Own).Czxid
	for range 5 {
		one.s.Resync()
		two.s.Resync()
		<-time.After(20 * time.Millisecond)
	}
	if c := two.waitClaim(Own); c.Czxid != czxid {
		t.Error("the claim was stolen back")
	}
	two.stop(nil)
	one.waitClaim(Own)
}

func TestRealDirectoryIsDeletedUnderUs(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	one.hold()
	before := one.waitClaim(Own).Czxid
	c := other(t, 4*time.Second, srv.Addr())
	_, err := c.Multi(&zk.DeleteRequest{Path: one.claimPath(), Version: -1},
		&zk.DeleteRequest{Path: path.Dir(one.claimPath()), Version: -1})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, "the claim is back", func() bool { return one.waitClaim(Own).Czxid != before })
}

func TestRealRightsAreMissing(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	cfg := realConfig(t, "n1", srv.Addr())
	cfg.Resync = 300 * time.Millisecond
	dir := cfg.Services[0].ClaimsPath
	c := other(t, 4*time.Second, srv.Addr())
	put(t, c, dir, "", 0)
	if _, err := c.SetACL(dir, zk.WorldACL(zk.PermRead|zk.PermAdmin), -1); err != nil {
		t.Fatal(err)
	}
	one := runReal(t, cfg)
	one.hold()
	one.waitClaim(Absent)
	poll(t, "the missing right is logged", func() bool { return strings.Contains(one.logged.String(), "right=CREATE") })
	if _, err := c.SetACL(dir, zk.WorldACL(zk.PermAll), -1); err != nil {
		t.Fatal(err)
	}
	one.waitClaim(Own)
	if n := strings.Count(one.logged.String(), "right=CREATE"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// TestRealWatchesAreArmed reads everything again many times; the server counts the watches.
func TestRealWatchesAreArmed(t *testing.T) {
	t.Parallel()
	srv := zktest.Start(t, zktest.Options{})
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	two := runReal(t, realConfig(t, "n2", srv.Addr()))
	one.hold()
	one.waitClaim(Own)
	two.s.Set(Want{Statuses: map[string]*Status{"web": {Node: "n2"}}})
	poll(t, "both records are read", func() bool {
		a, _ := newest[PeersRead](one)
		b, _ := newest[PeersRead](two)
		return len(a.Peers) == 1 && len(b.Peers) == 1
	})
	reads := func() int {
		n := 0
		for _, ev := range one.all() {
			if _, ok := ev.(ClaimsRead); ok {
				n++
			}
		}
		return n
	}
	for range 20 {
		before := reads()
		one.s.Resync()
		poll(t, "read again", func() bool { return reads() > before })
	}
	// Two nodes: claims, maintenance, the directory of the records, and one other record.
	answer, err := srv.Ask("mntr") // "wchs" leaves out those on children
	if err != nil || !strings.Contains(answer, "zk_watch_count\t8\n") {
		t.Errorf("%v, %s", err, answer)
	}
}

func TestRealTimeoutIsTheServers(t *testing.T) {
	t.Parallel()
	cfg := realConfig(t, "n1", sharedServer(t).Addr())
	cfg.SessionTimeout = 10 * time.Second
	one := runReal(t, cfg)
	if ev := one.waitState(Connected); ev.Timeout != 4*time.Second {
		t.Errorf("timeout is %v, want 20 ticks", ev.Timeout)
	}
	if !strings.Contains(one.logged.String(), "another session timeout") {
		t.Error("not logged")
	}
}

// TestRealBadPeersArePassedOver has a web server and a silent one beside a real one.
func TestRealBadPeersArePassedOver(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	web := listen(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	silent := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	one := runReal(t, realConfig(t, "n1", web, silent, web, srv.Addr()))
	one.waitState(Connected)
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 200<<20 {
		t.Errorf("%d MiB allocated", (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}

func TestRealServerRestart(t *testing.T) {
	t.Parallel()
	srv := zktest.Start(t, zktest.Options{})
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	one.hold()
	before := one.waitClaim(Own)
	id := one.waitState(Connected).ID
	srv.Kill()
	one.waitState(Suspended)
	one.waitState(Lost) // by our own timer
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	ev := one.waitState(Connected)
	if ev.ID != id || !ev.AfterLoss {
		t.Errorf("connected as %+v, was %#x", ev, id)
	}
	if c := one.waitClaim(Own); c.Czxid != before.Czxid {
		t.Errorf("claim is %+v, was %+v", c, before)
	}
	srv.Kill()
	one.waitState(Suspended)
	if took := one.stop(nil); took > stopWithin+200*time.Millisecond {
		t.Errorf("the end without a server took %v", took)
	}
}

// TestRealServerPause freezes the server for longer than the session timeout. That expires everybody, except whose
// reconnect waits in the server's socket and is served before the expiry.
func TestRealServerPause(t *testing.T) {
	t.Parallel()
	srv := zktest.Start(t, zktest.Options{})
	cfg := realConfig(t, "n1", srv.Addr())
	cfg.SessionTimeout = time.Second
	one := runReal(t, cfg)
	one.hold()
	one.waitClaim(Own)
	srv.Freeze()
	one.waitState(Lost)
	<-time.After(time.Second)
	srv.Thaw()
	if ev := one.waitState(Connected); !ev.AfterLoss {
		t.Errorf("connected as %+v", ev)
	}
	one.waitClaim(Own)
	var words []string
	for _, ev := range one.all() {
		if ev, ok := ev.(SessionChanged); ok {
			words = append(words, ev.State.String())
		}
	}
	if got := strings.Join(words, " "); got != "connected suspended lost connected" {
		t.Errorf("states: %s", got)
	}
}

func TestRealStopIsBoundedWithAFrozenServer(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{"released": nil, "abandoned": ErrAbandon} {
		t.Run(name, func(t *testing.T) {
			srv := zktest.Start(t, zktest.Options{})
			one := runReal(t, realConfig(t, "n1", srv.Addr()))
			one.hold()
			one.waitClaim(Own)
			srv.Freeze()
			if took := one.stop(cause); took > stopWithin+200*time.Millisecond {
				t.Errorf("the end took %v", took)
			}
			srv.Thaw()
		})
	}
}

func TestRealAbandonDropsTheClaim(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	one := runReal(t, realConfig(t, "n1", srv.Addr()))
	one.hold()
	one.waitClaim(Own)
	c := other(t, 4*time.Second, srv.Addr())
	if took := one.stop(ErrAbandon); took > 500*time.Millisecond {
		t.Errorf("the end took %v", took)
	}
	if ok, _, err := c.Exists(one.claimPath()); ok || err != nil {
		t.Errorf("the claim is left: %v, %v", ok, err)
	}
}

// extended are the services of cfg after a reload: VIPs 192.0.2.3 and 192.0.2.9 may be claimed too, the second one in a
// service of its own.
func extended(cfg Config) []Service {
	web := cfg.Services[0]
	web.VIPs, web.Authoritative = []string{vip1, "192.0.2.2", "192.0.2.3"}, []string{vip1, "192.0.2.3"}
	mail := web
	mail.Name, mail.VIPs, mail.Authoritative = "mail", []string{"192.0.2.9"}, []string{"192.0.2.9"}
	for _, p := range []*string{&mail.ClaimsPath, &mail.MaintenancePath, &mail.StatusPath} {
		*p = strings.Replace(*p, "/web", "/mail", 1)
	}
	return []Service{web, mail}
}

// holdAll wishes every claim that the services allow, and their records.
func (r *realSession) holdAll(services []Service) {
	w := Want{Claims: make(map[ClaimKey]Wish), Statuses: make(map[string]*Status)}
	for _, s := range services {
		for _, vip := range s.Authoritative {
			w.Claims[ClaimKey{s.Name, vip}] = Hold
		}
		w.Statuses[s.Name] = &Status{Node: r.cfg.Node, Instance: r.cfg.Instance, Health: "healthy"}
	}
	r.s.Set(w)
}

// waitLies waits until exactly those paths among all are there, all made by one session.
func waitLies(t *testing.T, c *zk.Conn, owner int64, all, there []string) {
	t.Helper()
	for _, p := range all {
		want := slices.Contains(there, p)
		poll(t, fmt.Sprintf("%s is there: %v", p, want), func() bool {
			found, st, err := c.Exists(p)
			return err == nil && found == want && (!found || st.EphemeralOwner == owner)
		})
	}
}

// ownPaths are those of the claims and records of services.
func ownPaths(services []Service) []string {
	var all []string
	for _, s := range services {
		all = append(all, s.StatusPath)
		for _, vip := range s.Authoritative {
			all = append(all, s.ClaimsPath+"/"+vip)
		}
	}
	return all
}

func TestRealReload(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	cfg := realConfig(t, "n1", srv.Addr())
	one, two := runReal(t, cfg), runReal(t, realConfig(t, "n2", srv.Addr()))
	one.hold()
	before := one.waitClaim(Own)
	two.waitClaim(Foreign)
	c := other(t, 4*time.Second, srv.Addr())
	id := one.waitState(Connected).ID
	more := extended(cfg)
	web := more[0]
	web.Authoritative = []string{vip1}
	for range 3 {
		one.s.Reconfigure(more)
		one.holdAll(more)
		waitLies(t, c, id, ownPaths(more), ownPaths(more))
		one.s.Reconfigure([]Service{web})
		one.holdAll([]Service{web})
		waitLies(t, c, id, ownPaths(more), ownPaths([]Service{web}))
		one.s.Reconfigure(cfg.Services)
		one.hold()
	}
	poll(t, "n1 reads what is left", func() bool { ev, _ := newest[ClaimsRead](one); return len(ev.Claims) == 2 && ev.Service == "web" })
	if got := one.waitClaim(Own); got.Czxid != before.Czxid {
		t.Errorf("the claim that stays is %+v, was %+v", got, before)
	}
	seen := false
	for _, ev := range two.all() {
		if ev, ok := ev.(ClaimsRead); ok {
			if seen && ev.Claims[vip1].Czxid != before.Czxid {
				t.Errorf("n2 saw %+v", ev)
			}
			seen = seen || ev.Claims[vip1].Czxid == before.Czxid
		}
	}
	if got := transitions(one); !slices.Equal(got, []State{Connected}) {
		t.Errorf("the session was %v", got)
	}
	one.stop(nil)
	waitLies(t, c, id, ownPaths(more), nil)
}

// TestRealReloadWithoutASession has new services while there is no connection. The session turns out to live, and what it
// holds no longer is given up.
func TestRealReloadWithoutASession(t *testing.T) {
	t.Parallel()
	for _, state := range []State{Suspended, Lost} {
		t.Run(state.String(), func(t *testing.T) {
			t.Parallel()
			srv := zktest.Start(t, zktest.Options{})
			cfg := realConfig(t, "n1", srv.Addr())
			cfg.SessionTimeout = 4 * time.Second
			one := runReal(t, cfg)
			more := extended(cfg)
			one.s.Reconfigure(more) // before there ever was one
			one.holdAll(more)
			id := one.waitState(Connected).ID
			c := other(t, 4*time.Second, srv.Addr())
			waitLies(t, c, id, ownPaths(more), ownPaths(more))
			_, kept, err := c.Exists(one.claimPath())
			if err != nil {
				t.Fatal(err)
			}
			srv.Kill()
			one.waitState(state)
			less := extended(cfg)[:1]
			less[0].Authoritative = []string{vip1, "192.0.2.2"}
			one.s.Reconfigure(less)
			one.holdAll(less)
			told := len(one.all())
			if err := srv.Restart(); err != nil {
				t.Fatal(err)
			}
			if ev := one.waitState(Connected); ev.ID != id || state == Lost && !ev.AfterLoss {
				t.Errorf("connected as %+v, was %#x", ev, id)
			}
			waitLies(t, c, id, append(ownPaths(more), ownPaths(less)...), ownPaths(less))
			if _, st, err := c.Exists(one.claimPath()); err != nil || st.Czxid != kept.Czxid {
				t.Errorf("the claim that stays is %+v, was %+v: %v", st, kept, err)
			}
			for _, ev := range one.all()[told:] {
				if ev, ok := ev.(ClaimsRead); ok && (ev.Service != "web" || ev.Claims["192.0.2.3"].Holder != Absent) {
					t.Errorf("told %+v", ev)
				}
			}
		})
	}
}

// child runs a Session until it is killed.
func child(config string) {
	var cfg Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		panic(err)
	}
	log := logrus.New()
	s := New(cfg, logrus.NewEntry(log))
	s.Set(Want{Claims: map[ClaimKey]Wish{{"web", vip1}: Hold}})
	s.Run(context.Background(), func(ev Event) bool {
		switch ev := ev.(type) {
		case SessionChanged:
			fmt.Println(ev.State, ev.AfterLoss)
		case ClaimsRead:
			fmt.Println("claims", ev.Claims[vip1].Holder)
		}
		return true
	})
}

// TestRealClientSleepsThroughItsSession stops a whole process for longer than its session timeout.
func TestRealClientSleepsThroughItsSession(t *testing.T) {
	t.Parallel()
	srv := sharedServer(t)
	cfg := realConfig(t, "n1", srv.Addr())
	cfg.SessionTimeout = time.Second
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var out, log logtest.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childConfig+"="+string(config))
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("events:\n%s\nlog:\n%s", out.String(), log.String())
		}
	})
	poll(t, "the child holds its claim", func() bool { return strings.HasSuffix(out.String(), "claims own\n") })
	cmd.Process.Signal(syscall.SIGSTOP)
	two := runReal(t, realConfig(t, "n2", srv.Addr()))
	two.waitClaim(Absent)
	slept := len(out.String())
	cmd.Process.Signal(syscall.SIGCONT)
	poll(t, "the child holds its claim again", func() bool {
		return len(out.String()) > slept && strings.HasSuffix(out.String(), "claims own\n")
	})
	// Nothing that was read before the sleep may be told after it.
	if got := out.String()[slept:]; !strings.HasPrefix(got, "suspended false\nlost false\nconnected true\nclaims absent\n") {
		t.Errorf("after the sleep: %q", got)
	}
}

// TestRealFrozenLeader freezes the leader of an ensemble: no session may be lost, as two servers of three are well.
func TestRealFrozenLeader(t *testing.T) {
	t.Parallel()
	servers := zktest.StartEnsemble(t, 3, zktest.Options{TickTime: 2 * time.Second})
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr())
	}
	leader := zktest.Leader(servers)
	if leader == nil {
		t.Fatal("no leader")
	}
	sessions := make(map[*realSession]int64)
	czxids := make(map[*realSession]int64)
	for i := range 4 {
		cfg := realConfig(t, fmt.Sprintf("n%d", i+1), addrs...)
		cfg.SessionTimeout = 4 * time.Second
		cfg.Services[0].VIPs = []string{vip1, "192.0.2.2", "192.0.2.3", "192.0.2.4"}
		cfg.Services[0].Authoritative = cfg.Services[0].VIPs[i : i+1]
		vip := cfg.Services[0].Authoritative[0]
		r := runReal(t, cfg)
		r.s.Set(Want{Claims: map[ClaimKey]Wish{{"web", vip}: Hold}})
		poll(t, "claimed", func() bool {
			ev, _ := newest[ClaimsRead](r)
			czxids[r] = ev.Claims[vip].Czxid
			return ev.Claims[vip].Holder == Own
		})
		sessions[r] = r.waitState(Connected).ID
	}
	leader.Freeze()
	t.Cleanup(leader.Thaw)
	// All clients hear of it in the end: a new leader drops the connections of the old one's followers.
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		back := 0
		for r := range sessions {
			if ev, _ := newest[SessionChanged](r); ev.State == Connected && len(transitions(r)) >= 3 {
				back++
			}
		}
		if back == len(sessions) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d are back", back, len(sessions))
		}
	}
	for r, id := range sessions {
		vip := r.cfg.Services[0].Authoritative[0]
		ev := r.waitState(Connected)
		claims, _ := newest[ClaimsRead](r)
		if ev.ID != id || claims.Claims[vip].Holder != Own || claims.Claims[vip].Czxid != czxids[r] {
			t.Errorf("%s: session %#x was %#x, claim %+v was %d", r.cfg.Node, ev.ID, id, claims.Claims[vip], czxids[r])
		}
		for other, c := range maps.All(claims.Claims) {
			if c.Holder == Absent {
				t.Errorf("%s does not see the claim of %s", r.cfg.Node, other)
			}
		}
	}
}

// transitions are all states that were emitted.
func transitions(r *realSession) []State {
	var states []State
	for _, ev := range r.all() {
		if ev, ok := ev.(SessionChanged); ok {
			states = append(states, ev.State)
		}
	}
	return states
}

// TestAdminSaysWhatIsRefused checks that a want of rights is told from a node that is missing: the operator's remedy differs.
func TestAdminSaysWhatIsRefused(t *testing.T) {
	srv := sharedServer(t)
	ctx := within(t, 30*time.Second)
	a, err := Dial(ctx, []string{srv.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	c := other(t, 4*time.Second, srv.Addr())
	put(t, c, "/refused/dir/node", `{"node":"node"}`, 0)
	deny := func(at string, left int32) {
		t.Helper()
		if _, err := c.SetACL(at, zk.WorldACL(left|zk.PermAdmin), -1); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string, err error) {
		t.Helper()
		if !errors.Is(err, ErrRefused) || !strings.HasPrefix(err.Error(), want+": ") || !strings.Contains(err.Error(), "remedy: ") {
			t.Errorf("want %s, refused and with a remedy: %v", want, err)
		}
	}
	deny("/refused/dir", zk.PermRead)
	_, err = a.Create(ctx, "/refused/dir/new", nil)
	refused(`create "/refused/dir/new"`, err)
	_, err = a.Create(ctx, "/refused/dir/new/below", nil)
	refused(`create "/refused/dir/new"`, err)
	_, err = a.Delete(ctx, "/refused/dir/node", Any)
	refused(`delete "/refused/dir/node"`, err)

	deny("/refused/dir/node", zk.PermRead)
	_, err = a.Set(ctx, "/refused/dir/node", []byte("x"), Any)
	refused(`write "/refused/dir/node"`, err)
	if n, found, err := a.Get(ctx, "/refused/dir/node"); err != nil || !found || string(n.Data) != `{"node":"node"}` {
		t.Errorf("what was refused has changed something: %+v, %v", n, err)
	}

	deny("/refused/dir/node", 0)
	_, _, err = a.Get(ctx, "/refused/dir/node")
	refused(`read "/refused/dir/node"`, err)
	_, err = a.Statuses(ctx, "/refused/dir") // half a list would look as if nobody had taken over
	refused(`read "/refused/dir/node"`, err)
	deny("/refused/dir", 0)
	_, err = a.Statuses(ctx, "/refused/dir")
	refused(`list "/refused/dir"`, err)
}
