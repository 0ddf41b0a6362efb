package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"exazk/daemon"
)

// tellCommands speak to the daemons of this host by signals.
func tellCommands(stderr io.Writer) []*cli.Command {
	command := func(name, does string, t teller) *cli.Command {
		t.stderr, t.proc = stderr, "/proc"
		return &cli.Command{
			Name: name, Usage: does, UsageText: "exazk " + name + " [--config FILE]",
			Flags:        []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"f"}, Usage: "only the daemon that runs with `FILE`; without it all of this host"}},
			Action:       t.action,
			OnUsageError: subcommandUsage,
		}
	}
	return []*cli.Command{
		command("reload", "have the daemon of this host read its file again (SIGHUP)", teller{signal: syscall.SIGHUP, done: "told to reload; its log says what came of it", files: true}),
		command("check-now", "have the daemon of this host run its checks at once (SIGUSR1)", teller{signal: syscall.SIGUSR1, done: "told to run its checks"}),
		command("restart", "have ExaBGP start the installed program in place of the running daemon (SIGKILL); its routes stay", teller{signal: syscall.SIGKILL, done: "ended", files: true}),
	}
}

// teller sends a signal to the daemons of this host.
type teller struct {
	stderr io.Writer
	proc   string // where the kernel shows the processes
	signal syscall.Signal
	done   string
	files  bool // what is told has the file read, which is checked first
}

func (t teller) action(c *cli.Context) error {
	if c.Args().Present() {
		return usage(fmt.Errorf("unexpected argument %q; usage: %s", c.Args().First(), c.Command.UsageText))
	}
	all, denied, err := t.daemons()
	if err != nil {
		return err
	}
	chosen := all
	if file := c.String("config"); file != "" {
		chosen, denied = slices.DeleteFunc(slices.Clone(all), func(p process) bool { return !p.has(file) }), denied[:0]
		if _, err := os.Stat(file); err != nil { // it could not be that of any, and the list of them would say that it is
			return usage(fmt.Errorf("%w; remedy: put the file back, or name another", err))
		}
		if len(chosen) == 0 && len(all) > 0 {
			return fmt.Errorf("no running exazk has %s; there is %s; remedy: name the file of one, or leave --config out", file, list(all))
		}
	}
	if len(chosen) == 0 && len(denied) == 0 {
		return errors.New("no exazk runs here that this user may see; remedy: run this as root, and see whether ExaBGP runs and has exazk as a process")
	}
	if t.files {
		if err := sound(chosen); err != nil {
			return usage(err)
		}
	}
	var faults []error
	for _, p := range chosen {
		if err := t.tell(p); err != nil {
			faults = append(faults, err)
		}
	}
	for _, pid := range denied {
		faults = append(faults, fmt.Errorf("process %d is of another user; remedy: run this as root", pid))
	}
	if t.signal == syscall.SIGKILL && len(faults) == 0 {
		return t.replaced(chosen, all, replaceWithin)
	}
	return errors.Join(faults...)
}

// replaceWithin bounds the wait for ExaBGP, which starts a process again as soon as it has seen the end of the one before.
const replaceWithin = 10 * time.Second

// replaced waits until another daemon runs with the file of each that was ended.
func (t teller) replaced(ended, before []process, within time.Duration) error {
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		now, _, err := t.daemons()
		if err != nil {
			return err
		}
		fresh := slices.DeleteFunc(now, func(p process) bool {
			return slices.ContainsFunc(before, func(b process) bool { return b.pid == p.pid })
		})
		missing := slices.DeleteFunc(slices.Clone(ended), func(e process) bool {
			return slices.ContainsFunc(fresh, func(p process) bool { return p.file == e.file })
		})
		switch {
		case len(missing) == 0:
			for _, p := range fresh {
				fmt.Fprintf(t.stderr, "%v runs in its place\n", p)
			}
			return nil
		case time.Since(began) > within:
			return fmt.Errorf("%s was ended and is not started again after %v; its routes stay in ExaBGP; remedy: see in ExaBGP's log why, and restart ExaBGP if need be", list(missing), within)
		}
	}
}

// tell sends the signal. The handle is taken before the last look, so that it cannot reach a process that got the number meanwhile.
func (t teller) tell(p process) error {
	if t.signal == syscall.SIGHUP && p.file == "" {
		return fmt.Errorf("%v has nothing to reload: its configuration came from the command line; remedy: restart it, its routes stay", p)
	}
	handle, err := os.FindProcess(p.pid)
	if err != nil {
		return fmt.Errorf("%v: %w", p, err)
	}
	defer func() { _ = handle.Release() }()
	if again, err := t.look(p.pid); err != nil || again == nil || *again != p {
		return fmt.Errorf("%v has ended meanwhile; remedy: give the command again", p)
	}
	if err := handle.Signal(t.signal); err != nil {
		return fmt.Errorf("signal %v: %w; remedy: run this as root", p, err)
	}
	fmt.Fprintf(t.stderr, "%v is %s\n", p, t.done)
	return nil
}

