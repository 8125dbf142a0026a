# `make run` shows the bot at work, dry, against a local Reddit; `make test` runs every test. Both set up first, which is quick when
# nothing changed.
PYTHON ?= python3.11
PY := .venv/bin/python
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup run test lint clean

setup: .venv/.installed
	@$(PY) -m bot.models pull --defaults

.venv/.installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

run: setup
	@$(PY) run_bot.py run --sandbox --limit 10

test: setup
	@$(PY) -m pytest

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
