//go:build !race

package zoo

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"exazk/zkstate"
	"exazk/zkstate/zktest"

	"github.com/sirupsen/logrus"
)

// sleeper in the environment makes the test binary a client of the server at that address, until it is killed. It does
// what sleeps asks for first and writes what it hears to stdout, a line each.
const sleeper = "ZOO_TEST_SLEEPER"

var sleeps = []zkstate.Call{
	{Op: zkstate.OpCreate, Path: "/c", Ephemeral: true, Tag: zkstate.Tag{Attempt: 1}},
	{Op: zkstate.OpExists, Path: "/w", Watch: true, Tag: zkstate.Tag{Attempt: 2}},
}

// word is an input as a line.
func word(in zkstate.Input) string {
	switch in := in.(type) {
	case zkstate.SessionUp:
		return "up"
	case zkstate.SessionDown:
		return "down"
	case zkstate.SessionExpired:
		return "expired"
	case zkstate.NodeChanged:
		return "changed " + in.Path
	case zkstate.Result:
		return fmt.Sprintf("result %d %v", in.Tag.Attempt, in.Err)
	}
	return "?"
}

func sleep(address string) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	heard := make(chan zkstate.Input, 1000) // more than there is
	raw, err := zkstate.DialRaw([]string{address}, time.Second, 1, func(in zkstate.Input) { heard <- in }, logrus.NewEntry(log))
	if err != nil {
		panic(err)
	}
	left := sleeps
	for in := range heard {
		fmt.Println(word(in))
		if _, result := in.(zkstate.Result); len(left) > 0 && (result || len(left) == len(sleeps) && word(in) == "up") {
			raw.Send(left[0])
			left = left[1:]
		}
	}
}

// lines collects what a process writes.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestHonestSleep stops a client's process for a moment in which a watch of it fires, and for longer than its session
// lives, on the model and in a real process.
func TestHonestSleep(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers take their time")
	}
	if why := zktest.Unavailable(); why != "" {
		t.Skip(why)
	}
	t.Parallel()
	st := newRealStage(t, []*zktest.Server{zktest.Start(t, zktest.Options{TickTime: tick})})
	out := &lines{}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sleeper+"="+st.servers[0].Addr())
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	real := stopAndGo(t, st, out.String, func() { cmd.Process.Signal(syscall.SIGSTOP) }, func() { cmd.Process.Signal(syscall.SIGCONT) })
	for seed := range uint64(50) {
		model := newModelStage(seed, 1)
		var got strings.Builder
		left := sleeps
		var c *Client
		c = model.e.Connect(0, 1, time.Second, func(in zkstate.Input) {
			fmt.Fprintln(&got, word(in))
			if _, result := in.(zkstate.Result); len(left) > 0 && (result || len(left) == len(sleeps) && word(in) == "up") {
				c.Send(left[0])
				left = left[1:]
			}
		})
		if heard := stopAndGo(t, model, got.String, c.Pause, c.Resume); heard != real {
			t.Fatalf("seed %d of the model:\n%s\nreal:\n%s", seed, heard, real)
		}
	}
}

// stopAndGo is the story of that client.
func stopAndGo(t *testing.T, st stage, heard func() string, stop, goOn func()) string {
	t.Helper()
	await := func(what string, cond func() bool) {
		t.Helper()
		for began := st.now(); !cond(); st.wait(time.Millisecond) {
			if st.now().Sub(began) > patience {
				t.Fatalf("it never happens: %s; heard:\n%s", what, heard())
			}
		}
	}
	await("the watch is armed", func() bool { return strings.HasSuffix(heard(), "result 2 <nil>\n") })
	stop()
	st.wait(30 * time.Millisecond)
	if err := st.put("/w", ""); err != nil {
		t.Fatal(err)
	}
	st.wait(200 * time.Millisecond)
	goOn()
	await("the watch fires", func() bool { return strings.HasSuffix(heard(), "changed /w\n") })
	stop()
	await("the session ends", func() bool { return !st.there("/c") })
	st.wait(500 * time.Millisecond)
	goOn()
	await("there is another session", func() bool { return strings.Count(heard(), "up\n") == 2 })
	st.wait(200 * time.Millisecond)
	return heard()
}
