package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	// A name with all that may confuse; fields up to the 22nd of proc(5).
	got, err := parseStat([]byte("4711 (a) b (c) S 42 4711 4711 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 5 0 987654 1 2\n"))
	want := procStat{comm: "a) b (c", state: 'S', ppid: 42, start: 987654}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	needRoot(t)
	for _, opt := range []Options{{Prefix: "../x"}, {Prefix: "A"}, {Dir: "relative"}, {ZKServers: 2}} {
		if l, err := Up(t.Context(), opt); err == nil {
			t.Errorf("%+v was built", opt)
			l.Down()
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), Options{Prefix: testPrefix(), Dir: full}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("in a directory of somebody else: %v", err)
	}
	if err := Down(testPrefix(), full); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(full, "precious")); err != nil {
		t.Errorf("Down removed what no lab made: %v", err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces and mounts")
	}
	if err := Missing(); err != nil {
		t.Skip(err)
	}
}

func testPrefix() string { return fmt.Sprintf("exazkt%d", os.Getpid()) }

// What takes no ExaBGP: the rest is the matter of the end-to-end tests.
func TestLab(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "lab")
	opt := Options{Prefix: testPrefix(), Dir: dir, ConfigDir: configDir, BirdDir: birdDir, Without: []string{DaemonWeb, DaemonExaBGP}}
	before := machine(t)
	l, err := Up(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	testHosts(t, l)
	testSecondUp(t, opt)
	if l, err = Open(dir, nil); err != nil { // what follows works for another process as well
		t.Fatal(err)
	}
	testZooKeeper(t, l)
	testFaults(t, l)
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	if err := l.Down(); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if after := machine(t); after != before {
		t.Errorf("the machine was\n%s\nand is\n%s", before, after)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	if _, err := Open(dir, nil); !errors.Is(err, ErrDown) {
		t.Errorf("opening what is gone: %v", err)
	}
}

// machine is what a lab must not leave a trace in: interfaces and mounts of the machine, namespaces, and files it would
// shadow.
func machine(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	ifcs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, ifc := range ifcs {
		fmt.Fprintln(&b, "interface", ifc.Name)
	}
	mounts := read(t, "/proc/self/mounts")
	fmt.Fprintln(&b, strings.Count(mounts, "overlay"), "overlays,", strings.Count(mounts, testPrefix()), "mounts of labs")
	netns, err := filepath.Glob("/run/netns/" + testPrefix() + "*")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, "namespaces", netns)
	for _, path := range []string{"/etc/exabgp/exabgp.conf", "/etc/exazk", "/usr/local/bin/check_local_nginx.sh"} {
		_, err := os.Stat(path)
		fmt.Fprintln(&b, path, err)
	}
	fmt.Fprintln(&b, read(t, "/etc/hosts"))
	return b.String()
}

func testHosts(t *testing.T, l *Lab) {
	t.Helper()
	out, err := l.Host("lb2").Run(t.Context(), "sh", "-c", "hostname; ls /etc/exazk; cat /etc/exabgp/exabgp.conf; command -v check_local_nginx.sh")
	want := "lb2\napex-node2.toml\n" + read(t, filepath.Join(configDir, "exabgp-node2.conf")) + "/usr/local/bin/check_local_nginx.sh\n"
	if err != nil || out != want {
		t.Errorf("on lb2: %v\n%s", err, out)
	}
	if _, err := l.Host("lb2").Run(t.Context(), "sh", "-c", "echo why >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3: why") {
		t.Errorf("a command that fails: %v", err)
	}
	p, err := l.Host("client").Start("sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err == nil || p.Signal(syscall.SIGKILL) != os.ErrProcessDone {
		t.Errorf("after its end: %v", err)
	}
}

func testSecondUp(t *testing.T, opt Options) {
	t.Helper()
	if _, err := Up(t.Context(), opt); !errors.Is(err, ErrUp) {
		t.Errorf("the same lab again: %v", err)
	}
	opt.Prefix += "b"
	if _, err := Up(t.Context(), opt); !errors.Is(err, ErrUp) {
		t.Errorf("another lab in the same directory: %v", err)
	}
}

