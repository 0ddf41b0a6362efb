// Package mutants plants bugs. Each is a change of a few words in one file of the production code, such as a person might make
// by mistake, and each breaks a promise that the simulator watches over: a simulator that does not find it would not find
// the mistake either.
//
// No file of the project is changed and no hook is left in it. A mutant is a mutated copy of the file in another directory, and an
// overlay, which has the Go tool read the copy instead of the file: "go build -overlay FILE", see "go help build".
package mutants

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mutant is a planted bug: in File, New stands for Old.
type Mutant struct {
	Name   string // short and unique, of letters, digits and '-'
	What   string // the bug, and what it would do to users
	File   string // from the root of the sources, with slashes
	Old    string // occurs exactly once in File
	New    string // may be empty
	Expect string // what is expected to be broken by it
}

// Mutate returns source, the text of File, with the bug in it. Its errors name the mutant.
func (m Mutant) Mutate(source string) (string, error) {
	if m.Old == "" || m.Old == m.New {
		return "", fmt.Errorf("mutant %q changes nothing", m.Name)
	}
	if n := strings.Count(source, m.Old); n != 1 {
		return "", fmt.Errorf("mutant %q: %d times in %s, and should be there once: %q", m.Name, n, m.File, m.Old)
	}
	return strings.Replace(source, m.Old, m.New, 1), nil
}

// Plant writes the mutated copy of File, and an overlay that stands it in its place, into dir, which must be there and another
// one for each mutant. It returns the path of the overlay. Root is the root of the sources.
func (m Mutant) Plant(root, dir string) (overlay string, err error) {
	file, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(m.File)))
	if err != nil {
		return "", fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	mutated, err := m.Mutate(string(source))
	if err != nil {
		return "", err
	}
	copied, err := filepath.Abs(filepath.Join(dir, filepath.Base(file)))
	if err != nil {
		return "", fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	// The form is that of cmd/go/internal/fsys.
	table, err := json.Marshal(map[string]map[string]string{"Replace": {file: copied}})
	if err != nil {
		return "", fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := errors.Join(os.WriteFile(copied, []byte(mutated), 0o644), os.WriteFile(overlay, table, 0o644)); err != nil {
		return "", fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	return overlay, nil
}
