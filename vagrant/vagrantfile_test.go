// Package vagrant holds no code: the Vagrantfile and what it provisions are tested here.
package vagrant

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestVagrantfileIsValid(t *testing.T) {
	path, err := exec.LookPath("vagrant")
	if err != nil {
		t.Skip("vagrant is not installed")
	}
	home := t.TempDir()
	// Without --ignore-provider, an installed VirtualBox or libvirt would be needed to say anything.
	cmd := exec.Command(path, "validate", "--ignore-provider")
	cmd.Env = append(os.Environ(), "HOME="+home, "VAGRANT_HOME="+home, "VAGRANT_DOTFILE_PATH="+home, "VAGRANT_CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("vagrant validate: %v\n%s", err, out)
	}
}

func TestProvisioningScriptsParse(t *testing.T) {
	scripts, err := filepath.Glob("provision/*.sh")
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) != 5 {
		t.Errorf("%d provisioning scripts, want one for all hosts and one for each of four roles", len(scripts))
	}
	for _, script := range append(scripts, "install.sh", "../configs/check_local_nginx.sh") {
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		if st, err := os.Stat(script); err != nil || st.Mode()&0o111 == 0 {
			t.Errorf("%s is not executable (%v)", script, err)
		}
	}
}
