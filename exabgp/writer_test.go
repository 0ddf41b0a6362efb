package exabgp

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/sirupsen/logrus"
)

// TestWriter plays the transcripts under testdata/writer. Each has a script and what must follow from it. A script line is
// an instant and an input:
//
//	0s    begin [interactive] [no-track] [progress] [dialect=6] [environ=NAME=VALUE] [drift=4s]
//	1s    table 1: announce 203.0.113.1/32 100; withdraw 203.0.113.2/32 path=7 neighbor=192.0.2.2
//	1s    table 1 since=0.5s: announce 203.0.113.1/32 100 serial=2
//	2s    < done                  a line from ExaBGP
//	3s    hold                    writes do not come back from now on ...
//	4s    release                 ... until now
//	5s    broken                  the write that is held ends with an error
//	6s    eof
//	9s    end
//
// What follows: "> " a write, "! " an event, "^ " the progress of a command since what led to it, "# " a note for the log above debug, "~ " the deadline when the script ends.
func TestWriter(t *testing.T) {
	files, err := filepath.Glob("testdata/writer/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ar.Files[0].Data = bytes.TrimSpace(ar.Files[0].Data)
			p := &player{t: t}
			for _, line := range strings.Split(string(ar.Files[0].Data), "\n") {
				p.play(line)
			}
			want := txtar.File{Name: "follows", Data: []byte(p.out.String())}
			golden(t, file, string(txtar.Format(&txtar.Archive{
				Comment: ar.Comment, Files: []txtar.File{ar.Files[0], want},
			})))
		})
	}
}

// epochStart is the instant 0s of all transcripts.
var epochStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// player drives one Writer on a virtual clock.
type player struct {
	t       *testing.T
	w       *Writer
	now     time.Time
	wake    time.Time
	hold    bool // writes do not come back
	pending bool // one has not
	out     strings.Builder
}

func (p *player) play(line string) {
	at, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	d, err := time.ParseDuration(at)
	if err != nil {
		p.t.Fatalf("script line %q: %v", line, err)
	}
	p.until(epochStart.Add(d))
	rest = strings.TrimSpace(rest)
	word, arg, _ := strings.Cut(rest, " ")
	switch word {
	case "begin":
		opt := Options{Track: !strings.Contains(arg, "no-track"), Interactive: strings.Contains(arg, "interactive")}
		if strings.Contains(arg, "progress") {
			opt.Progress = func(Progress) { p.t.Error("the machine calls out") }
		}
		for word := range strings.FieldsSeq(arg) {
			if text, ok := strings.CutPrefix(word, "dialect="); ok {
				if opt.Dialect, err = ParseDialect(text); err != nil {
					p.t.Fatal(err)
				}
			}
			if text, ok := strings.CutPrefix(word, "drift="); ok {
				if opt.DriftCheck, err = time.ParseDuration(text); err != nil {
					p.t.Fatal(err)
				}
			}
			if text, ok := strings.CutPrefix(word, "environ="); ok {
				opt.Environ = append(opt.Environ, text)
			}
		}
		p.w = NewWriter(opt)
		p.step(Begin{})
	case "table":
		p.step(Told{Table: parseTable(p.t, arg)})
	case "<":
		p.step(Heard{Verdict: Decode([]byte(arg))})
	case "hold":
		p.hold = true
	case "release":
		p.hold = false
		p.returned(nil)
	case "broken":
		p.returned(errors.New("broken pipe"))
	case "eof":
		p.step(Ended{Err: errors.New("EOF")})
	case "end":
		if !p.wake.IsZero() {
			p.print("~", p.wake.Sub(epochStart).String())
		}
	default:
		p.t.Fatalf("script line %q", line)
	}
}

// until moves the clock, stopping wherever the Writer wants a Tick.
func (p *player) until(t time.Time) {
	for !p.wake.IsZero() && !p.wake.After(t) {
		if p.wake.Before(p.now) {
			p.t.Fatalf("at %s: wake %s is over", p.now.Sub(epochStart), p.wake.Sub(epochStart))
		}
		again := p.wake.Equal(p.now)
		p.now = p.wake
		p.step(Tick{})
		if again && p.wake.Equal(p.now) {
			p.t.Fatalf("at %s: wakes without end", p.now.Sub(epochStart))
		}
	}
	p.now = t
}

func (p *player) step(in Input) {
	out := p.w.Step(p.now, in)
	p.wake = out.Wake
	for _, n := range out.Notes {
		if n.Level <= logrus.InfoLevel {
			p.print("#", fmt.Sprintf("%s: %s", n.Level, n.Text))
		}
	}
	for _, g := range out.Progress {
		since := "since what is not known"
		if !g.Since.IsZero() {
			since = g.At.Sub(g.Since).String()
		}
		p.print("^", fmt.Sprintf("%s withdraw=%t %s", g.Stage, g.Withdraw, since))
	}
	for _, ev := range out.Events {
		p.print("!", describe(ev))
	}
	if out.Write == nil {
		return
	}
	if p.pending {
		p.t.Fatalf("at %s: %q written while a write is on its way", p.now.Sub(epochStart), out.Write)
	}
	p.print(">", strconv.Quote(string(out.Write)))
	p.pending = true
	if !p.hold {
		p.returned(nil)
	}
}

func (p *player) returned(err error) {
	if p.pending {
		p.pending = false
		p.step(Written{Err: err})
	}
}

func (p *player) print(mark, text string) {
	fmt.Fprintf(&p.out, "%-7s %s %s\n", p.now.Sub(epochStart), mark, text)
}

// parseTable reads "EPOCH: announce PREFIX MED; withdraw PREFIX", with "path=N", "neighbor=A" and "left" behind a route.
func parseTable(t *testing.T, text string) Table {
	t.Helper()
	epoch, routes, _ := strings.Cut(text, ":")
	var table Table
	if _, err := fmt.Sscan(epoch, &table.Epoch); err != nil {
		t.Fatalf("table %q: %v", text, err)
	}
	if _, since, ok := strings.Cut(epoch, "since="); ok {
		d, err := time.ParseDuration(since)
		if err != nil {
			t.Fatalf("table %q: %v", text, err)
		}
		table.Since = epochStart.Add(d)
	}
	for _, part := range strings.Split(routes, ";") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		r := Route{Prefix: netip.MustParsePrefix(words[1]), Withdraw: words[0] == "withdraw", Left: slices.Contains(words, "left")}
		if !r.Withdraw {
			if _, err := fmt.Sscan(words[2], &r.MED); err != nil {
				t.Fatalf("route %q: %v", part, err)
			}
		}
		for _, word := range words[2:] {
			if text, ok := strings.CutPrefix(word, "path="); ok {
				fmt.Sscan(text, &r.PathID)
			}
			if text, ok := strings.CutPrefix(word, "serial="); ok {
				fmt.Sscan(text, &r.Serial)
			}
			if text, ok := strings.CutPrefix(word, "neighbor="); ok {
				r.Neighbor = netip.MustParseAddr(text)
			}
		}
		table.Routes = append(table.Routes, r)
	}
	return table
}

func TestWriterPanics(t *testing.T) {
	twice := Route{Prefix: netip.MustParsePrefix("203.0.113.1/32")}
	one := twice
	one.Neighbor = netip.MustParseAddr("192.0.2.2")
	for name, in := range map[string]Input{
		"a prefix twice":   Told{Table: Table{Routes: []Route{twice, twice}}},
		"for all and one":  Told{Table: Table{Routes: []Route{twice, one}}},
		"an invalid route": Told{Table: Table{Routes: []Route{{}}}},
		"no input":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "bug: ") {
					t.Errorf("recovered %s", got)
				}
			}()
			NewWriter(Options{}).Step(epochStart, in)
		})
	}
}

// TestWriterIsPure looks for what would make the same inputs give other outputs.
func TestWriterIsPure(t *testing.T) {
	for _, file := range []string{"writer.go", "ribout.go", "drift.go", "decode.go", "encode.go", "dialect.go", "community.go", "route.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt, *ast.ChanType, *ast.SelectStmt:
				t.Errorf("%s: %T", file, n)
			case *ast.SelectorExpr:
				pkg, ok := n.X.(*ast.Ident)
				if ok && pkg.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "NewTimer", "Sleep"}, n.Sel.Name) {
					t.Errorf("%s: reads a clock: time.%s", file, n.Sel.Name)
				}
			case *ast.ImportSpec:
				if slices.Contains([]string{`"os"`, `"io"`, `"sync"`, `"math/rand/v2"`}, n.Path.Value) {
					t.Errorf("%s imports %s", file, n.Path.Value)
				}
			}
			return true
		})
	}
}
