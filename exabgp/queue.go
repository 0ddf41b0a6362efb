package exabgp

import "sync"

// queue hands values from one goroutine to another without ever making the first one wait.
type queue[T any] struct {
	ready chan struct{} // holds a token while there may be something to take; one is enough, take empties the queue
	// replaces says whether next makes last, which is not taken yet, superfluous. Nil means never.
	replaces func(last, next T) bool

	mu     sync.Mutex
	values []T
}

func newQueue[T any](replaces func(last, next T) bool) *queue[T] {
	return &queue[T]{ready: make(chan struct{}, 1), replaces: replaces}
}

func (q *queue[T]) put(v T) {
	q.mu.Lock()
	if n := len(q.values); n > 0 && q.replaces != nil && q.replaces(q.values[n-1], v) {
		q.values[n-1] = v
	} else {
		q.values = append(q.values, v)
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default: // the token is there already
	}
}

func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	values := q.values
	q.values = nil
	return values
}
