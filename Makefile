# This file defines the tasks of development; `make help` lists the main ones.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

IMAGE  ?= entrepot
BASE   ?= docker.io/library/debian:trixie-slim
PARTS   = $(if $(PART),$(shell find tests -name 'test_$(PART)*.py'))

# An empty value makes Python store compiled modules. If the value were not empty, each test process
# would spend 10 s on the compilation of the test modules.
export PYTHONDONTWRITEBYTECODE :=

# Each of these groups of unit tests runs in one process. With pytest-xdist, each worker process
# would collect all tests, and send a report of each test to the main process. These two tasks would
# take a sixth of the CPU time.
UNIT_registry-parts = $(wildcard tests/registry/*/)
UNIT_appliance      = tests/appliance
UNIT_registry       = $(wildcard tests/registry/test_*.py) tests/logger
UNIT_stores         = tests/cleaner tests/contract tests/datastore
UNIT_config         = tests/config tests/bench tests/deploy tests/runtime
GROUPED             = tests/registry $(UNIT_appliance) $(UNIT_registry) $(UNIT_stores) $(UNIT_config)
UNIT_others         = $(filter-out tests/__pycache__ tests/system $(GROUPED), \
                        $(patsubst %/,%,$(wildcard tests/*/ tests/test_*.py)))
UNITS = unit-registry-parts unit-appliance unit-registry unit-stores unit-config unit-others
# The files with a slow test. grep does not find the slow tests in tests/contract, because
# tests/contract/conftest.py sets their marker `slow`.
SLOW  = $(shell grep -rl --include='test_*.py' 'mark\.slow' tests) tests/contract

.PHONY: help run image test check types unit $(UNITS) slow system slow-and-system soak conformance bench bench-growth lock clean

help:            ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(VENV)/run ## run the appliance in the foreground; Ctrl-C ends it
	@sh appliance/packages.sh run
	@exec $(BIN)/entrepot serve $(ARGS)

image:           ## build the container image: IMAGE=, BASE=, ENGINE= podman or docker
	@sh appliance/image.sh $(IMAGE) $(BASE) $(ENGINE)

test: $(VENV)/dev ## run all checks and tests, with real clients, at small size
	@sh appliance/packages.sh test
	@$(BIN)/python -m tests.timed $(MAKE) --no-print-directory check slow-and-system

check: $(VENV)/dev ## format, lint, types, imports, and the unit tests that are not slow
	@sh appliance/packages.sh run
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -k -j 3 -O $(UNITS) types

types: $(VENV)/dev
	$(BIN)/mypy
	$(BIN)/lint-imports

unit:
	@$(MAKE) --no-print-directory -k -j 3 -O $(UNITS)

$(UNITS): unit-%: $(VENV)/dev
	@echo $@
	@$(BIN)/pytest -q -m "not system and not soak and not slow" $(UNIT_$*)

# The system tests often wait for other programs. So the slow tests run at the same time, on the
# cores that are idle meanwhile.
slow-and-system: $(VENV)/dev
	@$(MAKE) --no-print-directory -k -j 2 -O slow system

slow: $(VENV)/dev
	$(BIN)/pytest -q -m "slow and not soak" $(SLOW)

system: $(VENV)/dev
	$(BIN)/pytest -q -n 3 -m "system and not soak" tests/system

# PART= selects test files by the beginning of their names: PART=cap runs every test_cap*.py.
soak: $(VENV)/dev $(VENV)/azurite/package.json ## run every test at full size; PART=NAME runs the files test_NAME*.py only
	@sh appliance/packages.sh soak
	@[ -z "$(PART)" ] || [ -n "$(PARTS)" ] || { echo "no test file starts with test_$(PART)" >&2; exit 2; }
	ENTREPOT_TEST_SIZE=full $(BIN)/pytest -q $(PARTS)

# The tests of storage.azure use Azurite, Microsoft's emulator, which is installed with npm.
$(VENV)/azurite/package.json: $(VENV)/dev
	@sh appliance/packages.sh soak
	npm install --silent --no-audit --no-fund --prefix $(@D) azurite@3.37.0
	@touch $@

# The OCI conformance suite belongs to another project; docs/pushing.md describes where to get it.
conformance: $(VENV)/dev ## run the OCI conformance suite: SUITE= its executable or a checkout
	@sh appliance/packages.sh run
	@$(BIN)/python -m tests.conformance $(if $(SUITE),"$(SUITE)")

bench: $(VENV)/dev ## run the benchmark (15 minutes), or only the parts in PART=: see bench/README.md
	@sh appliance/packages.sh bench
	$(BIN)/python -m bench $(PART)

bench-growth: $(VENV)/dev ## measure the cost of ten thousand to ten million blobs
	@sh appliance/packages.sh bench
	$(BIN)/python -m bench growth

# After a change of a lock file, make updates the virtual environment in place.
$(VENV)/run: requirements/run.txt requirements/build.txt pyproject.toml
	@sh appliance/venv.sh $(PYTHON) $(VENV) requirements/run.txt
	@touch $@

$(VENV)/dev: requirements/dev.txt requirements/build.txt pyproject.toml
	@sh appliance/venv.sh $(PYTHON) $(VENV) requirements/dev.txt
	@touch $(VENV)/run $@

lock:            ## pin every dependency of pyproject.toml, with hashes
	sh requirements/lock.sh $(PYTHON)

clean:           ## remove the files that make created, except ./data
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
