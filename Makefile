# Every target sets up what it needs; nothing is installed twice. ARGS is passed on: make run ARGS="--workers 4".
.DEFAULT_GOAL := help
.PHONY: help setup run semantic test check bench lock clean
ARGS ?=

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "make %-8s %s\n", $$1, $$2 }'

setup: ## .venv with the package and everything that tests and checks need
	@scripts/setup dev
	@.venv/bin/python -m tests.embedding_model

run: ## the gateway on config/gateway.yaml (http://127.0.0.1:8080, admin on 8081)
	@scripts/setup runtime
	@exec .venv/bin/gateway serve $(ARGS)

semantic: ## what the semantic cache needs: two libraries, and the embedding model (ARGS="--to FOLDER")
	@scripts/setup semantic
	@.venv/bin/gateway cache model install $(ARGS)

test: ## all checks and all tests
	@scripts/test $(ARGS)

check: ## format, lint, types, rules of the architecture
	@scripts/check

bench: ## the gateway beside nginx on the same core, as one table
	@scripts/setup dev
	@.venv/bin/python -m loadtests.bench $(ARGS)

lock: ## resolve the dependencies again into requirements/ (ARGS=--upgrade for newer ones)
	@scripts/lock $(ARGS)

clean: ## remove .venv and every cache
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
