package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts call this program under its name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"exazk": main})
}

// TestScripts runs the command line as a user does: what is printed where, exit codes, and a clean stdout above all.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":  exits,
			"daemon": startDaemon,
			"logs":   logs,
		},
	})
}

// exits runs a program and checks its exit code: exits CODE program arg…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program arg…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// startDaemon starts exazk as ExaBGP does, with a stdin that stays open, until the end of the script: daemon LOG PROGRAM arg…
func startDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: daemon LOG PROGRAM arg…")
	}
	log, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	program := args[1]
	if program == "exazk" {
		program, err = exec.LookPath(program)
		ts.Check(err)
	}
	cmd := exec.Command(program, args[2:]...)
	cmd.Dir, cmd.Stderr = ts.MkAbs("."), log
	cmd.Env = append(os.Environ(), "CHECKS="+ts.MkAbs("checks"))
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			ts.Logf("%s: %v", args[1], err)
		}
		log.Close()
	})
	logs(ts, false, []string{args[0], "exazk started"})
}

// logs waits until a file matches a pattern: logs FILE PATTERN.
func logs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logs FILE PATTERN")
	}
	pattern := regexp.MustCompile("(?m)" + args[1])
	var text []byte
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		if text, _ = os.ReadFile(ts.MkAbs(args[0])); pattern.Match(text) {
			return
		}
	}
	ts.Fatalf("%s has no %q:\n%s", args[0], args[1], text)
}

func TestPythonArgs(t *testing.T) {
	for in, want := range map[string]string{
		"-f x.yml":                      "-f=x.yml",
		"-sF -c true":                   "--syslog-facility=daemon -c=true",
		"-sF local0 -c true":            "--syslog-facility=local0 -c=true",
		"-sF":                           "--syslog-facility=daemon",
		"--syslog-facility=local1":      "--syslog-facility=local1",
		"-n apex -A 1 -N 2 -N 3":        "-n=apex -A=1 -N=2 -N=3",
		"-napex":                        "-n=apex",
		"-ds":                           "-d -s",
		"--zk-path-s /a":                "--zk-path-service=/a",
		"--zk-hosts a --zk-host b":      "--zk-hosts=a --zk-host=b",
		"--zk-h a":                      "--zk-host=a",
		"--debug --no-syslog -s":        "--debug --no-syslog -s",
		"-zH localhost -zPS /a -zPM /b": "-zH=localhost -zPS=/a -zPM=/b",
		"--name=apex":                   "--name=apex",
		"-c":                            "-c",
		"check -f x":                    "check -f x",
		"--wrong=1 -x":                  "--wrong=1 -x",
		"--s":                           "--s", // --silent or --syslog-facility
		"-- -x":                         "-- -x",
	} {
		if got := pythonArgs(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
	if got := pythonArgs([]string{"-c", "-x is a command"}); !slices.Equal(got, []string{"-c=-x is a command"}) {
		t.Errorf("got %q", got)
	}
}

func TestConvertRefusesTheUnknown(t *testing.T) {
	good := "zk_hosts: [zk]\nlocal_check: \"true\"\nsrv_name: apex\nsrv_auth_ip: 10.20.255.1\n"
	for text, want := range map[string]string{
		good + "srv_nam: x\n":                         "field srv_nam not found",
		good + "syslog_facility: x\n":                 `syslog_facility: "x" is not known`,
		strings.Replace(good, "10.20.255.1", "10", 1): `--auth-ip: "10" is not an address`,
		"[1, 2]": "not a configuration of the Python tool",
		"":       "not a configuration of the Python tool",
	} {
		if _, err := convert([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	out, err := convert([]byte(good + "debug: yes\nsilent: True\n"))
	if err != nil || !strings.Contains(out, `level = "debug"`) || !strings.Contains(out, "syslog = false") || !strings.Contains(out, "--silent") {
		t.Errorf("got %v:\n%s", err, out)
	}
}

func TestLogFacilities(t *testing.T) {
	if _, ok := syslogFacility("nonsense"); ok {
		t.Error("nonsense is a facility")
	}
	if _, err := os.Stat("/dev/null"); err != nil {
		t.Fatal(err)
	}
}
