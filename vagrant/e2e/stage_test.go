package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"exazk/vagrant/lab"
)

// stage is one kind of cluster, and the lab that it runs on at the moment.
type stage struct {
	name    string
	exabgp  exabgp        // play sets it
	options lab.Options   // its ExaBGPCommand comes before that of the version
	session time.Duration // session timeout of its nodes
	begin   func(*scene)  // what an operator does to a new lab, if anything
	lab     *lab.Lab      // nil until the first scenario, and after one that failed
}

// exabgps are the versions that all scenarios are played on: those of Debian 12 and of Debian sid.
var exabgps = []exabgp{
	{"ExaBGP 4.2.21", "4.2", func() ([]string, error) { return []string{"/usr/sbin/exabgp"}, nil }},
	{"ExaBGP 5", "5", lab.ExaBGP5},
}

// exabgp is one version of it. The command comes before the path of the configuration; its error says why there is none.
type exabgp struct {
	name, dialect string
	command       func() ([]string, error)
}

// onBoth runs a test on each version, both at the same time: a scenario waits most of its time, and an idle lab hardly needs a
// processor.
func onBoth(t *testing.T, test func(t *testing.T, v exabgp, command []string)) {
	for _, v := range exabgps {
		t.Run(v.name, func(t *testing.T) {
			command, err := v.command()
			if err != nil {
				t.Skip(err)
			}
			t.Parallel()
			test(t, v, command)
		})
	}
}

// sampleText is the text of a node's sample configuration; the node's number is in the file's name.
func sampleText(name string, node int) string {
	text, err := os.ReadFile(filepath.Join(place.root, "configs", fmt.Sprintf(name, node)))
	if err != nil {
		panic(fmt.Sprintf("bug: the lab without its sample files: %v", err))
	}
	return string(text)
}

// serverTick is ZooKeeper's tickTime in the lab: a session ends at most that much after its timeout.
const serverTick = 100 * time.Millisecond

// margin is what a failover may take beyond the time in which the failure is detected: the others read, announce, and the
// fabric converges. It is far more than that takes, for the machine is busy with two labs.
const margin = 900 * time.Millisecond

// noticed is how long the others may need to take a VIP over from a node that fell silent.
func (st *stage) noticed() time.Duration { return st.session + serverTick + margin }

// believed is how long a node that was kept from ZooKeeper does not believe that nobody claims a VIP. One whose first session came
// late was kept from it, too, which happens where the machine is busy with building the labs.
func (st *stage) believed() time.Duration { return st.session + st.session/2 + time.Second }

// newStage makes a stage, or skips the test where there can be none.
func newStage(t *testing.T, name string, session time.Duration, options lab.Options) *stage {
	t.Helper()
	if place.missing != "" {
		t.Skip(place.missing)
	}
	return &stage{name: name, options: options, session: session}
}

// raise builds the lab if there is none, and says whether it did.
func (st *stage) raise(t *testing.T) bool {
	t.Helper()
	if st.lab != nil {
		return false
	}
	o := st.options
	o.Prefix = newPrefix()
	o.Dir = filepath.Join(place.dir, o.Prefix)
	o.ExazkBinary, o.WebBinary, o.ProbeBinary = program("exazk"), program("web"), program("probe")
	o.ConfigDir, o.BirdDir = filepath.Join(place.root, "configs"), filepath.Join(place.root, "vagrant", "bird")
	place.mu.Lock()
	place.labs = append(place.labs, builtLab{o.Prefix, o.Dir})
	place.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	l, err := lab.Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	st.lab = l
	return true
}

// act is one scenario, told in the words of scene.
type act struct {
	name string
	play func(*scene)
}

// play plays scenarios on both versions. The labs go with the tests.
func (st *stage) play(t *testing.T, acts ...act) {
	onBoth(t, func(t *testing.T, v exabgp, command []string) {
		on := *st
		on.name, on.exabgp = st.name+", "+v.name, v
		on.options.ExaBGPCommand = slices.Concat(st.options.ExaBGPCommand, command)
		t.Cleanup(func() {
			if on.lab != nil {
				if err := on.lab.Down(); err != nil {
					t.Error(err)
				}
			}
		})
		on.playAll(t, acts)
	})
}

// playAll plays scenarios one after the other. The lab of one that failed is not used again.
func (st *stage) playAll(t *testing.T, acts []act) {
	for _, a := range acts {
		t.Run(a.name, func(t *testing.T) {
			fresh := st.raise(t)
			s := &scene{T: t, stage: st, lab: st.lab, name: a.name}
			defer func() {
				if t.Failed() {
					s.tellAll()
					st.lab = nil
					if err := s.lab.Down(); err != nil {
						t.Error(err)
					}
				}
			}()
			if fresh && st.begin != nil {
				st.begin(s)
			}
			s.steady()
			if fresh { // the first act shall not meet a node that takes nothing over yet
				s.throughout(st.believed(), "steady state", s.steadyNow)
			}
			a.play(s)
			s.steady()
		})
	}
}

// scene is one scenario while it is played. Its methods end it where the lab does not behave.
type scene struct {
	*testing.T
	stage *stage
	lab   *lab.Lab
	name  string
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// pause is the step of everything here that has to poll.
const pause = 20 * time.Millisecond

// until waits for check to return nil and returns how long that took.
func (s *scene) until(limit time.Duration, what string, check func() error) time.Duration {
	s.Helper()
	start := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			s.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		<-time.After(pause)
	}
}

// throughout fails the scenario as soon as check does within d.
func (s *scene) throughout(d time.Duration, what string, check func() error) {
	s.Helper()
	for start := time.Now(); time.Since(start) < d; <-time.After(5 * pause) {
		if err := check(); err != nil {
			s.Fatalf("after %v of %v: %s: %v", ms(time.Since(start)), d, what, err)
		}
	}
}

