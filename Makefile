# edgepress: `make` does the main job on the embedded default, `make test` proves the checkout, `make help` lists the rest.
#
# `export` is a directive of Make and the name of a folder here: the target must stand alone on its line,
# with no space before the colon, and be phony.

# The job file says what is done; a variable that is given takes the place of what stands there.
DEFAULT_JOB := docs/jobs/vgg16-digits.toml
JOB     ?= $(DEFAULT_JOB)
MODEL   ?=
WEIGHTS ?=
DATA    ?=
OUT     ?= $(if $(MODEL),out/$(basename $(notdir $(MODEL))))
DEVICE  ?=
TARGET  ?=
SET     ?=
PYTHON  ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && exit; \
	done; echo python3)

VENV      := .venv
# A GPU's runtimes want different TensorRT and CUDA, so each has an environment of its own (docs/gpu.md).
GPU_VENVS := $(if $(filter cuda,$(DEVICE)),.venv-gpu-trt .venv-gpu-ort .venv-gpu-tf)
BIN       := $(VENV)/bin
EDGEPRESS := $(BIN)/edgepress
NEEDS_DATA := $(and $(filter $(DEFAULT_JOB),$(JOB)),$(filter all optimize parity benchmark,$(or $(MAKECMDGOALS),all)))
# A model of one's own is measured for a decision, the embedded one for a look.
FULL    := $(if $(and $(MODEL),$(filter $(DEFAULT_JOB),$(JOB))),--set benchmark.quick=false)
RUN     = $(EDGEPRESS) run '$(JOB)' $(FULL) $(foreach pair,$(SET),--set '$(pair)') $(if $(MODEL),--set 'model=$(MODEL)') \
	$(if $(DATA),--set 'data=$(DATA)') $(if $(OUT),--set 'out=$(OUT)') $(if $(WEIGHTS),--set 'export.weights=$(WEIGHTS)') \
	$(if $(TARGET),--set 'optimize.target=$(TARGET)') $(if $(DEVICE),--set 'benchmark.device=$(DEVICE)')

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all setup preflight export optimize parity benchmark bundle report docs performance accuracy doctor test check clean help

all: setup ## everything that JOB says: export, optimize, parity, benchmark with its report (the default)
	@$(RUN)

setup: $(VENV)/.installed $(GPU_VENVS:%=%/.installed) ## make .venv with all CPU runtimes; with DEVICE=cuda also .venv-gpu-*

preflight:
	@$(PYTHON) edgepress/cli/preflight.py '$(MODEL)' '$(WEIGHTS)' '$(DATA)' '$(or $(OUT),out)' '$(VENV)' '$(NEEDS_DATA)'

$(VENV)/.installed: pyproject.toml | preflight
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv-gpu-%/.installed: pyproject.toml | preflight
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --editable '.[gpu-$*]'
	@touch $@

export: setup ## Keras model to SavedModel, ONNX and TFLite
	@$(RUN) --until export

optimize: setup ## export, then FP16, INT8 and TensorRT-RTX engines of it
	@$(RUN) --until optimize

parity: setup ## both, then the proof that each version still computes what Keras does
	@$(RUN) --until parity

benchmark: setup ## all of that, then latency, memory and accuracy of each version against FP32
	@$(RUN) --until benchmark

bundle: setup ## all of that, then a bundle for linux-x64-cpu that verifies itself
	@$(RUN) --set bundle.target=linux-x64-cpu

report: setup ## write report.md and report.html again from results.json
	@$(EDGEPRESS) report '$(or $(OUT),out/vgg16-digits)'

docs: setup ## the documentation site in out/site, and the pages that are made from the code
	@$(BIN)/python -m edgepress.inspection.vgg16_page docs
	@$(BIN)/python -m edgepress.cli.reference_page docs
	@$(BIN)/python -m benchmark.results_schema docs/reference
	@$(BIN)/python -m edgepress.parity.parity_schema docs/reference
	@$(BIN)/python -m optimize.accuracy.report_schemas docs/reference
	@$(BIN)/python -m edgepress.cli.gpu_check.gpu_check_schema docs/reference
	@$(BIN)/python -m mkdocs build --quiet --strict

performance: setup ## measure what export costs, and write docs/performance.md anew (about ten minutes)
	@$(BIN)/python -m tests.performance.performance_page docs

accuracy: setup ## measure what quantizing loses on EDGEPRESS_REFERENCE, and write docs/accuracy.md anew (about an hour)
	@$(BIN)/python -m tests.performance.accuracy_page docs

doctor: setup ## what this machine can run, and what is missing for the rest
	@$(EDGEPRESS) doctor

test: $(VENV)/.installed ## run all tests (the full-size network included: about 25 minutes on two cores)
	@EDGEPRESS_TEST_CACHE=$$(mktemp -d); export EDGEPRESS_TEST_CACHE; trap 'rm -rf "$$EDGEPRESS_TEST_CACHE"' EXIT; \
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST_FLAGS); side_by_side=$$?; \
	$(BIN)/python -m pytest --alone $(PYTEST_FLAGS); alone=$$?; \
	test $$side_by_side -eq 0 -a \( $$alone -eq 0 -o $$alone -eq 5 \) # 5: none of the tests chosen runs alone

check: $(VENV)/.installed ## format, lint, types; what runs on a device also as Python 3.10
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 --cache-dir .mypy_cache/device edgepress/*.py edgepress/runners edgepress/cuda edgepress/doctor edgepress/parity edgepress/cli/gpu_check benchmark deploy/runtime \
		optimize/engine_from_onnx.py optimize/engine_refit.py optimize/build_options.py optimize/build_watch.py optimize/timing_cache.py

clean: ## remove what was made, except .venv and .venv-gpu-*
	rm -rf out build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)*' -exec rm -rf {} +

help: ## list the targets
	@echo 'usage: make [TARGET] [MODEL=vgg16-digits|vgg16|FILE.keras] [WEIGHTS=imagenet|random|FILE] [DATA=digits|FOLDER|FILE.npz]'
	@echo '            [OUT=DIR] [DEVICE=cpu|cuda] [TARGET=host|linux-x64-vnni|linux-arm64|…] [JOB=FILE.toml]'
	@echo "            [SET='benchmark.quick=true optimize.samples=128 …']   all keys: .venv/bin/edgepress init; cat job.toml"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14
