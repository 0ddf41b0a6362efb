package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	zookeeperJar = "/usr/share/java/zookeeper.jar"
	slf4jJar     = "/usr/share/java/slf4j-simple.jar" // without it ZooKeeper logs nothing at all
)

// zooCfg configures ZooKeeper. Its data lies in /run, in memory: it outlives the server, not the lab.
const zooCfg = `# Milliseconds. The server expires sessions on a multiple of it, so it is a part of every failover of a crashed host. It
# grants session timeouts of 2 to 20 of these unless told otherwise.
tickTime=100
maxSessionTimeout=40000
dataDir=/run/zookeeper/data
clientPort=2181
admin.enableServer=false
4lw.commands.whitelist=*
maxClientCnxns=0
`

// ensembleCfg follows in an ensemble.
const ensembleCfg = `# Ticks that a follower may take to join its leader, and then fall behind it. The latter bounds how long a leader that is
# frozen keeps the others waiting.
initLimit=100
syncLimit=30
`

// installZK writes the configuration of a server, whose number is from 1.
func (l *Lab) installZK(n int) error {
	cfg, h := zooCfg, l.Host(l.ZKServers()[n-1])
	if l.opt.ZKServers > 1 {
		cfg += ensembleCfg
		for i, addr := range zkAddrs(l.opt.ZKServers) {
			cfg += fmt.Sprintf("server.%d=%s:2888:3888\n", i+1, addr.Addr())
		}
		if err := h.WriteFile("/run/zookeeper/data/myid", fmt.Appendln(nil, n), 0o644); err != nil {
			return err
		}
	}
	return h.WriteFile("/run/zookeeper/zoo.cfg", []byte(cfg), 0o644)
}

// zkHost is the host of a server. There being no such server is a mistake in the caller, hence the panic.
func (l *Lab) zkHost(n int) *Host {
	if n < 1 || n > l.opt.ZKServers {
		panic(fmt.Sprintf("bug: no ZooKeeper server %d of %d", n, l.opt.ZKServers))
	}
	return l.Host(l.ZKServers()[n-1])
}

var zkCommand = []string{"java", "-Xms16m", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
	// How long a server in an election waits at most before it asks again. By default that grows to 60 s, which after a freeze
	// of all servers is what an election took in one of five.
	"-Dzookeeper.fastleader.maxNotificationInterval=1000",
	"-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", zookeeperJar + ":" + slf4jJar,
	"org.apache.zookeeper.server.quorum.QuorumPeerMain", "/run/zookeeper/zoo.cfg"}

// StartZK starts every ZooKeeper server, on the data of its earlier life if there was one, and waits until all serve. They
// start together: one server of an ensemble alone would serve nobody.
func (l *Lab) StartZK(ctx context.Context) error {
	started := make([]*Process, l.opt.ZKServers)
	for i := range started {
		var err error
		if started[i], err = l.zkHost(i+1).startDaemon(DaemonZooKeeper, nil, zkCommand); err != nil {
			return err
		}
	}
	for i, p := range started {
		if err := l.awaitZK(ctx, i+1, p); err != nil {
			return err
		}
	}
	return nil
}

// StartZKServer starts one server and waits until it serves, which in an ensemble takes another one that does.
func (l *Lab) StartZKServer(ctx context.Context, n int) error {
	p, err := l.zkHost(n).startDaemon(DaemonZooKeeper, nil, zkCommand)
	if err != nil {
		return err
	}
	return l.awaitZK(ctx, n, p)
}

func (l *Lab) awaitZK(ctx context.Context, n int, p *Process) error {
	return l.zkHost(n).await(ctx, p, DaemonZooKeeper, func() error {
		_, err := l.zkMode(ctx, n)
		return err
	})
}

// zkMode asks a server what it is, "standalone", "leader" or "follower", by the four-letter word srvr. "ruok" would be
// answered before the server serves.
func (l *Lab) zkMode(ctx context.Context, n int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	conn, err := l.zkHost(n).Dial(ctx, "tcp", zkAddrs(l.opt.ZKServers)[n-1].String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// A server that is asked too early may never answer; the next connection will be.
	if err := conn.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	_, mode, ok := strings.Cut(string(answer), "Mode: ")
	if !ok {
		return "", fmt.Errorf("zookeeper says %q", answer)
	}
	mode, _, _ = strings.Cut(mode, "\n")
	return mode, nil
}

// ZKLeader returns the number of the server that leads the ensemble.
func (l *Lab) ZKLeader() (int, error) {
	var errs []error
	for n := 1; n <= l.opt.ZKServers; n++ {
		mode, err := l.zkMode(context.Background(), n)
		if mode == "leader" {
			return n, nil
		}
		if err == nil {
			err = fmt.Errorf("it is a %s", mode)
		}
		errs = append(errs, fmt.Errorf("%s: %w", l.ZKServers()[n-1], err))
	}
	return 0, fmt.Errorf("nobody leads the ensemble: %w", errors.Join(errs...))
}

// StopZKServer ends a server in order, with SIGTERM.
func (l *Lab) StopZKServer(n int) error {
	return l.zkHost(n).stopDaemon(DaemonZooKeeper, syscall.SIGTERM, 10*time.Second)
}

// KillZKServer kills a server, which it survives without loss (kill -9 and a new start were clean every time).
func (l *Lab) KillZKServer(n int) error {
	return l.zkHost(n).stopDaemon(DaemonZooKeeper, syscall.SIGKILL, 10*time.Second)
}

// FreezeZKServer stops a server's process where it is: connections stay, nothing is answered.
func (l *Lab) FreezeZKServer(n int) error {
	return l.zkHost(n).signalDaemon(DaemonZooKeeper, syscall.SIGSTOP)
}

// ThawZKServer is the reverse of FreezeZKServer.
func (l *Lab) ThawZKServer(n int) error {
	return l.zkHost(n).signalDaemon(DaemonZooKeeper, syscall.SIGCONT)
}

// StopZK kills every ZooKeeper server.
func (l *Lab) StopZK() error { return l.eachZK(l.KillZKServer) }

// FreezeZK stops the process of every ZooKeeper server.
func (l *Lab) FreezeZK() error { return l.eachZK(l.FreezeZKServer) }

// ThawZK is the reverse of FreezeZK.
func (l *Lab) ThawZK() error { return l.eachZK(l.ThawZKServer) }

func (l *Lab) eachZK(f func(int) error) error {
	for n := range l.opt.ZKServers {
		if err := f(n + 1); err != nil {
			return err
		}
	}
	return nil
}

// CutZKServers takes every server off the management network without a sign: to the load balancers ZooKeeper is away while
// it goes on, and so does the time of their sessions. The servers of an ensemble lose each other as well.
func (l *Lab) CutZKServers() error {
	return l.eachZK(func(n int) error { return l.CutZK(l.zkHost(n).Name) })
}

// JoinZKServers is the reverse of CutZKServers.
func (l *Lab) JoinZKServers() error {
	return l.eachZK(func(n int) error { return l.JoinZK(l.zkHost(n).Name) })
}

// ZKSessions returns who holds ephemeral nodes below a path, by name of node; 0 for one that is persistent.
func (l *Lab) ZKSessions(node string) (map[string]int64, error) {
	names, err := l.ZKChildren(node)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	owners := map[string]int64{}
	for _, name := range names {
		_, owner, err := l.ZKGet(node + "/" + name)
		if err != nil {
			return nil, err
		}
		owners[name] = owner
	}
	return owners, nil
}
