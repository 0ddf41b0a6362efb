package web

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// inside is set in the environment of the tests once they run in a network namespace of their own.
const inside = "EXAZK_WEB_NETNS"

// TestMain has the tests run in a network namespace that has nothing but loopback: Chromium would talk to its maker.
func TestMain(m *testing.M) {
	if os.Geteuid() == 0 && os.Getenv(inside) == "" {
		script := `ip link set lo up && exec "$0" "$@"`
		unshare, err := exec.LookPath("unshare")
		if err == nil {
			err = syscall.Exec(unshare, append([]string{"unshare", "--net", "--", "/bin/sh", "-c", script}, os.Args...), append(os.Environ(), inside+"=1"))
		}
		fmt.Fprintln(os.Stderr, "no network namespace:", err)
	}
	goleak.VerifyTestMain(tests{m})
}

// tests are those of this package; Chromium ends with them.
type tests struct{ *testing.M }

func (t tests) Run() int {
	code := t.M.Run()
	if chromium.Browser != nil {
		chromium.Close()
	}
	return code
}
