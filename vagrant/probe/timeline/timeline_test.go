package timeline

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"exazk/vagrant/probe/report"
)

var update = flag.Bool("update", false, "rewrite the golden file")

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }

func series(vip, kind string, turns []report.Turn, losses ...report.Loss) report.Series {
	return report.Series{VIP: netip.MustParseAddr(vip), Kind: kind, Every: 2 * time.Millisecond, Turns: turns, Losses: losses}
}

func loss(from, to float64) report.Loss {
	return report.Loss{From: at(from), To: at(to), Lost: int((to - from) * 500), Gap: at(to).Sub(at(from))}
}

// failover: lb1's web server stops and starts again; some single probes are lost as well, one at the very end.
func failover() (report.Report, []Mark) {
	rep := report.Report{Began: began, Ended: at(11), Series: []report.Series{
		series("10.20.255.1", "udp", []report.Turn{
			{Node: "lb1", From: at(0), To: at(1.998), Answered: 1000},
			{Node: "lb2", From: at(3.204), To: at(6), Answered: 1399},
			{Node: "lb1", From: at(6.002), To: at(9.99), Answered: 1990},
		}, loss(1.998, 3.204), loss(3.3, 3.304), loss(7, 7.004), loss(9.996, 10)),
		series("10.20.255.2", "udp", []report.Turn{{Node: "lb2", From: at(0), To: at(10), Answered: 5000}}),
		series("10.20.255.3", "http", nil),
	}}
	return rep, []Mark{
		{at(6), "web server of lb1 starts"},
		{at(2), "web server of lb1 stops"},
		{at(2.2), `and <this> & "that"`},
		{at(9.9), "the end, which is near the right edge"},
	}
}

func draw(t *testing.T, rep report.Report, marks []Mark) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, "Check failure & return", rep, marks); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	rep, marks := failover()
	got := draw(t, rep, marks)
	path := filepath.Join("testdata", "failover.svg")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%v; the picture differs from %s, see what \"go test -update\" makes of it:\n%s", err, path, got)
	}
}

func TestEveryPictureIsWellFormed(t *testing.T) {
	rep, marks := failover()
	flapping := report.Report{Began: began, Series: []report.Series{series("2001:db8::1", "udp", nil)}}
	for i := range 500 {
		flapping.Series[0].Losses = append(flapping.Series[0].Losses, loss(float64(i), float64(i)+0.3))
		flapping.Series[0].Turns = append(flapping.Series[0].Turns, report.Turn{Node: string(rune('a' + i%9)), From: at(float64(i)), To: at(float64(i) + 0.5)})
	}
	for name, text := range map[string]string{
		"failover":        draw(t, rep, marks),
		"nothing":         draw(t, report.Report{}, nil),
		"mark beforehand": draw(t, rep, []Mark{{at(-5), "early"}}),
		"flapping":        draw(t, flapping, nil),
	} {
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
		}
		if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") || strings.Contains(text, `"-`) {
			t.Errorf("%s: a coordinate is no number or outside:\n%s", name, text)
		}
		if strings.Contains(strings.Replace(text, "http://www.w3.org/2000/svg", "", 1), "://") {
			t.Errorf("%s: it refers to something outside", name)
		}
	}
}

// A reader must find the longest loss's length however many there are, and no two texts on top of each other.
func TestLongestGapIsNamed(t *testing.T) {
	var losses []report.Loss
	for i := range 300 {
		losses = append(losses, loss(float64(i)/10, float64(i)/10+0.002*float64(i%7+1)))
	}
	losses[150] = loss(15, 15.044)
	rep := report.Report{Began: began, Series: []report.Series{series("10.20.255.1", "udp", nil, losses...)}}
	got := draw(t, rep, nil)
	if !strings.Contains(got, ">44 ms</text>") {
		t.Error("the longest gap has no length")
	}
	if n := strings.Count(got, `class="gap"`); n < 5 || n > 22 {
		t.Errorf("%d lengths on 766 pixels", n)
	}
}

func TestMarksDoNotOverlap(t *testing.T) {
	var marks []Mark
	for i := range 6 {
		marks = append(marks, Mark{at(1 + float64(i)/100), "a mark close to others"})
	}
	p := newPicture("", report.Report{Began: began, Series: []report.Series{series("10.20.255.1", "udp", nil, loss(9, 10))}}, marks)
	rows := map[int]bool{}
	for _, l := range p.lanes {
		rows[l.row] = true
	}
	if len(rows) != len(marks) {
		t.Errorf("%d marks at one place are in %d lanes", len(marks), len(rows))
	}
}

func TestStep(t *testing.T) {
	for span, want := range map[time.Duration]time.Duration{
		time.Millisecond: time.Millisecond, 9 * time.Second: time.Second, 13 * time.Second: 2 * time.Second,
		3 * time.Minute: 20 * time.Second, 5 * time.Minute: 50 * time.Second,
	} {
		if got := step(span); got != want {
			t.Errorf("%v: ticks %v apart, want %v", span, got, want)
		}
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteTellsOfFailure(t *testing.T) {
	if err := Write(full{}, "", report.Report{}, nil); !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
}
