package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacer(t *testing.T) {
	start := time.Unix(100, 0)
	ms := func(n int) time.Time { return start.Add(time.Duration(n) * time.Millisecond) }
	p := pacer{start: start, every: 10 * time.Millisecond}
	steps := []struct {
		now, send, skip, wake int
	}{
		{0, 1, 0, 10},
		{0, 0, 0, 10},  // asked too early
		{12, 1, 0, 20}, // a bit late; the grid stays
		{20, 1, 0, 30}, //
		{55, 3, 0, 60}, // made up for
		{90, 4, 0, 100},
		{140, 5, 0, 150},
		{1000, 5, 81, 1010}, // too many to make up for
	}
	for _, s := range steps {
		send, skip, wake := p.due(ms(s.now))
		if send != s.send || skip != s.skip || !wake.Equal(ms(s.wake)) {
			t.Errorf("at %d: send %d, skip %d, wake at %d; want %+v", s.now, send, skip, wake.Sub(start).Milliseconds(), s)
		}
	}
	early := pacer{start: start, every: time.Millisecond}
	if send, skip, wake := early.due(ms(-3)); send != 0 || skip != 0 || !wake.Equal(start) {
		t.Errorf("before the start: send %d, skip %d, wake at %v", send, skip, wake)
	}
}

func TestPaceDoesNotDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		start, sent, skipped := time.Now(), 0, 0
		pace(ctx, 10*time.Millisecond, func() {
			if at := time.Since(start); at%(10*time.Millisecond) > 3*time.Millisecond {
				t.Errorf("probe %d at %v", sent, at)
			}
			sent++
			time.Sleep(3 * time.Millisecond) // a slow send moves nothing
		}, func(n int) { skipped += n })
		if sent != 1001 || skipped != 0 {
			t.Errorf("%d sent and %d skipped in 10s, want 1001 and 0", sent, skipped)
		}
	})
}

func TestPaceSkipsWhatItCannotSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sent, skipped := 0, 0
		pace(ctx, 10*time.Millisecond, func() {
			if sent++; sent == 10 {
				time.Sleep(500 * time.Millisecond)
			}
		}, func(n int) { skipped += n })
		if skipped != 50-maxBurst || sent != 100-skipped && sent != 101-skipped { // the last is due when ctx ends
			t.Errorf("%d sent and %d skipped, want %d skipped of 100", sent, skipped, 50-maxBurst)
		}
	})
}
