package exabgp

import (
	"bufio"
	"bytes"
	"io"
)

// lineReader cuts a stream into lines. Unlike bufio.Scanner it does not stop for good at a line that is too long.
type lineReader struct {
	in    *bufio.Reader
	limit int // in bytes, without the newline
	buf   []byte
}

func newLineReader(in io.Reader, limit int) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, 64<<10), limit: limit} // 64 KiB is a whole pipe
}

// next returns the next line without its newline, valid until the next call, and its full length. Where the length is
// more than the limit, the rest of the line was skipped. What follows the last newline is no line: ExaBGP died while
// writing it, and half a line is better not believed.
func (r *lineReader) next() (line []byte, length int, err error) {
	r.buf = r.buf[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		length += len(part)
		if room := r.limit + 1 - len(r.buf); room > 0 { // one more for the newline
			r.buf = append(r.buf, part[:min(room, len(part))]...)
		}
		switch err {
		case nil:
			line = bytes.TrimSuffix(r.buf, []byte("\n"))
			return line[:min(len(line), r.limit)], length - 1, nil
		case bufio.ErrBufferFull:
		default:
			return nil, 0, err
		}
	}
}
