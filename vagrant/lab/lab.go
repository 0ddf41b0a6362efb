package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Options says how to build a lab. What is zero gets the default.
type Options struct {
	// Prefix begins the names of the network namespaces ("exazk-lb1"), so that several labs can stand side by side. Default
	// "exazk". Lower-case letters, digits and dashes, at most 32.
	Prefix string
	// Dir is the lab's directory, made by Up and removed by Down. It must not exist or be empty. Default /var/lib/PREFIX-lab.
	Dir string
	// ZKServers is 1 (default: the host zk) or 3 (an ensemble on zk1, zk2 and zk3, whose names then stand in the sample
	// files in place of zk's).
	ZKServers int

	// Programs of the load balancers and, the last, of the client. An empty one is not installed.
	ExazkBinary string // becomes /usr/local/bin/exazk
	WebBinary   string // becomes /usr/local/bin/web and is started as "web -name lb1 -listen :80 -udp :7"
	ProbeBinary string // becomes /usr/local/bin/probe

	ConfigDir string // the directory configs of the sources
	BirdDir   string // the directory vagrant/bird of the sources

	ExaBGPConf func(node int) string `json:"-"` // replaces ConfigDir/exabgp-nodeN.conf; node is 1..3
	ExazkTOML  func(node int) string `json:"-"` // replaces ConfigDir/apex-nodeN.toml
	// Standby has the backups announce all the time, worse by their rank: backup = "standby" in the sample files. What is
	// Steady is another state then.
	Standby bool
	// HTTP has the load balancers serve their page, on port HTTPPort of every address: [http] in the sample files.
	HTTP      bool
	ExaBGPEnv []string // added to ExaBGP's environment, "exabgp_api_ack=false"; exazk inherits it
	// ExaBGPCommand is the program and what comes before the path of the configuration. Default /usr/sbin/exabgp, Debian's. See
	// ExaBGP5.
	ExaBGPCommand []string

	// Prepare is called when the hosts exist and before anything runs on them, to put more files there.
	Prepare func(*Lab) error `json:"-"`
	// Without names daemons that Up does not start: DaemonZooKeeper, DaemonWeb, DaemonExaBGP. BootHost starts them.
	Without []string
	// Out gets a line about each step. Default: nothing is written.
	Out io.Writer `json:"-"`
}

// DefaultPrefix is the prefix of the lab that "make lab" builds.
const DefaultPrefix = "exazk"

// HTTPPort is that of the load balancers' pages.
const HTTPPort = 9180

// DefaultDir is the directory of a lab with that prefix unless told otherwise.
func DefaultDir(prefix string) string { return filepath.Join("/var/lib", prefix+"-lab") }

func (o Options) withDefaults() Options {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Dir == "" {
		o.Dir = DefaultDir(o.Prefix)
	}
	if o.ZKServers == 0 {
		o.ZKServers = 1
	}
	if len(o.ExaBGPCommand) == 0 {
		o.ExaBGPCommand = []string{"/usr/sbin/exabgp"}
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	return o
}

func (o Options) netns(host string) string { return o.Prefix + "-" + host }

// Lab is a network that stands.
type Lab struct {
	opt   Options
	hosts map[string]*Host
}

// ErrUp says that a lab of that prefix or in that directory stands already.
var ErrUp = errors.New("a lab is already up")

// ErrDown says that there is no lab.
var ErrDown = errors.New("no lab is up")

// description is lab.json.
type description struct {
	Options Options         `json:"options"`
	Keepers map[string]proc `json:"keepers"` // by host; incomplete while Up is at work
}

func descriptionPath(dir string) string { return filepath.Join(dir, "lab.json") }

// Up builds a lab and starts its daemons. When it returns, ZooKeeper and the web servers answer and every load balancer's
// BGP session is established, unless Options.Without left them out; whether a route was announced by then is another
// question, see WaitSteady. If anything fails, the error holds the end of the log in question and nothing is left behind.
func Up(ctx context.Context, opt Options) (*Lab, error) {
	opt = opt.withDefaults()
	if err := opt.check(); err != nil {
		return nil, err
	}
	l := &Lab{opt: opt, hosts: map[string]*Host{}}
	if err := l.makeDir(); err != nil {
		return nil, err
	}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"network namespaces, links, addresses", l.makeNetwork},
		{"file systems and host names", l.makeHosts},
		{"configuration", l.install},
		{"daemons", l.startAll},
	}
	for _, s := range steps {
		l.say("%s", s.what)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

func (l *Lab) say(format string, args ...any) { fmt.Fprintf(l.opt.Out, "lab: "+format+"\n", args...) }

var prefixPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func (o Options) check() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root: it makes network namespaces and mounts")
	}
	if !prefixPattern.MatchString(o.Prefix) {
		return fmt.Errorf("prefix %q: want lower-case letters, digits and dashes, at most 32", o.Prefix)
	}
	if !filepath.IsAbs(o.Dir) {
		return fmt.Errorf("directory %q is not absolute", o.Dir)
	}
	if o.ZKServers != 1 && o.ZKServers != ensemble {
		return fmt.Errorf("%d ZooKeeper servers: want 1 or %d", o.ZKServers, ensemble)
	}
	for _, name := range everyNamespace() {
		if _, err := os.Stat(netnsPath(o.netns(name))); err == nil {
			return fmt.Errorf("%w: network namespace %q exists", ErrUp, o.netns(name))
		}
	}
	return Missing()
}

