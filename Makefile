# What a newcomer types: `make demo`. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
RUN ?= runs/demo
DEMO ?= vae digits --latent 8 --likelihood discretized-logistic --epochs 150

# Small networks on shared cores: a second thread would wait more than it works.
test: export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help demo test check docs clean

help:
	@echo "make demo    set up, train a first model on handwritten digits, say where its pictures lie"
	@echo "make test    set up with all that development needs, run every test, then make check"
	@echo "make check   style (ruff), types (mypy), the order of the house (import-linter)"
	@echo "make docs    build the site, English and Japanese, into build/site"
	@echo "make clean   remove $(VENV) and caches; runs/ stays"
	@echo
	@echo "PYTHON=$(PYTHON) is the interpreter that is used; name another with make demo PYTHON=python3.12."

demo: $(VENV)/.installed-demo
	@if [ -e $(RUN)/config.toml ]; then \
		echo "== $(RUN) is here already: continuing it. To begin anew, remove that folder."; \
		$(VENV)/bin/ancestral resume $(RUN); \
	else \
		echo "== training: ancestral train $(DEMO) --out $(RUN)"; \
		$(VENV)/bin/ancestral train $(DEMO) --out $(RUN); \
	fi
	@echo "(before that, once in each terminal:  . $(VENV)/bin/activate)"

test: $(VENV)/.installed-test
	@echo "== tests, $(WORKERS) at a time"
	@$(VENV)/bin/python -m pytest -n $(WORKERS) --cov --cov-report=term:skip-covered
	@$(MAKE) --no-print-directory check
	@echo "== all passed"

check: $(VENV)/.installed-test
	@echo "== style: ruff check"
	@$(VENV)/bin/ruff check
	@echo "== types: mypy"
	@$(VENV)/bin/mypy
	@echo "== the order of the house: lint-imports"
	@$(VENV)/bin/lint-imports

docs: $(VENV)/.installed-test
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "the site:  build/site/index.html"

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find src tests examples experiments -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run need neither an installation nor a network. pip comes last into a virtual
# environment, so one that was cut off half-way is made again.
$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11"; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is too old: ancestral needs Python 3.11 or newer. Name one: make PYTHON=/path/to/python3.11"; \
		exit 1; }
	@echo "== making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "== installing ancestral into $(VENV) (a few minutes the first time)"
	@$(VENV)/bin/python -m pip install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "== installing ancestral and its development tools into $(VENV) (a few minutes the first time)"
	@$(VENV)/bin/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed-demo $@
