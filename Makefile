# Python 3.11, 3.12 or 3.13, the first that is there; `make setup PYTHON=python3.13` chooses one.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$python && break; done)
PY := .venv/bin/python
export HF_HUB_DISABLE_TELEMETRY := 1
unexport PYTHONDONTWRITEBYTECODE  # each stage is a process of its own, and would compile PyTorch and transformers again for ten seconds

.PHONY: help setup run test test-isa soak bench lint clean

help:  ## show these lines
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1|/' | awk -F'|' '{printf "%-16s%s\n", $$1, $$2}'

setup: .venv/.installed  ## make .venv with requirements.txt, and get the two base models
	@$(PY) -m bot models pull --defaults

.venv/.installed: requirements.txt deploy/install.sh
	@PYTHON="$(PYTHON)" sh deploy/install.sh .venv requirements.txt

# The BigQuery emulator of the tests; it looks for DuckDB's extension under its home.
.venv-emulator/.installed: tests/requirements-emulator.txt deploy/install.sh
	@PYTHON="$(PYTHON)" sh deploy/install.sh .venv-emulator tests/requirements-emulator.txt
	@HOME=$(CURDIR)/.venv-emulator .venv-emulator/bin/python -c "import duckdb_extensions; duckdb_extensions.import_extension('spatial')"

run: setup  ## answer ten comments of a local Reddit, dry: a table, report.html and the CSV files
	@$(PY) run_bot.py run --sandbox --limit 10

test: setup .venv-emulator/.installed  ## every test, offline
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile  # one thread for each of two processes

test-isa: setup .venv-emulator/.installed  ## the tests of numbers under other instruction sets, on one core, and in another locale
	@tests/isa.sh

soak: setup  ## the whole fault matrix of posting, and random cases up to 1,000 runs; `make test` runs a slice of it
	@$(PY) -m tests.soak

bench: setup  ## side-by-side timings
	@$(PY) benchmarks/extract.py
	@$(PY) benchmarks/gpt_2_simple.py
	@$(PY) benchmarks/serving.py

lint: setup  ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

clean:  ## remove the environments and caches
	rm -rf .venv .venv-emulator .pytest_cache .mypy_cache .ruff_cache .hypothesis
