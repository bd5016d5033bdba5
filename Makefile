# Two commands do everything on a fresh Debian machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.tested
PACKS := $(wildcard environments/*/agentgym_*)
PROJECTS := $(wildcard environments/*/pyproject.toml)
RUN := runs/demo
# pip was told to write no bytecode: if Python may not either, each process compiles vLLM again, for 15 seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench install clean

help:  ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1|/' | column -t -s '|'

$(INSTALLED): pyproject.toml environments/household/pyproject.toml scripts/install.sh
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install.sh
	touch $(INSTALLED)

$(TESTED): $(INSTALLED) $(PROJECTS)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --progress-bar off \
		-e ".[dev,openai,docker,bwrap,browser,wandb]" $(patsubst %/pyproject.toml,-e %,$(PROJECTS))
	touch $(TESTED)

install: $(TESTED)  ## make .venv with everything that the other targets need

demo: $(INSTALLED)  ## train a tiny model on the household with GRPO and write the report
	$(BIN)/agentgym train recipes/household-tiny.toml --set run.name=demo $(if $(wildcard $(RUN)/recipe.json),--resume)
	$(BIN)/agentgym report $(RUN)

test: $(TESTED)  ## run every test
	$(BIN)/python -m pytest

check: $(TESTED)  ## format, lint and types, as CI runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy agentgym policies/agentgym_policies sandboxes/agentgym_sandboxes $(PACKS)

bench: $(TESTED)  ## run the benchmarks and print their tables
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## delete what the targets made, but no run
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