// Missing says what the lab needs of the machine and does not find there; nil if all is there.
func Missing() error {
	var errs []error
	for _, prog := range []struct{ name, pkg string }{
		{"ip", "iproute2"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}, {"mountpoint", "util-linux"}, {"hostname", "hostname"},
		{"bird", "bird2"}, {"/usr/sbin/exabgp", "exabgp"}, {"java", "default-jre-headless"}, {"curl", "curl"},
	} {
		if _, err := exec.LookPath(prog.name); err != nil {
			errs = append(errs, fmt.Errorf("%s is missing (Debian package %s)", prog.name, prog.pkg))
		}
	}
	for _, jar := range []struct{ path, pkg string }{{zookeeperJar, "zookeeper"}, {slf4jJar, "libslf4j-java"}} {
		if _, err := os.Stat(jar.path); err != nil {
			errs = append(errs, fmt.Errorf("%s is missing (Debian package %s)", jar.path, jar.pkg))
		}
	}
	return errors.Join(errs...)
}

// makeDir makes the directory and writes lab.json at once: by it, Down knows that the directory may be removed.
func (l *Lab) makeDir() error {
	if err := os.MkdirAll(l.opt.Dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(l.opt.Dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(descriptionPath(l.opt.Dir)); err == nil {
		return fmt.Errorf("%w: %s exists", ErrUp, descriptionPath(l.opt.Dir))
	}
	if len(entries) > 0 {
		return fmt.Errorf("directory %q is not empty and not a lab's", l.opt.Dir)
	}
	return l.save()
}

func (l *Lab) save() error {
	d := description{Options: l.opt, Keepers: map[string]proc{}}
	for name, h := range l.hosts {
		d.Keepers[name] = h.keeper
	}
	data, err := json.MarshalIndent(d, "", "\t")
	if err != nil {
		return err
	}
	tmp := descriptionPath(l.opt.Dir) + ".new"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, descriptionPath(l.opt.Dir))
}

// Open returns the lab in a directory, built by this or another process. It is ErrDown if there is none, if it was not built
// to the end, or if the machine was started anew since.
func Open(dir string, out io.Writer) (*Lab, error) {
	data, err := os.ReadFile(descriptionPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrDown, dir)
	}
	if err != nil {
		return nil, err
	}
	var d description
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("read %s: %w", descriptionPath(dir), err)
	}
	d.Options.Out = out
	l := &Lab{opt: d.Options.withDefaults(), hosts: map[string]*Host{}}
	for _, name := range l.Hosts() {
		if keeper := d.Keepers[name]; keeper.alive() {
			l.hosts[name] = &Host{Name: name, lab: l, keeper: keeper}
			continue
		}
		return nil, fmt.Errorf("%w: what %s describes is incomplete, take it down", ErrDown, descriptionPath(dir))
	}
	return l, nil
}

// Host returns a host by name. There being no such host is a mistake in the caller, hence the panic.
func (l *Lab) Host(name string) *Host {
	h, ok := l.hosts[name]
	if !ok {
		panic(fmt.Sprintf("bug: no host %q in the lab", name))
	}
	return h
}

// Dir is the lab's directory.
func (l *Lab) Dir() string { return l.opt.Dir }

// Logs lists all log files of the lab.
func (l *Lab) Logs() []string {
	logs, err := filepath.Glob(filepath.Join(l.opt.Dir, "*", "*.log"))
	if err != nil {
		panic("bug: " + err.Error()) // the pattern is malformed
	}
	return logs
}

// Down ends all processes of the lab and removes its namespaces and its directory. Called again it does nothing.
func (l *Lab) Down() error { return Down(l.opt.Prefix, l.opt.Dir) }

// Down takes a lab down that is known by its prefix and directory only, in whatever state it is.
func Down(prefix, dir string) error {
	opt := Options{Prefix: prefix, Dir: dir}.withDefaults()
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root")
	}
	var names []string
	ids := map[nsID]bool{}
	for _, host := range everyNamespace() {
		name := opt.netns(host)
		id, err := namespaceOf(netnsPath(name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		names = append(names, name)
		// A file that "ip netns" could not mount on is of the file system of /run; no process has that as its network.
		ids[id] = true
	}
	if err := killAll(ids, 0); err != nil {
		return err
	}
	for _, name := range names {
		if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
			return fmt.Errorf("delete network namespace %s: %w: %s", name, err, strings.TrimSpace(string(out)))
		}
	}
	if _, err := os.Stat(descriptionPath(opt.Dir)); err != nil {
		return nil // not a lab's directory, or none
	}
	return removeDir(opt.Dir)
}

// removeDir removes the lab's directory, its description last, so that a removal that was cut short can be repeated.
func removeDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); path != descriptionPath(dir) {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(dir)
}

// poll calls f until it returns nil. It gives up when the limit has passed or ctx has ended; the error says which, and what
// f said last.
func poll(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
