# BandSox. `make help` lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
ARCH     ?= $(shell go env GOARCH)
FUZZTIME  ?= 10s
CHAOSTIME ?= 10m
PREFIX   ?= /usr/local

# The version is linked in by -X, so Go need not ask git again (and fail where
# the tree belongs to another user).
BUILD := CGO_ENABLED=0 go build -buildvcs=false -trimpath
LINK  := -s -w -X main.version=$(VERSION) -X github.com/bandsox/bandsox/internal/agent/guest.Version=$(VERSION)

# Go's build cache keeps apart what other flags compiled, and these packages take
# minutes to compile. So lint has the flags of the build, and under `make test`
# those of the tests; what it runs is built with the build's.
BUILDENV := CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath'
LINTENV  ?= $(BUILDENV)

.DEFAULT_GOAL := build
.PHONY: help build agent web try test test-short chaos lab lint fmt fuzz bench install release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Go's build cache decides what is rebuilt: no list of sources can be wrong.
build: agent ## build bin/bandsox with the guest agent inside (the default)
	@$(BUILD) -ldflags '$(LINK)' -o bin/ ./cmd/bandsox ./examples/try

agent:
	@GOOS=linux GOARCH=$(ARCH) $(BUILD) -ldflags '$(LINK) -funcalign=16' -o agentbin/bandsox-agent-$(ARCH) ./cmd/bandsox-agent

web: ## rebuild web/dist, the pages' bundle, of web/src (needs npm)
	@web/build/packages.sh
	@cd web/build && npx tsc -p . && go run .

try: ## set up this machine and run a program in a microVM
	@scripts/phase.sh setup "the packages that this takes" scripts/setup.sh try
	@[ -e bin/try ] || echo "building, with Go's modules to fetch: a minute or two, this once"
	@scripts/phase.sh build "bin/bandsox and bin/try" $(MAKE) build
	@bin/try

test: ## run every test this machine can run, and say what was skipped and why
	@scripts/setup.sh test
	@$(MAKE) agent
	@race=-race; command -v gcc >/dev/null || race=; $(MAKE) lint LINTENV="GOFLAGS='-buildvcs=false $$race'"
	@scripts/test.sh ./...

test-short: ## run the tests that need no root, network or VM (under 30 s)
	@go test -short ./...

chaos: ## kill managers and machines at random for CHAOSTIME (10m)
	@scripts/chaos.sh $(CHAOSTIME)

# RUN goes through the environment, so that the shell's words stay as they are.
lab: export LAB_RUN = $(value RUN)
lab: build ## run RUN='a command' (by default tests with Firecracker) where KVM works, emulated
	@$(BUILD) -ldflags '$(LINK)' -o bin/ ./lab
	@scripts/lab.sh $${LAB_RUN:+"$$LAB_RUN"}

lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	  [ -z "$$unformatted" ] || { echo "not gofmt'd (make fmt):"; echo "$$unformatted"; exit 1; }
	@$(LINTENV) go vet ./...
	@staticcheck=$$($(BUILDENV) go tool -n -modfile=tools/go.mod staticcheck); $(LINTENV) "$$staticcheck" ./...

fmt: ## format the Go sources
	@gofmt -w -s .

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

bench: ## measure BandSox against its parts and against docker
	@scripts/setup.sh test
	@$(MAKE) build
	@go run ./bench

install: build ## install bandsox into PREFIX/bin (/usr/local)
	@install -D -m 0755 bin/bandsox $(DESTDIR)$(PREFIX)/bin/bandsox

release: ## build dist/bandsox-linux-{amd64,arm64}
	@for arch in amd64 arm64; do \
	  $(MAKE) agent ARCH=$$arch; \
	  GOOS=linux GOARCH=$$arch $(BUILD) -ldflags '$(LINK)' -o dist/bandsox-linux-$$arch ./cmd/bandsox; \
	done

clean: ## remove what the build made
	@rm -rf bin dist agentbin/bandsox-agent-*
