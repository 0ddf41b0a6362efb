package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Names of the daemons: of their logs (NAME.log) and for Options.Without.
const (
	DaemonBIRD      = "bird"
	DaemonZooKeeper = "zookeeper"
	DaemonWeb       = "web"
	DaemonExaBGP    = "exabgp"
)

// makeHosts starts the keepers and fixes in lab.json who they are.
func (l *Lab) makeHosts(context.Context) error {
	for _, name := range l.Hosts() {
		h := &Host{Name: name, lab: l}
		if err := os.MkdirAll(h.Dir(), 0o755); err != nil {
			return err
		}
		if err := h.startKeeper(); err != nil {
			return err
		}
		l.hosts[name] = h
	}
	return l.save()
}

// install puts the configuration and the programs on the hosts.
func (l *Lab) install(context.Context) error {
	for _, name := range l.Hosts() {
		if err := l.Host(name).WriteFile("/etc/hosts", []byte(hostsFile(l.opt.ZKServers)), 0o644); err != nil {
			return err
		}
	}
	for _, name := range routers {
		h := l.Host(name)
		if err := h.CopyFile(filepath.Join(l.opt.BirdDir, name+".conf"), "/etc/bird/bird.conf", 0o644); err != nil {
			return err
		}
		if err := os.MkdirAll(h.Path("/run/bird"), 0o755); err != nil {
			return err
		}
	}
	for i, name := range balancers {
		if err := l.installBalancer(l.Host(name), i+1); err != nil {
			return err
		}
	}
	for n := range l.ZKServers() {
		if err := l.installZK(n + 1); err != nil {
			return err
		}
	}
	if err := l.Host("client").installProgram(l.opt.ProbeBinary, "/usr/local/bin/probe"); err != nil {
		return err
	}
	if l.opt.Prepare != nil {
		return l.opt.Prepare(l)
	}
	return nil
}

func (h *Host) installProgram(from, to string) error {
	if from == "" {
		return nil
	}
	return h.CopyFile(from, to, 0o755)
}

func (l *Lab) installBalancer(h *Host, node int) error {
	if err := h.installProgram(l.opt.ExazkBinary, "/usr/local/bin/exazk"); err != nil {
		return err
	}
	if err := h.installProgram(l.opt.WebBinary, "/usr/local/bin/web"); err != nil {
		return err
	}
	if err := h.CopyFile(filepath.Join(l.opt.ConfigDir, "check_local_nginx.sh"), "/usr/local/bin/check_local_nginx.sh", 0o755); err != nil {
		return err
	}
	toml, conf := fmt.Sprintf("apex-node%d.toml", node), fmt.Sprintf("exabgp-node%d.conf", node)
	if err := h.installConfig(toml, "/etc/exazk/"+toml, l.opt.ExazkTOML, node); err != nil {
		return err
	}
	if err := h.installConfig(conf, "/etc/exabgp/exabgp.conf", l.opt.ExaBGPConf, node); err != nil {
		return err
	}
	return h.CopyFile(filepath.Join(l.opt.ConfigDir, "exabgp.service.d", "exazk.conf"), dropInPath, 0o644)
}

// installConfig writes what override says or, where that is nil, the file of the sources.
func (h *Host) installConfig(name, to string, override func(int) string, node int) error {
	if override != nil {
		return h.WriteFile(to, []byte(override(node)), 0o644)
	}
	data, err := os.ReadFile(filepath.Join(h.lab.opt.ConfigDir, name))
	if err != nil {
		return err
	}
	sample := withServers(string(data), h.lab.ZKServers())
	if h.lab.opt.Standby {
		sample = standbyTOML(sample, node)
	}
	if h.lab.opt.HTTP {
		sample = strings.Replace(sample, "[http]\n", fmt.Sprintf("[http]\nlisten = \"0.0.0.0:%d\"\n", HTTPPort), 1)
	}
	return h.WriteFile(to, []byte(sample), 0o644)
}

