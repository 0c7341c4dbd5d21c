# `make up` and `make test` are all that a newcomer needs; both begin with `make setup`.
SHELL := /bin/bash
PY := .venv/bin/python
ARGS ?=
# Parts of benchmarks that are none by themselves.
NO_BENCH := $(addprefix bench/,__init__.py advice_logs.py confidence_transfer.py corpora.py fresh_rail.py load.py machine.py \
	question_sets.py rare_words.py upstream.py)

.DEFAULT_GOAL := help
.PHONY: help setup up down status test check unit integration e2e demo-adapter bench-overhead clean

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@printf "  make %-14s %s\n" "bench-NAME" "one benchmark of: $(sort $(subst _,-,$(patsubst bench/%.py,%,$(filter-out $(NO_BENCH),$(wildcard bench/*.py)))))"
	@echo '  ARGS="..." is passed on, for example: make up ARGS="--port 8090"'

setup: ## make .venv (instant when nothing changed)
	@deploy/setup.sh

up: setup ## start everything on this machine; Ctrl-C stops it
	@HF_HUB_OFFLINE=1 .venv/bin/twinrail up $(ARGS)

down: setup ## stop a stack that was started with `make up ARGS=--detach`
	@.venv/bin/twinrail down $(ARGS)

status: setup ## what is running, and what is live on each rail
	@.venv/bin/twinrail status $(ARGS)

check: setup ## lint, format, types, import contracts, naming rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) -m pytest -q tests/unit/test_naming.py

unit: setup ## unit tests, two files at a time
	HF_HUB_OFFLINE=1 $(PY) -m pytest -n 2 --dist loadfile -m "not e2e and not gpu" tests/unit $(ARGS)

integration: setup ## tests against a real PostgreSQL and a fake engine, two files at a time
	HF_HUB_OFFLINE=1 $(PY) -m pytest -n 2 --dist loadfile -m "not e2e and not gpu" --ignore=tests/unit tests $(ARGS)

e2e: setup ## the stack as `twinrail up` starts it, with real vLLM on CPU
	HF_HUB_OFFLINE=1 $(PY) -m pytest -v -m "e2e and not gpu" tests $(ARGS)

test: check unit integration e2e ## everything: set-up, checks, all tests

demo-adapter: setup ## the demo's adapter once more, from its rows and recipe, after `make up`: about 23 minutes
	rm -rf .twinrail/demo-set
	HF_HUB_OFFLINE=1 .venv/bin/twinrail tune dataset .twinrail/demo-set deploy/demo/training/support.jsonl \
		deploy/demo/training/support_tone.jsonl \
		--recipe deploy/demo/recipes/support.yaml --negatives none --shares valid=0.03,test=0.01 --no-redact
	HF_HUB_OFFLINE=1 .venv/bin/twinrail tune train deploy/demo/recipes/support.yaml .twinrail/demo-set --out .twinrail/demo-run

bench-overhead: setup ## gateway overhead beside litellm, about 9 minutes
	HF_HUB_OFFLINE=1 $(PY) -m bench.gateway_overhead $(ARGS)

bench-%: setup
	HF_HUB_OFFLINE=1 $(PY) -m bench.$(subst -,_,$*) $(ARGS)

clean: ## remove caches and .venv; data in TWINRAIL_HOME stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
