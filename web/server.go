package web

import (
	"bytes"
	"context"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"
)

const (
	// retryEvery is for an address that cannot be listened on: it may be a VIP that is not there yet, or belong to the process
	// before this one for a moment.
	retryEvery = 2 * time.Second
	// maxConnections, for each address, is far below the usual limit of 1024 file descriptors. Who comes later takes the place of who
	// asks for nothing, or waits where all do.
	maxConnections = 128
	// maxHeader is what a browser sends, several times over.
	maxHeader = 16 << 10
	// headerTime is how long a request may take to arrive.
	headerTime = 5 * time.Second
	// writeTime is how long an answer, or one event of a stream, may take to leave.
	writeTime = 10 * time.Second
	idleTime  = time.Minute
	// faultEvery is the least time between two lines about a handler.
	faultEvery = 10 * time.Second
)

// Server listens on the addresses that it is told to, as far as they can be.
type Server struct {
	handler http.Handler
	log     *logrus.Entry
	wanted  chan []netip.AddrPort // of room one: the newest
}

// New makes a Server that listens nowhere yet.
func New(o Options, log *logrus.Entry) *Server {
	return &Server{handler: newHandler(o), log: log, wanted: make(chan []netip.AddrPort, 1)}
}

// Listen has the server listen on exactly these addresses from now on. Connections to those that stay go on. It never waits, and
// is called by one goroutine at a time.
func (s *Server) Listen(addrs []netip.AddrPort) {
	select {
	case <-s.wanted:
	default:
	}
	s.wanted <- addrs
}

// Run serves until ctx is done, and then cuts every connection at once: nobody may keep the process from ending. It returns nil
// and never before that, whatever happens to a listener.
func (s *Server) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	stops := map[netip.AddrPort]func(){}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case addrs := <-s.wanted:
			for at := range maps.Clone(stops) {
				if !slices.Contains(addrs, at) {
					stops[at]()
					delete(stops, at)
				}
			}
			for _, at := range addrs {
				if stops[at] == nil {
					serving, stop := context.WithCancel(ctx)
					stops[at] = stop
					all.Go(func() { s.serve(serving, at) })
				}
			}
		}
	}
}

// serve listens on an address until ctx is done, and again and again where that fails. The log has one line for each cause, not
// for each try.
func (s *Server) serve(ctx context.Context, at netip.AddrPort) {
	log := s.log.WithField("address", at.String())
	last := ""
	for ctx.Err() == nil {
		err := s.serveOnce(ctx, at, func() {
			last = ""
			log.Info("http server listens")
		})
		if ctx.Err() != nil {
			return
		}
		if err.Error() != last {
			last = err.Error()
			log.WithField("reason", last).Warn("http server cannot listen, trying again; routes do not depend on it")
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// serveOnce serves until ctx is done or listening fails, and always returns an error.
func (s *Server) serveOnce(ctx context.Context, at netip.AddrPort, listening func()) error {
	network := "tcp4" // "tcp" would take 0.0.0.0 for every address of both families
	if at.Addr().Is6() {
		network = "tcp6"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, network, at.String())
	if err != nil {
		return err
	}
	listening()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       headerTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         (&crowd{room: maxConnections}).changed,
		ErrorLog:          stdlog.New(&faultLog{log: s.log}, "", 0),
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { server.Close() })()
	return server.Serve(netutil.LimitListener(listener, maxConnections))
}

// faultLog takes what net/http has to say, a handler's panic above all, which ends its connection alone; the page tries again, so
// there may be many.
type faultLog struct {
	log *logrus.Entry

	mu   sync.Mutex
	last time.Time
}

func (f *faultLog) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.IsZero() || time.Since(f.last) > faultEvery {
		f.last = time.Now()
		f.log.WithField("reason", string(bytes.TrimSpace(line))).Warn("http server")
	}
	return len(line), nil
}
