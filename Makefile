# make demo   install into .venv and show what asif does, offline
# make test   install into .venv and run every check, as CI does
# make torture   kill, fill up, damage and race stores for ASIF_TORTURE_SECONDS, an hour unless given: docs/reliability.md
PYTHON ?= python3
BIN := .venv/bin
ASIF_TORTURE_SECONDS ?= 3600

.PHONY: install demo test check lint types laws tests torture

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt hatch_build.py $(wildcard asif/kernels/native/*.cpp asif/kernels/native/*.h)
	$(PYTHON) -c 'import sys; sys.exit("asif needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python examples/demo.py

test: check

check: lint types laws tests

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

laws: install
	$(BIN)/lint-imports

tests: install
	$(BIN)/python -m pytest

torture: install
	PYTHONPATH=tests $(BIN)/python -m torture --seconds $(ASIF_TORTURE_SECONDS) $(if $(SEED),--seed $(SEED)) --out torture.json
