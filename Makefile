# Everything runs in the active environment; `make install` puts into it what the targets need.
# `tox` runs the same on every Python and with the oldest dependencies (see README.md).

PYTHON ?= python

.DEFAULT_GOAL := help
.PHONY: help install test lint format types docs bench check

help:  ## Show these targets.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

install:  ## Install the package, editable, with the tools for tests, types, lint and commits.
	$(PYTHON) -m pip install -e '.[test]' mypy pre-commit ruff types-jsonschema types-PyYAML

test:  ## Run the tests. ARGS="-k name" is passed to pytest.
	$(PYTHON) -m pytest $(ARGS)

lint:  ## Check style and format.
	ruff check .
	ruff format --check .

format:  ## Mend style and format, as far as ruff can.
	ruff check --fix .
	ruff format .

types:  ## Check types, strictly.
	mypy
	mypy examples/tornado-bridge-trades/tornado_bridge_trades

docs:  ## Check the documents against the code.
	$(PYTHON) -m pytest tests/house/test_docs.py tests/house/test_*_page.py

bench:  ## Compare the server's speed with that of others, for two minutes on a quiet machine.
	$(PYTHON) -m benchmarks quick

check: lint types test  ## Run lint, types and tests: what to run before a commit.
