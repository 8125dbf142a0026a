# The first available Python of 3.11, 3.12 and 3.13; `make setup PYTHON=python3.13` selects one.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$python && break; done)
PY := .venv/bin/python
export HF_HUB_DISABLE_TELEMETRY := 1
unexport PYTHONDONTWRITEBYTECODE  # each stage is a separate process and would compile PyTorch and transformers again, for ten seconds

.PHONY: help setup run notebook test test-isa test-cluster soak bench leaderboard lint clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1|/' | awk -F'|' '{printf "%-19s%s\n", $$1, $$2}'

setup: .venv/.installed  ## create .venv and download the two base models
	@$(PY) -m bot models pull --defaults

.venv/.installed: requirements.txt deploy/install.sh
	@PYTHON="$(PYTHON)" sh deploy/install.sh .venv requirements.txt

# The BigQuery emulator for the tests. It looks for DuckDB's extension in its home directory.
.venv-emulator/.installed: tests/requirements-emulator.txt deploy/install.sh
	@PYTHON="$(PYTHON)" sh deploy/install.sh .venv-emulator tests/requirements-emulator.txt
	@HOME=$(CURDIR)/.venv-emulator .venv-emulator/bin/python -c "import duckdb_extensions; duckdb_extensions.import_extension('spatial')"

run: setup  ## dry run for ten comments of a local Reddit; prints a table
	@$(PY) run_bot.py run --sandbox --limit 10

notebook: setup .venv/.notebook  ## open the notebooks in Jupyter
	@$(PY) -m jupyterlab notebooks/0_quickstart.ipynb

.venv/.notebook: notebooks/requirements.txt .venv/.installed
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint requirements.txt --requirement notebooks/requirements.txt
	@touch $@

test: setup .venv-emulator/.installed  ## run all tests, offline
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # one thread for each of two processes

test-isa: setup .venv-emulator/.installed  ## numerical tests with other instruction sets and locales
	@tests/isa.sh

# An environment with Ray; the tests of --cluster are skipped without it.
.venv-cluster/.installed: requirements-cluster.txt requirements.txt deploy/install.sh
	@PYTHON="$(PYTHON)" sh deploy/install.sh .venv-cluster requirements-cluster.txt

test-cluster: setup .venv-cluster/.installed  ## tests of `generate` and `score` on a Ray cluster
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests/test_ray.py

soak: setup  ## test posting under every fault, 1,000 runs
	@$(PY) -m tests.soak

bench: setup  ## print side-by-side timings
	@$(PY) benchmarks/extract.py
	@$(PY) benchmarks/gpt_2_simple.py
	@$(PY) benchmarks/serving.py

lint: setup  ## run ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

leaderboard: setup  ## compare all models; DATA=FOLDER OUT=FOLDER SAMPLES=CSV
	@$(PY) run_bot.py leaderboard fill --data $(or $(DATA),data/prepared) --out $(or $(OUT),data/leaderboard) $(if $(SAMPLES),--samples $(SAMPLES))
	@$(PY) run_bot.py leaderboard --data $(or $(DATA),data/prepared) --out $(or $(OUT),data/leaderboard)

clean:  ## remove the environments and caches
	rm -rf .venv .venv-emulator .venv-cluster .pytest_cache .mypy_cache .ruff_cache .hypothesis
