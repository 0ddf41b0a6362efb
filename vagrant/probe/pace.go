package main

import (
	"context"
	"time"
)

// maxBurst is how many probes may be sent at once to make up for a wake-up that came late. A longer burst would say more
// about the prober's host than about the way to the VIP.
const maxBurst = 5

// pacer says when probes are due, on a grid that does not drift: the n-th is due n intervals after the start.
type pacer struct {
	start time.Time
	every time.Duration
	next  int // the n of the next one
}

// due returns how many probes to send now, how many to leave out before them, and when to ask again.
func (p *pacer) due(now time.Time) (send, skip int, wake time.Time) {
	if behind := now.Sub(p.start); behind >= 0 {
		send = int(behind/p.every) + 1 - p.next
	}
	skip = max(0, send-maxBurst)
	p.next += send
	return send - skip, skip, p.start.Add(time.Duration(p.next) * p.every)
}

// pace calls send for each probe until ctx is done.
func pace(ctx context.Context, every time.Duration, send func(), skip func(int)) {
	p := pacer{start: time.Now(), every: every}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now, late, wake := p.due(time.Now())
		if late > 0 {
			skip(late)
		}
		for range now {
			send()
		}
		timer.Reset(time.Until(wake))
	}
}
