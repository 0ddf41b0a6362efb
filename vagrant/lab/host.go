package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is one host of a lab.
type Host struct {
	Name   string
	lab    *Lab
	keeper proc
}

// netns is the name of the host's network namespace, as "ip netns" knows it.
func (h *Host) netns() string { return h.lab.opt.netns(h.Name) }

// Dir is the directory with the host's logs, on the machine.
func (h *Host) Dir() string { return filepath.Join(h.lab.opt.Dir, h.Name) }

// Path returns where a file of the host is found from outside of it.
func (h *Host) Path(path string) string { return fmt.Sprintf("/proc/%d/root%s", h.keeper.PID, path) }

// WriteFile puts a file into the host, making its directory. A program that is running is replaced, not overwritten.
func (h *Host) WriteFile(path string, data []byte, mode os.FileMode) error {
	target := h.Path(path)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	tmp := target + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if err := os.Chmod(tmp, mode); err != nil { // whatever the umask is
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if err := os.Rename(tmp, target); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// CopyFile puts a file of the machine into the host.
func (h *Host) CopyFile(from, to string, mode os.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return h.WriteFile(to, data, mode)
}

// enterArgs is the command line that runs another one on the host.
func (h *Host) enterArgs(argv ...string) []string {
	// nsenter does not fork for these kinds of namespace: the process it started as becomes the command.
	return append([]string{"nsenter", "--target", strconv.Itoa(h.keeper.PID), "--mount", "--uts", "--net", "--wdns=/", "--"}, argv...)
}

// environment is that of a plain root login. What this process was given, paths above all, is not meant for a host.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
}

// Enter replaces this process by a command on the host, on this process's terminal. It returns only on an error.
func (h *Host) Enter(argv ...string) error {
	path, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	return syscall.Exec(path, h.enterArgs(argv...), append(environment(), "TERM="+os.Getenv("TERM")))
}

// Command prepares a command on the host, with a small environment of its own. Its process id is the command's.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	args := h.enterArgs(argv...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = environment()
	if dir, ok := os.LookupEnv("GOCOVERDIR"); ok {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+dir) // programs built with -cover tell what of them ran
	}
	cmd.WaitDelay = time.Second // a grandchild may hold the pipes
	return cmd
}

// Run runs a command on the host and returns its standard output. The error includes its standard error.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := h.Command(ctx, argv...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(argv, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}

// Process is a command that was started on a host and goes on.
type Process struct {
	Log  string // file with its standard output and error
	id   proc
	done chan struct{}
	err  error // valid once done is closed
}

// PID is the process id on the machine; hosts have no numbering of their own.
func (p *Process) PID() int { return p.id.PID }

// Signal sends a signal; to a process that has ended, it is os.ErrProcessDone.
func (p *Process) Signal(sig syscall.Signal) error { return p.id.signal(sig) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the process and returns what exec.Cmd's Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Start starts a command on the host. Its output is appended to NAME.log in the host's directory, NAME being the base name
// of the command. It is in a session of its own and lives on when this process ends.
func (h *Host) Start(argv ...string) (*Process, error) {
	return h.start(filepath.Base(argv[0]), nil, argv)
}

func (h *Host) start(name string, env, argv []string) (*Process, error) {
	log := filepath.Join(h.Dir(), name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := h.Command(context.Background(), argv...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: start %s: %w", h.Name, name, err)
	}
	p := &Process{Log: log, done: make(chan struct{})}
	// Cannot be gone yet: nobody has waited for it.
	if p.id, err = identify(cmd.Process.Pid); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", h.Name, name, err)
	}
	// Ends with the process, which Down ends at the latest.
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// startDaemon starts a program that belongs to the host. Its process is known to whoever opens the lab, by the file NAME.pid.
func (h *Host) startDaemon(name string, env, argv []string) (*Process, error) {
	if id, ok := h.daemon(name); ok {
		return nil, fmt.Errorf("%s: %s runs already as process %d", h.Name, name, id.PID)
	}
	p, err := h.start(name, env, argv)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(p.id)
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(h.pidFile(name), data, 0o644)
}

func (h *Host) pidFile(name string) string { return filepath.Join(h.Dir(), name+".pid") }

// daemon returns the process of a daemon and whether it runs.
func (h *Host) daemon(name string) (proc, bool) {
	data, err := os.ReadFile(h.pidFile(name))
	if err != nil {
		return proc{}, false
	}
	var id proc
	if err := json.Unmarshal(data, &id); err != nil {
		return proc{}, false
	}
	return id, id.alive()
}

// stopDaemon sends a signal to a daemon and waits until it has ended, killing it after limit. One that does not run is fine.
func (h *Host) stopDaemon(name string, sig syscall.Signal, limit time.Duration) error {
	id, ok := h.daemon(name)
	if !ok {
		return nil
	}
	if err := id.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %s: %w", h.Name, name, err)
	}
	if id.gone(limit) {
		return nil
	}
	if err := id.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %s: %w", h.Name, name, err)
	}
	id.gone(limit)
	return fmt.Errorf("%s: %s did not end within %v of signal %q and was killed", h.Name, name, limit, sig)
}

