package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/lab"
)

// driver plays rounds on one lab.
type driver struct {
	options
	out      io.Writer
	prefix   string // of the lab, short, for it becomes part of names, and unlike that of any other run on this machine
	lab      *lab.Lab
	settings *settings
	census   census
	read     map[string]int64    // how much of each log was read
	ends     map[int][]time.Time // of exazk, by node
	result   result
}

// result is what came of a run.
type result struct {
	Seed   uint64    `json:"seed"`
	Rounds []outcome `json:"rounds"`
}

func (r result) violations() []violation {
	var all []violation
	for _, o := range r.Rounds {
		all = append(all, o.Violations...)
	}
	return all
}

// String is the closing line.
func (r result) String() string {
	var faults, probes, lost int
	for _, o := range r.Rounds {
		faults, probes, lost = faults+len(o.Faults), probes+o.Probes, lost+o.Lost
	}
	bounds := "all within bounds"
	if len(r.violations()) > 0 {
		bounds = "not all within bounds"
	}
	return fmt.Sprintf("seed %d, %d rounds, %d faults, %d probes, %d lost (%s), %d violations", r.Seed, len(r.Rounds), faults, probes, lost, bounds, len(r.violations()))
}

func (r result) write(file string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return writeFile(file, append(data, '\n'))
}

func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// raise builds the lab, with checks that can be made to fail and to hang.
func (d *driver) raise(ctx context.Context, dir, programs string) (*lab.Lab, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return lab.Up(ctx, lab.Options{
		Prefix: d.prefix, Dir: filepath.Join(dir, "lab"), ZKServers: 3, Prepare: pliable,
		ExazkBinary: filepath.Join(programs, "exazk"), WebBinary: filepath.Join(programs, "web"), ProbeBinary: filepath.Join(programs, "probe"),
		ConfigDir: filepath.Join(d.root, "configs"), BirdDir: filepath.Join(d.root, "vagrant", "bird"),
	})
}

