package health

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLastLine(t *testing.T) {
	long := strings.Repeat("x", 1000)
	tests := []struct {
		name   string
		writes []string
		want   string
	}{
		{"nothing", nil, ""},
		{"one line", []string{"a\n"}, "a"},
		{"no newline", []string{"a"}, "a"},
		{"the last of several", []string{"a\nb\nc\n"}, "c"},
		{"an unfinished one counts", []string{"a\nb"}, "b"},
		{"blank ones do not", []string{"a\n \n\n\t\r\n"}, "a"},
		{"blank ones in writes of their own", []string{"a\n", "\n", " ", "\n", " "}, "a"},
		{"joined over writes", []string{"ab", "cd", "e\n"}, "abcde"},
		{"joined, then blank", []string{"ab", "cd\n\n"}, "abcd"},
		{"only blank", []string{"\n\n", " \n"}, ""},
		{"carriage return", []string{"a\r\n"}, "a"},
		{"escape sequences", []string{"\x1b[31mred\x1b[0m\n"}, "[31mred [0m"},
		{"a bell and a null inside", []string{"a\ab\x00c\n"}, "a b c"},
		{"broken UTF-8", []string{"a\xffb\n"}, "a?b"},
		{"long", []string{long + "\n"}, long[:200]},
		{"long in pieces", []string{long, long, "\n"}, long[:200]},
		{"long and then short", []string{long, long, "\nshort\n"}, "short"},
		{"cut between characters", []string{"x" + strings.Repeat("é", 150)}, "x" + strings.Repeat("é", 99)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l lastLine
			for _, w := range tt.writes {
				if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("write %q: %d, %v", w, n, err)
				}
			}
			if got := l.String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLastLineMemoryIsBounded(t *testing.T) {
	var l lastLine
	chunk := []byte(strings.Repeat("y", 1<<20))
	for range 64 {
		l.Write(chunk)
	}
	l.Write([]byte("\n"))
	l.Write(chunk)
	if got := cap(l.part) + cap(l.whole); got > 4*maxLine {
		t.Errorf("%d bytes kept, want no more than %d", got, 4*maxLine)
	}
}

func FuzzLastLine(f *testing.F) {
	f.Add("a\nb\n", 2)
	f.Add("\x1b[2J\xff\n\n", 1)
	f.Fuzz(func(t *testing.T, s string, at int) {
		var whole, split lastLine
		whole.Write([]byte(s))
		at = max(0, min(at, len(s)))
		split.Write([]byte(s[:at]))
		split.Write([]byte(s[at:]))
		got := whole.String()
		if got != split.String() {
			t.Errorf("%q split at %d gives %q, whole gives %q", s, at, split.String(), got)
		}
		if len(got) > maxOutput || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x1b\x00") {
			t.Errorf("%q gives %q", s, got)
		}
	})
}
