# Everything sets itself up in .venv; only Python 3.11 or newer is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
COMPILED := $(VENV)/compiled
LOCKS := deploy/k8s/build.lock deploy/k8s/requirements.lock
SOURCES := $(shell find sidecar -name '*.py') deploy/compile.py

.PHONY: run test check format compiled compiled-if-possible test-compiled test-k8s bench bench-quick faults torture cache-eval helm manifests lock parts clean

run: $(READY)  ## the demo: three simulated regions and the sidecar before them
	$(BIN)/sidecar demo

test: check  ## format, lint, types and all tests
	$(BIN)/pytest $(ARGS)

check: $(READY)  ## format, lint and types
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

format: $(READY)  ## put the code in form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compiled: $(COMPILED)/.ready  ## the sidecar as the image has it, in a virtualenv of its own

compiled-if-possible:
	@$(MAKE) --no-print-directory compiled || echo "not compiled (a C compiler is needed): only the pure sidecar is measured"

test-compiled: $(COMPILED)/.ready  ## the tests against the compiled data path
	rm -rf $(COMPILED)/tests && mkdir $(COMPILED)/tests && cp -r tests pyproject.toml $(COMPILED)/tests
	cd $(COMPILED)/tests && ../bin/pytest --ignore tests/k8s --ignore tests/cluster --ignore tests/test_layers.py --ignore tests/test_readme.py $(ARGS)

test-k8s: $(READY)  ## the chart on a real API server, built with Go once (5 minutes); then 2 minutes
	$(BIN)/python -m tests.cluster $(ARGS)

bench: $(BENCH_READY) compiled-if-possible  ## beside a textbook proxy, nginx and Envoy, interleaved; about 4 minutes
	$(BIN)/python -m tests.bench $(ARGS)

bench-quick: $(BENCH_READY) compiled-if-possible  ## the same in 40 seconds, and noisier
	$(BIN)/python -m tests.bench --quick $(ARGS)

faults: $(READY)  ## every fault under load, with a scorecard; about 12 minutes, ARGS=--fast for 2
	$(BIN)/python -m tests.faults $(ARGS)

torture: $(READY)  ## thousands of disconnects, a million events, the cache in chaos; about two minutes
	$(BIN)/python -m tests.faults.torture $(ARGS)

cache-eval: $(READY)  ## recall, wrong answers and costs of the cache's keys; 10 seconds
	$(BIN)/python -m tests.cache $(ARGS)

helm: $(READY)  ## helm, built with Go once, for the tests of the chart
	$(BIN)/python deploy/k8s/render.py --build-helm

manifests: $(READY)  ## deploy/k8s/manifests from the chart
	$(BIN)/python deploy/k8s/render.py

LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -q
lock: $(READY)  ## the image's locks, after a change of the dependencies
	$(BIN)/pip install --quiet uv
	$(LOCK) pyproject.toml --extra injector --extra gateway -o deploy/k8s/requirements.lock
	$(LOCK) deploy/k8s/build.in -o deploy/k8s/build.lock

parts: $(READY)  ## nanoseconds of single functions
	$(BIN)/python -m tests.bench.parts $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(BENCH_READY): $(READY)
	-$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	touch $@

# Built as the Dockerfile builds it: what is in no lock must not be needed to compile.
$(COMPILED)/.ready: $(READY) pyproject.toml $(LOCKS) $(SOURCES)
	$(PYTHON) -m venv $(COMPILED)
	$(PYTHON) -m venv --clear $(COMPILED)/build
	rm -rf $(COMPILED)/wheels
	for lock in $(LOCKS); do \
	  $(COMPILED)/build/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $$lock || exit; done
	SIDECAR_COMPILE=1 $(COMPILED)/build/bin/pip wheel --quiet --disable-pip-version-check \
	  --no-index --no-deps --no-build-isolation --wheel-dir $(COMPILED)/wheels .
	SIDECAR_COMPILE=0 $(COMPILED)/bin/pip install --quiet --disable-pip-version-check '.[dev]'
	$(COMPILED)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(COMPILED)/wheels/*.whl
	$(COMPILED)/bin/python -OO -m compileall -q $(COMPILED)/lib
	touch $@
