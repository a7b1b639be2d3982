# Two commands for a newcomer: `make demo` and `make test`. Both need Linux, Python 3.10+ with venv, and make.
PYTHON ?= python3
VENV ?= .venv
DEMO_SECONDS ?= 20
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: help demo test lint types layers unit large gpu-check clean
help:  ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "ferrosight needs Python 3.10 or newer, found $$($(PYTHON) --version). Give another with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.line: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the runtime into $(VENV) (no torch, under 1 GB)"
	$(PIP) -e .
	@touch $@

$(VENV)/.lab: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the lab into $(VENV) (torch and what trains the models, about 6 GB)"
	$(PIP) -e '.[lab,dev,onnxruntime,tensorrt-rtx]'
	@touch $@ $(VENV)/.line

demo: $(VENV)/.line  ## One synthetic strip through the whole line, with a summary and pictures in out/demo
	$(BIN)/ferrosight demo --seconds $(DEMO_SECONDS) --out out/demo

test: lint types layers unit  ## Everything that a change must pass

lint: $(VENV)/.lab  ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lab  ## Types
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/.lab  ## Who may import whom
	PYTHONPATH=. $(BIN)/lint-imports

# The lab trains in a process of its own: torch need not share one with every inference library there is.
unit: $(VENV)/.lab  ## Tests and the examples in docstrings
	$(BIN)/python -m pytest tests/train train
	$(BIN)/python -m pytest --ignore=tests/train --ignore=train

large: $(VENV)/.lab  ## Plans of the papers' largest networks, which take gigabytes; CI runs it too
	$(BIN)/python -m pytest -m large tests/export

gpu-check: $(VENV)/.lab  ## Everything that needs an NVIDIA GPU, in under ten minutes, into out/gpu-check.json
	$(BIN)/python -m benchmarks.gpu_check --out out/gpu-check.json

clean:  ## Remove the environment and what was made
	rm -rf $(VENV) out build dist
