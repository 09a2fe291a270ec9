# Two commands matter: `make demo` to see it work, `make test` to run the whole gate. `make quick` is for every save.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# a worker for each core, each with a warm engine; the tests of one file stay on one
PARALLEL := -n auto --dist loadfile

.PHONY: demo quick test test-full fuzz soak bench clean

$(BIN)/grade: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(BIN)/grade
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

demo: $(BIN)/grade
	@$(BIN)/grade demo

# For every save, in a minute: style, types, layers and the tests that are not slow.
quick: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not alone"

# The gate: style, types, every exercise measured (or its committed finding still true), then the kit's own tests.
test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/grade dev check --again 3
	$(BIN)/python -m pytest $(PARALLEL) -m "not alone"
	$(BIN)/python -m pytest -m alone

# The same with every exercise measured anew.
test-full: $(VENV)/.test
	$(BIN)/grade dev check --no-cache
	$(BIN)/grade dev mutate --kit
	$(BIN)/python -m pytest $(PARALLEL) -m "not alone"
	$(BIN)/python -m pytest -m alone

# The fuzzing for ten minutes, with seeds of its own: what fails names its seed. SEED=n repeats a run.
SEED ?= $(shell date +%s)
fuzz: $(VENV)/.test
	FUZZ=long $(BIN)/python -m pytest tests/fuzz --hypothesis-seed=$(SEED) --hypothesis-show-statistics

# Hours: verdicts that must not flip under load, 2,000 verdicts in one process, 200 kills. SOAK="--times 5 adamw"
soak: $(VENV)/.test
	$(BIN)/python benchmarks/soak.py $(SOAK)

bench: $(VENV)/.test
	$(BIN)/python benchmarks/verdicts.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache dist
