package exa

import (
	"io"
	"slices"
	"syscall"
	"time"

	"exazk/exabgp"
)

const (
	pipeSize   = 64 << 10 // what a Linux pipe takes: pipe(7)
	pipeUnit   = 4 << 10  // PIPE_BUF: a write up to this is taken whole or not at all
	fileBuffer = 8 << 10  // of a file in Python

	readSize = 16 << 10 // what ExaBGP 4.2 reads of a process in one round (Processes.received)
)

// Pipes are the two pipes between ExaBGP and one life of its process.
type Pipes struct {
	x      *ExaBGP
	onLine func(exabgp.Input)
	onEnd  func(error)

	// To the process.
	in      []*line // written by ExaBGP and not read
	spare   []*line // to be used again
	size    int     // of them, in bytes
	over    []*line // not taken by the full pipe: ExaBGP stands in its write
	due     time.Time
	deliver func()

	// From the process.
	out  []byte // not read by ExaBGP; the end of buf
	buf  []byte
	wait []write

	started bool     // the process runs
	stopped bool     // it is stopped
	late    []func() // what it would have been told meanwhile
	exited  bool     // it ended
	unseen  bool     // ExaBGP had just looked whether it does
	lost    int      // bytes written to it since
	closed  bool     // its standard output was
	ended   bool     // ExaBGP did
	told    bool     // that was read
}

// write is one that the pipe has not taken whole.
type write struct {
	text []byte
	done func(error)
}

func newPipes(x *ExaBGP) *Pipes {
	p := &Pipes{x: x}
	p.deliver = p.read
	return p
}

// OnLine has f called with the exabgp.Heard of each line, in order. It is to be set while Program.Start runs.
func (p *Pipes) OnLine(f func(exabgp.Input)) { p.onLine = f }

// OnEnd has f called after the last line: ExaBGP ended.
func (p *Pipes) OnEnd(f func(error)) { p.onEnd = f }

// Write is a write of the process. done is called once the pipe has taken all of it, with EPIPE if ExaBGP is gone: soon, but
// never before Write returns, and it may come after the answer. It keeps no reference to text.
func (p *Pipes) Write(text []byte, done func(error)) {
	if p.exited {
		return
	}
	if len(p.wait) == 0 && !p.ended {
		text = p.take(text)
	}
	if len(text) == 0 || p.ended {
		p.finish(done)
		return
	}
	p.wait = append(p.wait, write{append([]byte(nil), text...), done})
}

// take puts into the pipe what it has room for, and returns the rest.
func (p *Pipes) take(text []byte) []byte {
	n := min(len(text), pipeSize-len(p.out))
	if n < len(text) && len(text) <= pipeUnit {
		n = 0
	}
	if n == 0 {
		return text
	}
	if len(p.out) == 0 {
		p.out = p.buf[:0]
	}
	p.out = append(p.out, text[:n]...)
	p.buf = p.out[:0]
	p.x.wake(p.x.lag())
	return text[n:]
}

// finish ends a write. Which of two the process sees first, that or the answer, is chance.
func (p *Pipes) finish(done func(error)) {
	delay := time.Duration(0)
	if p.x.r.IntN(8) == 0 {
		delay = time.Duration(p.x.r.Int64N(int64(2 * time.Millisecond)))
	}
	p.x.clock.After(delay, func() {
		p.tell(func() {
			if p.ended {
				done(syscall.EPIPE)
			} else {
				done(nil)
			}
		})
	})
}

// tell lets the process know something, at once or when it goes on.
func (p *Pipes) tell(f func()) {
	switch {
	case p.exited:
	case p.stopped:
		p.late = append(p.late, f)
	default:
		f()
	}
}

// drain takes up to n bytes out of the pipe for ExaBGP. The text is valid until the next write.
func (p *Pipes) drain(n int) []byte {
	n = min(n, len(p.out))
	text := p.out[:n]
	p.out = p.out[n:]
	return text
}

