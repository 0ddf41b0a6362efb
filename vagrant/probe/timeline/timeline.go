// Package timeline draws a report of vagrant/probe as a picture: a row for each series in the color of the node that
// answered, losses in red with their length, and what was done to the network at its moment.
//
// The picture is SVG, 900 pixels wide, with everything in it and nothing fetched. It follows the viewer's choice of a light
// or dark page. Equal input gives an equal file.
package timeline

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"exazk/vagrant/probe/report"
)

// Mark is something that happened.
type Mark struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"` // a few words
}

// Measures in pixels.
const (
	width     = 900.0
	left      = 118.0 // where time begins; the names of the rows are before it
	right     = 884.0 // where it ends
	titleLine = 24.0
	legend    = 44.0 // base line of the legend
	lanesTop  = 58.0 // the marks' texts stand below it, in lanes
	laneHigh  = 15.0
	rowHigh   = 20.0
	rowStep   = 42.0 // room for the lengths of losses above each row
	charWide  = 6.3  // of the small font, at most, on average
	leastLoss = 2.0  // a loss is never narrower
)

// nodeColors is how many nodes have a color of their own; further ones begin again.
const nodeColors = 6

// The colors of nodes are apart from each other and from red for the color-blind as well (Paul Tol's schemes).
const style = `
text{font:11px ui-sans-serif,system-ui,"Segoe UI",Helvetica,Arial,sans-serif;fill:#333}
.title{font-size:14px;font-weight:600;fill:#111}
.back{fill:#fff}.track{fill:#eee}.grid{stroke:#ddd}.mark{stroke:#555;stroke-dasharray:3 3}
.lost{fill:#d7191c}.gap{fill:#b00000;font-weight:600}
.n0{fill:#4477aa}.n1{fill:#ccbb44}.n2{fill:#228833}.n3{fill:#66ccee}.n4{fill:#aa3377}.n5{fill:#999}
@media (prefers-color-scheme:dark){
text{fill:#ccc}.title{fill:#eee}
.back{fill:#0d1117}.track{fill:#222b36}.grid{stroke:#333}.mark{stroke:#aaa}
.lost{fill:#ff4d4d}.gap{fill:#ff8080}
.n0{fill:#6699cc}.n1{fill:#ddcc66}.n2{fill:#44aa66}.n3{fill:#88ddff}.n4{fill:#cc6699}.n5{fill:#aaa}
}
`

// Write draws the report. Series without a probe get an empty row.
func Write(w io.Writer, title string, rep report.Report, marks []Mark) error {
	p := newPicture(title, rep, marks)
	p.draw()
	if _, err := w.Write(p.out.Bytes()); err != nil {
		return fmt.Errorf("write timeline: %w", err)
	}
	return nil
}

type picture struct {
	title    string
	rep      report.Report
	marks    []Mark // by time
	nodes    []string
	from, to time.Time
	lanes    []lane // of marks, by index
	rowsTop  float64
	out      bytes.Buffer
}

// lane is where the text of a mark stands.
type lane struct {
	row    int
	x      float64
	anchor string // start | end
}

func newPicture(title string, rep report.Report, marks []Mark) *picture {
	p := &picture{title: title, rep: rep, marks: slices.Clone(marks)}
	slices.SortStableFunc(p.marks, func(a, b Mark) int { return a.At.Compare(b.At) })
	p.span()
	for _, s := range rep.Series {
		for _, node := range s.Nodes() {
			if !slices.Contains(p.nodes, node) {
				p.nodes = append(p.nodes, node)
			}
		}
	}
	slices.Sort(p.nodes)
	rows := p.placeMarks()
	p.rowsTop = lanesTop + laneHigh*float64(rows) + 6
	return p
}

// span finds the time that the picture shows: from the start of the report to the last probe or mark. The report's own end
// is later, by the wait for answers.
func (p *picture) span() {
	p.from, p.to = p.rep.Began, p.rep.Began.Add(time.Millisecond) // never empty
	cover := func(at time.Time) {
		if at.Before(p.from) {
			p.from = at
		}
		if at.After(p.to) {
			p.to = at
		}
	}
	for _, s := range p.rep.Series {
		for _, t := range s.Turns {
			cover(t.To)
		}
		for _, l := range s.Losses {
			cover(l.To)
		}
	}
	for _, m := range p.marks {
		cover(m.At)
	}
}

func (p *picture) x(at time.Time) float64 {
	return left + (right-left)*float64(at.Sub(p.from))/float64(p.to.Sub(p.from))
}

// placeMarks gives each mark's text the first lane in which it touches no other, and returns the number of lanes.
func (p *picture) placeMarks() int {
	var ends []float64 // of the last text of each lane
	for _, m := range p.marks {
		at, wide := p.x(m.At), charWide*float64(len([]rune(m.Text)))+6
		l := lane{x: at + 3, anchor: "start"}
		begin := at
		if at+wide > width {
			l.x, l.anchor, begin = at-3, "end", at-wide
		}
		l.row = slices.IndexFunc(ends, func(end float64) bool { return end <= begin })
		if l.row < 0 {
			l.row = len(ends)
			ends = append(ends, 0)
		}
		ends[l.row] = begin + wide
		p.lanes = append(p.lanes, l)
	}
	return len(ends)
}

