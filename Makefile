# make demo  sets up .venv and trains the default configuration; make test  sets up .venv and runs lint and all tests.
# Either works first, and neither installs again what is there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/run.stamp
	$(BIN)/xlatrain train

test: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

lint: .venv/dev.stamp
	$(BIN)/ruff check .

.venv/venv.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "xlatrain needs Python 3.10 or newer")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/run.stamp: .venv/venv.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/dev.stamp: .venv/run.stamp
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv
