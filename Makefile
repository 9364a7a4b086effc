# Every command sets up what it needs by itself; `make help` lists them.
HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?= training/checkpoints/demo
VENV ?= .venv
DEVICE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
# The first that runs and is of a version that vLLM supports; pyenv leaves commands behind that do not run.
PYTHON ?= $(or $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; \
	done), python3)

BIN := $(VENV)/bin
# Empty files that say what is installed: a second `make` installs nothing.
SERVING := $(VENV)/.installed-$(DEVICE)-serving
EVERYTHING := $(VENV)/.installed-$(DEVICE)-everything
RECIPE := pyproject.toml deploy/install.py deploy/torchvision_without_cuda.py
SUITES := .venv-suites

.PHONY: help serve test check format demo-checkpoint verifier-demo screenshots suites suites-test clean
.DELETE_ON_ERROR:

help: ## list the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo "Variables: HOST=$(HOST) PORT=$(PORT) MODEL=$(MODEL) DEVICE=$(DEVICE) PYTHON=$(PYTHON) VENV=$(VENV)"

serve: $(SERVING) ## serve the checkpoint MODEL on vLLM at HOST:PORT
	$(BIN)/swires serve --model $(MODEL) --host $(HOST) --port $(PORT)

test: $(EVERYTHING) ## run every test, those on real vLLM included
	$(BIN)/python -m pytest

check: $(EVERYTHING) ## formatter, linter, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(EVERYTHING) ## let the formatter and the linter mend what they can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

demo-checkpoint: $(EVERYTHING) ## train the embedded checkpoint again from its recipe
	$(BIN)/python -m training demo --out training/checkpoints/demo
	$(BIN)/swires calibrate --model training/checkpoints/demo

VERIFIER := training/runs/verifier-demo
verifier-demo: $(EVERYTHING) ## teach MODEL to judge by its own samples, and report before and after
	$(BIN)/python -m training data convert scenes --count 3000 --seed 99 --out $(VERIFIER)
	$(BIN)/swires serve --model $(MODEL) --port $(PORT) & server=$$!; \
	$(BIN)/python -m training verifier sample --url http://127.0.0.1:$(PORT) --tries 600 \
		--problems scenes --count 400 --seed 4242 --record $(VERIFIER)/trees.jsonl; \
	status=$$?; kill $$server; wait $$server; exit $$status
	$(BIN)/python -m training verifier label $(VERIFIER)/trees.jsonl --out $(VERIFIER)/labels --held-out 0.3
	$(BIN)/python -m training verifier train --config training/configs/verifier/demo.yaml model.name=$(MODEL)
	rm -rf $(VERIFIER)/exported
	$(BIN)/python -m training export --model $(VERIFIER)/run --out $(VERIFIER)/exported
	$(BIN)/python -m training verifier report --labels $(VERIFIER)/labels/heldout.jsonl --max-new-tokens 300 \
		--models before=$(MODEL) after=$(VERIFIER)/exported --out $(VERIFIER)/report

screenshots: $(EVERYTHING) ## take the pictures of the page again, of MODEL
	$(BIN)/swires serve --model $(MODEL) --port $(PORT) & server=$$!; \
	$(BIN)/python -m tests.server.web.screenshots http://127.0.0.1:$(PORT) server/docs; \
	status=$$?; kill $$server; wait $$server; exit $$status

suites: $(SUITES)/.installed ## install lmms-eval in an environment of its own
suites-test: $(EVERYTHING) $(SUITES)/.installed ## run lmms-eval itself through the server on real vLLM
	$(BIN)/python -m pytest tests/deploy/suites/with_lmms_eval.py

clean: ## remove the environment and all caches
	rm -rf $(VENV) $(SUITES) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SERVING): $(RECIPE)
	$(PYTHON) deploy/install.py $(VENV) $(DEVICE)
	@touch $@

$(EVERYTHING): $(RECIPE)
	$(PYTHON) deploy/install.py $(VENV) $(DEVICE) train dev
	@touch $(SERVING) $@

$(SUITES)/.installed: deploy/suites/install.py $(RECIPE)
	$(PYTHON) -m deploy.suites.install $(SUITES)
	@touch $@
