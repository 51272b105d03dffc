PYTHON ?= python3
BIN := .venv/bin
DATA ?= data
JOBS ?= 2

help:  ## Show these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/package: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/tools: .venv/package
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

setup: .venv/tools  ## Make .venv with the package and its development tools

quickstart: .venv/package  ## Train a 20-layer sigmoid net and its fixes, and compare their gradients (under 4 minutes)
	$(BIN)/unvanish compare vanishing/mlp

lint: .venv/tools  ## Check style, format, which room imports which, that imports are declared, and the words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry src
	! git grep -niE -f docs/words_to_avoid.txt -- src recipes docs benchmarks '*.md' ':!docs/words_to_avoid.txt'

types: .venv/tools  ## Check types
	$(BIN)/mypy

quick: .venv/tools  ## Run the quick tests of every room, while you work (under 90 seconds on two cores)
	$(BIN)/pytest -n 2 -m "not slow and not browser and not gpu"

test: .venv/tools  ## Run all tests, before you commit (about 10 minutes on two cores)
	$(BIN)/pytest -n 2

.venv-minimum/tools: pyproject.toml
	$(PYTHON) -m venv .venv-minimum
	@# "name[extra]>=1.2,<5" is the constraint name==1.2.
	grep -oE '"[A-Za-z0-9._-]+(\[[a-z]+\])?>=[0-9.]+' $< | sed -E 's/"|\[[a-z]+\]//g; s/>=/==/' > .venv-minimum/bounds.txt
	.venv-minimum/bin/pip install --quiet --editable '.[test]' --constraint .venv-minimum/bounds.txt
	@touch $@

minimum: .venv-minimum/tools  ## Run all tests with every dependency at its lower bound
	.venv-minimum/bin/pytest -n 2

notebooks: .venv/tools  ## Execute every notebook from scratch
	$(BIN)/python notebooks/execute.py

.venv/docs: .venv/package
	$(BIN)/pip install --quiet --editable '.[docs]'
	@touch $@

docs: .venv/docs  ## Build the site in docs/_build/site, offline, and check its links (under 5 minutes)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs -d docs/_build/doctrees . docs/_build/site
	$(BIN)/python docs/site_pages/links.py docs/_build/site

docs-serve: docs  ## Serve the site, the playground with it, at port 8000 of this machine
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory docs/_build/site 8000

verdicts: .venv/package  ## Judge twenty networks of which it is known what their gradient does
	$(BIN)/python benchmarks/verdicts.py

bench: .venv/tools  ## Measure how fast this is beside what one would run instead, and write benchmarks/RESULTS.md (data in DATA=data)
	$(BIN)/python -m benchmarks.speed --root $(DATA)

architectures: .venv/tools  ## Prove the recorder on networks of torchvision, timm and transformers (about 40 minutes)
	$(BIN)/python -m benchmarks.architectures --jobs $(JOBS)

faults: .venv/package  ## Judge training programs that others found faulty or healthy (about 6 minutes; MNIST in DATA=data)
	$(BIN)/python -m benchmarks.faults --root $(DATA) --jobs $(JOBS)

remedies: .venv/package  ## Try remedies on networks that do not learn, and see whether the chosen ones cure them (about 10 minutes)
	$(BIN)/python -m benchmarks.remedies

evidence: .venv/package  ## Compare the numbers of ten recipes with those that are kept, to the last bit (half a minute)
	$(BIN)/python -m benchmarks.evidence

tables: .venv/package  ## Read 2,848 defective tables and series, and write benchmarks/TABLES.md (about 5 minutes)
	$(BIN)/python -m benchmarks.tables

papers: .venv/package  ## Compute the table "paper | ours" (about 40 minutes; MNIST and tinyshakespeare.txt in DATA=data)
	$(BIN)/python -m benchmarks.papers --root $(DATA) --jobs $(JOBS)

trust: .venv/package  ## Kill runs and damage checkpoints, count what is lost (about 10 minutes)
	$(BIN)/python -m benchmarks.trust

fuzz: .venv/package  ## Spoil files of every kind for ten minutes, and count what becomes of them
	$(BIN)/python -m benchmarks.fuzz --minutes 10

gpu: .venv/package  ## See what this does on a GPU, and write benchmarks/GPU.md (about 8 minutes; data in DATA=data)
	$(BIN)/python -m benchmarks.gpu --root $(DATA)

clean:  ## Remove environments, caches and builds; runs stay
	rm -rf docs/generated docs/_build
	rm -rf .venv .venv-minimum build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests benchmarks notebooks -name __pycache__ -exec rm -rf {} +

.PHONY: help setup quickstart lint types quick test minimum notebooks docs docs-serve verdicts bench architectures faults remedies evidence tables papers trust fuzz gpu clean
