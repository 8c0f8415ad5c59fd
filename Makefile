# Two commands are enough: `make demo` and `make test`. Both make .venv and install the locked versions
# themselves, once; they do so again when pyproject.toml or requirements.lock changes.
#   make demo PYTHON=/usr/bin/python3.12      another Python
#   make test ARGS="tests/laws -k elbo"       some of the tests
#   make bench BENCH=benchmarks/attacks.py ARGS="--rows cw"   one comparison

PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
BENCH  ?= benchmarks/results.py

# pip reads this in every call, so that nothing is ever installed in another version than the lock's.
export PIP_CONSTRAINT := requirements.lock
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test soak lint docs bench coverage mutants clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo 'make demo    the tour: models, an attack and a defence on embedded data, one HTML report'
	@echo 'make test    the tests          make soak    the slow ones too, thousands of random cases'
	@echo 'make lint    style, types, import contracts'
	@echo 'make coverage   the tests, and which lines of src/ they run: a table, and pages in coverage/'
	@echo 'make docs    the manual, in site/'
	@echo 'make bench   every number beside its reference, into benchmarks/RESULTS.md: hours'
	@echo '             (make bench ARGS="--only training,pgd": some)'
	@echo 'make mutants formulas broken on purpose, 400 of them: do the laws see it? an hour, into docs/mutants.md'
	@echo '             (make mutants ARGS="--all --out runs/mutants.jsonl": all of them)'

demo: $(VENV)/.installed-run
	$(BIN)/psiphi tour $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

soak: $(VENV)/.installed-test
	PSIPHI_SOAK=1 $(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

# Lines that processes started by a test run count too; fails below the share in pyproject.toml.
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-report=html $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'The manual is in site/index.html'

bench: $(VENV)/.installed-run
	$(BIN)/python $(BENCH) $(ARGS)

mutants: $(VENV)/.installed-run
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m mutants $(ARGS)

clean:
	rm -rf $(VENV) site coverage .coverage .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# ------------------------------------------------------------------------------------------ set-up
EXTRAS_run  := [tables]
EXTRAS_test := [test]
EXTRAS_dev  := [dev]

$(VENV)/.installed-%: $(VENV)/.made pyproject.toml requirements.lock
	@echo "Installing the packages of requirements.lock into $(VENV) (some minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --editable '.$(EXTRAS_$*)'
	@touch $@

# The first Python that is new enough and can make virtual environments, or one sentence that says what to do.
$(VENV)/.made:
	@fit='import sys; sys.exit(0 if sys.version_info >= (3, 11) else 3)'; \
	venv='import venv, ensurepip'; why=''; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python); do \
	  if ! command -v "$$python" >/dev/null 2>&1; then why="$${why:-there is no $$python here}"; continue; fi; \
	  if ! "$$python" -c "$$fit" >/dev/null 2>&1; then \
	    why="$$python is $$("$$python" --version 2>&1)"; continue; fi; \
	  if ! "$$python" -c "$$venv" >/dev/null 2>&1; then why="$$python lacks the venv module"; continue; fi; \
	  "$$python" -m venv $(VENV) && touch $@ && exit 0; \
	  why="$$python could not make $(VENV)"; \
	done; \
	echo "psiphi needs Python 3.11 or newer with the venv module, but $$why: install one (on Debian or Ubuntu: apt install python3 python3-venv) or name one (make demo PYTHON=/path/to/python3.12)." >&2; \
	exit 1
