package dist

import (
	"bufio"
	"bytes"
	"debug/elf"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// built is what all tests share; TestMain makes it.
var built struct {
	root    string // of the sources
	dir     string // with the packages
	version string
	epoch   string
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if flag.Parse(); flag.Lookup("test.list").Value.String() != "" {
		return m.Run() // "make fuzz" asks every package what it has
	}
	var err error
	if built.root, err = filepath.Abs(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if built.dir, err = os.MkdirTemp("", "exazk-dist-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built.dir)
	for _, step := range []struct {
		out  *string
		argv []string
	}{
		{&built.version, []string{"dist/version.sh"}},
		{&built.epoch, []string{"git", "log", "-1", "--format=%ct"}},
		{new(string), []string{"dist/build.sh", built.dir}},
	} {
		out, err := in(built.root, nil, step.argv...)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		*step.out = strings.TrimSpace(out)
	}
	return m.Run()
}

// in runs a command in a directory with more in its environment, and returns what it prints to stdout.
func in(dir string, env []string, argv ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out, stderr.Bytes())
	}
	return string(out), nil
}

// must is in for a step without which a test cannot go on.
func must(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	out, err := in(dir, nil, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// needs skips a test where a program or a file of a Debian package is missing.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is missing; remedy: make tools", p)
		}
	}
}

// dpkg's and rpm's words for an architecture.
func deb(arch string) string {
	return filepath.Join(built.dir, "exazk_"+built.version+"_"+arch+".deb")
}

func rpm(arch string) string {
	return filepath.Join(built.dir, "exazk-"+built.version+"-1."+arch+".rpm")
}

func tarball(arch string) string {
	return filepath.Join(built.dir, "exazk-"+built.version+"-linux-"+arch+".tar.gz")
}

