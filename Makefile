# One virtual environment for everything; `make explore` needs nothing but Python 3.11+ and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: explore fly test benchmark benchmark-gpu docs lint clean

# The stamp is rebuilt only when the list of dependencies changes.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version}"'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -e ".[dev]"
	$(BIN)/pip install -q --no-deps diffsynth==2.1.12 cd-fvd==0.1.1  # oracles of tests; what they need beside must not be installed
	touch $@

explore: $(VENV)/.installed  ## an agent flies a tour of a generated scene
	$(BIN)/python -m agents.explore

fly: $(VENV)/.installed  ## fly through a generated world yourself, in the browser
	$(BIN)/python -m agents.fly

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## every check and test
	$(BIN)/python -m pytest -n auto --dist loadfile

benchmark: $(VENV)/.installed  ## speed, as ratios within one run
	mkdir -p runs/benchmark
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-json=runs/benchmark/latest.json

benchmark-gpu: $(VENV)/.installed  ## on a CUDA device: its tests, then Wan's full shape and the tiny world
	mkdir -p runs/benchmark
	$(BIN)/python -m pytest tests/test_cuda.py
	$(BIN)/python -m pytest tests/benchmarks/test_wan_benchmark.py tests/benchmarks/test_sharded_benchmark.py --benchmark-only --benchmark-json=runs/benchmark/gpu.json

docs: $(VENV)/.installed  ## every page and docstring as a site in runs/docs; a broken link fails
	PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file .github/docs/mkdocs.yml

clean:
	rm -rf $(VENV) runs
