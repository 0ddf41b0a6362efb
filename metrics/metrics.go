package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"exazk/daemon"
	"exazk/exabgp"
	"exazk/health"
)

const (
	// maxScrapes bounds those that run at a time: a Prometheus asks once every some seconds, and there may be two of them.
	maxScrapes = 4
	// scrapeTimeout is Prometheus's own default: nobody waits any more.
	scrapeTimeout = 10 * time.Second
)

var (
	// checkBuckets go from a file that is there to timeouts of half a minute.
	checkBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	// delayBuckets go from what an idle machine needs for a write to the pause after a refused command.
	delayBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}
)

// Metrics is a daemon.Observer. All its methods may be called from any goroutine.
type Metrics struct {
	registry    *prometheus.Registry
	transitions *prometheus.CounterVec
	detected    *prometheus.CounterVec
	repaired    *prometheus.CounterVec
	commands    *prometheus.CounterVec
	toWrite     *prometheus.HistogramVec
	toAck       *prometheus.HistogramVec
	waits       prometheus.Histogram
	took        *prometheus.HistogramVec
	runs        *prometheus.CounterVec

	last atomic.Pointer[daemon.Snapshot]

	mu     sync.Mutex // of what follows
	checks map[check]health.State
	known  []*daemon.Service // that checks is made of
}

// check names one check.
type check struct{ service, name string }

// New makes the metrics of a node that is about to start with cfg. dropped tells how many lines of the log were dropped so far.
func New(cfg *daemon.Config, version string, dropped func() int64) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), checks: map[check]health.State{}}
	m.transitions = m.counter("transitions_total", "Changes of what this node sees and decides, by what changed and to what; of a verdict by its reason, too.", "what", "service", "to", "reason")
	m.detected = m.counter("drift_detected_total", "Routes found in ExaBGP otherwise than wanted.", "service")
	m.repaired = m.counter("drift_repaired_total", "Routes found as wanted again after a drift.", "service")
	m.commands = m.counter("commands_total", "Commands for routes, by how far they came: written, accepted or refused by ExaBGP.", "action", "stage")
	m.toWrite = m.histogram("event_to_write_seconds", "Time from an event to the end of the write of a command that follows from it.", delayBuckets, "action")
	m.toAck = m.histogram("event_to_ack_seconds", "Time from an event to ExaBGP's acknowledgement of a command that follows from it.", delayBuckets, "action")
	m.waits = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "exazk_event_wait_seconds", Help: "Time that events waited for the loop.", Buckets: delayBuckets})
	m.took = m.histogram("check_duration_seconds", "Time that runs of a check took.", checkBuckets, "service", "check")
	m.runs = m.counter("check_runs_total", "Runs of a check by result: passed, failed or timed-out.", "service", "check", "result")
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "exazk_build_info", Help: "Always 1; version of exazk and of Go.", ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	lines := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "exazk_log_lines_dropped_total", Help: "Lines that were not logged because the log was stuck.",
	}, func() float64 { return float64(dropped()) })
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build, lines, m.waits, &states{m})
	for _, action := range []string{"announce", "withdraw"} {
		m.toWrite.WithLabelValues(action)
		m.toAck.WithLabelValues(action)
		for _, s := range []exabgp.Stage{exabgp.CommandWritten, exabgp.CommandAccepted, exabgp.CommandRefused} {
			m.commands.WithLabelValues(action, s.String())
		}
	}
	var services []*daemon.Service
	for i := range cfg.Services {
		services = append(services, &cfg.Services[i])
	}
	m.configure(services)
	return m
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "exazk_" + name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "exazk_" + name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout, EnableOpenMetrics: true,
		ErrorHandling: promhttp.ContinueOnError, // one bad series must not hide the others
	})
}

// Observe is told of every change: see daemon.Observer.
func (m *Metrics) Observe(s daemon.Snapshot) {
	for _, t := range s.Changes {
		m.count(t)
	}
	m.last.Store(&s)
	var services []*daemon.Service
	for i := range s.Services {
		services = append(services, s.Services[i].Config)
	}
	m.configure(services)
}

// count counts a transition. The reason is a label where it is one of ours: a neighbor's is any text of ExaBGP's.
func (m *Metrics) count(t daemon.Transition) {
	reason := ""
	if t.What == daemon.WhatVerdict {
		reason = t.Reason
	}
	m.transitions.WithLabelValues(string(t.What), t.Service, t.To, reason).Inc()
	switch {
	case t.What == daemon.WhatDrift && t.To == daemon.Drifted:
		m.detected.WithLabelValues(t.Service).Inc()
	case t.What == daemon.WhatDrift:
		m.repaired.WithLabelValues(t.Service).Inc()
	}
}

// configure has exactly the series of these services from now on. Counters begin at 0: else rate() would not see their first
// step.
func (m *Metrics) configure(services []*daemon.Service) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(services, m.known) {
		return
	}
	gone := map[string]bool{}
	for _, s := range m.known {
		gone[s.Name] = true
	}
	m.known = services
	before := m.checks
	m.checks = map[check]health.State{}
	for _, s := range services {
		delete(gone, s.Name)
		m.detected.WithLabelValues(s.Name)
		m.repaired.WithLabelValues(s.Name)
		for _, to := range []health.State{health.Healthy, health.Unhealthy} {
			m.transitions.WithLabelValues(string(daemon.WhatHealth), s.Name, to.String(), "")
		}
		for i := range s.Checks {
			c := check{s.Name, s.Checks[i].Name}
			m.checks[c] = before[c]
			delete(before, c)
			m.took.WithLabelValues(c.service, c.name)
			for _, result := range results {
				m.runs.WithLabelValues(c.service, c.name, result)
			}
		}
	}
	for c := range before {
		m.took.DeleteLabelValues(c.service, c.name)
		m.runs.DeletePartialMatch(prometheus.Labels{"service": c.service, "check": c.name})
	}
	for s := range gone {
		m.forget(s)
	}
}

// forget ends the series of a service that left the configuration.
func (m *Metrics) forget(service string) {
	for _, c := range []*prometheus.CounterVec{m.transitions, m.detected, m.repaired} {
		c.DeletePartialMatch(prometheus.Labels{"service": service})
	}
}

var results = []string{"passed", "failed", "timed-out"}

// Ran is told of every run of a check. One of a check that is not configured any more does not count.
func (m *Metrics) Ran(r health.Ran) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := check{r.Service, r.Name}
	if _, there := m.checks[c]; !there {
		return
	}
	m.checks[c] = r.State
	result := "failed"
	switch {
	case r.Result.OK:
		result = "passed"
	case r.Result.TimedOut:
		result = "timed-out"
	}
	m.took.WithLabelValues(c.service, c.name).Observe(r.Took.Seconds())
	m.runs.WithLabelValues(c.service, c.name, result).Inc()
}

// Command is told how far each command for a route has come.
func (m *Metrics) Command(p exabgp.Progress) {
	action := "announce"
	if p.Withdraw {
		action = "withdraw"
	}
	m.commands.WithLabelValues(action, p.Stage.String()).Inc()
	if p.Since.IsZero() {
		return // nobody knows what it followed from
	}
	switch took := p.At.Sub(p.Since).Seconds(); p.Stage {
	case exabgp.CommandWritten:
		m.toWrite.WithLabelValues(action).Observe(took)
	case exabgp.CommandAccepted:
		m.toAck.WithLabelValues(action).Observe(took)
	}
}

// EventWaited is told how long each event waited for the loop.
func (m *Metrics) EventWaited(d time.Duration) { m.waits.Observe(d.Seconds()) }
