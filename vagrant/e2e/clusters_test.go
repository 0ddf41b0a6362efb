package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"exazk/vagrant/lab"
)

// TestCommandLine plays on nodes that are given their service on the command line of the Python tool, as it stands in the
// ExaBGP configuration of those who used that. The session timeout has no option there: it is the default, 10 s.
func TestCommandLine(t *testing.T) {
	newStage(t, "command line", 10*time.Second, lab.Options{ExaBGPConf: confRunning(commandLine)}).play(t,
		act{"steady state", steadyState},
		act{"check fails", checkFails(victim)},
		act{"maintenance", maintained(victim)},
		act{"host crashes", hostCrashes(victim)},
		act{"link to ToR is pulled", linkPulled},
		act{"exabgp is killed", exabgpKilled},
		act{"exazk is killed", exazkKilled},
		act{"zookeeper is away", zookeeperAway(15 * time.Second)},
	)
}

func commandLine(node int) string {
	return "/usr/local/bin/exazk -sF daemon -c /usr/local/bin/check_local_nginx.sh -n apex" +
		vipFlags(node, " -A ", " -N ") +
		fmt.Sprintf(" -zH zk -zPS %s -zPM %s/node%d", claims, maintenance, node)
}

// vipFlags lists a node's VIP and then the others' behind their options.
func vipFlags(node int, own, other string) string {
	flags := own + lab.VIPs()[node-1].String()
	for i, vip := range lab.VIPs() {
		if i != node-1 {
			flags += other + vip.String()
		}
	}
	return flags
}

var runLine = regexp.MustCompile(`(?m)^(\s*run ).*;`)

// confRunning gives the sample ExaBGP configuration of a node with another command in its "run" line.
func confRunning(command func(node int) string) func(int) string {
	return func(node int) string {
		return runLine.ReplaceAllString(sampleText("exabgp-node%d.conf", node), "${1}"+command(node)+";")
	}
}

// TestMixed plays on a cluster in the middle of its migration: lb3 still runs the Python tool, in the form of a stand-in
// with its habits. The names of its claims are its own, its claims are empty, and it has no status record. Its session
// timeout is that of kazoo, 10 s.
func TestMixed(t *testing.T) {
	if err := exec.Command("/usr/bin/python3", "-c", "import kazoo").Run(); err != nil {
		t.Skipf("/usr/bin/python3 or its module kazoo is missing (Debian package python3-kazoo): %v", err)
	}
	newStage(t, "mixed", 10*time.Second, lab.Options{
		ExaBGPConf: confRunning(func(node int) string {
			if node == 3 {
				return "/usr/local/bin/standin.py" + vipFlags(node, " --own ", " --other ") +
					fmt.Sprintf(" --check /usr/local/bin/check_local_nginx.sh --zk zk --claims %s --maintenance %s/node%d", claims, maintenance, node)
			}
			return fmt.Sprintf("/usr/local/bin/exazk -f /etc/exazk/apex-node%d.toml", node)
		}),
		Prepare: func(l *lab.Lab) error {
			return l.Host("lb3").CopyFile("testdata/standin.py", "/usr/local/bin/standin.py", 0o755)
		},
	}).play(t,
		act{"steady state", mixedSteadyState},
		act{"the stand-in's host crashes", standInCrashes},
		act{"the stand-in's check fails", checkFails("lb3")},
		act{"check fails", checkFails(victim)},
		act{"maintenance", maintained(victim)},
	)
}

// mixedSteadyState also wants the one that is not exazk to be as different as it is meant to be.
func mixedSteadyState(s *scene) {
	s.during("nothing happens", nothing, func() {
		s.throughout(2*time.Second, "steady state", s.steadyNow)
	})
	for _, vip := range []int{0, 1} {
		s.claim(vip)
		s.record(vip)
	}
	data, owner, err := s.lab.ZKGet(claims + "/" + lab.VIPs()[2].String())
	s.must(err)
	if len(data) > 0 || owner == 0 {
		s.Errorf("the stand-in's claim has owner %#x and says %q", owner, data)
	}
	names, err := s.lab.ZKChildren(records)
	s.must(err)
	if all := strings.Join(names, " "); len(names) != 2 || strings.Contains(all, node(2)) {
		s.Errorf("status records of %s", all)
	}
	for i, lb := range lab.Balancers() {
		s.leafTable(lb, i)
	}
}

// standInCrashes, and its return may be heard: it claims its VIP without knowing whether its BGP session is up, and ExaBGP
// may need more tries for that than the others stay beside a claim (overlap).
func standInCrashes(s *scene) {
	s.during("crash", allowance{2, s.stage.noticed()}, func() {
		s.must(s.lab.CrashHost("lb3"))
		s.claimed(2)
		s.takenOver(2, s.stage.noticed()+5*time.Second)
	})
	s.during("boot", allowance{2, time.Second}, func() {
		s.must(s.lab.BootHost(s.Context(), "lb3"))
		s.steady()
	})
}

// TestNoAcknowledgements plays with an ExaBGP on lb1 that answers no command, as "ack = false" in its settings makes it.
func TestNoAcknowledgements(t *testing.T) {
	const wrapper = `if [ "$(hostname)" = lb1 ]; then export exabgp_api_ack=false; fi; exec "$@"`
	newStage(t, "no acks", 4*time.Second, lab.Options{ExaBGPCommand: []string{"/bin/sh", "-c", wrapper, "sh"}}).play(t,
		act{"steady state", steadyState},
		act{"check fails", checkFails(victim)},
		act{"maintenance", maintained(victim)},
		act{"exabgp is killed", exabgpKilled},
		act{"exazk is killed", exazkKilled},
	)
}
