// Package zktest runs real ZooKeeper servers for tests, on addresses of the caller's choice: 127.0.0.1 unless told
// otherwise. It starts Java directly, as Debian's jars allow, and ends only what it started.
package zktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// jars are the class path, without netty and servlets: plain TCP, no admin server. The second makes the server log to stderr.
var jars = [...]string{"/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar"}

const (
	readyWithin = 60 * time.Second // a busy machine; half a second on an idle one
	pollEvery   = 20 * time.Millisecond
	tries       = 5 // of a start whose ports somebody else has taken in between
)

// Unavailable says why no server can run here; it is empty if one can.
func Unavailable() string {
	if _, err := exec.LookPath("java"); err != nil {
		return "no java: " + err.Error()
	}
	for _, jar := range jars {
		if _, err := os.Stat(jar); err != nil {
			return "no ZooKeeper server: " + err.Error()
		}
	}
	return ""
}

// Options describe a server.
type Options struct {
	Dir      string        // for its data and log; empty means a directory that is removed at the end of the test
	TickTime time.Duration // 0 means 200 ms; session timeouts are from 2 to 20 ticks
	Address  string        // to listen on; empty means 127.0.0.1
	Port     int           // for clients; 0 means a free one
	Config   []string      // further lines of zoo.cfg
	Wrap     []string      // command in front of java, as "ip netns exec NAME"; then Port and Probe must be given
	// Probe sends a four-letter word to address from where the server can be reached; nil means Ask.
	Probe func(address, word string) (string, error)
}

// Server is one server process.
type Server struct {
	opts Options
	dir  string
	port int

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
}

// Start runs a standalone server until the end of the test, which is skipped where none can run.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	if why := Unavailable(); why != "" {
		tb.Skip(why)
	}
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	s, err := Launch(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Kill()
		if tb.Failed() {
			tb.Logf("ZooKeeper's log:\n%s", s.Log())
		}
	})
	return s
}

// Launch runs a standalone server in o.Dir, which must be given, until Kill.
func Launch(o Options) (*Server, error) {
	var err error
	for range tries {
		s := &Server{opts: o, dir: o.Dir, port: o.Port}
		if s.port == 0 {
			if s.port, err = freePort(); err != nil {
				return nil, err
			}
		}
		if err = s.write(nil); err != nil {
			return nil, err
		}
		if err = s.Restart(); err == nil {
			return s, nil
		}
		s.Kill()
		if o.Port != 0 {
			break
		}
	}
	return nil, err
}

// StartEnsemble runs n servers that form one ensemble on 127.0.0.1 until the end of the test.
func StartEnsemble(tb testing.TB, n int, o Options) []*Server {
	tb.Helper()
	if why := Unavailable(); why != "" {
		tb.Skip(why)
	}
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	members := []string{"initLimit=10", "syncLimit=5"}
	servers := make([]*Server, n)
	for i := range servers {
		var ports [3]int
		for j := range ports {
			port, err := freePort()
			if err != nil {
				tb.Fatal(err)
			}
			ports[j] = port
		}
		servers[i] = &Server{opts: o, dir: filepath.Join(o.Dir, strconv.Itoa(i+1)), port: ports[0]}
		members = append(members, fmt.Sprintf("server.%d=127.0.0.1:%d:%d:participant", i+1, ports[1], ports[2]))
	}
	for i, s := range servers {
		tb.Cleanup(func() {
			s.Kill()
			if tb.Failed() {
				tb.Logf("log of server %d:\n%s", i+1, s.Log())
			}
		})
		if err := s.write(members); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, "data", "myid"), []byte(strconv.Itoa(i+1)+"\n"), 0o600); err != nil {
			tb.Fatal(err)
		}
		if err := s.run(); err != nil {
			tb.Fatal(err)
		}
	}
	for _, s := range servers {
		if err := s.ready(); err != nil {
			tb.Fatal(err)
		}
	}
	return servers
}

// Leader returns the server among servers that leads, nil if none does.
func Leader(servers []*Server) *Server {
	for _, s := range servers {
		if s.Mode() == "leader" {
			return s
		}
	}
	return nil
}

// Addr is where clients connect, "host:port".
func (s *Server) Addr() string {
	return net.JoinHostPort(s.address(), strconv.Itoa(s.port))
}

func (s *Server) address() string {
	if s.opts.Address != "" {
		return s.opts.Address
	}
	return "127.0.0.1"
}

// Restart runs the server again on the data it had, and returns when it serves.
func (s *Server) Restart() error {
	if err := s.run(); err != nil {
		return err
	}
	return s.ready()
}

// Kill ends the server at once, as a loss of power would.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // the group: a wrapper's child too
	<-s.ended
	s.cmd = nil
}

// Freeze stops the server's process: its connections stay, and nothing answers. It returns when the last thread has
// stopped: kill(2) returns earlier, and a thread that is running on another core answers one more request.
func (s *Server) Freeze() {
	s.signal(syscall.SIGSTOP)
	if pid := s.PID(); pid != 0 {
		for unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		syscall.Kill(-s.cmd.Process.Pid, sig)
	}
}

// PID is the process (the wrapper's, if there is one), 0 while none runs.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Ask sends a four-letter word and returns the answer.
func (s *Server) Ask(word string) (string, error) {
	if s.opts.Probe != nil {
		return s.opts.Probe(s.Addr(), word)
	}
	return Ask(s.Addr(), word)
}

// Ask sends a four-letter word to any server.
func Ask(address, word string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Mode is "standalone", "leader" or "follower"; empty while the server does not serve.
func (s *Server) Mode() string {
	answer, err := s.Ask("srvr")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(answer) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode)
		}
	}
	return ""
}

// Log returns the end of what the server has logged.
func (s *Server) Log() string {
	data, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-8<<10):])
}

// write makes the server's directory and its zoo.cfg.
func (s *Server) write(further []string) error {
	if err := os.MkdirAll(filepath.Join(s.dir, "data"), 0o700); err != nil {
		return err
	}
	tick := s.opts.TickTime
	if tick == 0 {
		tick = 200 * time.Millisecond
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "tickTime=%d\ndataDir=%s/data\nclientPort=%d\nclientPortAddress=%s\n",
		tick.Milliseconds(), s.dir, s.port, s.address())
	b.WriteString("admin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n")
	for _, line := range append(further, s.opts.Config...) {
		fmt.Fprintln(&b, line)
	}
	return os.WriteFile(filepath.Join(s.dir, "zoo.cfg"), b.Bytes(), 0o600)
}

// run starts the process, in a process group of its own.
func (s *Server) run() error {
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append(append([]string{}, s.opts.Wrap...), "java", "-Xms16m", "-Xmx96m", "-XX:+UseSerialGC",
		"-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dzookeeper.forceSync=no", "-cp", strings.Join(jars[:], ":"),
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { // ends with the process, for which Kill waits
		cmd.Wait()
		close(ended)
	}()
	s.cmd, s.ended = cmd, ended
	return nil
}

var errEnded = errors.New("the server ended")

// ready waits until the server serves. It watches the process too: one whose port is taken ends, and another one answers
// there.
func (s *Server) ready() error {
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) {
		s.mu.Lock()
		ended := s.ended
		s.mu.Unlock()
		select {
		case <-ended:
			return fmt.Errorf("%w:\n%s", errEnded, s.Log())
		case <-time.After(pollEvery):
		}
		if s.Mode() != "" {
			return nil
		}
	}
	return fmt.Errorf("the server does not serve after %v:\n%s", readyWithin, s.Log())
}

// freePort returns a port that nobody had a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