func (p *picture) print(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

// text writes a text with its class and anchor, either of which may be empty.
func (p *picture) text(x, y float64, class, anchor, text string) {
	attrs := ""
	if class != "" {
		attrs += fmt.Sprintf(" class=%q", class)
	}
	if anchor != "" && anchor != "start" {
		attrs += fmt.Sprintf(" text-anchor=%q", anchor)
	}
	p.print(`<text x="%.1f" y="%.1f"%s>%s</text>`, x, y, attrs, escape(text))
}

func (p *picture) rect(class string, x, y, w, h float64, tip string) {
	p.print(`<rect class=%q x="%.2f" y="%.1f" width="%.2f" height="%.1f"><title>%s</title></rect>`, class, x, y, w, h, escape(tip))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

func (p *picture) draw() {
	bottom := p.rowsTop + rowStep*float64(len(p.rep.Series)) + 4
	high := bottom + 28
	p.print(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s">`,
		width, high, width, high, escape(p.title))
	p.print("<style>%s</style>", style)
	p.print(`<rect class="back" width="%.0f" height="%.0f" rx="6"/>`, width, high)
	p.text(16, titleLine, "title", "", p.title)
	p.drawLegend()
	p.drawAxis(bottom)
	for i, s := range p.rep.Series {
		p.drawRow(s, p.rowsTop+rowStep*float64(i)+rowStep-rowHigh)
	}
	p.drawMarks(bottom)
	p.print("</svg>")
}

func (p *picture) drawLegend() {
	x := 16.0
	entry := func(class, text string) {
		p.print(`<rect class=%q x="%.1f" y="%.1f" width="10" height="10"/>`, class, x, legend-9)
		p.text(x+14, legend, "", "", text)
		x += 14 + charWide*float64(len([]rune(text))) + 16
	}
	for _, node := range p.nodes {
		entry(p.color(node), node+" answers")
	}
	entry("lost", "lost")
}

func (p *picture) color(node string) string {
	return fmt.Sprintf("n%d", slices.Index(p.nodes, node)%nodeColors)
}

// step is the time between two ticks of the axis: of 1, 2 and 5 times a power of ten, the least that makes at most 12.
func step(span time.Duration) time.Duration {
	for unit := time.Millisecond; ; unit *= 10 {
		for _, n := range []time.Duration{1, 2, 5} {
			if span/(n*unit) <= 12 {
				return n * unit
			}
		}
	}
}

func (p *picture) drawAxis(bottom float64) {
	span := p.to.Sub(p.from)
	for at := time.Duration(0); at <= span; at += step(span) {
		x := p.x(p.from.Add(at))
		p.print(`<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, x, p.rowsTop, x, bottom)
		p.text(x, bottom+16, "", "middle", fmt.Sprintf("%g s", at.Seconds()))
	}
}

func (p *picture) drawRow(s report.Series, y float64) {
	name := s.VIP.String()
	if s.Kind != "udp" {
		name += " " + s.Kind
	}
	p.text(left-8, y+14, "", "end", name)
	p.print(`<rect class="track" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, left, y, right-left, rowHigh)
	for _, t := range s.Turns {
		from, to := p.x(t.From), p.x(t.To.Add(s.Every)) // a probe stands for the time until the next
		to = min(to, right)
		p.rect(p.color(t.Node), from, y, max(to-from, 0.5), rowHigh, fmt.Sprintf("%s answered %d probes", t.Node, t.Answered))
	}
	for _, l := range s.Losses {
		x, wide := p.lossAt(l)
		p.rect("lost", x, y-2, wide, rowHigh+4, fmt.Sprintf("%d lost in %v", l.Lost, l.Gap.Round(time.Millisecond)))
	}
	p.drawGaps(s.Losses, y-6)
}

func (p *picture) lossAt(l report.Loss) (x, wide float64) {
	x, wide = p.x(l.From), max(p.x(l.To)-p.x(l.From), leastLoss)
	return min(x, right-wide), wide
}

// drawGaps writes the lengths of losses above them, the longest first; one that would run into another is left out.
func (p *picture) drawGaps(losses []report.Loss, y float64) {
	type span struct{ from, to float64 }
	var taken []span
	for _, l := range slices.SortedStableFunc(slices.Values(losses), func(a, b report.Loss) int { return int(b.Gap - a.Gap) }) {
		x, wide := p.lossAt(l)
		text := fmt.Sprintf("%d ms", l.Gap.Milliseconds())
		half := charWide*float64(len(text))/2 + 3
		mid := min(max(x+wide/2, left+half), width-half)
		here := span{mid - half, mid + half}
		if slices.ContainsFunc(taken, func(o span) bool { return here.from < o.to && o.from < here.to }) {
			continue
		}
		taken = append(taken, here)
		p.text(mid, y, "gap", "middle", text)
	}
}

func (p *picture) drawMarks(bottom float64) {
	for i, m := range p.marks {
		x, l := p.x(m.At), p.lanes[i]
		y := lanesTop + laneHigh*float64(l.row)
		p.print(`<line class="mark" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, x, y, x, bottom)
		p.text(l.x, y+11, "", l.anchor, m.Text)
	}
}
