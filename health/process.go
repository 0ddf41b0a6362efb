package health

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeDelay is how long the output of a killed check may stay open before it is closed from our side: long enough for
// the kernel to end what was killed. Only a process that got away in a session of its own holds it longer.
const pipeDelay = 200 * time.Millisecond

// child is one run of a check, from its start to its reaping. The tests have another one.
type child interface {
	// exited is closed once the program has ended.
	exited() <-chan struct{}
	// over says the same without needing another goroutine to have noticed it.
	over() bool
	// kill sends SIGKILL to what is left of the run, and lets it be reaped. It is called once. With all it looks beyond the
	// process group. The error says why something could not be killed.
	kill(all bool) error
	// reaped is closed after kill, once the program is reaped and its output read.
	reaped() <-chan struct{}
	// result is how the program ended; only after reaped is closed.
	result() Result
}

// process is a child that is real.
type process struct {
	cmd      *exec.Cmd
	out      lastLine
	waitErr  error
	ended    chan struct{}
	killed   chan struct{}
	finished chan struct{}
}

// startProcess starts a program with its arguments.
func startProcess(argv, env []string) (child, error) {
	p := &process{
		cmd:      exec.Command(argv[0], argv[1:]...),
		ended:    make(chan struct{}),
		killed:   make(chan struct{}),
		finished: make(chan struct{}),
	}
	p.cmd.Dir = "/"
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out // one pipe for both; stdin is nil, which means /dev/null
	p.cmd.WaitDelay = pipeDelay                 // counts from the end of the program
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	go p.wait()
	return p, nil
}

// wait ends when the process does. Nobody waits for it where SIGKILL does not help: see package documentation.
func (p *process) wait() {
	defer close(p.finished)
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break // any other error is met again, and kept, by Wait
		}
	}
	close(p.ended)
	<-p.killed
	if err := p.cmd.Wait(); p.cmd.ProcessState == nil {
		p.waitErr = err
	}
}

func (p *process) exited() <-chan struct{} { return p.ended }
func (p *process) reaped() <-chan struct{} { return p.finished }

func (p *process) over() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	return err == nil && info.Signo == int32(unix.SIGCHLD) // 0 while it runs, see waitid(2)
}

func (p *process) kill(all bool) error {
	defer close(p.killed)
	err := unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	if all {
		err = errors.Join(err, killSession(p.cmd.Process.Pid))
	}
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

func (p *process) result() Result {
	r := Result{ExitCode: -1, Output: p.out.String()}
	if p.waitErr != nil {
		r.Err = fmt.Sprintf("wait: %v", p.waitErr)
		return r
	}
	state := p.cmd.ProcessState
	r.OK, r.ExitCode = state.Success(), state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		r.Err = "killed by signal: " + status.Signal().String()
	}
	return r
}

// killSession sends SIGKILL to every process of a session whose leader is not reaped yet. What is killed may have forked
// after the list of processes was read, so it looks again until there is nothing left, or it has looked often enough.
func killSession(sid int) error {
	const tries = 5
	for range tries {
		found, err := killSessionOnce(sid)
		if err != nil || found == 0 {
			return err
		}
	}
	return nil
}

// killSessionOnce returns how many living processes it found. Without the leader, which got its signal with its group.
func killSessionOnce(sid int) (found int, err error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == sid || !inSession(pid, sid) {
			continue
		}
		found++
		if err := killMember(pid, sid); err != nil {
			return found, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return found, nil
}

// killMember kills pid if it still is what inSession saw: the file descriptor stands for one life of the process id.
func killMember(pid, sid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !inSession(pid, sid) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}

// inSession says whether pid lives and belongs to session sid. A process that is gone does not.
func inSession(pid, sid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// proc(5): pid (name) state ppid pgrp session ...; the name may hold spaces and brackets.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return len(fields) > 3 && fields[0] != "Z" && fields[0] != "X" && fields[3] == strconv.Itoa(sid)
}
