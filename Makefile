# Varve. `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# N: kills of `make crash` and of the crash test in `make test`.  ROW: one row of `make bench`.
# EXIT: any value makes `make run` end by itself.  FUZZTIME: how long each fuzz target runs.
N ?= 50
ROW ?=
EXIT ?=
FUZZTIME ?= 10s

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X main.buildVersion=$(VERSION)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## build bin/varve
	@[ -x bin/varve ] || echo "building bin/varve (about a minute the first time)"
	@mkdir -p bin
	@go build -ldflags '$(LDFLAGS)' -o bin/varve ./cmd/varve

.PHONY: run
run: build ## play the show: pour, settle, kill -9, read (EXIT=1: then stop)
	@bin/varve show $(if $(EXIT),--exit)

.PHONY: test
test: build ## every test that needs no root: unit with -race, fuzz seeds, crash, black box with MinIO
	@VARVE_CRASH_N=$(N) scripts/test.sh

.PHONY: check
check: ## what CI checks before the tests: format, vet, lint, tidy, generated files, other systems
	@scripts/check.sh

.PHONY: race
race: ## the unit tests alone, with the race detector
	@go test -race ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: crash
crash: build ## kill -9 the broker N times (50) under load and at every named step
	@VARVE_CRASH_N=$(N) go -C integration test -count=1 -v -timeout 30m -run '^TestCrash' .

.PHONY: bench
bench: build ## the numbers of the README, each against its bar (ROW=name: one of them)
	@scripts/bench.sh $(ROW)
