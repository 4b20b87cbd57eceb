# make demo   sets up .venv and trains the default configuration
# make quick  sets up .venv and runs lint and the tests that spawn no replicas, but for a few slow ones
# make test   sets up .venv and runs lint and all tests but those of `make long`
# make long   sets up .venv and runs a few tests that train for longer
# Each works first, and none installs again what is there.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python launch/install.py --editable
PYTEST := $(BIN)/python -m pytest
TWO := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Images of containers often set it; each process of a run and of the tests would then compile 3,000 files of torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo quick test long lint clean

demo: .venv/run.stamp
	$(BIN)/xlatrain train

quick: lint
	$(PYTEST) $(TWO) -m 'not replicas and not one_replica and not slow'

test: lint
	$(PYTEST) $(TWO) -m 'not long'

long: .venv/dev.stamp
	$(PYTEST) $(TWO) -m long

lint: .venv/dev.stamp
	$(BIN)/ruff check .

.venv/venv.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "xlatrain needs Python 3.10 or newer")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/run.stamp: .venv/venv.stamp pyproject.toml
	$(INSTALL) .
	touch $@

# What is for development holds what is for a run.
.venv/dev.stamp: .venv/venv.stamp pyproject.toml
	$(INSTALL) '.[dev]'
	touch .venv/run.stamp $@

clean:
	rm -rf .venv
