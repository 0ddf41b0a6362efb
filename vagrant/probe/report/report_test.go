package report

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sample() Report {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	return Report{
		Began: at, Ended: at.Add(time.Second),
		Series: []Series{{
			VIP: netip.MustParseAddr("10.20.255.1"), Kind: "udp", Every: 2 * time.Millisecond, Timeout: time.Second,
			Sent: 10, Answered: 7, Lost: 3, Skipped: 1, Late: 1, Duplicates: 2,
			MaxRTT: time.Millisecond, LongestGap: 8 * time.Millisecond, FirstLost: &at, LastLost: &at,
			Losses: []Loss{{From: at, To: at.Add(8 * time.Millisecond), Lost: 3, Gap: 8 * time.Millisecond}},
			Turns:  []Turn{{Node: "lb1", From: at, To: at, Answered: 5}, {Node: "lb2", From: at, To: at, Answered: 2}},
		}},
	}
}

func TestWriteAndRead(t *testing.T) {
	var buf bytes.Buffer
	if err := sample().Write(&buf); err != nil {
		t.Fatal(err)
	}
	if want := `"first_lost": "2026-01-02T03:04:05.678901234Z"`; !strings.Contains(buf.String(), want) {
		t.Errorf("no %s in %s", want, buf.String())
	}
	got, err := Read(&buf)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("got %+v (%v), want %+v", got, err, sample())
	}
}

func TestReadRefusesWhatIsNoReport(t *testing.T) {
	for _, text := range []string{"", "{", `{"other": 1}`, "[]"} {
		if got, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q read as %+v", text, got)
		}
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteTellsOfFailure(t *testing.T) {
	if err := sample().Write(full{}); !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
}

func TestFind(t *testing.T) {
	rep := sample()
	if s, ok := rep.Find("udp", netip.MustParseAddr("10.20.255.1")); !ok || s.Sent != 10 {
		t.Errorf("got %v %v", s, ok)
	}
	if _, ok := rep.Find("http", netip.MustParseAddr("10.20.255.1")); ok {
		t.Error("found a series that is not there")
	}
}

func TestString(t *testing.T) {
	got := sample().Series[0].String()
	for _, want := range []string{"10.20.255.1 udp", "sent 10", "lost 3", "longest gap 8ms", `["lb1" "lb2"]`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}
