package dist

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a copy of this one, in which packages can be installed: the root file system with a layer in memory on top, process ids
// of its own, and no network. It goes with its first process. The index of all manuals, which dpkg would have made anew by mandb(8),
// would take longer than all the rest.
type machine struct {
	t    *testing.T
	pid  int    // of the first process
	dir  string // with the layers
	root string // of the file system, as the first process sees it
}

// copyScript makes the copy, in the mount namespace of the machine.
const copyScript = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
rm -f root/var/lib/man-db/auto-update
`

const machineScript = copyScript + `mount -t proc proc root/proc
mount --bind /dev root/dev
mount -t tmpfs -o mode=0755 tmpfs root/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
echo ready
exec sleep infinity
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: a package can not be installed")
	}
	m := &machine{t: t, dir: t.TempDir()}
	m.root = m.dir + "/root"
	var stderr bytes.Buffer
	cmd := exec.Command("sh", "-c", machineScript, "machine", m.dir)
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no namespaces: %v", err)
	}
	t.Cleanup(func() { // with the first process, all others of its process ids end, and the mounts with the last
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	m.pid = cmd.Process.Pid
	if _, err := io.ReadFull(ready, make([]byte, len("ready\n"))); err != nil {
		_ = cmd.Wait()
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	return m
}

// path is where a file of the machine is seen from outside.
func (m *machine) path(path string) string {
	return fmt.Sprintf("/proc/%d/root%s%s", m.pid, m.root, path)
}

func (m *machine) command(argv ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", fmt.Sprint(m.pid), "--mount", "--pid", "--net", "--", "chroot", m.root}, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "MANWIDTH=120", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// try runs a command on the machine, and returns all that it prints.
func (m *machine) try(argv ...string) (string, error) {
	out, err := m.command(argv...).CombinedOutput()
	return string(out), err
}

// run is try for a command that must succeed.
func (m *machine) run(argv ...string) string {
	m.t.Helper()
	out, err := m.try(argv...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

func (m *machine) install(pkg string) string {
	m.t.Helper()
	text, err := os.ReadFile(pkg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("/tmp/"+filepath.Base(pkg), text)
	if strings.HasSuffix(pkg, ".rpm") {
		return m.run("rpm", "--upgrade", "--nodeps", "--force-debian", "/tmp/"+filepath.Base(pkg))
	}
	// A container may be set up to leave manuals and documentation out.
	return m.run("dpkg", "--path-include=/usr/share/man/*", "--path-include=/usr/share/doc/*", "--install", "/tmp/"+filepath.Base(pkg))
}

func (m *machine) write(path string, text []byte) {
	m.t.Helper()
	if err := os.WriteFile(m.path(path), text, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// left are the files with exazk in their path that were written on the machine and are there still.
func (m *machine) left() []string {
	m.t.Helper()
	upper := fmt.Sprintf("/proc/%d/root%s/upper", m.pid, m.dir)
	var out []string
	for line := range strings.Lines(must(m.t, "", "find", upper, "-path", "*exazk*", "!", "-type", "c", "-printf", "/%P\n")) {
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

// daemon starts exazk as ExaBGP does: stdin and stdout are its pipes, open until the end of the test.
func (m *machine) daemon(config string) *exec.Cmd {
	m.t.Helper()
	cmd := m.command("/usr/bin/exazk", "--config", config)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if out, _ := m.try("sh", "-c", "grep -lsx exazk /proc/[0-9]*/comm"); out != "" {
			return cmd
		}
		if time.Since(began) > 10*time.Second {
			m.t.Fatal("exazk does not start")
		}
	}
}

func running(cmd *exec.Cmd) bool { return cmd.Process.Signal(syscall.Signal(0)) == nil }

// again is the .deb with a later version.
func again(t *testing.T) (pkg, version string) {
	t.Helper()
	dir := t.TempDir()
	version = built.version + "+again"
	must(t, dir, "dpkg-deb", "--raw-extract", deb("amd64"), "tree")
	must(t, dir, "sed", "-i", "s/^Version: .*/Version: "+version+"/", "tree/DEBIAN/control")
	must(t, dir, "dpkg-deb", "--build", "--root-owner-group", "-Znone", "tree", "again.deb")
	return filepath.Join(dir, "again.deb"), version
}

const daemonTOML = `node = "node1"
[log]
syslog = false
[zookeeper]
hosts = ["127.0.0.1:1"]
[[service]]
name = "apex"
authoritative = ["10.20.255.1"]
check.command = "true"
`

func TestDebInstalledUpgradedAndRemoved(t *testing.T) {
	needs(t, "dpkg", "dpkg-deb", "man", "systemd-analyze", "/usr/sbin/exabgp")
	m := newMachine(t)
	if out := m.install(deb("amd64")); strings.Contains(out, "exazk:") {
		t.Errorf("the installation has something to say:\n%s", out)
	}

	// It runs, and everything has its place.
	if out := m.run("exazk", "--version"); out != "exazk "+built.version+"\n" {
		t.Errorf("got version %q, want %s", out, built.version)
	}
	for _, sample := range strings.Fields(m.run("sh", "-c", "ls /usr/share/doc/exazk/examples/*.toml")) {
		m.run("exazk", "check", "--config", sample)
	}
	for _, page := range [][]string{{"1", "exazk"}, {"5", "exazk.toml"}} {
		if out := m.run("man", page[0], page[1]); !strings.Contains(out, "SEE ALSO") || !strings.Contains(out, built.version) {
			t.Errorf("man %s %s shows\n%s", page[0], page[1], out)
		}
	}
	if out := m.run("lexgrog", "/usr/share/man/man1/exazk.1.gz"); !strings.Contains(out, `"exazk - keep a service's virtual IPs reachable over BGP"`) {
		t.Errorf("apropos would read %s", out)
	}
	if out, err := m.try("systemd-analyze", "verify", "exabgp.service"); err != nil || strings.Contains(out, "exazk") {
		t.Errorf("the unit with its drop-in: %v\n%s", err, out)
	}
	if out := m.run("systemd-delta", "--no-pager", "--type=extended"); !strings.Contains(out, "/exabgp.service.d/exazk.conf") {
		t.Errorf("the drop-in is no part of the unit:\n%s", out)
	}

	// An upgrade leaves the daemon alone and says how to switch over; so does a removal.
	m.write("/etc/exazk/apex.toml", []byte(daemonTOML))
	cmd := m.daemon("/etc/exazk/apex.toml")
	pkg, version := again(t)
	if out := m.install(pkg); !strings.Contains(out, `"exazk restart" switches over`) {
		t.Errorf("an upgrade says\n%s", out)
	}
	if out := m.run("dpkg-query", "--show", "--showformat=${Version}", "exazk"); out != version {
		t.Errorf("installed is %s, want %s", out, version)
	}
	if out := m.run("dpkg", "--remove", "exazk"); !strings.Contains(out, "take its process out of ExaBGP's configuration") {
		t.Errorf("a removal says\n%s", out)
	}
	if !running(cmd) {
		t.Error("the daemon did not survive")
	}

	// What an operator wrote stays, and nothing else.
	m.run("dpkg", "--purge", "exazk")
	if out := m.run("cat", "/etc/exazk/apex.toml"); out != daemonTOML {
		t.Errorf("got %s", out)
	}
	m.run("rm", "-r", "/etc/exazk")
	if left := m.left(); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

// TestDebSaysWhatComesBeforeIt is for a node where exazk was installed by hand before.
func TestDebSaysWhatComesBeforeIt(t *testing.T) {
	m := newMachine(t)
	m.run("mkdir", "-p", "/usr/local/bin", "/etc/systemd/system/exabgp.service.d")
	m.write("/usr/local/bin/exazk", nil)
	m.write("/etc/systemd/system/exabgp.service.d/exazk.conf", nil)
	out := m.install(deb("amd64"))
	for _, file := range []string{"/usr/local/bin/exazk", "/etc/systemd/system/exabgp.service.d/exazk.conf"} {
		if !strings.Contains(out, "exazk: "+file+" comes before") {
			t.Errorf("%s is not mentioned:\n%s", file, out)
		}
	}
}

func TestRPMInstalledUpgradedAndRemoved(t *testing.T) {
	needs(t, "rpm")
	m := newMachine(t)
	if out := m.install(rpm("x86_64")); strings.Contains(out, "exazk:") {
		t.Errorf("the installation has something to say:\n%s", out)
	}
	if out := m.run("exazk", "--version"); out != "exazk "+built.version+"\n" {
		t.Errorf("got version %q, want %s", out, built.version)
	}
	m.run("rpm", "--verify", "--nodeps", "exazk")
	m.write("/etc/exazk/apex.toml", []byte(daemonTOML))
	cmd := m.daemon("/etc/exazk/apex.toml")
	if out := m.run("rpm", "--upgrade", "--replacepkgs", "--nodeps", "--force-debian", "/tmp/"+filepath.Base(rpm("x86_64"))); !strings.Contains(out, `"exazk restart" switches over`) {
		t.Errorf("an upgrade says\n%s", out)
	}
	if out := m.run("rpm", "--erase", "--force-debian", "exazk"); !strings.Contains(out, "take its process out of ExaBGP's configuration") {
		t.Errorf("a removal says\n%s", out)
	}
	if !running(cmd) {
		t.Error("the daemon did not survive")
	}
	m.run("rm", "-r", "/etc/exazk")
	if left := m.left(); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

// TestCompletion asks the shells, with the package installed, how command lines go on.
func TestCompletion(t *testing.T) {
	needs(t, "bash", "fish", "zsh")
	m := newMachine(t)
	m.install(deb("amd64"))
	m.write("/etc/exazk/apex.toml", []byte(strings.Replace(daemonTOML, "check.command", "nodes = [\"node1\", \"node2\"]\ncheck.command", 1)))
	m.run("zsh", "-c", "autoload -U compinit && compinit -D && [[ $_comps[exazk] = _exazk ]]") // it is found by what it is for
	m.run("sh", "-c", "mkdir /tmp/files && touch '/tmp/files/a file.toml'")
	for shell, ask := range map[string]string{
		"bash": `compopt() { :; }; . /usr/share/bash-completion/bash_completion; cd /tmp/files; _completion_loader exazk
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _exazk exazk; printf '%s\n' "${COMPREPLY[@]}"`,
		"fish": `cd /tmp/files; complete --do-complete (string join " " -- (string escape -- $argv[1..-2]) $argv[-1]) | string replace -r '\t.*' ''; true`,
		"zsh": `cd /tmp/files; words=("$@"); CURRENT=$#; ` +
			`_describe() { local -a items; items=("${(@P)2}"); for i in $items; do [[ ${i%%:*} = "$words[CURRENT]"* ]] && print -r -- "${i%%:*}"; done }; ` +
			`_files() { print -rl -- $words[CURRENT]*(N); }; _call_program() { shift; eval "$*"; }; autoload -U _exazk; _exazk`,
	} {
		t.Run(shell, func(t *testing.T) {
			for line, want := range map[string]string{
				"exazk mainten":                               "maintenance",
				"exazk maintenance ":                          "enter leave list",
				"exazk maintenance enter --rea":               "--reason",
				"exazk maintenance enter --reason disk ":      "node1 node2",
				"exazk maintenance enter --timeout ":          "",
				"exazk maintenance leave --service ":          "apex",
				"exazk drain --und":                           "--undo",
				"exazk --conf":                                "--config",
				"exazk check -f ":                             "a file.toml",
				"exazk failback --config /none ":              "",
				"exazk failback -f /etc/exazk/apex.toml node": "node1 node2",
			} {
				argv := []string{shell, "-c", ask}
				if shell != "fish" { // their $0
					argv = append(argv, shell)
				}
				out, err := m.try(append(argv, strings.Split(line, " ")...)...)
				got := strings.Join(strings.FieldsFunc(out, func(r rune) bool { return r == '\n' }), " ")
				if got = strings.ReplaceAll(got, `\ `, " "); err != nil || got != want {
					t.Errorf("%q goes on with %q, want %q (%v)", line, got, want, err)
				}
			}
		})
	}
}
