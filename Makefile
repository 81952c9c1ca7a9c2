# edgepress: `make` does the main job on the embedded default, `make test` proves the checkout, `make help` lists the rest.
#
# `export` is a directive of Make and the name of a folder here: the target must stand alone on its line,
# with no space before the colon, and be phony.

MODEL   ?= vgg16-digits
WEIGHTS ?=
DATA    ?=
OUT     ?= out/$(basename $(notdir $(MODEL)))
DEVICE  ?= cpu
TARGET  ?= host
PYTHON  ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && exit; \
	done; echo python3)

VENV      := .venv
BIN       := $(VENV)/bin
EDGEPRESS := $(BIN)/edgepress
NEEDS_DATA := $(filter all optimize benchmark,$(or $(MAKECMDGOALS),all))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all setup preflight export optimize benchmark report test check clean help

all: benchmark ## everything: setup, export, optimize, benchmark with its report (the default)

setup: $(VENV)/.installed ## make .venv and install edgepress with all CPU runtimes

preflight:
	@$(PYTHON) edgepress/cli/preflight.py '$(MODEL)' '$(WEIGHTS)' '$(DATA)' '$(OUT)' '$(VENV)' '$(NEEDS_DATA)'

$(VENV)/.installed: pyproject.toml | preflight
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

export: setup ## Keras model to SavedModel, ONNX and TFLite           (MODEL= WEIGHTS= DATA= OUT=)
	@$(EDGEPRESS) export '$(MODEL)' --out '$(OUT)' $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(DATA),--data '$(DATA)') $(EXPORT_FLAGS)

optimize: export ## FP16, INT8 and TensorRT-RTX engines of what was exported (DATA= TARGET=)
	@$(EDGEPRESS) optimize '$(OUT)' --target '$(TARGET)' $(if $(DATA),--data '$(DATA)') $(OPTIMIZE_FLAGS)

benchmark: optimize ## latency, memory, accuracy of each version against FP32   (DATA= DEVICE=)
	@$(EDGEPRESS) benchmark '$(OUT)' --device '$(DEVICE)' $(if $(DATA),--data '$(DATA)') $(BENCHMARK_FLAGS)

report: setup ## write report.md and report.html again from results.json          (OUT=)
	@$(EDGEPRESS) report '$(OUT)'

test: $(VENV)/.installed ## run all tests (the full-size network included: about 15 minutes on two cores)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

check: $(VENV)/.installed ## format, lint, types; what runs on a device also as Python 3.10
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 --cache-dir .mypy_cache/device edgepress/*.py edgepress/runners benchmark

clean: ## remove what was made, except .venv
	rm -rf out build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -exec rm -rf {} +

help: ## list the targets
	@echo 'usage: make [TARGET] [MODEL=vgg16-digits|vgg16|FILE.keras] [WEIGHTS=imagenet|random|FILE] [DATA=digits|FOLDER|FILE.npz]'
	@echo '            [OUT=DIR] [DEVICE=cpu|cuda] [TARGET=host|linux-x64-vnni|linux-arm64|…]'
	@echo '            [EXPORT_FLAGS=…] [OPTIMIZE_FLAGS=…] [BENCHMARK_FLAGS=--quick]   all options: .venv/bin/edgepress COMMAND --help'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14
