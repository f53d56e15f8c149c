# Two commands: `make lab` to read, `make run` to run. Both set up .venv first, once. `make help` lists all.
WINDOWS := $(filter Windows_NT,$(OS))
PYTHON ?= $(if $(WINDOWS),python,python3)
PY := .venv/$(if $(WINDOWS),Scripts/python.exe,bin/python)
JOBS ?= 2
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.ipynb))
CODE := $(wildcard companion tests tools examples notebooks)
READY := .venv/.installed
ALL := .venv/.installed-all

export JUPYTERLAB_WORKSPACES_DIR := $(CURDIR)/.venv/workspaces
# JupyterLab neither asks about news nor looks for a newer version: the series is read without a network, too.
export JUPYTER_CONFIG_PATH := $(CURDIR)/tools/jupyter
export IN_CLASS
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_FORCE_GPU_ALLOW_GROWTH ?= true

.PHONY: help lab run book test gpu cluster check sync pictures publish coursework grade benchmark offline-bundle newest colab hub links
.DEFAULT_GOAL := help

help:
	@echo "Read"
	@echo "  make lab             the series in JupyterLab (workspace side-by-side: PyTorch beside Keras and the functions)"
	@echo "  make book            the series as a web book: build/book/index.html (IN_CLASS=yes: with the teacher's pages)"
	@echo "  make run             execute the whole series, and print a table of times"
	@echo "Teach"
	@echo "  make coursework      the students' version of the assignments; INTO=folder: a private course of your own"
	@echo "  make grade           grade a folder of submissions: SUBMISSIONS=folder, with STUDENT/ASSIGNMENT.ipynb (OPTIONS=--help)"
	@echo "Change (CONTRIBUTING.md)"
	@echo "  make check           lint, format and types; that notebooks show what the package says; the workflows' form"
	@echo "  make test            all tests, and every notebook's outputs (JOBS=$(JOBS) at a time)"
	@echo "  make gpu             the tests that need a GPU, which make test skips"
	@echo "  make cluster         the tests on a Ray cluster of three nodes on this machine, which make test skips"
	@echo "  make sync            copy the definitions that notebooks show from the package"
	@echo "  make pictures        take the README's screenshots again"
	@echo "  make benchmark       what the CNN head costs, what grouping and caching save, the four variants side by side, rates"
	@echo "Share"
	@echo "  make publish         stamp the address of your copy into badges and links to Colab: REPO=owner/name"
	@echo "  make offline-bundle  one folder to install from without a network: BUNDLE=folder"
	@echo "Once a week, in an environment of its own or with a network"
	@echo "  make newest          all tests on the newest releases of every package (.venv-newest)"
	@echo "  make colab           the series on Colab's versions: COLAB_PYTHON=python3.13, where uv does not find one"
	@echo "  make hub             the four spellings with an encoder from the Hub: HUB=owner/name"
	@echo "  make links           follow every link to another site"

# make lab and make run install less than the other commands: neither JAX nor ONNX nor Ray.
$(READY) $(ALL): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=python3.11')"
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(if $(filter %all,$@),dev,series)]"
	touch $(READY) $@

lab: $(READY)
	$(PY) -m jupyterlab workspaces import notebooks/side-by-side.jupyterlab-workspace
	$(PY) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/$(firstword $(NOTEBOOKS))

run: $(READY)
	$(PY) -m tools.series run

book: $(ALL)
	$(PY) -m sphinx -q -E -n -W --keep-going -d build/doctrees notebooks build/book
	@echo "Open build/book/index.html"

# The notebooks run apart from the tests, which set up their process in a way of their own (tests/conftest.py);
# on one thread each, as processes side by side would only get in each other's way.
PYTEST := $(PY) -m pytest -q -n $(JOBS) --dist loadfile --max-worker-restart 1 --durations 10
test: $(ALL)
	$(PYTEST) tests
	OMP_NUM_THREADS=1 $(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout 300 $(NOTEBOOKS)

gpu: $(ALL)
	COMPANION_GPU=1 $(PY) -m pytest -q -m gpu tests

# Three Ray nodes and their workers are a dozen processes. On two cores they cannot run beside other tests.
cluster: $(ALL)
	RAY_CLUSTER=1 $(PY) -m pytest -q tests/test_cluster.py

check: $(ALL)
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)
	$(PY) -m mypy
	$(PY) -m tools.series sync --check
	$(PY) -m check_jsonschema --quiet --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*)

sync: $(ALL)
	$(PY) -m tools.series sync

pictures: $(ALL)
	KEEP_PICTURES=yes $(PY) -m pytest -q tests/test_book.py tests/test_jupyterlab.py -k "pictures or workspace"

publish: $(ALL)
	$(PY) -m tools.publish "$(REPO)"

coursework: $(ALL)
	$(PY) -m tools.coursework $(if $(INTO),export "$(INTO)" $(if $(SEED),--seed "$(SEED)"),build)

grade: $(ALL)
	$(if $(SUBMISSIONS)$(findstring --help,$(OPTIONS)),,$(error Say which folder: make grade SUBMISSIONS=folder))
	$(PY) -m tools.grade $(if $(SUBMISSIONS),"$(SUBMISSIONS)") --jobs $(if $(filter file,$(origin JOBS)),0,$(JOBS)) $(OPTIONS)

benchmark: $(ALL)
	$(PY) -m tools.benchmark
	$(PY) -m tools.rates

colab: $(ALL)
	$(PY) -m tools.colab $(if $(COLAB_PYTHON),--python $(COLAB_PYTHON))

offline-bundle: $(ALL)
	$(PY) -m tools.offline $(BUNDLE)

NEWEST := $(subst .venv/,.venv-newest/,$(PY))
newest:
	$(PYTHON) -m venv .venv-newest
	$(NEWEST) -m pip install --quiet --disable-pip-version-check --upgrade -e ".[dev]"
	$(MAKE) test ALL= PY=$(NEWEST)

HUB ?= sentence-transformers/all-MiniLM-L6-v2
hub: $(READY)
	COMPANION_ENCODER=$(HUB) $(PY) -m tools.series run 03 04 05 06

links: $(ALL)
	$(PY) -m tools.links
