package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"exazk/vagrant/lab"
)

var (
	processBlock = regexp.MustCompile(`(?ms)^process exazk-apex \{.*?^\}\n`)
	apiBlock     = regexp.MustCompile(`(?ms)^    api \{.*?^    \}\n`)
)

// healthcheck is the command of the baseline: ExaBGP's own healthcheck with all VIPs, timed like exazk's check.
func healthcheck() string {
	args := []string{"/usr/bin/python3 -m exabgp healthcheck --silent --no-ip-setup --withdraw-on-down",
		"--interval 1 --fast-interval 0.2 --timeout 1 --rise 3 --fall 2", "--disable " + disabled,
		"--command /usr/local/bin/check_local_nginx.sh"}
	for _, vip := range lab.VIPs() {
		args = append(args, "--ip "+vip.String()+"/32")
	}
	return strings.Join(args, " ")
}

// anycastConf turns a sample configuration of ExaBGP into that of the baseline. The process gets no message but the
// acknowledgements of its commands: those it counts, and anything else would confuse it.
func anycastConf(sample string) (string, error) {
	if !processBlock.MatchString(sample) || !apiBlock.MatchString(sample) {
		return "", fmt.Errorf("the sample configuration is not as expected: %q", sample)
	}
	conf := processBlock.ReplaceAllLiteralString(sample, "process healthcheck {\n    run "+healthcheck()+";\n    encoder text;\n}\n")
	return apiBlock.ReplaceAllLiteralString(conf, "    api {\n        processes [ healthcheck ];\n    }\n"), nil
}

// anycastConfs reads the samples of all nodes.
func anycastConfs(configs string) (func(node int) string, error) {
	confs := map[int]string{}
	for i := range lab.Balancers() {
		data, err := os.ReadFile(filepath.Join(configs, fmt.Sprintf("exabgp-node%d.conf", i+1)))
		if err != nil {
			return nil, err
		}
		if confs[i+1], err = anycastConf(string(data)); err != nil {
			return nil, err
		}
	}
	return func(node int) string { return confs[node] }, nil
}
