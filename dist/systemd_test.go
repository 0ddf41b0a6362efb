package dist

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"exazk/internal/logtest"
)

// bootScript is machineScript for a machine whose first process is systemd. Its terminal is nobody's, and no unit of this machine is
// started but what the test wants.
const bootScript = copyScript + `rm -f root/etc/fstab
cat > root/etc/systemd/system/under-test.target <<END
[Unit]
Requires=sysinit.target dbus.service
After=sysinit.target dbus.service
END
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off --timezone=off \
	--machine=node1 --directory=root --console=pipe --boot -- --unit=under-test.target
`

// bootMachine is newMachine with systemd.
func bootMachine(t *testing.T) *machine {
	t.Helper()
	needs(t, "systemd-nspawn", "dbus-daemon")
	if os.Geteuid() != 0 {
		t.Skip("not root: no machine can be booted")
	}
	m := &machine{t: t, dir: t.TempDir(), root: "/"}
	var out logtest.Buffer
	cmd := exec.Command("sh", "-c", bootScript, "machine", m.dir)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("no namespaces: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // which systemd-nspawn hands on as an order to power off
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill() // and its first process with it
			<-ended
		}
	})
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			if m.pid == 0 {
				t.Skipf("systemd-nspawn cannot make a machine here: %v: %s", err, out.String())
			}
			t.Fatalf("systemd does not come up: %v: %s", err, out.String())
		default:
		}
		if pid := childOf(cmd.Process.Pid); pid != 0 {
			m.pid = pid
			if _, err := m.try("systemctl", "is-active", "under-test.target"); err == nil {
				return m
			}
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("systemd does not come up: %s", out.String())
		}
	}
}

// childOf is a process' only child, 0 where there is none.
func childOf(pid int) (child int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err == nil {
		_, _ = fmt.Sscan(string(text), &child)
	}
	return child
}

// The nodes' addresses are on lo of the machine, and the router's.
const (
	routerAddr = "198.51.100.1"
	node1Addr  = "198.51.100.11"
	node2Addr  = "198.51.100.12"
)

// routerConf is BIRD's.
const routerConf = `log stderr all;
router id ` + routerAddr + `;
protocol device { }
template bgp node {
	local ` + routerAddr + ` as 65000;
	multihop 2;
	passive on;
	hold time 30;
	debug { routes };
	ipv4 { import all; export none; };
}
protocol bgp node1 from node { neighbor ` + node1Addr + ` as 65101; }
protocol bgp node2 from node { neighbor ` + node2Addr + ` as 65102; }
`

const zookeeperConf = "tickTime=200\ndataDir=/tmp/zookeeper\nclientPortAddress=127.0.0.1\nclientPort=2181\nadmin.enableServer=false\n"

// nodeFiles are ExaBGP's and exazk's for one of the two nodes.
func nodeFiles(n int, dir string) (conf, toml string) {
	addr := []string{node1Addr, node2Addr}[n-1]
	conf = fmt.Sprintf(`process exazk {
    run /usr/bin/exazk -f %s/apex.toml;
    encoder json;
}
neighbor %s {
    router-id %s;
    local-address %s;
    local-as 6510%d;
    peer-as 65000;
    hold-time 30;
    outgoing-ttl 2;
    family { ipv4 unicast; }
    api { processes [ exazk ]; neighbor-changes; }
}
`, dir, routerAddr, addr, addr, n)
	toml = fmt.Sprintf(`node = "node%d"
[zookeeper]
hosts = ["127.0.0.1"]
session_timeout = "4s"
[[service]]
name = "apex"
authoritative = ["10.20.255.%d"]
backup_for = ["10.20.255.%d"]
overlap = "3s"
check.command = "true"
`, n, n, 3-n)
	return conf, toml
}

// cluster has the machine be a node under systemd: ZooKeeper, a router and another node run beside it.
func (m *machine) cluster() {
	m.t.Helper()
	m.install(deb("amd64"))
	for _, addr := range []string{routerAddr, node1Addr, node2Addr} {
		m.run("ip", "addr", "add", addr+"/32", "dev", "lo")
	}
	m.run("mkdir", "-p", "/etc/other", "/etc/exazk")
	for n, at := range []struct{ exazk, exabgp string }{{"/etc/exazk", "/etc/exabgp"}, {"/etc/other", "/etc/other"}} {
		conf, toml := nodeFiles(n+1, at.exazk)
		m.write(at.exazk+"/apex.toml", []byte(toml))
		m.write(at.exabgp+"/exabgp.conf", []byte(conf))
	}
	m.write("/etc/router.conf", []byte(routerConf))
	m.write("/etc/zoo.cfg", []byte(zookeeperConf))
	m.run("systemd-run", "--unit=zookeeper-here", "java", "-Xmx64m", "-cp", "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar",
		"org.apache.zookeeper.server.ZooKeeperServerMain", "/etc/zoo.cfg")
	m.run("systemd-run", "--unit=router", "bird", "-f", "-c", "/etc/router.conf", "-s", "/run/router.ctl")
	m.run("systemd-run", "--unit=other", "--uid=exabgp", "--setenv=exabgp_daemon_daemonize=false", "--setenv=exabgp_api_cli=false",
		"/usr/sbin/exabgp", "/etc/other/exabgp.conf")
	m.run("systemctl", "start", "exabgp.service")
}

