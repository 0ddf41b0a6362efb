package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"exazk/vagrant/lab"
	"exazk/vagrant/probe/report"
)

// probeEvery is the time between two datagrams to the same VIP, and so the resolution of what is measured.
const probeEvery = 5 * time.Millisecond

// skipsAllowed datagrams to a VIP may stay unsent in however short a phase: one moment in which the machine was busy.
const skipsAllowed = 40

// allowance bounds what a phase may cost the client: one VIP may go unanswered for gap, the others not at all.
type allowance struct {
	vip int // index into lab.VIPs
	gap time.Duration
}

// unbounded is the gap of a VIP that nobody can answer, or whose outage is bounded otherwise.
const unbounded time.Duration = math.MaxInt64

// nothing is the allowance of everything planned: no datagram of any VIP is lost.
var nothing = allowance{}

func (a allowance) of(vip int) time.Duration {
	if a.vip == vip {
		return a.gap
	}
	return 0
}

// measurement is a line of the table at the end.
type measurement struct {
	lab, scenario, phase string
	allowed              allowance
	outage               [3]time.Duration // by VIP: from the first loss to the last
	lost                 [3]int
	sent, skipped        int
	failed               bool
}

func printTable(out io.Writer) {
	place.mu.Lock()
	defer place.mu.Unlock()
	if len(place.table) == 0 {
		return
	}
	slices.SortStableFunc(place.table, func(a, b measurement) int { return strings.Compare(a.lab, b.lab) }) // two labs at a time fill it
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LAB\tSCENARIO\tPHASE\tALLOWED\tVIP 1\tVIP 2\tVIP 3\tLOST\tSENT\tSKIPPED\t")
	for _, m := range place.table {
		verdict, allowed := "", m.allowed.gap.String()
		if m.allowed.gap == unbounded {
			allowed = "-"
		}
		if m.failed {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%v\t%v\t%v\t%d\t%d\t%d\t%s\n", m.lab, m.scenario, m.phase, allowed,
			ms(m.outage[0]), ms(m.outage[1]), ms(m.outage[2]), m.lost[0]+m.lost[1]+m.lost[2], m.sent, m.skipped, verdict)
	}
	w.Flush()
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// outage is the time in which a VIP was not reliably answered: from the first loss to the last, whatever was answered in
// between. So a VIP that comes and goes is no better than one that is away.
func outage(s report.Series) time.Duration {
	if len(s.Losses) == 0 {
		return 0
	}
	return s.Losses[len(s.Losses)-1].To.Sub(s.Losses[0].From)
}

// prober is the client at work.
type prober struct {
	s      *scene
	cmd    *exec.Cmd
	out    bytes.Buffer
	stderr bytes.Buffer
}

// startProbes starts the client and waits until its datagrams are answered.
func (s *scene) startProbes() *prober {
	s.Helper()
	p := &prober{s: s}
	client := s.lab.Host("client")
	argv := []string{"probe", "-every", probeEvery.String(), "-timeout", "1s"}
	for _, vip := range lab.VIPs() {
		argv = append(argv, "-vip", vip.String())
	}
	before := s.datagrams()
	p.cmd = client.Command(context.Background(), argv...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.stderr
	s.must(p.cmd.Start())
	s.until(5*time.Second, "the client's datagrams are answered", func() error {
		if n := s.datagrams() - before; n < 60 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	return p
}

// datagrams counts the UDP datagrams that the client received since its network exists.
func (s *scene) datagrams() int {
	s.Helper()
	out, err := s.lab.Host("client").Run(s.Context(), "cat", "/proc/net/snmp")
	s.must(err)
	for line := range strings.Lines(out) { // a line of names, then one of numbers: InDatagrams comes first
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Udp:" {
			if n, err := strconv.Atoi(f[1]); err == nil {
				return n
			}
		}
	}
	s.Fatalf("no count of UDP datagrams in %q", out)
	return 0
}

// end stops the client and returns what it found. It waits a second at most for answers that are still out.
func (p *prober) end() report.Report {
	p.s.Helper()
	p.s.must(p.cmd.Process.Signal(syscall.SIGINT))
	if err := p.cmd.Wait(); err != nil {
		p.s.Fatalf("probe: %v: %s", err, p.stderr.String())
	}
	rep, err := report.Read(&p.out)
	p.s.must(err)
	return rep
}

// during acts while the client sends, and fails the scenario if the client missed more than allowed.
func (s *scene) during(phase string, allowed allowance, act func()) {
	s.Helper()
	p := s.startProbes()
	m := measurement{lab: s.stage.name, scenario: s.name, phase: phase, allowed: allowed, failed: true}
	defer func() { // also where act has ended the scenario
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
		place.mu.Lock()
		place.table = append(place.table, m)
		place.mu.Unlock()
	}()
	began := time.Now()
	act()
	took := time.Since(began)
	s.judge(&m, p.end())
	s.Logf("%s: %v; %s", phase, ms(took), m.summary())
}

// judge compares what the client found with what is allowed.
func (s *scene) judge(m *measurement, rep report.Report) {
	s.Helper()
	m.failed = false
	for i, vip := range lab.VIPs() {
		series, ok := rep.Find("udp", vip)
		if !ok {
			s.Fatalf("the client's report has no %s", vip)
		}
		m.outage[i], m.lost[i] = outage(series), series.Lost
		m.sent += series.Sent
		m.skipped += series.Skipped
		// What was not sent was not lost either: too many of those, and "nothing lost" says nothing. An outage that is
		// allowed is not hidden by them, for it is measured in time.
		if m.allowed.of(i) == 0 && series.Skipped > series.Sent/5+skipsAllowed {
			m.failed = true
			s.Errorf("%s: the client sent %d datagrams to %s and could not send %d in time: this machine is too busy to measure", m.phase, series.Sent, vip, series.Skipped)
		}
		if m.over(i) {
			m.failed = true
			s.Errorf("%s: allowed is %v without %s; %s", m.phase, m.allowed.of(i), vip, series)
			for _, l := range series.Losses {
				s.Logf("lost %d from %s to %s", l.Lost, l.From.Format("15:04:05.000"), l.To.Format("15:04:05.000"))
			}
		}
	}
}

// over says whether the client missed a VIP for longer than allowed.
func (m *measurement) over(vip int) bool {
	if allowed := m.allowed.of(vip); allowed > 0 {
		return m.outage[vip] > allowed
	}
	return m.lost[vip] > 0
}

func (m *measurement) summary() string {
	if m.lost == [3]int{} {
		return fmt.Sprintf("of %d datagrams none was lost", m.sent)
	}
	return fmt.Sprintf("of %d datagrams %v were lost, outages %v %v %v", m.sent, m.lost, ms(m.outage[0]), ms(m.outage[1]), ms(m.outage[2]))
}
