package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
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

// runDaemon runs until the loop wants to end. With SIGHUP, load gives the configuration anew; name tells this process from others of
// the same ExaBGP.
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

	p := &parts{cfg: cfg, id: id, interactive: interactive, log: log, edges: newGroup(), store: newGroup(), past: newGroup()}
	measured := metrics.New(cfg, id.Version, func() int64 { return lostLines(logger) })
	p.connect(name, stdin, stdout, measured)
	p.showWith(measured)
	p.reloads = newReloader(load, cfg, p.loop, newChecks(p.loop, measured.Ran, p.part("health")), p.show, p.addresses, p.part("reload"))
	p.start(signals)

	exit, err := runLoop(p.loop, p.edges, p.store)
	log.WithFields(logrus.Fields{"exit": exit.String()}).Info("stopping")
	p.stop(exit)
	if err != nil {
		log.WithField("reason", err.Error()).Error("exazk failed")
		return err
	}
	log.Info("exazk stopped")
	return nil
}

// parts are what the daemon is made of. Nothing of it runs before start.
type parts struct {
	cfg         *daemon.Config
	id          daemon.Identity
	interactive bool
	log         *logrus.Entry

	speaker   *exabgp.Process
	session   *zkstate.Session
	keeper    *record          // nil where nothing is kept for the next process
	addresses *loopback.Keeper // between the loop and ExaBGP; nil where ExaBGP is a person
	loop      *daemon.Loop

	hooks   *hooks.Hooks // nil where there are none
	seen    *picture
	server  *web.Server
	history *past
	reloads *reloader

	store, past, edges *group // in the order in which they are stopped
}

func (p *parts) part(name string) *logrus.Entry { return p.log.WithField("component", name) }

// connect makes the loop and what it decides by and for.
func (p *parts) connect(name string, stdin io.Reader, stdout io.Writer, measured *metrics.Metrics) {
	p.speaker = exabgp.New(stdin, stdout, exabgp.Options{
		Track: p.cfg.ExaBGP.TrackNeighbors, Interactive: p.interactive, Dialect: p.cfg.ExaBGP.Dialect, DriftCheck: p.cfg.ExaBGP.DriftCheck,
		Environ: os.Environ(), Progress: measured.Command,
	}, p.part("exabgp"))
	p.session = zkstate.New(p.cfg.Store(p.id), p.part("zookeeper"))
	var before []exabgp.Route
	var gate daemon.Speaker = p.speaker
	if !p.interactive {
		if p.keeper = newRecord(name, p.part("record")); p.keeper != nil {
			before = p.keeper.read()
		}
		p.addresses = loopback.New(p.speaker, loopbackVIPs(p.cfg), before, p.part("loopback"))
		gate = p.addresses
	}
	p.loop = daemon.NewLoop(daemon.NewCore(p.cfg, p.id, before...), gate, p.session, p.part("daemon"))
	if p.keeper != nil {
		p.loop.KeepWith(p.keeper)
	}
}

// showWith makes what only looks on: no route depends on it.
func (p *parts) showWith(measured *metrics.Metrics) {
	p.seen = newPicture(p.id)
	p.server = web.New(web.Options{Source: p.seen, Alive: p.loop.Alive, Metrics: measured.Handler()}, p.part("http"))
	p.show(p.cfg)
	p.history = newPast(p.cfg, p.part("history"))
	p.loop.WatchWaits(measured.EventWaited)
	p.loop.ObserveWith(measured, p.seen, p.history)
	if len(p.cfg.Hooks) > 0 {
		p.hooks = hooks.New(p.cfg.Node, p.cfg.Hooks, p.part("hooks"))
		p.loop.ObserveWith(p.hooks)
	}
}

// show has the page where a configuration wants it.
func (p *parts) show(cfg *daemon.Config) {
	p.server.Listen(cfg.HTTP.Listen)
	p.seen.show(cfg)
}

// start has everything run but the loop.
func (p *parts) start(signals <-chan os.Signal) {
	watch := func(emit func(exabgp.Event) bool) func(exabgp.Event) bool { return emit }
	if p.addresses != nil {
		watch = p.addresses.Watch
		p.edges.start("loopback", p.addresses.Run)
	}
	p.edges.start("exabgp", func(ctx context.Context) error { return p.speaker.Run(ctx, watch(p.loop.ExaBGP(ctx))) })
	p.store.start("zookeeper", func(ctx context.Context) error { return p.session.Run(ctx, p.loop.ZooKeeper(ctx)) })
	p.edges.start("health", func(ctx context.Context) error { return p.reloads.checks.run(ctx, p.cfg) })
	if p.cfg.ExaBGP.TrackNeighbors {
		links := link.New(p.part("link"))
		p.edges.start("link", func(ctx context.Context) error { return links.Run(ctx, p.loop.Link(ctx)) })
	}
	if p.keeper != nil {
		p.edges.start("record", p.keeper.run)
	}
	p.edges.start("reload", p.reloads.run)
	p.edges.start("signals", func(ctx context.Context) error { return watchSignals(ctx, signals, p.loop, p.reloads) })

	p.past.aside("history", p.log, p.history.Run)
	p.edges.aside("http", p.log, p.server.Run)
	p.edges.aside("past", p.log, p.seen.recall)
	if p.hooks != nil {
		p.edges.aside("hooks", p.log, p.hooks.Run)
	}
}

// lastWords is what the history may take for its last entries. Where ZooKeeper stands still, the end of its session would take a second
// more, for which systemd puts off the next start of ExaBGP.
const lastWords = 400 * time.Millisecond

// endWithin bounds the wait for the edges at the end. A file on a server that is away holds whoever reads it for ever, and ExaBGP 4.2
// waits for ever for its process. A check that is killed takes a second.
const endWithin = 2 * time.Second

// stop ends everything after the loop has ended. The session is first: claims outlive us by a session timeout otherwise.
func (p *parts) stop(exit daemon.Exit) {
	var cause error
	if exit == daemon.Abandon {
		cause = zkstate.ErrAbandon
	}
	p.past.cancel(nil) // it has a session of its own, and a moment for its last words while the other one is closed
	p.store.stop(cause)
	p.past.stopWithin(lastWords)
	if late := p.edges.stopWithin(endWithin); len(late) > 0 {
		p.log.WithField("edges", strings.Join(late, ", ")).Error("stopping without waiting any longer for what does not end; remedy: see whether a file system or the host stands still")
	}
	if p.addresses != nil {
		p.addresses.Close()
	}
}

// loopbackVIPs are all VIPs, those with a device to be kept on this host.
func loopbackVIPs(cfg *daemon.Config) []loopback.VIP {
	var vips []loopback.VIP
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for _, vip := range slices.Concat(s.Authoritative, s.BackupFor) {
			v := loopback.VIP{Addr: vip.Addr()}
			if s.Loopback.Manage {
				v.Device, v.Grace = s.Loopback.Device, s.Loopback.Grace
			}
			vips = append(vips, v)
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
				reloads.askChecks()
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
