# Everything runs in .venv, set up from the hashed lock file with nothing but Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := libs/common libs/store services/kraken-gateway services/aggregator services/influx-writer services/admin-api tools/kraken-simulator tools/crypto-ingress
STAMP := $(VENV)/.installed
# The packages, and beside them the peers that `make bench` compares with.
BENCH_VENV := .venv-bench
BENCH_PEERS := tests/bench/requirements.lock
BENCH_STAMP := $(BENCH_VENV)/.installed
WEB := services/admin-api/web
# The dashboard as admin-api serves it; built by npm, or by a Node.js from PyPI where there is none that is new enough.
PAGE := services/admin-api/src/admin_api/static/index.html
WEB_MODULES := $(WEB)/node_modules/.package-lock.json
WEB_SOURCES := $(addprefix $(WEB)/,index.html docs.html build.mjs package.json package-lock.json tsconfig.json) $(wildcard $(WEB)/src/* $(WEB)/src/*/*)
NODE_FITS := node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18)' 2>/dev/null && npm --version >/dev/null 2>&1
IN_WEB := { $(NODE_FITS) || PATH="$(CURDIR)/$(BIN):$$PATH"; } && cd $(WEB) &&

.PHONY: setup web web-check run demo env certs test test-fast chaos load bench readers readers-venv brokers peers peers-venv peers-lock check format docs lock clean

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

$(WEB_MODULES): $(WEB)/package.json $(WEB)/package-lock.json requirements-node.lock | $(STAMP)
	@{ $(NODE_FITS); } || test -x $(BIN)/npm || $(BIN)/python -m pip install --quiet --require-hashes -r requirements-node.lock
	@$(IN_WEB) npm ci --loglevel error --prefer-offline && touch node_modules/.package-lock.json

$(PAGE): $(WEB_SOURCES) $(WEB_MODULES)
	@$(IN_WEB) npm run --silent build

web-check: $(PAGE)
	@$(IN_WEB) npm run --silent check && npm test --silent

run: setup
	$(BIN)/crypto-ingress run

demo: setup
	$(BIN)/crypto-ingress demo

# An .env with secrets of its own, made from .env.example; one that is there already is kept.
env:
	@sh deploy/make-env.sh

# Certificates for trials of deploy/tls.yml; what is there already is kept.
certs:
	@sh deploy/make-certs.sh deploy/certs

# Pure logic: no server, no socket, no waiting, and few examples for each property.
test-fast: setup
	$(BIN)/python -m pytest -q -p no:schemathesis -p no:xdist --hypothesis-profile fast $(wildcard $(addsuffix /tests/unit,$(PACKAGES)))

# Most tests wait more than they compute, so three at a time fit on two cores.
JOBS ?= 3
test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Faults by a script on the running stack, and every candle compared with the truth: tests/chaos/README.md.
CHAOS ?= --symbols 60
chaos: setup
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

# All of Kraken on this machine: tests/load.
LOAD ?=
load: setup
	PYTHONPATH=tests $(BIN)/python -m load $(LOAD)

# Clients that nobody here wrote, and ours, on the same simulated minutes: docs/peers.md. They have an environment of
# their own, since their dependencies are not ours.
PEERS_VENV := .venv-peers
PEERS_STAMP := $(PEERS_VENV)/.installed
peers: setup peers-venv
	PYTHONPATH=tests $(BIN)/python -m peers $(PEERS)

peers-venv: $(PEERS_STAMP)

# By uv, which takes a third of pip's time for its hundred packages.
$(PEERS_STAMP): tests/peers/requirements.lock | $(STAMP)
	$(PYTHON) -m venv $(PEERS_VENV)
	$(BIN)/uv pip install --quiet --python $(PEERS_VENV)/bin/python --require-hashes -r $<
	touch $@

peers-lock: setup
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 tests/peers/requirements.in -o tests/peers/requirements.lock

# Speed beside peers, in ratios: docs/performance.md. FIGURES="bus codec" measures those only, and leaves the page alone.
FIGURES ?=
bench: $(BENCH_STAMP)
	PYTHONPATH=tests $(BENCH_VENV)/bin/python -m bench $(FIGURES)

# A peer that cannot be installed costs its figures, not the others.
$(BENCH_STAMP): requirements.lock $(BENCH_PEERS) $(addsuffix /pyproject.toml,$(PACKAGES))
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-deps --no-index --no-build-isolation $(addprefix -e ,$(PACKAGES))
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r $(BENCH_PEERS) || echo "The peers could not be installed, see above; their figures are skipped." >&2
	touch $@

# Checks docs/reading.md with the tools that it describes: their versions are pinned, in an environment of its own.
READERS := .venv-readers
READERS_NODE := tests/readers/node
READERS_STAMP := $(READERS)/.installed
readers: setup readers-venv
	$(BIN)/python -m pytest tests/readers

readers-venv: $(READERS_STAMP)

$(READERS_STAMP): tests/readers/requirements.lock $(READERS_NODE)/package-lock.json requirements-node.lock | $(STAMP)
	test -x $(READERS)/bin/python || $(PYTHON) -m venv $(READERS)
	$(BIN)/uv pip install --quiet --python $(READERS)/bin/python --require-hashes -r tests/readers/requirements.lock
	@{ $(NODE_FITS); } || test -x $(BIN)/npm || $(BIN)/python -m pip install --quiet --require-hashes -r requirements-node.lock
	@{ $(NODE_FITS) || PATH="$(CURDIR)/$(BIN):$$PATH"; } && cd $(READERS_NODE) && npm ci --ignore-scripts --loglevel error --prefer-offline
	touch $@

# Brokers from public package registries under the bus's suite: docs/brokers.md. Needs Maven, a JDK 17 and Go 1.21.
BROKERS := tests/brokers/.fetched
brokers: setup
	tests/brokers/fetch $(BROKERS)
	BROKERS=$(CURDIR)/$(BROKERS) $(BIN)/python -m pytest -n 3 --dist loadgroup tests/brokers

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory web-check

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is generated from the code: the descriptions of the bus and of HTTP, the payloads' schemas, the settings, the
# metrics, the dashboard's types. The dashboard is not built: its types may not fit its sources until this has run.
docs: $(STAMP) $(WEB_MODULES)
	$(BIN)/python -m crypto_ingress.reference docs
	$(BIN)/python deploy/monitoring/generate
	@$(IN_WEB) npm run --silent types

# Needs a package index: resolves the pyproject files anew; the lock names no host.
lock: setup
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --all-packages --all-extras --all-groups --no-group node --no-emit-workspace --no-header --frozen -o requirements.lock
	$(BIN)/uv export --quiet --all-packages --no-dev --no-emit-workspace --no-header --frozen -o requirements-runtime.lock
	$(BIN)/uv export --quiet --frozen --only-group build --no-emit-workspace --no-header -o requirements-build.lock
	$(BIN)/uv export --quiet --frozen --only-group node --no-emit-workspace --no-header -o requirements-node.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements.lock $(addprefix --no-emit-package ,click colorama msgspec) tests/bench/requirements.in -o $(BENCH_PEERS)

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(PEERS_VENV) $(READERS) $(READERS_NODE)/node_modules $(WEB)/node_modules $(dir $(PAGE))
