# ExaZK. "make help" lists the targets.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# The version comes from git above; git may not be there, and the checkout may be another user's.
GOFLAGS  += -trimpath -buildvcs=false
export GOFLAGS
LDFLAGS  := -s -w -X main.version=$(VERSION)
FUZZTIME ?= 30s
# The least coverage of a package by its own tests, percent of statements.
COVER    := daemon=95 exabgp=90 zkstate=90 health=90
# One after the other: each measures what is lost, on a machine that a second one would keep busy. vagrant/e2e has two labs at a time
# already; where there is one processor it has one, and takes twice as long, hence the timeout.
E2E      := ./vagrant/e2e ./vagrant/chaos
UNIT      = $(shell go list ./... | grep -v -e /vagrant/e2e -e /vagrant/chaos -e '/dist$$')
MINUTES  ?= 10
SEEDS    ?= 20000

.PHONY: help build tools lab-tools test vet unit reconnect e2e sim sim-profile sim-mutants chaos bench-failover screenshots lab lab-down cover fuzz update check-configs lint dist dist-test clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./exazk, one static binary
	CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o exazk .

lab-tools: ## install what the lab needs (root, Debian 12)
	@vagrant/install.sh lab

tools: ## install what the tests need (root, Debian 12)
	@vagrant/install.sh test

lab: lab-tools build ## build the lab, walk through a failure and a return, leave it up (root)
	@mkdir -p bin
	CGO_ENABLED=0 go build -o bin/ ./vagrant/labctl ./vagrant/web ./vagrant/probe
	@bin/labctl up -demo

lab-down: ## take the lab down and leave nothing (root)
	@mkdir -p bin && CGO_ENABLED=0 go build -o bin/ ./vagrant/labctl
	@bin/labctl down

test: tools vet check-configs unit reconnect dist-test e2e ## every test, those on real parts included (root)

vet:
	go vet ./...
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "not gofmt-ed:"; echo "$$bad"; exit 1; }

unit: ## the tests of the packages, with the race detector
	go test -race -shuffle=on -timeout 10m $(UNIT)

reconnect: ## the ZooKeeper client forced to reconnect; without the race detector, for the library has a race there
	go test -shuffle=on -cpu 2 -timeout 10m ./zkstate/...

e2e: ## end to end in network namespaces: BIRD, ExaBGP, ZooKeeper (root)
	go test -count=1 -p 1 -timeout 40m -v $(E2E)

bench-failover: ## measure every failover in the lab and write docs/failover.md; hours (root). BENCH="-runs 1 -only REGEXP" for less
	@mkdir -p bin
	CGO_ENABLED=0 go build -o bin/ ./vagrant/bench
	@bin/bench $(BENCH)

screenshots: lab-tools build ## make the pictures in docs/screenshots anew, from a lab of its own (root, after "make tools")
	@mkdir -p bin
	CGO_ENABLED=0 go build -o bin/ ./vagrant/screenshots ./vagrant/web
	@bin/screenshots

sim: ## play SEEDS lives of a simulated cluster, or tell the story of one: SEED=n. SIM="-shrink -svg seed.svg" for less or a picture
	@mkdir -p bin
	CGO_ENABLED=0 go build -o bin/ ./sim/cmd/sim
	@bin/sim $(if $(SEED),-seed $(SEED),-seeds $(SEEDS)) $(SIM)

sim-profile: ## make the profile anew that the simulator is built by, after large changes (go doc cmd/compile, PGO)
	go test ./sim -run '^$$' -bench Play -benchtime 20s -cpuprofile $(CURDIR)/sim/cmd/sim/default.pgo -o /dev/null

sim-mutants: ## plant bugs, one at a time, and show how many seeds it takes to find each; MUTANTS="-only REGEXP -limit N"
	@mkdir -p bin
	CGO_ENABLED=0 go build -o bin/ ./sim/cmd/mutants
	@bin/mutants $(MUTANTS)

chaos: ## drive the lab through faults drawn from a seed, for MINUTES (root). SEED=n for those of an earlier run, CHAOS="-round 3"
	@mkdir -p bin
	CGO_ENABLED=0 go build -o bin/ ./vagrant/chaos
	@bin/chaos -minutes $(MINUTES) $(if $(SEED),-seed $(SEED)) $(CHAOS)

check-configs: build ## validate the sample configurations
	@for f in configs/*.toml; do ./exazk check --config $$f >/dev/null || exit 1; done; echo "sample configurations are valid"

cover: ## coverage of daemon (at least 95 %), exabgp, zkstate and health (90 %) by their own tests (root, after "make tools")
	@go test -cover $(foreach c,$(COVER),./$(firstword $(subst =, ,$(c)))) | awk -v bounds='$(COVER)' ' \
		$$1 == "ok" { n = split($$2, path, "/"); match($$0, /coverage: [0-9.]+/); have[path[n]] = substr($$0, RSTART + 10, RLENGTH - 10) } \
		$$1 != "ok" { print } \
		END { for (i = split(bounds, all, " "); i > 0; i--) { split(all[i], b, "="); low = have[b[1]] + 0 < b[2]; bad += low; \
			printf "%-8s %5.1f %% (at least %d %%)%s\n", b[1], have[b[1]], b[2], low ? ": too little" : "" } exit bad > 0 }'

fuzz: ## fuzz every fuzz target for FUZZTIME each
	@for p in $$(go list ./...); do for t in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$t"; go test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$p || exit 1; done; done

update: ## rewrite transcripts and goldens; read the diff before committing
	go test . -run TestManual -update
	go test ./daemon -run TestTranscripts -update
	go test ./exabgp -run "TestDecodeFixtures|TestWriter$$" -update
	go test ./metrics -run TestScrape -update

lint: vet ## vet and formatting

dist: ## build .deb, .rpm and tarball for amd64 and arm64, and SHA256SUMS, in bin/dist
	@dist/build.sh

dist-test: ## build the packages twice, install them in a root of their own, and run what is in them (root)
	go test -timeout 15m -v ./dist

clean: ## remove what was built
	rm -rf exazk bin
