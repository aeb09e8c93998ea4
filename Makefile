# `make sweep` and `make test` need Python >= 3.11, make and a C++ compiler; everything else goes into .venv, once.
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
PYTHON ?= python3
SPEC ?= experiments/german_credit/sweep.yaml
VENV := $(ROOT)/.venv
STAMP := $(VENV)/.installed

# One thread per process: parallelism comes from actors, and results do not depend on a machine's core count.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
# So that a child process finds the tools of this environment, as it would in an activated one.
export PATH := $(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install sweep trial test lint format clean

help:
	@echo "make sweep    fit German credit under 256 configurations (another one: make sweep SPEC=path/to/sweep.yaml)"
	@echo "make trial    sweep every experiment under one spec and compare the winners, chosen blind, with references"
	@echo "make test     run the tests"
	@echo "make lint     run the linters and the type checker"
	@echo "make format   lay out the code as the linter wants it"
	@echo "make install  only make .venv"
	@echo "make clean    remove .venv"

install: $(STAMP)

$(STAMP): $(ROOT)/pyproject.toml $(ROOT)/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "vi_dist needs Python >= 3.11 and '$(PYTHON)' is not: name another, as in make PYTHON=python3.12 test" >&2; \
	  exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the pinned versions into $(VENV) (once; a few minutes)"
	cd $(ROOT) && $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

sweep: $(STAMP)
	cd $(ROOT) && $(VENV)/bin/vi-dist sweep $(SPEC)

trial: $(STAMP)
	cd $(ROOT) && $(VENV)/bin/python -W ignore -m benchmarks.trial

test: $(STAMP)
	cd $(ROOT) && $(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadgroup --no-loadscope-reorder

lint: $(STAMP)
	cd $(ROOT) && $(VENV)/bin/ruff check .
	cd $(ROOT) && $(VENV)/bin/ruff format --check .
	cd $(ROOT) && $(VENV)/bin/mypy

format: $(STAMP)
	cd $(ROOT) && $(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV)
