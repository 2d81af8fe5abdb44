# Everyday habits. `make help` lists them.
CARGO ?= cargo
HOME_FOLDER ?= .mill
LISTEN ?= 127.0.0.1:5000
VENV ?= .venv
NODE ?= .node
SAM ?= sam
VENV_TEMPLATE ?= .venv-template
VENV_PYTHON ?= .venv-python
VENV_CHECKOV ?= .venv-checkov
# For example `--show-output`, which prints what tests say, `not run` lines among it.
TEST_ARGUMENTS ?=
export PATH := $(abspath $(VENV))/bin:$(abspath $(NODE))/node_modules/.bin:$(PATH):/usr/sbin:/sbin
TARGET := $(or $(CARGO_TARGET_DIR),target)
MILL := $(TARGET)/release/mill
# The images that suites run on, as the tests of the whole catalog leave them.
SUITE_MILL ?= $(TARGET)/debug/mill
SUITE_HOME ?= $(TARGET)/tmp/real-home
# One tag for each digest; every tag when this is empty.
SUITE_ARGUMENTS ?= --tags=distinct
# A kubeconfig whose cluster charts are tried in, and the registry that it pulls the images from.
CLUSTER ?= none
CLUSTER_REGISTRY ?= $(LISTEN)
PYTHON := PYTHONPATH=$(abspath tests/python) PYTHONDONTWRITEBYTECODE=1 $(abspath $(VENV_PYTHON))/bin/python

FUNCTIONS := $(notdir $(wildcard functions/*))
AWS_TESTS := $(addprefix --test ,aws batch template contract service_faults ecr ministack)

.PHONY: help run serve test test-aws test-cdk test-python functions lint bench deploy doc setup-run setup-test \
    setup-python clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup-run ## build the factory and run one whole day on catalog/
	$(CARGO) build --release --locked -p mill
	@$(MILL) --home $(HOME_FOLDER) cycle

serve: setup-run ## serve the registry and the packages of the last run
	$(CARGO) build --release --locked -p mill
	$(MILL) --home $(HOME_FOLDER) serve --listen $(LISTEN)

test: setup-test functions ## every test, the real catalog and a deployment to an emulator of AWS included
	MINIMILL_FUNCTIONS=$(abspath $(TARGET))/debug $(CARGO) test --workspace --locked -- $(TEST_ARGUMENTS)
	$(MAKE) test-cdk
	@$(MAKE) --no-print-directory test-python

test-cdk: infra/cdk/node_modules/.package-lock.json ## the CDK construct against template.yaml
	node --test infra/cdk/test/

infra/cdk/node_modules/.package-lock.json: infra/cdk/package-lock.json
	npm ci --prefix infra/cdk --silent

test-python: setup-python ## the tests in tests/python, then the suites of the catalog on the images that `make test` has made
	cd tests/python && $(PYTHON) -m pytest -q -rs -p no:cacheprovider
	@$(PYTHON) -m minimill_tests --mill $(SUITE_MILL) --home $(SUITE_HOME) $(SUITE_ARGUMENTS) -q catalog/suites catalog/images \
	    || [ $$? = 3 ]
	@KUBECONFIG=$(CLUSTER) $(PYTHON) -m minimill_cluster run --variable REGISTRY=$(CLUSTER_REGISTRY) \
	    --variable VERSION=latest catalog/images

test-aws: setup-test functions ## the adapters, the functions and a whole cycle on an emulator of AWS
	MINIMILL_FUNCTIONS=$(abspath $(TARGET))/debug \
	    $(CARGO) test --workspace --locked $(AWS_TESTS) -- --show-output $(TEST_ARGUMENTS)

# With the tests, so that dependencies have the features that they have there and are compiled once.
functions:
	$(CARGO) build --workspace --locked $(AWS_TESTS) $(addprefix --bin ,$(FUNCTIONS))

lint: setup-test ## formatting, clippy, docs, licences and sources of dependencies, template.yaml
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	infra/setup/deny.sh
	infra/setup/python.sh $(VENV_TEMPLATE) infra/setup/requirements-template.txt
	$(VENV_TEMPLATE)/bin/cfn-lint template.yaml
	infra/setup/python.sh $(VENV_PYTHON) infra/setup/requirements-python.txt
	cd tests/python && $(abspath $(VENV_PYTHON))/bin/ruff format --config pyproject.toml --check . ../../catalog ../../infra/emulation
	cd tests/python && $(abspath $(VENV_PYTHON))/bin/ruff check --config pyproject.toml . ../../catalog ../../infra/emulation
	cd tests/python && $(abspath $(VENV_PYTHON))/bin/mypy minimill_cluster minimill_tests tests ../../catalog/suites \
	    ../../catalog/images
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(VENV_TEMPLATE)/bin/sam validate --lint --template template.yaml
	infra/setup/python.sh $(VENV_CHECKOV) infra/setup/requirements-checkov.txt
	$(VENV_CHECKOV)/bin/checkov --file template.yaml --framework cloudformation --skip-download --compact --quiet

bench: ## every bench, and at its end one table of the ratios to their baselines; real data is read from MINIMILL_CORPUS
	CARGO="$(CARGO)" infra/bench/run.sh

deploy: ## build the functions and deploy template.yaml into the account of your credentials
	$(SAM) build
	$(SAM) deploy $(if $(wildcard samconfig.toml),,--guided)

doc: ## the documentation of every crate
	$(CARGO) doc --workspace --no-deps --locked

setup-run:
	@infra/setup/debian.sh run
	@infra/setup/emulation.sh || echo "aarch64 is not built here" >&2

setup-test:
	@infra/setup/debian.sh test
	@infra/setup/emulation.sh || echo "aarch64 is not tested here" >&2
	@infra/setup/python.sh $(VENV)
	@infra/setup/node.sh $(NODE)

setup-python:
	@infra/setup/python.sh $(VENV_PYTHON) infra/setup/requirements-python.txt

clean: ## remove what builds and runs have left
	$(CARGO) clean
	rm -rf $(HOME_FOLDER) $(VENV) $(VENV_TEMPLATE) $(VENV_PYTHON) $(VENV_CHECKOV) $(NODE) infra/cdk/node_modules
