# What people do with Agora. A fresh machine needs Python 3.11 or newer and make; everything else is installed
# into .venv from pinned, hashed requirements.
.DEFAULT_GOAL := help
.PHONY: help install run test pythons fuzz faults failover checklist patroni pooler distributed proxy clients openapi-lint browser bench bench-full sbom audit docs check lint types walls mutants migrate migration lock clean

PYTHON ?= python3
CHROMIUM ?= /usr/bin/chromium
CHROMEDRIVER ?= /usr/bin/chromedriver
NGINX ?= /usr/sbin/nginx
PGBOUNCER ?= /usr/sbin/pgbouncer
PATRONI ?= patroni
ETCD ?= etcd
# The Pythons that Agora supports; the pinned requirements suit them all.
SUPPORTED := 3.11 3.12 3.13 3.14
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Ten to thirty times as fast as pip; `make run UV=` uses pip all the same.
UV ?= $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(PIP) install)
FIND_PYTHON := $(if $(UV),$(UV) python find --system --no-python-downloads $$version,python$$version -c 'import sys; print(sys.executable)')
PATIENCE := $(if $(UV),with uv: some seconds,with pip: two to three minutes (some seconds where uv is on the PATH))

help: ## List what can be done
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Agora needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@echo "Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { \
		echo "Python cannot make a virtual environment here; on Debian and Ubuntu: apt install python3-venv" >&2; \
		rm -rf $(VENV); exit 1; }

# Installing the development requirements satisfies the others, never the other way round.
$(VENV)/installed: $(BIN)/python requirements.txt pyproject.toml
	@echo "Installing the pinned packages into $(VENV), this once, $(PATIENCE)"
	@$(INSTALL) --require-hashes -r requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@echo "Installing what the tests need into $(VENV), this once, $(PATIENCE)"
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/installed-browser: $(VENV)/installed-dev requirements-browser.txt
	$(INSTALL) --require-hashes -r requirements-browser.txt
	@touch $@

install: $(VENV)/installed ## Make .venv, with the command agora in it

run: $(VENV)/installed ## Serve on http://127.0.0.1:8000, on SQLite unless configured otherwise
	@$(BIN)/agora migrate
	@exec $(BIN)/agora serve

test: $(VENV)/installed-dev ## Run every test, on a private PostgreSQL too
	@echo "Every test, in three processes, since some wait: under four minutes on two cores; the last line says how long it took"
	$(BIN)/pytest --numprocesses=3 --dist=worksteal --durations=5 --durations-min=5

# A dry run executes this loop too, and shows the commands for each interpreter.
pythons: ## Run every test on each supported Python of this machine, in environments of their own
	@tested=; failed=; for version in $(SUPPORTED); do \
		python=$$($(FIND_PYTHON) 2>/dev/null) || { echo "Python $$version is not on this machine"; continue; }; \
		echo "Python $$version is $$python"; tested="$$tested $$version"; \
		$(MAKE) --no-print-directory test PYTHON="$$python" VENV=.venv-$$version || failed="$$failed $$version"; \
	done; \
	test -n "$$tested" || { echo "There is no Python of: $(SUPPORTED)" >&2; exit 1; }; \
	test -z "$$failed" || { echo "Tests fail on Python$$failed" >&2; exit 1; }

fuzz: $(VENV)/installed-dev ## Send the API far more strange requests than make test does: make fuzz n=1000
	AGORA_FUZZ_EXAMPLES=$(or $(n),500) $(BIN)/pytest tests/fuzz

faults: $(VENV)/installed-dev ## Break databases and servers more often than make test does: make faults n=10
	AGORA_FAULTS=$(or $(n),10) $(BIN)/pytest tests/faults

failover: $(VENV)/installed-dev ## Kill the primary and promote its standby, twenty times, under votes: make failover n=50
	AGORA_FAULTS=$(or $(n),20) $(BIN)/pytest tests/faults/test_failover.py

checklist: $(VENV)/installed-dev ## Add an entity to a copy by its checklist: each line left out must fail; two minutes
	$(BIN)/pytest tests/checklist

browser: $(VENV)/installed-browser ## Run the tests that need a browser, in the system's Chromium
	@for program in $(CHROMIUM) $(CHROMEDRIVER); do test -x "$$program" || { \
		echo "There is no $$program; on Debian: apt install chromium chromium-driver; elsewhere name them with:" \
			"make browser CHROMIUM=/path CHROMEDRIVER=/path" >&2; exit 1; }; done
	CHROMIUM=$(CHROMIUM) CHROMEDRIVER=$(CHROMEDRIVER) $(BIN)/pytest tests/browser

patroni: $(VENV)/installed-dev ## Run the test that needs Patroni and etcd, with deploy/patroni.yml
	@for program in "$(PATRONI)" "$(ETCD)"; do command -v "$$program" > /dev/null || { \
		echo "There is no $$program; install etcd (on Debian: apt install etcd-server) and, from PyPI, patroni[etcd3]" \
			"with psycopg2-binary; elsewhere name them with: make patroni PATRONI=/path ETCD=/path" >&2; exit 1; }; done
	PATRONI=$(PATRONI) ETCD=$(ETCD) $(BIN)/pytest tests/patroni

pooler: $(VENV)/installed-dev ## Run the tests that need PgBouncer, the system's
	@command -v "$(PGBOUNCER)" > /dev/null || { \
		echo "There is no $(PGBOUNCER); on Debian: apt install pgbouncer; elsewhere name it with:" \
			"make pooler PGBOUNCER=/path" >&2; exit 1; }
	PGBOUNCER=$(PGBOUNCER) $(BIN)/pytest tests/pooler