// TestBuildsAreReproducible builds a copy of the sources in another place, at another time and with other habits: the sums must be
// the same to the bit.
func TestBuildsAreReproducible(t *testing.T) {
	there, out := filepath.Join(t.TempDir(), "another place"), t.TempDir()
	if err := os.Mkdir(there, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, built.root, "sh", "-c", `umask 077; git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read |
		tar --extract --touch --directory "$1"`, "copy", there)
	env := []string{"VERSION=" + built.version, "SOURCE_DATE_EPOCH=" + built.epoch, "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "GOFLAGS=", "HOSTNAME=elsewhere"}
	if _, err := in(there, env, "sh", "-c", `umask 077; dist/build.sh "$1"`, "build", out); err != nil {
		t.Fatal(err)
	}
	sums := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if a, b := sums(built.dir), sums(out); a != b {
		t.Errorf("one build gives\n%s\nanother\n%s", a, b)
	}
	must(t, built.dir, "sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	for _, want := range []string{deb("amd64"), deb("arm64"), rpm("x86_64"), rpm("aarch64"), tarball("amd64"), tarball("arm64")} {
		if !strings.Contains(sums(built.dir), "  "+filepath.Base(want)+"\n") {
			t.Errorf("SHA256SUMS does not have %s:\n%s", filepath.Base(want), sums(built.dir))
		}
	}
}

// TestVersion makes commits and tags, and asks dpkg and rpm for their order.
func TestVersion(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dist"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, built.root, "cp", "dist/version.sh", filepath.Join(dir, "dist"))
	at := 0
	git := func(args ...string) {
		t.Helper()
		when := fmt.Sprintf("2026-11-22T10:00:%02d+0100", at)
		env := []string{"GIT_COMMITTER_DATE=" + when, "GIT_AUTHOR_DATE=" + when, "GIT_CONFIG_GLOBAL=/dev/null"}
		if _, err := in(dir, env, append([]string{"git", "-c", "user.name=x", "-c", "user.email=x@example.org"}, args...)...); err != nil {
			t.Fatal(err)
		}
		at++
	}
	commit := func() string {
		git("commit", "--quiet", "--allow-empty", "--message", "x")
		return must(t, dir, "git", "rev-parse", "HEAD")[:10]
	}
	version := func() string { return strings.TrimSpace(must(t, dir, "dist/version.sh")) }
	git("init", "--quiet")
	git("add", "dist/version.sh")

	var versions []string // each must come after the one before
	expect := func(want string) {
		t.Helper()
		got := version()
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		versions = append(versions, got)
	}
	expect("0~git20261122.090002." + commit())
	expect("0~git20261122.090003." + commit())
	git("tag", "v1.2-rc1")
	expect("1.2~rc1")
	head := commit()
	git("tag", "--annotate", "--message", "x", "v1.2")
	expect("1.2")
	head = commit()
	expect("1.2+git1." + head)
	if err := os.WriteFile(filepath.Join(dir, "dist/version.sh"), []byte("exit"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, built.root, "cp", "dist/version.sh", filepath.Join(dir, "dist"))
	if err := os.Chmod(filepath.Join(dir, "dist/version.sh"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(must(t, dir, "sh", "dist/version.sh")); got != "1.2+git1."+head+"+dirty" {
		t.Errorf("changed: got %s", got)
	}
	if err := os.Chmod(filepath.Join(dir, "dist/version.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	commit()
	git("tag", "v1.2.1")
	expect("1.2.1")
	needs(t, "dpkg", "rpm")
	for i, v := range versions[1:] {
		must(t, dir, "dpkg", "--compare-versions", versions[i], "lt", v)
		if got := must(t, dir, "rpm", "--eval", fmt.Sprintf("%%{lua:print(rpm.vercmp(%q, %q))}", versions[i], v)); strings.TrimSpace(got) != "-1" {
			t.Errorf("rpm does not take %s for older than %s", versions[i], v)
		}
	}
}

// files are those of the package, and what of them is a directory ends in "/". A package must have none but these and the samples.
var files = []string{
	"/etc/exazk/", "/usr/bin/exazk", "/usr/lib/systemd/system/exabgp.service.d/exazk.conf",
	"/usr/share/bash-completion/completions/exazk", "/usr/share/fish/vendor_completions.d/exazk.fish",
	"/usr/share/man/man1/exazk.1.gz", "/usr/share/man/man5/exazk.toml.5.gz",
	"/usr/share/doc/exazk/README.md", "/usr/share/doc/exazk/copyright", "/usr/share/doc/exazk/docs/ARCHITECTURE.md",
}

// samples are the places of what lies in configs: all of it, and the alert rules and dashboards where other programs read them.
func samples(t *testing.T) []string {
	var out []string
	dir := filepath.Join(built.root, "configs")
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		switch top, _, _ := strings.Cut(rel, "/"); top {
		case "exabgp.service.d": // the drop-in is one of files
		case "prometheus", "grafana":
			out = append(out, "/usr/share/exazk/"+rel)
		default:
			out = append(out, "/usr/share/doc/exazk/examples/"+rel)
		}
		return err
	})
	if err != nil || len(out) == 0 {
		t.Fatal(out, err)
	}
	return out
}

func TestPackagesHoldAll(t *testing.T) {
	needs(t, "dpkg-deb", "rpm")
	for _, tt := range []struct {
		name, list string
		more       []string
	}{
		{"deb", must(t, "", "sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar --list`, "list", deb("arm64")), []string{"/usr/share/zsh/vendor-completions/_exazk", "/usr/share/doc/exazk/changelog.gz"}},
		{"rpm", must(t, "", "rpm", "--query", "--list", "--package", rpm("aarch64")), []string{"/usr/share/zsh/site-functions/_exazk"}},
	} {
		have := map[string]bool{}
		for line := range strings.Lines(tt.list) {
			have[strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "."), "/")] = true
		}
		for _, want := range slices.Concat(files, tt.more, samples(t)) {
			if !have[strings.TrimSuffix(want, "/")] {
				t.Errorf("the %s does not have %s", tt.name, want)
			}
		}
		for path := range have {
			if strings.HasPrefix(path, "/etc/exazk/") {
				t.Errorf("the %s has %s: what lies there may be announced", tt.name, path)
			}
		}
	}
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		for name, unpack := range map[string]string{"deb": `dpkg-deb --extract "$1" .`, "tarball": `tar --extract --strip-components=1 --one-top-level=usr/bin --file "$2"`} {
			dir := t.TempDir()
			must(t, dir, "sh", "-c", unpack, "unpack", deb(arch), tarball(arch))
			f, err := elf.Open(filepath.Join(dir, "usr/bin/exazk"))
			if err != nil {
				t.Fatal(err)
			}
			if libs, err := f.ImportedLibraries(); f.Machine != machine || err != nil || len(libs) > 0 {
				t.Errorf("%s for %s: the program is of %v and needs %v %v", name, arch, f.Machine, libs, err)
			}
			f.Close()
		}
	}
}

// TestArm64Announces runs the other processor's program, emulated, as ExaBGP does: without ZooKeeper, and with a check that passes, it
// announces its own VIP once start_grace is over, and ends with ExaBGP.
func TestArm64Announces(t *testing.T) {
	needs(t, "qemu-aarch64-static", "dpkg-deb")
	dir := t.TempDir()
	must(t, dir, "dpkg-deb", "--extract", deb("arm64"), ".")
	toml := strings.Replace(daemonTOML, "check.command", "start_grace = \"4s\"\ncheck.command", 1) + "[exabgp]\nneighbor_tracking = \"off\"\n"
	if err := os.WriteFile(filepath.Join(dir, "a.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := must(t, dir, "sh", "-c", "qemu-aarch64-static usr/bin/exazk --version 2>&1"); out != "exazk "+built.version+"\n" {
		t.Errorf("got version %q", out)
	}
	var stderr bytes.Buffer
	cmd := exec.Command("qemu-aarch64-static", "usr/bin/exazk", "--config", "a.toml")
	cmd.Dir, cmd.Stderr = dir, &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "announce ") {
	}
	if lines.Text() != "announce route 10.20.255.1/32 next-hop self med 100" {
		t.Errorf("it writes %q: %v", lines.Text(), lines.Err())
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil || t.Failed() {
		t.Errorf("it ends with %v:\n%s", err, stderr.Bytes())
	}
}

// TestPackagedFilesNameThePackagesProgram looks for the place of a program that was installed by hand.
func TestPackagedFilesNameThePackagesProgram(t *testing.T) {
	needs(t, "dpkg-deb")
	dir := t.TempDir()
	must(t, dir, "dpkg-deb", "--extract", deb("amd64"), ".")
	for _, place := range []string{"usr/share/doc/exazk/examples", "usr/lib/systemd"} {
		out, err := in(dir, nil, "grep", "-rn", "/usr/local/bin/exazk", place)
		if err == nil {
			t.Errorf("the package installs no such file:\n%s", out)
		}
	}
	conf := must(t, dir, "cat", "usr/lib/systemd/system/exabgp.service.d/exazk.conf")
	if !strings.Contains(conf, "; /usr/bin/exazk drain --force") || !strings.Contains(conf, "\nExecStartPost=-/usr/bin/exazk drain --undo\n") {
		t.Errorf("the drop-in does not drain with the package's program:\n%s", conf)
	}
}

func TestLintian(t *testing.T) {
	needs(t, "lintian")
	if out, err := in("", nil, "lintian", "--allow-root", "--fail-on", "error,warning", deb("arm64")); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRPMIsWhole(t *testing.T) {
	needs(t, "rpm")
	for _, arch := range []string{"x86_64", "aarch64"} {
		if out := must(t, "", "rpm", "--checksig", rpm(arch)); !strings.HasSuffix(out, ": digests OK\n") {
			t.Errorf("%s", out)
		}
	}
}

// TestManualPagesAreSound asks both of the formatters that read manual pages.
func TestManualPagesAreSound(t *testing.T) {
	needs(t, "man", "mandoc", "dpkg-deb")
	dir := t.TempDir()
	must(t, dir, "dpkg-deb", "--extract", deb("amd64"), ".")
	pages, err := filepath.Glob(filepath.Join(dir, "usr/share/man/man*/*.gz"))
	if err != nil || len(pages) != 2 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		cmd := exec.Command("sh", "-c", `man --local-file --warnings=w "$1" 2>&1 >/dev/null; gunzip <"$1" | mandoc -Tlint -W warning`, "lint", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANROFFSEQ=")
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", page, err, out)
		}
	}
}
