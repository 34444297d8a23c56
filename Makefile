# The two commands of the README: `make demo` and `make test`. Both commands first create .venv, with the Python of the
# variable PYTHON.
# `make help` lists all targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test setup lint python

help:
	@echo "make demo    run the whole chain on drawn sample data; results in exp/demo"
	@echo "make test    run the code checks and all tests, about 12 minutes on two cores"
	@echo "make setup   create only the Python environment, in $(VENV); make PYTHON=python3.12 setup uses another Python"
	@echo "make lint    run only the code checks"

demo: $(VENV)/.installed
	@$(BIN)/python -m pipeline run --config configs/demo.cfg

test: $(VENV)/.installed-dev lint
	$(BIN)/python -m pytest tests -q -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

setup: $(VENV)/.installed

# Every target that needs .venv runs this check first. If .venv cannot be created or used, the check prints what to do.
python:
	@say() { echo "error: $$1" >&2; exit 1; }; \
	version='import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))'; \
	if [ -e $(VENV) ]; then \
		has=$$($(BIN)/python -c "import pip; $$version" 2>/dev/null) || \
			say "$(VENV) is incomplete, or its Python is missing or too old; remove it (rm -r $(VENV)) and run make again."; \
		[ "$(origin PYTHON)" = file ] || [ "$$has" = "$$($(PYTHON) -c "$$version" 2>/dev/null)" ] || \
			say "$(VENV) has Python $$has, not the version of PYTHON=$(PYTHON); remove it (rm -r $(VENV)), or leave PYTHON out."; \
	else \
		has=$$($(PYTHON) -c "$$version" 2>/dev/null) || \
			say "$(PYTHON) $$([ "$$has" ] && echo "is Python $$has, which is too old" || echo "cannot be run"); give Python 3.11 or later: make setup PYTHON=python3.12"; \
		$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || \
			say "$(PYTHON) has no module venv; install the package for it (Debian, Ubuntu: apt install python$$has-venv)."; \
	fi

$(VENV)/.installed: requirements.txt setup.py | python
	[ -e $(VENV) ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt | python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --requirement requirements-dev.txt
	@touch $@
