# Every chore has one entry here; each makes .venv itself when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DIR ?=
MINUTES ?= 10
# Tests run in two processes: one for what needs the machine's lock, one for all the rest.
WORKERS ?= 2

.PHONY: demo test check generate bench soak clean venv format

venv: $(STAMP)

$(STAMP): pyproject.toml deploy/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 -c deploy/constraints.txt -e '.[all,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/file_triage/demo.py $(if $(DIR),"$(DIR)")

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m pytest tests/core tests/tidy -q

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(STAMP)
	$(BIN)/python protos/generate.py
	$(BIN)/bend schema > docs/workflow.schema.json

bench: $(STAMP)
	$(BIN)/bend bench

soak: $(STAMP)
	$(BIN)/python -m tests.soak --minutes $(MINUTES)
	$(BIN)/python -m tests.integration.sleeper

clean:
	rm -rf $(VENV) .bend build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