// announcers are the nodes from which the router has a route to a VIP.
func (m *machine) announcers(vip string) string {
	out, err := m.try("birdc", "-s", "/run/router.ctl", "show", "route", vip+"/32", "all")
	if err != nil {
		return "none: " + out
	}
	var nodes []string
	for _, node := range []string{"node1", "node2"} {
		if strings.Contains(out, "["+node+" ") {
			nodes = append(nodes, node)
		}
	}
	return strings.Join(nodes, " and ")
}

func (m *machine) from(vip1, vip2 string) func() error {
	return func() error {
		if a, b := m.announcers("10.20.255.1"), m.announcers("10.20.255.2"); a != vip1 || b != vip2 {
			return fmt.Errorf("10.20.255.1 comes from %s, 10.20.255.2 from %s", a, b)
		}
		return nil
	}
}

// property is what systemd says of ExaBGP.
func (m *machine) property(name string) string {
	return strings.TrimSpace(m.run("systemctl", "show", "--property="+name, "--value", "exabgp.service"))
}

// TestSystemd has a real systemd stop, start and restart ExaBGP by Debian's unit and the drop-in of the package, as the user that the unit
// names and with its few capabilities. The router has a route to every VIP at any time, through a stop, a start and a restart.
func TestSystemd(t *testing.T) {
	needs(t, "dpkg", "dpkg-deb", "/usr/sbin/exabgp", "/usr/sbin/bird", "java")
	m := bootMachine(t)
	m.cluster()
	defer func() {
		if t.Failed() {
			out, _ := m.try("journalctl", "--no-pager", "--lines=200")
			t.Logf("the journal:\n%s", out)
		}
	}()
	own := m.from("node1", "node2")
	until(t, time.Minute, "each VIP comes from its owner", own)

	m.run("systemctl", "stop", "exabgp.service")
	if state, result := m.property("ActiveState"), m.property("Result"); state != "inactive" || result != "success" {
		t.Errorf("after a stop it is %s, %s", state, result)
	}
	until(t, 10*time.Second, "the other node has both", m.from("node2", "node2"))
	if out := m.run("exazk", "maintenance", "list"); !strings.Contains(out, "node1") {
		t.Errorf("the node is not drained: %s", out)
	}
	m.run("systemctl", "start", "exabgp.service")
	until(t, 30*time.Second, "each VIP comes from its owner again", own)
	m.run("systemctl", "restart", "exabgp.service")
	until(t, 30*time.Second, "each VIP comes from its owner after a restart", own)
	if log := m.run("journalctl", "--unit=router", "--no-pager", "--output=cat"); !strings.Contains(log, "removed") || strings.Contains(log, "removed [sole]") {
		t.Errorf("a VIP had no announcer for a moment, or no route was removed:\n%s", log)
	}
	if out := m.run("exazk", "maintenance", "list"); strings.Contains(out, "node1") {
		t.Errorf("the node is drained still: %s", out)
	}

	// A crash of ExaBGP, which systemd mends.
	before := m.property("MainPID")
	m.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "exabgp.service")
	until(t, 30*time.Second, "systemd has started ExaBGP again", func() error {
		if now := m.property("MainPID"); now == before || now == "0" {
			return fmt.Errorf("its main process is %s, and was %s", now, before)
		}
		return own()
	})

	// Nothing to drain by: the stop ends in time all the same, and by SIGTERM.
	m.run("systemctl", "stop", "zookeeper-here.service")
	m.run("systemctl", "stop", "exabgp.service")
	if state, result := m.property("ActiveState"), m.property("Result"); state != "inactive" || result != "success" {
		t.Errorf("after a stop without ZooKeeper it is %s, %s", state, result)
	}
	journal := m.run("journalctl", "--no-pager", "--output=cat")
	if !strings.Contains(journal, "exazk started") || !strings.Contains(journal, "exazk stopped") {
		t.Error("the journal has not what exazk logs")
	}
	if strings.Contains(journal, "timed out. Killing") {
		t.Error("systemd had to kill something")
	}
}
