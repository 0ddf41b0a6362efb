// Web is the service that the lab's load balancers serve: it answers with the name of the node it runs on, so that a
// client sees who has a VIP.
//
//	web -name lb1 [-listen :80] [-udp :7] [-pid-file FILE]
//
// Over HTTP, GET / is answered with the name and a newline, GET /health with "ok". Over UDP each datagram is sent back
// with a space and the name added, from the address that it was sent to: the VIPs lie on the loopback interface beside
// the host's own addresses, and an answer from one of those would reach nobody.
//
// It logs to stderr, ends at SIGINT and SIGTERM at once, and exits 0 then, 1 if it cannot serve and 2 on wrong usage.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// run is main with its surroundings given; it returns the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("web", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("name", "", "`name` of this node; required")
	listen := flags.String("listen", ":80", "TCP `address` of the web server")
	udp := flags.String("udp", "", "UDP `address` of the echo server; empty for none")
	pidFile := flags.String("pid-file", "", "`file` to write the process id to")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *name == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "web: -name is required, and nothing but flags")
		return 2
	}
	logger := log.New(stderr, "web: ", log.LstdFlags|log.Lmicroseconds)
	if err := serve(ctx, *name, *listen, *udp, *pidFile, logger); err != nil {
		logger.Print(err)
		return 1
	}
	return 0
}

// serve serves until ctx is done, or until a server fails. The pid file exists only while everything listens.
func serve(ctx context.Context, name, listen, udp, pidFile string, logger *log.Logger) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	server := &http.Server{Handler: handler(name), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, ErrorLog: logger}
	conns, err := listenEcho(udp)
	if err != nil {
		l.Close()
		return err
	}
	if err := writePID(pidFile); err != nil {
		l.Close()
		closeAll(conns)
		return err
	}

	var wg sync.WaitGroup
	failed := make(chan error, 1+len(conns)) // one for each server, so that none blocks
	wg.Go(func() { failed <- fmt.Errorf("serve HTTP: %w", server.Serve(l)) })
	logger.Printf("%s serves HTTP on %s", name, l.Addr())
	for _, c := range conns {
		wg.Go(func() { failed <- fmt.Errorf("echo UDP: %w", echo(c, name)) })
		logger.Printf("%s echoes UDP on %s", name, c.LocalAddr())
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	server.Close()
	closeAll(conns)
	wg.Wait()
	if pidFile != "" {
		os.Remove(pidFile)
	}
	return err // nil when ctx ended it
}

func closeAll(conns []*net.UDPConn) {
	for _, c := range conns {
		c.Close()
	}
}

func writePID(file string) error {
	if file == "" {
		return nil
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}

// handler answers / and /health, and 404 to all else.
func handler(name string) http.Handler {
	mux := http.NewServeMux()
	answer := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			io.WriteString(w, text)
		}
	}
	mux.Handle("GET /{$}", answer(name+"\n"))
	mux.Handle("GET /health", answer("ok"))
	return mux
}
