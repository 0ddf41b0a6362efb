package main

import (
	"io"
	"log/syslog"
	"os"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"exazk/daemon"
)

// logQueue is how many lines may wait for a log that is stuck (a full disk, a frozen journal) before lines are dropped
// and counted. Routes must never wait for a log.
const logQueue = 4096

// flushTime bounds the wait for the last lines at the end.
const flushTime = 200 * time.Millisecond

// logOutput writes lines from a goroutine of its own, so that a stuck log never holds up the daemon.
type logOutput struct {
	lines   chan logLine
	done    chan struct{}
	dropped atomic.Int64 // since the last line that says so
	lost    atomic.Int64 // since the start
	write   func(logLine) error
}

type logLine struct {
	level logrus.Level
	text  []byte
}

func newLogOutput(write func(logLine) error) *logOutput {
	o := &logOutput{lines: make(chan logLine, logQueue), done: make(chan struct{}), write: write}
	go o.run()
	return o
}

func (o *logOutput) run() {
	defer close(o.done)
	for line := range o.lines {
		if line.text == nil {
			return
		}
		_ = o.write(line) // a log that cannot be written to has nowhere to say so
	}
}

func (o *logOutput) send(l logLine) {
	select {
	case o.lines <- l:
	default:
		o.dropped.Add(1)
		o.lost.Add(1)
	}
}

// close waits for what is queued, within flushTime.
func (o *logOutput) close() {
	t := time.NewTimer(flushTime)
	defer t.Stop()
	select {
	case o.lines <- logLine{}:
	case <-t.C:
		return
	}
	select {
	case <-o.done:
	case <-t.C:
	}
}

// logHook formats every entry once per output.
type logHook struct {
	out    *logOutput
	format logrus.Formatter
}

func (h *logHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *logHook) Fire(e *logrus.Entry) error {
	if n := h.out.dropped.Swap(0); n > 0 {
		e = e.WithField("dropped_lines", n)
	}
	text, err := h.format.Format(e)
	if err == nil {
		h.out.send(logLine{e.Level, text})
	}
	return err
}

// newLogger gives the daemon's logger and a function that flushes it. Lines go to syslog where that is asked for and
// reachable; to stderr where a person is looking, and where there is no syslog; never to stdout.
func newLogger(cfg daemon.LogConfig, tag string, stderr io.Writer) (*logrus.Logger, func()) {
	log := logrus.New()
	log.SetOutput(io.Discard) // the hooks write
	level, err := logrus.ParseLevel(cfg.Level)
	if err != nil {
		panic("bug: unchecked log level: " + err.Error())
	}
	log.SetLevel(level)
	var hooks []*logHook
	var sysErr error
	if cfg.Syslog {
		var w *syslog.Writer
		facility, _ := syslogFacility(cfg.SyslogFacility)
		if w, sysErr = syslog.New(facility|syslog.LOG_INFO, tag); sysErr == nil {
			hooks = append(hooks, &logHook{newLogOutput(syslogWriter(w)), formatter(cfg.Format, false, true)})
		}
	}
	terminal := isTerminal(stderr)
	if !cfg.Silent && (terminal || len(hooks) == 0) {
		write := func(l logLine) error { _, err := stderr.Write(l.text); return err }
		hooks = append(hooks, &logHook{newLogOutput(write), formatter(cfg.Format, terminal, false)})
	}
	for _, h := range hooks {
		log.AddHook(h)
	}
	if sysErr != nil {
		log.WithField("reason", sysErr.Error()).Warn("syslog is out of reach, logging to stderr")
	}
	return log, func() {
		for _, h := range hooks {
			h.out.close()
		}
	}
}

// lostLines is how many lines a logger has dropped since the start.
func lostLines(log *logrus.Logger) int64 {
	n := int64(0)
	for _, h := range log.Hooks[logrus.ErrorLevel] { // each is there for every level
		if h, ok := h.(*logHook); ok {
			n += h.out.lost.Load()
		}
	}
	return n
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// formatter gives one line per entry. Syslog has its own time stamps.
func formatter(format string, colours, syslog bool) logrus.Formatter {
	const stamp = "2006-01-02T15:04:05.000Z07:00"
	if format == "json" {
		return &logrus.JSONFormatter{TimestampFormat: stamp, DisableTimestamp: syslog}
	}
	return &logrus.TextFormatter{TimestampFormat: stamp, FullTimestamp: true, DisableTimestamp: syslog, DisableColors: !colours, ForceColors: colours}
}

func syslogWriter(w *syslog.Writer) func(logLine) error {
	return func(l logLine) error {
		switch l.level {
		case logrus.DebugLevel, logrus.TraceLevel:
			return w.Debug(string(l.text))
		case logrus.InfoLevel:
			return w.Info(string(l.text))
		case logrus.WarnLevel:
			return w.Warning(string(l.text))
		default:
			return w.Err(string(l.text))
		}
	}
}

// syslogFacility gives the facility of RFC 5424 section 6.2.1 by its usual name.
func syslogFacility(name string) (syslog.Priority, bool) {
	p, ok := map[string]syslog.Priority{
		"kern": syslog.LOG_KERN, "user": syslog.LOG_USER, "mail": syslog.LOG_MAIL, "daemon": syslog.LOG_DAEMON, "auth": syslog.LOG_AUTH,
		"syslog": syslog.LOG_SYSLOG, "lpr": syslog.LOG_LPR, "news": syslog.LOG_NEWS, "uucp": syslog.LOG_UUCP, "cron": syslog.LOG_CRON,
		"authpriv": syslog.LOG_AUTHPRIV, "ftp": syslog.LOG_FTP, "local0": syslog.LOG_LOCAL0, "local1": syslog.LOG_LOCAL1,
		"local2": syslog.LOG_LOCAL2, "local3": syslog.LOG_LOCAL3, "local4": syslog.LOG_LOCAL4, "local5": syslog.LOG_LOCAL5,
		"local6": syslog.LOG_LOCAL6, "local7": syslog.LOG_LOCAL7,
	}[name]
	return p, ok
}
