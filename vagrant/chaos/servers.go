package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
)

// zkAddr is where a server of the ensemble is, counted from 0.
func zkAddr(server int) string { return fmt.Sprintf("192.168.66.%d", 11+server) }

// server carries faults out on one server of ZooKeeper.
type server struct {
	lab    *lab.Lab
	number int // from 1
	worker worker

	dead, frozen int // reasons; of the worker only
}

// kill has one reason more, or one less, for the server to be dead.
func (s *server) kill(ctx context.Context, change int) error {
	was := s.dead > 0
	s.dead += change
	switch is := s.dead > 0; {
	case is == was:
		return nil
	case is:
		return s.lab.KillZKServer(s.number)
	}
	err := s.lab.StartZKServer(ctx, s.number)
	if s.frozen > 0 {
		return errors.Join(err, s.lab.FreezeZKServer(s.number))
	}
	return err
}

// freeze has one reason more, or one less, for it to stand still.
func (s *server) freeze(change int) error {
	was := s.frozen > 0
	s.frozen += change
	switch is := s.frozen > 0; {
	case is == was || s.dead > 0:
		return nil
	case is:
		return s.lab.FreezeZKServer(s.number)
	default:
		return s.lab.ThawZKServer(s.number)
	}
}

// do begins (change is 1) or ends (-1) a fault on the server.
func (s *server) do(ctx context.Context, k fault.Kind, change int) error {
	if k == fault.PauseServer || k == fault.PauseEnsemble {
		return s.freeze(change)
	}
	return s.kill(ctx, change)
}

// ask gives a four-letter word to a server, from its own host. Nobody waits longer than 300 ms for a server that stands still.
func ask(ctx context.Context, l *lab.Lab, server int, word string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	conn, err := l.Host(l.ZKServers()[server]).Dial(ctx, "tcp", zkAddr(server)+":2181")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// Where the service lives in ZooKeeper, by the sample configuration.
const (
	claims      = "/exabgp/service/apex"
	maintenance = "/exabgp/maintenance/apex"
	failback    = "/exabgp/failback/apex"
	records     = "/exabgp/status/apex"
)

// ephemerals finds the claims and status records in the answer of a server to "dump", as masks: bit i is the claim of VIP i
// and the record of node i. Only ephemeral nodes are in it, and only a server that serves lists any.
func ephemerals(dump string) (claimed, recorded uint8, err error) {
	_, list, ok := strings.Cut(dump, "Sessions with Ephemerals")
	if !ok {
		return 0, 0, fmt.Errorf("the server says %.80q", dump)
	}
	for line := range strings.Lines(list) {
		path := strings.TrimSpace(line)
		for i, vip := range lab.VIPs() {
			switch path {
			case claims + "/" + vip.String():
				claimed |= 1 << i
			case fmt.Sprintf("%s/node%d", records, i+1):
				recorded |= 1 << i
			}
		}
	}
	return claimed, recorded, nil
}

// revive starts a server that does not run, and waits until it serves, a minute at most.
func (s *server) revive(ctx context.Context) error {
	limit := time.Now().Add(time.Minute)
	for {
		if answer, err := ask(ctx, s.lab, s.number-1, "srvr"); err == nil && strings.Contains(answer, "Mode: ") {
			return nil
		}
		err := s.lab.StartZKServer(ctx, s.number) // refuses if it runs
		if err == nil {
			return nil
		}
		if time.Now().After(limit) || ctx.Err() != nil {
			return fmt.Errorf("a server of ZooKeeper does not serve: %w", err)
		}
		time.Sleep(lookEvery)
	}
}
