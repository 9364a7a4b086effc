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
RECIPE := pyproject.toml deploy/install.py deploy/torchvision_without_cuda.py $(wildcard deploy/locks/*.txt)
SUITES := .venv-suites
RIVALS := .venv-bench
ROUTER := .venv-router
HELM := $(VENV)/.installed-helm

.PHONY: help serve test test-slow test-chart test-router test-monitoring test-rolling check format fuzz demo-checkpoint experiment experiment-scorers verifier-demo trace screenshots docs docs-options docs-metrics suites suites-test bench bench-ahead bench-shell bench-overload sizing soak soak-vllm lock sbom licenses audit test-image clean
.DELETE_ON_ERROR:

help: ## list the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26
	@echo "Variables: HOST=$(HOST) PORT=$(PORT) MODEL=$(MODEL) DEVICE=$(DEVICE) PYTHON=$(PYTHON) VENV=$(VENV)"

serve: $(SERVING) ## serve the checkpoint MODEL on vLLM at HOST:PORT
	$(BIN)/swires serve --model $(MODEL) --host $(HOST) --port $(PORT)

test: $(EVERYTHING) $(HELM) ## run the tests, those on real vLLM included
	@$(BIN)/python -m pytest -m "not slow and not engine"; status=$$?; \
	$(BIN)/python -m pytest -m "not slow and engine" && exit $$status

test-slow: $(EVERYTHING) ## run what `make test` leaves out: more families of models, more ways to train, more faults; eight minutes
	$(BIN)/python -m pytest -m slow

test-chart: $(EVERYTHING) $(HELM) ## render the chart and hold it and compose.yaml against the code; a minute
	$(BIN)/python -m pytest tests/deploy/helm tests/deploy/test_compose.py

test-router: $(EVERYTHING) $(ROUTER)/.installed ## two vLLM processes behind vllm-router, one killed under load; three minutes
	$(BIN)/python -m pytest tests/engine/with_router.py

test-monitoring: $(EVERYTHING) ## rules by promtool, and all that the dashboard shows by a Prometheus of a server under load, with its picture; five minutes
	$(BIN)/python -m pytest tests/deploy/monitoring/with_prometheus.py --write-docs

test-rolling: $(EVERYTHING) $(ROUTER)/.installed ## two servers behind vllm-router restarted in turn under load; five minutes
	$(BIN)/python -m pytest tests/deploy/with_rolling_restart.py

test-image: $(EVERYTHING) ## make the cpu image's steps in a root of debootstrap's, and serve from there; as root, ten minutes
	command -v debootstrap >/dev/null || apt-get install --yes --no-install-recommends debootstrap
	$(BIN)/python -m pytest -s tests/deploy/image/with_debootstrap.py

check: $(EVERYTHING) ## formatter, linter, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/hadolint Dockerfile
	$(BIN)/mypy

format: $(EVERYTHING) ## let the formatter and the linter mend what they can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

demo-checkpoint: $(EVERYTHING) ## train the embedded checkpoint again from its recipe
	$(BIN)/python -m training demo --out training/checkpoints/demo
	$(BIN)/swires calibrate --model training/checkpoints/demo
	$(BIN)/swires calibrate --model training/checkpoints/demo --scorer-sees stage

# Runs $(2) while a server of MODEL, with the options $(1), is ready.
define while_serving
	$(BIN)/swires serve --model $(MODEL) --port $(PORT) $(1) & server=$$!; \
	until curl -sfo /dev/null http://127.0.0.1:$(PORT)/ready; do kill -0 $$server && sleep 1 || exit 1; done; \
	$(2); status=$$?; kill $$server; wait $$server; exit $$status
endef

EXPERIMENT := training/runs/experiment
SEED := 20261126
COUNT := 1000
FEW := 250
CALIBRATION_SEED := 20000003
EVALUATE = $(BIN)/python -m training evaluate scenes --url http://127.0.0.1:$(PORT) --seed $(SEED) --concurrency 32
RESULT = --record $(EXPERIMENT)/$(1).jsonl --report $(EXPERIMENT)/$(1)
WIDE_EARLY := stages.SUMMARY.candidates=1,stages.CAPTION.candidates=8,stages.CONCLUSION.candidates=2
ORACLE_URL := http://127.0.0.1:9000
ARMS := greedy $(foreach n,2 4 8 16,best_of_n:candidates=$(n)) \
	stage_beam:candidates=2,keep=1 stage_beam:candidates=4,keep=2 stage_beam:candidates=8,keep=4 \
	$(foreach n,0 1 2 4,swires:max_retraces=$(n),widen=1.0) $(foreach n,2 4,swires:max_retraces=$(n),widen=1.7) \
	$(foreach n,1 2 4 8,adaptive:max_retraces=$(n))
MORE := greedy best_of_n:candidates=1 sentence_beam:candidates=2 stage_beam:candidates=4,keep=2,$(WIDE_EARLY) \
	$(foreach s,likelihood consensus,best_of_n:candidates=8,scorer=$(s) swires:max_retraces=2,scorer=$(s))
FITTING := greedy best_of_n:candidates=8 swires:max_retraces=2,widen=1.7 adaptive:max_retraces=8

experiment: $(EVERYTHING) ## accuracy over compute of the policies on MODEL, with a report; an hour
	mkdir -p $(EXPERIMENT)
	$(call while_serving,,$(EVALUATE) --problems $(COUNT) --policies $(ARMS) $(call RESULT,policies) \
		&& $(EVALUATE) --problems $(FEW) --policies $(MORE) $(call RESULT,more))

experiment-scorers: $(EVERYTHING) ## the same where the verifier sees the stage alone, and with one that knows the truth
	mkdir -p $(EXPERIMENT)
	$(call while_serving,--scorer-sees stage,$(EVALUATE) --problems $(FEW) --policies $(FITTING) $(call RESULT,sees-stage))
	rm -rf $(EXPERIMENT)/model && cp -r $(MODEL) $(EXPERIMENT)/model  # which gets the oracle's calibration
	$(BIN)/python -m training oracle scenes --problems $(FEW) --seeds $(SEED) $(CALIBRATION_SEED) & trap "kill $$!" EXIT; \
	$(BIN)/swires calibrate --model $(EXPERIMENT)/model --reward-url $(ORACLE_URL) || exit; \
	$(call while_serving,--model $(EXPERIMENT)/model --reward-url $(ORACLE_URL) --scorers reward_model,$(EVALUATE) \
		--problems $(FEW) --policies $(FITTING) $(call RESULT,oracle))

VERIFIER := training/runs/verifier-demo
verifier-demo: $(EVERYTHING) ## teach MODEL to judge by its own samples, and report before and after
	$(BIN)/python -m training data convert scenes --count 3000 --seed 99 --out $(VERIFIER)
	$(call while_serving,,$(BIN)/python -m training verifier sample --url http://127.0.0.1:$(PORT) \
		--problems scenes --count 400 --seed 4242 --record $(VERIFIER)/trees.jsonl)
	$(BIN)/python -m training verifier label $(VERIFIER)/trees.jsonl --out $(VERIFIER)/labels --held-out 0.3
	$(BIN)/python -m training verifier train --config training/configs/verifier/demo.yaml model.name=$(MODEL)
	rm -rf $(VERIFIER)/exported
	$(BIN)/python -m training export --model $(VERIFIER)/run --out $(VERIFIER)/exported
	$(BIN)/python -m training verifier report --labels $(VERIFIER)/labels/heldout.jsonl --max-new-tokens 300 \
		--models before=$(MODEL) after=$(VERIFIER)/exported --out $(VERIFIER)/report

trace: $(EVERYTHING) ## record one search of MODEL with its spans and draw it for the page; a minute
	$(BIN)/python -m deploy.trace --model $(MODEL) --out server/docs/trace

screenshots: $(EVERYTHING) ## take the pictures of the page again, of MODEL
	$(BIN)/swires serve --model $(MODEL) --port $(PORT) & server=$$!; \
	$(BIN)/python -m tests.server.web.screenshots http://127.0.0.1:$(PORT) server/docs; \
	status=$$?; kill $$server; wait $$server; exit $$status

docs: $(EVERYTHING) ## write what the pages show again: outputs of their examples, options, pictures
	$(BIN)/python -m pytest tests/server/docs tests/clients --write-docs
	$(MAKE) screenshots

docs-options: $(EVERYTHING) $(HELM) ## write the page of the options and the chart's schema of them alone; a second
	$(BIN)/python -m pytest tests/server/docs/test_options.py tests/deploy/helm/test_values.py --write-docs

docs-metrics: $(EVERYTHING) ## write the page of the metrics alone; a second
	$(BIN)/python -m pytest tests/server/docs/test_metrics.py --write-docs

suites: $(SUITES)/.installed ## install lmms-eval in an environment of its own
suites-test: $(EVERYTHING) $(SUITES)/.installed ## run lmms-eval itself through the server on real vLLM
	$(BIN)/python -m pytest tests/deploy/suites/with_lmms_eval.py

fuzz: $(EVERYTHING) ## hold a server of MODEL to its OpenAPI document, with any data; four minutes
	$(call while_serving,--log-level error,$(BIN)/python -m tests.server.fuzz http://127.0.0.1:$(PORT))

BENCH ?=
bench: $(EVERYTHING) $(RIVALS)/.installed ## compare with what else one would run, one table; 25 minutes, BENCH=--quick for less
	$(BIN)/python -m deploy.bench --model $(MODEL) $(BENCH)

bench-ahead: $(EVERYTHING) ## what stages begun early save, on and off in turn; ten minutes
	$(BIN)/python -m deploy.bench.ahead --model $(MODEL)

bench-shell: $(EVERYTHING) ## what the server itself costs a search and a token; five minutes
	$(BIN)/python -m deploy.bench.shell --flame deploy/bench/shell.svg

LOCKS := deploy/locks
UPGRADE :=
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
	--custom-compile-command "make lock" $(UPGRADE) --output-file $(LOCKS)/$(1).txt
FOR_CPU := --no-emit-package torch --excludes $(LOCKS)/cpu-excludes.in --overrides $(LOCKS)/cpu-overrides.in \
	--extra cpu $(LOCKS)/cpu-more.in
WHOLE := --extra train --extra dev pyproject.toml

lock: $(EVERYTHING) ## pin what is installed, with hashes; UPGRADE=--upgrade takes newer releases
	$(call COMPILE,cpu-train-dev) $(FOR_CPU) $(WHOLE)
	$(call COMPILE,cpu) $(FOR_CPU) --constraints $(LOCKS)/cpu-train-dev.txt pyproject.toml
	$(call COMPILE,gpu-train-dev) --extra gpu $(WHOLE)
	$(call COMPILE,gpu) --extra gpu --constraints $(LOCKS)/gpu-train-dev.txt pyproject.toml
	$(call COMPILE,beside-vllm) --constraints $(LOCKS)/gpu.txt pyproject.toml
	$(call COMPILE,router) --extra router --constraints $(LOCKS)/cpu.txt pyproject.toml
	sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml \
		| $(call COMPILE,build) -

TOOL := $(BIN)/uvx --quiet --from
SBOM := build/sbom
CYCLONEDX = $(TOOL) cyclonedx-bom==7.5.0 cyclonedx-py $(1) --output-reproducible --output-file $(SBOM)/$(2).json $(3)

sbom: $(EVERYTHING) ## a CycloneDX bill of materials of each lock, and of what is installed, in build/sbom
	mkdir -p $(SBOM)
	cat $(LOCKS)/cpu.txt $(LOCKS)/torch-cpu.txt | $(call CYCLONEDX,requirements --pyproject pyproject.toml,cpu,-)
	$(call CYCLONEDX,requirements --pyproject pyproject.toml,gpu,$(LOCKS)/gpu.txt)
	$(call CYCLONEDX,requirements --pyproject pyproject.toml,router,$(LOCKS)/router.txt)
	$(call CYCLONEDX,environment --pyproject pyproject.toml,installed,$(VENV))

licenses: $(EVERYTHING) ## write the table of the licences of what is locked again; a minute
	$(BIN)/python -m deploy.licenses

audit: $(EVERYTHING) ## look up what is locked in PyPI's advisories, where those can be reached
	$(BIN)/python -m deploy.audit

sizing: $(EVERYTHING) ## which accelerators a model and a preset need, by arithmetic; two minutes
	$(BIN)/python -m deploy.sizing table

bench-overload: $(EVERYTHING) ## what ten times too many searches do to a server; ten minutes
	$(BIN)/python -m deploy.bench.overload

soak: $(EVERYTHING) ## 10,000 searches on a fake engine with bad inputs, hang-ups and bursts: memory, and what is left; five minutes
	$(BIN)/python -m deploy.bench.soak fake

soak-vllm: $(EVERYTHING) ## the same on vLLM, 500 searches; ten minutes
	$(BIN)/python -m deploy.bench.soak vllm --model $(MODEL)

clean: ## remove the environment and all caches
	rm -rf $(VENV) $(SUITES) $(RIVALS) $(ROUTER) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SERVING): $(RECIPE)
	$(PYTHON) deploy/install.py $(VENV) $(DEVICE)
	@touch $@

$(EVERYTHING): $(RECIPE)
	$(PYTHON) deploy/install.py $(VENV) $(DEVICE) train dev
	@touch $(SERVING) $@

$(HELM): deploy/helm/install.py $(EVERYTHING)
	$(BIN)/python -m deploy.helm.install $(VENV)
	@touch $@

$(SUITES)/.installed: deploy/suites/install.py $(RECIPE)
	$(PYTHON) -m deploy.suites.install $(SUITES)
	@touch $@

$(RIVALS)/.installed: deploy/bench/install.py $(RECIPE)
	$(PYTHON) -m deploy.bench.install $(RIVALS)
	@touch $@

$(ROUTER)/.installed: $(RECIPE)
	$(PYTHON) deploy/install.py $(ROUTER) router
	@touch $@