// refill lets waiting writes go on after a drain.
func (p *Pipes) refill() {
	for len(p.wait) > 0 {
		w := &p.wait[0]
		w.text = p.take(w.text)
		if len(w.text) > 0 {
			return
		}
		done := w.done
		p.wait = p.wait[1:]
		p.finish(done)
	}
}

// put is ExaBGP's write of a line. It is false where the pipe does not take it: then ExaBGP stands still until it does. The
// end of the process does not show at once: a write to nobody fails in the flush of a buffered file, which ExaBGP only logs.
// Beyond 8 KiB the write itself fails, before ExaBGP has looked for the end: that ends ExaBGP 4.2.
func (p *Pipes) put(l *line) bool {
	switch {
	case p.exited:
		if p.lost += l.size; p.lost > fileBuffer {
			p.x.crash()
		}
		return true
	case len(p.over) > 0 || p.size+l.size > pipeSize:
		p.over = append(p.over, l)
		return false
	}
	p.in = append(p.in, l)
	p.size += l.size
	p.schedule()
	return true
}

// schedule has the process read what is in the pipe, a little later.
func (p *Pipes) schedule() {
	if !p.started || p.stopped || p.exited || p.due.After(p.x.clock.Now()) {
		return
	}
	p.due = p.x.clock.Now().Add(20*time.Microsecond + time.Duration(p.x.r.Int64N(int64(500*time.Microsecond))))
	p.x.clock.At(p.due, p.deliver)
}

// read is the process reading all that is in the pipe.
func (p *Pipes) read() {
	if p.stopped || p.exited || p.due != p.x.clock.Now() {
		return
	}
	p.due = time.Time{}
	lines := p.in
	p.in, p.size, p.spare = p.spare[:0], 0, nil
	for i := range lines {
		if p.stopped || p.exited { // by what a line brought about
			p.in = append(slices.Clone(lines[i:]), p.in...)
			break
		}
		if p.onLine != nil {
			p.onLine(lines[i].heard)
		}
	}
	p.size = sizeOf(p.in)
	clear(lines)
	p.spare = lines
	p.drained()
}

func sizeOf(lines []*line) (size int) {
	for _, l := range lines {
		size += l.size
	}
	return size
}

// drained lets ExaBGP go on where the pipe has room again, and tells the process of the end behind the last line.
func (p *Pipes) drained() {
	if len(p.over) > 0 && !p.exited {
		over := p.over
		p.over = nil
		for _, l := range over {
			p.put(l)
		}
	}
	if len(p.over) == 0 && p.x.pipes == p {
		p.x.unblock()
	}
	if p.ended && len(p.in) == 0 && !p.told && !p.stopped && !p.exited {
		p.told = true
		if p.onEnd != nil {
			p.onEnd(io.EOF)
		}
	}
}

// end is ExaBGP's.
func (p *Pipes) end() {
	p.ended, p.over, p.out = true, nil, nil
	for _, w := range p.wait {
		p.finish(w.done)
	}
	p.wait = nil
	p.schedule()
}

// Stop is SIGSTOP for the process: it reads nothing and is told nothing.
func (p *Pipes) Stop() { p.stopped = true }

// Resume is SIGCONT.
func (p *Pipes) Resume() {
	if !p.stopped {
		return
	}
	p.stopped = false
	late := p.late
	p.late = nil
	for _, f := range late {
		p.tell(f)
	}
	p.due = time.Time{}
	if len(p.in) > 0 || p.ended && !p.told {
		p.schedule()
	}
}

// Exited says that the process ended. ExaBGP starts another one.
func (p *Pipes) Exited() {
	if p.exited {
		return
	}
	p.exited, p.unseen = true, p.x.r.IntN(4) == 0
	p.in, p.size, p.over, p.late, p.wait = nil, 0, nil, nil, nil
	p.x.exited(p)
}

// Close says that the process closed its standard output and goes on. ExaBGP ends it and starts another one.
func (p *Pipes) Close() {
	p.closed = true
	p.x.exited(p)
}
