package vclock

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestOrder(t *testing.T) {
	c := New(start)
	var got []string
	note := func(s string) func() {
		return func() { got = append(got, fmt.Sprintf("%v %s", c.Now().Sub(start), s)) }
	}
	c.After(2*time.Second, note("c"))
	c.After(time.Second, func() {
		note("a")()
		c.After(0, note("a's"))
		c.At(start, note("past"))
	})
	c.After(time.Second, note("b"))
	stopped := c.Timer(start.Add(time.Second), note("stopped"))
	c.Stop(stopped)
	c.Stop(stopped)
	c.Stop(nil)
	c.After(4*time.Second, note("too late"))
	c.Run(start.Add(3 * time.Second))
	want := []string{"1s a", "1s b", "1s a's", "1s past", "2s c"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if next, ok := c.Next(); !ok || next != start.Add(4*time.Second) || c.Now() != start.Add(3*time.Second) {
		t.Errorf("next is %v %v, now %v", next, ok, c.Now())
	}
}

// TestRandom stops and adds at random, and compares with sorting.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		c := New(start)
		type entry struct {
			at    int
			n     int
			timer *Timer
		}
		var all []entry
		var got, want []int
		for n := range 100 {
			at := r.IntN(20)
			all = append(all, entry{at, n, c.Timer(start.Add(time.Duration(at)), func() { got = append(got, n) })})
			if r.IntN(3) == 0 {
				i := r.IntN(len(all))
				c.Stop(all[i].timer)
				all = slices.Delete(all, i, i+1)
			}
		}
		slices.SortStableFunc(all, func(a, b entry) int { return a.at - b.at })
		for _, e := range all {
			want = append(want, e.n)
		}
		c.Run(start.Add(time.Second))
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}
