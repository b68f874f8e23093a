# The verbs of the project. Each is a script in scripts/ or one cargo command; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo run test test-core bench load soak lint audit buf

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: ## push a real build through a fresh gateway, tail it live, replay it, compare every line; run a pipeline by two agents
	@scripts/demo.sh

run: ## build, start a gateway in the foreground and say how to use it
	@scripts/run.sh

test: ## the gate: format, lints, docs, unused dependencies, all tests; prints the seconds of each stage
	@scripts/test.sh

test-core: ## the gate without what needs Java, Python or Go: no Kafka, no ClickHouse, no Go clients
	@scripts/test.sh core

lint: ## only the quick part of the gate: format, lints, docs, unused dependencies
	@scripts/test.sh lint

bench: ## criterion benches, one a stage of the hot path
	cargo bench --workspace

load: ## load the gateway over real sockets and write load-tests/RESULTS.md
	@scripts/load.sh

soak: ## the tests that take too long for the gate; writes tests/SOAK.md
	@scripts/soak.sh

audit: ## what cargo-deny knows and the gate cannot: known vulnerabilities (installs cargo-deny, minutes)
	@scripts/audit.sh

buf: ## lint the protos, check for breaking changes, generate the Go clients
	@scripts/buf.sh