// standbyTOML turns a node's sample file of exazk into one with standby backups: the VIPs' owners and the order of their
// backups. In other files nothing changes.
func standbyTOML(sample string, node int) string {
	var nodes, owners, ranks []string
	for i, vip := range VIPs() {
		nodes = append(nodes, fmt.Sprintf("\"node%d\"", i+1))
		owners = append(owners, fmt.Sprintf("\"%s\" = \"node%d\"", vip, i+1))
		var order []string
		for _, lb := range StandbyOrder(i) {
			order = append(order, fmt.Sprintf("\"node%s\"", strings.TrimPrefix(lb, "lb")))
		}
		ranks = append(ranks, fmt.Sprintf("\"%s\" = [%s]", vip, strings.Join(order, ", ")))
	}
	service := fmt.Sprintf("backup = \"standby\"\nnodes = [%s]\nowners = {%s}\nranks = {%s}\n[service.check]",
		strings.Join(nodes, ", "), strings.Join(owners, ", "), strings.Join(ranks, ", "))
	return strings.NewReplacer("[service.check]", service, "[exabgp]\n", fmt.Sprintf("[exabgp]\nlocal_as = 6510%d\n", node)).Replace(sample)
}

// StandbyOrder lists the load balancers that back the VIP with that index up, in the order of their ranks in a lab with Standby. The
// highest router id comes first, so that without the ranks r0 would choose another.
func StandbyOrder(vip int) []string {
	order := slices.Delete(slices.Clone(balancers), vip, vip+1)
	slices.Reverse(order)
	return order
}

// withServers names those servers in a sample file in place of the one that stands there. In other files nothing changes.
func withServers(sample string, servers []string) string {
	var quoted []string
	for _, s := range servers {
		quoted = append(quoted, fmt.Sprintf("%q", s+":2181"))
	}
	return strings.Replace(sample, `hosts = ["zk:2181"]`, "hosts = ["+strings.Join(quoted, ", ")+"]", 1)
}

// runtimeDirectory is what RuntimeDirectory=exabgp of Debian's exabgp.service comes to.
const runtimeDirectory = "/run/exabgp"

// makeRuntimeDirectory does what Debian's exabgp.service does before the start: a new directory, and in it the pipes with which
// ExaBGP 4.2 runs its command line helper as a process beside exazk, as it does in production.
func (h *Host) makeRuntimeDirectory() error {
	dir := h.Path(runtimeDirectory)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, name := range []string{"exabgp.in", "exabgp.out"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			return fmt.Errorf("%s: make %s: %w", h.Name, name, err)
		}
	}
	return nil
}

