# Salvor: `make help` says what there is.

GO  ?= go
PKG ?= ./...
FUZZTIME ?= 20s
ROUNDS ?= 500
TEST_TIMEOUT ?= 15m

# A release has its tag as version; before the first one, Go derives a version
# from the commit. git may be missing, or the sources an unpacked archive.
VERSION := $(shell git describe --tags --dirty 2>/dev/null)
VCS     := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))

# The race detector needs a C compiler; where there is none, tests run without.
RACE := $(shell command -v gcc >/dev/null 2>&1 && echo -race)

# Packages without concurrency of their own, or whose tests only start servers: the
# race detector has nothing to find there. And a test of programs, built without it.
SEQUENTIAL := /internal$$|/internal/(config|logging|pg|pg/datadir|pg/page|pg/pgtest|pg/walrec|repo/keys|wal/summary)$$|/test/(chaos|system)$$
RACE_SKIP  := ^TestStartIsCheap$$
RACE_PKG   := $(if $(filter ./...,$(PKG)),$$($(GO) list ./... | grep -vE '$(SEQUENTIAL)'),$(PKG))

# Versions that the tests want beside the system's.
MAJORS := 14 16 17 18

.DEFAULT_GOAL := help
.PHONY: help build demo test test-short race vet lint fmt fuzz chaos bench bench-peers setup versions clean

help: ## This text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/salvor
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(VCS) -ldflags '$(LDFLAGS)' -o bin/salvor ./cmd/salvor

demo: setup build ## Back up, break and restore a database on this machine (options: ARGS=--keep)
	bin/salvor demo $(ARGS)

test: setup versions build vet lint ## Everything: vet, lint, all tests, then the short ones with the race detector
	$(GO) test -count=1 -p 2 -timeout $(TEST_TIMEOUT) $(PKG)
	$(if $(RACE),$(MAKE) --no-print-directory race)

test-short: ## go test -short, without set-up
	$(GO) test -short -timeout 5m $(PKG)

race: ## The short tests with the race detector, of packages with concurrency
	CGO_ENABLED=1 $(GO) test -race -short -count=1 -skip '$(RACE_SKIP)' -p 2 -timeout $(TEST_TIMEOUT) $(RACE_PKG)

vet: ## go vet
	$(GO) vet $(PKG)

lint: ## The linters of .golangci.yml (the first run builds golangci-lint)
	scripts/golangci-lint run $(PKG)

fmt: ## Format the code as the linter wants it
	scripts/golangci-lint fmt

fuzz: ## Each fuzz target for FUZZTIME (20s)
	scripts/fuzz $(FUZZTIME) $(PKG)

chaos: setup ## Kill salvor ROUNDS times (500), from SEED (the clock)
	SALVOR_CHAOS_ROUNDS=$(ROUNDS) SALVOR_TEST_SEED=$(SEED) $(GO) test -count=1 -v -timeout 0 -run '^TestChaos$$' ./test/chaos

bench: ## All benchmarks
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

setup: ## Check for PostgreSQL and git; as root install what is missing
	@scripts/setup

# CI must have them; elsewhere the tests that need one skip, by name.
versions: ## Fetch the other versions of PostgreSQL, once (60 MB to 110 MB each)
	@scripts/postgres $(MAJORS) || { [ "$$CI" != true ] && echo 'going on: the tests of the versions that are missing are skipped' >&2; }

# Its variables are SCALE, ORDERS, REPEATS, WORKERS, WAL_MB, TOOLS, SIZES, WALG, PAGE and more.
bench-peers: build ## Salvor beside pgBackRest, WAL-G (WALG=PATH) and pg_basebackup
	$(GO) run ./bench/peers $(ARGS)

clean: ## Remove what was built here
	rm -rf bin dist