func testZooKeeper(t *testing.T, l *Lab) {
	t.Helper()
	const node = "/exabgp/maintenance/apex/node1"
	if yes, err := l.ZKExists(node); err != nil || yes {
		t.Errorf("at first: %v, %v", yes, err)
	}
	for range 2 {
		if err := l.ZKCreate(node, []byte("me")); err != nil {
			t.Error(err)
		}
	}
	if data, owner, err := l.ZKGet(node); err != nil || !bytes.Equal(data, []byte("me")) || owner != 0 {
		t.Errorf("got %q of %#x, %v", data, owner, err)
	}
	if err := l.StopZK(); err != nil {
		t.Error(err)
	}
	if err := l.StartZK(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names, err := l.ZKChildren("/exabgp/maintenance/apex"); err != nil || len(names) != 1 || names[0] != "node1" {
		t.Errorf("after a restart: %v, %v", names, err)
	}
	for range 2 {
		if err := l.ZKDelete(node); err != nil {
			t.Error(err)
		}
	}
	if yes, err := l.ZKExists(node); err != nil || yes {
		t.Errorf("at last: %v, %v", yes, err)
	}
}

func testFaults(t *testing.T, l *Lab) {
	t.Helper()
	reaches := func(from, to string, want bool) {
		t.Helper()
		err := poll(t.Context(), 15*time.Second, func() error {
			_, err := l.Host(from).Run(t.Context(), "ping", "-c1", "-W1", to)
			if (err == nil) != want {
				return fmt.Errorf("%s reaches %s: %v, want %v", from, to, err == nil, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	reaches("client", "lb1", true)
	do(l.LinkDown("r0", "r1"))
	reaches("client", "lb1", false)
	do(l.LinkUp("r1", "r0"))
	reaches("client", "lb1", true)
	do(l.Blackhole("lb1", "r1"))
	reaches("client", "lb1", false)
	do(l.Heal("lb1", "r1"))
	reaches("client", "lb1", true)
	do(l.LinkDown("lb1", "r1"))
	do(l.LinkUp("lb1", "r1"))
	reaches("client", "lb1", true) // the default route is back
	do(l.CutZK("lb3"))
	reaches("lb3", "zk", false)
	do(l.JoinZK("lb3"))
	reaches("lb3", "zk", true)
	do(l.CrashHost("r1"))
	reaches("client", "lb1", false)
	if _, ok := l.Host("r1").daemon(DaemonBIRD); ok {
		t.Error("bird survived the crash of r1")
	}
	do(l.BootHost(t.Context(), "r1"))
	reaches("client", "lb1", true)
	if l.LinkDown("lb1", "lb2") == nil || l.Blackhole("lb1", management) == nil {
		t.Error("a fault between hosts that have no cable in common was accepted")
	}
}

func TestUpLeavesNothingWhenItFails(t *testing.T) {
	needRoot(t)
	before := machine(t)
	dir := filepath.Join(t.TempDir(), "lab")
	ran := false
	_, err := Up(t.Context(), Options{Prefix: testPrefix(), Dir: dir, ConfigDir: configDir, BirdDir: birdDir, Prepare: func(l *Lab) error {
		ran = true
		return l.Host("r2").WriteFile("/etc/bird/bird.conf", []byte("nonsense"), 0o644)
	}})
	if !ran || err == nil || !strings.Contains(err.Error(), "r2: bird does not answer") || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("error %v, want one that names r2's bird and shows what it says", err)
	}
	if after := machine(t); after != before {
		t.Errorf("the machine was\n%s\nand is\n%s", before, after)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}

func TestDownAfterHalfAnUp(t *testing.T) {
	needRoot(t)
	before := machine(t)
	ns := testPrefix() + "-r0"
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("nsenter", "--net="+netnsPath(ns), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// Before it has entered the namespace, it is no process of the lab.
	err = poll(context.Background(), 5*time.Second, func() error {
		want, err := namespaceOf(netnsPath(ns))
		if err != nil {
			return err
		}
		if got, err := namespaceOf(fmt.Sprintf("/proc/%d/ns/net", id.PID)); err != nil || got != want {
			return fmt.Errorf("in namespace %v, %v", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := Down(testPrefix(), filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || id.alive() {
		t.Errorf("the process in it lives on: %v", err)
	}
	if after := machine(t); after != before {
		t.Errorf("the machine was\n%s\nand is\n%s", before, after)
	}
}

// The ensemble as the scenarios use it: it goes on without its leader, dead or frozen, and every server comes back.
func TestEnsemble(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "lab")
	before := machine(t)
	l, err := Up(t.Context(), Options{Prefix: testPrefix(), Dir: dir, ConfigDir: configDir, BirdDir: birdDir, ZKServers: 3,
		Without: []string{DaemonWeb, DaemonExaBGP}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		if after := machine(t); after != before {
			t.Errorf("the machine was\n%s\nand is\n%s", before, after)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// anotherLeads waits until a server other than that one leads, and writes through it.
	anotherLeads := func(than int) int {
		t.Helper()
		leader := 0
		must(poll(t.Context(), 20*time.Second, func() (err error) {
			if leader, err = l.ZKLeader(); err == nil && leader == than {
				err = fmt.Errorf("server %d leads", leader)
			}
			return err
		}))
		must(l.Drain("lb1"))
		must(l.Undrain("lb1"))
		return leader
	}
	leader := anotherLeads(0)
	must(l.Drain("lb2"))
	must(l.KillZKServer(leader))
	second := anotherLeads(leader)
	must(l.StartZKServer(t.Context(), leader))
	must(l.FreezeZKServer(second))
	third := anotherLeads(second)
	must(l.ThawZKServer(second))
	must(poll(t.Context(), 20*time.Second, func() error { _, err := l.zkMode(t.Context(), second); return err }))
	must(l.StopZKServer(third))
	must(l.StartZKServer(t.Context(), third))
	must(l.StopZK())
	if _, err := l.ZKExists("/"); err == nil {
		t.Error("without a server, ZooKeeper answers")
	}
	must(l.StartZK(t.Context()))
	if yes, err := l.ZKExists(maintenanceNode("lb2")); err != nil || !yes {
		t.Errorf("after it all, what was written first is there: %v, %v", yes, err)
	}
	if owners, err := l.ZKSessions("/exabgp/maintenance/apex"); err != nil || len(owners) != 1 || owners["node2"] != 0 {
		t.Errorf("owners %v, %v, want one persistent node2", owners, err)
	}
}
