package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"exazk/vagrant/lab"
)

// census counts the processes of each load balancer by their names: what a process leaves behind shows here.
type census [3]map[string]int

// grown is how old a process must be to be counted: checks and commands come and go, and none may take longer.
const grown = 5 * time.Second

// count counts the processes in the load balancers' network namespaces.
func count(prefix string) (census, error) {
	var c census
	where := map[uint64]int{} // by inode of the namespace
	for i, lb := range lab.Balancers() {
		c[i] = map[string]int{}
		inode, err := inodeOf(filepath.Join("/run/netns", prefix+"-"+lb))
		if err != nil {
			return c, err
		}
		where[inode] = i
	}
	up, err := uptime()
	if err != nil {
		return c, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return c, err
	}
	for _, e := range entries {
		inode, err := inodeOf(filepath.Join("/proc", e.Name(), "ns/net"))
		i, ours := where[inode]
		if err != nil || !ours {
			continue // not a process, or it has ended
		}
		if name, age, ok := look(e.Name(), up); ok && age >= grown {
			c[i][name]++
		}
	}
	return c, nil
}

func inodeOf(path string) (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

func uptime() (time.Duration, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(data), " ")
	return time.ParseDuration(first + "s")
}

// look reads the name and the age of a process: proc(5), fields 2 and 22 of its stat, the latter in 1/100 s after boot.
func look(pid string, up time.Duration) (name string, age time.Duration, ok bool) {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return "", 0, false
	}
	head, rest, _ := strings.Cut(string(stat), ") ")
	_, name, _ = strings.Cut(head, "(")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return "", 0, false
	}
	start, err := strconv.ParseInt(f[19], 10, 64)
	return name, up - time.Duration(start)*10*time.Millisecond, err == nil
}

// differs says where a census is not as an earlier one.
func (c census) differs(was census) error {
	for i, lb := range lab.Balancers() {
		if !maps.Equal(c[i], was[i]) {
			return fmt.Errorf("%s runs %s, and ran %s in the beginning", lb, list(c[i]), list(was[i]))
		}
	}
	return nil
}

func list(m map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		words = append(words, fmt.Sprintf("%d %s", m[name], name))
	}
	return strings.Join(words, ", ")
}

// grumbling finds lines of exazk, which writes into the log of its ExaBGP, that no run may have: a panic, and what calls
// itself a bug.
func grumbling(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "panic") || strings.Contains(line, "bug:") || strings.Contains(line, "fatal error:") || strings.Contains(line, "DATA RACE") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
