# One command runs what CI runs: make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 30
# Of pyproject.toml, but for omnicloudmask, which has a lock file of its own.
EXTRAS := csmask dask mosaic serve index maps charts
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Every process would compile what it imports, as image builders want it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test pgstac test-omnicloudmask audit fuzz bench docs browser-test lint types unit lock clean

## The main job on the bundled sample archive: leaves a browsable catalog in ./out.
demo: $(VENV)/.installed
	$(BIN)/cloudmask demo

## Everything CI runs: audit, format, lint, layers, strict types, tests.
test: audit $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist loadfile

## The method omnicloudmask with its package and PyTorch, six gigabytes that CI does without.
test-omnicloudmask: $(VENV)/.installed-omnicloudmask
	$(BIN)/python -m pytest -n0 tests/masking/test_omnicloudmask.py tests/masking/test_omnicloudmask_job.py

## What must not get in: code that bandit refuses, secrets, licences that Apache-2.0 cannot live with.
audit: $(VENV)/.installed-dev
	$(BIN)/bandit --quiet --recursive pc_cloudmask flows stac_ext catalog_templates
	$(BIN)/python .ci/scan_secrets.py
	$(BIN)/python .ci/check_licences.py

## Fuzz everything that reads what others wrote; prints executions and crashes.
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

## Figures side by side with the peers: prints a table and writes docs/benchmarks.md.
bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

## The documentation as a site in ./site: open site/index.html, no server or network is needed.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

## The catalog in a real browser: needs npm and Chromium.
browser-test: $(VENV)/.installed-dev stac-browser
	$(PIP) install --quiet playwright
	CLOUDMASK_BROWSER=stac-browser $(BIN)/python -m pytest -m browser tests/viewing

stac-browser:
	deploy/stac-browser/build.sh $@

## A STAC API on PostgreSQL, for the tests of the export; without it, and without PostGIS, they skip.
pgstac: requirements-pgstac.lock
	test -d $(VENV)-pgstac || $(PYTHON) -m venv $(VENV)-pgstac
	$(VENV)-pgstac/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r requirements-pgstac.lock

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev
	$(BIN)/mypy

## The tests without the slow ones: under three minutes on two cores.
unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The lock files are whole, so pip resolves nothing; it could not, where an extra's package is not the latest.
$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --no-deps --require-hashes -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	$(PIP) check
	touch $@

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet --no-deps --require-hashes -r requirements-dev.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	$(PIP) check
	touch $@ $(VENV)/.installed

# The lock file holds the versions of requirements-dev.lock, so nothing changes of what is there.
$(VENV)/.installed-omnicloudmask: requirements-omnicloudmask.lock $(VENV)/.installed-dev
	$(PIP) install --quiet --no-deps --require-hashes -r requirements-omnicloudmask.lock
	$(PIP) check
	$(BIN)/python -c "import omnicloudmask"
	touch $@

## Resolve the lock files again (needs uv).
lock:
	uv pip compile pyproject.toml --group build --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -o requirements.lock
	uv pip compile pyproject.toml $(EXTRAS:%=--extra %) --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -c requirements.lock -o requirements-dev.lock
	uv pip compile pyproject.toml --extra csmask --extra dask --extra index --group build --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -c requirements-dev.lock -o requirements-worker.lock
	uv pip compile pyproject.toml --extra omnicloudmask --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -c requirements-dev.lock -o requirements-omnicloudmask.lock
	printf 'pypgstac[psycopg]>=0.9\nstac-fastapi.pgstac>=5\nuvicorn>=0.30\n' | uv pip compile - --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -o requirements-pgstac.lock

clean:
	rm -rf $(VENV) $(VENV)-pgstac out site
