package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestDaemonFile(t *testing.T) {
	for line, want := range map[string]string{
		"exazk -f /etc/exazk/a.toml":                "/etc/exazk/a.toml",
		"exazk -d --config=b.toml -sF":              "b.toml",
		"exazk -fb.toml":                            "b.toml",
		"exazk -n apex -A 10.20.255.1 -c true":      "",
		"exazk":                                     "none",
		"exazk drain --force":                       "none",
		"exazk check -f a.toml":                     "none",
		"exazk reload":                              "none",
		"exazk.test -test.v=true":                   "none",
		"exazk --version":                           "none",
		"exazk -h":                                  "none",
		"exazk -c drain -n apex -A 10.20.255.1":     "",
		"exazk -f a.toml extra":                     "none",
		"exazk --silent --syslog-facility daemon x": "none",
	} {
		file, isDaemon := daemonFile(strings.Fields(line))
		if !isDaemon {
			file = "none"
		}
		if file != want {
			t.Errorf("%s: got %q, want %q", line, file, want)
		}
	}
}

// TestDaemons looks through a /proc that is made up.
func TestDaemons(t *testing.T) {
	proc, self := t.TempDir(), "/proc/self/exe"
	put := func(pid, comm, exe, ns, cmdline string, parent string) {
		dir := filepath.Join(proc, pid)
		if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"comm": comm + "\n", "cmdline": strings.ReplaceAll(cmdline, " ", "\x00") + "\x00", "stat": pid + " (a) b) S " + parent + " 1 1"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for name, to := range map[string]string{"exe": exe, "cwd": "/srv", "root": "/", "ns/pid": ns} {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("self", "exazk", self, "pid:[1]", "exazk reload", "1")
	put("1000000001", "exabgp", "/bin/sh", "pid:[1]", "exabgp -f x", "1")
	put("1000000002", "exazk", self, "pid:[1]", "exazk -f /etc/exazk/a.toml", "1000000001")
	put("1000000003", "exazk", self, "pid:[1]", "exazk -f b.toml", "1000000001")
	put("1000000004", "exazk", self, "pid:[1]", "exazk -f b.toml", "1000000003")     // about to run a check
	put("1000000005", "exazk", "/bin/sh", "pid:[1]", "exazk -f c.toml", "1")         // another program of that name
	put("1000000006", "other", self, "pid:[1]", "exazk -f d.toml", "1")              // and another name of ours
	put("1000000007", "exazk", self, "pid:[2]", "exazk -f e.toml", "1")              // in a container
	put("1000000008", "exazk", self, "pid:[1]", "exazk drain -f a.toml", "1")        // a command
	put("1000000009", "exazk", self, "pid:[1]", "exazk -n apex -A 1 -c true", "1")   // without a file
	put("1000000010", "exazk", "/does/not/exist", "pid:[1]", "exazk -f f.toml", "1") // ended
	tell := teller{proc: proc, signal: syscall.SIGHUP, files: true}
	found, denied, err := tell.daemons()
	if err != nil || len(denied) > 0 {
		t.Fatalf("denied %v, error %v", denied, err)
	}
	var got []string
	for _, p := range found {
		got = append(got, p.String())
	}
	want := []string{"exazk (process 1000000002, /etc/exazk/a.toml)", "exazk (process 1000000003, /srv/b.toml)", "exazk (process 1000000009)"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := tell.tell(found[2]); err == nil || !strings.Contains(err.Error(), "exazk (process 1000000009) has nothing to reload") || !strings.Contains(err.Error(), "; remedy: restart it") {
		t.Errorf("got %v", err)
	}
	if err := tell.tell(process{pid: 1000000011, file: "/x"}); err == nil || !strings.Contains(err.Error(), "has ended meanwhile") {
		t.Errorf("got %v", err)
	}
}
