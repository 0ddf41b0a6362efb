package zkstate

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Raw is a client connection as a Session opens it, with nobody who decides anything: it is there to be compared with a
// model of it.
type Raw struct {
	client client
	push   func(Input)
	wg     sync.WaitGroup
}

// DialRaw makes a client connection of that number. It calls push from several goroutines, some of which hold locks of the
// client library: push must only note what it gets. Servers are addresses; names are not looked up. A bad list of them is
// the only error.
func DialRaw(servers []string, timeout time.Duration, number uint64, push func(Input), log *logrus.Entry) (*Raw, error) {
	h, err := newHosts(servers, log)
	if err != nil {
		return nil, err
	}
	c, err := connect(h, timeout, number, push, nil, log)
	if err != nil {
		return nil, err
	}
	return &Raw{client: c, push: push}, nil
}

// Send asks for a call to be carried out. Its one Result is pushed, however late.
func (r *Raw) Send(call Call) { r.wg.Go(func() { r.push(do(r.client, call)) }) }

// Close ends the session if the server answers within a second, fails what has no result yet and waits for that.
func (r *Raw) Close() {
	r.client.Close()
	r.wg.Wait()
}
