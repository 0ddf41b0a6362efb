package health

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxOutput = 200           // bytes of Result.Output
	maxLine   = 2 * maxOutput // bytes kept of a line: some more, because what is not printable is thrown away later
)

// lastLine is a writer that keeps the last line that is not blank, cut to maxLine bytes. Its memory is bounded, it
// accepts everything, and it looks only at the end of what it gets.
type lastLine struct {
	whole []byte // the last line that ended and was not blank
	part  []byte // what came after the last newline
}

// Write implements io.Writer; it never fails.
func (l *lastLine) Write(p []byte) (int, error) {
	n := len(p)
	end := bytes.LastIndexByte(p, '\n')
	if end >= 0 {
		l.finish(p[:end])
		l.part = l.part[:0]
	}
	l.part = appendBounded(l.part, p[end+1:])
	return n, nil
}

// finish looks through lines, from the last to the first, for one that is not blank. The first continues l.part.
func (l *lastLine) finish(lines []byte) {
	for {
		start := bytes.LastIndexByte(lines, '\n')
		line := lines[start+1:]
		if start < 0 {
			line = appendBounded(l.part, line)
		}
		if !isBlank(line) {
			l.whole = appendBounded(l.whole[:0], line)
			return
		}
		if start < 0 {
			return
		}
		lines = lines[:start]
	}
}

// String is the line in printable form: at most maxOutput bytes of valid UTF-8 without control characters.
func (l *lastLine) String() string {
	line := l.part
	if isBlank(line) {
		line = l.whole
	}
	return printable(string(line))
}

func isBlank(line []byte) bool {
	return len(bytes.TrimSpace(line[:min(len(line), maxLine)])) == 0
}

func appendBounded(to, from []byte) []byte {
	return append(to, from[:min(len(from), maxLine-len(to))]...)
}

// printable makes s fit for a log and for a terminal: escape sequences and line breaks become spaces.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) <= maxOutput {
		return s
	}
	cut := maxOutput
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
