# `make run` shows the bot at work, dry, against a local Reddit; `make test` runs every test. Both set up first, which is quick when
# nothing changed.
PYTHON ?= python3.11
PY := .venv/bin/python
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup run test soak bench lint clean

setup: .venv/.installed
	@$(PY) -m bot models pull --defaults

.venv/.installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# The BigQuery emulator of the tests; it looks for DuckDB's extension under its home.
.venv-emulator/.installed: tests/requirements-emulator.txt
	$(PYTHON) -m venv .venv-emulator
	.venv-emulator/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-emulator.txt
	HOME=$(CURDIR)/.venv-emulator .venv-emulator/bin/python -c "import duckdb_extensions; duckdb_extensions.import_extension('spatial')"
	@touch $@

run: setup
	@$(PY) run_bot.py run --sandbox --limit 10

test: setup .venv-emulator/.installed
	@$(PY) -m pytest

# The whole fault matrix of posting, and random cases up to 1,000 runs; `make test` runs a slice of it.
soak: setup
	@$(PY) -m tests.soak

bench: setup
	@$(PY) benchmarks/extract.py
	@$(PY) benchmarks/gpt_2_simple.py
	@$(PY) benchmarks/serving.py

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

clean:
	rm -rf .venv .venv-emulator .pytest_cache .mypy_cache .ruff_cache .hypothesis
