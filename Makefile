# make demo    install into .venv and show what asif does, offline
# make quick   the quick tests of every room; `make quick ROOM=anchorset` those of one
# make check   install into .venv and run every check, as CI does
# make graphs  write the graphs of the embedded encoders again, from the models on torch
# make torture   kill, fill up, damage and race stores for ASIF_TORTURE_SECONDS, an hour unless given: docs/reliability.md
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
# temporary files in memory where that has 4 GB left: killed processes lose no more there, and fsync costs nothing
SCRATCH ?= $(shell test $$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $$4 }') -ge 4000000 2>/dev/null && echo /dev/shm)
PYTEST := $(if $(SCRATCH),TMPDIR=$(SCRATCH)) $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal
ASIF_TORTURE_SECONDS ?= 3600

ROOM_TESTS := $(if $(ROOM),$(wildcard tests/$(ROOM) tests/test_$(ROOM).py asif/$(ROOM) asif/$(ROOM).py))

.PHONY: install demo test check quick lint types laws tests graphs torture

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

check: install
	$(MAKE) --jobs 2 tests lint laws types

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

laws: install
	$(BIN)/lint-imports

tests: install
	$(PYTEST)

quick: install
	$(if $(ROOM),$(if $(ROOM_TESTS),,$(error there is no room $(ROOM): look into tests/)))
	$(PYTEST) -m "not slow and not realdata" --hypothesis-profile quick $(ROOM_TESTS)

graphs: install
	PYTHONPATH=tests $(BIN)/python -m support.embedded_graphs

torture: install
	PYTHONPATH=tests $(BIN)/python -m torture --seconds $(ASIF_TORTURE_SECONDS) $(if $(SEED),--seed $(SEED)) --out torture.json
