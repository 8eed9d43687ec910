# make book   builds the book from the committed results: _build/html/index.html
# make test   runs the tests
# Both make the virtual environment .venv first, from requirements.lock. Needs Python 3.11 or later.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
READY := $(VENV)/.installed
TOC := _build/_toc.yml
HTML := _build/html
STUDIES := adam_collapse optim4rl_l2 transfer open_multitask brax_ant meta_sensitivity meta_cost \
	gradient_statistics physics_path open_evolved open_change step_size

.PHONY: help book test lint results lock clean

help:
	@sed -n 's/^# //p' Makefile

# The interpreter is tried, not only found: pyenv leaves commands on the path that do not run.
$(READY): requirements.lock pyproject.toml
	@found=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found=$$candidate; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "make: expected Python 3.11 or later$(if $(PYTHON), as $(PYTHON)), found none; install one or say make PYTHON=/path/to/python3." >&2; \
	    exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version) ..."; \
	"$$found" -m venv --clear "$(VENV)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

book: $(READY)
	@rm -rf _build/html _build/.doctrees _build/.jupyter_cache
	@"$(BIN)/python" -m loptrl.book execute "$(TOC)"
	@"$(BIN)/jupyter-book" build -W -n --keep-going --toc "$(TOC)" .
	@"$(BIN)/python" -m loptrl.book check "$(HTML)" "$(TOC)"
	@echo "The book is in $(HTML)/index.html"

# By file: a file's compiled programs are shared by its tests. At most four: each takes gigabytes.
test: $(READY)
	@"$(BIN)/python" -m pytest -n logical --maxprocesses 4 --dist loadfile

lint: $(READY)
	@"$(BIN)/ruff" check lib tests book/_ext
	@"$(BIN)/ruff" format --check lib tests book/_ext

# Computes only the runs that data/results lacks; on 2 cores that takes many hours.
results: $(READY)
	@for study in $(STUDIES); do "$(BIN)/loptrl" run $$study --budget laptop; done

# For maintainers, with uv installed: pins and hashes for all supported versions of Python.
lock:
	uv pip compile --quiet pyproject.toml --extra book --extra test --group build --universal \
	    --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	    --output-file requirements.lock

clean:
	rm -rf _build book/executed "$(VENV)"
	find lib tests -name __pycache__ -type d -prune -exec rm -rf {} +
