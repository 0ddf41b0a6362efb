package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"exazk/daemon"
	"exazk/exabgp"
	"exazk/hooks"
	"exazk/link"
	"exazk/loopback"
	"exazk/metrics"
	"exazk/web"
	"exazk/zkstate"
)

// runDaemon wires the edges to the loop and runs until the loop wants to end. With SIGHUP, load gives the configuration anew;
// name tells this process from others of the same ExaBGP.
func runDaemon(cfg *daemon.Config, load func() (*daemon.Config, error), name string, stdin *os.File, stdout, stderr io.Writer) error {
	signals := make(chan os.Signal, 8)                                                                        // a SIGPIPE must not push out a SIGTERM
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGUSR1) // before all else: each would end us
	defer signal.Stop(signals)
	syscall.Umask(0o022) // ExaBGP gives its processes 0137, under which the checks could not make a directory
	logger, flush := newLogger(cfg.Log, logTag(cfg), stderr)
	defer flush()
	log := logger.WithField("node", cfg.Node)

	interactive := term.IsTerminal(int(stdin.Fd()))
	if interactive {
		cfg.ExaBGP.TrackNeighbors = false
		log.Info("stdin is a terminal: routes are printed, neighbors are not followed")
	}
	id := daemon.Identity{Node: cfg.Node, Instance: newInstance(), Version: versionText(), Since: time.Now().UTC().Truncate(time.Millisecond)}
	log.WithFields(logrus.Fields{"version": id.Version, "instance": id.Instance, "pid": os.Getpid()}).Info("exazk started")

	measured := metrics.New(cfg, id.Version, func() int64 { return lostLines(logger) })
	speaker := exabgp.New(stdin, stdout, exabgp.Options{Track: cfg.ExaBGP.TrackNeighbors, Interactive: interactive, Dialect: cfg.ExaBGP.Dialect, DriftCheck: cfg.ExaBGP.DriftCheck, Environ: os.Environ(), Progress: measured.Command}, log.WithField("component", "exabgp"))
	store := zkstate.New(cfg.Store(id), log.WithField("component", "zookeeper"))
	var before []exabgp.Route
	var keeper *record
	if !interactive {
		keeper = newRecord(name, log.WithField("component", "record"))
	}
	if keeper != nil {
		before = keeper.read()
	}
	var gate daemon.Speaker = speaker
	watch := func(emit func(exabgp.Event) bool) func(exabgp.Event) bool { return emit }
	var addresses *loopback.Keeper
	if !interactive {
		addresses = loopback.New(speaker, loopbackVIPs(cfg), before, log.WithField("component", "loopback"))
		gate, watch = addresses, addresses.Watch
	}
	loop := daemon.NewLoop(daemon.NewCore(cfg, id, before...), gate, store, log.WithField("component", "daemon"))
	loop.WatchWaits(measured.EventWaited)
	seen := newPicture(id)
	loop.ObserveWith(measured, seen)
	server := web.New(web.Options{Source: seen, Alive: loop.Alive, Metrics: measured.Handler()}, log.WithField("component", "http"))
	server.Listen(cfg.HTTP.Listen)
	checks := newChecks(loop, measured.Ran, log.WithField("component", "health"))
	reloads := &reloader{asked: make(chan struct{}, 1), load: load, cfg: cfg, loop: loop, checks: checks, server: server, addresses: addresses, log: log.WithField("component", "reload")}

	past := newPast(cfg, log.WithField("component", "history"))
	loop.ObserveWith(past)

	edges := newGroup()
	storeGroup := newGroup()
	pastGroup := newGroup()
	if len(cfg.Hooks) > 0 {
		runner := hooks.New(cfg.Node, cfg.Hooks, log.WithField("component", "hooks"))
		loop.ObserveWith(runner)
		edges.start("hooks", runner.Run)
	}
	if keeper != nil {
		loop.KeepWith(keeper)
		edges.start("record", keeper.run)
	}
	edges.start("exabgp", func(ctx context.Context) error { return speaker.Run(ctx, watch(loop.ExaBGP(ctx))) })
	if addresses != nil {
		edges.start("loopback", addresses.Run)
	}
	if cfg.ExaBGP.TrackNeighbors {
		links := link.New(log.WithField("component", "link"))
		edges.start("link", func(ctx context.Context) error { return links.Run(ctx, loop.Link(ctx)) })
	}
	edges.start("health", func(ctx context.Context) error { return checks.run(ctx, cfg) })
	edges.start("http", server.Run)
	if len(cfg.HTTP.Listen) > 0 {
		edges.start("past", func(ctx context.Context) error { return seen.recall(ctx, cfg) })
	}
	edges.start("reload", reloads.run)
	pastGroup.start("history", past.Run)
	edges.start("signals", func(ctx context.Context) error { return watchSignals(ctx, signals, loop, reloads) })
	storeGroup.start("zookeeper", func(ctx context.Context) error { return store.Run(ctx, loop.ZooKeeper(ctx)) })

	exit, err := runLoop(loop, edges, storeGroup)
	log.WithFields(logrus.Fields{"exit": exit.String()}).Info("stopping")
	var cause error
	if exit == daemon.Abandon {
		cause = zkstate.ErrAbandon
	}
	pastGroup.cancel(nil)  // it has a session of its own, and a moment for its last words while the other one is closed
	storeGroup.stop(cause) // first: claims outlive us by a session timeout otherwise
	pastGroup.stop(nil)
	if late := edges.stopWithin(endWithin); len(late) > 0 {
		log.WithField("edges", strings.Join(late, ", ")).Error("stopping without waiting any longer for what does not end; remedy: see whether a file system or the host stands still")
	}
	if addresses != nil {
		addresses.Close()
	}
	if err != nil {
		log.WithField("reason", err.Error()).Error("exazk failed")
		return err
	}
	log.Info("exazk stopped")
	return nil
}

