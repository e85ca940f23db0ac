# make run, make test; `make help` lists the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PREFECT_HOME ?= $(CURDIR)/.local/prefect
ARGS =
# Two processes, see tests/conftest.py for which takes what.
SHARED := -n 2

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow test-cloud test-gpu test-all bench lint ui clean distclean lock

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/installed  ## Install the locked environment and fetch the sample tweets

run: setup  ## Run the whole job: make run ARGS="--labels human"
	@mkdir -p $(PREFECT_HOME)
	@$(BIN)/python -m flows.pipeline $(ARGS)

test: setup  ## Run the tests that take seconds
	@$(BIN)/python -m pytest $(SHARED) -m "not slow and not cloud and not gpu" $(ARGS)

test-slow: setup  ## Run those that take minutes
	@$(BIN)/python -m pytest $(SHARED) -m "slow and not cloud and not gpu" $(ARGS)

test-cloud: setup  ## Run the tests against servers of S3, Snowflake, MLflow, PostgreSQL and Docker on this machine
	@$(BIN)/python -m pytest $(SHARED) -m cloud $(ARGS)

test-gpu: setup  ## Run the tests on a GPU
	@$(BIN)/python -m pytest -m gpu $(ARGS)

test-all: test test-slow test-cloud  ## Run all tests but those on a GPU

bench: setup  ## Measure how fast the model is: make bench ARGS=--full
	@mkdir -p $(PREFECT_HOME)
	@$(BIN)/python -m tests.bench $(ARGS)

lint: setup  ## Check style, types, workflows and the template of AWS
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@$(BIN)/actionlint
	@$(BIN)/zizmor --offline --quiet --pedantic --strict-collection .github
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/cfn-lint --include-experimental --regions ALL_REGIONS -- deployments/aws.yaml

ui: setup  ## Show the runs and models of this machine on ports 4200 and 5000
	@mkdir -p $(PREFECT_HOME) .local/mlflow
	@trap 'kill 0' EXIT INT TERM; \
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
		--backend-store-uri sqlite:///$(CURDIR)/.local/mlflow/mlflow.db & \
	$(BIN)/prefect server start --host 127.0.0.1 --port 4200 & wait

clean:  ## Stop the endpoint and remove all local state
	@if [ -d .local/endpoint ]; then $(BIN)/python -m flows.deploy --stop; fi
	rm -rf .local .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## Remove the environment, too
	rm -rf .venv

# checklist's setup.py runs `pip install jupyter` and installs a notebook extension, wherever it is built. Two
# empty modules that come first on the path take the place of both; nothing at run time needs either.
STUBS := $(CURDIR)/.venv/stubs
UV = PYTHONPATH=$(STUBS) UV_COMPILE_BYTECODE=1 UV_COMPILE_BYTECODE_TIMEOUT=600 $(BIN)/uv

.venv/uv: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Python 3.11 is needed, $(PYTHON) is another: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ echo "The module venv is missing: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@mkdir -p $(STUBS)
	@touch $(STUBS)/pip.py
	@printf '%s\n' 'from types import SimpleNamespace' 'nbextensions = SimpleNamespace(' \
		'    install_nbextension_python=lambda *a, **k: None, enable_nbextension_python=lambda *a, **k: None)' \
		> $(STUBS)/notebook.py
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	@touch $@

.venv/packages: .venv/uv requirements.lock
	@$(UV) pip sync --python $(BIN)/python --require-hashes --build-constraints requirements.lock requirements.lock
	@touch $@

.venv/installed: .venv/packages
	@$(BIN)/python -m tasks.sources
	@touch $@

lock: .venv/uv  ## Resolve the dependencies anew
	@$(UV) pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --upgrade -o requirements.lock
