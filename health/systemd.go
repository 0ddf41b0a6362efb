package health

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Systemd passes while a unit is active, as "systemctl is-active" says it. It asks systemd over the system bus, which needs
// no privileges.
type Systemd struct {
	Unit string // with its suffix: "nginx.service"
}

func (s *Systemd) String() string { return "systemd " + s.Unit }

// unitTypes are the suffixes of units, systemd.unit(5).
var unitTypes = []string{"service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"}

// Validate implements Probe.
func (s *Systemd) Validate() error {
	var f faults
	dot := strings.LastIndexByte(s.Unit, '.')
	switch {
	case s.Unit == "":
		f.add("unit", "missing; remedy: write the unit's name, such as \"nginx.service\"")
	case strings.ContainsAny(s.Unit, "/*?[] \t\n") || len(s.Unit) > 255:
		f.add("unit", "%q is not the name of one unit; remedy: write one as \"systemctl list-units\" shows it", s.Unit)
	case dot < 1 || !slices.Contains(unitTypes, s.Unit[dot+1:]):
		f.add("unit", "%q has no suffix that tells its type; remedy: write it, such as %q", s.Unit, s.Unit+".service")
	case s.Unit[dot-1] == '@':
		f.add("unit", "%q is a template; remedy: write an instance of it, such as %q", s.Unit, s.Unit[:dot]+"name"+s.Unit[dot:])
	}
	f.text("unit", s.Unit)
	return f.err()
}

func (s *Systemd) prepare(o options) runner { return &looker{options: o, look: s.look} }

// unitStatus is one element of the answer to ListUnitsByNames, org.freedesktop.systemd1(5).
type unitStatus struct {
	Name, Description, Load, Active, Sub, Following string

	Path    dbus.ObjectPath
	Job     uint32
	JobType string
	JobPath dbus.ObjectPath
}

func (s *Systemd) look(ctx context.Context) (string, error) {
	bus, err := dbus.SystemBusPrivate(dbus.WithContext(ctx)) // closed with ctx, whatever it waits for
	if err != nil {
		return "", fmt.Errorf("%w; the package dbus has it", err)
	}
	defer bus.Close()
	if err := bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		return "", fmt.Errorf("system bus: %w", err)
	}
	if err := bus.Hello(); err != nil {
		return "", fmt.Errorf("system bus: %w", err)
	}
	var units []unitStatus
	// It loads a unit that is not loaded, unlike GetUnit. Since systemd 230.
	call := bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager.ListUnitsByNames", dbus.FlagNoAutoStart, []string{s.Unit})
	if err := call.Store(&units); err != nil {
		return "", fmt.Errorf("ask systemd: %w", err)
	}
	if len(units) != 1 {
		return "", fmt.Errorf("systemd named %d units, want one", len(units))
	}
	switch u := units[0]; {
	case u.Active == "active" || u.Active == "reloading" || u.Active == "refreshing": // the last since systemd 257
		return fmt.Sprintf("%s (%s)", u.Active, u.Sub), nil
	case u.Load != "loaded":
		return "", fmt.Errorf("%s (%s)", u.Active, u.Load)
	default:
		return "", fmt.Errorf("%s (%s)", u.Active, u.Sub)
	}
}
