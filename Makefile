# Two commands on a fresh machine: `make report` and `make test`. Each sets up what it needs, once.

PYTHON ?= python3
VENV ?= .venv
# The tests of the torch backend need PyTorch; `make test TORCH=` does without where there is no wheel of it.
TORCH ?= torch==2.13.0
# What `make lowest` tests: all.
TESTS ?=
# The rooms of harness/ or simulator/ whose tests `make own-mutants` judges.
ROOM ?= judge

BIN := $(VENV)/bin
# What a command does, and again every 15 seconds, since it may say nothing for long: $(ALIVE) WORDS COMMAND.
ALIVE := @sh -c 'echo "$$0"; (while sleep 15; do echo "... $$0"; done) & tick=$$!; "$$@"; code=$$?; kill $$tick; exit $$code'
PURELIB := python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
# Python compiles what is imported when it is: most of what the tests need never is.
PIP := --quiet --no-compile
# All cores, each with the tests of neighbouring files, which share what they import and prepare; one that has none left takes
# half of another's.
SPREAD := -n auto --dist worksteal
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

# The tests start hundreds of processes, which compile our files once and not each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: report test check lowest bench bench-gpu bench-simulator judge-figures own-mutants pages clean help

report: $(INSTALLED)  ## check, time and report every op on every backend of this machine: report.html
	$(BIN)/triptych report --html report.html

test: $(TESTABLE)  ## the tests; the slow sweeps come second
	$(ALIVE) "testing" $(BIN)/python -m pytest $(SPREAD) -m "not slow"
	$(ALIVE) "testing the slow sweeps" $(BIN)/python -m pytest $(SPREAD) -m slow

check: $(TESTABLE)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lowest: $(TESTABLE)  ## the fast tests, or some: TESTS=tests/triton, with the lowest versions that pyproject.toml declares, in Python alone
	$(BIN)/python -m venv --clear --without-pip $(VENV)-lowest
	$(BIN)/python -m pip --python $(VENV)-lowest/bin/python install $(PIP) --no-deps $$($(BIN)/python .ci/lowest.py)
	$(BIN)/$(PURELIB) | sed "s/.*/import site; site.addsitedir('&')/" > $$($(VENV)-lowest/bin/$(PURELIB))/all-else.pth
	$(ALIVE) "testing the lowest versions" env TRIPTYCH_COMPILED=0 $(VENV)-lowest/bin/python -m pytest $(SPREAD) -m "not slow" $(TESTS)

bench: $(TESTABLE)  ## time the benchmark cases under pytest-benchmark
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable

bench-gpu: $(TESTABLE)  ## check and time all ops on this machine's GPU beside PyTorch (docs/h200.md)
	$(BIN)/python -m triptych.harness.upkeep.figures.bench_gpu

bench-simulator: $(INSTALLED)  ## the simulator's time against NumPy's for the same arithmetic
	$(BIN)/python -m triptych.harness.upkeep.figures.bench_simulator

judge-figures: $(TESTABLE)  ## how many right kernels the judge rejects, and how many planted mistakes it catches
	$(BIN)/python -m triptych.harness.upkeep.figures.honest_figures
	$(BIN)/python -m triptych.harness.upkeep.figures.judge_figures

own-mutants: $(TESTABLE)  ## how many small faults in a room's own source its tests see: make own-mutants ROOM=judge
	$(BIN)/python -m triptych.harness.upkeep.own_mutants.score $(ROOM)

pages: $(TESTABLE)  ## rewrite what the pages in docs/ print of the code
	$(BIN)/python -m triptych.harness.upkeep.pages.doc_tables

clean:  ## remove what make made
	rm -rf $(VENV) report.html .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks build dist src/*.egg-info

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml setup.py $(wildcard simulator/compiled/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit("triptych needs Python 3.10 or newer, this is %d.%d; choose one with make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(ALIVE) "installing" $(BIN)/python -m pip install $(PIP) -e .
	touch $@

$(TESTABLE): $(INSTALLED)
	$(ALIVE) "installing what the tests need" $(BIN)/python -m pip install $(PIP) -e '.[test]' $(TORCH)
	touch $@
