# Everything runs in .venv, set up from the hashed lock file with nothing but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := libs/common libs/store services/kraken-gateway services/aggregator services/influx-writer services/admin-api tools/kraken-simulator tools/crypto-ingress
STAMP := $(VENV)/.installed

.PHONY: setup run demo test check format docs lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(PACKAGES))
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + " (name another one with make PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-index --no-build-isolation $(addprefix -e ,$(PACKAGES))
	touch $@

run: setup
	$(BIN)/crypto-ingress run

demo: setup
	$(BIN)/crypto-ingress demo

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is generated from the code: the description of the bus, the payloads' schemas, the reference of the settings.
docs: setup
	$(BIN)/python -m crypto_ingress.reference docs

# Needs a package index: resolves the pyproject files anew; the lock names no host.
lock: setup
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --all-packages --all-groups --no-emit-workspace --no-header --frozen -o requirements.lock
	$(BIN)/uv export --quiet --all-packages --no-dev --no-emit-workspace --no-header --frozen -o requirements-runtime.lock
	$(BIN)/uv export --quiet --frozen --only-group build --no-emit-workspace --no-header -o requirements-build.lock

clean:
	rm -rf $(VENV)
