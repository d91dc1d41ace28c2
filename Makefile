# The two commands: `make book` and `make test`. Each makes the environment when it is missing.

PYTHON ?= python3
VENV ?= .venv
CORES ?= 2
# The run that the book shows, and where its pages go: make book RUN=smoke HTML=build/html-smoke
RUN ?=
HTML ?= build/html

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH := $(VENV)/.bench
# By time stamps alone, as make does: touch a chapter to run it again.
SNAKEMAKE := $(BIN)/snakemake -c$(CORES) --quiet host rules progress --rerun-incomplete \
  --max-checksum-file-size 0
CONFIG := html=$(HTML) $(if $(RUN),run=$(RUN))

.PHONY: book test lint bench weights notebooks data clean help browser
.DEFAULT_GOAL := help

help: ## say what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 12

book: $(INSTALLED) ## run the chapters that changed and render the book
	@$(SNAKEMAKE) --config $(CONFIG)
	@echo "The book is at file://$(abspath $(HTML))/index.html"

data: $(INSTALLED) ## write out the embedded world
	@$(SNAKEMAKE) build/world/gqa/README.json

test: $(INSTALLED) browser ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED) ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(BENCH) data ## time the engine against one forward each, nnsight and TransformerLens
	$(BIN)/python -m vseam_lib.bench

weights: $(INSTALLED) ## train the shipped models again from nothing
	$(BIN)/python -m vseam_lib.world.train --recipe tiny-llava
	$(BIN)/python -m vseam_lib.world.train --recipe tiny-instructblip
	$(BIN)/python -m vseam_lib.world.sam_stage
	$(BIN)/python -m vseam_lib.world.judge_stage
	$(BIN)/python -m vseam_lib.world.inpainter_stages

notebooks: $(INSTALLED) ## check the chapters and write them as .ipynb, not executed
	$(BIN)/jupytext --quiet --test --to ipynb notebooks/*.py
	@mkdir -p build/notebooks
	@for chapter in notebooks/*.py; do \
	  $(BIN)/jupytext --quiet --to ipynb -o build/notebooks/$$(basename $$chapter .py).ipynb $$chapter \
	    || exit 1; \
	done
	@echo "Notebooks are in build/notebooks/"

clean: ## remove everything generated, except the environment
	rm -rf build book/runs .snakemake .pytest_cache .ruff_cache *.egg-info

# The environment: made again when what it consists of changes.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[book,test,editing]'
	@touch $@

# The engines that `make bench` compares with; it runs without them, too, and says so.
$(BENCH): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[bench]' && touch $@ \
	  || echo "nnsight and TransformerLens could not be installed; going on without them"

# The tests of the rendered book drive Chromium; without it they skip and say so.
browser:
	@if command -v chromium chromium-browser google-chrome chrome >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  echo "Installing Debian's chromium for the browser tests"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends chromium; } >/dev/null \
	    || echo "Chromium could not be installed: the browser tests will skip"; \
	else \
	  echo "No Chromium on PATH: the browser tests will skip (Debian: apt-get install chromium)"; \
	fi
