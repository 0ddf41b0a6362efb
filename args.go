package main

import (
	"slices"
	"strings"
)

// pythonArgs rewrites the forms that the Python tool's argument parser accepts and Go's does not, so that its "run"
// lines in an ExaBGP configuration work as they stand:
//
//	-sF            without a value means daemon
//	-napex         the value of a one-letter option joined to it
//	-ds            one-letter switches joined
//	--zk-path-s X  a long option cut short, where that is unambiguous
//
// What it does not know it passes on. A subcommand ends it: those are new and have no old form.
func pythonArgs(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" || !strings.HasPrefix(a, "-") || a == "-" {
			return append(out, args[i:]...)
		}
		name, joined, hasValue := strings.Cut(a, "=")
		if strings.HasPrefix(a, "--") {
			name = completeLong(name)
		}
		switch {
		case (name == "-sF" || name == "--syslog-facility") && !hasValue:
			out = append(out, "--syslog-facility=daemon")
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
				out[len(out)-1] = "--syslog-facility=" + args[i]
			}
		case takesValue[name]:
			if !hasValue && i+1 < len(args) {
				i++
				joined, hasValue = args[i], true
			}
			if hasValue {
				name += "=" + joined
			}
			out = append(out, name)
		case len(a) > 2 && takesValue[a[:2]] && a[1] != '-':
			out = append(out, a[:2]+"="+a[2:])
		case len(a) > 2 && a[1] != '-' && strings.Trim(a[1:], "ds") == "":
			for _, letter := range a[1:] {
				out = append(out, "-"+string(letter))
			}
		case hasValue:
			out = append(out, name+"="+joined)
		default:
			out = append(out, name)
		}
	}
	return out
}

var longOptions = []string{
	"--config", "--debug", "--silent", "--no-syslog", "--syslog-facility", "--zk-host", "--zk-hosts", "--zk-path-service",
	"--zk-path-maintenance", "--local-check", "--name", "--auth-ip", "--non-auth-ip", "--help", "--version",
}

var takesValue = map[string]bool{
	"--config": true, "-f": true, "--zk-host": true, "--zk-hosts": true, "-zH": true, "--zk-path-service": true, "-zPS": true,
	"--zk-path-maintenance": true, "-zPM": true, "--local-check": true, "-c": true, "--name": true, "-n": true,
	"--auth-ip": true, "-A": true, "--non-auth-ip": true, "-N": true,
}

// completeLong gives the one long option that starts like name, or name itself.
func completeLong(name string) string {
	found := ""
	for _, o := range longOptions {
		if o == name {
			return name
		}
		if strings.HasPrefix(o, name) {
			if found != "" && found != "--zk-host" { // --zk-hosts is the same option
				return name
			}
			if found == "" {
				found = o
			}
		}
	}
	if found == "" {
		return name
	}
	return found
}

// commandValues are the options of the operator's commands that take a value.
var commandValues = map[string]bool{
	"--config": true, "-f": true, "--zk-host": true, "--zk-hosts": true, "-zH": true, "--zk-path-service": true, "-zPS": true,
	"--zk-path-maintenance": true, "-zPM": true, "--name": true, "-n": true,
	"--service": true, "--reason": true, "--for": true, "--timeout": true, "--vip": true, "--lines": true, "-l": true,
}

// flagsFirst puts the options of an operator's command before its arguments, since people write "enter node2 --wait", and
// Go's parser takes all that follows the first argument for arguments.
func flagsFirst(args []string) []string {
	words := 0
	switch {
	case len(args) > 1 && args[0] == "maintenance" && !strings.HasPrefix(args[1], "-"):
		words = 2
	case len(args) > 0 && slices.Contains([]string{"drain", "failback", "status", "why", "history"}, args[0]):
		words = 1
	default:
		return args
	}
	out := append([]string{}, args[:words]...)
	var plain []string
	for i := words; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			plain = append(plain, args[i+1:]...)
			i = len(args)
		case !strings.HasPrefix(a, "-") || a == "-":
			plain = append(plain, a)
		case commandValues[a] && i+1 < len(args):
			i++
			out = append(out, a+"="+args[i])
		default:
			out = append(out, a)
		}
	}
	if len(plain) > 0 {
		out = append(append(out, "--"), plain...)
	}
	return out
}
