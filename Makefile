# Two commands are enough: `make demo` and `make test`. Each installs what it needs first; a second start takes seconds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVICES := .services/environment
export PYTHONUNBUFFERED := 1
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check format install bench pins services services-down soak clean

demo: install
	$(BIN)/driftline demo $(DEMO)

test: install
	set -a; if [ -f $(SERVICES) ]; then . $(CURDIR)/$(SERVICES); fi; $(BIN)/python -m pytest $(TESTS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml install.py
	$(PYTHON) install.py $(VENV)
	touch $(STAMP)

bench: install
	for each in benchmarks/*.py; do echo "== $$each"; $(BIN)/python $$each || exit 1; done

pins: install
	$(BIN)/uv pip compile -q --no-header --python-version 3.11 requirements/dev.in -o requirements/dev.txt
	$(BIN)/uv pip compile -q --no-header --python-version 3.11 -c requirements/dev.txt requirements/runtime.in -o requirements/runtime.txt

services:
	$(PYTHON) compose/services.py up

services-down:
	$(PYTHON) compose/services.py down

soak: install services
	. $(CURDIR)/$(SERVICES); $(BIN)/python -m tests.reliability.soak $(SOAK)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