// loopbackVIPs are those that are to be kept on this host.
func loopbackVIPs(cfg *daemon.Config) []loopback.VIP {
	var vips []loopback.VIP
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for _, vip := range slices.Concat(s.Authoritative, s.BackupFor) {
			if s.Loopback.Manage {
				vips = append(vips, loopback.VIP{Addr: vip.Addr(), Device: s.Loopback.Device, Grace: s.Loopback.Grace})
			}
		}
	}
	return vips
}

// runLoop runs the loop until it is done or an edge has returned, which none may do before: the first actor to return
// stops all.
func runLoop(loop *daemon.Loop, groups ...*group) (daemon.Exit, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	for _, g := range groups {
		g.onReturn(cancel)
	}
	exit := loop.Run(ctx)
	if exit == daemon.Stay {
		return exit, context.Cause(ctx)
	}
	return exit, nil
}

// endWithin bounds the wait for the edges at the end. A file on a server that is away holds whoever reads it for ever, and ExaBGP 4.2
// waits for ever for its process. A check that is killed takes a second.
const endWithin = 2 * time.Second

// group runs goroutines that are stopped and waited for together.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wait   sync.WaitGroup
	failed chan error

	mu      sync.Mutex
	running map[string]bool // by name
}

func newGroup() *group {
	g := &group{failed: make(chan error, 1), running: map[string]bool{}}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	return g
}

func (g *group) start(name string, run func(context.Context) error) {
	g.note(name, true)
	g.wait.Go(func() {
		defer g.note(name, false)
		err := run(g.ctx)
		if g.ctx.Err() != nil || errors.Is(err, exabgp.ErrGone) {
			return // it was asked to, or has told the loop already
		}
		select {
		case g.failed <- fmt.Errorf("%s ended: %w", name, err):
		default: // one failure is enough to stop
		}
	})
}

// onReturn calls cancel with the failure of the first goroutine that returns without being asked to.
func (g *group) onReturn(cancel context.CancelCauseFunc) {
	go func() { // ends with the group, whose stop cancels g.ctx
		select {
		case err := <-g.failed:
			cancel(err)
		case <-g.ctx.Done():
		}
	}()
}

func (g *group) note(name string, runs bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running[name] = runs; !runs {
		delete(g.running, name)
	}
}

func (g *group) stop(cause error) {
	g.cancel(cause)
	g.wait.Wait()
}

// stopWithin is stop for the end of the process: it names, sorted, those that have not ended in time, and leaves them behind.
func (g *group) stopWithin(limit time.Duration) (late []string) {
	g.cancel(nil)
	ended := make(chan struct{})
	go func() { // ends with the process at the latest
		g.wait.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(limit):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.running))
}

// watchSignals turns SIGTERM and SIGINT into a drain, SIGHUP into a reload, and SIGUSR1 into a run of every check. SIGPIPE is
// caught and dropped, since a handler makes the write to a broken stdout return an error, where the default ends the process
// before any clean-up, and ignoring it would be inherited by the checks.
func watchSignals(ctx context.Context, signals <-chan os.Signal, loop *daemon.Loop, reloads *reloader) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-signals:
			switch s {
			case syscall.SIGPIPE:
			case syscall.SIGHUP:
				reloads.ask()
			case syscall.SIGUSR1:
				reloads.checks.now()
			default:
				loop.Post(ctx, daemon.Stop{Signal: s.String()})
			}
		}
	}
}

// logTag is the Python tool's, so that filters on syslog go on working.
func logTag(cfg *daemon.Config) string {
	if len(cfg.Services) == 1 {
		return "exazk-" + cfg.Services[0].Name
	}
	return "exazk"
}

// newInstance names one life of the process: 64 random bits.
func newInstance() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}
