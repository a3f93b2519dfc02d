# Every target walks all modules of the repository: the root and whatever has a go.mod below it.

.PHONY: all fmt fmt-check vet lint test newest race bench profile prices examples tidy tidy-check help

all: fmt-check vet lint test ## What to run before a commit

MODULES := $(sort $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path './tools/*' -not -path '*/testdata/*')))

# Each module is checked with the versions in its own go.mod, which are those that its users get. In compat, whose
# modules are not in go.work, nothing would run otherwise.
export GOWORK := off

# The tools are a module of their own, so that nothing that a linter needs reaches those who import this library. It is its
# path, with which the flags of a module do not become those that the linter is built with.
GOLANGCI_LINT := $$(go tool -n -modfile=$(CURDIR)/tools/go.mod golangci-lint)

# SQLite itself, which is C that was translated to Go, with its allocator and its C library, and locks by itself, is left out of the
# detector: under it a test on SQLite takes three times as long, most of which it would watch that. No goroutine is left when a
# test binary ends, so that there is nothing to wait for then, as the detector does for a second.
UNWATCHED := modernc.org/sqlite/lib modernc.org/libc modernc.org/memory
RACE := -race $(UNWATCHED:%=-gcflags=%=-race=false) -timeout=40m
export GORACE ?= atexit_sleep_ms=0

# $(call each,modules,command) runs a command in each module, up to the first that fails. The SDKs in compat are much to
# compile: whatever is done there is done with the race detector, so that it is done once.
define each
@set -e; for module in $(1); do echo "-- $$module: $(2)"; flags="$$GOFLAGS"; \
	case $$module in ./compat*) flags="$(RACE) $$flags" ;; esac; \
	(cd $$module && GOFLAGS="$$flags" $(2)); done
endef

# $(call tests,flags) runs the tests of all modules: those of the root, which are most, and then two modules at a time, because most
# others are one package that waits for its compiler, a database or a browser. What a module prints comes at its end.
define tests
@echo "-- .: go test ./... (GOFLAGS=$(strip $(1) $(GOFLAGS)))"
@GOFLAGS="$(1) $$GOFLAGS" go test ./...
@printf '%s\n' $(filter-out .,$(MODULES)) | GOFLAGS="$(1) $$GOFLAGS" xargs -P 2 -I '{}' sh -c 'case {} in ./compat*) export GOFLAGS="$(RACE) $$GOFLAGS" ;; esac; \
	out=$$(cd {} && go test ./... 2>&1); code=$$?; printf "%s\n" "-- {}: go test ./..." "$$out"; exit $$code'
endef

fmt: ## Format all code
	$(call each,$(MODULES),$(GOLANGCI_LINT) fmt --config $(CURDIR)/.golangci.yml)

fmt-check: ## Fail if gofmt would change anything
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted:" $$unformatted >&2; exit 1; }

vet: ## Run go vet
	$(call each,$(MODULES),go vet ./...)

lint: ## Run the pinned linters, which also check the imports' directions
	$(call each,$(MODULES),$(GOLANGCI_LINT) run --config $(CURDIR)/.golangci.yml ./...)

test: ## Run all tests
	$(call tests,)

# What a version of PostgreSQL could do otherwise: the store, and whatever adds up, locks, plans or makes tables.
NEWEST := HardLimit|Linearizable|Hierarchy|Verify|Repair|QueryUsage|Partition|RowSecurity|PgBouncer|Migrat|Prune

newest: ## Run the store's conformance suite and the tests of exactness on the newest PostgreSQL, where npm can get it
	@bin=$$(./tools/newest-postgres); case $$? in 0) ;; \
		75) echo "NOT RUN on the newest PostgreSQL: its programs could not be had"; exit 0 ;; *) exit 1 ;; esac; \
	export TENANT_TEST_POSTGRES="$$bin" TENANT_TEST_DATABASE_URL=; \
	go test -timeout 15m ./internal/store/postgres && go test -timeout 15m -run '$(NEWEST)' .

race: ## Run all tests under the race detector
	$(call tests,$(RACE))

# A package without a benchmark would be linked for nothing.
bench: ## Run each benchmark once, so that none rots
	@set -e; for module in $(MODULES); do cd $(CURDIR)/$$module; \
		packages=$$(go list -f '{{$$d := .Dir}}{{range .TestGoFiles}}{{$$d}}/{{.}} {{end}}{{range .XTestGoFiles}}{{$$d}}/{{.}} {{end}}' ./... | \
			xargs -r grep -l '^func Benchmark' | xargs -r -n 1 dirname | sort -u); \
		test -z "$$packages" || { echo "-- $$module: the benchmarks"; go test -run '^$$' -bench . -benchtime 1x $$packages; }; done

PROFILES ?= profiles

profile: ## Profile the hot path into the folder PROFILES, and print the top of each profile
	go run ./bench -profile $(PROFILES)
	go tool pprof -top -nodecount 30 $(PROFILES)/cpu.pprof
	go tool pprof -top -nodecount 30 -sample_index alloc_objects $(PROFILES)/allocs.pprof
	go tool pprof -top -nodecount 30 -sample_index alloc_space $(PROFILES)/allocs.pprof

# The newest list of each kind counts: LiteLLM's model map, models.dev's api.json, and the data of genai-prices, each with its
# day in its name. The lists are no part of the repository.
LISTS ?= $(wildcard ../shared/prices/*.json)

prices: ## Make pricing/book.json from the public price LISTS, and print what changed and who says so
	go run ./pricing/internal/mktable -book pricing/book.json $(LISTS)

# The second run of the quickstart finds what the first has left in its folder. It must work without a key.
examples: ## Build everything and run the quickstart twice
	$(call each,$(MODULES),go build -o /dev/null ./...)
	@set -e; test -d examples/quickstart || exit 0; \
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	go -C examples/quickstart build -o "$$folder/quickstart" .; \
	cd "$$folder"; \
	for run in first second; do echo "-- quickstart, $$run run"; env -u OPENAI_API_KEY ./quickstart; done

tidy: ## Tidy go.mod and go.sum
	$(call each,$(MODULES) tools,go mod tidy)

tidy-check: ## Fail if a go.mod or go.sum is not tidy
	$(call each,$(MODULES) tools,go mod tidy -diff)

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 14