// sound reads the files that are to be reloaded, so that their faults show here and not in the log only.
func sound(processes []process) error {
	seen := map[string]bool{}
	for _, p := range processes {
		if p.file == "" || seen[p.seen()] {
			continue
		}
		seen[p.seen()] = true
		if _, err := daemon.LoadConfig(p.seen()); err != nil {
			return fmt.Errorf("nothing is done:\n%w", err)
		}
	}
	return nil
}

// process is a running daemon.
type process struct {
	pid, parent int
	file        string // of its configuration, a whole path as the process sees it; "" where that came from the command line
	root        string // what the process sees as /
}

func (p process) String() string {
	if p.file == "" {
		return fmt.Sprintf("exazk (process %d)", p.pid)
	}
	return fmt.Sprintf("exazk (process %d, %s)", p.pid, p.file)
}

func list(processes []process) string {
	var words []string
	for _, p := range processes {
		words = append(words, p.String())
	}
	return strings.Join(words, " and ")
}

// seen is the path of the process's file for us, who may have another root.
func (p process) seen() string {
	at := filepath.Join(p.root, p.file)
	if same(at, p.file) {
		return p.file
	}
	return at
}

func (p process) has(file string) bool {
	if p.file == "" {
		return false
	}
	whole, err := filepath.Abs(file)
	return err == nil && whole == p.file && whole == p.seen() || same(filepath.Join(p.root, p.file), file)
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// daemons finds those of this host, by their number; denied are processes that may be some and of which this user may not know.
func (t teller) daemons() (found []process, denied []int, err error) {
	entries, err := os.ReadDir(t.proc)
	if err != nil {
		return nil, nil, fmt.Errorf("look for processes: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		switch p, err := t.look(pid); {
		case errors.Is(err, fs.ErrPermission):
			denied = append(denied, pid)
		case err == nil && p != nil:
			found = append(found, *p)
		}
	}
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return alone(found), denied, nil
}

// alone leaves out children of daemons: one that is about to run a check is two for a moment, and a signal would end the second.
func alone(found []process) []process {
	var out []process
	for _, p := range found {
		if !slices.ContainsFunc(found, func(q process) bool { return p.parent == q.pid }) {
			out = append(out, p)
		}
	}
	return out
}

// look gives a process if it is a daemon of this program, of whatever version, and in our PID namespace: one in a container has a
// host of its own. A Python tool of the same name is none; a signal would end it.
func (t teller) look(pid int) (*process, error) {
	dir := filepath.Join(t.proc, strconv.Itoa(pid))
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return nil, err
	}
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if named := strings.HasPrefix(string(comm), "exazk"); err != nil && named {
		return nil, err
	} else if err != nil || !named && !strings.HasPrefix(filepath.Base(exe), "exazk") {
		return nil, nil
	}
	if info, err := buildinfo.ReadFile(filepath.Join(dir, "exe")); err != nil || !ours(info) {
		return nil, nil // the link leads to the program even where its file was replaced
	}
	theirs, err := os.Readlink(filepath.Join(dir, "ns/pid"))
	if err != nil {
		return nil, err
	}
	if own, err := os.Readlink(filepath.Join(t.proc, "self/ns/pid")); err != nil || own != theirs {
		return nil, err
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil, err
	}
	file, isDaemon := daemonFile(strings.Split(string(bytes.TrimSuffix(cmdline, []byte{0})), "\x00"))
	if !isDaemon {
		return nil, nil
	}
	if file != "" && !filepath.IsAbs(file) {
		cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
		if err != nil {
			return nil, err
		}
		file = filepath.Join(cwd, file)
	}
	parent, err := parentOf(dir)
	return &process{pid: pid, parent: parent, file: file, root: filepath.Join(dir, "root")}, err
}

// ours says whether a program is exazk: its main package has that path, or ours, which is another one in a test.
func ours(info *debug.BuildInfo) bool {
	self, ok := debug.ReadBuildInfo()
	return info.Path == "exazk" || ok && info.Path == self.Path
}

// daemonFile reads a command line of ours: whether it is that of a daemon, and with which file.
func daemonFile(args []string) (file string, isDaemon bool) {
	if len(args) < 2 {
		return "", false
	}
	for _, a := range pythonArgs(args[1:]) {
		name, value, _ := strings.Cut(a, "=")
		switch {
		case name == "-f" || name == "--config":
			file = value
		case !strings.HasPrefix(a, "-") || !slices.Contains(daemonOptions, strings.TrimLeft(name, "-")):
			return "", false // a command, or one that ends at once
		}
	}
	return file, true
}

// daemonOptions are the options of a daemon, without their dashes, save those that only print something.
var daemonOptions = func() (names []string) {
	for _, f := range daemonFlags() {
		names = append(names, f.Names()...)
	}
	return names
}()

// parentOf reads proc_pid_stat(5): after the name in parentheses, which may hold anything, come the state and the parent.
func parentOf(dir string) (int, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0, fmt.Errorf("%s/stat: %q", dir, stat)
	}
	return strconv.Atoi(fields[1])
}
