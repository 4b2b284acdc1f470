# Everything runs in .venv, set up from the hashed lock file with nothing but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := libs/common libs/store services/kraken-gateway services/aggregator services/influx-writer services/admin-api tools/kraken-simulator tools/crypto-ingress
STAMP := $(VENV)/.installed
WEB := services/admin-api/web
# The dashboard as admin-api serves it; built by npm, or by a Node.js from PyPI where there is none that is new enough.
PAGE := services/admin-api/src/admin_api/static/index.html
WEB_SOURCES := $(addprefix $(WEB)/,index.html docs.html build.mjs package.json package-lock.json tsconfig.json) $(wildcard $(WEB)/src/* $(WEB)/src/*/*)
NODE_FITS := node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18)' 2>/dev/null && npm --version >/dev/null 2>&1
IN_WEB := { $(NODE_FITS) || PATH="$(CURDIR)/$(BIN):$$PATH"; } && cd $(WEB) &&

.PHONY: setup web web-check run demo test chaos check format docs lock clean

# Without the dashboard everything else works, so a registry that does not answer must not stand in the way.
setup: $(STAMP)
	@$(MAKE) --no-print-directory --silent web || echo "The dashboard could not be built, see above. Everything else works; 'make web' tries again." >&2

$(STAMP): requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(PACKAGES))
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + " (name another one with make PYTHON=...)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-index --no-build-isolation $(addprefix -e ,$(PACKAGES))
	touch $@

web: $(PAGE)

$(PAGE): $(WEB_SOURCES) requirements-node.lock | $(STAMP)
	@{ $(NODE_FITS); } || test -x $(BIN)/npm || $(BIN)/python -m pip install --quiet --require-hashes -r requirements-node.lock
	@$(IN_WEB) npm ci --loglevel error --prefer-offline && npm run --silent build

web-check: $(PAGE)
	@$(IN_WEB) npm run --silent check && npm test --silent

run: setup
	$(BIN)/crypto-ingress run

demo: setup
	$(BIN)/crypto-ingress demo

# Most tests wait more than they compute, so three at a time fit on two cores.
JOBS ?= 3
test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# Faults by a script on the running stack, and every candle compared with the truth: tests/chaos/README.md.
CHAOS ?= --symbols 60
chaos: setup
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory web-check

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is generated from the code: the description of the bus, the payloads' schemas, the settings, the metrics.
docs: setup
	$(BIN)/python -m crypto_ingress.reference docs
	$(BIN)/python deploy/monitoring/generate

# Needs a package index: resolves the pyproject files anew; the lock names no host.
lock: setup
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --all-packages --all-groups --no-group node --no-emit-workspace --no-header --frozen -o requirements.lock
	$(BIN)/uv export --quiet --all-packages --no-dev --no-emit-workspace --no-header --frozen -o requirements-runtime.lock
	$(BIN)/uv export --quiet --frozen --only-group build --no-emit-workspace --no-header -o requirements-build.lock
	$(BIN)/uv export --quiet --frozen --only-group node --no-emit-workspace --no-header -o requirements-node.lock

clean:
	rm -rf $(VENV) $(WEB)/node_modules $(dir $(PAGE))
