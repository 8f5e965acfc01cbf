# `make` prints what there is. Everything is set up in .venv, which the targets make by themselves.

# The first of these that runs and can make virtual environments; PYTHON=... takes another.
PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell $(name) -c 'import ensurepip, sys; print(sys.executable)' 2>/dev/null)))

VENV := .venv
VENV_NUMPY2 := .venv-numpy2
VENV_OWNERS := .venv-owners
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check --no-input
PYTEST := -m pytest --numprocesses=auto --maxprocesses=8
# What `make test` runs, and no other NumPy would change: whole programs, servers and clusters, scheduling, files, pages.
WITHOUT_NUMPY := $(addprefix tests/,faults convert/remote convert/batch convert/test_commit.py convert/test_documents.py \
	verify/pages verify/parity/test_process.py verify/test_jobs.py test_benchmarks.py test_ci.py test_demo.py \
	test_packaging.py test_pictures.py test_places.py test_tutorials.py test_zoo.py)
SETUP := pyproject.toml constraints.txt
DEMO := .demo
RELEASE := build/release
SECONDS := 60

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/core ## convert a real BERT to every dialect and back, and compare fingerprints
	@$(BIN)/python -m benchmarks.demo --folder $(DEMO)

.PHONY: test
test: $(VENV)/supported lint $(VENV)/all ## lint, type check, and run the whole suite with all frameworks
	@$(BIN)/python -m benchmarks.minilm $(DEMO)
	$(BIN)/python $(PYTEST)

.PHONY: test-core
test-core: $(VENV_NUMPY2)/all ## run what needs no framework, with the newest NumPy
	@$(VENV_NUMPY2)/bin/python -m benchmarks.minilm $(DEMO)
	$(VENV_NUMPY2)/bin/python $(PYTEST) $(addprefix --ignore=,$(WITHOUT_NUMPY))

.PHONY: test-owners
test-owners: $(VENV_OWNERS)/all ## hold every dialect against its owner's own model classes, in an environment of their own
	$(VENV_OWNERS)/bin/python $(PYTEST) tests/convert/owners tests/verify/encoders

.PHONY: test-faults
test-faults: $(VENV)/tools ## disturb every system call in turn, where the suite takes a sample of seven: ten minutes
	INTERLINGUA_FAULTS=all $(BIN)/python $(PYTEST) tests/faults

.PHONY: test-gpu
test-gpu: $(VENV)/all ## run what needs an NVIDIA GPU, and write the figures that docs/parity.md quotes
	$(BIN)/python -m pytest tests/verify/parity/test_devices.py
	@$(BIN)/python -m benchmarks.parity --folder $(DEMO) --device cuda --write docs/parity.md

.PHONY: parity
parity: $(VENV_OWNERS)/all ## run a real model in every dialect's own framework, and write the table of the README
	@$(VENV_OWNERS)/bin/python -m benchmarks.parity --folder $(DEMO) --write README.md

.PHONY: lint
lint: $(VENV)/tools ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: fuzz
fuzz: $(VENV)/fuzz ## fuzz every reader; SECONDS=3600 for each of them, TARGETS='npz hdf5' for some
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

.PHONY: fuzz-briefly
fuzz-briefly: $(VENV)/fuzz ## fuzz every reader with the same few thousand inputs each time
	$(BIN)/python -m tests.fuzz --runs 3000 $(TARGETS)

.PHONY: bench
bench: $(VENV)/all ## measure what docs/benchmarks.md says, and write it there; ARGS=--quick, ARGS=--growth
	$(BIN)/python -m benchmarks.page --write docs/benchmarks.md $(if $(wildcard $(VENV_OWNERS)/all),--owners $(VENV_OWNERS)/bin/python) $(ARGS)

.PHONY: pictures
pictures: $(VENV)/all ## draw the README's pictures: three commands on a real model, as a terminal shows them
	$(BIN)/python -m benchmarks.pictures --folder $(DEMO) --write docs/pictures

