package zktest

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestServerLivesAndDies(t *testing.T) {
	s := Start(t, Options{Config: []string{"maxSessionTimeout=9000"}})
	if s.Mode() != "standalone" || s.PID() == 0 {
		t.Errorf("mode %q, pid %d", s.Mode(), s.PID())
	}
	if conf, err := s.Ask("conf"); err != nil || !strings.Contains(conf, "maxSessionTimeout=9000") {
		t.Errorf("conf: %s, %v", conf, err)
	}
	s.Freeze()
	if s.Mode() != "" {
		t.Error("a frozen server answers")
	}
	s.Thaw()
	if s.Mode() != "standalone" {
		t.Error("a thawed server does not answer")
	}
	pid := s.PID()
	s.Freeze()
	s.Kill()
	if s.Mode() != "" || s.PID() != 0 {
		t.Error("a killed server is there")
	}
	s.Kill()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if s.Mode() != "standalone" || s.PID() == pid {
		t.Errorf("restarted: mode %q, pid %d", s.Mode(), s.PID())
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	if why := Unavailable(); why != "" {
		t.Skip(why)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Launch(Options{Dir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port}); err == nil || !strings.Contains(err.Error(), "BindException") {
		t.Errorf("no such error: %v", err)
	}
}

func TestLaunchNeedsADirectory(t *testing.T) {
	dir := t.TempDir() + "/file"
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Launch(Options{Dir: dir}); err == nil {
		t.Error("no error")
	}
}

func TestLeader(t *testing.T) {
	servers := StartEnsemble(t, 3, Options{})
	leader := Leader(servers)
	if leader == nil {
		t.Fatal("no leader")
	}
	followers := 0
	for _, s := range servers {
		if s.Mode() == "follower" {
			followers++
		}
		s.Kill()
	}
	if followers != 2 || Leader(servers) != nil {
		t.Errorf("%d followers, leader %v", followers, Leader(servers))
	}
}
