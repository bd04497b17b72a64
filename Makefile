# Belay. `make help` lists what can be made.
SHELL       := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: help build test torture torture-judge bench bench-peers bench-judge demo generate fmt lint clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the one binary, bin/belay: static, reproducible
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/belay ./cmd/belay

test: ## everything a merge needs: generated files, vet, lint, all tests under the race detector
	@scripts/test

torture: ## the long tests: crashes at every effect, kill -9 under load, twenty cutovers (ARGS="-run Name")
	go test -tags torture -timeout 60m -p 1 $(ARGS) ./...

torture-judge: ## the judge on 84 releases, good and bad, through the real program, in 25 minutes (BELAY_TRIALS=cookies)
	@mkdir -p bin
	BELAY_JUDGE_TABLE=$(abspath bin/torture-judge.md) go test -tags torture -timeout 60m -v -run TestJudgedReleases ./internal/torture

bench: ## the figures of docs/BENCHMARKS.md, in under 10 minutes (BENCH=Name, ARGS="-apps 5")
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchtime 1x -timeout 20m ./internal/bench -args $(ARGS)

bench-peers: ## the same of nginx, HAProxy and Caddy, fetched from Debian (ARGS="-requests 10000")
	@scripts/bench-peers $(ARGS)

bench-judge: ## how often the judge errs and how soon it sees harm (OUT=table.md ERRORS=10000 LATENCY=1000 POWER=500 ONLY=power)
	@mkdir -p bin
	BELAY_JUDGE_TABLE=$(abspath $(or $(OUT),bin/judge.md)) BELAY_JUDGE_ERRORS=$(ERRORS) BELAY_JUDGE_LATENCY=$(LATENCY) BELAY_JUDGE_POWER=$(POWER) \
	  BELAY_JUDGE_ONLY=$(ONLY) go test -run '^TestBenchmark$$' -count 1 -timeout 12h -v ./internal/judge/lab

demo: build ## deliver an example for real, break it, watch it come back; STAY=1 leaves it running
	@bin/belay demo $(if $(STAY),--stay)

generate: ## write the generated files again
	go generate ./...

fmt: ## format all Go files
	gofmt -s -w $$(git ls-files '*.go')

lint: ## vet and golangci-lint at the pinned version
	@scripts/lint

clean: ## remove what was built
	rm -rf bin dist
