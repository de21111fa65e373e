# Verbs for users and contributors. `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
CC ?= cc
PY = $(VENV)/bin/python
PIP = $(PY) -m pip --quiet --disable-pip-version-check

# Everything that is compiled into the extension, so that a changed file builds it anew.
SOURCES = $(wildcard csrc/*/*.c csrc/*/*.h) setup.py pyproject.toml

# The C tests need neither Python nor NumPy: all layers but csrc/python, each file compiled once.
BUILD ?= build/c
C_FLAGS = -std=c11 -O2 -g -D_GNU_SOURCE -fno-math-errno -Wall -Wextra -Icsrc -pthread
C_OBJECTS = $(patsubst csrc/%.c,$(BUILD)/%.o,$(wildcard csrc/base/*.c csrc/kernels/*.c csrc/core/*.c))
C_TESTS = $(patsubst tests/c/%.c,$(BUILD)/%,$(wildcard tests/c/test_*.c))
C_HEADERS = $(wildcard csrc/*/*.h tests/c/*.h)

.SECONDARY: # keep the C tests' objects
.PHONY: help demo test test-c build bench lint asan soak dist clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "make %-8s %s\n", $$1, $$2}'

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "cossim needs Python 3.10 or newer; name one with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv python3-dev"; exit 1; }

# Stamps record what has been installed. The package is installed in place: tests and demo run what was built from csrc.
$(VENV)/demo.stamp: $(PY) $(SOURCES)
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(PY) $(SOURCES)
	$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/bench.stamp: $(PY) $(SOURCES)
	$(PIP) install --editable '.[bench]'
	@touch $@

demo: $(VENV)/demo.stamp ## sets everything up and runs the main job: vectors, rows, images, all pairs
	$(PY) -m cossim demo

test: $(VENV)/test.stamp ## sets everything up, with torch as the oracle, and runs all tests
	$(PY) -m pytest $(ARGS)

build: $(VENV)/test.stamp ## compiles the extension into the virtual environment

$(BUILD)/%.o: csrc/%.c $(C_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(C_FLAGS) $(EXTRA) -c $< -o $@

$(BUILD)/test_%: tests/c/test_%.c $(C_OBJECTS) $(C_HEADERS)
	$(CC) $(C_FLAGS) $(EXTRA) $< $(C_OBJECTS) -lm -o $@

$(BUILD)/peak_%: benchmarks/peak.c $(wildcard csrc/simd/*.h)
	@mkdir -p $(@D)
	$(CC) $(C_FLAGS) -DVOCABULARY='"simd/$*.h"' $< -lm -o $@

test-c: $(C_TESTS) ## the C tests alone; with other compilers and flags: make test-c BUILD=build/tsan CC=clang EXTRA=-fsanitize=thread
	@for test in $(C_TESTS); do $(RUN) $$test || exit 1; done

bench: $(VENV)/bench.stamp ## timed comparisons beside other libraries, and README's tables and plot of them; one alone: make bench NAME=rows
	$(PY) -m benchmarks $(NAME)

lint: $(PY) ## ruff, and the C compiler's warnings as errors
	$(PIP) install ruff
	$(PY) -m ruff check .
	$(MAKE) test-c BUILD=build/lint EXTRA=-Werror RUN=:

asan: ## the C tests under the address, undefined-behaviour and thread sanitizers
	$(MAKE) test-c BUILD=build/asan EXTRA='-fsanitize=address,undefined -fno-sanitize-recover=all'
	$(MAKE) test-c BUILD=build/tsan EXTRA=-fsanitize=thread

soak: $(VENV)/test.stamp ## the long form of the tests marked soak: faults, leaks, processes, random calls; renews the figures in docs/reliability.md
	@rm -f build/soak.json
	$(PY) -m pytest -m soak --soak build/soak.json $(ARGS)
	$(PY) tests/reliability_report.py build/soak.json docs/reliability.md

dist: $(PY) ## source archive and wheel in dist/
	$(PIP) install build
	$(PY) -m build

clean: ## removes what was built, and the virtual environment
	rm -rf build dist *.egg-info cossim/*.so $(VENV)