// startAll starts the daemons of all hosts, those first on which others depend.
func (l *Lab) startAll(ctx context.Context) error {
	for _, name := range routers {
		if err := l.startHost(ctx, l.Host(name)); err != nil {
			return err
		}
	}
	if !slices.Contains(l.opt.Without, DaemonZooKeeper) {
		l.say("%s: %s", strings.Join(l.ZKServers(), ", "), DaemonZooKeeper)
		if err := l.StartZK(ctx); err != nil {
			return err
		}
	}
	for _, name := range balancers {
		if err := l.startHost(ctx, l.Host(name)); err != nil {
			return err
		}
	}
	if slices.Contains(l.opt.Without, DaemonExaBGP) {
		return nil
	}
	for _, name := range balancers {
		if err := l.waitEstablished(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// startHost starts the daemons of one host and waits until they answer; ExaBGP only until it runs.
func (l *Lab) startHost(ctx context.Context, h *Host) error {
	starts := map[string]func(context.Context) error{
		DaemonBIRD:      func(ctx context.Context) error { return l.StartBIRD(ctx, h.Name) },
		DaemonZooKeeper: func(ctx context.Context) error { return l.StartZKServer(ctx, slices.Index(l.ZKServers(), h.Name)+1) },
		DaemonWeb:       func(ctx context.Context) error { return l.StartWeb(ctx, h.Name) },
		DaemonExaBGP:    func(context.Context) error { return l.StartExaBGP(h.Name) },
	}
	for _, daemon := range daemonsOf(h.Name) {
		if slices.Contains(l.opt.Without, daemon) {
			continue
		}
		l.say("%s: %s", h.Name, daemon)
		if err := starts[daemon](ctx); err != nil {
			return err
		}
	}
	return nil
}

// daemonsOf lists the daemons of a host in the order in which they start.
func daemonsOf(host string) []string {
	switch {
	case slices.Contains(routers, host):
		return []string{DaemonBIRD}
	case slices.Contains(balancers, host):
		return []string{DaemonWeb, DaemonExaBGP}
	case strings.HasPrefix(host, "zk"):
		return []string{DaemonZooKeeper}
	}
	return nil
}

// startAndAsk starts a daemon and waits until ask returns nil, or until the daemon has ended.
func (h *Host) startAndAsk(ctx context.Context, name string, argv []string, ask func() error) error {
	p, err := h.startDaemon(name, nil, argv)
	if err != nil {
		return err
	}
	return h.await(ctx, p, name, ask)
}

// await waits until ask returns nil, or until the daemon has ended.
func (h *Host) await(ctx context.Context, p *Process, name string, ask func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with this function
		select {
		case <-p.Done():
			cancel(errors.New("it has ended"))
		case <-ctx.Done():
		}
	}()
	if err := poll(ctx, 20*time.Second, ask); err != nil {
		return fmt.Errorf("%s: %s does not answer: %w\n%s", h.Name, name, err, tail(p.Log, 15))
	}
	return nil
}

// StartBIRD starts a router's BIRD and waits until it answers on its control socket.
func (l *Lab) StartBIRD(ctx context.Context, router string) error {
	h := l.Host(router)
	argv := []string{"/usr/sbin/bird", "-f", "-c", "/etc/bird/bird.conf", "-s", birdSocket}
	return h.startAndAsk(ctx, DaemonBIRD, argv, func() error {
		_, err := l.Birdc(router, "show status")
		return err
	})
}

// StopBIRD ends a router's BIRD in order: it closes its sessions and takes its routes out of the kernel.
func (l *Lab) StopBIRD(router string) error {
	return l.Host(router).stopDaemon(DaemonBIRD, syscall.SIGTERM, 10*time.Second)
}

func (h *Host) signalDaemon(name string, sig syscall.Signal) error {
	id, ok := h.daemon(name)
	if !ok {
		return fmt.Errorf("%s: %s does not run", h.Name, name)
	}
	return id.signal(sig)
}

// StartWeb starts a load balancer's web server and waits until it answers.
func (l *Lab) StartWeb(ctx context.Context, lb string) error {
	h := l.Host(lb)
	argv := []string{"/usr/local/bin/web", "-name", lb, "-listen", ":80", "-udp", ":7"}
	return h.startAndAsk(ctx, DaemonWeb, argv, func() error {
		name, err := h.get(ctx, "127.0.0.1")
		if err == nil && name != lb {
			return fmt.Errorf("the answer is %q", name)
		}
		return err
	})
}

// StopWeb kills a load balancer's web server, as a crash of it would.
func (l *Lab) StopWeb(lb string) error {
	return l.Host(lb).stopDaemon(DaemonWeb, syscall.SIGKILL, 5*time.Second)
}

// StartExaBGP starts a load balancer's ExaBGP, as Debian's unit does except that it stays root: with a run-time directory of
// its own that holds nothing of the life before. It waits for nothing.
func (l *Lab) StartExaBGP(lb string) error {
	if id, ok := l.Host(lb).daemon(DaemonExaBGP); ok {
		return fmt.Errorf("%s: exabgp runs already as process %d", lb, id.PID)
	}
	if err := l.Host(lb).makeRuntimeDirectory(); err != nil {
		return err
	}
	env := append([]string{
		"RUNTIME_DIRECTORY=" + runtimeDirectory,
		"exabgp_daemon_daemonize=false",
		"exabgp_daemon_user=root",
		"exabgp_daemon_drop=false",
	}, l.opt.ExaBGPEnv...)
	_, err := l.Host(lb).startDaemon(DaemonExaBGP, env, append(slices.Clone(l.opt.ExaBGPCommand), "/etc/exabgp/exabgp.conf"))
	return err
}

// ExaBGP5 is what to set ExaBGPCommand to for ExaBGP 5, where vagrant/exabgp5.sh has put it; EXAZK_EXABGP5 names another
// program. The error says why it cannot be used.
func ExaBGP5() ([]string, error) {
	path := cmp.Or(os.Getenv("EXAZK_EXABGP5"), "/opt/exazk-lab/exabgp5/exabgp")
	out, err := exec.Command(path, "version").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("no ExaBGP 5, see vagrant/exabgp5.sh: %w", err)
	}
	if !strings.Contains(string(out), "ExaBGP : 5.") {
		return nil, fmt.Errorf("%s is not ExaBGP 5: %s", path, out)
	}
	return []string{path, "server"}, nil
}

// StopExaBGP ends ExaBGP with SIGTERM and waits for it, half a minute at most: 4.2 waits for a process that does not end.
func (l *Lab) StopExaBGP(lb string) error {
	return l.Host(lb).stopDaemon(DaemonExaBGP, syscall.SIGTERM, 30*time.Second)
}

// KillExaBGP sends a signal to ExaBGP alone, and after SIGKILL waits until it is gone.
func (l *Lab) KillExaBGP(lb string, sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		return l.Host(lb).stopDaemon(DaemonExaBGP, sig, 5*time.Second)
	}
	return l.Host(lb).signalDaemon(DaemonExaBGP, sig)
}

