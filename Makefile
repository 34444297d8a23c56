# The two commands of the README: `make demo` and `make test`. Both set up .venv first. `make help` lists all.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test setup lint

help:
	@echo "make demo    the whole chain on sample data that it draws; results in exp/demo"
	@echo "make test    the checks of the code and all tests, about ten minutes on two cores"
	@echo "make setup   only the Python environment, in $(VENV); make PYTHON=python3.12 setup takes another Python"
	@echo "make lint    only the checks of the code"

demo: $(VENV)/.installed
	@$(BIN)/python -m pipeline run --config configs/demo.cfg

test: $(VENV)/.installed-dev lint
	$(BIN)/python -m pytest tests -q -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements-dev.txt
	@touch $@
