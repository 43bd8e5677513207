# make demo      a .venv with pinned dependencies, then the demo atlas
# make geometry  a residual study on the demo model, maps to all layers, and their report; SEEDS=6 for a test over seeds
# make test      what tests need, then ruff, mypy --strict and the tests, in two processes
# make test-quick  the fast tests alone, in under two minutes
# make test-deep   the tests of claims that need hundreds of random draws
# make attack    kill, starve, damage and deceive the program many times; prints what survived
# make pages     the pages and lists that are written from the code
# make docs      these pages, and the site in build/site
# make clean     remove what make made

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

SEEDS  ?= 1
JOBS   ?= 2

# Compiled loops are stored here, so that a second run does not compile them again.
export NUMBA_CACHE_DIR ?= $(CURDIR)/$(VENV)/numba
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

.PHONY: demo geometry test test-quick test-deep attack lint pages docs clean

demo: $(VENV)/ready
	$(BIN)/atlas demo

geometry: $(VENV)/ready
	$(BIN)/atlas residual --atlas geometry.atlas --model tiny-a --to blocks.1.hook_resid_post --tokens 200000 --seeds $(SEEDS)
	$(BIN)/atlas transcoder --atlas geometry.atlas --to all
	$(BIN)/atlas report geometry geometry.atlas --out geometry.html

test: $(VENV)/ready-for-tests lint
	$(PYTEST)

test-quick: $(VENV)/ready-for-tests
	$(PYTEST) -m 'not slow and not neo4j and not deep'

test-deep: $(VENV)/ready-for-tests
	$(PYTEST) -m deep

attack: $(VENV)/ready-for-tests
	PYTHONPATH=tests:tests/support $(BIN)/python -m attacks $(ATTACKS)

lint: $(VENV)/ready-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pages: $(VENV)/ready
	for page in schema house names format guides; do $(BIN)/python docs/make_$$page.py || exit; done

docs: $(VENV)/ready-for-docs pages
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/site
	@echo "The site is in build/site/index.html."

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with make PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/ready-for-tests: $(VENV)/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/ready-for-docs: $(VENV)/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) demo.atlas geometry.atlas geometry.html build docs/generated *.egg-info
