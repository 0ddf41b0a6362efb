package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "rewrite the commands in dist/man/exazk.1.md")

const manualPage = "dist/man/exazk.1.md"

// commandsPart is what of the page is made of the program's definitions.
var commandsPart = regexp.MustCompile(`(?s)(<!-- made of .*? -->\n\n).*?(<!-- end of .*? -->)`)

// TestManualHasEveryCommandAndOption compares exazk(1) with the definitions of the command line, word for word.
func TestManualHasEveryCommandAndOption(t *testing.T) {
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	app := newApp(os.Stdin, io.Discard, io.Discard)
	writeFlags(&b, append(app.Flags, versionFlags...))
	writeCommands(&b, "exazk", app.Commands)
	parts := commandsPart.FindSubmatchIndex(page)
	if parts == nil {
		t.Fatalf("%s has no place for the commands", manualPage)
	}
	want := string(page[:parts[3]]) + b.String() + string(page[parts[4]:])
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the commands are; remedy: make update, and read the change. It should have:\n%s", manualPage, firstDifference(string(page), want))
	}
	if err := os.WriteFile(manualPage, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestManualHasEveryExitCode looks for each of the exit codes in exazk(1).
func TestManualHasEveryExitCode(t *testing.T) {
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{exitOK, exitError, exitUsage, exitRefused, exitNotDrained} {
		if !strings.Contains(string(page), fmt.Sprintf("\n**%d**\n:   ", code)) {
			t.Errorf("%s does not explain exit code %d", manualPage, code)
		}
	}
}

// versionFlags are those that the library adds.
var versionFlags = []cli.Flag{
	&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show the options, to stderr; each command has it too"},
	&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "show the version, to stderr"},
}

func writeCommands(b *strings.Builder, parent string, commands []*cli.Command) {
	for _, c := range commands {
		if c.Hidden {
			continue
		}
		name := parent + " " + c.Name
		if len(c.Subcommands) == 0 {
			fmt.Fprintf(b, "### %s\n\n", name)
			for _, line := range strings.Split(c.UsageText, " | ") {
				fmt.Fprintf(b, "**%s**\n\n", markdown(line))
			}
			fmt.Fprintf(b, "%s.\n\n", markdown(strings.ToUpper(c.Usage[:1])+c.Usage[1:]))
			writeFlags(b, c.Flags)
		}
		writeCommands(b, name, c.Subcommands)
	}
}

var placeholder = regexp.MustCompile("`([^`]+)`")

func writeFlags(b *strings.Builder, flags []cli.Flag) {
	var shared []string
	for _, f := range flags {
		d := f.(cli.DocGenerationFlag)
		value := ""
		if m := placeholder.FindStringSubmatch(d.GetUsage()); m != nil {
			value = " *" + m[1] + "*"
		} else if d.TakesValue() {
			value = " *VALUE*"
		}
		var names []string
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 || name != strings.ToLower(name) { // the short ones of the Python tool have one dash
				dashes = "-"
			}
			names = append(names, "**"+dashes+name+"**"+value)
		}
		if c, ok := f.(cli.CategorizableFlag); ok && c.GetCategory() == withoutFile {
			shared = append(shared, names...)
			continue
		}
		text := markdown(strings.ReplaceAll(d.GetUsage(), "`", ""))
		text = strings.ToUpper(text[:1]) + text[1:] // the name of a placeholder has capitals already
		if def := d.GetDefaultText(); d.TakesValue() && def != "" && def != `""` && def != "0s" {
			text += " (default: " + markdown(def) + ")"
		}
		fmt.Fprintf(b, "%s\n:   %s.\n\n", strings.Join(names, ", "), text)
	}
	if len(shared) > 0 {
		fmt.Fprintf(b, "Without a file, the options of the Python tool, as above: %s.\n\n", strings.Join(shared, ", "))
	}
}

// markdown is a text as it is, with nothing in it that would have a meaning.
func markdown(s string) string {
	return strings.NewReplacer("*", `\*`, "_", `\_`, "<", `\<`, "[", `\[`, "]", `\]`).Replace(s)
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			return strings.Join(b[i:min(i+4, len(b))], "\n")
		}
	}
	return "nothing more after line " + fmt.Sprint(len(b))
}
