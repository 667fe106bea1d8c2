# Everything is set up in .venv; a second run reuses it. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := build/demo
RANKS ?= 2
MLEARN := train valid test

# Open MPI: run as root (containers, CI) and with more ranks than cores; bind no rank to a core.
MPI_ENVIRONMENT := OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
	PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
MPIEXEC := $(MPI_ENVIRONMENT) $(BIN)/mpiexec --bind-to none

.PHONY: help install demo test check unit launchers slurm format clean

help:
	@echo "make demo       pretrain, publish and use a small model on real data (under 12 minutes)"
	@echo "make test       all checks and tests (under 15 minutes)"
	@echo "make check      linters, types and the layer rule alone"
	@echo "make launchers  real runs under every launcher that pip installs (half an hour)"
	@echo "make slurm      real runs under Slurm, which is installed from Debian (half an hour)"
	@echo "make format     put the code into its form"
	@echo "make clean      remove everything that was made, .venv included"

install: $(STAMP)

# torch comes first and alone: asked for beside other packages, pip may take a build with CUDA.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[dev]'
	touch $@

demo: $(STAMP)
	rm -rf $(DEMO)
	mkdir -p $(DEMO)/stores
	$(BIN)/gfm data import extxyz $(MLEARN:%=data/mlearn/%.extxyz.gz) --out $(DEMO)/stores/mlearn \
		--option split_by=filename group_by=frame --level-of-theory 'PBE/VASP (520 eV, PAW)' \
		--licence 'BSD-3-Clause, NIST public domain' \
		--citation 'Zuo et al., J. Phys. Chem. A 124, 731 (2020)'
	$(MPIEXEC) -n $(RANKS) $(BIN)/gfm-pretrain demo/run.yaml run=$(DEMO)/run
	$(BIN)/gfm publish $(DEMO)/run --to $(DEMO)/hub/gfm-demo
	$(BIN)/python demo/use.py $(DEMO)

test: check unit

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

unit: $(STAMP)
	$(BIN)/pytest --numprocesses auto --dist loadfile
	$(BIN)/pytest --nbmake notebooks

launchers: $(STAMP)
	$(BIN)/pytest tests/launchers/on_launchers.py

slurm: $(STAMP)
	sh tests/slurm/install.sh
	$(BIN)/pytest tests/slurm/on_slurm.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
