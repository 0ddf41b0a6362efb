package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"exazk/daemon"
)

const (
	configDir = "../../configs"
	birdDir   = "../bird"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The addresses are written down in four places: here, for the virtual machines, for BIRD and for ExaBGP.
func TestFilesFitTheTopology(t *testing.T) {
	vagrantfile := read(t, "../Vagrantfile")
	for _, k := range links(1) {
		for i, e := range k {
			if !e.addr.IsValid() {
				continue
			}
			if want := fmt.Sprintf("[%q,", e.addr.Addr().String()); !strings.Contains(vagrantfile, want) {
				t.Errorf("Vagrantfile: no interface %s of %s", e.addr, e.host)
			}
			other := k[1-i]
			switch {
			case !other.addr.IsValid() || other.host == "client" || e.host == "client":
			case strings.HasPrefix(e.host, "r"):
				wantIn(t, filepath.Join(birdDir, e.host+".conf"), "neighbor "+other.addr.Addr().String()+" ")
			default:
				conf := filepath.Join(configDir, "exabgp-node"+strings.TrimPrefix(e.host, "lb")+".conf")
				wantIn(t, conf, "neighbor "+other.addr.Addr().String()+" {")
				wantIn(t, conf, "local-address "+e.addr.Addr().String()+";")
				wantIn(t, "../provision/lb.sh", "leaf="+other.addr.Addr().String()+" ")
				wantIn(t, filepath.Join(birdDir, other.host+".conf"), "route 10.20.255.0/24 via "+e.addr.Addr().String()+";")
			}
		}
	}
}

func wantIn(t *testing.T, path, want string) {
	t.Helper()
	// Several blanks align the columns of some files.
	if text := strings.Join(strings.Fields(read(t, path)), " ") + " "; !strings.Contains(text, want) {
		t.Errorf("%s: no %q", path, want)
	}
}

func TestEveryNodeOwnsOneVIPAndBacksUpTheOthers(t *testing.T) {
	for i, own := range VIPs() {
		var others []string
		for j, vip := range VIPs() {
			if j != i {
				others = append(others, fmt.Sprintf("%q", vip.String()))
			}
		}
		path := filepath.Join(configDir, fmt.Sprintf("apex-node%d.toml", i+1))
		wantIn(t, path, fmt.Sprintf("authoritative = [%q]", own.String()))
		wantIn(t, path, "backup_for = ["+strings.Join(others, ", ")+"]")
		wantIn(t, path, fmt.Sprintf(`node = "node%d"`, i+1))
		wantIn(t, path, fmt.Sprintf(`zk_path_maintenance = "/exabgp/maintenance/apex/node%d"`, i+1))
		wantIn(t, path, fmt.Sprintf(`zk_path_status = "/exabgp/status/apex/node%d"`, i+1))
	}
}

func TestBIRDAcceptsItsFiles(t *testing.T) {
	bird := program(t, "/usr/sbin/bird")
	for _, router := range Routers() {
		if out, err := exec.Command(bird, "-p", "-c", filepath.Join(birdDir, router+".conf")).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", router, err, out)
		}
	}
}

// The program that "run" names must exist for ExaBGP to accept a file, so another one stands in.
func TestExaBGPAcceptsItsFiles(t *testing.T) {
	exabgp := program(t, "/usr/sbin/exabgp")
	for i := range Balancers() {
		conf := strings.ReplaceAll(read(t, filepath.Join(configDir, fmt.Sprintf("exabgp-node%d.conf", i+1))), "/usr/local/bin/exazk", "/bin/cat")
		path := filepath.Join(t.TempDir(), "exabgp.conf")
		if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(exabgp, "--test", path).CombinedOutput(); err != nil {
			t.Errorf("node %d: %v\n%s", i+1, err, out)
		}
	}
}

func TestSystemdAcceptsTheDropIn(t *testing.T) {
	analyze := program(t, "/usr/bin/systemd-analyze")
	unit := program(t, "/lib/systemd/system/exabgp.service")
	dir := t.TempDir()
	dropIn := filepath.Join(dir, "exabgp.service.d")
	if err := os.Mkdir(dropIn, 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		unit: filepath.Join(dir, "exabgp.service"),
		filepath.Join(configDir, "exabgp.service.d/exazk.conf"): filepath.Join(dropIn, "exazk.conf"),
	} {
		if err := os.WriteFile(to, []byte(read(t, from)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "exabgp.service"))
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	// It warns about an unknown key and an executable that is missing, with exit status 0.
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "exazk.conf") {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

func program(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not installed", path)
	}
	return path
}

func TestHostsFileNamesEveryAddressOnce(t *testing.T) {
	for zk, want := range map[int]map[string]string{
		1: {"zk": "192.168.66.10", "lb1": "172.16.1.1", "lb1-mgmt": "192.168.66.1", "client": "172.16.2.1"},
		3: {"zk1": "192.168.66.11", "zk2": "192.168.66.12", "zk3": "192.168.66.13", "lb1-mgmt": "192.168.66.1"},
	} {
		names := map[string]netip.Addr{}
		for line := range strings.Lines(hostsFile(zk)) {
			f := strings.Fields(line)
			if f[0] == "::1" {
				continue
			}
			for _, name := range f[1:] {
				if _, ok := names[name]; ok {
					t.Errorf("%s has two addresses", name)
				}
				names[name] = netip.MustParseAddr(f[0])
			}
		}
		for name, addr := range want {
			if got := names[name]; got != netip.MustParseAddr(addr) {
				t.Errorf("with %d servers, %s is %v, want %s", zk, name, got, addr)
			}
		}
	}
}

func TestSamplesNameTheServersOfTheLab(t *testing.T) {
	for i := range Balancers() {
		sample := read(t, filepath.Join(configDir, fmt.Sprintf("apex-node%d.toml", i+1)))
		if got := withServers(sample, zkServers(1)); got != sample {
			t.Errorf("node %d: for one server the sample changes to %s", i+1, got)
		}
		got := withServers(sample, zkServers(3))
		if want := `hosts = ["zk1:2181", "zk2:2181", "zk3:2181"]`; strings.Count(got, want) != 1 || strings.Contains(got, `"zk:2181"`) {
			t.Errorf("node %d: no %s in %s", i+1, want, got)
		}
	}
}

// The sample files with standby backups are what exazk takes, and every backup has its rank.
func TestStandbyFiles(t *testing.T) {
	for i := range VIPs() {
		sample := read(t, filepath.Join(configDir, fmt.Sprintf("apex-node%d.toml", i+1)))
		cfg, err := daemon.ParseConfig("standby.toml", standbyTOML(sample, i+1))
		if err != nil {
			t.Fatal(err)
		}
		s := cfg.Services[0]
		if s.Backup != daemon.BackupStandby || cfg.ExaBGP.LocalAS != uint32(65101+i) {
			t.Errorf("node%d: backup is %q, local AS %d", i+1, s.Backup, cfg.ExaBGP.LocalAS)
		}
		for j, vip := range VIPs() {
			if got, want := s.Order[netip.PrefixFrom(vip, 32)], ranksOf(j); i != j && !slices.Equal(got, want) {
				t.Errorf("node%d: %s is backed up by %v, not %v", i+1, vip, got, want)
			}
		}
	}
}

func ranksOf(vip int) []string {
	var nodes []string
	for _, lb := range StandbyOrder(vip) {
		nodes = append(nodes, "node"+strings.TrimPrefix(lb, "lb"))
	}
	return nodes
}