.PHONY: docs
docs: $(VENV)/docs ## write the pages of docs/ that come from the code, and build the site of all of them into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.PHONY: release-check
release-check: $(VENV)/tools ## build sdist and wheel, install each in an empty environment, and try what is there
	rm -rf $(RELEASE)
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m hatchling build -d $(RELEASE)
	@for built in $(RELEASE)/*.whl $(RELEASE)/*.tar.gz; do set -ex; \
	  $(BIN)/python -m venv --clear $(RELEASE)/venv; \
	  $(RELEASE)/venv/bin/python $(INSTALL) --constraint constraints.txt $$built; \
	  $(RELEASE)/venv/bin/python -m pip check; \
	  for command in interlingua convert-checkpoint parity-check; do $(RELEASE)/venv/bin/$$command --help > $(RELEASE)/help; done; \
	  $(BIN)/python -c 'import sys; from pathlib import Path; from benchmarks.models import SIZES, make_model; make_model(SIZES["tiny"], Path(sys.argv[1]))' $(RELEASE); \
	  (cd $(RELEASE) && venv/bin/interlingua convert bert-tiny-hf uer --to uer --overwrite && venv/bin/interlingua diff bert-tiny-hf uer); \
	  cp tests/consumer.py $(RELEASE)/consumer.py; \
	  (cd $(RELEASE) && $(abspath $(BIN))/mypy --strict --config-file= --python-executable venv/bin/python consumer.py); \
	done
	cd $(RELEASE) && sha256sum *.whl *.tar.gz

.PHONY: clean
clean: ## delete what was made, except the virtual environments
	rm -rf $(DEMO) build dist site .hypothesis .mypy_cache .pytest_cache .ruff_cache rank_0
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## delete the virtual environments too
	rm -rf $(VENV) $(VENV_NUMPY2) $(VENV_OWNERS)

# Virtual environments. Each file below is a stamp: what it stands for is installed.

$(VENV)/made $(VENV_NUMPY2)/made $(VENV_OWNERS)/made: %/made:
	@$(if $(PYTHON),,echo 'No Python 3.10 or newer with the venv module was found (on Debian: apt-get install python3-venv). PYTHON=... names one.' >&2; exit 1)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit(f"Python 3.10 or newer is needed; {sys.executable} is {sys.version.split()[0]}. PYTHON=... names another.")'
	$(PYTHON) -m venv --clear $*
	@touch $@

$(VENV)/core: $(VENV)/made $(SETUP)
	$(BIN)/python $(INSTALL) --constraint constraints.txt --editable .
	@$(BIN)/python -m compileall -q interlingua  # an editable install is not compiled by pip
	@touch $@

$(VENV)/tools: $(VENV)/core
	$(BIN)/python $(INSTALL) --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/fuzz: $(VENV)/tools
	$(BIN)/python $(INSTALL) --constraint constraints.txt --editable '.[test,fuzz]'
	@touch $@

$(VENV)/docs: $(VENV)/tools
	$(BIN)/python $(INSTALL) --constraint constraints.txt --editable '.[test,docs]'
	@touch $@

$(VENV)/supported: $(VENV)/made
	@$(BIN)/python -c 'import sys; sys.version_info < (3, 13) or sys.exit(f"MindSpore has no wheel for Python {sys.version.split()[0]}: the whole suite needs 3.10, 3.11 or 3.12. Run make distclean and name one with PYTHON=..., or run make test-core.")'
	@touch $@

$(VENV)/all: $(VENV)/supported $(VENV)/tools
	@echo 'Installing torch, TensorFlow, PaddlePaddle and MindSpore into $(VENV): some minutes and 6 GB.'
	$(BIN)/python $(INSTALL) --constraint constraints.txt --editable '.[all,test,docs]'
	@touch $@

$(VENV_OWNERS)/all: $(VENV_OWNERS)/made $(SETUP) requirements-owners.txt
	@echo 'Installing the owners of the dialects into $(VENV_OWNERS): some minutes and 8 GB.'
	$(VENV_OWNERS)/bin/python $(INSTALL) --no-deps --requirement requirements-owners.txt
	$(VENV_OWNERS)/bin/python $(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV_NUMPY2)/all: $(VENV_NUMPY2)/made $(SETUP)
	grep --invert-match --extended-regexp '^(numpy|ml_dtypes|h5py)==' constraints.txt > $(VENV_NUMPY2)/constraints.txt
	$(VENV_NUMPY2)/bin/python $(INSTALL) --constraint $(VENV_NUMPY2)/constraints.txt --editable '.[test,parity]' 'numpy>=2'
	@touch $@