// pliable makes the load balancers' check hang while the file hang is there, and fail while the file sick is, besides its own
// reasons to fail.
func pliable(l *lab.Lab) error {
	const path = "/usr/local/bin/check_local_nginx.sh"
	for _, lb := range lab.Balancers() {
		script, err := os.ReadFile(l.Host(lb).Path(path))
		if err != nil {
			return err
		}
		first, rest, _ := strings.Cut(string(script), "\n")
		script = fmt.Appendf(nil, "%s\nif test -e %s; then sleep 60; fi\ntest ! -e %s || exit 1\n%s", first, hang, sick, rest)
		if err := l.Host(lb).WriteFile(path, script, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// playAll plays rounds until the time is over, or something is violated.
func (d *driver) playAll(ctx context.Context) error {
	var err error
	if d.settings, err = readSettings(d.lab); err != nil {
		return err
	}
	if err := d.begin(ctx); err != nil {
		return err
	}
	d.result.Seed = d.seed
	began := time.Now()
	for n := max(1, d.round); ; n++ {
		faults, dropped := d.script, []string(nil)
		if faults == nil {
			faults, dropped = draw(d.seed, uint64(n), d.lengths)
		}
		if err := d.wait(ctx, faults); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "chaos: seed %d, round %d\n", d.seed, n)
		for _, text := range dropped {
			fmt.Fprintf(d.out, "         left out: %s\n", text)
		}
		more, err := d.playOne(ctx, n, faults)
		if err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		if !more || d.round > 0 || d.script != nil || time.Since(began) > d.length {
			return nil
		}
	}
}

// begin waits for the first steady state and looks at what there is then.
func (d *driver) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := d.lab.WaitSteady(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(grown + time.Second):
	}
	d.read = map[string]int64{}
	var err error
	d.census, err = count(d.prefix)
	return err
}

// playOne plays a round and says whether another one may follow.
func (d *driver) playOne(ctx context.Context, n int, faults []fault.Fault) (bool, error) {
	s := newStory(d.out)
	out, err := newRound(d.lab, faults, s, d.settings).play(ctx)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err == nil {
		out.Violations = append(out.Violations, d.leftovers(ctx, s)...)
	}
	d.result.Rounds = append(d.result.Rounds, out)
	for _, v := range out.Violations {
		s.say("VIOLATION at %.2f s: %s", v.At, v.What)
	}
	s.say("round %d: %d faults, %d probes, %d lost, longest gap %.2f s, steady after %.1f s, the driver was late for %.1f s, %d violations", n, len(faults), out.Probes, out.Lost, out.Gap, out.Steady, out.Late, len(out.Violations))
	if err != nil || len(out.Violations) > 0 {
		return false, errors.Join(err, d.keep(n, out, s))
	}
	return true, nil
}

// leftovers looks for what a round must not leave: processes, and lines in the logs.
func (d *driver) leftovers(ctx context.Context, s *story) []violation {
	var all []violation
	var err error
	for until := s.now() + 2*grown; ; {
		var now census
		if now, err = count(d.prefix); err == nil {
			err = now.differs(d.census)
		}
		if err == nil || s.now() > until || ctx.Err() != nil {
			break
		}
		time.Sleep(lookEvery)
	}
	if err != nil {
		all = append(all, violated(s.now(), "%v", err))
	}
	for _, lb := range lab.Balancers() {
		lines, err := d.unread(lb)
		if err != nil {
			lines = append(lines, err.Error())
		}
		for _, line := range lines {
			all = append(all, violated(s.now(), "log of %s: %s", lb, line))
		}
	}
	return all
}

// unread returns what is wrong with what a load balancer's exazk has logged since the last time.
func (d *driver) unread(lb string) ([]string, error) {
	f, err := os.Open(filepath.Join(d.lab.Host(lb).Dir(), lab.DaemonExaBGP+".log"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(d.read[lb], io.SeekStart); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	d.read[lb] += int64(len(data))
	return grumbling(string(data)), err
}

// keep leaves behind what a person wants to see of a round: its story, its script, the client's report, tables and all logs.
func (d *driver) keep(n int, out outcome, s *story) error {
	dir := filepath.Join(d.options.out, fmt.Sprintf("seed%d-round%d", d.seed, n))
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	script := strings.Join(out.Faults, "\n") + "\n"
	errs := []error{writeFile(filepath.Join(dir, "script"), []byte(script)), writeFile(filepath.Join(dir, "story"), []byte(s.text()))}
	if out.Report != nil {
		var b strings.Builder
		errs = append(errs, out.Report.Write(&b), writeFile(filepath.Join(dir, "probes.json"), []byte(b.String())))
	}
	for _, router := range lab.Routers() {
		table, err := d.lab.Birdc(router, "show route all table master4")
		errs = append(errs, err, writeFile(filepath.Join(dir, router+"-routes"), []byte(table)))
	}
	for _, log := range d.lab.Logs() {
		data, err := os.ReadFile(log)
		name := filepath.Base(filepath.Dir(log)) + "-" + filepath.Base(log)
		errs = append(errs, err, writeFile(filepath.Join(dir, name), data))
	}
	fmt.Fprintf(d.out, "chaos: the story, the script to repeat it and all logs are in %s; the script:\n%s", dir, script)
	return errors.Join(errs...)
}

// wait waits until each ExaBGP would bear the ends of its process that a round brings, and notes them.
func (d *driver) wait(ctx context.Context, faults []fault.Fault) error {
	coming := map[int][]time.Duration{}
	for _, f := range faults {
		if endsExazk(f.Kind) {
			coming[f.Node] = append(coming[f.Node], f.At)
		}
	}
	for node := range lab.Balancers() {
		for len(d.ends[node])+len(coming[node]) > respawns && len(d.ends[node]) > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Until(d.ends[node][0].Add(respawnTime))):
			}
			d.ends[node] = d.ends[node][1:]
		}
	}
	for node, ends := range coming {
		for _, at := range ends {
			d.ends[node] = append(d.ends[node], time.Now().Add(at))
		}
	}
	return nil
}

// close prints the closing line.
func (d *driver) close() error {
	_, err := fmt.Fprintf(d.out, "chaos: %v\n", d.result)
	return err
}