distributed: $(VENV)/installed-dev ## Run contracts, HTTP and fault tests on a private Citus cluster; twenty minutes on two cores
	@test -f "$$("$(TEST_CITUS_BIN)/pg_config" --pkglibdir 2> /dev/null)/citus.so" || { \
		echo "TEST_CITUS_BIN names no PostgreSQL with the extension Citus 13.2; on Debian: the package" \
			"postgresql-15-citus-13.2 of https://packagecloud.io/citusdata/community, then:" \
			"make distributed TEST_CITUS_BIN=/usr/lib/postgresql/15/bin" >&2; exit 1; }
	TEST_CITUS_BIN=$(TEST_CITUS_BIN) $(BIN)/pytest -k "not sqlite and not memory" tests/distributed tests/contracts tests/http tests/faults

proxy: $(VENV)/installed-dev ## Run the tests that need nginx, the system's, with deploy/nginx.conf
	@command -v "$(NGINX)" > /dev/null || { \
		echo "There is no $(NGINX); on Debian: apt install nginx; elsewhere name it with:" \
			"make proxy NGINX=/path" >&2; exit 1; }
	NGINX=$(NGINX) $(BIN)/pytest tests/proxy

NODE := cd tests/clients && PATH="$(CURDIR)/.venv-clients/bin:$(CURDIR)/tests/clients/node_modules/.bin:$$PATH"

# Its own Node too, since npm packages of today need a newer one than many systems have.
.venv-clients/installed: $(BIN)/python requirements-clients.txt tests/clients/package-lock.json
	@$(PYTHON) -m venv .venv-clients
	$(PIP) --python .venv-clients/bin/python install --require-hashes -r requirements-clients.txt
	$(NODE) npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

clients: $(VENV)/installed-dev .venv-clients/installed ## Generate clients from docs/openapi.json, and call the real server with them
	$(BIN)/pytest tests/clients

openapi-lint: .venv-clients/installed ## Lint docs/openapi.json with Redocly CLI and Spectral
	$(NODE) REDOCLY_SUPPRESS_UPDATE_NOTICE=true redocly lint --config redocly.yaml ../../docs/openapi.json
	$(NODE) spectral lint --ruleset spectral.yaml --fail-severity hint ../../docs/openapi.json

bench: $(VENV)/installed-dev ## Measure Agora beside other servers, into docs/performance.md; takes half an hour
	$(BIN)/python -m benchmarks compare --markdown docs/performance.md

bench-full: $(VENV)/installed-dev ## Measure the rest: memory, and up to three million posts, into docs/performance.md
	$(BIN)/python -m benchmarks compare --scenarios memory --peers agora --section memory --markdown docs/performance.md
	$(BIN)/python -m benchmarks growth --markdown docs/performance.md --chart docs/performance-growth.svg

.venv-audit/installed: $(BIN)/python requirements-audit.txt
	@$(PYTHON) -m venv .venv-audit
	$(PIP) --python .venv-audit/bin/python install --require-hashes -r requirements-audit.txt
	@touch $@

# What an installation has, and nothing that tests need.
.venv-audit/product/installed: $(BIN)/python requirements.txt pyproject.toml
	@$(PYTHON) -m venv --without-pip .venv-audit/product
	$(PIP) --python .venv-audit/product/bin/python install --require-hashes -r requirements.txt
	@touch $@

sbom: .venv-audit/installed .venv-audit/product/installed ## Write all packages of an installation into agora.cdx.json, an SBOM (CycloneDX)
	.venv-audit/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file agora.cdx.json .venv-audit/product/bin/python

audit: .venv-audit/installed ## Look up known vulnerabilities of the pinned packages, over the network
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt

docs: $(VENV)/installed-dev ## Write the tables and quotations in docs/ from the code
	$(BIN)/python -m tests.support.reference

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy .

walls: $(VENV)/installed-dev
	$(BIN)/lint-imports

check: lint types walls test ## What a change must pass: lint, types, import contracts, tests

migrate: $(VENV)/installed ## Bring the database up to date
	@$(BIN)/agora migrate

migration: $(VENV)/installed ## Write a migration from what changed in the tables: make migration m="add tags"
	@test -n "$(m)" || { echo 'say what it does: make migration m="add tags"' >&2; exit 2; }
	@$(BIN)/agora migrate
	@$(BIN)/alembic revision --autogenerate -m "$(m)"

# Extras stay in the names: pip refuses a hashed `coverage` where a package asks for `coverage[toml]`, as soon as there
# is a newer one than the pinned.
PIN := .venv-lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header --no-strip-extras --upgrade --quiet
COMPILE := $(PIN) pyproject.toml --extra build

lock: ## Pin the requirements from pyproject.toml
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --quiet install uv
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --extra dev --constraint requirements.txt --output-file requirements-dev.txt
	$(COMPILE) --extra dev --extra browser --constraint requirements-dev.txt --output-file requirements-browser.txt
	$(COMPILE) --extra dev --extra mutants --constraint requirements-dev.txt --output-file requirements-mutants.txt
	$(PIN) --group audit --output-file requirements-audit.txt
	$(PIN) --group clients --output-file requirements-clients.txt
	rm -rf .venv-lock

clean: ## Remove .venv and caches; data stays
	rm -rf .venv $(SUPPORTED:%=.venv-%) .venv-first-edition .venv-audit .venv-clients .venv-lock tests/clients/node_modules agora.cdx.json .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage htmlcov

$(VENV)/installed-mutants: $(VENV)/installed-dev requirements-mutants.txt
	$(INSTALL) --require-hashes -r requirements-mutants.txt
	@touch $@

mutants: $(VENV)/installed-mutants ## Alter domain and application in a thousand places: tests must notice; five minutes
	$(BIN)/python -m tests.mutation
