package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"exazk/daemon"
)

// filesBelongHere is what a shell gets instead of words where it should offer its files.
const filesBelongHere = ":files"

// completeCommand tells a shell how a command line goes on: its arguments are the words after "exazk", the last one being that which
// is being written. It prints a word a line, with a tab and its meaning behind it. The library's own completion knows no values,
// and would print to stderr with the rest.
func completeCommand(stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name: "complete", Usage: "tell a shell how a command line goes on", UsageText: "exazk complete WORD…", Hidden: true, SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) == 0 {
				words = []string{""}
			}
			before, last := words[:len(words)-1], words[len(words)-1]
			for _, w := range candidates(c.App, before, last, configDir) {
				if strings.HasPrefix(w, last) || w == filesBelongHere {
					fmt.Fprintln(stdout, w)
				}
			}
			return nil
		},
	}
}

// candidates are the words that may follow those before. dir is where a configuration lies that none of them names.
func candidates(app *cli.App, before []string, last, dir string) []string {
	here := &cli.Command{Subcommands: app.Commands, Flags: app.Flags}
	file := ""
	for i := 0; i < len(before); i++ {
		name, value, joined := strings.Cut(before[i], "=")
		f := flagNamed(here.Flags, name)
		switch {
		case f != nil && f.TakesValue() && !joined:
			if i++; i == len(before) {
				return values(f, file, dir)
			}
			value = before[i]
		case f == nil:
			if sub := commandNamed(here.Subcommands, before[i]); sub != nil {
				here = sub
			}
		}
		if f != nil && f.Names()[0] == "config" {
			file = value
		}
	}
	if strings.HasPrefix(last, "-") {
		return flagWords(here.Flags)
	}
	switch out := commandWords(here.Subcommands); {
	case strings.Contains(here.UsageText, "[NODE]"):
		return append(out, nodeWords(file, dir)...)
	case here.Name == "check" || here.Name == "convert":
		return []string{filesBelongHere}
	default:
		return out
	}
}

func flagNamed(flags []cli.Flag, word string) cli.DocGenerationFlag {
	name := strings.TrimLeft(word, "-")
	for _, f := range flags {
		if name != word && slices.Contains(f.Names(), name) {
			return f.(cli.DocGenerationFlag)
		}
	}
	return nil
}

func commandNamed(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func flagWords(flags []cli.Flag) []string {
	var out []string
	for _, f := range flags {
		out = append(out, "--"+f.Names()[0]+"\t"+strings.ReplaceAll(f.(cli.DocGenerationFlag).GetUsage(), "`", ""))
	}
	return out
}

func commandWords(commands []*cli.Command) []string {
	var out []string
	for _, c := range commands {
		if !c.Hidden {
			out = append(out, c.Name+"\t"+c.Usage)
		}
	}
	return out
}

// values are what may follow an option.
func values(f cli.DocGenerationFlag, file, dir string) []string {
	switch f.Names()[0] {
	case "config":
		return []string{filesBelongHere}
	case "service":
		if cfg := configured(file, dir); cfg != nil {
			return serviceNames(cfg.Services)
		}
	}
	return nil
}

// nodeWords are the nodes that the configuration knows.
func nodeWords(file, dir string) []string {
	cfg := configured(file, dir)
	if cfg == nil {
		return nil
	}
	nodes := map[string]bool{cfg.Node: true}
	for i := range cfg.Services {
		for _, name := range cfg.Services[i].Nodes {
			nodes[name] = true
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

// configured is the configuration that a command would use, nil where there is none: a shell that asks wants no errors.
func configured(file, dir string) *daemon.Config {
	if file == "" {
		var err error
		if file, err = onlyConfig(dir); err != nil {
			return nil
		}
	}
	cfg, err := daemon.LoadConfigAlone(file)
	if err != nil {
		return nil
	}
	return cfg
}