// LogTail returns the last lines of a log of the host, for error messages.
func (h *Host) LogTail(name string, lines int) string {
	return tail(filepath.Join(h.Dir(), name+".log"), lines)
}

func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 16 << 10
	if st, err := f.Stat(); err == nil && st.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Dial connects from the host. The address must hold no name, for names are looked up on the machine.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.inNetwork(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// inNetwork calls f on a thread that is in the host's network namespace. A socket stays in the namespace it was made in.
func (h *Host) inNetwork(f func() error) error {
	return inNamespace(netnsPath(h.netns()), f)
}

func inNamespace(path string, f func() error) (err error) {
	there, err := os.Open(path)
	if err != nil {
		return err
	}
	defer there.Close()
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer here.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", path, err)
	}
	defer func() {
		// A thread that cannot come back must not run anything else: left locked, it ends with this goroutine.
		if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("leave %s: %w", path, back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

func netnsPath(name string) string { return filepath.Join("/run/netns", name) }

// keeperScript runs in new mount and UTS namespaces, says "ready" and then keeps them for as long as it lives. Namespaces
// that "ip netns" mounted are let go first, else this host would keep the others' alive. Without /dev/log the hosts' daemons
// log to stderr, which is their log file, and not into the syslog of the machine; under systemd it is a link into /run and
// leads nowhere already.
const keeperScript = `set -e
hostname "$1"
if mountpoint -q /run/netns; then umount --recursive --lazy /run/netns; fi
mount -t tmpfs -o mode=0755 tmpfs /run
if [ -S /dev/log ]; then mount --bind /dev/null /dev/log; fi
for dir in /etc /usr/local; do
	layer=/run/.overlay$dir
	mkdir -p "$layer/upper" "$layer/work"
	mount -t overlay -o "lowerdir=$dir,upperdir=$layer/upper,workdir=$layer/work" overlay "$dir"
done
echo ready
exec sleep infinity
`

// startKeeper makes the host's mount and UTS namespaces.
func (h *Host) startKeeper() error {
	log, err := os.Create(filepath.Join(h.Dir(), "keeper.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	ready, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command("nsenter", "--net="+netnsPath(h.netns()), "--",
		"unshare", "--mount", "--uts", "--propagation", "private", "--", "/bin/sh", "-c", keeperScript, "keeper", h.Name)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = write, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	h.keeper, err = identify(cmd.Process.Pid)
	go cmd.Wait() // only so that it is no zombie after Down, which ends it at the latest
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if err := ready.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.ReadFull(ready, make([]byte, len("ready\n"))); err != nil {
		return fmt.Errorf("%s: make its namespaces: %w: %s", h.Name, err, tail(log.Name(), 5))
	}
	return nil
}