// steady waits for the steady state: in r0 each VIP has its owner's route alone, and the client reaches the owner.
func (s *scene) steady() {
	s.Helper()
	s.until(60*time.Second, "steady state", s.steadyNow)
}

func (s *scene) steadyNow() error { return s.lab.Steady(s.Context()) }

// announcedBy says what keeps r0 from having exactly one path to a VIP from each of those leaves.
func (s *scene) announcedBy(vip int, leaves ...string) func() error {
	return func() error {
		t, err := s.lab.Routes("r0")
		if err != nil {
			return err
		}
		var via []string
		for _, p := range t.For(lab.VIPs()[vip]) {
			via = append(via, p.Via)
		}
		slices.Sort(via)
		if !slices.Equal(via, leaves) {
			return fmt.Errorf("r0 has %s by %v, not by %v", lab.VIPs()[vip], via, leaves)
		}
		return nil
	}
}

// answeredBy says what keeps the client from reaching one of those nodes.
func (s *scene) answeredBy(vip int, nodes ...string) func() error {
	return func() error {
		who, err := s.lab.Ask(s.Context(), lab.VIPs()[vip])
		if err == nil && !slices.Contains(nodes, who) {
			err = fmt.Errorf("%s is answered by %s", lab.VIPs()[vip], who)
		}
		return err
	}
}

// absent says whether a leaf has no path to a VIP from its own load balancer. Its static route for the VIPs' net is none.
func (s *scene) absent(router string, vip int) func() error {
	return func() error {
		t, err := s.lab.Routes(router)
		if err != nil {
			return err
		}
		if paths := t.For(lab.VIPs()[vip]); len(paths) > 0 {
			return fmt.Errorf("%s has %s by %s", router, lab.VIPs()[vip], paths[0].Via)
		}
		return nil
	}
}

// takenOver waits until a VIP is announced by the two nodes that do not own it and the client reaches one of them, and
// sees that it stays so.
func (s *scene) takenOver(vip int, limit time.Duration) {
	s.Helper()
	leaves, nodes := others(lab.Routers()[1:], vip), others(lab.Balancers(), vip)
	there := func() error { return errors.Join(s.announcedBy(vip, leaves...)(), s.answeredBy(vip, nodes...)()) }
	s.until(limit, "the others announce it", s.announcedBy(vip, leaves...))
	s.until(2*time.Second, "the others answer it", there)
	s.throughout(time.Second/2, "the others have it", there)
}

func others(names []string, without int) []string {
	return slices.Delete(slices.Clone(names), without, without+1)
}

// moves counts what made a leaf's table change: routes that it accepted from its load balancer, withdraws included. The
// count starts anew with each BGP session. A route that is announced again as it was does not count.
func (s *scene) moves(lb string) int {
	s.Helper()
	out, err := s.lab.Birdc(lab.Leaf(lb), "show protocols all "+lb)
	s.must(err)
	n, err := parseMoves(out)
	s.must(err)
	return n
}

// parseMoves adds up the column "accepted" of the import counters.
func parseMoves(out string) (int, error) {
	total, found := 0, 0
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 7 || f[0] != "Import" {
			continue
		}
		var n int
		if _, err := fmt.Sscan(f[6], &n); err != nil {
			return 0, fmt.Errorf("%q: %w", line, err)
		}
		total += n
		found++
	}
	if found != 2 {
		return 0, fmt.Errorf("%d import counters in %q", found, out)
	}
	return total, nil
}

// unmoved acts and fails the scenario if the routes of one of those nodes changed meanwhile, were it for a moment.
func (s *scene) unmoved(nodes []string, act func()) {
	s.Helper()
	before := map[string]int{}
	for _, lb := range nodes {
		before[lb] = s.moves(lb)
	}
	act()
	for _, lb := range nodes {
		if n := s.moves(lb) - before[lb]; n != 0 {
			s.Errorf("%s changed its routes %d times", lb, n)
		}
	}
}

// tellAll puts into the test's output what a person wants to see after a failure, and the logs into its artifacts.
func (s *scene) tellAll() {
	for _, router := range lab.Routers() {
		routes, err := s.lab.Birdc(router, "show route table master4")
		s.Logf("routes of %s: %v\n%s", router, errOrEmpty(err), routes)
	}
	s.Logf("ZooKeeper:\n%s", s.tree())
	for _, lb := range lab.Balancers() {
		s.Logf("end of exabgp.log of %s:\n%s", lb, s.lab.Host(lb).LogTail(lab.DaemonExaBGP, 40))
	}
	for _, log := range s.lab.Logs() {
		data, err := os.ReadFile(log)
		if err == nil {
			name := filepath.Base(filepath.Dir(log)) + "-" + filepath.Base(log)
			err = os.WriteFile(filepath.Join(s.ArtifactDir(), name), data, 0o644)
		}
		if err != nil {
			s.Logf("keep %s: %v", log, err)
		}
	}
}

func errOrEmpty(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// tree lists what lies in ZooKeeper on behalf of the service.
func (s *scene) tree() string {
	var b strings.Builder
	for _, dir := range []string{claims, maintenance, records} {
		names, err := s.lab.ZKChildren(dir)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			continue
		case err != nil:
			return b.String() + err.Error() // asking on would take ten seconds each time
		}
		slices.Sort(names)
		for _, name := range names {
			data, owner, err := s.lab.ZKGet(dir + "/" + name)
			fmt.Fprintf(&b, "%s/%s, owner %#x: %s %s\n", dir, name, uint64(owner), data, errOrEmpty(err))
		}
	}
	return b.String()
}
