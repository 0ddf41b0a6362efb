package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/rogpeppe/go-internal/testscript"

	"exazk/zkstate"
	"exazk/zkstate/zktest"
)

// TestAdminScripts runs the operator's commands against a real ZooKeeper, with status records that no daemon has written.
func TestAdminScripts(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	store := dialStore(t, srv)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/admin",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ZK", srv.Addr())
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every command takes a second under the race detector
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":  exits,
			"fill":   fill,
			"zk":     store.zk,
			"record": store.record,
			"rights": rights,
			"longreason": func(ts *testscript.TestScript, _ bool, args []string) {
				n, err := strconv.Atoi(args[0])
				ts.Check(err)
				unit, err := strconv.Unquote(`"` + args[1] + `"`)
				ts.Check(err)
				ts.Setenv("LONG", strings.Repeat(unit, n))
			},
		},
	})
}

// store lets a script write to ZooKeeper and look at it.
type store struct {
	admin *zkstate.Admin
	conn  *zk.Conn // what no part of this program does from outside: a claim is a process's
}

const patience = 30 * time.Second

func dialStore(t *testing.T, srv *zktest.Server) *store {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, err := zkstate.Dial(ctx, []string{srv.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	conn, _, err := zk.Connect([]string{srv.Addr()}, patience, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &store{a, conn}
}

// fill puts the server's address into a file.
func fill(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "$ZK", ts.Getenv("ZK"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// zk speaks to ZooKeeper: zk get|none|await|drop PATH, zk set PATH DATA…, zk claim PATH DATA… makes an ephemeral node.
func (s *store) zk(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	at := args[1]
	switch args[0] {
	case "set":
		s.set(ts, at, strings.Join(args[2:], " "))
		return
	case "claim":
		s.set(ts, path.Dir(at), "")
		_, err := s.conn.Create(at, []byte(strings.Join(args[2:], " ")), zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
		ts.Check(err)
		return
	case "drop":
		_, err := s.admin.Delete(ctx, at, zkstate.Any)
		ts.Check(err)
		return
	case "await":
		for {
			_, found, err := s.admin.Get(ctx, at)
			ts.Check(err)
			if found {
				return
			}
			pause(ctx, 10*time.Millisecond)
		}
	}
	n, found, err := s.admin.Get(ctx, at)
	ts.Check(err)
	if found != (args[0] == "get") {
		ts.Fatalf("%s: found %v: %q", at, found, n.Data)
	}
	fmt.Fprintf(ts.Stdout(), "%s\n", n.Data)
}

func (s *store) set(ts *testscript.TestScript, at, data string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	created, err := s.admin.Create(ctx, at, []byte(data))
	ts.Check(err)
	if !created {
		_, err := s.admin.Set(ctx, at, []byte(data), zkstate.Any)
		ts.Check(err)
	}
}

// rights says what everybody may do with a node that is there: rights PATH none|read. Asked of ZooKeeper's library, as no
// part of this program sets an ACL.
func rights(ts *testscript.TestScript, _ bool, args []string) {
	conn, _, err := zk.Connect([]string{ts.Getenv("ZK")}, patience, zk.WithLogInfo(false))
	ts.Check(err)
	defer conn.Close()
	perm := map[string]int32{"none": 0, "read": zk.PermRead}[args[1]]
	_, err = conn.SetACL(args[0], zk.WorldACL(perm|zk.PermAdmin), -1)
	ts.Check(err)
}

// record writes a status record: record SERVICE NODE HEALTH MAINTENANCE [-NEIGHBORSTATE] VIP:VERDICT[:REASON[:own]]…, or ends
// it: record SERVICE NODE gone. Who announces its own VIP claims it. The verdict "pending" is a withdraw that ExaBGP has not acknowledged.
func (s *store) record(ts *testscript.TestScript, _ bool, args []string) {
	at := "/exabgp/status/" + args[0] + "/" + args[1]
	if args[2] == "gone" {
		_, err := s.admin.Delete(context.Background(), at, zkstate.Any)
		ts.Check(err)
		return
	}
	st := zkstate.Status{Node: args[1], Health: args[2], Maintenance: args[3]}
	for _, arg := range args[4:] {
		if state, ok := strings.CutPrefix(arg, "-"); ok {
			st.Neighbors = append(st.Neighbors, zkstate.StatusNeighbor{Peer: "198.51.100.1", State: state})
			continue
		}
		words := append(strings.Split(arg, ":"), "")
		r := zkstate.StatusRoute{VIP: words[0], Verdict: words[1], Announced: words[1] == "announce", Reason: words[2], Role: "backup"}
		if r.Own = slices.Contains(words, "own"); r.Own {
			r.Role, r.Claim = "authoritative", r.Announced
		}
		if r.Verdict == "pending" {
			r.Verdict, r.Pending = "withdraw", true
		}
		st.Routes = append(st.Routes, r)
	}
	data, err := json.Marshal(st)
	ts.Check(err)
	s.set(ts, at, string(data))
}

func TestFlagsFirst(t *testing.T) {
	for in, want := range map[string]string{
		"maintenance enter node2 --wait":            "maintenance enter --wait -- node2",
		"maintenance enter node2 --reason x --wait": "maintenance enter --reason=x --wait -- node2",
		"maintenance leave --service a node2 -f x":  "maintenance leave --service=a -f=x -- node2",
		"maintenance leave --service=a -zH h":       "maintenance leave --service=a -zH=h",
		"maintenance enter --reason --wait":         "maintenance enter --reason=--wait",
		"maintenance enter -- --node":               "maintenance enter -- --node",
		"maintenance enter --reason":                "maintenance enter --reason",
		"maintenance --help":                        "maintenance --help",
		"maintenance":                               "maintenance",
		"drain --undo x -n apex":                    "drain --undo -n=apex -- x",
		"failback node2 -f x":                       "failback -f=x -- node2",
		"history node2 --vip x -l 3":                "history --vip=x -l=3 -- node2",
		"why 192.0.2.1 --json -f x":                 "why --json -f=x -- 192.0.2.1",
		"check x -f y":                              "check x -f y",
		"":                                          "",
	} {
		if got := flagsFirst(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func TestOnlyConfig(t *testing.T) {
	dir := t.TempDir()
	if _, err := onlyConfig(dir); err == nil || !strings.Contains(err.Error(), "there is no *.toml in "+dir) {
		t.Errorf("got %v", err)
	}
	one, two := filepath.Join(dir, "a.toml"), filepath.Join(dir, "b.toml")
	for _, f := range []string{one, filepath.Join(dir, "c.yml")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := onlyConfig(dir); err != nil || got != one {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.WriteFile(two, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := onlyConfig(dir); err == nil || !strings.Contains(err.Error(), one+", "+two+"; remedy: give one with --config FILE") {
		t.Errorf("got %v", err)
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"/etc/exazk/a.toml": "/etc/exazk/a.toml", "": "''", "my file": "'my file'", "it's": `'it'\''s'`, "a;b": "'a;b'"} {
		if got := shellWord(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// TestListIsSafeToPrint keeps what others wrote into ZooKeeper away from the terminal's controls.
func TestListIsSafeToPrint(t *testing.T) {
	var out strings.Builder
	n := zkstate.Node{Data: []byte("{\"reason\":\"a\\u001b[2Jb\\u009bc\",\"who\":\"x\\ty\"}"), Created: time.Unix(0, 0)}
	if err := printList(&out, []entry{{Node: "n\x1b[1m", Service: "web", Flag: told(n), State: "drained"}}); err != nil {
		t.Fatal(err)
	}
	want := "NODE   SERVICE  SINCE                 UNTIL  WHO  REASON    STATE\nn?[1m  web      1970-01-01T00:00:00Z  -      x y  a [2Jb c  drained\n"
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestProgressOnATerminal(t *testing.T) {
	var out strings.Builder
	p := &progress{out: &out, terminal: true}
	for _, lines := range [][]string{{"a: 1"}, {"a: 1"}, {"a: 1", "b: 1"}, {"a: 2", "b: 1"}} {
		p.show(lines)
	}
	want := "\r\x1b[K  a: 1\n" + "\x1b[1A\r\x1b[K  a: 1\n\r\x1b[K  b: 1\n" + "\x1b[2A\r\x1b[K  a: 2\n\r\x1b[K  b: 1\n"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

func TestDrainOfSeveralServices(t *testing.T) {
	st := func(maintenance, verdict string) map[string]zkstate.Status {
		return map[string]zkstate.Status{"n1": {Maintenance: maintenance, Routes: []zkstate.StatusRoute{{VIP: "192.0.2.1", Verdict: verdict}}}}
	}
	d := &drain{node: "n1", several: true}
	if d.done() || d.left() != "nothing could be read" {
		t.Error("done before the first look")
	}
	for _, tt := range []struct {
		a, b map[string]zkstate.Status
		done bool
		left string
	}{
		{st("absent", "announce"), st("present", "hold"), false, "192.0.2.1 (a): no other node announces it; a: its exazk has not seen the maintenance; 192.0.2.1 (b): no other node announces it"},
		{st("present", "withdraw"), st("present", "announce"), false, "192.0.2.1 (b): no other node announces it"},
		{st("present", "withdraw"), nil, true, ""},
		{nil, nil, true, ""},
	} {
		d.see(map[string]map[string]zkstate.Status{"a": tt.a, "b": tt.b})
		if d.done() != tt.done || d.left() != tt.left {
			t.Errorf("done %v, left %q", d.done(), d.left())
		}
	}
	if want := []string{"192.0.2.1 (a): announced by nobody", "192.0.2.1 (b): announced by nobody"}; !slices.Equal(d.lines(), want) {
		t.Errorf("got %q", d.lines())
	}
	if d.outcome() != "n1 has stopped: its status record is gone" {
		t.Errorf("got %s", d.outcome())
	}
}

func TestDrainThatMustBeSeen(t *testing.T) {
	drained := map[string]zkstate.Status{"n1": {Maintenance: "present"}}
	d := &drain{node: "n1", several: true, mustSee: true, known: map[string]bool{"b": true}}
	d.see(map[string]map[string]zkstate.Status{"a": nil, "b": nil})
	if want := "b: its status record has gone: exazk there has ended or lost ZooKeeper, and ExaBGP may still announce its routes"; d.done() || d.left() != want {
		t.Errorf("done %v, left %q", d.done(), d.left())
	}
	d.see(map[string]map[string]zkstate.Status{"a": nil, "b": drained})
	if !d.done() {
		t.Errorf("waits for a service that the node never had: %q", d.left())
	}
	d.see(map[string]map[string]zkstate.Status{"a": drained, "b": drained})
	d.see(map[string]map[string]zkstate.Status{"a": nil, "b": drained})
	if d.done() {
		t.Error("done without the record that it had a moment before")
	}
}

// speaker is a daemon under something that answers "done" to every command, as ExaBGP does.
type speaker struct {
	cmd   *exec.Cmd
	stdin io.Closer
	mu    sync.Mutex
	log   bytes.Buffer
}

func (s *speaker) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

// startSpeaker returns a function that ends the daemon as a gone ExaBGP does. The end of the test calls it, too.
func startSpeaker(t *testing.T, config string) (stop func()) {
	s := &speaker{cmd: command(t, "-f", config, "--no-syslog")}
	s.cmd.Stderr = s
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			if in.Text() != "" {
				fmt.Fprintln(stdin, "done")
			}
		}
	}()
	stop = sync.OnceFunc(func() {
		stdin.Close()
		<-answered
		s.cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s:\n%s", config, s.log.String())
		}
	})
	return stop
}

// command is this program with arguments; the test binary is it under its name.
func command(t *testing.T, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "exazk"
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// TestDrainOfADaemon drains and undrains a real daemon, with a second one that takes over.
func TestDrainOfADaemon(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	store := dialStore(t, srv)
	configs, stop := map[string]string{}, map[string]func(){}
	for node, vips := range map[string]string{
		"node1": "authoritative = [\"192.0.2.1\"]\nbackup_for = [\"192.0.2.2\"]",
		"node2": "authoritative = [\"192.0.2.2\"]\nbackup_for = [\"192.0.2.1\"]",
	} {
		configs[node] = filepath.Join(t.TempDir(), node+".toml")
		text := fmt.Sprintf("node = %q\n[log]\nsyslog = false\n[zookeeper]\nhosts = [%q]\nsession_timeout = \"2s\"\n[exabgp]\nneighbor_tracking = \"off\"\n"+
			"[[service]]\nname = \"web\"\n%s\n[service.check]\ncommand = \"true\"\ninterval = \"200ms\"\n", node, srv.Addr(), vips)
		if err := os.WriteFile(configs[node], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		stop[node] = startSpeaker(t, configs[node])
	}
	announce := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			records, err := store.admin.Statuses(ctx, "/exabgp/status/web")
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(announcers("192.0.2.1", records), announcers("192.0.2.2", records))
			if got == want {
				return
			}
			if !pause(ctx, 20*time.Millisecond) {
				t.Fatalf("announcers %s, want %s", got, want)
			}
		}
	}
	must := func(want string, args ...string) {
		t.Helper()
		out, err := command(t, append(args, "-f", configs["node1"])...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%v: %v, want %q in:\n%s", args, err, want, out)
		}
	}
	announce("[node1] [node2]")
	must("node1 is drained", "drain", "--for", "1h")
	announce("[node2] [node2]")
	must("drained", "maintenance", "list")
	must("node1 is back", "drain", "--undo")
	announce("[node1] [node2]")
	must("node2 is drained", "maintenance", "enter", "node2", "--wait", "--for", "5s")
	announce("[node1] [node1]")
	announce("[node1] [node2]") // its time is over
	must("no node is in maintenance", "maintenance", "list")
	must("does not wait for this", "failback")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for found := true; found; pause(ctx, 20*time.Millisecond) { // it is obeyed, and goes
		var err error
		if _, found, err = store.admin.Get(ctx, "/exabgp/failback/web/node1"); err != nil {
			t.Fatal(err)
		}
	}

	// A planned restart is no failure after which an operator must give the VIPs back.
	must("node1 is drained", "drain", "--for", "1h")
	stop["node1"]()
	text, err := os.ReadFile(configs["node1"])
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "name = \"web\"\n", "name = \"web\"\nfailback = \"manual\"\n", 1))
	if err := os.WriteFile(configs["node1"], text, 0o600); err != nil {
		t.Fatal(err)
	}
	must("node1 need not wait for a failback", "drain", "--undo") // before exazk could see that it was drained
	startSpeaker(t, configs["node1"])
	announce("[node1] [node2]")
}
