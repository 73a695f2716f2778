# make scenario NAME=worker-crash    sets up everything it needs, then runs
# make test                          sets up everything it needs, then passes
#
# ARGS go on to the lab:  make scenario NAME=worker-crash ARGS="--broker redis-none --trials 3"

PYTHON ?= python3
VENV := .venv
LAB := $(VENV)/bin/lab
NAME ?=
ARGS ?=

.PHONY: help scenario matrix chaos setup test unit lint bench clean doctor list lock

help:
	@sed -n '1,4s/^# //p' Makefile

scenario: $(VENV)/ok
	@test -n "$(NAME)" || { echo "which one? make scenario NAME=worker-crash"; exit 2; }
	@$(LAB) run "$(NAME)" $(ARGS)

# Every scenario on the brokers and settings that make sense. ARGS="--quick" takes the first cells of each.
matrix: $(VENV)/ok
	@$(LAB) matrix $(ARGS)

# One pytest item for each cell. ARGS="-k late-running -m redis --broker redis-none" narrows.
chaos: $(VENV)/ok
	@$(LAB) setup
	@$(VENV)/bin/pytest -p lab.pytest_plugin scenarios -n 4 $(ARGS)

# results/ as one HTML file, Markdown, JSON, CSV and JUnit, in report/.
.PHONY: report
report: $(VENV)/ok
	@$(LAB) report $(ARGS)

setup: $(VENV)/ok
	@$(LAB) setup

test: $(VENV)/ok lint
	@$(LAB) setup
	@$(VENV)/bin/pytest $(ARGS)
	@$(VENV)/bin/pytest -p lab.pytest_plugin scenarios -m default -n 3

unit: $(VENV)/ok
	@$(VENV)/bin/pytest tests/unit $(ARGS)

lint: $(VENV)/ok
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/mypy

bench: $(VENV)/ok
	@$(LAB) setup
	@$(VENV)/bin/python -m tests.bench $(ARGS)

doctor list clean: $(VENV)/ok
	@$(LAB) $@ $(ARGS)

# The lock names the versions; uv makes the environment where it is installed, else venv and pip do.
$(VENV)/ok: requirements.lock pyproject.toml setup-venv.sh
	@PYTHON="$(PYTHON)" sh setup-venv.sh "$(VENV)"
	@touch $@

lock: $(VENV)/ok
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --group dev --group worker pyproject.toml -o requirements.lock
