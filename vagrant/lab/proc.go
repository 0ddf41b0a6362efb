package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// proc names one process for good: a process id alone may have been given to another one meanwhile.
type proc struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot, proc(5), field 22 of /proc/PID/stat
}

// procStat is what is needed of /proc/PID/stat.
type procStat struct {
	comm  string
	state byte
	ppid  int
	start uint64
}

func readStat(pid int) (procStat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(raw)
}

// parseStat reads "PID (COMM) STATE PPID ...". The name may hold blanks and parentheses, so it ends at the last one.
func parseStat(raw []byte) (procStat, error) {
	open, closing := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 0 || closing < open {
		return procStat{}, fmt.Errorf("no process name in %q", raw)
	}
	f := strings.Fields(string(raw[closing+1:]))
	if len(f) < 20 {
		return procStat{}, fmt.Errorf("only %d fields after the name in %q", len(f), raw)
	}
	ppid, err := strconv.Atoi(f[1])
	if err != nil {
		return procStat{}, fmt.Errorf("parent: %w", err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("start time: %w", err)
	}
	return procStat{comm: string(raw[open+1 : closing]), state: f[0][0], ppid: ppid, start: start}, nil
}

// identify returns the lasting name of a process that runs now.
func identify(pid int) (proc, error) {
	st, err := readStat(pid)
	return proc{pid, st.start}, err
}

// alive says whether that very process runs; one that ended and was not waited for does not.
func (p proc) alive() bool {
	if p.PID <= 0 {
		return false
	}
	st, err := readStat(p.PID)
	return err == nil && st.start == p.Start && st.state != 'Z' && st.state != 'X'
}

// signal sends sig unless the process is gone, which is os.ErrProcessDone.
func (p proc) signal(sig syscall.Signal) error {
	if !p.alive() {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(p.PID, sig); err != nil {
		return fmt.Errorf("send %v to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// childrenOf lists the children of a process. One that ends meanwhile may be missing.
func childrenOf(parent int) []proc {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic("bug: no /proc: " + err.Error()) // nothing of a lab works without it
	}
	var all []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil && st.ppid == parent {
			all = append(all, proc{pid, st.start})
		}
	}
	return all
}

// gone waits until the process has ended.
func (p proc) gone(limit time.Duration) bool {
	for end := time.Now().Add(limit); p.alive(); pause() {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// pause is the step of everything here that has to poll.
func pause() { <-time.After(20 * time.Millisecond) }

// nsID identifies a namespace by the inode behind its file.
type nsID struct{ dev, ino uint64 }

func namespaceOf(path string) (nsID, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return nsID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return nsID{st.Dev, st.Ino}, nil
}

// processesIn lists the processes whose network namespace is one of those, this one excepted.
func processesIn(want map[nsID]bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// An error means that the process ended meanwhile.
		if id, err := namespaceOf(filepath.Join("/proc", e.Name(), "ns/net")); err == nil && want[id] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killAll ends all processes in those namespaces, except keep. New ones are looked for until none is left, since one that
// is still alive may start another.
func killAll(ns map[nsID]bool, keep int) error {
	for end := time.Now().Add(10 * time.Second); ; pause() {
		pids, err := processesIn(ns)
		if err != nil {
			return err
		}
		left := 0
		for _, pid := range pids {
			st, err := readStat(pid)
			if pid == keep || err != nil || st.state == 'Z' {
				continue
			}
			left++
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d processes did not end", left)
		}
	}
}
