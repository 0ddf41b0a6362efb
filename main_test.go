package main

import (
	"os"
	"slices"
	"strings"
	"testing"

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
			"exits": exits,
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
