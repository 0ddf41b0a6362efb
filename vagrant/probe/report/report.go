// Package report holds what vagrant/probe found out, as it writes it in JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// MaxEntries bounds Series.Losses and Series.Turns; what happened beyond it is in the numbers only.
const MaxEntries = 1000

// Report is one run of the prober. Instants are RFC 3339 with nanoseconds, by the prober's clock.
type Report struct {
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"` // after the wait for the last answers
	Series []Series  `json:"series"`
}

// Series is the result of one kind of probe to one VIP. Sent is the sum of Answered and Lost.
type Series struct {
	VIP     netip.Addr    `json:"vip"`
	Kind    string        `json:"kind"`       // udp | http
	Every   time.Duration `json:"every_ns"`   // between two probes
	Timeout time.Duration `json:"timeout_ns"` // an answer later than this is none

	Sent     int `json:"sent"`     // refused by our own kernel included
	Answered int `json:"answered"` // by their timeout
	Lost     int `json:"lost"`
	Skipped  int `json:"skipped"` // never sent, because the prober itself was not run in time; neither lost nor a gap

	Late       int `json:"late"`       // answers after their timeout; their probes are lost
	Duplicates int `json:"duplicates"` // answers beyond the first, within the timeout

	MaxRTT     time.Duration `json:"max_rtt_ns"`     // of the answered
	LongestGap time.Duration `json:"longest_gap_ns"` // the longest Loss.Gap; 0 if nothing was lost

	FirstLost *time.Time `json:"first_lost,omitempty"` // when it was sent
	LastLost  *time.Time `json:"last_lost,omitempty"`
	Losses    []Loss     `json:"losses"` // in order, at most MaxEntries
	Turns     []Turn     `json:"turns"`  // in order, at most MaxEntries
}

// Loss is a row of lost probes.
type Loss struct {
	From time.Time     `json:"from"`   // when the last answered probe before it was sent; the first lost one if none was
	To   time.Time     `json:"to"`     // when the first answered probe after it was sent; the last lost one if none was
	Lost int           `json:"lost"`   // probes
	Gap  time.Duration `json:"gap_ns"` // from From to To
}

// Turn is a row of probes that the same node answered, lost ones between them left out. Probes are in the order of
// sending, so that answers which overtake each other make no turn.
type Turn struct {
	Node     string    `json:"node"`     // what followed the probe in its answer, or the first line of the HTTP body
	From     time.Time `json:"from"`     // when the first of them was sent
	To       time.Time `json:"to"`       // when the last of them was sent
	Answered int       `json:"answered"` // probes
}

// Read decodes a report.
func Read(r io.Reader) (Report, error) {
	var rep Report
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&rep); err != nil {
		return Report{}, fmt.Errorf("read probe report: %w", err)
	}
	return rep, nil
}

// Write encodes the report.
func (rep Report) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(rep); err != nil {
		return fmt.Errorf("write probe report: %w", err)
	}
	return nil
}

// Find returns the series of one kind to one VIP.
func (rep Report) Find(kind string, vip netip.Addr) (Series, bool) {
	for _, s := range rep.Series {
		if s.Kind == kind && s.VIP == vip {
			return s, true
		}
	}
	return Series{}, false
}

// Nodes are the answering nodes in the order of their turns.
func (s Series) Nodes() []string {
	var nodes []string
	for _, t := range s.Turns {
		nodes = append(nodes, t.Node)
	}
	return nodes
}

// String is one line for people.
func (s Series) String() string {
	return fmt.Sprintf("%v %s: sent %d, lost %d, longest gap %v, late %d, duplicates %d, skipped %d, slowest answer %v, answered by %q",
		s.VIP, s.Kind, s.Sent, s.Lost, s.LongestGap.Round(time.Millisecond), s.Late, s.Duplicates, s.Skipped,
		s.MaxRTT.Round(10*time.Microsecond), s.Nodes())
}