// ExaBGPPID returns the process id of a load balancer's ExaBGP.
func (l *Lab) ExaBGPPID(lb string) (int, error) {
	id, ok := l.Host(lb).daemon(DaemonExaBGP)
	if !ok {
		return 0, fmt.Errorf("%s: exabgp does not run", lb)
	}
	return id.PID, nil
}

// ExazkPID returns the process id of the exazk that a load balancer's ExaBGP runs. After a respawn it is another one.
func (l *Lab) ExazkPID(lb string) (int, error) {
	parent, err := l.ExaBGPPID(lb)
	if err != nil {
		return 0, err
	}
	for _, child := range childrenOf(parent) {
		// Between fork and exec the child still bears ExaBGP's name.
		if st, err := readStat(child.PID); err == nil && st.comm == "exazk" && st.state != 'Z' {
			return child.PID, nil
		}
	}
	return 0, fmt.Errorf("%s: exabgp runs no exazk", lb)
}

// ExaBGPChild returns the id of the process of a load balancer's ExaBGP whose command line contains a text.
func (l *Lab) ExaBGPChild(lb, text string) (int, error) {
	parent, err := l.ExaBGPPID(lb)
	if err != nil {
		return 0, err
	}
	for _, child := range childrenOf(parent) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child.PID))
		if err == nil && strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), text) {
			return child.PID, nil
		}
	}
	return 0, fmt.Errorf("%s: exabgp runs nothing with %q in its command line", lb, text)
}

// SignalExazk sends a signal to exazk alone.
func (l *Lab) SignalExazk(lb string, sig syscall.Signal) error {
	pid, err := l.ExazkPID(lb)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("%s: send %v to exazk: %w", lb, sig, err)
	}
	return nil
}

// waitEstablished waits for the BGP session of a load balancer, or for the end of its ExaBGP.
func (l *Lab) waitEstablished(ctx context.Context, lb string) error {
	err := poll(ctx, 30*time.Second, func() error {
		up, err := l.Established(Leaf(lb), lb)
		if err == nil && !up {
			err = errors.New("the session is not established")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: exabgp: %w\n%s", lb, err, l.Host(lb).LogTail(DaemonExaBGP, 15))
	}
	return nil
}

// DaemonStatus is one line of Status.
type DaemonStatus struct{ Host, Daemon, State string }

// Status lists the daemons of all hosts and whether they run, exazk included.
func (l *Lab) Status() []DaemonStatus {
	var all []DaemonStatus
	for _, host := range l.Hosts() {
		for _, daemon := range daemonsOf(host) {
			state := "down"
			if id, ok := l.Host(host).daemon(daemon); ok {
				state = fmt.Sprintf("process %d", id.PID)
			}
			all = append(all, DaemonStatus{host, daemon, state})
		}
	}
	for _, lb := range balancers {
		state := "down"
		if pid, err := l.ExazkPID(lb); err == nil {
			state = fmt.Sprintf("process %d", pid)
		}
		all = append(all, DaemonStatus{lb, "exazk", state})
	}
	return all
}
