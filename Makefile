# SPDX-FileCopyrightText: the nfs-verity authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Each target sets up what it needs, once, in .venv. PYTHON=python3.13 picks the interpreter.

PYTHON ?=
JOBS ?= 2
PYTEST_ARGS ?=
RUN = .venv/bin/python
# As an installed command is; where Python writes no bytecode by itself, each of many processes would compile it again.
COMPILE = $(RUN) -m compileall -q proto store publisher server client api command

.PHONY: help demo test lint format bench spec vectors clean environment test-environment system-packages
.NOTPARALLEL:

help:
	@echo 'make demo      do the main job on a copy of the Python standard library'
	@echo 'make test      run every test (PYTEST_ARGS="-k tree" narrows it)'
	@echo 'make lint      ruff and mypy; make format applies what ruff can'
	@echo 'make bench     measure; best on an idle machine'
	@echo 'make spec      build the drafts, and extract their XDR'
	@echo 'make vectors   make the test vectors anew'
	@echo 'make clean     remove .venv and everything built'

demo: environment
	@$(RUN) demo/demo.py

test: system-packages test-environment
	@$(COMPILE)
	$(RUN) -m pytest -q -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: test-environment
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: test-environment
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: test-environment
	@tools/system-packages bench
	@$(COMPILE)
	$(RUN) bench/bench.py

spec: test-environment
	$(RUN) spec/build.py

vectors: test-environment
	PYTHONPATH=tests $(RUN) -m vectors

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@PYTHON='$(PYTHON)' tools/environment

test-environment:
	@PYTHON='$(PYTHON)' tools/environment test,lint,spec

system-packages:
	@tools/system-packages
