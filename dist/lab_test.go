package dist

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"exazk/vagrant/lab"
)

// layers has dpkg write to layers in memory on a host of the lab, beside /etc and /usr/local, which are such already.
const layers = `set -e
for dir in /usr/bin /usr/lib/systemd /usr/share /var/cache/man /var/lib/dpkg /var/log; do
	layer=/run/.overlay$dir
	mkdir -p "$layer/upper" "$layer/work"
	mount -t overlay -o "lowerdir=$dir,upperdir=$layer/upper,workdir=$layer/work" overlay "$dir"
done
`

// TestLabRunsThePackage installs the package on the load balancers of a lab, with its samples and its drop-in, upgrades one without a
// change that a router sees, and stops and starts its ExaBGP as systemd would.
func TestLabRunsThePackage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: network namespaces can not be made")
	}
	if err := lab.Missing(); err != nil {
		t.Skip(err)
	}
	needs(t, "dpkg", "dpkg-deb")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l := packagedLab(ctx, t)
	steady := func() error { return l.Steady(ctx) }
	until(t, time.Minute, "the steady state", steady)

	pkg, version := again(t)
	before, err := l.ExazkPID("lb2")
	if err != nil {
		t.Fatal(err)
	}
	changed := throughout(steady)
	lb2 := l.Host("lb2")
	installOn(ctx, t, l, pkg, "lb2")
	if now, err := l.ExazkPID("lb2"); err != nil || now != before {
		t.Errorf("the upgrade itself changed the daemon: %d is now %d, %v", before, now, err)
	}
	if out, err := lb2.Run(ctx, "dpkg-query", "--show", "--showformat=${Version}", "exazk"); err != nil || out != version {
		t.Errorf("installed is %s, want %s: %v", out, version, err)
	}
	// Only this one: on the machine that the lab is on, a restart without a file would be that of others too.
	if _, err := lb2.Run(ctx, "exazk", "restart", "--config", "/etc/exazk/apex-node2.toml"); err != nil {
		t.Error(err)
	}
	if now, err := l.ExazkPID("lb2"); err != nil || now == before {
		t.Errorf("restart: the daemon is still %d, %v", now, err)
	}
	time.Sleep(3 * time.Second) // longer than a new process takes for its first verdict
	if err := changed(); err != nil {
		t.Errorf("during the upgrade: %v", err)
	}

	silent := throughout(func() error {
		table, err := l.Routes("r0")
		if err == nil && len(table.For(lab.VIPs()[1])) == 0 {
			err = fmt.Errorf("nobody announces %v", lab.VIPs()[1])
		}
		return err
	})
	if err := l.StopUnit(ctx, "lb2"); err != nil {
		t.Error(err)
	}
	if err := l.StartUnit(ctx, "lb2"); err != nil {
		t.Error(err)
	}
	until(t, time.Minute, "the steady state again", steady)
	if err := silent(); err != nil {
		t.Errorf("during a stop and a start: %v", err)
	}
}

// packagedLab builds a lab in which nothing of exazk comes from the sources.
func packagedLab(ctx context.Context, t *testing.T) *lab.Lab {
	t.Helper()
	dir := t.TempDir()
	must(t, dir, "dpkg-deb", "--extract", deb("amd64"), "package")
	must(t, dir, "sh", "-c", "cp -R package/usr/share/doc/exazk/examples configs && cp -R package/usr/lib/systemd/system/exabgp.service.d configs/")
	must(t, built.root, "env", "CGO_ENABLED=0", "go", "build", "-o", dir+"/", "./vagrant/web")
	id := make([]byte, 2)
	_, _ = rand.Read(id) // never fails, see crypto/rand
	prefix := "xd" + hex.EncodeToString(id)
	labDir := filepath.Join(dir, "lab")
	t.Cleanup(func() {
		if err := lab.Down(prefix, labDir); err != nil {
			t.Error(err)
		}
	})
	l, err := lab.Up(ctx, lab.Options{
		Prefix: prefix, Dir: labDir, WebBinary: filepath.Join(dir, "web"),
		ConfigDir: filepath.Join(dir, "configs"), BirdDir: filepath.Join(built.root, "vagrant/bird"),
		Prepare: func(l *lab.Lab) error {
			for _, lb := range []string{"lb1", "lb2", "lb3"} {
				if _, err := l.Host(lb).Run(ctx, "sh", "-c", layers); err != nil {
					return err
				}
				installOn(ctx, t, l, deb("amd64"), lb)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func installOn(ctx context.Context, t *testing.T, l *lab.Lab, pkg, lb string) {
	t.Helper()
	at := "/usr/local/" + filepath.Base(pkg)
	if err := l.Host(lb).CopyFile(pkg, at, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Host(lb).Run(ctx, "dpkg", "--path-include=/usr/share/doc/*", "--install", at); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func until(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	err := check()
	for began := time.Now(); err != nil; err = check() {
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// throughout checks again and again until the function that it returns is called, which returns the first fault.
func throughout(check func() error) func() error {
	stop, fault := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				fault <- nil
				return
			default:
			}
			if err := check(); err != nil {
				fault <- fmt.Errorf("%s", strings.TrimSpace(err.Error()))
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return func() error {
		close(stop)
		return <-fault
	}
}
