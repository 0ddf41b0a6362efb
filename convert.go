package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"exazk/daemon"
)

// pythonConfig is the Python tool's YAML file: all of its keys.
type pythonConfig struct {
	ZKHosts         []string `yaml:"zk_hosts"`
	PathService     string   `yaml:"zk_path_service"`
	PathMaintenance string   `yaml:"zk_path_maintenance"`
	Debug           bool     `yaml:"debug"`
	Silent          bool     `yaml:"silent"`
	Syslog          *bool    `yaml:"syslog"`
	SyslogFacility  string   `yaml:"syslog_facility"`
	LocalCheck      string   `yaml:"local_check"`
	Name            string   `yaml:"srv_name"`
	AuthIP          string   `yaml:"srv_auth_ip"`
	NonAuthIPs      []string `yaml:"srv_non_auth_ips"`
}

func convertAction(c *cli.Context, stdout io.Writer) error {
	if c.Args().Len() != 1 {
		return usage(errors.New("which file? usage: exazk convert OLD.yml > NEW.toml"))
	}
	file := c.Args().First()
	text, err := os.ReadFile(file)
	if err != nil {
		return usage(fmt.Errorf("read the Python tool's configuration: %w", err))
	}
	out, err := convert(text)
	if err != nil {
		return usage(fmt.Errorf("%s: %w", file, err))
	}
	_, err = fmt.Fprintf(stdout, "# Converted from %s of the Python tool. Every key is shown; those that it did not have are at their defaults.\n%s", filepath.Base(file), out)
	return err
}

// convert gives the TOML text that means the same as the YAML text.
func convert(text []byte) (string, error) {
	var old pythonConfig
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&old); err != nil {
		return "", fmt.Errorf("not a configuration of the Python tool: %w", err)
	}
	cfg, err := daemon.FlagsConfig(old.flags())
	if err != nil {
		return "", err
	}
	if old.Syslog != nil {
		cfg.Log.Syslog = *old.Syslog
	}
	if old.SyslogFacility != "" {
		if _, ok := syslogFacility(old.SyslogFacility); !ok {
			return "", fmt.Errorf("syslog_facility: %q is not known; remedy: write daemon, user or local0 to local7", old.SyslogFacility)
		}
		cfg.Log.SyslogFacility = old.SyslogFacility
	}
	if old.Debug {
		cfg.Log.Level, cfg.Log.Syslog = "debug", false
	}
	out := cfg.Render()
	if old.Silent {
		out = "# silent: True has no key here; add --silent to the command line.\n" + out
	}
	return out, nil
}

func (p *pythonConfig) flags() daemon.Flags {
	f := daemon.Flags{
		Name: p.Name, NonAuthIPs: p.NonAuthIPs, LocalCheck: p.LocalCheck, ZKHosts: p.ZKHosts,
		PathService: p.PathService, PathMaintenance: p.PathMaintenance,
	}
	if p.AuthIP != "" {
		f.AuthIPs = []string{p.AuthIP}
	}
	return f
}
