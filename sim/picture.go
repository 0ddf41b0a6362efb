package sim

import (
	"bytes"
	"fmt"
	"html"
	"strings"
	"time"
)

// Picture draws a run: a row for each VIP with the node that answered for it, in its colour, white where nobody did; a mark for
// each fault with its length; and the violation.
func Picture(p Plan, r Result) []byte {
	const left, width, row = 110, 1100, 26
	vips := p.Knobs.Nodes
	x := func(at time.Duration) float64 { return left + width*at.Seconds()/Length.Seconds() }
	height := 40 + vips*row + 20 + len(p.Faults)*14 + 30
	b := &bytes.Buffer{}
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", left+width+20, height)
	fmt.Fprintf(b, `<rect width="100%%" height="100%%" fill="#fff"/><text x="10" y="18" font-size="14">Seed %d: %d nodes, %d ZooKeeper servers</text>`+"\n", p.Knobs.Seed, p.Knobs.Nodes, p.Knobs.Servers)
	for v := range vips {
		y := 32 + v*row
		name := vipOf(v).Addr().String()
		fmt.Fprintf(b, `<text x="10" y="%d">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="#fff" stroke="#888"/>`+"\n", y+14, name, left, y, width, row-6)
		for _, s := range answeredBy(r.Story, name) {
			fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s by %s, %v to %v</title></rect>`+"\n",
				x(s.from), y, x(s.to)-x(s.from), row-6, colours[s.node%len(colours)], name, nodeName(s.node), s.from, s.to)
		}
	}
	y := 32 + vips*row + 12
	for _, f := range p.Faults {
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="9" fill="#c33"/><text x="%.1f" y="%d">%s</text>`+"\n",
			x(f.At), y, max(2, x(f.End())-x(f.At)), x(f.End())+4, y+8, html.EscapeString(f.String()))
		y += 14
	}
	for s := time.Duration(0); s <= Length; s += 30 * time.Second {
		fmt.Fprintf(b, `<line x1="%.1f" y1="28" x2="%.1f" y2="%d" stroke="#0002"/><text x="%.1f" y="%d" text-anchor="middle">%v</text>`+"\n", x(s), x(s), height-18, x(s), height-6, s)
	}
	if v := r.Violation; v != nil {
		fmt.Fprintf(b, `<line x1="%.1f" y1="24" x2="%.1f" y2="%d" stroke="#c00" stroke-width="2"/><text x="%.1f" y="%d" fill="#c00">%s</text>`+"\n",
			x(v.At), x(v.At), height-18, x(v.At)+4, y+8, html.EscapeString(v.Invariant))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

var colours = []string{"#4e79a7", "#f28e2b", "#59a14f", "#76b7b2", "#edc948", "#b07aa1", "#9c755f"}

// span is a time in which one node answered.
type span struct {
	node     int
	from, to time.Duration
}

// answeredBy reads the story of a VIP.
func answeredBy(story []Line, vip string) []span {
	var spans []span
	node, since := -1, time.Duration(0)
	end := Length
	for _, l := range story {
		rest, ok := strings.CutPrefix(l.Text, vip+" is answered by ")
		if !ok {
			continue
		}
		if node >= 0 {
			spans = append(spans, span{node, since, l.At})
		}
		node, since = -1, l.At
		fmt.Sscanf(rest, "node%d", &node)
		if node > 0 {
			node--
		}
	}
	if node >= 0 {
		spans = append(spans, span{node, since, end})
	}
	return spans
}
