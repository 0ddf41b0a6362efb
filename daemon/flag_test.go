package daemon

import (
	"strings"
	"testing"
	"time"
)

func TestParseFlag(t *testing.T) {
	for data, want := range map[string]string{
		"":                 "",
		"kernel upgrade":   "kernel upgrade",
		" two\nlines\x00 ": "two lines",
		"\xff\xfe":         "?",
		`{"reason":"disk","who":"ann@lb1","until":"2026-01-02T03:04:05Z"}`: "disk, by ann@lb1, until 2026-01-02T03:04:05Z",
		`{"reason":"disk","until":"9999-12-31T23:59:59-23:00"}`:            "disk", // the year 10000 cannot be written as JSON
		`{"until":"tomorrow"}`:   `{"until":"tomorrow"}`,
		`["not","ours"]`:         `["not","ours"]`,
		strings.Repeat("ä", 300): strings.Repeat("ä", 100),
	} {
		f := ParseFlag([]byte(data))
		if got := f.String(); got != want {
			t.Errorf("%q: got %q, want %q", data, got, want)
		}
		if string(f.Data) != data {
			t.Errorf("%q: data %q", data, f.Data)
		}
	}
	f := ParseFlag([]byte(`{"until":"2026-01-02T03:04:05Z"}`))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if f.over(at.Add(-time.Nanosecond)) || !f.over(at) {
		t.Error("until is not when it ends")
	}
}
